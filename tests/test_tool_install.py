"""Install the command from a folder or an address, by uvx, uv or pip."""

import os
import re
import subprocess
import sys

import pytest
from support.process import run
from support.template import ROOT
from support.updating import is_new, tool

from experiments.cli import COMMANDS

VERSION = re.findall('^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]


@pytest.fixture(scope="module")
def uv(tmp_path_factory):
    """Return a function that runs uv or uvx with separate tool folders."""
    folder = tmp_path_factory.mktemp("uv")
    environment = os.environ | {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}

    def call(*command, cwd=folder):
        return run(*command, cwd=cwd, env=environment)

    tried = call("uvx", "--from", "hatchling", "hatchling", "--help")
    if tried.returncode:
        pytest.fail(f"no package index answers. Skip: make test SKIP=index\n{tried.stderr}")
    return call


def test_pip_installs_the_package_alone(tmp_path):
    """The environment of the tests has its dependencies."""
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, ROOT]
    subprocess.run(command, check=True)
    environment = os.environ | {"PYTHONPATH": str(target)}
    done = run(target / "bin/experiments", "--help", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert {command.name for command in COMMANDS} <= set(done.stdout.split())
    done = run(target / "bin/experiments", "list", cwd=tmp_path, env=environment)
    assert done.returncode == 1 and done.stderr.startswith("experiments: not a git repository")
    assert not (target / "tests").exists() and (target / "experiments/cli.py").is_file()
    done = run(target / "bin/experiments", "--version", cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout) == (0, f"experiments {VERSION}\n"), done.stderr
    for name in ("figure_metadata.py", "grid.py", "hydra_yaml.py", "sharing.py"):
        module, shared = target / "experiments" / name, ROOT / "template/scripts/runtime" / name
        assert not module.is_symlink() and module.read_bytes() == shared.read_bytes()


def test_source_archive_builds_the_same_wheel(uv, tmp_path):
    """The source archive must contain the files shared with the template."""
    for source in ("--wheel", "--sdist"):
        done = uv("uv", "build", "--quiet", source, "--out-dir", tmp_path / source, ROOT)
        assert done.returncode == 0, done.stderr
    [archive] = (tmp_path / "--sdist").glob("*.tar.gz")
    done = uv("uv", "build", "--quiet", "--wheel", "--out-dir", tmp_path / "again", archive)
    assert done.returncode == 0, done.stderr
    [direct], [again] = ((tmp_path / name).glob("*.whl") for name in ("--wheel", "again"))
    assert direct.read_bytes() == again.read_bytes()


def test_uv_tool_installs_the_command(uv, old, experiment, tmp_path):
    done = uv("uv", "tool", "install", "--quiet", "--reinstall-package", "tc-exp-template", ROOT)
    assert done.returncode == 0, done.stderr
    done = uv("uv", "tool", "dir", "--bin")
    done = uv(f"{done.stdout.strip()}/experiments", "update", cwd=old.path)
    assert done.returncode == 0, done.stderr
    assert is_new(experiment)


def test_uvx_runs_the_command_with_hydra(uv, old, experiment):
    (experiment / "conf/x_gh_000.yaml").write_text("defaults: [nowhere]\n")
    uvx = ["uvx", "--with", "hydra-core", "--from", f"git+file://{old.template.path}"]
    done = uv(*uvx, "experiments", "check", "--compose", cwd=old.path)
    assert done.returncode == 1 and "conf/x_gh_000.yaml: does not compose: " in done.stdout, done.stderr


def test_help_of_each_command_has_examples(lab):
    for command in COMMANDS:
        done = tool(lab, command.name, "--help")
        assert done.returncode == 0 and f"experiments {command.name}" in done.stdout.partition("\nexamples:\n")[2]
