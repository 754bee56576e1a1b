"""Locate this code and its experiment. For code that submit.sh has pinned, the two differ."""

import importlib.util
import json
import os
import os.path as osp
import shlex
import sys
from typing import Any

EXPERIMENT = "011-growth"
PREFIX = "011"  # of the names of jobs, figures and tables
PACKAGE = "torchcell"  # the package with timestamp(), which names images; if empty, timestamp.py is in scripts/
SCRIPTS = osp.dirname(osp.dirname(osp.realpath(__file__)))
CONF = osp.join(osp.dirname(SCRIPTS), "conf")
ROOT = osp.dirname(osp.dirname(osp.dirname(SCRIPTS)))


def read_submitted() -> dict[str, Any] | None:
    """Return what submit.sh recorded in pinned code: `commit`, `dirty`, and `experiment` (its folder); else None."""
    path = osp.join(ROOT, "submitted.json")
    if not osp.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        submitted: dict[str, Any] = json.load(file)
    return submitted


SUBMITTED = read_submitted()

# The experiment's folder in the live tree. Results, profiles and logs are written there.
FOLDER: str = SUBMITTED["experiment"] if SUBMITTED else osp.dirname(SCRIPTS)


def receipt_file(name: str) -> str:
    """Return the path of a file in the receipt of this job. Without a receipt, that is a path where no file can be."""
    return osp.join(os.environ.get("EXPERIMENT_SUBMISSION") or os.devnull, name)


def package_folder() -> str | None:
    """Return the folder of the lab's top-level package in this tree, or None if the tree has none."""
    top = PACKAGE.partition(".")[0]
    folders = [osp.join(ROOT, top), osp.join(ROOT, "src", top)] if top else []
    return next(filter(osp.isdir, folders), None)


def package_error(modules: bool = True) -> str | None:
    """Return a problem if the lab's package comes from another place than this tree, else None.

    Check the modules that are imported, or without `modules` the one that Python would import. An editable install
    with an import hook takes precedence over sys.path, and so does a module that a .pth file has imported.
    """
    folder = package_folder()
    parts = PACKAGE.split(".") if modules else [PACKAGE.partition(".")[0]]
    names = [".".join(parts[: depth + 1]) for depth in range(len(parts))] if folder else []
    for name in names:
        locations = module_locations(name) if modules else spec_locations(name)
        if locations and folder and not any(is_below(location, folder) for location in locations):
            python = shlex.quote(sys.executable)
            return (
                f"{name} is imported from {locations[0]}, but this code needs {folder}. Uninstall that copy: "
                f"{python} -m pip uninstall {parts[0]}"
            )
    return None


def module_locations(name: str) -> list[str]:
    """Return the file or the folders of an imported module."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    return [file] if file else list(getattr(module, "__path__", []))


def spec_locations(name: str) -> list[str]:
    """Return the file or the folders that Python would import a top-level module from."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return []
    return [spec.origin] if spec.origin and spec.has_location else list(spec.submodule_search_locations or [])


def is_below(path: str, folder: str) -> bool:
    return osp.join(osp.realpath(path), "").startswith(osp.join(osp.realpath(folder), ""))


def location_error() -> str | None:
    """Return a problem if this folder is not the experiments/EXPERIMENT that it was rendered for, else None."""
    folder = osp.dirname(SCRIPTS)
    if folder.endswith(osp.join(osp.sep, "experiments", EXPERIMENT)):
        return None
    parent, name = osp.split(folder)
    if osp.basename(parent) == "experiments":
        update = shlex.join(["copier", "update", "--defaults", "-d", f"experiment={name}", folder])
        hint = f"Commit, then rename the experiment in its files: {update}"
    else:
        home = osp.join(parent, "experiments", EXPERIMENT)
        hint = f"Move it: mkdir -p {shlex.quote(osp.dirname(home))} && mv {shlex.quote(folder)} {shlex.quote(home)}"
    return f"{folder} has the files of experiments/{EXPERIMENT}, which work only there.\n{hint}"
