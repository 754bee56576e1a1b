"""The records of runs, provenance.json in each run's folder, which anybody may have broken."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.slurm import QUEUED, Job, own_cluster

LARGEST_RECORD = 10_000_000  # bytes


@dataclass
class Attempted:
    """A run that ran, or that waits to."""

    config: str
    name: str
    state: str
    job: str | None = None
    entry: str = ""  # the job as squeue lists it, which of a pack is one for all its runs
    started: str = ""
    commit: str = ""
    dirty: bool = False
    error: str | None = None
    figure: str = ""  # the newest
    folder: str = ""


def find_records(folder: Path) -> Iterator[Path]:
    """provenance.json of each run: of CONFIGURATION/RUN, or CONFIGURATION/RUN/NUMBER by Hydra's --multirun."""
    for config in folders_in(folder):
        for run in folders_in(config):
            record = Path(run, "provenance.json")
            if record.is_file():
                yield record
            else:
                records = (Path(number, "provenance.json") for number in folders_in(run))
                yield from filter(Path.is_file, records)


def folders_in(folder: str | Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir())
    return []


def read_run(record: Path, folder: Path, jobs: Mapping[str, Job] | None) -> Attempted:
    """A run by its record, which anybody may have broken; `folder` is that of all runs."""
    config, *name = record.parent.relative_to(folder).parts
    run = Attempted(config, "/".join(name), "unreadable", folder=str(record.parent))
    found = load(record)
    if not found:
        return run
    run.job = text_of(found.get("job")) or None
    run.started = text_of(found.get("started"))
    run.commit = text_of(found.get("commit"))
    run.dirty = found.get("dirty") is True
    run.error = text_of(found.get("error")) or None
    run.figure = (figures_of(found) or [""])[-1]
    run.entry = entry_of(found) if run.job else ""
    run.state = state_of(text_of(found.get("status")), run.entry, found, jobs)
    return run


def load(record: Path) -> dict[str, Any]:
    """What a record says; nothing where it cannot be read."""
    found = None
    with suppress(OSError, ValueError, RecursionError):
        if record.stat().st_size < LARGEST_RECORD:
            found = json.loads(record.read_bytes())
    return found if isinstance(found, dict) else {}


def figures_of(found: Mapping[str, Any]) -> list[str]:
    """The figures that a run has made, the newest last."""
    figures = found.get("figures")
    return [text_of(figure) for figure in figures] if isinstance(figures, list) else []


def entry_of(found: Mapping[str, Any]) -> str:
    """What squeue calls the job of a record: 686, or 687_3 where it is a task of an array."""
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    job, array, task = (text_of(slurm_of(found).get(name)) for name in names)
    return f"{array}_{task}" if array else job or text_of(found.get("job"))


def slurm_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Slurm's variables in a record."""
    slurm = found.get("slurm")
    return slurm if isinstance(slurm, dict) else {}


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def state_of(status: str, entry: str, record: Mapping[str, Any], jobs: Mapping[str, Job] | None) -> str:
    """A run's state: of Slurm where its job is in the queue, else of its record.

    A job that is in no queue of this cluster is lost; without squeue, and by hand on another host, nobody knows.
    """
    if not entry or jobs is None or not (entry in jobs or status == "running") or not is_here(record):
        return status or "unreadable"
    job = jobs.get(entry)
    if job and is_named(record, job.name):
        return job.said if status in ("running", "") or job.state in QUEUED else status
    return "lost" if status == "running" else status or "unreadable"


def is_named(record: Mapping[str, Any], name: str) -> bool:
    """Whether a job may be a record's by its name: where a Slurm is set up anew, its numbers begin again."""
    known = slurm_of(record).get("SLURM_JOB_NAME")
    return not known or known == name


def is_here(record: Mapping[str, Any]) -> bool:
    """Whether a job was one of this cluster: its record names none, or ours."""
    cluster = slurm_of(record).get("SLURM_CLUSTER_NAME")
    return not cluster or cluster == own_cluster()
