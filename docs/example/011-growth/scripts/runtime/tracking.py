"""Log to Weights & Biases. Values of environment variables, which may be secrets, are not sent."""

import io
import os
import os.path as osp
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runtime.campaign import ChosenPoint
from runtime.figures import draw, is_animation, stamp_pattern
from runtime.files import try_to_write

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from runtime.figures import Drawing

STEP = "step"  # the metric with the step of the script. W&B's own step never goes back, as a resumed run does
PUBLIC_VARIABLES = ("RUN_NAME", "RUN_TASK", "WANDB_MODE")  # their values are not secret


def find_id(cfg: "DictConfig", recorded: str | None) -> str | None:
    """Return the id of the run in W&B. All attempts of a run have that of the first, so that W&B has one run.

    In a sweep, W&B's agent gives it. `recorded` is the id in the record of an earlier attempt.
    """
    if in_sweep():
        return os.environ.get("WANDB_RUN_ID")
    return cfg.wandb.get("id") or recorded or os.urandom(8).hex()


def in_sweep() -> bool:
    """Return whether an agent of a W&B sweep has started this process."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def start_wandb(cfg: "DictConfig", name: str, facts: Mapping[str, Any], chosen: ChosenPoint | None) -> Any:
    """Start and return a W&B run with this run's name, folder, id and commit, or resume it.

    `facts` are those of the record. `cfg.wandb` has more arguments of init. A point has its own name, and its campaign
    is the group.

    Exits if W&B does not start. If its server does not answer, that takes W&B's `settings.init_timeout`.
    """
    import wandb
    from omegaconf import OmegaConf

    hidden = without_environment(cfg)
    own: Any = OmegaConf.to_container(cfg.wandb, resolve=True)
    options = {"name": name, "dir": cfg.folder, "config": hidden, "settings": {}}
    if not in_sweep():
        options |= {"id": facts["wandb_id"], "resume": "allow"}
    if chosen:
        options |= {"group": chosen.campaign, "name": chosen.point.name, "tags": chosen.point.tags()}
    options |= own
    if "config" in own:
        options["config"] = hidden["wandb"]["config"]
    try:
        # W&B itself records the HEAD of the repository around its folder, and a remote's URL, which may have a token.
        options["settings"] = {"disable_git": True, "git_commit": facts["commit"]} | options["settings"]
        os.makedirs(options["dir"], exist_ok=True)
        try_to_write(options["dir"])  # W&B would silently write to another folder
        return wandb.init(**options)
    except (TypeError, ValueError) as error:  # an unknown key or an invalid value
        sys.exit(f"wandb.init rejected the configuration: {one_line(error)}")
    except (OSError, wandb.errors.Error) as error:
        sys.exit(f"W&B did not start: {one_line(error)}")


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def define_step(wandb_run: Any) -> None:
    """Use the step of the script as the x axis of W&B charts."""
    wandb_run.define_metric(STEP)
    wandb_run.define_metric("*", step_metric=STEP)


def log_figure(
    wandb_run: Any, figure: "Drawing", path: str | os.PathLike[str], stem: str, options: Mapping[str, Any]
) -> None:
    """Log a figure to W&B as PNG, or an animation as GIF, which W&B shows. `options` are those of the figure's file.

    Its title is the file's name without the run's stem and the timestamp: W&B compares figures of equal titles.
    """
    import wandb
    from PIL import Image

    title = re.sub(stamp_pattern(), "", osp.splitext(osp.basename(path))[0]).replace(stem, "").strip("_")
    picture, kind = io.BytesIO(), "gif" if is_animation(figure) else "png"
    draw(figure, picture, kind, {}, options)
    picture.seek(0)
    shown = wandb.Video(picture, format="gif") if kind == "gif" else wandb.Image(Image.open(picture))
    wandb_run.log({title or "figure": shown})


def without_environment(cfg: "DictConfig") -> Any:
    """Return a configuration's resolved values, in which every ${oc.env:NAME} stays as it is written."""
    from omegaconf import OmegaConf

    with environment_hidden():
        return OmegaConf.to_container(cfg, resolve=True)


def replace_resolver(name: str, resolver: Callable[..., Any]) -> None:
    from omegaconf import OmegaConf

    with warnings.catch_warnings():  # OmegaConf 2.4 renames it to a name that means something else in 2.3
        warnings.filterwarnings("ignore", r"\s*register_new_resolver\(\) is deprecated")
        OmegaConf.register_new_resolver(name, resolver, replace=True)


@contextmanager
def environment_hidden() -> Iterator[None]:
    from omegaconf.resolvers import oc

    def hidden(key: str, *default: Any) -> Any:
        return oc.env(key, *default) if key in PUBLIC_VARIABLES else "${oc.env:" + key + "}"

    replace_resolver("oc.env", hidden)
    try:
        yield
    finally:
        replace_resolver("oc.env", oc.env)
