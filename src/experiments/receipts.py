"""Read the receipts of submit.sh. They also exist for jobs without a record."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Receipt:
    """The folder of a receipt. Its files may be missing: submit.sh may have been killed."""

    folder: Path
    job: str  # the number of the job or the array; of a chain, its first one

    @property
    def submitted(self) -> str:
        """The time of the submission, from the folder's name 2026-11-27-21-40-00-0123abcd."""
        date, time = self.folder.name[:10], self.folder.name[11:19]
        return f"{date}T{time.replace('-', ':')}"

    @property
    def is_pinned(self) -> bool:
        """Whether the jobs run a copy of the code: not with --live."""
        return self.text("live") != "true"

    @cached_property
    def config(self) -> str:
        """The configuration: the one that was typed, else that of the launcher, else the launcher itself."""
        if typed := self.text("config"):
            return typed
        from experiments.launcher import Launcher  # it takes a moment to load

        launcher = self.text("launcher")
        path = self.folder.parents[2] / f"scripts/{launcher}.slurm"
        return (Launcher.read(path).config if path.is_file() else "") or launcher

    @property
    def campaign(self) -> str:
        """The folder of the runs: CONFIG, or CONFIG.NAME."""
        return ".".join(filter(None, (self.config, self.text("name"))))

    @property
    def later_legs(self) -> list[str]:
        """The jobs that continue the run of the first one."""
        return self.text("legs").split()[1:]

    @property
    def words(self) -> list[str]:
        """The overrides."""
        return [word for word in self.text("words").split("\0") if word]

    @property
    def commit(self) -> str:
        return self.text("commit")

    @property
    def is_dirty(self) -> bool:
        return self.text("dirty") == "true"

    def points(self, grid: Sequence[str], task: int) -> list[str]:
        """Return the points that a task of the array computes: those of the submission, else those of the grid now."""
        names = self.text("points").split("\0")[:-1:2] or grid  # NAME, HASH, NAME, HASH ...
        start = task * self.points_per_task
        return [*names[start : start + self.points_per_task]]

    @property
    def points_per_task(self) -> int:
        """The number of points that a task of the array computes: more than one in a pack."""
        number = self.text("ntasks")
        return int(number) if number.isdecimal() else 1

    @property
    def run_folder(self) -> Path | None:
        """The folder that an override gives to the run, if it is a plain path."""
        for word in self.words:
            name, _, value = word.partition("=")
            if name == "hydra.run.dir" and "$" not in value:
                return Path(value.strip("'\""))
        return None

    def text(self, name: str) -> str:
        """Return the content of a file, without the line's end; empty without the file."""
        with suppress(OSError):
            return (self.folder / name).read_text(encoding="utf-8", errors="replace").removesuffix("\n")
        return ""


def read_receipts(experiment: Path) -> Iterator[Receipt]:
    """Yield the receipts of submitted jobs, the oldest first."""
    folder = experiment / "slurm/submitted"
    with suppress(OSError):
        for name in sorted(os.listdir(folder)):
            job = Receipt(folder / name, "").text("job")
            if job.isdecimal():
                yield Receipt(folder / name, job)
