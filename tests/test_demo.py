"""`make demo`: render an experiment and save its first figure. It installs what it needs."""

import os
import re
from pathlib import Path

import pytest
from PIL import Image
from support.checkout import reuse_venv
from support.process import git, run


@pytest.fixture
def checkout(own_template):
    reuse_venv(own_template.path)
    return own_template.path


def test_demo_prints_the_path_of_its_figure(checkout, tmp_path):
    (tmp_path / "demo").mkdir()
    done = run("make", "demo", cwd=checkout, env=os.environ | {"TMPDIR": str(tmp_path / "demo")})
    assert done.returncode == 0, done.stderr
    figure = Path(re.search("^figure: (.*)$", done.stdout, re.MULTILINE)[1])
    with Image.open(figure) as image:
        assert figure.name.startswith("011-demo_gh_000_20") and not image.text["Commit"].endswith("-dirty")
    assert figure.is_relative_to(tmp_path / "demo") and git(checkout, "status", "--porcelain") == ""


def test_demo_installs_what_a_starter_declares(checkout, lab):
    """`make --dry-run` prints the pip command that a new machine would run."""
    printed = run("make", "--dry-run", "--always-make", ".venv/demo", cwd=checkout).stdout
    [command] = [line for line in printed.splitlines() if "pip install" in line]
    installed = command.split("requirements-dev.txt ")[1].split()
    starter = (lab.render() / "scripts/x.py").read_text()
    [declared] = re.findall(r"^# dependencies = \[(.*?)\]$", starter, re.MULTILINE | re.DOTALL)
    assert sorted(installed) == sorted(["copier", *re.findall(r'"([a-z-]+)', declared)])
