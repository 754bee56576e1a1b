"""Update experiments by Copier and by the tool, and compare files before and after."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import copier
import pytest
from support.process import run
from support.template import ROOT

from experiments.cli import main

# The files that users own in an experiment 011-x with a sweep of each kind.
USER_OWNED = [
    "README.md",
    "conf/default.yaml",
    "conf/x_gh_000.yaml",
    "conf/x_gh_optuna.yaml",
    "conf/x_delta_wandb.yaml",
    "conf/x_delta_wandb_run.yaml",
    "queries/001_small_build.cql",
    "scripts/__init__.py",
    "scripts/x.py",
]


def contents(folder):
    """Return {path: content or link target} of a folder, without .git. Links are not followed."""
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


def typed(lab, *words, cwd=None):
    """Run `experiments` in its own process, as users do."""
    return run(*TOOL, *words, cwd=cwd or lab.path, env=os.environ | WITH_TOOL)


def tool(lab, *words, cwd=None, env=None):
    """Run `experiments` in this process. To import Copier takes longer than most commands."""
    output, errors = StringIO(), StringIO()
    with restored(cwd or lab.path, env or {}), redirect_stdout(output), redirect_stderr(errors):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    if isinstance(code, str):
        code = print(code, file=errors) or 1
    return subprocess.CompletedProcess(words, code or 0, output.getvalue(), errors.getvalue())


@contextmanager
def restored(folder, environment):
    """Give a command a folder and variables. Restore both, and the SIGTERM handler, afterwards."""
    before, variables, handler = Path.cwd(), dict(os.environ), signal.getsignal(signal.SIGTERM)
    os.chdir(folder)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.chdir(before)
        signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(variables)


def by_tool(lab, *paths):
    return tool(lab, "update", "--jobs=1", *paths)


def by_copier(lab, path="experiments/011-x"):
    """Run `copier update --defaults` in this process."""
    try:
        copier.run_update(lab.path / path, defaults=True, overwrite=True, quiet=True)
    except Exception as error:
        return subprocess.CompletedProcess([path], 1, "", f"{type(error).__name__}: {error}")
    return subprocess.CompletedProcess([path], 0, "", "")


BOTH = pytest.mark.parametrize("update", [by_copier, by_tool])
RUNS = {"x": ["gh_000", "delta_001"]}
ACCOUNT = ("lab.yml", "bfjt-delta-gpu", "new-account")
SUBMIT = ("template/scripts/submit.sh.jinja", "set -euo pipefail\n", "set -euo pipefail\nshopt -s failglob\n")
MOVED = {".copier-answers.yml", "scripts/submit.sh", "scripts/delta_x_001.slurm"}  # by release v1.1.0


def is_new(experiment):
    """Check whether it has the changes of v1.1.0: another account, a better submit.sh."""
    return (
        "account=new-account" in (experiment / "scripts/delta_x_001.slurm").read_text()
        and "failglob" in (experiment / "scripts/submit.sh").read_text()
        and "_commit: v1.1.0" in (experiment / ".copier-answers.yml").read_text()
    )


def skipped(done, experiment, reason):
    """Check whether the tool skipped this experiment for a reason. It advises --conflicts only for conflicts."""
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"experiments/{experiment.name} ")]
    by_hand = f"by hand: experiments update --conflicts --vcs-ref v1.1.0 experiments/{experiment.name}"
    return (
        done.returncode == 3
        and "skipped: " in line
        and reason in line
        and ("--conflicts" not in line if "conflict in" not in line else line.rstrip().endswith(by_hand))
    )


def changed(before, after):
    """Return the names of files with different contents."""
    return {name for name in before | after if before.get(name) != after.get(name)}
