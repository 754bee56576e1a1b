"""What a run needs by its configuration: values, inputs, and settings that Weights & Biases takes."""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from runtime import inputs

if TYPE_CHECKING:
    from omegaconf import DictConfig

LACKS_RUNTIME = "This configuration lacks conf/runtime.yaml: give it `defaults: [runtime, default, _self_]`."
MODES = ("disabled", "offline", "online")
OWN = {"config": "${hydra:job.config_name}", "folder": "${hydra:runtime.output_dir}"}  # as conf/runtime.yaml has them


def has_runtime(cfg: "DictConfig") -> bool:
    """Whether a configuration has conf/runtime.yaml among its defaults. Its keys may have no value yet."""
    return {"config", "folder", "task", "trial", "inputs", "wandb"} <= set(cfg)


def require_needs(cfg: "DictConfig") -> None:
    """Exit if something that this run needs is missing, or an input changed since the run was submitted."""
    for problem in unmet_requirements(cfg):
        sys.exit(problem)
    inputs.refuse_changed(cfg.inputs)


def unmet_requirements(cfg: "DictConfig") -> Iterator[str]:
    """Yield what this run would fail of, each in one line. The preflight asks for it, and so does the run itself."""
    yield from changed_names(cfg)
    if cfg.config.endswith(".yaml"):
        yield f"--config-name {cfg.config}: leave out .yaml, which would make it another configuration's run."
    yield from inputs.problems(cfg.inputs)
    yield from wandb_problems(cfg)


def wandb_problems(cfg: "DictConfig") -> Iterator[str]:
    from omegaconf import OmegaConf

    mode = OmegaConf.select(cfg, "wandb.mode", default="disabled")
    if mode not in MODES:
        yield f"wandb.mode is {mode}: set it to disabled, offline or online."
    elif mode != "disabled":
        if not find_spec("wandb"):
            yield f"wandb.mode is {mode}, but wandb is not installed for {sys.executable}"
        empty = [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]
        yield from (f"{name} is empty: unset it." for name in empty)  # W&B would hide what is wrong


def unresolved(node: Any, prefix: str = "") -> Iterator[tuple[str, Exception | None]]:
    """Yield the keys that have no value: those left as ???, with None, and the others with their error."""
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


def changed_names(cfg: "DictConfig") -> Iterator[str]:
    """Yield each name of a run that was changed, so that it would write to the folder or results of another run.

    The runs of a sweep by W&B have the name of the sweep: `--config-name NAME_run config=NAME`.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    written: Any = OmegaConf.to_container(cfg, resolve=False)
    is_sweep = HydraConfig.initialized() and HydraConfig.get().job.config_name == f"{written['config']}_run"
    for key, own in OWN.items():
        if written[key] != own and not (key == "config" and is_sweep):
            advice = "Use hydra.run.dir=PATH for a new folder" if key == "folder" else "Use --config-name"
            yield f"{key} is set to {written[key]}: it must stay {own}, as in conf/runtime.yaml. {advice}."
