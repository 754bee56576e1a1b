"""Type the commands of a page, and compare their output with what the page shows.

In a page, a `bash` block is typed line by line, and each command must succeed. A `console` block shows what each
command after `$` prints. Any other block with a file name after its language, like ```yaml lab.yml, is the content of
that file.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support.lab import write_program
from support.template import ROOT

ADDRESS = "https://github.com/lab/tc-exp-template"
SHORT = "gh:lab/tc-exp-template"  # the same address as Copier abbreviates it
TYPED = ("bash", "console")
SHOWN_ROOT = "/home/ada/torchcell"  # the lab's repository in all pages
# Values that differ from run to run. A value that a page shows twice must be printed as the same value twice.
VARYING = re.compile(
    r"(?P<commit>\b[0-9a-f]{40}\b)"
    r"|(?P<time>(?<!\d)20\d\d(?:-\d\d){5}(?:-\d{6})?(?!\d))"
    r"|(?P<start>20\d\d-\d\d-\d\d \d\d:\d\d:\d\d)"
    r"|(?P<job>(?<!\d)6[89]\d(?!\d))"
)
SHAPES = {
    "commit": "[0-9a-f]{40}",
    "time": r"20\d\d(?:-\d\d){5}(?:-\d{6})?",
    "start": r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d",
    "job": r"\d+",
}


def key_of(match):
    return f"{match.lastgroup} {match.group()}"


@dataclass
class Block:
    """A fenced block of a page. `file` names the file with this content, or is empty."""

    language: str
    file: str
    text: str


def blocks(page):
    """Return the fenced blocks of a page of this repository."""
    fences = re.findall(r"^```(\w*)[ ]?(\S*)\n(.*?)^```$", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [Block(*fence) for fence in fences]


def commands(text):
    """Return the commands of a bash block. A backslash or an open quote joins lines."""
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
    assert not rest, f"unfinished command: {rest}"
    return found


def sessions(text):
    """Return the commands of a console block, each with the output that it shows."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [tuple(part.split("\n", 1)) for part in parts]


def bin_folder(folder):
    """Make a folder for PATH: its `copier copy` accepts every default, its `experiments` runs from the sources."""
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
    """Type what a page shows, in a repository. Git finds the template at its public address.

    path         the lab's repository
    template     the folder of the template
    environment  variables of the reader's shell
    printed      what the last command printed
    known        the value printed for each varying value of the page, like {"job 686": "12"}
    """

    path: Path
    template: Path
    environment: dict = field(default_factory=dict)
    printed: str = ""
    known: dict = field(default_factory=dict)

    def __post_init__(self):
        self.place = self.path
        self.programs = bin_folder(self.path.parent / "programs")
        settings = self.path.parent / "gitconfig"
        public = f'[url "{self.template}"]\ninsteadOf = {ADDRESS}.git\ninsteadOf = {ADDRESS}\n'
        settings.write_text(Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text() + public)
        path = self.environment.get("PATH", os.environ["PATH"])
        uv = self.path.parent / "uv"  # or `uv tool install` would write to the home of whoever runs the tests
        self.environment |= {"UV_TOOL_DIR": str(uv / "tools"), "UV_TOOL_BIN_DIR": str(uv / "bin")}
        self.environment |= {"UV_NO_GITHUB_FAST_PATH": "1"}  # uv would try for minutes to reach the public address
        self.environment |= {"PATH": f"{uv}/bin:{self.programs}:{path}", "GIT_CONFIG_GLOBAL": str(settings)}

    def type(self, command):
        """Type a command, set `printed` to what a terminal shows, and return the exit code."""
        if command.startswith("cd "):
            self.place = self.place / shlex.split(command)[1]
            return 0
        command = VARYING.sub(lambda match: self.known.get(key_of(match), match.group()), command)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.place,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed = done.stdout
        return done.returncode

    def succeed(self, command):
        """Type a command that must succeed, and return what it printed."""
        assert self.type(command) == 0, f"{command}\n{self.printed}"
        return self.printed

    def read(self, page, after=lambda command: None):
        """Follow a page from top to bottom, and call `after` with each typed command."""
        for block in blocks(page):
            if block.file:
                (self.place / block.file).parent.mkdir(parents=True, exist_ok=True)
                (self.place / block.file).write_text(block.text)
            elif block.language == "bash":
                for command in commands(block.text):
                    self.succeed(command)
                    after(command)
            elif block.language == "console":
                for command, shown in sessions(block.text):
                    self.type(command)
                    self.compare(f"{page}: {command}", shown)
                    after(command)

    def compare(self, where, shown):
        """Compare what a page shows with what was printed, and remember the varying values."""
        printed = self.printed.replace(str(self.path), SHOWN_ROOT)
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
