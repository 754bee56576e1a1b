"""Recognize the runs of a folder without the template, by what its launchers start and request."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

from experiments.edit_runs import CONFIG_ID, Request, make_entry, value_of
from experiments.errors import Problem
from experiments.launcher import CONFIG_NAME, Launcher, LauncherName, Start, Syntax
from experiments.program import Program
from experiments.shell import ANY
from experiments.template import Release, Run

# sbatch options that the template sets, or that have no meaning for a run.
TEMPLATE_OPTIONS = {"job-name", "output", "error", "chdir", "wrap", "open-mode", "parsable", "quiet", "verbose", "help"}

SWEEP_ID = "wandb"
PLAIN = "plain"
ARGUMENT = re.compile(r"\$(?:1\b|\{1\W)")  # the launcher's first argument
BACKGROUND = re.compile(r"[^&<>|]&[ \t]*(?:#.*)?(?:$|[;)]|done\b)", re.MULTILINE)
SWEEP_PROGRAM = re.compile(r"^program:\s*[\"']?(\S+?\.py)[\"']?\s*$", re.MULTILINE)

# A configuration that adopt wrote, because the run's own configuration has another name.
INHERITS = re.compile(r"^defaults: \[(?:runtime, )?(\S+), _self_\]$", re.MULTILINE)


@dataclass(frozen=True)
class Candidate:
    """A launcher that is one run of one script."""

    launcher: str  # its file's name without .slurm
    program: str  # its script's file without .py, which may not be the name of a module
    machine: str
    mode: str
    id: str  # empty: any that is free
    config: str  # the configuration that it names; the sweep's file, if it starts W&B agents
    request: Request  # beyond the machine's entry in lab.yml
    overrides: tuple[str, ...] = ()
    takes_config: bool = False  # whether its configuration is its first argument; it has no ID then

    @property
    def script(self) -> str:
        """The name that the answers record."""
        return re.sub(r"\W", "_", self.program, flags=re.ASCII)

    @property
    def token(self) -> str:
        machine = self.machine if self.mode == "one" else f"{self.machine}-{self.mode}"
        return f"{machine}_{self.id}" if self.id else machine

    @property
    def is_plain(self) -> bool:
        """Whether its script does not use Hydra."""
        return self.mode == PLAIN

    @property
    def untransferable(self) -> list[str]:
        """The arguments that only this launcher can have: those with its variables, and Hydra options."""
        return [word for word in self.overrides if ANY in word or (word.startswith("-") and not self.is_plain)]


@dataclass(frozen=True)
class Recognized:
    """A launcher that is a run, and the names that the template gives to that run."""

    candidate: Candidate
    run: Run

    @property
    def is_renamed(self) -> bool:
        """Return whether the template gives another name to its launcher or its configuration."""
        return (self.run.launcher, self.run.config) != (self.candidate.launcher, self.candidate.config)


@dataclass
class Recognition:
    """The runs of a folder, and the launchers that are not runs."""

    runs: list[Recognized] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)  # the reason by the launcher's name

    @property
    def answer(self) -> dict[str, list[Any]]:
        """The answer to `runs`."""
        return answer_of([recognized.candidate for recognized in self.runs])


def recognize(folder: Path, answers: Mapping[str, Any], release: Release, syntax: Syntax) -> Recognition:
    """Return the runs of a folder. A launcher is a run if it starts one script with one configuration."""
    launchers = syntax.take(folder)
    errors = syntax.errors_of(launchers)
    others = {launcher.name: f"bash syntax error: {message}" for launcher, message in errors.items()}
    candidates = []
    for launcher in launchers:
        try:
            if launcher.name not in others:
                candidates.append(read_candidate(folder, launcher, release.machines))
        except Problem as problem:
            others[launcher.name] = str(problem)
    candidates = give_ids(folder, drop_shared(folder, candidates, others), release.machines)
    runs = parse_candidates(candidates, others, answers, release)
    return Recognition(runs, dict(sorted(others.items())))


def read_candidate(folder: Path, launcher: Launcher, machines: Mapping[str, Any]) -> Candidate:
    """Return the run of a launcher. Raises Problem with the reason if it is not a run."""
    for option in launcher.directives:
        if not option.is_known:
            raise Problem(f"unknown sbatch option --{option.name}")
    if launcher.runs_agents:
        return read_sweep(folder, launcher, machines)
    if not launcher.starts:
        raise Problem("starts no Python script")
    if len(launcher.starts) > 1:
        raise Problem(f"starts {len(launcher.starts)} Python scripts")
    [start] = launcher.starts
    mode = mode_of(launcher, start)
    program = program_of(start.script, folder)
    if start.config_folder:
        raise Problem("its configuration is in another folder")
    if program == "query":
        raise Problem("starts a query.py of its own")
    takes_config = ANY in "".join(start.configs) and ARGUMENT.search(launcher.text) is not None
    source = Program.read(folder / f"scripts/{program}.py")
    if mode == "one" and not source.has_hydra and not start.configs:
        mode = PLAIN
    config = "" if takes_config or mode == PLAIN else config_of(folder, start, source)
    found = None if takes_config else CONFIG_ID.search(launcher.name) or CONFIG_ID.search(config)
    machine = machine_of(launcher, machines)
    request = request_of(launcher, machines[machine])
    overrides = overrides_of(start)
    id = found[1] if found else ""
    return Candidate(launcher.name, program, machine, mode, id, config, request, overrides, takes_config)


def read_sweep(folder: Path, launcher: Launcher, machines: Mapping[str, Any]) -> Candidate:
    """Return the W&B sweep of a launcher that starts agents. Raises Problem if its file or its script is unknown."""
    found = {}
    for path in sorted(folder.glob("conf/*.yaml")):
        is_named = path.stem in launcher.name or path.name in launcher.text
        text = path.read_text(encoding="utf-8", errors="replace") if is_named else ""
        if sweep := SWEEP_PROGRAM.search(text):
            found[path.stem] = sweep[1]
    if not found:
        raise Problem("starts W&B agents, but its name does not contain the name of a sweep in conf/")
    config = max(found, key=len)
    program = program_of(found[config], folder)
    if not Program.read(folder / f"scripts/{program}.py").has_hydra:
        raise Problem(f"starts W&B agents of {program}.py, which does not use Hydra")
    mode = "pack" if str(launcher.options.get("ntasks", 1)) != "1" else "one"
    machine = machine_of(launcher, machines)
    return Candidate(launcher.name, program, machine, mode, SWEEP_ID, config, request_of(launcher, machines[machine]))


def machine_of(launcher: Launcher, machines: Mapping[str, Any]) -> str:
    """Return a launcher's machine: the longest that its name begins with, else the one that has its partition."""
    named = [name for name in machines if launcher.name.startswith(f"{name}_")]
    if named:
        return max(named, key=len)
    partition = launcher.options.get("partition")
    found = [
        name for name in machines if partition and (machines[name].get("sbatch") or {}).get("partition") == partition
    ]
    alike = [name for name in found if name.partition("_")[0] == launcher.name.partition("_")[0]]
    if len(alike or found) != 1:
        raise Problem("no machine in lab.yml has its name or its partition")
    return (alike or found)[0]


def mode_of(launcher: Launcher, start: Start) -> str:
    """Return the mode of a run by the command that starts it. A launcher of the template states it."""
    stated = launcher.script.variables.get("EXPERIMENT_MODE")
    if stated:
        return stated[0]
    if BACKGROUND.search(launcher.text):
        raise Problem("starts processes in the background")
    return start.mode


def program_of(script: str, folder: Path) -> str:
    """Return the name of a script of this experiment. Raises Problem if the path leads elsewhere or nowhere."""
    if not script or ANY in Path(script).name:
        raise Problem("its script is a variable")
    other = re.search(r"(?:^|/)experiments/([^/]+)/", script)
    if other and other[1] not in (folder.name, ANY):
        raise Problem(f"starts a script of experiments/{other[1]}")
    if not (folder / "scripts" / Path(script).name).is_file():
        raise Problem(f"its script {Path(script).name} is missing")
    return Path(script).stem


def config_of(folder: Path, start: Start, program: Program) -> str:
    """Return the configuration that a launcher names, or that its script has by default."""
    named = [config for config in start.configs if ANY not in config] if start.configs else [program.config]
    if len(named) != 1:
        raise Problem("its configuration is a variable")
    config = named[0].removesuffix(".yaml")
    if not config:
        raise Problem("names no configuration" if program.has_hydra else "its script does not use Hydra")
    if not (folder / f"conf/{config}.yaml").is_file():
        raise Problem(f"its configuration conf/{config}.yaml is missing")
    return config


def overrides_of(start: Start) -> tuple[str, ...]:
    """Return the arguments after the script, without the name of the configuration and the launcher's own arguments."""
    words = list(start.words[start.words.index(start.script) + 1 :])
    overrides = []
    while words:
        word = words.pop(0)
        if word in CONFIG_NAME:
            words = words[1:]
        elif word.partition("=")[0] not in CONFIG_NAME and word != ANY:
            overrides.append(word)
    return tuple(overrides)


def request_of(launcher: Launcher, machine: Mapping[str, Any]) -> Request:
    """Return the options that a launcher has beyond its machine's. An option of the machine that it lacks is null."""
    asked = {name: value for name, value in launcher.options.items() if name not in TEMPLATE_OPTIONS}
    own = {name: value for name, value in (machine.get("sbatch") or {}).items() if value is not None}
    request: Request = {name: None for name in own if name not in asked}
    for name, value in asked.items():
        if name not in own or str(own[name]) != str(value):
            request[name] = value_of(value) if isinstance(value, str) else value
    return request


def drop_shared(folder: Path, candidates: Sequence[Candidate], others: dict[str, str]) -> list[Candidate]:
    """Return the candidates that are the only run of their configuration, or the one with its name."""
    kept = []
    keys = {candidate.launcher: subject_of(folder, candidate) for candidate in candidates}
    count = Counter(keys.values())
    for candidate in candidates:
        key = keys[candidate.launcher]
        if count[key] == 1 or is_named(candidate):
            kept.append(candidate)
        else:
            rest = ", ".join(name for name in keys if keys[name] == key and name != candidate.launcher)
            relation = "runs the same command as" if candidate.is_plain else "has the configuration of"
            others[candidate.launcher] = f"{relation} {rest}"
    return kept


def subject_of(folder: Path, candidate: Candidate) -> tuple[str, ...]:
    """Return what only one run may compute: a configuration, or the command of a plain script on a machine."""
    if candidate.is_plain:
        return (candidate.script, candidate.machine, *candidate.overrides)
    return (candidate.script, origin_of(folder, candidate.config) or candidate.launcher)


def origin_of(folder: Path, config: str) -> str:
    """Return the configuration that another one inherits its values from, or that one itself."""
    if not config:
        return ""
    text = (folder / f"conf/{config}.yaml").read_text(encoding="utf-8", errors="replace")
    inherits = INHERITS.search(text)
    return inherits[1] if inherits and text == inherit(inherits[1]) else config


def inherit(config: str, runtime: bool = False) -> str:
    """Return the text of a configuration that has the values of another one, and those of the runtime if it is used."""
    return f"# The values are in {config}.yaml.\ndefaults: [{'runtime, ' if runtime else ''}{config}, _self_]\n"


def is_named(candidate: Candidate) -> bool:
    """Return whether a launcher and its configuration have the names that rules/names.jinja gives them."""
    if candidate.is_plain and not candidate.id:
        return candidate.launcher == f"{candidate.machine}_{candidate.script}-{PLAIN}"
    mode = "" if candidate.mode == "one" else candidate.mode
    name = LauncherName(candidate.machine, candidate.program, mode, candidate.id)
    label = candidate.machine.rpartition("_")[2]
    return (
        name in LauncherName.parse(candidate.launcher, [candidate.machine])
        and candidate.config == ("" if candidate.is_plain else f"{candidate.script}_{label}_{candidate.id}")
        and candidate.script == candidate.program
    )


def give_ids(folder: Path, candidates: Sequence[Candidate], machines: Collection[str]) -> list[Candidate]:
    """Return the candidates, each with an ID that no other run and no other file of its script has."""
    names = {path.stem for path in folder.glob("scripts/*.slurm")}
    given: list[Candidate] = []
    used_tokens: set[tuple[str, str]] = set()
    for candidate in sorted(candidates, key=lambda candidate: (not is_named(candidate), candidate.launcher)):
        has_no_id = candidate.takes_config or (
            candidate.is_plain and not candidate.id and (candidate.script, candidate.token) not in used_tokens
        )
        used_tokens.add((candidate.script, candidate.token))
        if not (is_named(candidate) or has_no_id or candidate.id == SWEEP_ID):
            used = ids_of_launchers(names - {candidate.launcher}, candidate.script, machines)
            used |= ids_of_configurations(folder, candidate.script, candidate.config)
            used |= {other.id.lower() for other in given if other.script == candidate.script}
            candidate = replace(candidate, id=choose_id(candidate.id, used))
        given.append(candidate)
    return sorted(given, key=lambda candidate: candidate.launcher)


def ids_of_launchers(names: Iterable[str], script: str, machines: Collection[str]) -> set[str]:
    """Return the IDs in the names of a script's launchers."""
    found = [name for launcher in names if script in launcher for name in LauncherName.parse(launcher, machines)]
    return {name.number.lower() for name in found if name.script == script}


def ids_of_configurations(folder: Path, script: str, own: str = "") -> set[str]:
    """Return the IDs in the names of a script's configurations, except in those with the values of `own`."""
    found = set()
    conf = folder / "conf"
    for file in matching(os.listdir(conf) if conf.is_dir() else [], f"{script}_*_[0-9][0-9][0-9]*.yaml"):
        name = file.removesuffix(".yaml")
        number = CONFIG_ID.search(name)
        if number and not (own and origin_of(folder, name) == own):
            found.add(number[1].lower())
    return found


def choose_id(wanted: str, used: set[str]) -> str:
    """Return the wanted ID if it is free, else the lowest free number."""
    if wanted and wanted.lower() not in used:
        return wanted
    return next((id for number in range(1000) if (id := f"{number:03}") not in used), "")


def parse_candidates(
    candidates: Sequence[Candidate], others: dict[str, str], answers: Mapping[str, Any], release: Release
) -> list[Recognized]:
    """Return the runs that the template's rules accept, and add the reasons of the others."""
    found, rest = None, list(candidates)
    while found is None:
        try:
            found = pair(rest, answers, release)
        except Problem as problem:
            wrong = next((each for each in reversed(rest) if is_about(problem, each)), None)
            if wrong is None:
                raise
            others[wrong.launcher] = str(problem)
            rest.remove(wrong)
    kept = []
    for recognized in found:
        if recognized.is_renamed and (words := recognized.candidate.untransferable):
            others[recognized.candidate.launcher] = f"its argument {words[0]} cannot be written into another launcher"
        else:
            kept.append(recognized)
    return kept


def is_about(problem: Problem, candidate: Candidate) -> bool:
    """Return whether the template's rules refuse this candidate."""
    return str(problem).startswith((f'run "{candidate.token}" of {candidate.script}: ', f"script {candidate.script} "))


def pair(candidates: Sequence[Candidate], answers: Mapping[str, Any], release: Release) -> list[Recognized]:
    """Return the runs of these candidates. Raises Problem, with the message of the rules, if one is not valid."""
    runs = {(run.script, run.token): run for run in release.parse_runs(answers, answer_of(candidates))}
    return [Recognized(candidate, runs[candidate.script, candidate.token]) for candidate in candidates]


def answer_of(candidates: Sequence[Candidate]) -> dict[str, list[Any]]:
    """Return an answer to `runs`."""
    answer: dict[str, list[Any]] = {}
    for candidate in candidates:
        answer.setdefault(candidate.script, []).append(make_entry(candidate.token, candidate.request))
    return answer
