"""What Slurm says of jobs. It is asked, and told nothing."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

SQUEUE_SECONDS = 20
SEPARATOR = "\x1f"  # which no name of a job has
QUEUED = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")


@dataclass(frozen=True)
class Job:
    """A job, or a task of an array, as squeue has it."""

    id: str  # 686 or 687_3
    state: str  # Slurm's own, like PENDING
    name: str
    folder: str

    @property
    def said(self) -> str:
        """Queued, running, or Slurm's own word for what is neither, like configuring or completing."""
        return "queued" if self.state in QUEUED else self.state.lower()


def read_queue() -> dict[str, Job] | None:
    """The jobs of everybody, each task of an array alone, by their ids; None where no Slurm can be asked.

    `--array` writes tasks alone, and not 687_[3-7%4]. Everybody's, since a run may be a colleague's, and since there
    are accounts without a name.
    """
    fields = SEPARATOR.join(("%i", "%T", "%j", "%Z"))
    said = ask_slurm("squeue", "--noheader", "--array", f"--format={fields}")
    if said is None:
        return None
    jobs = {}
    for line in said.splitlines():
        parts = line.strip().split(SEPARATOR)
        if len(parts) == 4:
            jobs[parts[0]] = Job(*parts)
    return jobs


def ask_slurm(*command: str) -> str | None:
    """What a command of Slurm prints; None where it is not there, fails or hangs."""
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
    """The name of the cluster that squeue asks; nothing where there is none."""
    said = ask_slurm("scontrol", "show", "config") or ""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", said, re.MULTILINE)
    return found[1] if found else ""
