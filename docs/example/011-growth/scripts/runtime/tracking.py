# experiments/011-growth/scripts/runtime/tracking.py
# [[experiments.011-growth.scripts.runtime.tracking]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/runtime/tracking.py
"""Weights & Biases. No secret of the environment leaves this machine."""

import os
import os.path as osp
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runtime.figures import stamp_pattern

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from omegaconf import DictConfig

MODES = ("disabled", "offline", "online")
OURS = ("RUN_NAME", "RUN_TASK", "WANDB_MODE")  # variables whose values are no secret


def check(cfg: "DictConfig") -> None:
    """Exits where `wandb.mode` is none of W&B's, or where W&B is on and a variable of its is empty, which it hides."""
    if cfg.wandb.mode not in MODES:
        sys.exit(f"wandb.mode is {cfg.wandb.mode}: set it to disabled, offline or online.")
    if cfg.wandb.mode != "disabled":
        for variable, value in os.environ.items():
            if variable.startswith("WANDB_") and not value:
                sys.exit(f"{variable} is empty: unset it.")


def start(cfg: "DictConfig", name: str) -> Any:
    """A run of W&B, named and kept as this run is, unless `cfg.wandb`, arguments of wandb.init, says otherwise."""
    import wandb
    from omegaconf import OmegaConf

    options = {"name": name, "dir": cfg.folder, "config": without_environment(cfg)}
    own: Any = OmegaConf.to_container(cfg.wandb, resolve=True)
    try:
        return wandb.init(**(options | own))
    except (TypeError, ValueError, wandb.errors.UsageError) as error:  # a key or a value that wandb.init does not take
        sys.exit(f"wandb, in the configuration, is not what wandb.init takes: {' '.join(str(error).split())}")


def log_figure(wandb_run: Any, figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Give W&B a figure under its file's name without the stamp, so that runs compare."""
    import matplotlib.pyplot  # noqa: F401  # which W&B takes as imported
    import wandb

    title = re.sub(f"_?{stamp_pattern()}", "", osp.splitext(osp.basename(path))[0])
    wandb_run.log({title or "figure": wandb.Image(figure)})


def without_environment(cfg: "DictConfig") -> Any:
    """A configuration's values, in which ${oc.env:NAME} stays as it is written, wherever it is used."""
    from omegaconf import OmegaConf

    with environment_hidden():
        return OmegaConf.to_container(cfg, resolve=True)


@contextmanager
def environment_hidden() -> Iterator[None]:
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    def hidden(key: str, *default: Any) -> Any:
        return oc.env(key, *default) if key in OURS else "${oc.env:" + key + "}"

    OmegaConf.register_new_resolver("oc.env", hidden, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
