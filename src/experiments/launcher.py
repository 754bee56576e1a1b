"""Launchers: what their names and their text state about what they run and request."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

RUN_ARRAY = re.compile(r"^run=\(\n(.*?)^\)$", re.MULTILINE | re.DOTALL)
CONFIG_OPTIONS = ("--config-name", "-cn")
SHORT_OPTIONS = {"p": "partition", "A": "account"}


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
class Launcher:
    """A file scripts/*.slurm."""

    name: str  # without .slurm
    lines: list[str]
    config: str  # the configuration that it names; empty if it names none
    is_query: bool  # whether it runs a query, which has no configuration
    is_paired: bool  # whether it names its configuration in `run=( ... )`
    is_readable: bool = True  # whether `run=( ... )` could be split into words

    @classmethod
    def read(cls, path: Path) -> "Launcher":
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines()
        array = RUN_ARRAY.search("\n".join(lines) + "\n")
        stated = shell_words(array[1]) if array else None
        words = guess_words(lines) if stated is None else stated
        is_readable = not array or stated is not None
        return cls(path.stem, lines, config_of(words), runs_query(words), bool(array), is_readable)

    def option_values(self, option: str) -> list[str]:
        """Return the values of an option of sbatch in the #SBATCH lines."""
        values = []
        for line in self.directives():
            words = shell_words(line)
            if words is None:
                words = line.split()
            for number, word in enumerate(words):
                name, equals, value = word.partition("=")
                if name == f"--{option}":
                    values.append(value if equals else "".join(words[number + 1 : number + 2]))
                elif SHORT_OPTIONS.get(word[1:2]) == option and word.startswith("-") and not word.startswith("--"):
                    values.append(word[2:] or "".join(words[number + 1 : number + 2]))
        return values

    def directives(self) -> list[str]:
        """Return the options of the #SBATCH lines that Slurm reads: those before the first command."""
        found = []
        for line in self.lines:
            if line.startswith("#SBATCH"):
                found.append(line.removeprefix("#SBATCH"))
            elif line.strip() and not line.lstrip().startswith("#"):
                break
        return found

    def ignored_directives(self) -> list[str]:
        """Return the #SBATCH lines that Slurm ignores: those after the first command, and indented ones."""
        read = len(self.directives())
        return [line for line in self.lines if line.lstrip().startswith("#SBATCH")][read:]

    def mentions(self, config: str) -> bool:
        """Return whether the name of a configuration is anywhere in its code, as in an array or a default value."""
        code = "\n".join(self.code())
        return re.search(rf"(?<!\w){re.escape(config)}(?![\w-])", code) is not None

    def code(self) -> list[str]:
        """Return its lines without whole-line comments."""
        return [line for line in self.lines if not line.lstrip().startswith("#") or line.startswith("#SBATCH")]


def shell_words(text: str) -> list[str] | None:
    """Split bash into words, without comments. Returns None if a quote is not closed."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return None


def guess_words(lines: list[str]) -> list[str]:
    """Split the commands of a launcher that the template did not make. It is only good for `--config-name NAME`."""
    code = [line for line in lines if not line.lstrip().startswith("#")]
    return re.split(r"[\s()'\";|&]+", "\n".join(code))


def config_of(words: list[str]) -> str:
    """Return the configuration of the last `--config-name NAME` or `--config-name=NAME`."""
    found = ""
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in CONFIG_OPTIONS:
            found = value or "".join(words[number + 1 : number + 2])  # --config-name="NAME" is two words of a guess
    return found.removesuffix(".yaml").rpartition("/")[2]


def runs_query(words: list[str]) -> bool:
    return any(word.rpartition("/")[2] == "query.py" for word in words)
