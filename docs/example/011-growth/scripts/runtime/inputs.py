# experiments/011-growth/scripts/runtime/inputs.py
# [[experiments.011-growth.scripts.runtime.inputs]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/runtime/inputs.py
"""The files that a run reads."""

import os
import os.path as osp
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def missing_inputs(cfg: "DictConfig") -> list[str]:
    """The paths of `inputs:`, files or folders relative to DATA_ROOT, that do not exist or cannot be read."""
    paths = [osp.join(os.environ["DATA_ROOT"], path) for path in cfg.get("inputs") or []]
    return [path for path in paths if not os.access(path, os.R_OK)]


def require_inputs(cfg: "DictConfig") -> None:
    """Exits where an input is missing."""
    if missing := missing_inputs(cfg):
        sys.exit(f"An input of this run is missing or cannot be read: {', '.join(missing)}")
