"""Find out which process of which run this one is, by what the launcher, Slurm and torchrun export."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count

# What a process needs of Slurm, by the launcher's mode.
NEEDED = {"srun": ("SLURM_PROCID",), "pack": ("SLURM_PROCID", "SLURM_NTASKS")}


@dataclass(frozen=True)
class Process:
    """One process of a run.

    job        Slurm's number of the job, or of the array; None by hand, in an interactive job too
    task       in a job array or a pack, which of its runs; else None
    rank       which of the processes that share the run; the first, 0, is the one that writes
    is_distributed  whether other processes were started with it that share the run
    restart    how often Slurm has requeued the job, and torchrun its processes: "", "1" or "1_2"
    """

    job: str | None
    task: int | None
    rank: int
    is_distributed: bool
    restart: str

    @property
    def id(self) -> str | None:
        """The job with its task, like 687_3."""
        return self.job if self.job is None or self.task is None else f"{self.job}_{self.task}"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def record(self) -> str:
        """The folder of Hydra's record of this attempt, in the run's."""
        return f".hydra_{self.restart}" if self.restart else ".hydra"


def this_process() -> Process:
    """Return what this process is. Exits if the environment of its job did not reach Python."""
    job, mode = batch_job(), launcher_mode()
    task = os.environ.get("SLURM_ARRAY_TASK_ID") if job else None
    number = int(task) if task else None
    if mode == "pack":
        number = (number or 0) * int(os.environ["SLURM_NTASKS"]) + int(os.environ["SLURM_PROCID"])
    # torchrun gives RANK. Lightning, which starts its processes by itself, gives them LOCAL_RANK alone.
    rank = os.environ.get("RANK", os.environ["SLURM_PROCID"] if mode == "srun" else os.environ.get("LOCAL_RANK"))
    requeues = os.environ.get("SLURM_RESTART_COUNT", "0") if job else "0"
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    restart = "" if requeues == "0" else requeues
    if restarts != "0":
        restart = f"{requeues}_{restarts}"
    return Process(job, number, int(rank or 0), rank is not None, restart)


def batch_job() -> str | None:
    """Return the number of the batch job, or of its array, that started this process; None by hand.

    The launcher exports it as EXPERIMENT_JOB. What is typed in an interactive job is by hand, a launcher too.
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
            f"EXPERIMENT_JOB is {job}, but Slurm's variables are those of job {own}. In a task of an array, let the "
            "`python:` command of lab.yml pass SLURM_ARRAY_JOB_ID and SLURM_ARRAY_TASK_ID; in another job, unset it."
        )
    return job


def launcher_mode() -> str | None:
    """Return how the launcher starts Python: one, ddp, srun or pack. None without a launcher or outside of Slurm."""
    mode = os.environ.get("EXPERIMENT_MODE")
    if not mode or "SLURM_JOB_ID" not in os.environ:
        return None
    require_passed(f"EXPERIMENT_MODE is {mode}", *NEEDED.get(mode, ()))
    return mode


def require_passed(subject: str, *names: str) -> None:
    """Exit unless these variables of the launcher or of Slurm are set here."""
    missing = [name for name in names if name not in os.environ]
    if missing:
        sys.exit(
            f"{subject}, but Python did not get {', '.join(missing)}. "
            "Let the `python:` command of lab.yml pass EXPERIMENT_* and SLURM_*."
        )


def queue_id() -> str | None:
    """Return the job as squeue lists it, like 687 or 687_3; None by hand."""
    job, task = batch_job(), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{task}" if job and task else job


def candidate_names(process: Process) -> Iterator[str]:
    """The names that a run's folder may have, best first: any number by hand, else the one that its processes know."""
    if process.id:
        yield process.id
    elif "RANK" in os.environ:
        run = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        if run == "none":
            sys.exit("RANK is set, but nothing names the run that its processes share: give torchrun --standalone.")
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

    A process that a run starts to work for it, as a loader of data does, has the run's name from its environment. One
    that is another run gets a name of its own when Hydra starts it.
    """
    process = this_process()
    os.environ["RUN_TASK"] = str(process.task or 0)
    os.environ["RUN_RECORD"] = process.record if process.is_main else "null"
    os.environ["RUN_LOG"] = "[console, file]" if process.is_main else "[console]"
    if name or process.id:
        os.environ["RUN_NAME"] = name or str(process.id)
    elif "RUN_NAME" not in os.environ:
        os.environ["RUN_NAME"] = next(candidate_names(process))
