"""Which process of which run this one is, by what Slurm, torchrun and the launcher say."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count


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
        """The job with its task, like 687_3, as squeue shows it."""
        return self.job if self.job is None or self.task is None else f"{self.job}_{self.task}"

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def record(self) -> str:
        """The folder of Hydra's record of this attempt, in the run's."""
        return f".hydra_{self.restart}" if self.restart else ".hydra"


def this_process() -> Process:
    mode = launcher_mode()
    # What is typed in an interactive job, by salloc or srun --pty, is by hand, a launcher too.
    is_batch = mode is not None and os.environ.get("ENVIRONMENT") == "BATCH"
    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"]) if is_batch else None
    task = os.environ.get("SLURM_ARRAY_TASK_ID") if is_batch else None
    number = int(task) if task else None
    if mode == "pack":
        number = (number or 0) * int(os.environ["SLURM_NTASKS"]) + int(os.environ["SLURM_PROCID"])
    # torchrun gives RANK. Lightning, which starts its processes by itself, gives them LOCAL_RANK alone.
    rank = os.environ.get("RANK", os.environ["SLURM_PROCID"] if mode == "srun" else os.environ.get("LOCAL_RANK"))
    requeues = os.environ.get("SLURM_RESTART_COUNT", "0") if is_batch else "0"
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    restart = "" if requeues == "0" else requeues
    if restarts != "0":
        restart = f"{requeues}_{restarts}"
    return Process(job, number, int(rank or 0), rank is not None, restart)


def launcher_mode() -> str | None:
    """How the launcher of this job starts Python: one, ddp, srun or pack. None where there is no launcher or no job."""
    return os.environ.get("EXPERIMENT_MODE") if "SLURM_JOB_ID" in os.environ else None


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
