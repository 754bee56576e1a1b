"""`experiments update`: bring a release of the template to experiments, and skip those with work at risk.

An update merges three versions of each file: as the recorded release renders it, as the new release renders it, and
as it was committed last. All of that happens in memory and in temporary folders, before the first file is replaced.
"""

import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, ParamSpec, TypeVar

import yaml

from experiments.errors import Problem, reason
from experiments.experiment import Answers, Experiment, Templates, absolute_source, find_each
from experiments.files import write_all
from experiments.git import SUBMODULE, Blob, hash_blob, mark_conflicts, merge_lines
from experiments.guard import Change, plan_writes
from experiments.launcher import is_rendered
from experiments.merge import Refusal, merge_file, merged_mode
from experiments.screen import show_cells, show_progress
from experiments.template import ANSWERS, OWN_FILES, File, Files, Release, render, stamp_answers
from experiments.workers import start_workers

SKIPPED = 3  # the exit code if experiments were skipped: not that of a command that failed

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """Options of an update."""

    ref: str | None = None  # a version of the template; None: its newest release
    commit: bool = False
    dry_run: bool = False
    conflicts: bool = False  # write both sides of a conflict, instead of skipping the experiment
    source: str | None = None  # another template to take the version from, and to record; None: the recorded one


class Status(Enum):
    UPDATED = "updated"
    UP_TO_DATE = "up to date"
    WOULD_CHANGE = "would change"
    CONFLICT = "conflict"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Outcome:
    """How the update of an experiment ended."""

    status: Status
    details: str = ""

    def __str__(self) -> str:
        return f"{self.status.value}: {self.details}" if self.details else self.status.value


@dataclass
class Row:
    """An experiment in the table of an update."""

    name: str
    old: str = ""
    new: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Pending:
    """The update of an experiment, while workers render both versions."""

    experiment: Experiment
    committed: dict[str, Blob]
    answers: Answers
    source: Any  # of the new version
    old: Release
    new: Release
    old_files: Future[Files]
    new_files: Future[Files]


@dataclass(frozen=True)
class Conflict:
    """A file in which a person and the release changed the same lines."""

    path: str
    mine: File
    old: File
    new: File


@dataclass
class Merged:
    """The result of merging all files of an experiment."""

    changes: list[Change]  # the answers last: until they are written, the experiment has its old version
    conflicts: list[Conflict]
    refusals: list[str]  # files that cannot be merged at all, each with the reason
    own_launchers: list[str]  # launchers of an adopted experiment that the template did not make: they stay


def update(paths: list[str], options: Options, jobs: int) -> int:
    """Update experiments, and print a row for each. Returns SKIPPED if one was skipped or has conflicts, else 0."""
    experiments, problems = find_each(paths, Experiment.open)
    rows = [Row(experiment.name) for experiment in experiments]
    with Templates.temporary() as templates, start_workers(min(jobs, len(experiments))) as workers:
        begun = [
            attempt(prepare, experiment, row, templates, options, workers)
            for experiment, row in zip(experiments, rows, strict=True)
        ]
        for row, step in show_progress("Updating", list(zip(rows, begun, strict=True))):
            row.outcome = step if isinstance(step, Outcome) else attempt(apply_update, step, options)
    rows += [Row(path, outcome=Outcome(Status.SKIPPED, str(problem))) for path, problem in problems.items()]
    return report(rows)


def attempt(step: Callable[Given, Result], *words: Given.args, **options: Given.kwargs) -> Result | Outcome:
    """Run a step. If it fails, skip the experiment, so the others continue."""
    try:
        return step(*words, **options)
    except Exception as error:
        return Outcome(Status.SKIPPED, reason(error))


def prepare(
    experiment: Experiment, row: Row, templates: Templates, options: Options, workers: Executor
) -> Pending | Outcome:
    """Start to render both versions, unless the last commit has the new one. Fills in the versions of the row."""
    committed = experiment.committed()
    if ANSWERS not in committed:
        raise Problem("it is not committed", "Commit it, and run again.")
    text = experiment.repository.contents([committed[ANSWERS].id])[0].decode(errors="replace")
    answers = Answers.parse(text, f"{experiment.name}/{ANSWERS} of the last commit")
    row.old = answers.version
    source = absolute_source(options.source) if options.source else answers.source
    template = templates.get(source)
    wanted = template.find_commit(options.ref or template.newest())
    recorded = templates.source_with(answers, source)
    current = recorded.find_recorded(answers.version, answers.commit)
    if wanted == current and source == answers.source:
        row.new = answers.version
        return Outcome(Status.UP_TO_DATE)
    if source == answers.source and not template.is_named(current, answers.version):
        row.old = f"{answers.version}, which was moved"
    new = template.release(wanted)
    row.new = new.version
    if wanted != current and recorded.has_commit(wanted) and recorded.is_before(wanted, current):
        raise Problem(f"{new.version} is older than {answers.version}, and downgrades are not supported")
    old = recorded.release(current)
    refuse_lost_machines(answers, new)
    old_files = workers.submit(render, old.folder, old.version, answers.values)
    own = old.own_files(experiment.path, answers.values)
    values = dict(answers.values) | ({OWN_FILES: own} if own else {})
    new_files = workers.submit(render, new.folder, new.version, values)
    return Pending(experiment, committed, answers, source, old, new, old_files, new_files)


def refuse_lost_machines(answers: Answers, new: Release) -> None:
    """Raise Problem if recorded runs are not valid in a version, with the message of its rules."""
    try:
        new.parse_runs(answers.values, answers.values["runs"])
    except Problem as problem:
        raise Problem(
            f"its recorded answer to runs is not valid in {new.version}: {problem}",
            "The template must keep machines that have runs, with `retired: true`.",
        ) from None


def apply_update(pending: Pending, options: Options) -> Outcome:
    """Merge all files of an experiment, and write them if no work is at risk. Raises Problem."""
    experiment = pending.experiment
    merged = merge_versions(pending)
    with experiment.lock():
        if experiment.committed() != pending.committed:
            raise Problem("it got a new commit in the meantime", "Run it again.")
        # Uncommitted work is refused before conflicts, because the remedy for conflicts refuses it too.
        changes = [*(mark_conflict(each, pending) for each in merged.conflicts), *merged.changes]
        writes = plan_writes(experiment, changes)
        refuse_conflicts(merged, pending, options)
        if options.dry_run:
            return Outcome(Status.WOULD_CHANGE, ", ".join(change.path for change in changes))
        if options.commit:
            experiment.repository.refuse_commits()
        write_all(writes)
        if merged.conflicts:
            return leave_conflicts(merged.conflicts, pending)
        if options.commit:
            commit_update(merged.changes, pending)
    own = ", ".join(merged.own_launchers)
    return Outcome(Status.UPDATED, f"kept its own launchers, {own}" if own else "")


def merge_versions(pending: Pending) -> Merged:
    """Merge each file that is not the users' own."""
    old, new = pending.old_files.result(), pending.new_files.result()
    user_owned = pending.new.user_owned(pending.answers.values)
    paths = sorted(path for path in old.keys() | new.keys() if path != ANSWERS and not user_owned.match_file(path))
    mine = read_committed(pending, paths)
    merged = Merged([], [], [], [])
    for path in paths:
        result = merge_file(mine.get(path), old.get(path), new.get(path), merge_lines)
        if not isinstance(result, Refusal):
            if result != mine.get(path):
                merged.changes.append(make_change(path, result, pending))
        elif path.endswith(".slurm") and path in mine and not is_rendered(mine[path].content):
            merged.own_launchers.append(path)
        elif result.is_conflict:
            merged.conflicts.append(Conflict(path, mine[path], old[path], new[path]))
        else:
            merged.refusals.append(f"{path} {result.reason}")
    merged.changes.append(make_change(ANSWERS, new_answers(new[ANSWERS], pending), pending))
    return merged


def read_committed(pending: Pending, paths: Sequence[str]) -> Files:
    """Return those of these files that the last commit has."""
    blobs = {path: pending.committed[path] for path in paths if path in pending.committed}
    blobs = {path: blob for path, blob in blobs.items() if blob.mode != SUBMODULE}
    contents = pending.experiment.repository.contents([blob.id for blob in blobs.values()])
    return {path: File(text, blob.mode) for (path, blob), text in zip(blobs.items(), contents, strict=True)}


def make_change(path: str, after: File | None, pending: Pending) -> Change:
    before = pending.committed.get(path)
    if after is None:
        return Change(path, before, None, b"")
    like = pending.committed[ANSWERS].id
    return Change(path, before, Blob(after.mode, hash_blob(after.content, like)), after.content)


def new_answers(rendered: File, pending: Pending) -> File:
    """Return the new answers file, with its version and with the source as it was recorded."""
    new = pending.new
    answers = pending.answers
    entry = answers.source_entry if pending.source == answers.source else yaml.safe_dump({"_src_path": pending.source})
    text = stamp_answers(rendered.content.decode(), new.version, new.commit, entry)
    return replace(rendered, content=text.encode())


def mark_conflict(conflict: Conflict, pending: Pending) -> Change:
    """Return the change that writes both sides of a conflict."""
    labels = ("this experiment", pending.old.version, pending.new.version)
    texts = (conflict.mine.content, conflict.old.content, conflict.new.content)
    content = mark_conflicts(dict(zip(labels, texts, strict=True)))
    mode = merged_mode(conflict.mine, conflict.old, conflict.new)
    return make_change(conflict.path, File(content, mode), pending)


def leave_conflicts(conflicts: Sequence[Conflict], pending: Pending) -> Outcome:
    """Record conflicts in the index, so that git refuses to commit before they are resolved."""
    repository = pending.experiment.repository
    like = pending.committed[ANSWERS].id
    with repository.lock():
        for conflict in conflicts:
            versions = (conflict.old, conflict.mine, conflict.new)
            blobs = [Blob(file.mode, hash_blob(file.content, like)) for file in versions]
            contents = [file.content for file in versions]
            repository.leave_unmerged(pending.experiment.tracked(conflict.path), blobs, contents)
    paths = ", ".join(conflict.path for conflict in conflicts)
    return Outcome(Status.CONFLICT, f"in {paths}. Edit the text between <<<<<<< and >>>>>>>, then `git add` it.")


def refuse_conflicts(merged: Merged, pending: Pending, options: Options) -> None:
    """Raise Problem with every file that cannot be merged, or that conflicts unless conflicts are to be written."""
    if merged.refusals:
        raise Problem("; ".join(merged.refusals), "Rename your file, commit, and run again.")
    if merged.conflicts and not options.conflicts:
        paths = ", ".join(conflict.path for conflict in merged.conflicts)
        source = ["--source", str(pending.source)] if pending.source != pending.answers.source else []
        words = ["--conflicts", "--vcs-ref", pending.new.version, *source]
        command = ["experiments", "update", *words, pending.experiment.name]
        raise Problem(f"conflict in {paths}", f"Resolve it by hand: {shlex.join(command)}")


def commit_update(changes: Sequence[Change], pending: Pending) -> None:
    """Commit these changes alone."""
    experiment = pending.experiment
    written = [experiment.tracked(change.path) for change in changes if change.new]
    deleted = [experiment.tracked(change.path) for change in changes if not change.new]
    versions = f"from template {pending.answers.version} to {pending.new.version}"
    try:
        with experiment.repository.lock():
            experiment.repository.commit(written, deleted, f"Update {experiment.title} {versions}")
    except Problem as problem:
        raise Problem(f"updated, but not committed: {problem}", "Commit it yourself.") from None


def report(rows: Sequence[Row]) -> int:
    """Print the table of an update. Returns SKIPPED if an experiment was skipped or has conflicts, else 0."""
    left = (Status.SKIPPED, Status.CONFLICT)
    skipped = [row.outcome is not None and row.outcome.status in left for row in rows]
    cells = [(row.name, row.old, row.new, str(row.outcome)) for row in rows]
    show_cells(("experiment", "from", "to", "result"), cells, ["yellow" if each else "" for each in skipped])
    return SKIPPED if any(skipped) else 0
