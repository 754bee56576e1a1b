"""Check what a configuration needs: values, inputs, and valid settings of Weights & Biases."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from runtime import inputs
from runtime.campaign import chosen_point, read_grid
from runtime.grid import GridError
from runtime.paths import ROOT, is_below

if TYPE_CHECKING:
    from omegaconf import DictConfig

LACKS_RUNTIME = "This configuration lacks conf/runtime.yaml. Give it `defaults: [runtime, default, _self_]`."
LACKS_FOLDER = (
    "This configuration has no run folder, like one from hydra.compose. Run the script itself, even in a notebook: "
    "!python SCRIPT --config-name CONFIG KEY=VALUE"
)
MODES = ("disabled", "offline", "online")
LIGHTNING = ("lightning", "pytorch_lightning")
FIXED_KEYS = {"config": "${hydra:job.config_name}", "folder": "${hydra:runtime.output_dir}"}  # from conf/runtime.yaml


def has_runtime(cfg: "DictConfig") -> bool:
    """Return whether conf/runtime.yaml is among a configuration's defaults. Its keys may have no value yet."""
    return {"config", "folder", "task", "trial", "inputs", "wandb"} <= set(cfg)


def has_folder(cfg: "DictConfig") -> bool:
    """Return whether the run folder of a configuration is known. Only Hydra's own start gives it one."""
    from omegaconf.errors import InterpolationResolutionError

    try:
        return bool(cfg.folder)
    except InterpolationResolutionError:
        return False


def require_needs(cfg: "DictConfig") -> None:
    """Exit if a requirement of this run is not met, or if an input has changed since the run was submitted."""
    for problem in unmet_requirements(cfg):
        sys.exit(problem)
    inputs.refuse_changed(cfg.inputs)


def unmet_requirements(cfg: "DictConfig") -> Iterator[str]:
    """Yield the requirements that are not met, one line each. Both the preflight and the run check them."""
    yield from changed_names(cfg)
    if cfg.config.endswith(".yaml"):
        yield f"--config-name {cfg.config}: the name must not end in .yaml. Remove that."
    yield from inputs.input_problems(cfg.inputs)
    yield from wandb_problems(cfg)


def wandb_problems(cfg: "DictConfig") -> Iterator[str]:
    from omegaconf import OmegaConf

    mode = OmegaConf.select(cfg, "wandb.mode", default="disabled")
    if mode not in MODES:
        yield f'unknown wandb.mode "{mode}"; expected one of: {", ".join(MODES)}.'
    elif mode != "disabled":
        if not find_spec("wandb"):
            yield f"wandb.mode is {mode}, but wandb is not installed for {sys.executable}"
        # The errors that W&B reports for empty variables do not name them.
        empty = [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]
        yield from (f"{name} is empty. Unset it or set a value." for name in empty)


def lightning_problem(environment: Mapping[str, str]) -> str | None:
    """Return a problem if PyTorch Lightning would silently train on part of the data, else None.

    In a job with ntasks, Lightning expects one Slurm task per device and starts no processes itself.
    `environment` has the variables of the launcher and of the job.
    """
    gpus = environment.get("SLURM_GPUS_ON_NODE", "0")
    is_single = environment.get("SLURM_NTASKS") == "1" and environment.get("EXPERIMENT_MODE") in (
        "one",
        "plain",
        "srun",
    )
    if not is_single or int(gpus) < 2 or not uses_lightning():
        return None
    return (
        f"Lightning: ntasks is 1, but the job has {gpus} GPUs. One process would train on 1/{gpus} of the data. "
        f"Remove ntasks, or use the mode srun with ntasks-per-node={gpus}, or request one GPU."
    )


def uses_lightning() -> bool:
    """Return whether this script or a module of this repository has imported PyTorch Lightning.

    Other libraries import Lightning, too. These do not count.
    """
    return any(
        imported_name(value).partition(".")[0] in LIGHTNING
        for module in list(sys.modules.values())
        if is_own(module)
        for value in list(vars(module).values())
    )


def is_own(module: ModuleType) -> bool:
    """Return whether a module belongs to this repository, and not to an environment in one of its folders."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_below(file, ROOT) and "site-packages" not in file


def imported_name(value: object) -> str:
    """Return the name of a module, or that of the module which defines a class or a function; else ""."""
    if isinstance(value, ModuleType):
        return value.__name__
    return value.__module__ or "" if isinstance(value, type | FunctionType) else ""


def unresolved(node: Any, prefix: str = "") -> Iterator[tuple[str, Exception | None]]:
    """Yield the keys without a value: those left as ??? with None, and those that do not resolve with their error."""
    from omegaconf import Container, OmegaConf

    for key in range(len(node)) if OmegaConf.is_list(node) else list(node):
        name = f"{prefix}[{key}]" if OmegaConf.is_list(node) else f"{prefix}.{key}".lstrip(".")
        if OmegaConf.is_missing(node, key):
            yield name, None
            continue
        try:
            value = node[key]
        except Exception as error:
            yield name, error
            continue
        if isinstance(value, Container) and not OmegaConf.is_interpolation(node, key):
            yield from unresolved(value, name)


def missing_fields(error: str) -> str | None:
    """Return what to add to a structured configuration if a Hydra error reports that it lacks the keys of a grid."""
    match = re.search(r"Key '(?:grid|point)' not in '(\w+)'", error)
    return f"Add the fields `grid: Any = None` and `point: Any = None` to {match[1]}." if match else None


def changed_names(cfg: "DictConfig") -> Iterator[str]:
    """Yield a problem for each of FIXED_KEYS that was changed. Such a run could write to another run's folder.

    A W&B sweep may change `config`, because its runs have the sweep's name: `--config-name NAME_run config=NAME`.
    A point has the name of its campaign.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    written: Any = OmegaConf.to_container(cfg, resolve=False)
    is_sweep = HydraConfig.initialized() and HydraConfig.get().job.config_name == f"{written['config']}_run"
    chosen = chosen_point()
    has_other_name = is_sweep or (chosen and written["config"] == chosen.campaign)
    for key, fixed in FIXED_KEYS.items():
        if written[key] != fixed and not (key == "config" and has_other_name):
            advice = "Use hydra.run.dir=PATH for a new folder" if key == "folder" else "Use --config-name"
            yield f"{key} is set to {written[key]}. It must stay {fixed}, as in conf/runtime.yaml. {advice}."


def grid_problems(cfg: "DictConfig", is_multirun: bool) -> Iterator[str]:
    """Yield a problem if a configuration with a grid starts without a point, or a point as a multirun."""
    from hydra.core.hydra_config import HydraConfig

    if chosen := chosen_point():
        if is_multirun:
            yield f"point={chosen.point.name}: a point is one run. Remove --multirun."
        return
    if cfg.get("grid") is None:
        return
    name = str(HydraConfig.get().job.config_name)
    try:
        grid = read_grid(name)
    except GridError as error:
        yield str(error)
        return
    if grid is None:
        yield f"conf/{name}.yaml: it inherits a grid. Write its own `grid:`, or `grid: null` for none."
    else:
        yield f"{name} has a grid of {len(grid.points)} points. Choose one, such as point={grid.points[0].name}"
