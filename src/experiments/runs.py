"""`experiments add-run` and `experiments set-run`: add and change runs, at the version that the experiment has."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.errors import Problem
from experiments.experiment import Answers, Experiment, Templates
from experiments.files import Write, read_now, write_all
from experiments.git import merge_lines
from experiments.launcher import LauncherName, is_rendered
from experiments.template import ANSWERS, File, Release, Run, render, stamp_answers

Request = dict[str, Any]  # the options of sbatch that a run adds to its machine's


def add_run(path: str, script: str, tokens: Sequence[str], request: Request) -> list[str]:
    """Add runs: the missing files and the recorded answer. Returns the paths of the new files.

    A new configuration is a copy of the script's newest one, if it has one.
    """
    experiment = Experiment.open(path)
    with experiment.lock(), Templates.temporary() as templates:
        answers = checked_answers(experiment)
        release = templates.recorded(answers)
        entries = [make_entry(token, request) for token in tokens]
        release.parse_runs(answers.values, {script: entries}, new=True)
        old = answers.values["runs"]
        runs = old | {script: [*old.get(script, []), *entries]}
        parsed = release.parse_runs(answers.values, runs)
        added = [run for run in parsed if run.script == script and run.token in tokens]
        files = render(release.folder, release.version, dict(answers.values) | {"runs": runs})
        before = render(release.folder, release.version, answers.values)
        new = {name: file for name, file in files.items() if name not in before}
        copies = copy_newest(experiment, new, added, [run for run in parsed if run not in added])
        new |= {name: File(content) for name, (_, content) in copies.items()}
        refuse_taken(experiment, new, added, release)
        names = [name for name in new if read_now(experiment.path / name) is None]
        writes = [Write(experiment.path / name, None, new[name].content, new[name].executable) for name in names]
        write_all([*writes, write_answers(experiment, answers, files[ANSWERS])])
    for name in names:
        if name in copies:
            print(f"{name} is a copy of {copies[name][0]}", file=sys.stderr)
    return [f"{experiment.name}/{name}" for name in names]


def set_run(path: str, script: str, token: str, values: Request) -> list[str]:
    """Change what a run requests of Slurm. The edits in its launcher are kept. Returns the paths of changed files.

    An empty value removes an option from the request, which restores the machine's own value.
    """
    experiment = Experiment.open(path)
    with experiment.lock(), Templates.temporary() as templates:
        answers = checked_answers(experiment)
        release = templates.recorded(answers)
        runs = dict(answers.values["runs"])
        request = find_request(runs, script, token, experiment)
        request = {name: value for name, value in (request | values).items() if value != ""}
        runs[script] = [make_entry(token, request) if token_of(entry) == token else entry for entry in runs[script]]
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
        print(f"{token} of {script} requests that already; nothing was changed", file=sys.stderr)
    return [f"{experiment.name}/{name}"] if changed else []


def checked_answers(experiment: Experiment) -> Answers:
    """Return its answers. Raises Problem if they are another experiment's: launchers would run that one's scripts."""
    answers = experiment.answers()
    if problem := answers.name_mismatch(experiment.path):
        raise Problem(f"{experiment.name}/{ANSWERS} {problem}")
    return answers


def token_of(entry: Any) -> Any:
    """Return the token of a recorded run: the entry itself, or its one key if it has options."""
    return next(iter(entry), None) if isinstance(entry, dict) else entry


def make_entry(token: str, request: Request) -> Any:
    return {token: request} if request else token


def find_request(runs: Mapping[str, Any], script: str, token: str, experiment: Experiment) -> Request:
    """Return the options of a recorded run. Raises Problem if there is no such run."""
    if script not in runs:
        raise Problem(f'unknown script "{script}" of {experiment.name}; expected one of: {", ".join(runs) or "none"}')
    tokens = [str(token_of(entry)) for entry in runs[script]]
    if token not in tokens:
        raise Problem(f'unknown run "{token}" of {script} in {experiment.name}; expected one of: {", ".join(tokens)}')
    entry = runs[script][tokens.index(token)]
    return dict(entry[token] or {}) if isinstance(entry, dict) else {}


def copy_newest(
    experiment: Experiment, new: Mapping[str, File], added: Sequence[Run], others: Sequence[Run]
) -> dict[str, tuple[str, bytes]]:
    """Return, for each new configuration, the script's newest one by its name and content. A sweep is added to it."""
    plain = [run for run in others if not run.sweeper and run.config]
    there = [run for run in plain if (experiment.path / f"conf/{run.config}.yaml").is_file()]
    copies = {}
    for run in added:
        known = [other for other in there if other.script == run.script]
        name = f"conf/{run.config}{'_run' if run.sweeper == 'wandb' else ''}.yaml"
        if known and name in new:
            newest = max(known, key=lambda other: other.id)
            source = f"conf/{newest.config}.yaml"
            content = rename_config((experiment.path / source).read_bytes(), newest.config, run.config)
            if run.sweeper == "optuna":
                source += ", with a sweep. Set its params"
                content = content.rstrip(b"\n") + b"\n" + sweep_of(new[name].content)
            copies[name] = (source, content)
    return copies


def sweep_of(rendered: bytes) -> bytes:
    """Return the key `sweep` of a rendered configuration with its comment, and with ??? for its params."""
    sweep = re.search(rb"\n(#.*\n)*sweep:\n[^\0]*", rendered)
    return re.sub(rb"\n  params:\n(    .*\n)+", b"\n  params: ???\n", sweep[0]) if sweep else b""


def rename_config(text: bytes, old: str, new: str) -> bytes:
    """Replace a configuration's name in its text, but not in paths, as to a checkpoint."""
    return re.sub(rb"(?<![\w./-])" + re.escape(old.encode()) + rb"(?![\w./-])", new.encode(), text)


def refuse_taken(experiment: Experiment, new: Mapping[str, File], added: Sequence[Run], release: Release) -> None:
    """Raise Problem if a new run's number or file is used. A file with the content to write is accepted."""
    for run in added:
        for name in files_with_number(experiment, run, release):
            content = new[name].content if name in new else None
            if read_now(experiment.path / name) != content:
                raise Problem(f"{experiment.name}/{name} exists, so its number is used; nothing was added")
    for name in new:
        found = read_now(experiment.path / name)
        if found not in (None, new[name].content) and not is_starter(name):
            raise Problem(f"{experiment.name}/{name} exists; nothing was added", "Move it away, and run again.")


def is_starter(name: str) -> bool:
    """Return whether a file is a script that users write. An existing one is kept."""
    return name.startswith("scripts/") and name.endswith(".py") and name.count("/") == 1


def files_with_number(experiment: Experiment, run: Run, release: Release) -> list[str]:
    """Return the script's configurations and launchers that have a run's number, on any machine."""
    if run.sweeper or not run.id:
        return [name for name in run.files if (experiment.path / name).exists()]
    start, end = f"{run.script}_", f"_{run.id}"
    found = []
    for path in sorted(experiment.path.glob(f"conf/{start}*{end}.yaml")):
        if "_" not in path.stem.removeprefix(start).removesuffix(end):
            found.append(f"conf/{path.name}")
    for path in sorted(experiment.path.glob(f"scripts/*{end}.slurm")):
        names = LauncherName.parse(path.stem, release.machines)
        if any((name.script, name.number) == (run.script, run.id) for name in names):
            found.append(f"scripts/{path.name}")
    return found


def merge_launcher(experiment: Experiment, name: str, old: bytes, new: bytes) -> Write:
    """Return a launcher with its edits and the new options. Raises Problem if both changed the same lines."""
    path = experiment.path / name
    mine = read_now(path)
    subject = f"{experiment.name}/{name}"
    if mine is None:
        raise Problem(f"{subject} is gone; nothing was changed", "Restore it with `git restore`, or write it again.")
    if b"\0" in mine:
        raise Problem(f"{subject} is not text; nothing was changed")
    merged = merge_lines(mine, old, new)
    if merged is None and not is_rendered(mine):
        raise Problem(f"{subject} is not the template's; nothing was changed", "Edit its #SBATCH lines.")
    if merged is None:
        hint = "Remove your edit of these options: of two lines with one option, the last wins."
        raise Problem(f"{subject} was edited in the same lines; nothing was changed", hint)
    return Write(path, mine, merged)


def write_answers(experiment: Experiment, answers: Answers, rendered: File) -> Write:
    """Return the write of new answers, with the recorded version and source."""
    text = stamp_answers(rendered.content.decode(), answers.version, answers.commit, answers.source_entry)
    return Write(experiment.path / ANSWERS, read_now(experiment.path / ANSWERS), text.encode())


def parse_request(words: Sequence[str]) -> Request:
    """Parse KEY=VALUE words: true is a flag, null leaves an option out, and whole numbers become numbers."""
    request: Request = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise Problem(f"{word} is not KEY=VALUE", "Write an option of sbatch, like mem=100g.")
        request[name] = value_of(value)
    return request


def value_of(text: str) -> str | int | bool | None:
    if text in ("true", "null"):
        return True if text == "true" else None
    return int(text) if re.fullmatch("0|[1-9][0-9]*", text) else text  # an account may be a number that begins with 0
