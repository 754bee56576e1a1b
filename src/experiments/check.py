"""`experiments check`: what is wrong with experiments, one rule a function."""

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
from experiments.experiment import Answers, Experiment, Templates, find_each, find_experiments
from experiments.git import Repository
from experiments.launcher import Launcher
from experiments.template import ANSWERS, Release, Run

SHARED = {"default", "runtime"}  # configurations of all runs
LARGEST_TEXT = 1_000_000  # bytes: of what is larger, conflict markers are not looked for

# Linear in a line's length: no part can match what the one before it matches.
HOME = re.compile(r"/(?:home|Users|u)/[A-Za-z0-9._-]+(?:/[^\s\"':;)]*)?")
IMAGES = re.compile(r"(?<![^\s\"'=(])/[^\s\"':;)]*?/images/[^\s\"':;)]*")
MARKER = re.compile(rb"^(?:<{7}|>{7}) ", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where: a path in the experiment."""

    path: str
    what: str


@dataclass
class Subject:
    """What the rules look at."""

    path: Path
    answers: Answers | None = None  # None: it was never adopted
    release: Release | None = None  # the version that it has
    newest: str = ""  # the newest version, if that is another
    runs: list[Run] = field(default_factory=list)
    problem: str = ""  # why it cannot be compared with the template

    @cached_property
    def launchers(self) -> list[Launcher]:
        return [Launcher.read(path) for path in sorted(self.path.glob("scripts/*.slurm")) if path.is_file()]

    @cached_property
    def configurations(self) -> list[str]:
        """Files of conf/ that a run may name."""
        names = sorted(path.stem for path in self.path.glob("conf/*.yaml") if path.is_file())
        return [name for name in names if name not in SHARED]


def find_version(subject: Subject) -> Iterator[Finding]:
    """It is behind, or its template cannot be read."""
    if subject.problem:
        yield Finding(ANSWERS, f"cannot be compared with the template: {subject.problem}")
    elif subject.newest and subject.answers:
        yield Finding(ANSWERS, f"is at {subject.answers.version}, and the newest release is {subject.newest}")


def find_misnamed(subject: Subject) -> Iterator[Finding]:
    """A folder that was copied or renamed, whose files are those of another experiment."""
    if subject.answers and (problem := subject.answers.misnamed(subject.path)):
        yield Finding(ANSWERS, problem)


def find_gone(subject: Subject) -> Iterator[Finding]:
    """A file of a recorded run, or of the template, is not there."""
    for run in subject.runs:
        for name in (f"scripts/{run.script}.py", *run.files):
            if not (subject.path / name).exists():
                yield Finding(name, "is gone, and the answers have its run")
    for name in subject.release.fixed_scripts() if subject.release else []:
        if not (subject.path / name).exists():
            yield Finding(name, "is gone, and the template has it")


def find_unpaired_launchers(subject: Subject) -> Iterator[Finding]:
    """A launcher without a configuration."""
    for launcher in subject.launchers:
        if launcher.is_query:
            continue
        if not launcher.config:
            yield Finding(f"scripts/{launcher.name}.slurm", "names no configuration")
        elif "$" not in launcher.config and launcher.config not in subject.configurations:
            yield Finding(f"scripts/{launcher.name}.slurm", f"has no configuration conf/{launcher.config}.yaml")


def program_of(path: Path) -> str:
    """The program of a sweep that W&B reads, which is no configuration of Hydra; nothing for any other file."""
    try:
        loaded: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return ""
    is_sweep = isinstance(loaded, dict) and {"program", "method", "parameters"} <= loaded.keys()
    return str(loaded["program"]) if is_sweep else ""


def find_gone_programs(subject: Subject) -> Iterator[Finding]:
    """A sweep by W&B of a script that is not there, as after a rename."""
    for run in subject.runs:
        name = f"conf/{run.config.removesuffix('_run')}.yaml"
        program = program_of(subject.path / name) if run.sweeper == "wandb" else ""
        if program and not (subject.path.parents[1] / program).is_file():
            yield Finding(name, f"names the program {one_line(program)}, which is not there")


def find_broken_launchers(subject: Subject) -> Iterator[Finding]:
    """A launcher that bash cannot read, of those whose `run=( ... )` cannot be taken apart."""
    for launcher in subject.launchers:
        if not launcher.is_readable:
            file = subject.path / f"scripts/{launcher.name}.slurm"
            done = subprocess.run(["bash", "-n", file], capture_output=True, text=True, errors="replace")
            if done.returncode:
                yield Finding(f"scripts/{launcher.name}.slurm", done.stderr.replace(f"{file}: ", "").splitlines()[0])


def find_unpaired_configurations(subject: Subject) -> Iterator[Finding]:
    """A configuration without a launcher."""
    named = {launcher.config for launcher in subject.launchers}
    swept = {name for run in subject.runs if run.config + "_run" in named for name in run.configurations}
    own = [launcher for launcher in subject.launchers if not launcher.is_paired]
    for name in subject.configurations:
        if name not in named | swept and not any(launcher.names(name) for launcher in own):
            yield Finding(f"conf/{name}.yaml", "has no launcher")


def find_foreign_options(subject: Subject) -> Iterator[Finding]:
    """A partition or an account that neither a machine nor a run of the answers has."""
    if not subject.release:
        return
    for option in ("partition", "account"):
        known = {str(machine.get("sbatch", {}).get(option)) for machine in subject.release.machines.values()}
        known |= {str(run.options.get(option)) for run in subject.runs}
        for launcher in subject.launchers:
            for value in launcher.asked_for(option):
                if value not in known:
                    words = f"asks for {option} {one_line(value)}, which no machine of lab.yml has"
                    yield Finding(f"scripts/{launcher.name}.slurm", words)


def find_ignored_directives(subject: Subject) -> Iterator[Finding]:
    """A line of #SBATCH that Slurm does not read."""
    for launcher in subject.launchers:
        for line in launcher.ignored_directives():
            yield Finding(f"scripts/{launcher.name}.slurm", f"has a line that Slurm ignores, {one_line(line)}")


def find_paths_of_one_machine(subject: Subject) -> Iterator[Finding]:
    """A launcher with a path that other machines do not have."""
    for launcher in subject.launchers:
        code = "\n".join(launcher.code())
        for match in [*HOME.findall(code), *(path for path in IMAGES.findall(code) if not HOME.match(path))]:
            yield Finding(f"scripts/{launcher.name}.slurm", f"has a path of one machine, {one_line(match)}")


def find_shared_numbers(subject: Subject) -> Iterator[Finding]:
    """Two launchers of a script with one number."""
    machines = subject.release.machines if subject.release else {}
    first: dict[tuple[str, str], str] = {}
    for launcher in subject.launchers:
        run = re.fullmatch(r"(.+?)_([0-9]{3}(?:_[A-Za-z0-9]+)*)", launcher.name)
        machine = next((name for name in machines if run and run[1].startswith(f"{name}_")), None)
        if run is None or machine is None:
            continue
        script = run[1].removeprefix(f"{machine}_").partition("-")[0]
        other = first.setdefault((script, run[2]), launcher.name)
        if other != launcher.name:
            words = f"has the number {run[2]}, which is that of scripts/{other}.slurm too"
            yield Finding(f"scripts/{launcher.name}.slurm", words)


def find_missing_logs(subject: Subject) -> Iterator[Finding]:
    """No folder for logs: Slurm makes none, and says nothing."""
    if subject.launchers and not (subject.path / "slurm/output").is_dir():
        yield Finding("slurm/output", "is missing, so Slurm would lose every log")


def find_remains(subject: Subject) -> Iterator[Finding]:
    """What an update left: files of rejected changes, and conflict markers."""
    for folder in (".", "conf", "queries", "scripts", "scripts/runtime"):
        for file in sorted((subject.path / folder).glob("*")):
            name = file.relative_to(subject.path).as_posix()
            if not file.is_file() or file.stat().st_size > LARGEST_TEXT:
                continue
            if file.suffix == ".rej":
                yield Finding(name, "is what an update could not apply")
            elif MARKER.search(file.read_bytes()):
                yield Finding(name, "has conflict markers")


CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    find_version,
    find_misnamed,
    find_gone,
    find_gone_programs,
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


def look_at(experiment: Experiment, templates: Templates) -> Subject:
    """An experiment, and its template where that can be fetched."""
    subject = Subject(experiment.path)
    if not (experiment.path / ANSWERS).exists():
        return subject
    try:
        subject.answers = experiment.answers()
        subject.release = templates.recorded(subject.answers)
        template = templates.get(subject.answers.source)
        subject.newest = template.newer_than(subject.answers.version, subject.release.commit)
        subject.runs = subject.release.parse_runs(subject.answers.values, subject.answers.values["runs"])
    except Problem as problem:
        subject.problem = str(problem)
    return subject


def check(paths: list[str], compose: bool) -> int:
    """Print one line for each finding. Returns 1 if there is one."""
    if compose and not find_spec("hydra"):
        raise Problem("--compose needs Hydra", "install hydra-core beside experiments: `uvx --with hydra-core ...`")
    experiments, problems = find_each(paths, find_experiment) if paths else (find_experiments([]), {})
    found = bool(problems)
    for problem in problems.values():
        print(problem)
    with Templates.kept() as templates:
        for experiment in experiments:
            for finding in findings(experiment, templates, compose):
                found = True
                print(f"{experiment.name}/{finding.path}: {one_line(finding.what)}")
    return int(found)


def findings(experiment: Experiment, templates: Templates, compose: bool) -> Iterator[Finding]:
    """Of all rules; one that fails is a finding itself."""
    subject = look_at(experiment, templates)
    rules = (*CHECKS, find_uncomposed) if compose else CHECKS
    for rule in rules:
        try:
            yield from rule(subject)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            yield Finding(".", f"cannot be checked: {reason(error)}")


def find_experiment(path: str) -> Experiment:
    """That at a path, adopted or not. Raises Problem where there is none."""
    folder = Path(path).resolve()
    if not (folder / ANSWERS).exists() and not (folder / "scripts").is_dir():
        raise Problem(f"{path} has neither {ANSWERS} nor scripts/, so it is no experiment")
    return Experiment(folder, Repository.of(folder))


def find_uncomposed(subject: Subject) -> Iterator[Finding]:
    """A configuration that Hydra cannot compose, or that has a value missing."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    if not (subject.path / "conf").is_dir():
        return
    with initialize_config_dir(str(subject.path / "conf"), version_base="1.3"):
        for name in subject.configurations:
            if program_of(subject.path / f"conf/{name}.yaml"):
                continue
            try:
                composed = OmegaConf.to_container(compose(name), resolve=False)
            except Exception as error:  # of Hydra, OmegaConf and YAML, which share no class
                yield Finding(f"conf/{name}.yaml", f"does not compose: {reason(error)}")
                continue
            if missing := list(find_missing(composed)):
                yield Finding(f"conf/{name}.yaml", f"has no value of {', '.join(missing)}")


def find_missing(value: Any, name: str = "") -> Iterator[str]:
    """The dotted names of values that are ??? in a composed configuration."""
    if value == "???":
        yield name
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from find_missing(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from find_missing(part, f"{name}[{number}]")
