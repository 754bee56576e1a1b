"""A launcher, as far as its text says what it runs and asks for."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

RUN_ARRAY = re.compile(r"^run=\(\n(.*?)^\)$", re.MULTILINE | re.DOTALL)
CONFIG_OPTIONS = ("--config-name", "-cn")
SHORT_OPTIONS = {"p": "partition", "A": "account"}


def is_templates(content: bytes) -> bool:
    """Whether a launcher was rendered by the template, edited or not: one that tells Python how it is started."""
    return b"EXPERIMENT_MODE" in content


@dataclass(frozen=True)
class Launcher:
    """A file scripts/*.slurm."""

    name: str  # without .slurm
    lines: list[str]
    config: str  # the configuration that it names, or nothing
    is_query: bool  # whether it runs a query, which has no configuration
    is_paired: bool  # whether it states its pairing in `run=( ... )`
    is_readable: bool = True  # whether that could be taken apart

    @classmethod
    def read(cls, path: Path) -> "Launcher":
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines()
        array = RUN_ARRAY.search("\n".join(lines) + "\n")
        stated = shell_words(array[1]) if array else None
        words = guess_words(lines) if stated is None else stated
        is_readable = not array or stated is not None
        return cls(path.stem, lines, config_of(words), is_query(words), bool(array), is_readable)

    def asked_for(self, option: str) -> list[str]:
        """The values of an option of sbatch in its directives."""
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
        """What its #SBATCH lines say, as Slurm reads them: before the first command."""
        found = []
        for line in self.lines:
            if line.startswith("#SBATCH"):
                found.append(line.removeprefix("#SBATCH"))
            elif line.strip() and not line.lstrip().startswith("#"):
                break
        return found

    def ignored_directives(self) -> list[str]:
        """#SBATCH lines after the first command, and those that begin with blanks: Slurm reads neither."""
        read = len(self.directives())
        return [line for line in self.lines if line.lstrip().startswith("#SBATCH")][read:]

    def names(self, config: str) -> bool:
        """Whether it has the name of a configuration anywhere, as in an array or in the default of a variable."""
        code = "\n".join(self.code())
        return re.search(rf"(?<!\w){re.escape(config)}(?![\w-])", code) is not None

    def code(self) -> list[str]:
        """Its lines without whole-line comments."""
        return [line for line in self.lines if not line.lstrip().startswith("#") or line.startswith("#SBATCH")]


def shell_words(text: str) -> list[str] | None:
    """The words of a text of bash without comments; None where a quote is open."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return None


def guess_words(lines: list[str]) -> list[str]:
    """The words of the commands of a launcher that was not made by the template.

    Comments are left out, quotes and brackets taken off: enough for `--config-name NAME` in most of them, no more.
    """
    code = [line for line in lines if not line.lstrip().startswith("#")]
    return re.split(r"[\s()'\";|&]+", "\n".join(code))


def config_of(words: list[str]) -> str:
    """The configuration of the last `--config-name NAME` or `--config-name=NAME`."""
    found = ""
    for number, word in enumerate(words):
        name, _, value = word.partition("=")
        if name in CONFIG_OPTIONS:
            found = value or "".join(words[number + 1 : number + 2])  # it has a quote between the two
    return found.removesuffix(".yaml").rpartition("/")[2]


def is_query(words: list[str]) -> bool:
    return any(word.rpartition("/")[2] == "query.py" for word in words)
