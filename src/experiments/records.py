"""Read provenance.json files, the records of runs. They may be missing, truncated or malformed."""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.errors import Problem
from experiments.slurm import ENDS, QUEUED, Ended, Job, Key, Queue

RECORD = "provenance.json"
LARGEST_RECORD = 10_000_000  # bytes
EVERYTHING = ("*",)  # as the names of the facts to keep
VALIDATED = ("",)  # the same: no fact is kept, but the whole record is parsed
LARGE = ("configuration", "versions")  # the mappings that make up most of a record
STATES = (  # in the order of a summary; Slurm has more words
    "queued",
    "running",
    "paused",
    "finished",
    "pruned",
    "failed",
    *dict.fromkeys(ENDS.values()),
    "terminated",
    "lost",
    "no record",
    "unreadable",
    "missing",
)
FAULTS = (*STATES[5:-4], "lost", "unreadable")
POINT_WORDS = ("config=", "++config=", "point=", "++point=")  # these choose a point; its name has them already


@dataclass
class RunInfo:
    """A run that was started or is queued."""

    config: str  # the folder of its runs: CONFIG, or CONFIG.NAME
    name: str
    state: str  # until `resolve_states`, the state of its record; empty if it has none
    job: str | None = None
    cluster: str = ""
    entry: str = ""  # the job as squeue lists it; all runs of a pack have one
    jobs: list[str] = field(default_factory=list)  # those of all attempts: of other legs, or of another submission
    started: str = ""
    finished: str = ""
    commit: str = ""
    dirty: bool = False
    error: str | None = None
    overrides: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    figure: str = ""  # the newest one
    folder: str = ""
    submission: str = ""  # the folder of its receipt
    submitted: str = ""  # when, if there is a receipt but no record
    point: str = ""  # of a campaign
    is_live: bool = False  # whether it runs or waits
    has_record: bool = False  # whether its folder has one that can be read
    record: dict[str, Any] = field(default_factory=dict)  # the facts that were asked for

    @property
    def key(self) -> Key:
        return Key(self.cluster, self.entry)

    @property
    def task(self) -> int | None:
        """The index in the job array."""
        task = self.entry.partition("_")[2]
        return int(task) if task.isdecimal() else None

    @property
    def own_overrides(self) -> list[str]:
        """The overrides without the words that choose a point."""
        return [word for word in self.overrides if not word.startswith(POINT_WORDS)]

    @property
    def result(self) -> str:
        """Its error or its newest numbers, in one line."""
        return self.error or " ".join(f"{name}={short_number(value)}" for name, value in self.metrics.items())

    def seconds(self, now: datetime) -> float | None:
        """Return how long it ran, or has run until now; None if that is not known."""
        end = self.finished or (now.isoformat() if self.state == "running" else "")
        with suppress(ValueError, TypeError):
            return (datetime.fromisoformat(end) - datetime.fromisoformat(self.started)).total_seconds()
        return None


def short_number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def readable_seconds(seconds: float | None) -> str:
    """Return a duration in two units: 12s, 3m12s, 2h05m, 3d04h. Empty if it is not known."""
    if seconds is None or seconds < 0:
        return ""
    whole = round(seconds)
    for unit, part, size, inner in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // inner:02}{part}"
    return f"{whole}s"


def find_records(folder: Path) -> Iterator[str]:
    """Yield the record of each run: in CONFIGURATION/RUN, or for Hydra's --multirun in CONFIGURATION/RUN/NUMBER."""
    for config in folders_in(folder):
        yield from find_records_of(config)


def find_records_of(config: str | Path) -> Iterator[str]:
    """Yield the records in the folder of a configuration. They are text: to make 10,000 paths takes half a second."""
    for run in folders_in(config):
        record = f"{run}/{RECORD}"
        if os.path.isfile(record):
            yield record
        else:
            yield from filter(os.path.isfile, (f"{number}/{RECORD}" for number in folders_in(run)))


def folders_in(folder: str | Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir())
    return []


def read_run(record: str, folder: Path, keep: Collection[str] = ()) -> RunInfo:
    """Return the run of a record, with the state in the record. `folder` holds all runs of the experiment.

    keep  the names of further facts to keep, or EVERYTHING
    """
    own = record[: -len(RECORD) - 1]
    config, _, name = own[len(str(folder)) + 1 :].partition("/")
    return fill_run(RunInfo(config, name, "unreadable", folder=own), keep)


def fill_run(run: RunInfo, keep: Collection[str] = ()) -> RunInfo:
    """Add to a run what the record in its folder has."""
    unread = () if keep in (EVERYTHING, VALIDATED) else [name for name in LARGE if name not in keep]
    found = load_record(f"{run.folder}/{RECORD}", unread)
    if not found:
        return run
    run.has_record = True
    slurm = slurm_of(found)
    run.state = text_of(found.get("status")) or "unreadable"
    run.job = text_of(found.get("job")) or None
    run.cluster = text_of(slurm.get("SLURM_CLUSTER_NAME"))
    run.entry = queue_entry(slurm, run.job) if run.job else ""
    run.jobs = [job for each in list_of(found.get("attempts")) if (job := text_of(mapping_of(each).get("job")))]
    run.started, run.finished = text_of(found.get("started")), text_of(found.get("finished"))
    run.commit = text_of(found.get("commit"))
    run.dirty = found.get("dirty") is True
    run.error = text_of(found.get("error")) or None
    run.overrides = texts_of(found.get("overrides"))
    run.metrics = mapping_of(found.get("metrics"))
    run.figure = (figures_of(found) or [""])[-1]
    run.submission = text_of(found.get("submission"))
    run.point = text_of(found.get("point"))
    run.record = found if keep is EVERYTHING else {name: found[name] for name in keep if name in found}
    return run


def load_record(record: str, unread: Iterable[str] = ()) -> dict[str, Any]:
    """Return the content of a record; nothing if it cannot be read. Mappings named by `unread` may be empty."""
    content = read_bytes(record)
    for name in unread:
        content = without_items(content, name)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def without_items(content: bytes, name: str) -> bytes:
    """Return a record with an empty mapping of a name, which is not parsed: that would take most of the time.

    `Run` writes records with an indent of two, so a line of a nested item begins with more blanks than the closing
    brace. Records in another form, and truncated ones, are returned as they are, or are still not valid.
    """
    before, opening, items = content.partition(b'\n  "%s": {\n' % name.encode())
    _, closing, after = items.partition(b"\n  }")
    return before + opening + closing + after


def read_bytes(record: str) -> bytes:
    """Return the bytes of a record; nothing if it cannot be read or is too large."""
    try:
        file = os.open(record, os.O_RDONLY)
        try:
            size = os.fstat(file).st_size
            return os.read(file, size) if size < LARGEST_RECORD else b""
        finally:
            os.close(file)
    except OSError:
        return b""


def record_text(run: RunInfo) -> str:
    """Return the record of a run as JSON in one line; {} if there is none.

    It is not parsed again. A record on a full disk is overwritten in place, so it may have lost its end since.
    """
    if not run.has_record:
        return "{}"
    lines = read_bytes(f"{run.folder}/{RECORD}").split(b"\n")  # no string in JSON has a line end
    text = b" ".join(map(bytes.strip, lines)).decode(errors="replace").strip()
    return text if text.startswith("{") and text.endswith("}") else "{}"


def describe_changes(folder: str, found: Mapping[str, Any]) -> str:
    """Return where the uncommitted changes of a run by hand are kept, for people."""
    patch = patch_of(folder, found)
    return f"uncommitted changes: {patch}" if patch else "uncommitted changes, which are not recorded"


def patch_of(folder: str, found: Mapping[str, Any]) -> str:
    """Return the file with the uncommitted changes of a run by hand; empty if there is none."""
    name = text_of(found.get("changes"))
    return f"{folder}/{name}" if name else ""


def figures_of(found: Mapping[str, Any]) -> list[str]:
    """Return the figures that a run has made, the newest last."""
    return texts_of(found.get("figures"))


def queue_entry(slurm: Mapping[str, Any], job: str) -> str:
    """Return the job of a record as squeue lists it: 686, or 687_3 for a task of an array."""
    if array := text_of(slurm.get("SLURM_ARRAY_JOB_ID")):
        return f"{array}_{text_of(slurm.get('SLURM_ARRAY_TASK_ID'))}"
    return text_of(slurm.get("SLURM_JOB_ID")) or job


def slurm_of(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Slurm's variables in a record."""
    return mapping_of(found.get("slurm"))


def mapping_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def texts_of(value: Any) -> list[str]:
    return [text_of(each) for each in list_of(value)]


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


# States ---------------------------------------------------------------------------------------------------------------


def needs_end(run: RunInfo, queue: Queue) -> bool:
    """Return whether sacct may know better how a run ended: it was killed, or received a signal."""
    return bool(run.entry) and run.state in ("", "running", "terminated") and not queue.find(run.key)


def resolve_states(runs: list[RunInfo], queue: Queue, ends: Mapping[Key, Ended]) -> None:
    """Replace the states of records by those that Slurm knows better."""
    for run in runs:
        job, ended, recorded = queue.find(run.key), ends.get(run.key), run.state
        if run.entry:
            run.state = state_of(recorded, job, ended, queue.has(run.cluster))
        if ended and run.state != recorded:
            run.error = ended.error or (None if ended.is_known_end else run.error)
        run.is_live = run.state == "running" or (job is not None and run.state == job.label)


def state_of(recorded: str, job: Job | None, ended: Ended | None, is_here: bool) -> str:
    """Return a run's state: Slurm's if its job is in the queue or was ended by Slurm, else that of its record.

    A running job of this cluster that Slurm does not have is lost. Without an answer from Slurm, and for a job of
    another cluster, the record's state stands.
    """
    if job:
        return job.label if recorded in ("running", "") or job.state in QUEUED else recorded
    if ended and recorded == "terminated":
        return ended.label if ended.is_known_end else recorded
    if ended and recorded in ("running", ""):
        return "lost" if (ended.state, recorded) == ("COMPLETED", "running") else ended.label
    if recorded == "running" and is_here:
        return "lost"
    return recorded or "no record"


def count_states(states: Iterable[str]) -> dict[str, int]:
    """Return the number of each state, in the order of STATES."""
    counts = Counter(states)
    return {state: counts[state] for state in [*STATES, *sorted(counts.keys() - set(STATES))] if counts[state]}


def refuse_unknown_states(wanted: Iterable[str], present: Collection[str]) -> None:
    """Raise Problem if a state is neither known nor one that Slurm reports now."""
    for state in wanted:
        if state not in STATES and state not in present:
            raise Problem(f'unknown state "{state}"; expected some of: {", ".join(STATES)}')


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return `80 finished, 1 failed`."""
    return ", ".join(f"{number} {state}" for state, number in counts.items())
