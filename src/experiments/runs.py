"""`experiments add-run` and `experiments set-run`: runs as data, at the version that the experiment has."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.errors import Problem
from experiments.experiment import Answers, Experiment, Templates
from experiments.files import Write, read_now, write_all
from experiments.git import merge
from experiments.launcher import is_templates
from experiments.template import ANSWERS, File, Release, Run, render, stamp

Request = dict[str, Any]  # what a run asks of Slurm beyond its machine's entry


def add_run(path: str, script: str, tokens: Sequence[str], request: Request) -> list[str]:
    """Add runs: the files that the experiment lacks, and the recorded answer. Returns the files' paths.

    A configuration is a copy of the script's newest one, where there is one.
    """
    experiment = Experiment.at(path)
    with experiment.lock(), Templates.kept() as templates:
        answers = answers_of(experiment)
        release = templates.recorded(answers)
        entries = [entry_of(token, request) for token in tokens]
        release.parse_runs(answers.values, {script: entries}, new=True)
        old = answers.values["runs"]
        runs = old | {script: [*old.get(script, []), *entries]}
        parsed = release.parse_runs(answers.values, runs)
        added = [run for run in parsed if run.script == script and run.token in tokens]
        files = render(release.folder, release.version, dict(answers.values) | {"runs": runs})
        before = render(release.folder, release.version, answers.values)
        new = {name: file for name, file in files.items() if name not in before}
        copies = copy_newest(experiment, new, added, [run for run in parsed if run not in added])
        new |= {name: File(content, False) for name, (_, content) in copies.items()}
        refuse_taken(experiment, new, added, release)
        names = [name for name in new if read_now(experiment.path / name) is None]
        writes = [Write(experiment.path / name, None, new[name].content, new[name].executable) for name in names]
        write_all([*writes, write_answers(experiment, answers, files[ANSWERS])])
    for name in names:
        if name in copies:
            print(f"{name} is a copy of {copies[name][0]}", file=sys.stderr)
    return [f"{experiment.name}/{name}" for name in names]


def set_run(path: str, script: str, token: str, values: Request) -> list[str]:
    """Change what a run asks of Slurm. Its launcher is merged with what was edited there. Returns changed paths.

    A value of "" takes the option out of the request: the machine's own counts again.
    """
    experiment = Experiment.at(path)
    with experiment.lock(), Templates.kept() as templates:
        answers = answers_of(experiment)
        release = templates.recorded(answers)
        runs = dict(answers.values["runs"])
        request = find_request(runs, script, token, experiment)
        request = {name: value for name, value in (request | values).items() if value != ""}
        runs[script] = [entry_of(token, request) if token_of(entry) == token else entry for entry in runs[script]]
        parsed = release.parse_runs(answers.values, runs)
        [run] = [run for run in parsed if (run.script, run.token) == (script, token)]
        before = render(release.folder, release.version, answers.values)
        after = render(release.folder, release.version, dict(answers.values) | {"runs": runs})
        name = f"scripts/{run.launcher}.slurm"
        writes = [merge_launcher(experiment, name, before[name].content, after[name].content)]
        writes.append(write_answers(experiment, answers, after[ANSWERS]))
        changed = [write for write in writes if write.before != write.content]
        write_all(changed)
    if not changed:
        print(f"{token} of {script} asks for that already; nothing was changed", file=sys.stderr)
    return [f"{experiment.name}/{name}"] if changed else []


def answers_of(experiment: Experiment) -> Answers:
    """Its answers. Raises Problem where they are another's: a launcher would run that one's script."""
    answers = experiment.answers()
    if problem := answers.misnamed(experiment.path):
        raise Problem(f"{experiment.name}/{ANSWERS} {problem}")
    return answers


def token_of(entry: Any) -> Any:
    """The token of a run as answers have it: alone, or the one key of what it asks for."""
    return next(iter(entry), None) if isinstance(entry, dict) else entry


def entry_of(token: str, request: Request) -> Any:
    return {token: request} if request else token


def find_request(runs: Mapping[str, Any], script: str, token: str, experiment: Experiment) -> Request:
    """What a recorded run asks for. Raises Problem where there is no such run."""
    if script not in runs:
        raise Problem(f"{experiment.name} has no script {script}", f"there are {', '.join(runs) or 'none'}")
    tokens = [str(token_of(entry)) for entry in runs[script]]
    if token not in tokens:
        raise Problem(f"script {script} of {experiment.name} has no run {token}", f"there are {', '.join(tokens)}")
    entry = runs[script][tokens.index(token)]
    return dict(entry[token] or {}) if isinstance(entry, dict) else {}


def copy_newest(
    experiment: Experiment, new: Mapping[str, File], added: Sequence[Run], others: Sequence[Run]
) -> dict[str, tuple[str, bytes]]:
    """For each new configuration of a run that is no sweep: the script's newest one, and its content."""
    plain = [run for run in others if not run.sweeper and run.config]
    there = [run for run in plain if (experiment.path / f"conf/{run.config}.yaml").is_file()]
    copies = {}
    for run in added:
        known = [other for other in there if other.script == run.script]
        name = f"conf/{run.config}.yaml"
        if known and not run.sweeper and name in new:
            newest = max(known, key=lambda other: other.id)
            source = f"conf/{newest.config}.yaml"
            text = (experiment.path / source).read_bytes()
            copies[name] = (source, renamed(text, newest.config, run.config))
    return copies


def renamed(text: bytes, old: str, new: str) -> bytes:
    """A configuration under another name. A path that has the old one, as to a checkpoint, stays."""
    return re.sub(rb"(?<![\w./-])" + re.escape(old.encode()) + rb"(?![\w./-])", new.encode(), text)


def refuse_taken(experiment: Experiment, new: Mapping[str, File], added: Sequence[Run], release: Release) -> None:
    """Raise Problem where a new run's number or file is used. A file that is as it would be written may stay."""
    for run in added:
        for name in files_with_number(experiment, run, release):
            content = new[name].content if name in new else None
            if read_now(experiment.path / name) != content:
                raise Problem(f"{experiment.name}/{name} exists, so its number is used; nothing was added")
    for name in new:
        found = read_now(experiment.path / name)
        if found not in (None, new[name].content) and not is_starter(name):
            raise Problem(f"{experiment.name}/{name} exists; nothing was added", "move it away, and run again")


def is_starter(name: str) -> bool:
    """Whether it is a script that people write: one that they have already stays."""
    return name.startswith("scripts/") and name.endswith(".py") and name.count("/") == 1


def files_with_number(experiment: Experiment, run: Run, release: Release) -> list[str]:
    """The configurations and launchers that this script has under a run's number, on any machine."""
    if run.sweeper:
        return [name for name in run.files if (experiment.path / name).exists()]
    start, end = f"{run.script}_", f"_{run.id}"
    found = []
    for path in sorted(experiment.path.glob(f"conf/{start}*{end}.yaml")):
        if "_" not in path.stem.removeprefix(start).removesuffix(end):
            found.append(f"conf/{path.name}")
    for path in sorted(experiment.path.glob(f"scripts/*{end}.slurm")):
        before = path.stem.removesuffix(end).partition("-")[0]
        if before.removesuffix(f"_{run.script}") in release.machines and before.endswith(f"_{run.script}"):
            found.append(f"scripts/{path.name}")
    return found


def merge_launcher(experiment: Experiment, name: str, old: bytes, new: bytes) -> Write:
    """A launcher with the edits that it has. Raises Problem where both changed the same lines."""
    path = experiment.path / name
    mine = read_now(path)
    if mine is None:
        raise Problem(f"{experiment.name}/{name} is gone; nothing was changed", "`git restore` it, or write it again")
    if b"\0" in mine:
        raise Problem(f"{experiment.name}/{name} is no text; nothing was changed")
    merged = merge(mine, old, new)
    if merged is None and not is_templates(mine):
        raise Problem(f"{experiment.name}/{name} is not the template's; nothing was changed", "edit its #SBATCH lines")
    if merged is None:
        raise Problem(
            f"{experiment.name}/{name} was edited in the same lines; nothing was changed",
            "take your edit of these options out, since the last of a name wins",
        )
    return Write(path, mine, merged)


def write_answers(experiment: Experiment, answers: Answers, rendered: File) -> Write:
    """The answers with what is recorded now, of the version and the source that they had."""
    text = stamp(rendered.content.decode(), answers.version, answers.commit, answers.source_entry)
    return Write(experiment.path / ANSWERS, read_now(experiment.path / ANSWERS), text.encode())


def parse_request(words: Sequence[str]) -> Request:
    """KEY=VALUE words as a request: true is a flag, null leaves an option out, whole numbers are numbers."""
    request: Request = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise Problem(f"{word} is no KEY=VALUE", "write an option of sbatch, like mem=100g")
        request[name] = value_of(value)
    return request


def value_of(text: str) -> str | int | bool | None:
    if text in ("true", "null"):
        return True if text == "true" else None
    return int(text) if re.fullmatch("0|[1-9][0-9]*", text) else text  # the number of an account may begin with 0
