"""`experiments update`: bring releases of the template to experiments, and leave those where work is at stake.

An update is a merge of three texts for each file: what the recorded version renders, what the new version renders,
and what was committed last. All of it happens in memory and in temporary folders; only then are files replaced.
"""

import shlex
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.errors import Problem, reason
from experiments.experiment import Answers, Experiment, Templates, find_each, find_experiments
from experiments.files import Write, read_now, write_all
from experiments.git import Blob, Repository, blob_id, merge
from experiments.launcher import is_templates
from experiments.screen import Row, show_progress, show_table
from experiments.template import ANSWERS, File, Files, Release, render, stamp
from experiments.workers import start_workers

LINK = "120000"
LEFT = 3  # the exit code where experiments were left: not that of a command that failed


@dataclass(frozen=True)
class Options:
    """Of an update."""

    ref: str | None = None  # a version of the template; None: its newest release
    commit: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Change:
    """What an update does to one file: from the blob in the last commit to a new one."""

    path: str  # in the experiment
    old: Blob | None
    new: Blob | None
    content: bytes  # of the new one


@dataclass
class Prepared:
    """An experiment's update, while workers render both versions."""

    committed: dict[str, Blob]
    answers: Answers
    old: Release
    new: Release
    old_files: Future[Files]
    new_files: Future[Files]


def update(paths: list[str], options: Options, jobs: int) -> int:
    """Update experiments, and print a row for each. Returns LEFT if one was left."""
    experiments, problems = find_each(paths, Experiment.at) if paths else (find_experiments([]), {})
    rows = [Row(experiment.name) for experiment in experiments]
    with Templates.kept() as templates, start_workers(min(jobs, len(experiments))) as workers:
        begun: list[Prepared | Exception | None] = []
        for experiment, row in zip(experiments, rows, strict=True):
            begun.append(attempt_prepare(experiment, row, templates, options, workers))
        for experiment, row, prepared in show_progress("Updating", list(zip(experiments, rows, begun, strict=True))):
            row.result, row.failed = finish(experiment, prepared, options)
    rows += [Row(path, result=f"left: {problem}", failed=True) for path, problem in problems.items()]
    show_table(("experiment", "from", "to", "result"), rows)
    return LEFT if any(row.failed for row in rows) else 0


def attempt_prepare(
    experiment: Experiment, row: Row, templates: Templates, options: Options, workers: Executor
) -> Prepared | Exception | None:
    """Prepare an experiment, or what went wrong: one bad experiment stops itself alone."""
    try:
        return prepare(experiment, row, templates, options, workers)
    except Exception as error:
        return error


def prepare(
    experiment: Experiment, row: Row, templates: Templates, options: Options, workers: Executor
) -> Prepared | None:
    """Begin to render both versions; None where the last commit has the new one."""
    committed = experiment.committed()
    if ANSWERS not in committed:
        raise Problem("it is not committed", "commit it, and run again")
    text = experiment.repository.contents([committed[ANSWERS].id])[0].decode(errors="replace")
    answers = Answers.of(text, f"{experiment.name}/{ANSWERS} of the last commit")
    row.old = answers.version
    template = templates.get(answers.source)
    wanted = template.find_commit(options.ref or template.newest())
    current = template.find_recorded(answers.version, answers.commit)
    if wanted == current:
        row.new = answers.version
        return None
    if not template.has(answers.version, current):
        row.old = f"{answers.version}, which was moved"
    new = template.release(wanted)
    row.new = new.version
    if template.is_before(wanted, current):
        raise Problem(f"{new.version} is older than {answers.version}, and downgrades are not supported")
    old = template.release(current)
    refuse_lost_machines(answers, new)
    return Prepared(
        committed,
        answers,
        old,
        new,
        workers.submit(render, old.folder, old.version, answers.values),
        workers.submit(render, new.folder, new.version, answers.values),
    )


def refuse_lost_machines(answers: Answers, new: Release) -> None:
    """Raise Problem where runs are no longer valid in a version, in the words of its grammar."""
    try:
        new.parse_runs(answers.values, answers.values["runs"])
    except Problem as problem:
        raise Problem(
            f"its recorded answer to runs is not valid in {new.version}: {problem}",
            "the template must keep a machine, with `retired: true`",
        ) from None


def finish(experiment: Experiment, prepared: Prepared | Exception | None, options: Options) -> tuple[str, bool]:
    """Land an update, and say what was done, and whether the experiment was left."""
    if prepared is None:
        return "up to date", False
    try:
        if isinstance(prepared, Exception):
            raise prepared
        return land(experiment, prepared, options), False
    except Exception as error:
        return f"left: {reason(error)}", True


def land(experiment: Experiment, prepared: Prepared, options: Options) -> str:
    """Merge, and write where nothing is at stake."""
    merged = merge_versions(experiment, prepared)
    changes = merged.changes
    with experiment.lock():
        if experiment.committed() != prepared.committed:
            raise Problem("it was committed to meanwhile", "run it again")
        # First what is at stake beside a conflict: Copier, with which people resolve that, would not spare it.
        writes = plan_writes(experiment, [*changes, *merged.conflicts])
        refuse_conflicts(experiment, merged, prepared)
        if options.dry_run:
            return f"would change {', '.join(change.path for change in changes)}"
        if options.commit:
            experiment.repository.refuse_commits()
        write_all(writes)
        if options.commit:
            commit(experiment, changes, prepared)
    return f"updated, but for its own {', '.join(merged.own)}" if merged.own else "updated"


@dataclass
class Merged:
    """What an update comes to."""

    changes: list[Change]  # the answers last: until they are written, the experiment has its old version
    conflicts: list[Change]  # as they are: the template and a person changed the same lines
    unmergeable: list[str]  # files that cannot be merged at all, each with the reason
    own: list[str]  # launchers that the template never made, of an experiment that was adopted: they stay


def merge_versions(experiment: Experiment, prepared: Prepared) -> Merged:
    """Merge each file that is the template's."""
    old, new = prepared.old_files.result(), prepared.new_files.result()
    answers = stamped(new[ANSWERS], prepared)
    theirs = prepared.new.people_own(prepared.answers.values)
    paths = sorted(path for path in old.keys() | new.keys() if path != ANSWERS and not theirs.match_file(path))
    mine = read_committed(experiment.repository, prepared.committed, paths)
    merged = Merged([], [], [], [])
    for path in paths:
        before = prepared.committed.get(path)
        now = File(mine[path], before.mode == "100755") if before and path in mine else None
        try:
            after = merge_file(before, mine.get(path), old.get(path), new.get(path))
        except (Conflict, Unmergeable) as left:
            if is_own_launcher(path, mine.get(path)):
                merged.own.append(path)
            elif isinstance(left, Conflict):
                merged.conflicts.append(Change(path, before, before, mine[path]))
            else:
                merged.unmergeable.append(f"{path}{left}")
        else:
            if after != now:
                merged.changes.append(change_of(path, before, after, prepared))
    merged.changes.append(change_of(ANSWERS, prepared.committed[ANSWERS], answers, prepared))
    return merged


def refuse_conflicts(experiment: Experiment, merged: Merged, prepared: Prepared) -> None:
    """Raise Problem with every file that cannot be merged, or that conflicts.

    Only for conflicts the way out is Copier, which writes both sides; what it cannot merge, it would replace.
    """
    if merged.unmergeable:
        raise Problem(", and ".join(merged.unmergeable), "give your file another name, commit, and run again")
    if merged.conflicts:
        paths = ", ".join(change.path for change in merged.conflicts)
        by_hand = f"by hand: copier update --defaults --vcs-ref {shlex.quote(prepared.new.version)}"
        raise Problem(f"conflict in {paths}", f"{by_hand} {shlex.quote(experiment.name)}")


def is_own_launcher(path: str, content: bytes | None) -> bool:
    return path.endswith(".slurm") and content is not None and not is_templates(content)


class Conflict(Exception):
    """The template and a person changed the same lines."""


class Unmergeable(Exception):
    """Why a file cannot be merged, in words after its name."""


def merge_file(before: Blob | None, mine: bytes | None, old: File | None, new: File | None) -> File | None:
    """A file after the update, or None for none.

    mine  what was committed, None if nothing is there: what a person deleted stays deleted
    """
    if old == new or (old is not None and before is None):
        return File(mine, before.mode == "100755") if before and mine is not None else None
    if before is None or mine is None:
        return new
    if before.mode == LINK:
        raise Unmergeable(", which is a link now")
    is_executable = before.mode == "100755"
    if old is None:
        if new is not None and new.content == mine:
            return new
        raise Unmergeable(", which is new in the template and exists here")
    if new is None:
        if mine != old.content:
            raise Unmergeable(", which the template no longer has and which was edited")
        return None
    executable = is_executable if old.executable == new.executable else new.executable
    if old.content == new.content:
        return File(mine, executable)
    if mine == old.content:
        return File(new.content, executable)
    if not is_text(mine):
        raise Unmergeable(", which is no text in UTF-8")
    merged = merge(mine, old.content, new.content)
    if merged is None:
        raise Conflict
    return File(merged, executable)


def is_text(content: bytes) -> bool:
    """Whether it can be merged line by line, and nothing of it is lost."""
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def read_committed(repository: Repository, committed: dict[str, Blob], paths: Sequence[str]) -> dict[str, bytes]:
    """The contents of these paths in the last commit, where it has them."""
    there = [path for path in paths if path in committed]
    contents = repository.contents([committed[path].id for path in there])
    return dict(zip(there, contents, strict=True))


def change_of(path: str, before: Blob | None, after: File | None, prepared: Prepared) -> Change:
    if after is None:
        return Change(path, before, None, b"")
    like = prepared.committed[ANSWERS].id
    return Change(path, before, Blob(after.mode, blob_id(after.content, like)), after.content)


def stamped(answers: File, prepared: Prepared) -> File:
    """The new answers file, with its version and with the source as it was recorded."""
    new = prepared.new
    text = stamp(answers.content.decode(), new.version, new.commit, prepared.answers.source_entry)
    return replace(answers, content=text.encode())


def plan_writes(experiment: Experiment, changes: Sequence[Change]) -> list[Write]:
    """The files to write. Raises Problem where that would touch somebody's work. What was written already may stay."""
    repository = experiment.repository
    paths = {experiment.tracked(change.path): change for change in changes}
    staged = repository.staged(paths)
    for path, change in paths.items():
        if path in staged and staged[path] is None:
            raise Problem(f"{path} has conflicts of a merge", "resolve them, commit, and run again")
        if staged.get(path) not in (change.old, change.new):
            raise Problem(f"{path} has staged changes", "commit them, and run again")
    for path in paths:
        refuse_links(repository.root, path)
    # Read before git hashes them: what an editor saves meanwhile is noticed when the files are replaced.
    contents = {path: read_now(repository.root / path) for path in paths}
    present = [path for path in paths if contents[path] is not None]
    ids = dict(zip(present, repository.hashes(present), strict=True))
    for path, change in paths.items():
        refuse_touched(path, change, ids.get(path))
        if path in ids and not (repository.root / path).stat().st_mode & 0o200:
            raise Problem(f"{path} is read-only", f"`chmod u+w {shlex.quote(path)}`, and run again")
    writes = [write_of(repository.root / path, contents[path], change) for path, change in paths.items()]
    # First what is removed: where names that differ in case are one file, the new one stays. The answers stay last.
    return sorted(writes, key=lambda write: write.content is not None)


def refuse_touched(path: str, change: Change, found: str | None) -> None:
    """Raise Problem where a file is neither what was committed nor what the update gives; `found` is its id."""
    accepted = {blob.id for blob in (change.old, change.new) if blob}
    if found and found not in accepted and change.old:
        raise Problem(f"{path} has uncommitted changes", "commit them, and run again")
    if found and found not in accepted:
        raise Problem(f"{path} is in the way, and not in git", "move it away, and run again")
    if not found and change.old and change.new:
        raise Problem(f"{path} is deleted, and that is not committed", "commit that, and run again")


def refuse_links(root: Path, path: str) -> None:
    """Raise Problem where a file, or a folder on the way to it, is a link, or where a folder stands in its place."""
    file = root
    for part in Path(path).parts:
        file = file / part
        if file.is_symlink():
            raise Problem(f"{path} is behind a link, or no file any more", "put the file back, and run again")
        if file != root / path and file.exists() and not file.is_dir():
            raise Problem(f"{file.relative_to(root)} is in the way, and no folder", "move it away, and run again")
    if file.exists() and not file.is_file():
        raise Problem(f"{path} is behind a link, or no file any more", "put the file back, and run again")


def write_of(file: Path, content: bytes | None, change: Change) -> Write:
    if change.new is None:
        return Write(file, content, None)
    was = change.old.mode if change.old else "100644"
    executable = change.new.mode == "100755" if change.new.mode != was else None
    return Write(file, content, change.content, executable)


def commit(experiment: Experiment, changes: Sequence[Change], prepared: Prepared) -> None:
    """One commit of these changes alone."""
    written = [experiment.tracked(change.path) for change in changes if change.new]
    deleted = [experiment.tracked(change.path) for change in changes if not change.new]
    versions = f"from template {prepared.answers.version} to {prepared.new.version}"
    try:
        with experiment.repository.lock():
            experiment.repository.commit(written, deleted, f"Update {experiment.title} {versions}")
    except Problem as problem:
        raise Problem(f"updated, but not committed: {problem}", "commit it yourself") from None
