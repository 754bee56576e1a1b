"""Read provenance.json files, the records of runs. They may be missing, truncated or malformed."""

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
class RunInfo:
    """A run that was started or is queued."""

    config: str
    name: str
    state: str
    job: str | None = None
    entry: str = ""  # the job as squeue lists it; all runs of a pack have one
    started: str = ""
    commit: str = ""
    dirty: bool = False
    error: str | None = None
    figure: str = ""  # the newest one
    folder: str = ""


def find_records(folder: Path) -> Iterator[Path]:
    """Yield the record of each run: in CONFIGURATION/RUN, or for Hydra's --multirun in CONFIGURATION/RUN/NUMBER."""
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


def read_run(record: Path, folder: Path, jobs: Mapping[str, Job] | None) -> RunInfo:
    """Return the run of a record; `folder` holds all runs of the experiment."""
    config, *name = record.parent.relative_to(folder).parts
    run = RunInfo(config, "/".join(name), "unreadable", folder=str(record.parent))
    found = load_record(record)
    if not found:
        return run
    run.job = text_of(found.get("job")) or None
    run.started = text_of(found.get("started"))
    run.commit = text_of(found.get("commit"))
    run.dirty = found.get("dirty") is True
    run.error = text_of(found.get("error")) or None
    run.figure = (figures_of(found) or [""])[-1]
    run.entry = queue_entry(found) if run.job else ""
    run.state = state_of(text_of(found.get("status")), run.entry, found, jobs)
    return run


def load_record(record: Path) -> dict[str, Any]:
    """Return the content of a record; nothing if it cannot be read."""
    found = None
    with suppress(OSError, ValueError, RecursionError):
        if record.stat().st_size < LARGEST_RECORD:
            found = json.loads(record.read_bytes())
    return found if isinstance(found, dict) else {}


def figures_of(found: Mapping[str, Any]) -> list[str]:
    """Return the figures that a run has made, the newest last."""
    figures = found.get("figures")
    return [text_of(figure) for figure in figures] if isinstance(figures, list) else []


def queue_entry(found: Mapping[str, Any]) -> str:
    """Return the job of a record as squeue lists it: 686, or 687_3 for a task of an array."""
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    job, array, task = (text_of(slurm_of(found).get(name)) for name in names)
    return f"{array}_{task}" if array else job or text_of(found.get("job"))


def slurm_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Slurm's variables in a record."""
    slurm = found.get("slurm")
    return slurm if isinstance(slurm, dict) else {}


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def state_of(status: str, entry: str, record: Mapping[str, Any], jobs: Mapping[str, Job] | None) -> str:
    """Return a run's state: Slurm's if its job is in the queue, else that of its record.

    A running job that is not in this cluster's queue is lost. Without squeue, for a job of another cluster, and for a
    run by hand, the record's state stands.
    """
    if not entry or jobs is None or not (entry in jobs or status == "running") or not is_here(record):
        return status or "unreadable"
    job = jobs.get(entry)
    if job and is_named(record, job.name):
        return job.label if status in ("running", "") or job.state in QUEUED else status
    return "lost" if status == "running" else status or "unreadable"


def is_named(record: Mapping[str, Any], name: str) -> bool:
    """Return whether a job has the name in a record. A newly installed Slurm uses the same numbers again."""
    known = slurm_of(record).get("SLURM_JOB_NAME")
    return not known or known == name


def is_here(record: Mapping[str, Any]) -> bool:
    """Return whether a record is of this cluster, or names none."""
    cluster = slurm_of(record).get("SLURM_CLUSTER_NAME")
    return not cluster or cluster == own_cluster()
