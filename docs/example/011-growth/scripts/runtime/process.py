"""Identify this process and its run from the variables of the launcher, Slurm and torchrun."""

import json
import os
import os.path as osp
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count
from typing import NamedTuple

from runtime.campaign import chosen_point

# The Slurm variables that a process needs, by the launcher's mode.
NEEDED = {"srun": ("SLURM_PROCID",), "pack": ("SLURM_PROCID", "SLURM_NTASKS")}


class Process(NamedTuple):
    """One process of a run.

    job             the number of the Slurm job or job array, or of the first leg of a chain; None in a run by hand
                    and in an interactive job
    task            the index of the run in a job array or a pack, else None
    rank            the rank among the processes that share the run; only rank 0 writes
    is_distributed  whether several processes share the run
    restart         the leg of a chain, and how often Slurm has requeued the job and torchrun restarted its processes:
                    "", "1", "1_2", "leg2" or "leg2_1"
    """

    job: str | None
    task: int | None
    rank: int
    is_distributed: bool
    restart: str

    @property
    def job_id(self) -> str | None:
        """The job with its task, like 687_3; None without a job."""
        return self.job if self.job is None or self.task is None else f"{self.job}_{self.task}"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def record(self) -> str:
        """The subfolder of the run's folder in which Hydra records this attempt."""
        return f".hydra_{self.restart}" if self.restart else ".hydra"


def this_process() -> Process:
    """Return the description of this process. Exits if variables of its job did not reach Python."""
    job, mode = batch_job(), launcher_mode()
    task = os.environ.get("SLURM_ARRAY_TASK_ID") if job else None
    number = int(task) if task else None
    if mode == "pack":
        number = (number or 0) * int(os.environ["SLURM_NTASKS"]) + int(os.environ["SLURM_PROCID"])
    # torchrun sets RANK. Lightning starts its own processes, and sets only LOCAL_RANK.
    rank = os.environ.get("RANK", os.environ["SLURM_PROCID"] if mode == "srun" else os.environ.get("LOCAL_RANK"))
    requeues = os.environ.get("SLURM_RESTART_COUNT", "0") if job else "0"
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    restart = "" if requeues == "0" else requeues
    if restarts != "0":
        restart = f"{requeues}_{restarts}"
    legs = earlier_legs()
    if legs:
        restart = "_".join(filter(None, (f"leg{len(legs) + 1}", restart)))
    return Process(legs[0] if legs else job, number, int(rank or 0), rank is not None, restart)


def batch_job() -> str | None:
    """Return the number of the batch job or job array that started this process, else None.

    The launcher exports it as EXPERIMENT_JOB. A launcher that was typed in an interactive job is a run by hand.
    """
    job = os.environ.get("EXPERIMENT_JOB")
    if not job:
        return None
    mode = os.environ.get("EXPERIMENT_MODE", "")
    require_passed(f"EXPERIMENT_JOB is {job}", "EXPERIMENT_MODE", "SLURM_JOB_ID", *NEEDED.get(mode, ()))
    array = "SLURM_ARRAY_JOB_ID" in os.environ
    if array:
        require_passed(f"EXPERIMENT_JOB is {job}", "SLURM_ARRAY_TASK_ID")
    own = os.environ["SLURM_ARRAY_JOB_ID" if array else "SLURM_JOB_ID"]
    if own != job:
        sys.exit(
            f"EXPERIMENT_JOB is {job}, but Slurm's variables are those of job {own}. In a job array, the "
            "`python:` command in lab.yml must pass SLURM_ARRAY_JOB_ID and SLURM_ARRAY_TASK_ID. "
            "In another job, unset EXPERIMENT_JOB."
        )
    return job


def earlier_legs() -> list[str]:
    """Return the earlier jobs of this job's chain. They have ended, because each leg waits for all before it."""
    return [job for job in os.environ.get("EXPERIMENT_LEGS", "").split(",") if job] if batch_job() else []


def launcher_mode() -> str | None:
    """Return how the launcher starts Python: one, ddp, srun or pack. None without a launcher or outside Slurm."""
    mode = os.environ.get("EXPERIMENT_MODE")
    if not mode or "SLURM_JOB_ID" not in os.environ:
        return None
    require_passed(f"EXPERIMENT_MODE is {mode}", *NEEDED.get(mode, ()))
    return mode


def require_passed(subject: str, *names: str) -> None:
    """Exit if one of these variables of the launcher or of Slurm is not set."""
    missing = [name for name in names if name not in os.environ]
    if missing:
        sys.exit(
            f"{subject}, but Python did not get {', '.join(missing)}. "
            "The `python:` command in lab.yml must pass EXPERIMENT_* and SLURM_*."
        )


def queue_id() -> str | None:
    """Return the job as squeue lists it, like 687 or 687_3; None in a run by hand."""
    job, task = batch_job(), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{task}" if job and task else job


def candidate_names(process: Process) -> Iterator[str]:
    """Yield the names that a run's folder may have, preferred first.

    A run by hand has any number of candidates. Otherwise there is only the name that all processes of the run derive.
    """
    if chosen := chosen_point():
        yield chosen.point.name
    elif process.job_id:
        yield process.job_id
    elif "RANK" in os.environ:
        run = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        if run == "none":
            sys.exit("RANK is set, but the processes do not know their shared run. Start torchrun with --standalone.")
        yield run
    elif launcher_mode() == "srun":
        require_passed("EXPERIMENT_MODE is srun", "SLURM_STEP_ID")
        yield f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    else:
        time = f"{datetime.now():%Y-%m-%d-%H-%M-%S-%f}"
        yield time
        yield from (f"{time}_{number}" for number in count(2))


def export_run_variables(name: str | None = None) -> None:
    """Set the variables that conf/runtime.yaml interpolates.

    A helper process, such as a data loader, inherits the run's name through RUN_NAME. A process that is a run of its
    own gets a new name when Hydra starts it.
    """
    process, chosen = this_process(), chosen_point()
    name = name or (chosen.point.name if chosen else process.job_id)
    os.environ["RUN_TASK"] = "0" if chosen else str(process.task or 0)  # seed: ${task} is the same in all points
    os.environ["RUN_RECORD"] = process.record if process.is_main else "null"
    os.environ.pop("RUN_LOG", None)
    if not process.is_main:
        os.environ["RUN_LOG"] = os.devnull
    if name:
        os.environ["RUN_NAME"] = name
    elif "RUN_NAME" not in os.environ:
        os.environ["RUN_NAME"] = next(candidate_names(process))


def is_earlier_attempt(folder: str, process: Process) -> bool:
    """Return whether a folder is that of an earlier attempt of this job."""
    try:
        with open(osp.join(folder, "provenance.json"), encoding="utf-8") as file:
            record = json.load(file)
        cluster = record["slurm"].get("SLURM_CLUSTER_NAME")
        return bool(record["job"] == process.job_id and cluster == os.environ.get("SLURM_CLUSTER_NAME"))
    except FileNotFoundError:
        return True  # the attempt ended before it wrote a record, or this is the folder of a multirun
    except (ValueError, LookupError, TypeError):
        return False  # the file is not the record of a run


def submission() -> str | None:
    """Return the name of this job's receipt in slurm/submitted, or None without one."""
    return osp.basename(os.environ.get("EXPERIMENT_SUBMISSION", "")) or None


def link_folder(folder: str) -> None:
    """Link the run's folder in the receipt of this job, where bash finds the record: runs/<job>[_<task>][.<process>].

    Later legs of a chain and submit.sh read it.
    """
    receipt, entry, process = os.environ.get("EXPERIMENT_SUBMISSION"), queue_id(), this_process()
    if not receipt or not entry or not osp.isdir(receipt):
        return
    if launcher_mode() == "pack":
        entry += f".{process.task}"
    os.makedirs(osp.join(receipt, "runs"), exist_ok=True)
    with suppress(FileExistsError):  # the job was requeued
        os.symlink(folder, osp.join(receipt, "runs", entry))
