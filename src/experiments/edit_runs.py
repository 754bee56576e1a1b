"""`experiments add-run` and `experiments set-run`: add and change runs, at the version that the experiment has."""

import re
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import Problem
from experiments.experiment import Answers, Experiment, Templates
from experiments.files import Write, read_now, write_all
from experiments.git import merge_lines
from experiments.launcher import LauncherName, is_rendered
from experiments.program import Program
from experiments.template import ANSWERS, File, Release, Run, render, stamp_answers

Request = dict[str, Any]  # sbatch options that a run adds to those of its machine

DEFAULT = "conf/default.yaml"
CONFIG_ID = re.compile(r"_([0-9]{3}(?:_[A-Za-z0-9]+)*)$")
TASK_SEED = re.compile(rb"^seed: \$\{task\}.*$", re.MULTILINE)
PARAMETERS = re.compile(rb"^(parameters):\n(?: +.*\n)+", re.MULTILINE)


def add_run(path: str, script: str, tokens: Sequence[str], request: Request) -> list[str]:
    """Add runs: the missing files and the recorded answer. Returns the paths of the new files.

    The configuration of an existing script is a copy of the script's newest one, or an empty one. A new script and
    its configuration are the starter's.
    """
    experiment = Experiment.open(path)
    with experiment.lock(), Templates.temporary() as templates:
        answers = checked_answers(experiment)
        release = templates.recorded(answers)
        entries = [make_entry(token, request) for token in tokens]
        asked = release.parse_runs(answers.values, {script: entries}, new=True)
        old = answers.values["runs"]
        refuse_used(experiment, asked, release.parse_runs(answers.values, old))
        runs = old | {script: [*old.get(script, []), *entries]}
        parsed = release.parse_runs(answers.values, runs)
        added = [run for run in parsed if run.script == script and run.token in tokens]
        files = render(release.folder, release.version, dict(answers.values) | {"runs": runs})
        before = render(release.folder, release.version, answers.values)
        new = {name: file for name, file in files.items() if name not in before}
        filled: dict[str, Filled] = {}
        if read_now(experiment.path / f"scripts/{script}.py") is not None:
            filled = fill_configurations(experiment, new, added, [run for run in parsed if run not in added])
            new.pop(f"conf/{script}.yaml", None)  # the first configuration of a new script, for launchers that take one
        elif DEFAULT in files:  # the starter's configuration has it among its defaults
            new.setdefault(DEFAULT, files[DEFAULT])
        new |= {name: File(configuration.content) for name, configuration in filled.items()}
        refuse_taken(experiment, new, added, release)
        names = [name for name in new if read_now(experiment.path / name) is None]
        writes = [Write(experiment.path / name, None, new[name].content, new[name].executable) for name in names]
        write_all([*writes, write_answers(experiment, answers, files[ANSWERS])])
    for name in names:
        if name in filled:
            print(f"{name} {filled[name].origin}", file=sys.stderr)
    return [f"{experiment.name}/{name}" for name in names]


def set_run(path: str, script: str, token: str, values: Request) -> list[str]:
    """Change the sbatch options of a run. Edits in its launcher are kept. Returns the paths of changed files.

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
        print(f"{token} of {script} already requests that; nothing was changed", file=sys.stderr)
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


@dataclass(frozen=True)
class Filled:
    """The content of a new configuration, and where it is from: this completes the sentence `NAME ...`."""

    content: bytes
    origin: str


def fill_configurations(
    experiment: Experiment, new: Mapping[str, File], added: Sequence[Run], others: Sequence[Run]
) -> dict[str, Filled]:
    """Return the new configurations of an existing script. They never have the starter's parameters."""
    filled = {}
    own = {config for run in added for config in run.configurations}
    for run in added:
        newest = newest_configuration(experiment.path, run.script, others, own)
        for config in run.configurations:
            name = f"conf/{config}.yaml"
            if name in new:
                filled[name] = fill_configuration(experiment, run, new[name].content, newest, config)
    return filled


def fill_configuration(experiment: Experiment, run: Run, rendered: bytes, newest: str, config: str) -> Filled:
    """Return a copy of the script's newest configuration. A sweep also gets the template's settings of sweeps."""
    path = experiment.path / f"conf/{newest}.yaml"
    if newest:
        content = rename_config(path.read_bytes(), newest, config)
        origin = f"is a copy of conf/{newest}.yaml"
    else:
        content = empty_configuration(experiment, run.script)
        origin = f"is empty, because {run.script} has no configuration yet. Add its values"
    if not run.sweeper:
        return Filled(content, origin)
    if has_parameters(content, rendered):
        return Filled(rendered, "has the starter's values")
    if run.sweeper == "wandb" and config == run.config:
        return Filled(without_parameters(rendered), "has no parameters yet. Add them")
    fixed = TASK_SEED.sub(b"seed: 0 # the same for all runs of the sweep", content)
    if run.sweeper == "wandb":
        return Filled(fixed, origin)
    return Filled(fixed.rstrip(b"\n") + b"\n" + sweep_of(rendered), f"{origin}, with a sweep. Set its params")


def newest_configuration(folder: Path, script: str, runs: Sequence[Run], excluded: Collection[str] = ()) -> str:
    """Return a script's configuration with the highest ID: by its runs and names, or the one that its text names.

    `excluded` are those of new runs. Such a file has been written by hand, and add_run refuses it.
    """
    found = {run.config: run.id for run in runs if run.script == script and run.config and not run.sweeper}
    others = tuple(f"{path.stem}_" for path in folder.glob(f"scripts/{script}_*.py"))
    for path in sorted(folder.glob(f"conf/{script}_*.yaml")):
        number = CONFIG_ID.search(path.stem)
        if number and path.stem not in excluded and not path.stem.startswith(others):
            found.setdefault(path.stem, number[1])
    there = [config for config in found if (folder / f"conf/{config}.yaml").is_file()]
    if there:
        return max(there, key=lambda config: found[config])
    own = Program.read(folder / f"scripts/{script}.py").config
    return own if own != Path(DEFAULT).stem and (folder / f"conf/{own}.yaml").is_file() else ""


def empty_configuration(experiment: Experiment, script: str) -> bytes:
    """Return a configuration without values of its own. A script without the runtime does not have its variables."""
    defaults = ["runtime"] if Program.read(experiment.path / f"scripts/{script}.py").has_runtime else []
    defaults += [Path(DEFAULT).stem] if (experiment.path / DEFAULT).is_file() else []
    return f"defaults: [{', '.join([*defaults, '_self_'])}]\n".encode()


def has_parameters(content: bytes, rendered: bytes) -> bool:
    """Return whether a configuration has all of the starter's parameters, so that the starter's sweep can set them."""
    try:
        own, starter = yaml.safe_load(content), yaml.safe_load(rendered)
    except (yaml.YAMLError, ValueError):
        return False
    parameters = starter.get("parameters") or starter.keys() - {"defaults", "sweep"}
    return isinstance(own, dict) and own.keys() >= set(parameters)


def without_parameters(sweep: bytes) -> bytes:
    """Return a W&B sweep file without the starter's parameters, which are the most indented lines below."""
    return PARAMETERS.sub(rb"\1: {}\n", sweep)


def sweep_of(rendered: bytes) -> bytes:
    """Return the key `sweep` of a rendered configuration with its comment, and with ??? for its params."""
    sweep = re.search(rb"\n(#.*\n)*sweep:\n[^\0]*", rendered)
    return re.sub(rb"\n  params:\n(    .*\n)+", b"\n  params: ???\n", sweep[0]) if sweep else b""


def rename_config(text: bytes, old: str, new: str) -> bytes:
    """Replace a configuration's name in its text, but not in paths, as to a checkpoint."""
    return re.sub(rb"(?<![\w./-])" + re.escape(old.encode()) + rb"(?![\w./-])", new.encode(), text)


def refuse_used(experiment: Experiment, asked: Sequence[Run], recorded: Sequence[Run]) -> None:
    """Raise Problem if a recorded run has the script and ID of a new one. Machines may have a sweep each."""
    for run in asked:
        for other in recorded:
            has_same_id = run.token == other.token or (run.id == other.id and not run.sweeper)
            if run.script == other.script and has_same_id:
                command = ["experiments", "set-run", experiment.name, run.script, other.token, "mem=100g"]
                problem = f"the ID {run.id} of {run.script} is already used by {other.token}; nothing was added"
                raise Problem(problem, f"Use another ID, or change that run: `{shlex.join(command)}`")


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
        raise Problem(f"{subject} does not exist; nothing was changed", "Restore it with `git restore`, or rewrite it.")
    if b"\0" in mine:
        raise Problem(f"{subject} is not text; nothing was changed")
    merged = merge_lines(mine, old, new)
    if merged is None and not is_rendered(mine):
        raise Problem(f"{subject} is not a launcher of the template; nothing was changed", "Edit its #SBATCH lines.")
    if merged is None:
        hint = "Remove your edits of these options. If an option is given twice, the last one wins."
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
            raise Problem(f"{word} is not KEY=VALUE", "Write an sbatch option, such as mem=100g.")
        request[name] = value_of(value)
    return request


def shown_request(request: Request) -> str:
    """Return a request as words of `set-run`."""
    texts = {name: {"None": "null", "True": "true"}.get(str(value), value) for name, value in request.items()}
    return " ".join(f"{name}={text}" for name, text in texts.items())


def value_of(text: str) -> str | int | bool | None:
    if text in ("true", "null"):
        return True if text == "true" else None
    return int(text) if re.fullmatch("0|[1-9][0-9]*", text) else text  # an account may be a number that begins with 0
