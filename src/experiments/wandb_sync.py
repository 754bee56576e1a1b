"""`experiments wandb-sync`: print the commands that upload runs which were logged offline. Nothing is changed."""

import shlex
import sys
from pathlib import Path

from experiments.experiment import Experiment
from experiments.history import read_histories
from experiments.records import RunInfo, mapping_of, text_of
from experiments.slurm import Queue

KEEP = ("configuration", "wandb_id")  # of a record
SMALLEST = 100  # bytes; with a smaller file, of a process that was killed at once, `wandb sync` does nothing at all


def print_commands(path: str, name: str | None) -> int:
    """Print a `wandb sync` command for each run that is not synced, or for the named one.

    The folders of a run's attempts are in one command, in the order of time: W&B joins them.
    """
    experiment = Experiment.open(path)
    [history] = read_histories([experiment], Queue.read(), KEEP)
    commands = 0
    for run in [history.find_run(name)] if name else history.runs:
        folders = unsynced_folders(run)
        if folders and run.is_live and not name:
            command = shlex.join(["experiments", "wandb-sync", experiment.name, f"{run.config}/{run.name}"])
            print(f"{run.config}/{run.name} is {run.state}, so it is skipped. To upload it: {command}", file=sys.stderr)
        elif folders:
            print(shlex.join(["wandb", "sync", *map(str, folders)]))
        commands += bool(folders)
    if not commands:
        print("everything is synced", file=sys.stderr)
    return 0


def unsynced_folders(run: RunInfo) -> list[Path]:
    """Return the folders of a run's attempts that W&B does not have. `wandb sync` marks the others."""
    run_id = text_of(run.record.get("wandb_id"))
    if not run_id:
        return []
    own = text_of(mapping_of(mapping_of(run.record.get("configuration")).get("wandb")).get("dir"))
    folder = Path(own if own.startswith("/") and "${" not in own else run.folder, "wandb")
    files = sorted(folder.glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    synced = [Path(f"{file}.synced") for file in files]
    pairs = zip(files, synced, strict=True)
    return [file.parent for file, mark in pairs if file.stat().st_size >= SMALLEST and not mark.exists()]
