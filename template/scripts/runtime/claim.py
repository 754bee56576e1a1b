"""What happens before Hydra makes a run's folder."""

import json
import os
import os.path as osp
import sys
from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from runtime.process import Process, candidate_names, export_run_variables, this_process
from runtime.requirements import OWN, changed_names, require_needs


class Start(Callback):
    """Checks what a run needs and takes its folder. conf/runtime.yaml names it, and Hydra calls it."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        start(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        start(config, "hydra.sweep.dir")


def start(config: DictConfig, key: str) -> None:
    """Exits where something that the run needs is missing, or the folder that `key` gives is another run's."""
    HydraConfig.instance().set_config(config)
    try:
        swept = [*swept_names(config), *subfolder_problem(config)] if key == "hydra.sweep.dir" else []
        for problem in [*changed_names(config), *swept]:
            sys.exit(problem)
        if this_process().is_main:
            require_needs(config)
        claim_run_folder(config, key)
    except Exception as error:  # which Hydra would make a warning
        sys.exit(f"This run has no folder: {' '.join(str(error).split())}")


def swept_names(config: DictConfig) -> Iterator[str]:
    """Each name of a run that Hydra's -m would change in its runs, like folder=A,B."""
    typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    for override in typed:
        key, _, value = override.lstrip("+").partition("=")
        if key in OWN and value != OWN[key]:
            yield f"{override}: {key} cannot be set. Use --config-name, or hydra.sweep.dir=PATH for a new folder."


def subfolder_problem(config: DictConfig) -> Iterator[str]:
    """Whether a run of Hydra's -m would have its folder outside that of the multirun, where it may be another run's."""
    written = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    subfolder = str(written["subdir"]) if isinstance(written, dict) else ""
    if osp.isabs(subfolder) or osp.pardir in subfolder.split(osp.sep):
        yield f"hydra.sweep.subdir is {subfolder}: it must lie in hydra.sweep.dir. Use hydra.sweep.dir=PATH."


def claim_run_folder(config: DictConfig, key: str) -> None:
    process = this_process()
    refused = None
    for name in candidate_names(process):
        export_run_variables(name)
        folder = osp.abspath(OmegaConf.select(config, key))
        if not process.is_main or claim_folder(folder, process):
            return
        if folder == refused:
            break
        refused = folder
    sys.exit(f"{refused} is not this run's: move it away, or start this one under another name.")


def claim_folder(folder: str, process: Process) -> bool:
    """Whether a folder is now this run's alone. What says so is a folder that only one process can make."""
    if process.restart:
        if not is_earlier_attempt(folder, process):
            return False
    elif process.is_distributed:  # which may have made it by now
        if osp.islink(folder) or osp.exists(osp.join(folder, "provenance.json")):
            return False
    elif not mkdir_exclusive(folder):
        return False
    return mkdir_exclusive(osp.join(folder, process.record))


def mkdir_exclusive(folder: str) -> bool:
    """Whether a folder is now made that was not there."""
    os.makedirs(osp.dirname(folder), exist_ok=True)
    try:
        os.mkdir(folder)
    except FileExistsError:
        return False
    return True


def is_earlier_attempt(folder: str, process: Process) -> bool:
    try:
        with open(osp.join(folder, "provenance.json"), encoding="utf-8") as file:
            record = json.load(file)
        cluster = record["slurm"].get("SLURM_CLUSTER_NAME")
        return bool(record["job"] == process.id and cluster == os.environ.get("SLURM_CLUSTER_NAME"))
    except FileNotFoundError:
        return True  # it ended before it had one, or it is the folder of several
    except (ValueError, LookupError, TypeError):
        return False  # it is no record of a run


BEGUN: dict[str, int | None] = {}  # the folders that this process has begun a run in, with the number of Hydra's -m


def refuse_taken_folder(folder: str, process: Process) -> None:
    """Exit if a folder has the record of another run, before anything of it is changed.

    A script may begin its run again, as a phase of its own, and a job that was requeued goes on in its folder.
    """
    number = multirun_number()
    is_own = BEGUN.get(folder, -1) == number
    is_restart = bool(process.restart) and is_earlier_attempt(folder, process)
    if osp.lexists(osp.join(folder, "provenance.json")) and not is_own and not is_restart:
        sys.exit(f"{folder} is another run's folder. Use hydra.run.dir=PATH for a new one.")
    BEGUN[folder] = number


def multirun_number() -> int | None:
    """The number of this run among those of Hydra's -m, else None."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return int(HydraConfig.get().job.num)
    return None
