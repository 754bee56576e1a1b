"""Where this code is, and where its experiment is: for code that was pinned when it was submitted, these differ."""

import json
import os.path as osp
import shlex
from typing import Any

EXPERIMENT = "011-growth"
PACKAGE = "torchcell"  # whose timestamp() names images; empty: timestamp.py beside the scripts
SCRIPTS = osp.dirname(osp.dirname(osp.realpath(__file__)))
CONF = osp.join(osp.dirname(SCRIPTS), "conf")
ROOT = osp.dirname(osp.dirname(osp.dirname(SCRIPTS)))


def read_submitted() -> dict[str, Any] | None:
    """What submit.sh says of pinned code: its `commit`, whether that is `dirty`, and the `experiment`, a folder."""
    path = osp.join(ROOT, "submitted.json")
    if not osp.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        submitted: dict[str, Any] = json.load(file)
    return submitted


SUBMITTED = read_submitted()

# Results, profiles and logs go to it.
FOLDER: str = SUBMITTED["experiment"] if SUBMITTED else osp.dirname(SCRIPTS)


def location_error() -> str | None:
    """What is wrong where this folder is not the experiments/EXPERIMENT that its files were rendered for."""
    folder = osp.dirname(SCRIPTS)
    if folder.endswith(osp.join(osp.sep, "experiments", EXPERIMENT)):
        return None
    parent, name = osp.split(folder)
    if osp.basename(parent) == "experiments":
        update = shlex.join(["copier", "update", "--defaults", "-d", f"experiment={name}", folder])
        way_out = f"Commit, and give them its name: {update}"
    else:
        home = osp.join(parent, "experiments", EXPERIMENT)
        way_out = f"Move it: mkdir -p {shlex.quote(osp.dirname(home))} && mv {shlex.quote(folder)} {shlex.quote(home)}"
    return f"{folder} has the files of experiments/{EXPERIMENT}, which work only there.\n{way_out}"
