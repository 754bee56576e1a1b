"""Read what launchers run and request, from their names and text. They are never executed."""

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from experiments.sbatch import Option, parse_options
from experiments.shell import ANY, Command, Script, pattern_of

CONFIG_NAME = ("--config-name", "-cn")
CONFIG_PATH = ("--config-path", "-cp")
CONFIG_DIR = ("--config-dir", "-cd")
INTERPRETER = re.compile(r"i?python[\d.]*|torchrun|accelerate|deepspeed|uv|pixi")
PREFIXES = {"srun", "exec", "env", "time", "nohup", "nice", "numactl"}
PARENT = "scripts/runtime/point.py"  # it starts the script that follows
SHELL = {"bash", "sh", "source", ".", "sbatch"}
# Bash cannot read this line if the file before it left a quote open: then `;;)` is not quoted, which is valid nowhere.
FENCE = ": \";;)\" ';;)' `;;)`\n"

DDP = {"torchrun", "accelerate", "deepspeed", "torch.distributed.run", "torch.distributed.launch"}


def is_rendered(content: bytes) -> bool:
    """Return whether the template rendered a launcher, edited or not. For a machine without Slurm it sets no mode."""
    return b"EXPERIMENT_MODE" in content or b'"${python[@]}"' in content


@dataclass(frozen=True)
class LauncherName:
    """A name MACHINE_SCRIPT[-MODE]_NUMBER, the inverse of what rules/runs.jinja composes. Sweeps have no number."""

    machine: str
    script: str
    mode: str
    number: str  # with what follows it, like 002_test

    @classmethod
    def parse(cls, name: str, machines: Iterable[str]) -> Iterator["LauncherName"]:
        """Yield each way to read a launcher's name. There may be two: `igb_cabbi_x_000` if `igb` is a machine too."""
        for machine in machines:
            pattern = rf"{re.escape(machine)}_(.+?)(?:-([a-z]+))?_([0-9]{{3}}(?:_[A-Za-z0-9]+)*)"
            if found := re.fullmatch(pattern, name):
                yield cls(machine, found[1], found[2] or "", found[3])

    @property
    def token(self) -> str:
        """The run as the answers record it."""
        return f"{self.machine}-{self.mode}_{self.number}" if self.mode else f"{self.machine}_{self.number}"


@dataclass(frozen=True)
class Start:
    """A Python script that a launcher starts, with the texts that its words may become. Unknown parts are `*`."""

    script: str  # as written, like */experiments/006-growth/scripts/train.py; empty if there is only --config-name
    words: tuple[str, ...]  # of the whole command line, from srun to the last argument
    configs: tuple[str, ...]  # alternatives of --config-name
    config_folder: str  # of --config-path; * if --config-dir adds one; empty if neither is given
    config_pattern: str = ""  # --config-name with * for every variable, whether its value is known or not

    @property
    def mode(self) -> str:
        """How Python is started: ddp, srun or one."""
        names = {word.rpartition("/")[2] for word in self.words}
        return "ddp" if names & DDP else "srun" if "srun" in names else "one"


@dataclass(frozen=True)
class Launcher:
    """A file scripts/*.slurm."""

    name: str  # without .slurm
    text: str  # with its own line ends

    @classmethod
    def read(cls, path: Path) -> "Launcher":
        return cls(path.stem, path.read_bytes().decode(errors="replace"))

    @property
    def file(self) -> str:
        """Its path in the experiment."""
        return f"scripts/{self.name}.slurm"

    @cached_property
    def script(self) -> Script:
        return Script.parse(self.text)

    @cached_property
    def commands(self) -> list[Command]:
        """Its commands, without those that only print."""
        return [command for command in self.script.commands if not command.is_message]

    @cached_property
    def directives(self) -> list[Option]:
        """The options in its #SBATCH lines, in order."""
        return [option for line in self.script.directives for option in parse_options(line.words)]

    @cached_property
    def options(self) -> dict[str, str | bool]:
        """The options in its #SBATCH lines by their long names. Slurm takes the last value of each."""
        return {option.name: option.value for option in self.directives}

    @cached_property
    def starts(self) -> list[Start]:
        """The Python scripts that it starts, without the template's own check of a job."""
        starts = filter(None, map(self.start_of, self.commands))
        return [start for start in starts if "/scripts/runtime/" not in start.script]

    @property
    def is_rendered(self) -> bool:
        return is_rendered(self.text.encode())

    @property
    def config(self) -> str:
        """The configuration that it names in `run=( ... )`, or where it starts Python; empty if it names none."""
        named = [option_value(self.script.variables.get("run", ()), CONFIG_NAME)]
        named += [config for start in self.starts for config in start.configs]
        return next((config for config in named if config and "$" not in config and ANY not in config), "")

    def start_of(self, command: Command) -> Start | None:
        """Return the Python script that a command starts; None if it starts none."""
        written = self.script.spread(command)
        words = tuple(self.script.expand(word)[0] for word in written)
        script = python_script(words)
        config = option_value(written, CONFIG_NAME)
        if not script and not config:
            return None
        texts = self.script.expand(config) if config else []
        folder = ANY if option_value(words, CONFIG_DIR) else option_value(words, CONFIG_PATH)
        return Start(script, words, tuple(texts), folder, pattern_of(config))

    @cached_property
    def scripts(self) -> list[str]:
        """The Python and bash scripts that it runs, as written, with `*` for unknown parts."""
        shell = [shell_script([self.script.expand(word)[0] for word in command.words]) for command in self.commands]
        return [*(start.script for start in self.starts if start.script), *(name for name in shell if name)]

    @property
    def runs_agents(self) -> bool:
        """Return whether it starts agents of a W&B sweep."""
        return any(
            pair == ("wandb", "agent")
            for command in self.commands
            for pair in zip(command.words, command.words[1:], strict=False)
        )


def python_script(words: Iterable[str]) -> str:
    """Return the Python script that a command starts: the first *.py after an interpreter; empty if there is none."""
    follows, is_first = False, True
    for word in words:
        name = word.rpartition("/")[2]
        if word.endswith(".py") and (follows or is_first) and not word.endswith(PARENT):
            return word
        # An unknown command, like "$PYTHON", may be an interpreter. An unknown argument, as in `cp "$1" x.py`, is not.
        follows = follows or bool(INTERPRETER.fullmatch(name)) or (is_first and word == ANY)
        is_first = is_first and (name in PREFIXES or word.startswith("-"))
    return ""


def shell_script(words: list[str]) -> str:
    """Return the bash script that a command runs or submits; empty if there is none."""
    if not words or words[0].rpartition("/")[2] not in SHELL:
        return ""
    return next((word for word in words[1:] if word.endswith((".sh", ".bash", ".slurm", ".sbatch"))), "")


def option_value(words: Iterable[str], names: tuple[str, ...]) -> str:
    """Return the value of the last `--option VALUE` or `--option=VALUE`; empty if there is none."""
    found, listed = "", list(words)
    for number, word in enumerate(listed):
        name, equals, value = word.partition("=")
        if name in names:
            found = value if equals else "".join(listed[number + 1 : number + 2])
    return found


def read_launchers(folder: Path) -> list[Launcher]:
    """Return the launchers of an experiment, in the order of their names."""
    return [Launcher.read(path) for path in sorted(folder.glob("scripts/*.slurm")) if path.is_file()]


@dataclass
class Syntax:
    """What bash reports about the launchers of several experiments. It reads all of them in the time of one."""

    folders: Sequence[Path]
    read: dict[Path, list[Launcher]] = field(default_factory=dict)  # and not yet taken

    def take(self, folder: Path) -> list[Launcher]:
        """Return the launchers of an experiment. They are not kept, because their parsed text is large."""
        if folder in self.read:
            return self.read.pop(folder)
        return read_launchers(folder)

    @cached_property
    def errors(self) -> dict[Launcher, str]:
        """The launchers that bash cannot read, each with its message."""
        for folder in self.folders:
            with suppress(OSError):  # who reads that folder alone reports it
                self.read[folder] = read_launchers(folder)
        return syntax_errors([launcher for launchers in self.read.values() for launcher in launchers])

    def errors_of(self, launchers: Iterable[Launcher]) -> dict[Launcher, str]:
        """Return the launchers among these that bash cannot read, each with its message."""
        return {launcher: self.errors[launcher] for launcher in launchers if launcher in self.errors}


def syntax_errors(launchers: Sequence[Launcher]) -> dict[Launcher, str]:
    """Return the launchers that bash cannot read, each with its message. Both halves are read again to find them."""
    text = "".join(f"f() {{\n:\n{launcher.text}\n\n}}\n{FENCE}" for launcher in launchers)
    if not text or not bash_message(text):
        return {}
    if len(launchers) == 1:
        message = bash_message(launchers[0].text)
        return {launchers[0]: message} if message else {}
    middle = len(launchers) // 2
    return syntax_errors(launchers[:middle]) | syntax_errors(launchers[middle:])


def bash_message(text: str) -> str:
    """Return what bash prints first about a text that it cannot read; empty if it can. Nothing is executed."""
    done = subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True)
    lines = done.stderr.decode(errors="replace").splitlines()
    return lines[0].removeprefix("bash: ") if lines else ""
