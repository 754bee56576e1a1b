"""Check a run and claim its folder, before Hydra makes that folder."""

import os
import os.path as osp
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from runtime.campaign import ChosenPoint, chosen_point, configuration_hash
from runtime.files import mkdir_exclusive
from runtime.paths import EXPERIMENT
from runtime.point_claims import (
    ClaimError,
    Finished,
    Taken,
    claim_with_answers,
    other_script_problem,
    own_campaign_folder,
)
from runtime.process import (
    Process,
    candidate_names,
    export_run_variables,
    is_earlier_attempt,
    link_folder,
    this_process,
)
from runtime.record import script_name
from runtime.requirements import FIXED_KEYS, changed_names, grid_problems, require_needs


class Start(Callback):
    """Hydra's callback at the start of a run, as conf/runtime.yaml names it."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        check_and_claim(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        check_and_claim(config, "hydra.sweep.dir")


def check_and_claim(config: DictConfig, key: str) -> None:
    """Exit if a requirement is not met, or if the folder under `key` belongs to another run. Else claim it."""
    HydraConfig.instance().set_config(config)
    try:
        is_multirun, chosen = key == "hydra.sweep.dir", chosen_point()
        multirun_problems = find_multirun_problems(config) if is_multirun else []
        for problem in [*grid_problems(config, is_multirun), *changed_names(config), *multirun_problems]:
            sys.exit(problem)
        if this_process().is_main:
            require_needs(config)
        HASHES.append(configuration_hash(config))
        remove_grid(config)
        home, script = campaign_folder(config, key), script_name(sys.argv[0])
        if home and (refusal := other_script_problem(home, script)):
            sys.exit(refusal)
        if chosen:
            claim_chosen_point(config, chosen)
        else:
            claim_run_folder(config, key)
        if home:
            own_campaign_folder(home, script)
        if this_process().is_main:
            link_folder(osp.abspath(OmegaConf.select(config, key)))
    except Exception as error:  # Hydra would only print a warning
        sys.exit(f"This run has no folder: {' '.join(str(error).split())}")


def find_multirun_problems(config: DictConfig) -> list[str]:
    return [*swept_names(config), *subfolder_problem(config), *launcher_problem(config)]


def swept_names(config: DictConfig) -> Iterator[str]:
    """Yield a problem for each of FIXED_KEYS that a multirun would change in its runs, as in folder=A,B."""
    typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    for override in typed:
        key, _, value = override.lstrip("+").partition("=")
        if key in FIXED_KEYS and value != FIXED_KEYS[key]:
            yield f"{override}: {key} cannot be set. Use --config-name, or hydra.sweep.dir=PATH for a new folder."


def subfolder_problem(config: DictConfig) -> Iterator[str]:
    """Yield a problem if the folders of a multirun's runs would be outside the multirun's own folder."""
    written = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    subfolder = str(written["subdir"]) if isinstance(written, dict) else ""
    if osp.isabs(subfolder) or osp.pardir in subfolder.split(osp.sep):
        yield f"hydra.sweep.subdir is {subfolder}. It must be inside hydra.sweep.dir. Use hydra.sweep.dir=PATH."


def launcher_problem(config: DictConfig) -> Iterator[str]:
    """Yield a problem if submitit would start the runs of a multirun, because its processes lack scripts/."""
    launcher = str(OmegaConf.select(config, "hydra.runtime.choices")["hydra/launcher"])
    if launcher.startswith("submitit"):
        advice = "Use hydra/launcher=joblib, or give the values to submit.sh"
        yield f"hydra/launcher={launcher}: its processes cannot import the modules of this experiment. {advice}."


# Points ---------------------------------------------------------------------------------------------------------------


# The hash of the configuration as it was composed, before the script could change it.
HASHES: list[str] = []


def remove_grid(config: DictConfig) -> None:
    """Remove the keys that a script does not get. Hydra copies this configuration for the script."""
    with read_write(config), open_dict(config):
        for key in ("grid", "point"):
            config.pop(key, None)


def claim_chosen_point(config: DictConfig, chosen: ChosenPoint) -> None:
    """Claim the point of this process, and export the name of its run. Exits if it may not be computed.

    In a job, point.sh has claimed it already. Each attempt gets a subfolder for Hydra's record.
    """
    export_run_variables()
    if not this_process().is_main:
        return
    folder = osp.abspath(OmegaConf.select(config, "hydra.run.dir"))
    subject = f"point {chosen.point.name} of {chosen.campaign}"
    try:
        claim_with_answers(folder)
    except Finished as finished:
        problem = finished.difference(HASHES[-1])
        sys.exit(f"{subject}: {problem or f'it is finished. To compute it again, move {folder} away.'}")
    except Taken as taken:
        sys.exit(f"{subject}: {taken}. Wait until it ends.")
    except ClaimError as error:
        sys.exit(str(error))
    names = (f".hydra_{number}" if number else ".hydra" for number in count())
    os.environ["RUN_RECORD"] = next(name for name in names if mkdir_exclusive(osp.join(folder, name)))


# Folders --------------------------------------------------------------------------------------------------------------


def campaign_folder(config: DictConfig, key: str) -> str | None:
    """Return runs/CONFIG, which belongs to one script, in a job. None by hand, and if hydra.run.dir was changed."""
    process = this_process()
    if not process.is_main or not process.job:
        return None
    export_run_variables()
    folder = osp.dirname(osp.abspath(OmegaConf.select(config, key)))
    return folder if osp.dirname(folder).endswith(osp.join("experiments", EXPERIMENT, "runs")) else None


def claim_run_folder(config: DictConfig, key: str) -> None:
    """Claim a folder under the first candidate name that is free, and export that name. Exits if none is free."""
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
    sys.exit(f"{refused} is not this run's folder. Move it away, or start this run under another name.")


def claim_folder(folder: str, process: Process) -> bool:
    """Return whether this process has claimed a folder: whoever makes the subfolder for Hydra's record owns it."""
    if process.restart:
        if not is_earlier_attempt(folder, process):
            return False
    elif process.is_distributed:  # another process of the same run may have made it
        if osp.islink(folder) or osp.exists(osp.join(folder, "provenance.json")):
            return False
    elif not mkdir_exclusive(folder):
        return False
    return mkdir_exclusive(osp.join(folder, process.record))


# The folders in which this process has begun a run, with the run's number in a multirun.
BEGUN: dict[str, int | None] = {}


def refuse_taken_folder(folder: str, process: Process) -> None:
    """Exit if a folder has the record of another run. Nothing in it has been changed by then.

    A script may open its run several times, and a requeued job continues in its folder.
    """
    number = multirun_number()
    if chosen_point():  # this process has claimed it
        return
    is_own = BEGUN.get(folder, -1) == number
    is_restart = bool(process.restart) and is_earlier_attempt(folder, process)
    if osp.lexists(osp.join(folder, "provenance.json")) and not is_own and not is_restart:
        sys.exit(f"{folder} belongs to another run. Use hydra.run.dir=PATH for a new folder.")
    BEGUN[folder] = number


def multirun_number() -> int | None:
    """Return the number of this run in a multirun (Hydra's -m), else None."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return int(HydraConfig.get().job.num)
    return None
