"""Claim a point, so that exactly one process computes it.

The claims of a point are the files claims/001, claims/002 and so on in its run's folder. The newest names the holder.
A later restart or leg of the holder's job takes the point over, and so does any process once the holder is gone.
Claims are never changed or removed, and no time stamp is read.
"""

import json
import os
import os.path as osp
import platform
import subprocess
from collections.abc import Collection
from typing import Any, NamedTuple

from runtime.files import commit_new, temporary
from runtime.paths import SCRIPTS
from runtime.process import batch_job, earlier_legs, submission
from runtime.sharing import make_shared_folder, share_with_group


class Finished(Exception):
    """The point is finished. `record` is that of its run."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__()
        self.record = record

    def difference(self, expected: str | None) -> str | None:
        """Return a problem if the run had another configuration than the one with the expected hash, else None."""
        if not expected or self.record.get("configuration_hash") in (expected, None):
            return None
        return (
            f"it is finished with another configuration. Move {self.record.get('folder')} away to compute it again, "
            "or give this campaign a name of its own."
        )


class Taken(Exception):
    """Another process holds the point. The message names it."""


class Unknown(Exception):
    """Only Slurm knows whether the job that holds the point is gone. `words`: its cluster, its job and the point."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.words = words


class ClaimError(Exception):
    """A claim that the user must resolve. The message is one line."""


class Owner(NamedTuple):
    """The process that claims a point: a Slurm job with its restart, or a process on a host."""

    cluster: str | None
    job: str | None
    task: str | None
    restart: int
    host: str
    pid: int | None
    started: str | None  # ticks from the boot of the host to the start of the process, if known
    submission: str | None

    @property
    def job_id(self) -> str:
        return f"{self.job}_{self.task}" if self.task else str(self.job)

    @property
    def identity(self) -> tuple[object, ...]:
        if self.job:
            return (self.cluster, self.job, self.task, self.restart)
        return (self.host, self.pid, self.started)

    def __str__(self) -> str:
        return f"job {self.job_id}" if self.job else f"process {self.pid} on {self.host}"


def this_owner() -> Owner:
    """Return the owner for which this process claims. All processes of a job claim as that job."""
    variables, job = os.environ, batch_job()
    return Owner(
        cluster=variables.get("SLURM_CLUSTER_NAME") if job else None,
        job=job,
        task=variables.get("SLURM_ARRAY_TASK_ID") if job else None,
        restart=int(variables.get("SLURM_RESTART_COUNT", 0)) if job else 0,
        host=platform.node(),
        pid=None if job else os.getpid(),
        started=None if job else start_of(os.getpid()),
        submission=submission(),
    )


def claim_point(folder: str, owner: Owner, gone: Collection[str] = ()) -> None:
    """Claim the point with this run folder. `gone` lists the jobs that Slurm no longer has.

    Raises Finished, Taken, Unknown or ClaimError if this owner may not compute it.
    """
    while True:
        refuse_finished(folder)
        number, holder = newest_claim(folder)
        if holder and holder.identity == owner.identity:
            return
        if holder:
            refuse_live(holder, owner, gone, claim_path(folder, number))
        elif osp.lexists(osp.join(folder, "provenance.json")):
            raise ClaimError(f"{folder} belongs to another run. Move it away.")
        if write_claim(claim_path(folder, number + 1), owner):
            refuse_finished(folder)  # the holder may have finished after the first look
            return


def claim_with_answers(folder: str) -> None:
    """Claim a point for this process, and ask Slurm about the jobs that hold it."""
    gone: list[str] = []
    while True:
        try:
            return claim_point(folder, this_owner(), gone)
        except Unknown as question:
            cluster, job, _ = question.words
        command = ["bash", osp.join(SCRIPTS, "runtime", "point.sh"), cluster, job]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode:
            raise ClaimError(" ".join(answer.stderr.split()))
        if answer.stdout.strip() != "gone":
            raise Taken(f"job {job} computes it")
        gone.append(job)


def refuse_finished(folder: str) -> None:
    path = osp.join(folder, "provenance.json")
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise ClaimError(f"{path}: not a record of a run: {error}. Move it away.") from None
    if record.get("status") == "finished":
        raise Finished(record)


def refuse_live(holder: Owner, owner: Owner, gone: Collection[str], path: str) -> None:
    """Raise an exception unless a holder is gone."""
    if not holder.job:
        if holder.host != owner.host:
            raise ClaimError(f"{path}: {holder} has claimed this point. If it has ended, remove this file.")
        if is_alive(holder):
            raise Taken(f"{holder} computes it")
    elif owner.job and holder.cluster != owner.cluster:
        raise ClaimError(f"{path}: {holder} of cluster {holder.cluster} has claimed this point. {REMEDY}")
    elif (holder.job, holder.task) == (owner.job, owner.task):
        if holder.restart > owner.restart:
            raise Taken(f"restart {holder.restart} of {holder} computes it")
    elif holder.job_id not in gone and holder.job not in earlier_legs():
        raise Unknown(holder.cluster or "", holder.job_id, osp.basename(osp.dirname(osp.dirname(path))))


REMEDY = "If that job has ended, remove this file."


def newest_claim(folder: str) -> tuple[int, Owner | None]:
    """Return the number of the newest claim and its owner, or 0 and None."""
    try:
        numbers = [int(name) for name in os.listdir(osp.join(folder, "claims")) if name.isdecimal()]
    except FileNotFoundError:
        return 0, None
    number = max(numbers, default=0)
    while osp.exists(claim_path(folder, number + 1)):  # a network disk may list a folder as it was
        number += 1
    if not number:
        return 0, None
    path = claim_path(folder, number)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        return number, Owner(**json.loads(text))
    except (ValueError, TypeError):
        raise ClaimError(f"{path}: not a claim. If no process computes this point, remove this file.") from None


def claim_path(folder: str, number: int) -> str:
    return osp.join(folder, "claims", f"{number:03}")


def write_claim(path: str, owner: Owner) -> bool:
    """Write a claim. Return False if the file exists already."""
    return write_new(path, json.dumps(owner._asdict()))


def write_new(path: str, text: str) -> bool:
    """Write a file that is complete from its first moment. Return False if it exists already."""
    make_shared_folder(osp.dirname(path))
    with temporary(path) as part:
        with open(part, "x", encoding="utf-8") as file:
            file.write(text)
        share_with_group(part)
        try:
            commit_new(part, path)
        except FileExistsError:
            return False
    return True


def is_alive(holder: Owner) -> bool:
    """Return whether a process by hand still runs on this host."""
    assert holder.pid
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return start_of(holder.pid) == holder.started


def start_of(pid: int) -> str | None:
    """Return when a process has started, in ticks since the boot, or None if the system does not provide it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


# Folders --------------------------------------------------------------------------------------------------------------


def own_campaign_folder(folder: str, script: str) -> None:
    """Record that the runs in a folder are those of a script. Raises ClaimError if they are those of another."""
    path = osp.join(folder, "script")
    if not osp.exists(path):
        write_new(path, f"{script}\n")
    if problem := other_script_problem(folder, script):
        raise ClaimError(problem)


def other_script_problem(folder: str, script: str) -> str | None:
    """Return a problem if the runs in a folder are those of another script, else None."""
    path = osp.join(folder, "script")
    if not osp.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        owner = file.read().strip()
    if owner == script:
        return None
    name = osp.basename(folder)
    return f"runs/{name} contains the runs of {owner}. For {script}, copy the configuration {name} to another name."
