"""`experiments rename-run` and `experiments remove-run`: change which runs an experiment has, if nothing can be lost.

Both work on committed files alone, so git has everything that they delete.
"""

import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.edit_runs import checked_answers, merge_launcher, refuse_taken, refuse_used, token_of, write_answers
from experiments.errors import Problem
from experiments.experiment import Answers, Experiment, Templates
from experiments.files import write_all
from experiments.git import Blob, hash_blob
from experiments.guard import Change, plan_writes
from experiments.history import runs_folder
from experiments.receipts import read_receipts
from experiments.records import find_records_of, folders_in
from experiments.template import ANSWERS, Files, Release, Run, render

SUFFIXES = (".slurm", ".yaml")


@dataclass
class Edit:
    """A change of the recorded runs: what both answers render."""

    experiment: Experiment
    release: Release
    answers: Answers
    run: Run  # the one that is renamed or removed
    before: Files
    after: Files


def remove_run(path: str, name: str) -> list[str]:
    """Remove a run: its configuration, its launcher and the recorded answer. Returns the paths of deleted files."""
    experiment = Experiment.open(path)
    with experiment.lock(), Templates.temporary() as templates:
        answers = checked_answers(experiment)
        release = templates.recorded(answers)
        run = find_run(name, release.parse_runs(answers.values, answers.values["runs"]), experiment)
        refuse_recorded(experiment, run)
        edit = render_edit(experiment, release, answers, run, without_run(answers.values["runs"], run))
        names = [name for name in deleted_names(edit) if (experiment.path / name).exists()]
        committed = refuse_uncommitted(experiment, [*names, ANSWERS])
        changes = [Change(name, committed[name], None, b"") for name in names]
        write_changes(edit, changes, committed)
    warn_mentions(experiment, run)
    return [f"{experiment.name}/{name}" for name in names]


def rename_run(path: str, old: str, new: str) -> list[str]:
    """Rename a run, or move it to another machine. Returns the paths of changed files.

    The edits of its configuration and launcher are kept. Other files that name them are changed too.
    """
    experiment = Experiment.open(path)
    with experiment.lock(), Templates.temporary() as templates:
        answers = checked_answers(experiment)
        release = templates.recorded(answers)
        recorded = release.parse_runs(answers.values, answers.values["runs"])
        run = find_run(old, recorded, experiment)
        renamed = parse_new(new, run, release, answers)
        refuse_recorded(experiment, run)
        others = [each for each in recorded if each != run]
        refuse_used(experiment, [renamed], others)
        edit = render_edit(experiment, release, answers, run, with_run(answers.values["runs"], run, renamed))
        refuse_taken(
            experiment, {name: edit.after[name] for name in renamed.files if name not in run.files}, [], release
        )
        contents = dict(renamed_files(edit, renamed))
        deleted = [name for name in run.files if name not in contents]
        existing = [name for name in contents if name not in renamed.files or name in run.files]
        committed = refuse_uncommitted(experiment, [*deleted, *existing, ANSWERS])
        changes = [Change(name, committed[name], None, b"") for name in deleted]
        changes += [make_change(experiment, name, content, committed) for name, content in contents.items()]
        write_changes(edit, changes, committed)
    return [f"{experiment.name}/{name}" for name in contents]


def find_run(name: str, runs: Sequence[Run], experiment: Experiment) -> Run:
    """Return the run with a configuration, launcher or token of this name. Raises Problem."""
    plain = bare(name)
    found = [run for run in runs if plain in (run.launcher, run.config)] or [run for run in runs if run.token == plain]
    if len(found) == 1:
        return found[0]
    names = ", ".join(run.launcher for run in found or runs) or "none"
    if found:
        raise Problem(f'"{name}" is ambiguous: several scripts of {experiment.name} have it', f"Use one of: {names}")
    raise Problem(f'unknown run "{name}" of {experiment.name}; expected one of: {names}')


def bare(name: str) -> str:
    """Return the name of a launcher or configuration without folders and suffix."""
    name = name.rpartition("/")[2]
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def parse_new(name: str, run: Run, release: Release, answers: Answers) -> Run:
    """Return the run that has a new name: a token, a launcher or a configuration. Raises Problem."""
    request = request_of(answers.values["runs"], run)
    for token in candidate_tokens(bare(name), run, release.machines):
        entry = {token: request} if request else token
        [found] = release.parse_runs(answers.values, {run.script: [entry]}, new=token != run.token)
        if bare(name) in (found.token, found.launcher, found.config):
            if found.token == run.token:
                raise Problem(f"{run.launcher} already has that name; nothing was changed")
            if bool(found.sweeper) != bool(run.sweeper) or bool(found.config) != bool(run.config):
                raise Problem(f"{name} is a different kind of run than {run.launcher}; nothing was changed")
            return found
    raise Problem(
        f'"{name}" is not the name of a run of {run.script}; nothing was changed',
        "Write a new token, such as gh_004. To run another script, use add-run.",
    )


def candidate_tokens(name: str, run: Run, machines: Iterable[str]) -> Iterator[str]:
    """Yield what a name may be as a token. The machine of the run comes first, because machines may share a label."""
    for machine in [run.machine, *machines]:
        label = machine.rpartition("_")[2]
        if rest := re.fullmatch(rf"{re.escape(run.script)}_{label}_(\w+)", name):
            mode = run.token.removeprefix(run.machine).partition("_")[0]
            yield f"{machine}{mode}_{rest[1]}"
        if rest := re.fullmatch(rf"{re.escape(machine)}_{re.escape(run.script)}(-[a-z]+)?(_\w+)?", name):
            yield f"{machine}{rest[1] or ''}{rest[2] or ''}"
    yield name


def request_of(runs: Mapping[str, Any], run: Run) -> Any:
    """Return the sbatch options of a recorded run."""
    [entry] = [entry for entry in runs[run.script] if token_of(entry) == run.token]
    return entry[run.token] if isinstance(entry, dict) else None


def without_run(runs: Mapping[str, Any], run: Run) -> dict[str, Any]:
    left = [entry for entry in runs[run.script] if token_of(entry) != run.token]
    others = {script: entries for script, entries in runs.items() if script != run.script}
    return others | ({run.script: left} if left else {})


def with_run(runs: Mapping[str, Any], run: Run, renamed: Run) -> dict[str, Any]:
    """Return the answer with a run under its new token, in the old place."""
    request = request_of(runs, run)
    new = {renamed.token: request} if request else renamed.token
    return dict(runs) | {run.script: [new if token_of(entry) == run.token else entry for entry in runs[run.script]]}


def render_edit(experiment: Experiment, release: Release, answers: Answers, run: Run, runs: Mapping[str, Any]) -> Edit:
    release.parse_runs(answers.values, runs)  # raises Problem with the rule that the new answer breaks
    before = render(release.folder, release.version, answers.values)
    after = render(release.folder, release.version, dict(answers.values) | {"runs": runs})
    return Edit(experiment, release, answers, run, before, after)


def deleted_names(edit: Edit) -> list[str]:
    """Return the files of the run, and those of the template that no other run needs, such as optuna_worker.py."""
    user_owned = edit.release.user_owned(edit.answers.values)
    unneeded = sorted(name for name in edit.before.keys() - edit.after.keys() if not user_owned.match_file(name))
    return [*edit.run.files, *(name for name in unneeded if name not in edit.run.files)]


def renamed_files(edit: Edit, renamed: Run) -> Iterator[tuple[str, bytes]]:
    """Yield the new content of each file that changes: the run's own under their new names, and those that name it."""
    folder, run = edit.experiment.path, edit.run
    names = dict(zip((*run.configurations, run.launcher), (*renamed.configurations, renamed.launcher), strict=True))
    own = dict(zip(run.files, renamed.files, strict=True))
    launcher = f"scripts/{run.launcher}.slurm"
    old, new = edit.before[launcher].content, edit.after[own[launcher]].content
    yield own[launcher], merge_launcher(edit.experiment, launcher, old, new).content or b""
    for name in [*run.files, *files_with_names(folder)]:
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        changed = replace_names(content, names)
        if name != launcher and (name in own or changed != content) and content:
            yield own.get(name, name), changed


def files_with_names(folder: Path) -> list[str]:
    """Return the user's files that may name a run."""
    found = [*folder.glob("conf/*.yaml"), *folder.glob("scripts/*.py"), *folder.glob("README.md")]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def replace_names(text: bytes, names: Mapping[str, str]) -> bytes:
    """Replace names of configurations and launchers, and of their files, but not in other paths, as to a checkpoint."""
    for old, new in names.items():
        name = re.escape(old.encode())
        pattern = rb"(?<![\w./-])%b(?![\w/-]|\.\w)|(?<![\w.-])%b(?=\.(?:yaml|slurm)\b)" % (name, name)
        text = re.sub(pattern, new.encode(), text)
    return text


def refuse_recorded(experiment: Experiment, run: Run) -> None:
    """Raise Problem if a run was started or submitted: its records and figures name its configuration."""
    names = {*run.configurations, run.config, run.plain} - {""}
    folder = runs_folder(experiment)
    folders = [path for path in folders_in(folder) if Path(path).name.partition(".")[0] in names]
    records = {path: len(list(find_records_of(path))) for path in folders}
    if any(records.values()):
        moved = shlex.join(path for path, number in records.items() if number)
        raise Problem(
            f"{run.launcher} has recorded runs ({sum(records.values())}); nothing was changed",
            f"Keep it, and add a new one with add-run. Or move its records away: mv {moved} ELSEWHERE",
        )
    submitted = [each for each in read_receipts(experiment.path) if each.text("launcher") == run.launcher]
    if submitted:
        receipt = f"{experiment.name}/slurm/submitted/{submitted[-1].folder.name}"
        raise Problem(
            f"{run.launcher} was submitted as job {submitted[-1].job}; nothing was changed",
            f"Keep it, and add a new one with add-run. Or cancel the job, and remove {receipt}",
        )


def refuse_uncommitted(experiment: Experiment, names: Iterable[str]) -> dict[str, Blob]:
    """Return the files of the last commit. Raises Problem if it lacks one of these."""
    committed = experiment.committed()
    for name in names:
        if name not in committed and (experiment.path / name).exists():
            path = shlex.quote(f"{experiment.name}/{name}")
            raise Problem(f"{path} is not committed; nothing was changed", "Commit it, and run again.")
    return committed


def make_change(experiment: Experiment, name: str, content: bytes, committed: Mapping[str, Blob]) -> Change:
    old = committed.get(name)
    like = committed[ANSWERS]
    return Change(name, old, Blob((old or like).mode, hash_blob(content, like.id)), content)


def write_changes(edit: Edit, changes: Sequence[Change], committed: Mapping[str, Blob]) -> None:
    """Write the files and the new answers, all or nothing. Raises Problem if one has uncommitted changes."""
    answers = write_answers(edit.experiment, edit.answers, edit.after[ANSWERS]).content or b""
    last = make_change(edit.experiment, ANSWERS, answers, committed)
    write_all(plan_writes(edit.experiment, [*changes, last]))


def warn_mentions(experiment: Experiment, run: Run) -> None:
    """Print which files of the user still name a removed run."""
    names = dict.fromkeys((*run.configurations, run.launcher), "")
    files = {name: (experiment.path / name).read_bytes() for name in files_with_names(experiment.path)}
    found = [name for name, content in files.items() if replace_names(content, names) != content]
    if found:
        print(f"{run.launcher} is still named in: {', '.join(found)}", file=sys.stderr)
