"""The tool is a package that people install: from a folder or an address, by uvx, uv or pip."""

import os
import subprocess
import sys

from support.process import run
from support.template import ROOT


def test_the_built_package_runs_alone(tmp_path):
    """One real installation, without its dependencies, which the environment of the tests has."""
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, ROOT], check=True
    )
    environment = os.environ | {"PYTHONPATH": str(target)}
    done = run(target / "bin/experiments", "--help", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "experiments update --commit" in done.stdout and "set-run" in done.stdout
    done = run(target / "bin/experiments", "list", cwd=tmp_path, env=environment)
    assert done.returncode == 1 and done.stderr.startswith("experiments: not a git repository")
    assert not (target / "tests").exists() and (target / "experiments/cli.py").is_file()


def test_each_command_helps_with_examples():
    for command in ("update", "add-run", "set-run", "check", "list", "adopt"):
        done = run(
            sys.executable, "-m", "experiments", command, "--help", env=os.environ | {"PYTHONPATH": ROOT / "src"}
        )
        assert done.returncode == 0 and f"examples:\n  experiments {command}" in done.stdout
