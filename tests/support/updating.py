"""The two ways to update an experiment, and what they leave."""

import os
import sys
from pathlib import Path

from support.process import run
from support.template import ROOT

COMMAND = [sys.executable, str(ROOT / "experiments.py")]


def contents(folder):
    """Every file below a folder, links not followed, git's own left out: {path: content or the link's target}."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and ".git/" not in name and name != ".git":
            found[name] = path.read_bytes()
    return found


def tool(lab, *arguments, cwd=None, env=None):
    return run(*COMMAND, *arguments, cwd=cwd or lab.path, env=os.environ | (env or {}))


def by_tool(lab):
    return tool(lab, "update")


def by_copier(lab):
    return run("copier", "update", "--defaults", "experiments/011-x", cwd=lab.path)
