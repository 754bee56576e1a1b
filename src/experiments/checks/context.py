"""What a check is, what it may read, and what it returns."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.experiment import Answers, find_configurations
from experiments.launcher import Launcher, Syntax
from experiments.shell import ANY
from experiments.template import Release, Run

IN_EXPERIMENT = re.compile(r"(?:^|/)experiments/([^/]+/.+)$")


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file of the experiment."""

    path: str
    what: str


@dataclass
class Context:
    """What the checks may read about an experiment."""

    path: Path
    root: Path  # of the repository
    syntax: Syntax  # of all experiments that are checked
    answers: Answers | None = None  # None: it was never adopted
    release: Release | None = None  # the recorded version of its template; if never adopted, the newest of the others'
    newest: str = ""  # the newest release, if the experiment does not have it
    runs: list[Run] = field(default_factory=list)
    problem: str = ""  # why it cannot be compared with the template

    @cached_property
    def launchers(self) -> list[Launcher]:
        return self.syntax.take(self.path)

    @cached_property
    def files_of_conf(self) -> list[Path]:
        """The files of conf/ and of its groups."""
        return [path for path in sorted((self.path / "conf").rglob("*.yaml")) if path.is_file()]

    @cached_property
    def configurations(self) -> list[str]:
        """The configurations that a run may name."""
        return find_configurations(self.path)

    def locate(self, name: str) -> Path | None:
        """Return the file of a path in a launcher, if it is in the repository's experiments/; None if it is unknown.

        name  like */experiments/006-growth/scripts/train.py, with * for what is unknown
        """
        found = IN_EXPERIMENT.search(name)
        if not found or ANY in found[1]:
            return self.path / name if name.startswith("scripts/") and ANY not in name else None
        return Path(os.path.normpath(self.root / "experiments" / found[1]))

    @cached_property
    def lab_text(self) -> str:
        """The text of lab.yml; empty if the template is unknown."""
        return (self.release.folder / "lab.yml").read_text(encoding="utf-8") if self.release else ""

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        """The machines of lab.yml; none if the template is unknown."""
        return self.release.machines if self.release else {}


Find = Callable[[Context], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """A check: a name to select it by, one line that explains it, and the function that finds what is wrong."""

    name: str
    summary: str
    find: Find


def check(find: Find) -> Check:
    """Make a check of a function. The first line of its docstring is the summary."""
    summary = (find.__doc__ or "").splitlines()[0].removesuffix(".")
    return Check(find.__name__.replace("_", "-"), summary, find)
