"""What happens before Hydra makes a run's folder."""

import json
import os
import os.path as osp
import sys
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from runtime.process import Process, candidate_names, export_run_variables, this_process
from runtime.requirements import require_needs


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
        if this_process().is_main:
            require_needs(config)
        claim_run_folder(config, key)
    except Exception as error:  # which Hydra would make a warning
        sys.exit(f"This run has no folder: {' '.join(str(error).split())}")


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
