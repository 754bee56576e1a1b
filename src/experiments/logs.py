"""`experiments logs`: print the log of a job."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from experiments.errors import Problem
from experiments.experiment import Experiment
from experiments.history import read_histories
from experiments.slurm import Queue


def show_log(path: str, name: str | None, follow: bool) -> int:
    """Print the path and the content of the newest log, or of the log of a run."""
    experiment = Experiment.open(path)
    log = find_log(experiment, name) if name else newest_log(experiment)
    print(log, flush=True)
    if follow:
        follow_log(log)
    with log.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    return 0


def follow_log(log: Path) -> NoReturn:
    """Become a process that prints a log as it grows, even if a requeued job starts a new file."""
    os.execvp("tail", ["tail", "--lines=+1", "-F", str(log)])


def log_files(experiment: Experiment) -> list[Path]:
    return [path for path in (experiment.path / "slurm/output").glob("*.out") if path.is_file()]


def newest_log(experiment: Experiment) -> Path:
    logs = log_files(experiment)
    if not logs:
        raise Problem(f"{experiment.name}/slurm/output has no log", "Jobs submitted by submit.sh write logs there.")
    return max(logs, key=lambda path: path.stat().st_mtime)


def find_log(experiment: Experiment, name: str) -> Path:
    """Return the log of a job, like 686 or 687_3, or of the job of a run. Raises Problem.

    The name of a log ends with the job's number, but a number may be used again: the newest log wins.
    """
    logs = sorted(log_files(experiment), key=lambda path: path.stat().st_mtime)
    found = [path for path in logs if path.stem.endswith(f"_{name}")]
    if not found:
        [history] = read_histories([experiment], Queue.read())
        run = history.find_run(name)
        if not run.entry:
            raise Problem(f"{run.config}/{run.name} was run by hand, so it has no log")
        found = [path for path in logs if path.stem.endswith(f"_{run.entry}")]
        if not found:
            raise Problem(f"{experiment.name}/slurm/output has no log of job {run.entry}")
    return found[-1]
