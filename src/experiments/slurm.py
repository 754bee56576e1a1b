"""Read the state of jobs from Slurm: squeue for those in the queue, sacct for those that ended."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

SECONDS = 20  # that an answer may take
CHUNK = 1000  # jobs in one command line of sacct
SEPARATOR = "\x1f"  # no name of a job has it
QUEUED = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")

# The ends that only Slurm knows, because the process was killed.
ENDS = {
    "OUT_OF_MEMORY": "out of memory",
    "TIMEOUT": "time limit",
    "DEADLINE": "deadline",
    "CANCELLED": "cancelled",
    "NODE_FAIL": "node failed",
    "BOOT_FAIL": "node failed",
    "PREEMPTED": "preempted",
}
LABELS = ENDS | {"COMPLETED": "finished"}


@dataclass(frozen=True)
class Job:
    """A job, or a task of an array, as squeue lists it."""

    id: str  # 686 or 687_3
    state: str  # like PENDING
    name: str
    folder: str

    @property
    def label(self) -> str:
        """The state in a list: queued, running, or Slurm's own word, like configuring or completing."""
        return "queued" if self.state in QUEUED else readable(self.state)

    @property
    def number(self) -> str:
        """The number of the job or the array."""
        return self.id.partition("_")[0]

    @property
    def task(self) -> int | None:
        """The index in the array."""
        task = self.id.partition("_")[2]
        return int(task) if task.isdecimal() else None


@dataclass(frozen=True)
class Ended(Job):
    """A job, or a task of an array, as sacct lists it. It may still run, on another cluster."""

    exit_code: str  # like 3:0, or 0:9 for a signal

    @property
    def label(self) -> str:
        return "queued" if self.state in QUEUED else LABELS.get(self.state, readable(self.state))

    @property
    def is_known_end(self) -> bool:
        """Whether Slurm ended the job, for a reason that the process cannot know."""
        return self.state in ENDS

    @property
    def error(self) -> str:
        """How a failed job ended: its exit code or signal. Empty for other states."""
        code, _, signal = self.exit_code.partition(":")
        if self.state != "FAILED":
            return ""
        return f"the job was killed by signal {signal}" if signal not in ("", "0") else f"exit code {code}"


def readable(state: str) -> str:
    return state.lower().replace("_", " ")


@dataclass(frozen=True)
class Queue:
    """The jobs that the cluster of this machine has. `jobs` is None if Slurm does not answer."""

    cluster: str = ""
    jobs: Mapping[str, Job] | None = None

    @classmethod
    def read(cls) -> "Queue":
        """Return the jobs of all users: a run may be a colleague's, and some accounts have no name."""
        fields = SEPARATOR.join(("%i", "%T", "%j", "%Z"))
        # Each task of an array separately. Without --array, squeue prints 687_[3-7%4].
        listing = ask_slurm("squeue", "--noheader", "--array", f"--format={fields}")
        if listing is None:
            return cls()
        lines = [line.strip().split(SEPARATOR) for line in listing.splitlines()]
        return cls(own_cluster(), {parts[0]: Job(*parts) for parts in lines if len(parts) == 4})

    def find(self, key: "Key") -> Job | None:
        """Return a job of this cluster that has not ended."""
        return (self.jobs or {}).get(key.job) if self.has(key.cluster) else None

    def has(self, cluster: str) -> bool:
        """Return whether this is the queue of a cluster. Records without a cluster are taken for its own."""
        return self.jobs is not None and cluster in ("", self.cluster)


@dataclass(frozen=True)
class Key:
    """A job of a cluster. Clusters may use the same numbers."""

    cluster: str  # empty for the cluster of this machine
    job: str  # 686 or 687_3; for sacct also 687, which are all tasks of an array


def read_ends(wanted: Collection[Key], own: str) -> dict[Key, Ended]:
    """Return the ends of the jobs that sacct knows. Empty without accounting.

    `own` is the cluster of this machine. For a requeued job, sacct prints the last attempt.
    """
    found: dict[Key, Ended] = {}
    for cluster, listing in ask_accounting(SACCT, wanted, own):
        found |= {Key(cluster, ended.id): ended for ended in parse_ends(listing)}
    return found


def ask_accounting(command: Sequence[str], wanted: Collection[Key], own: str) -> Iterator[tuple[str, str]]:
    """Yield clusters with what sacct prints about their jobs. It is asked in chunks, and all have one time limit."""
    end = time.monotonic() + SECONDS
    for cluster in sorted({key.cluster for key in wanted}):
        # One name a command: with an unknown name among others, sacct prints nothing at all.
        options = [f"--clusters={cluster}"] if cluster not in ("", own) else []
        numbers = sorted(key.job for key in wanted if key.cluster == cluster)
        for start in range(0, len(numbers), CHUNK):
            jobs = f"--jobs={','.join(numbers[start : start + CHUNK])}"
            yield cluster, ask_slurm(*command, *options, jobs, seconds=end - time.monotonic()) or ""


SACCT = (
    "sacct",
    "--allocations",  # no rows of steps
    "--allusers",
    "--noheader",
    "--parsable2",
    f"--delimiter={SEPARATOR}",
    "--format=JobID,State,JobName,WorkDir,ExitCode",
)


def parse_ends(listing: str) -> Iterator[Ended]:
    """Yield the jobs in a listing of sacct. The state of a cancelled job is followed by the user."""
    for line in listing.splitlines():
        parts = line.split(SEPARATOR)
        if len(parts) == 5 and "[" not in parts[0]:  # 687_[4-7] are pending tasks
            job, state, name, folder, code = parts
            yield Ended(job, state.split()[0], name, folder, code)


@dataclass
class Used:
    """What a job used, by the accounting. Of a requeued job, the longest start and the largest peak."""

    seconds: float = 0
    peak: int = 0  # bytes on a node; 0 for a job of a second, because Slurm only samples
    exceeded: int = 0  # the requested bytes on a node of a job that ran out of memory


USAGE = ("sacct", *SACCT[2:-1], "--duplicates", "--format=JobID,ElapsedRaw,MaxRSS,NTasks,NNodes,State,ReqMem")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def read_used(wanted: Collection[Key], own: str) -> dict[Key, Used]:
    """Return what sacct knows of the use of jobs; nothing of those that it does not know."""
    found: dict[Key, Used] = {}
    for cluster, listing in ask_accounting(USAGE, wanted, own):
        for line in listing.splitlines():
            parts = line.split(SEPARATOR)
            if len(parts) == 7 and "[" not in parts[0]:
                add_used(found.setdefault(Key(cluster, parts[0].partition(".")[0]), Used()), parts)
    return {key: found[key] for key in wanted if key in found}


def add_used(used: Used, parts: Sequence[str]) -> None:
    """Add a row of sacct: a job or a step. Slurm gives the peak of the largest task of a step."""
    job, seconds, peak, tasks, nodes, state, requested = parts
    if "." not in job and seconds.isdecimal():
        used.seconds = max(used.seconds, int(seconds))
    if "." not in job and state == "OUT_OF_MEMORY":
        used.exceeded = max(used.exceeded, parse_size(requested) // int(nodes or 1))
    per_node = -(-int(tasks or 1) // int(nodes or 1))
    used.peak = max(used.peak, parse_size(peak) * per_node)


def parse_size(text: str) -> int:
    """Return a size of sacct, like 8G, in bytes; 0 without one."""
    size = re.fullmatch(r"([\d.]+)([KMGT]?)", text)
    return round(float(size[1]) * UNITS[size[2]]) if size else 0


def ask_slurm(*command: str, seconds: float = SECONDS) -> str | None:
    """Return the output of a Slurm command; None if it is missing, fails or hangs."""
    if not shutil.which(command[0]) or seconds <= 0:
        return None
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, env=clean, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def own_cluster() -> str:
    """Return the name of the cluster that squeue asks; empty if there is none."""
    config = ask_slurm("scontrol", "show", "config") or ""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", config, re.MULTILINE)
    return found[1] if found else ""
