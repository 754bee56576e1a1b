"""Read the state of jobs from Slurm. Nothing is submitted or changed."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

SQUEUE_SECONDS = 20
SEPARATOR = "\x1f"  # no name of a job has it
QUEUED = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")


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
        return "queued" if self.state in QUEUED else self.state.lower()


def read_queue() -> dict[str, Job] | None:
    """Return the jobs of all users by their ids, each task of an array separately; None if Slurm does not answer.

    All users: a run may be a colleague's, and some accounts have no name. Without `--array`, squeue prints 687_[3-7%4].
    """
    fields = SEPARATOR.join(("%i", "%T", "%j", "%Z"))
    listing = ask_slurm("squeue", "--noheader", "--array", f"--format={fields}")
    if listing is None:
        return None
    jobs = {}
    for line in listing.splitlines():
        parts = line.strip().split(SEPARATOR)
        if len(parts) == 4:
            jobs[parts[0]] = Job(*parts)
    return jobs


def ask_slurm(*command: str) -> str | None:
    """Return what a command of Slurm prints; None if it is missing, fails or hangs."""
    if not shutil.which(command[0]):
        return None
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SQUEUE_SECONDS, env=clean, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


@cache
def own_cluster() -> str:
    """Return the name of the cluster that squeue asks; empty if there is none."""
    config = ask_slurm("scontrol", "show", "config") or ""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", config, re.MULTILINE)
    return found[1] if found else ""
