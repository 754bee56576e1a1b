"""Benchmarks: their shared helpers. `make bench` itself takes too long for a test."""

import os
import sys

import pytest
from support.process import git, run
from support.template import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_benchmark_isolates_git_from_user_settings(path):
    main = path.read_text().split("def main():")[1]
    before, after = main.split("quiet_git(folder)")
    assert not [call for call in ("template(", "repository(", "make_lab(", "copier") if call in before] and after
    imported = run(sys.executable, "-c", f"import {path.stem}", env=os.environ | {"PYTHONPATH": str(BENCHMARKS)})
    assert imported.returncode == 0, imported.stderr


def test_benchmark_git_does_not_start_maintenance(tmp_path):
    """Background maintenance would work in a folder that the benchmark removes."""
    code = f"import render; render.quiet_git({str(tmp_path)!r}); render.repository(render.Path('lab'), {{'a': 'a'}})"
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS), "GIT_TRACE": str(tmp_path / "trace")}
    del environment["GIT_CONFIG_GLOBAL"]
    made = run(sys.executable, "-c", code, cwd=tmp_path, env=environment)
    assert made.returncode == 0, made.stderr
    trace = (tmp_path / "trace").read_text()
    assert "commit" in trace and "maintenance" not in trace and "gc --auto" not in trace
    assert git(tmp_path / "lab", "log", "--format=%s %an") == "Bench bench\n"
