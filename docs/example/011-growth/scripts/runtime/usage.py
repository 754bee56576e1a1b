"""Measure what a run uses: wall time and peak memory."""

import os
import os.path as osp
import re
import resource
import sys
from contextlib import suppress

# A process's peak as the kernel counts it: in bytes on macOS, in kilobytes elsewhere.
UNIT = 1 if sys.platform == "darwin" else 1024

# The controller of memory in /proc/self/cgroup, up to the part of the job: version 2 and version 1.
JOB_CGROUP = re.compile(r"^(?:0:|\d+:(?:[^:]*,)?memory(?:,[^:]*)?):(/.*?/job_(\d+))(?:/|$)", re.MULTILINE)
PEAKS = ("/sys/fs/cgroup{}/memory.peak", "/sys/fs/cgroup/memory{}/memory.max_usage_in_bytes")


def peak_memory() -> dict[str, int | None]:
    """Return the peak memory in bytes: of this process, of its largest ended child, and of the job.

    The first two are a lower bound for the job. The kernel counts a job's memory in its cgroup, which Slurm makes only
    on some clusters, and which a container hides: without one, the job's peak is None.
    """
    return {
        "process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT,
        "child_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * UNIT,
        "job_bytes": job_peak(),
    }


def job_peak() -> int | None:
    """Return the peak memory of this process's job, in bytes; None if the kernel does not count it."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    with suppress(OSError, ValueError):
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            folders = [folder for folder, number in JOB_CGROUP.findall(file.read()) if number == job]
        for path in (pattern.format(folder) for folder in folders for pattern in PEAKS):
            if osp.isfile(path):
                with open(path, encoding="utf-8") as file:
                    return int(file.read())
    return None
