"""What a run needs by its configuration: its inputs, and settings that Weights & Biases takes."""

import os
import os.path as osp
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

MODES = ("disabled", "offline", "online")
OWN = {"config": "${hydra:job.config_name}", "folder": "${hydra:runtime.output_dir}"}  # as conf/runtime.yaml has them


def require_needs(cfg: "DictConfig") -> None:
    """Exits where something that this run needs is not there."""
    for problem in unmet_requirements(cfg):
        sys.exit(problem)


def unmet_requirements(cfg: "DictConfig") -> Iterator[str]:
    """What this run would fail of, each in one line. The preflight asks for it, and so does the run itself."""
    from omegaconf import OmegaConf

    yield from changed_names(cfg)
    if cfg.config.endswith(".yaml"):
        yield f"--config-name {cfg.config}: leave out .yaml, which would make it another configuration's run."
    inputs = named(cfg.get("inputs"))
    if not all(isinstance(path, str) for path in inputs):
        yield f"inputs is {cfg.inputs}: it must be a list of paths in DATA_ROOT."
        return
    paths = [osp.join(os.environ["DATA_ROOT"], path) for path in inputs]
    missing = [path for path in paths if not os.access(path, os.R_OK)]
    if missing:
        yield f"inputs: missing, or not to be read: {', '.join(missing)}"
    mode = OmegaConf.select(cfg, "wandb.mode", default="disabled")
    if mode not in MODES:
        yield f"wandb.mode is {mode}: set it to disabled, offline or online."
    elif mode != "disabled":
        if not find_spec("wandb"):
            yield f"wandb.mode is {mode}, but wandb is not installed for {sys.executable}"
        empty = [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]
        yield from (f"{name} is empty: unset it." for name in empty)  # W&B would hide what is wrong


def changed_names(cfg: "DictConfig") -> Iterator[str]:
    """Each name of a run that was changed, so that it would write to the folder or the results of another run."""
    from omegaconf import OmegaConf

    written: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, own in OWN.items():
        if written[key] != own:
            advice = "Use hydra.run.dir=PATH for a new folder" if key == "folder" else "Use --config-name"
            yield f"{key} is set to {written[key]}: it must stay {own}, as in conf/runtime.yaml. {advice}."


def named(inputs: Any) -> list[Any]:
    """The paths of `inputs:`, relative to DATA_ROOT, or the only one, or what stands in their place."""
    is_list = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    return list(inputs) if is_list else [inputs] if inputs is not None else []
