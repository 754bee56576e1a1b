"""Weights & Biases. No secret of the environment leaves this machine."""

import io
import os
import os.path as osp
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runtime.figures import draw, stamp_pattern
from runtime.files import try_to_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from omegaconf import DictConfig

OURS = ("RUN_NAME", "RUN_TASK", "WANDB_MODE")  # variables whose values are no secret


def start(cfg: "DictConfig", name: str) -> Any:
    """A run of W&B, named and kept as this run is, unless `cfg.wandb`, arguments of wandb.init, says otherwise.

    Exits where W&B does not start, after W&B's own `settings.init_timeout` where its server does not answer.
    """
    import wandb
    from omegaconf import OmegaConf

    hidden = without_environment(cfg)
    own: Any = OmegaConf.to_container(cfg.wandb, resolve=True)
    options = {"name": name, "dir": cfg.folder, "config": hidden} | own
    if "config" in own:
        options["config"] = hidden["wandb"]["config"]
    try:
        os.makedirs(options["dir"], exist_ok=True)
        try_to_write(options["dir"])  # else W&B would write to another folder
        return wandb.init(**options)
    except (TypeError, ValueError) as error:  # a key or a value that wandb.init does not take
        sys.exit(f"wandb, in the configuration, is not what wandb.init takes: {one_line(error)}")
    except (OSError, wandb.errors.Error) as error:
        sys.exit(f"W&B does not start: {one_line(error)}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def log_figure(
    wandb_run: Any, figure: "Figure", path: str | os.PathLike[str], stem: str, options: Mapping[str, Any]
) -> None:
    """Give W&B a figure under its file's name without the stem of the run and the stamp, so that runs compare.

    It is drawn as PNG whatever the file is: W&B shows no other. `options` are those of the file.
    """
    import wandb
    from PIL import Image

    title = re.sub(stamp_pattern(), "", osp.splitext(osp.basename(path))[0]).replace(stem, "").strip("_")
    picture = io.BytesIO()
    draw(figure, picture, "png", {}, options)
    wandb_run.log({title or "figure": wandb.Image(Image.open(picture))})


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
