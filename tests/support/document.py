"""Documents as sessions: what a page tells people to type is typed, top to bottom, and what it shows is compared.

In a page, a block of `bash` is typed line by line and must succeed; a block of `console` shows what each command after
`$` prints; any other block with a file's name after its language, like ```yaml lab.yml, is that file's content.
"""

import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support.lab import write_program
from support.process import run
from support.template import ROOT

ADDRESS = "https://github.com/lab/tc-exp-template"
SHORT = "gh:lab/tc-exp-template"  # Copier's way to write it
TYPED = ("bash", "console")
PLACE = "/home/ada/torchcell"  # where a lab's repository is in a page
# What differs from run to run. A number that a page shows twice must be the same number twice.
VARYING = re.compile(
    r"(?P<commit>\b[0-9a-f]{40}\b)"
    r"|(?P<time>(?<!\d)20\d\d(?:-\d\d){5}(?:-\d{6})?(?!\d))"
    r"|(?P<job>(?<!\d)6[89]\d(?!\d))"
)
SHAPES = {"commit": "[0-9a-f]{40}", "time": r"20\d\d(?:-\d\d){5}(?:-\d{6})?", "job": r"\d+"}


def key_of(match):
    return f"{match.lastgroup} {match.group()}"


@dataclass
class Block:
    language: str
    file: str  # whose content it is; empty: none
    text: str


def blocks(page):
    """The fenced blocks of a page of the repository, in order."""
    fences = re.findall(r"^```(\w*)[ ]?(\S*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [Block(*fence) for fence in fences]


def commands(text):
    """The commands of a block of bash: its lines, those joined that a backslash or an open quote continues."""
    found, rest = [], ""
    for line in text.splitlines():
        rest += line + "\n"
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:  # a quote is open
            continue
        if not rest.endswith("\\\n"):
            found += [rest.strip()] if words else []
            rest = ""
    assert not rest, f"not whole: {rest}"
    return found


def sessions(text):
    """The commands of a block of console, each with what it shows that they print."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [tuple(part.split("\n", 1)) for part in parts]


def bin_folder(folder):
    """A folder for PATH: `copier copy`, which asks, accepts every default, and `experiments` is that of the sources."""
    copier = Path(sys.executable).parent / "copier"
    scripts = {
        "copier": f'if [ "$1" = copy ]; then shift; set -- copy --defaults "$@"; fi\nexec {copier} "$@"',
        "experiments": f'PYTHONPATH={ROOT / "src"} exec {sys.executable} -m experiments "$@"',
    }
    for name, body in scripts.items():
        write_program(folder / name, body)
    return folder


@dataclass
class Reader:
    """Somebody who types what a page says, in a repository, and finds the template at its public address."""

    path: Path
    template: Path
    environment: dict = field(default_factory=dict)
    printed: str = ""
    known: dict = field(default_factory=dict)  # what stands for a number of the page: {"job 686": "12"}

    def __post_init__(self):
        self.place = self.path
        self.programs = bin_folder(self.path.parent / "programs")
        settings = self.path.parent / "gitconfig"
        public = f'[url "{self.template}"]\ninsteadOf = {ADDRESS}.git\ninsteadOf = {ADDRESS}\n'
        settings.write_text(Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text() + public)
        path = self.environment.get("PATH", os.environ["PATH"])
        installed = f"{self.environment.get('HOME', self.programs)}/.local/bin"  # by uv
        self.environment |= {"PATH": f"{installed}:{self.programs}:{path}", "GIT_CONFIG_GLOBAL": str(settings)}

    def type(self, command):
        """Type a command, and keep what it prints."""
        if command.startswith("cd "):
            self.place = self.place / shlex.split(command)[1]
            return 0
        command = VARYING.sub(lambda match: self.known.get(key_of(match), match.group()), command)
        done = run("bash", "-c", command, cwd=self.place, env=os.environ | self.environment)
        self.printed = done.stdout + done.stderr
        return done.returncode

    def read(self, page, until=lambda command: None):
        """Do all that a page says. `until` is called with each command after it was typed."""
        for block in blocks(page):
            if block.file:
                (self.place / block.file).parent.mkdir(parents=True, exist_ok=True)
                (self.place / block.file).write_text(block.text)
            elif block.language == "bash":
                for command in commands(block.text):
                    assert self.type(command) == 0, f"{page}: {command}\n{self.printed}"
                    until(command)
            elif block.language == "console":
                for command, shown in sessions(block.text):
                    self.type(command)
                    self.compare(f"{page}: {command}", shown)
                    until(command)

    def compare(self, where, shown):
        printed = self.printed.replace(str(self.path), PLACE)
        pattern, end, first = "", 0, {}
        for match in VARYING.finditer(shown):
            pattern += re.escape(shown[end : match.start()])
            end = match.end()
            kind, key = match.lastgroup, key_of(match)
            if key in self.known:
                pattern += re.escape(self.known[key])
            elif key in first:
                pattern += f"(?P={first[key]})"
            else:
                first[key] = f"{kind}{len(first)}"
                pattern += f"(?P<{first[key]}>{SHAPES[kind]})"
        found = re.fullmatch(pattern + re.escape(shown[end:]), printed)
        assert found, f"{where}\n--- shown\n{shown}--- printed\n{printed}"
        self.known |= {key: found[name] for key, name in first.items()}
