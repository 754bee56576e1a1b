"""`experiments check`: report what is wrong with experiments. Each rule is a function."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from experiments.errors import Problem, one_line, reason
from experiments.experiment import Answers, Experiment, Templates, find_each, find_folder
from experiments.git import Repository
from experiments.launcher import Launcher, LauncherName
from experiments.points import find_configurations
from experiments.template import ANSWERS, Release, Run

LARGEST_TEXT = 1_000_000  # bytes: larger files are not searched for conflict markers

# Both take linear time: no part can match what the part before it matches.
HOME = re.compile(r"/(?:home|Users|u)/[A-Za-z0-9._-]+(?:/[^\s\"':;)]*)?")
IMAGES = re.compile(r"(?<![^\s\"'=(])/[^\s\"':;)]*?/images/[^\s\"':;)]*")
MARKER = re.compile(rb"^(?:<{7}|>{7}) ", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file of the experiment."""

    path: str
    what: str


@dataclass
class Context:
    """What the rules may read about an experiment."""

    path: Path
    answers: Answers | None = None  # None: it was never adopted
    release: Release | None = None  # the recorded version of its template
    newest: str = ""  # the newest release, if the experiment does not have it
    runs: list[Run] = field(default_factory=list)
    problem: str = ""  # why it cannot be compared with the template

    @cached_property
    def launchers(self) -> list[Launcher]:
        return [Launcher.read(path) for path in sorted(self.path.glob("scripts/*.slurm")) if path.is_file()]

    @cached_property
    def configurations(self) -> list[str]:
        """The configurations that a run may name."""
        return find_configurations(self.path)


def find_version(context: Context) -> Iterator[Finding]:
    """An experiment that is behind, or whose template cannot be read."""
    if context.problem:
        yield Finding(ANSWERS, f"cannot be compared with the template: {context.problem}")
    elif context.newest and context.answers:
        yield Finding(ANSWERS, f"is at {context.answers.version}, but the newest release is {context.newest}")


def find_name_mismatch(context: Context) -> Iterator[Finding]:
    """A copied or renamed folder, with the files of another experiment."""
    if context.answers and (problem := context.answers.name_mismatch(context.path)):
        yield Finding(ANSWERS, problem)


def find_missing_files(context: Context) -> Iterator[Finding]:
    """A missing file of a recorded run, or of the template."""
    for run in context.runs:
        for name in (f"scripts/{run.script}.py", *run.files):
            if not (context.path / name).exists():
                yield Finding(name, "is missing, but the answers have its run")
    for name in context.release.fixed_scripts() if context.release else []:
        if not (context.path / name).exists():
            yield Finding(name, "is missing, but the template has it")


def find_edited_library(context: Context) -> Iterator[Finding]:
    """A library file that differs from the recorded version's: it is the same in every experiment."""
    for name, content in context.release.library().items() if context.release else ():
        path = context.path / name
        if path.is_file() and path.read_bytes().replace(b"\r\n", b"\n") != content:
            yield Finding(name, "was edited. Undo that, or change the template: later updates may conflict.")


def find_unpaired_launchers(context: Context) -> Iterator[Finding]:
    """A launcher without a configuration."""
    for launcher in context.launchers:
        if launcher.is_query:
            continue
        if not launcher.config:
            yield Finding(f"scripts/{launcher.name}.slurm", "names no configuration")
        elif "$" not in launcher.config and launcher.config not in context.configurations:
            yield Finding(f"scripts/{launcher.name}.slurm", f"has no configuration conf/{launcher.config}.yaml")


def program_of(path: Path) -> str:
    """Return the program of a sweep by W&B, whose file is not a configuration of Hydra; empty for any other file."""
    try:
        loaded: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ""
    is_sweep = isinstance(loaded, dict) and {"program", "method", "parameters"} <= loaded.keys()
    return str(loaded["program"]) if is_sweep else ""


def find_missing_programs(context: Context) -> Iterator[Finding]:
    """A sweep by W&B of a script that does not exist, as after a rename."""
    for run in context.runs:
        name = f"conf/{run.config.removesuffix('_run')}.yaml"
        program = program_of(context.path / name) if run.sweeper == "wandb" else ""
        if program and not (context.path.parents[1] / program).is_file():
            yield Finding(name, f"names the program {one_line(program)}, which does not exist")


def find_broken_launchers(context: Context) -> Iterator[Finding]:
    """A launcher with an error of syntax. Only those with an unreadable `run=( ... )` are checked."""
    for launcher in context.launchers:
        if not launcher.is_readable:
            file = context.path / f"scripts/{launcher.name}.slurm"
            done = subprocess.run(["bash", "-n", file], capture_output=True, text=True, errors="replace")
            if done.returncode:
                yield Finding(f"scripts/{launcher.name}.slurm", done.stderr.replace(f"{file}: ", "").splitlines()[0])


def find_unpaired_configurations(context: Context) -> Iterator[Finding]:
    """A configuration without a launcher."""
    named = {launcher.config for launcher in context.launchers}
    swept = {name for run in context.runs if run.config + "_run" in named for name in run.configurations}
    own = [launcher for launcher in context.launchers if not launcher.is_paired]
    for name in context.configurations:
        if name not in named | swept and not any(launcher.mentions(name) for launcher in own):
            yield Finding(f"conf/{name}.yaml", "has no launcher")


def find_foreign_options(context: Context) -> Iterator[Finding]:
    """A partition or an account that neither a machine nor a recorded run has."""
    if not context.release:
        return
    for option in ("partition", "account"):
        known = {str(machine.get("sbatch", {}).get(option)) for machine in context.release.machines.values()}
        known |= {str(run.options.get(option)) for run in context.runs}
        for launcher in context.launchers:
            for value in launcher.option_values(option):
                if value not in known:
                    words = f"requests {option} {one_line(value)}, which no machine of lab.yml has"
                    yield Finding(f"scripts/{launcher.name}.slurm", words)


def find_ignored_directives(context: Context) -> Iterator[Finding]:
    """An #SBATCH line that Slurm ignores."""
    for launcher in context.launchers:
        for line in launcher.ignored_directives():
            yield Finding(f"scripts/{launcher.name}.slurm", f"has a line that Slurm ignores: {one_line(line)}")


def find_paths_of_one_machine(context: Context) -> Iterator[Finding]:
    """A launcher with a path that exists on one machine only."""
    for launcher in context.launchers:
        code = "\n".join(launcher.code())
        for match in [*HOME.findall(code), *(path for path in IMAGES.findall(code) if not HOME.match(path))]:
            yield Finding(f"scripts/{launcher.name}.slurm", f"has a path of one machine: {one_line(match)}")


def find_shared_numbers(context: Context) -> Iterator[Finding]:
    """Two launchers of a script with one number."""
    machines = context.release.machines if context.release else {}
    first: dict[tuple[str, str], str] = {}
    for launcher in context.launchers:
        name = next(LauncherName.parse(launcher.name, machines), None)
        if name:
            other = first.setdefault((name.script, name.number), launcher.name)
            if other != launcher.name:
                words = f"has the number {name.number}, but so does scripts/{other}.slurm"
                yield Finding(f"scripts/{launcher.name}.slurm", words)


def find_missing_logs(context: Context) -> Iterator[Finding]:
    """A missing folder of logs, which Slurm neither makes nor reports."""
    if context.launchers and not (context.path / "slurm/output").is_dir():
        yield Finding("slurm/output", "is missing, so Slurm would lose every log")


def find_remains(context: Context) -> Iterator[Finding]:
    """Rejected changes and conflict markers of an update."""
    for folder in (".", "conf", "queries", "scripts", "scripts/runtime"):
        for file in sorted((context.path / folder).glob("*")):
            name = file.relative_to(context.path).as_posix()
            if not file.is_file() or file.stat().st_size > LARGEST_TEXT:
                continue
            if file.suffix == ".rej":
                yield Finding(name, "is a change that an update could not apply")
            elif MARKER.search(file.read_bytes()):
                yield Finding(name, "has conflict markers")


CHECKS: tuple[Callable[[Context], Iterator[Finding]], ...] = (
    find_version,
    find_name_mismatch,
    find_missing_files,
    find_edited_library,
    find_missing_programs,
    find_broken_launchers,
    find_unpaired_launchers,
    find_foreign_options,
    find_ignored_directives,
    find_paths_of_one_machine,
    find_shared_numbers,
    find_unpaired_configurations,
    find_missing_logs,
    find_remains,
)


def load_context(experiment: Experiment, templates: Templates) -> Context:
    """Return an experiment with its template, if that can be fetched."""
    context = Context(experiment.path)
    if not (experiment.path / ANSWERS).exists():
        return context
    try:
        context.answers = experiment.answers()
        context.release = templates.recorded(context.answers)
        template = templates.get(context.answers.source)
        context.newest = template.newer_than(context.answers.version, context.release.commit)
        context.runs = context.release.parse_runs(context.answers.values, context.answers.values["runs"])
    except Problem as problem:
        context.problem = str(problem)
    return context


def check(paths: list[str], compose: bool) -> int:
    """Print one line for each finding. Returns 1 if there is one, else 0."""
    if compose and not find_spec("hydra"):
        raise Problem("--compose needs Hydra", "Install hydra-core beside experiments: `uvx --with hydra-core ...`")
    experiments, problems = find_each(paths, open_folder)
    found = bool(problems)
    for problem in problems.values():
        print(problem)
    with Templates.temporary() as templates:
        for experiment in experiments:
            for finding in findings(experiment, templates, compose):
                found = True
                print(f"{experiment.name}/{finding.path}: {one_line(finding.what)}")
    return int(found)


def findings(experiment: Experiment, templates: Templates, compose: bool) -> Iterator[Finding]:
    """Yield the findings of all rules. A rule that fails is a finding too."""
    context = load_context(experiment, templates)
    rules = (*CHECKS, find_uncomposed) if compose else CHECKS
    for rule in rules:
        try:
            yield from rule(context)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            yield Finding(".", f"cannot be checked: {reason(error)}")


def open_folder(path: str) -> Experiment:
    """Return the experiment at a path, adopted or not. Raises Problem if there is none."""
    folder = find_folder(path)
    if not (folder / ANSWERS).exists() and not (folder / "scripts").is_dir():
        raise Problem(f"{path} has neither {ANSWERS} nor scripts/, so it is not an experiment")
    return Experiment(folder, Repository.find(folder))


def find_uncomposed(context: Context) -> Iterator[Finding]:
    """A configuration that Hydra cannot compose, or that lacks a value."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    if not (context.path / "conf").is_dir():
        return
    with initialize_config_dir(str(context.path / "conf"), version_base="1.3"):
        for name in context.configurations:
            if program_of(context.path / f"conf/{name}.yaml"):
                continue
            try:
                composed = OmegaConf.to_container(compose(name), resolve=False)
            except Exception as error:  # the errors of Hydra, OmegaConf and YAML have no common class
                yield Finding(f"conf/{name}.yaml", f"does not compose: {reason(error)}")
                continue
            if missing := list(find_missing(composed)):
                yield Finding(f"conf/{name}.yaml", f"lacks a value of {', '.join(missing)}")


def find_missing(value: Any, name: str = "") -> Iterator[str]:
    """Yield the dotted names of values that are ??? in a composed configuration."""
    if value == "???":
        yield name
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from find_missing(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from find_missing(part, f"{name}[{number}]")
