"""The two ways to update an experiment, and what they leave."""

import os
import sys
from pathlib import Path

from support.process import run
from support.template import ROOT


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


TOOL = [sys.executable, "-m", "experiments"]
WITH_TOOL = {"PYTHONPATH": str(ROOT / "src")}


def tool(lab, *arguments, cwd=None, env=None):
    """Run `experiments` as the sources have it."""
    return run(*TOOL, *arguments, cwd=cwd or lab.path, env=os.environ | WITH_TOOL | (env or {}))


def by_tool(lab):
    return tool(lab, "update")


def by_copier(lab):
    return run("copier", "update", "--defaults", "experiments/011-x", cwd=lab.path)


RUNS = {"x": ["gh_000", "delta_001"]}
ACCOUNT = ("lab.yml", "bfjt-delta-gpu", "new-account")
SUBMIT = ("template/scripts/submit.sh.jinja", "set -euo pipefail\n", "set -euo pipefail\nshopt -s failglob\n")
MOVED = {".copier-answers.yml", "scripts/submit.sh", "scripts/delta_x_001.slurm"}  # by the release v1.1.0


def is_new(experiment):
    """Whether it has what v1.1.0 brings: another account, a better submit.sh."""
    return (
        "account=new-account" in (experiment / "scripts/delta_x_001.slurm").read_text()
        and "failglob" in (experiment / "scripts/submit.sh").read_text()
        and "_commit: v1.1.0" in (experiment / ".copier-answers.yml").read_text()
    )


def left(done, experiment, reason):
    """The tool left this experiment, and says why; advice to update by hand is for conflicts alone."""
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"experiments/{experiment.name} ")]
    by_hand = f"by hand: copier update --defaults --vcs-ref v1.1.0 experiments/{experiment.name}"
    return (
        done.returncode == 1
        and "left: " in line
        and reason in line
        and ("copier update" not in line if "conflict in" not in line else line.rstrip().endswith(by_hand))
    )


def changed(before, after):
    """The names whose contents differ."""
    return {name for name in before | after if before.get(name) != after.get(name)}
