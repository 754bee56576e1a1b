"""docs/your-lab.md: from a fork to a job on a cluster with conda."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from support.checkout import reuse_venv
from support.document import SHORT, Reader, blocks
from support.lab import TIMESTAMP, make_lab
from support.process import commit, edit, git, run
from support.template import copy_template, render

PAGE = "docs/your-lab.md"


def make_home(home):
    """Make a HOME with a `conda activate yeast` that puts a Python on PATH."""
    script = home / "miniconda3/etc/profile.d/conda.sh"
    script.parent.mkdir(parents=True)
    script.write_text(f'conda() {{ [ "$2" = yeast ] || return 1; PATH="{Path(sys.executable).parent}:$PATH"; }}\n')
    return home


@pytest.fixture
def github(template, tmp_path):
    """Return a fork of the template, without its tags."""
    fork = tmp_path / "github.git"
    git(tmp_path, "clone", "--quiet", "--bare", template.path, fork)
    git(fork, "tag", "--delete", template.version)
    return fork


@pytest.fixture
def yeast(template, tmp_path):
    """Return the repository of another lab, with a package `yeast`, and with an experiment from before the fork."""
    path = tmp_path / "yeast"
    for folder in ("data", "images", "experiments", "yeast"):
        (path / folder).mkdir(parents=True)
    (path / "yeast/timestamp.py").write_text(TIMESTAMP)
    (path / ".gitignore").write_text("/.env\n/data\n/images\n__pycache__/\n")
    names = {"DATA_ROOT": "data", "ASSET_IMAGES_DIR": "images", "EXPERIMENT_ROOT": "experiments"}
    (path / ".env").write_text("".join(f"{name}={path}/{folder}\n" for name, folder in names.items()))
    git(path, "init", "--quiet")
    render(template, path / "experiments/011-growth", runs={"growth": ["slurm_000"]})
    commit(path)
    return path


def test_your_lab_page_works(github, yeast, slurm, tmp_path):
    fork = tmp_path / "tc-exp-template"
    reader = Reader(tmp_path, github, {"HOME": str(make_home(tmp_path / "home")), "TMPDIR": str(tmp_path)})

    def prepare_and_wait(command):
        if command.startswith("git clone"):
            reuse_venv(fork)
        elif command == "cd ../tc-exp-template":
            edit(fork / "lab.yml", "0-01:00:00", "0-02:00:00")
        elif "submit.sh" in command:
            [number] = re.findall(r": job (\d+)$", reader.printed, flags=re.MULTILINE)
            assert slurm.wait(number)["JobState"] == "COMPLETED"

    reader.read("docs/your-lab.md", prepare_and_wait)
    experiment = yeast / "experiments/001-first"
    assert len(list((yeast / "images").glob("001-first_big_000_*.png"))) == 2
    assert "from yeast.timestamp import timestamp" in (experiment / "scripts/first.py").read_text()
    assert "--time=0-02:00:00" in (experiment / "scripts/big_first_000.slurm").read_text()
    answers = [yaml.safe_load(path.read_text()) for path in yeast.glob("experiments/*/.copier-answers.yml")]
    assert {(each["_commit"], each["_src_path"]) for each in answers} == {("v1.1.0", SHORT)}
    assert "- Big Cluster: `big`\n" in (yeast / "experiments/011-growth/AGENTS.md").read_text()
    linted = run("make", "lint", "MYPY=true", cwd=fork)
    assert linted.returncode == 0, linted.stderr


def test_failed_setup_line_is_named_in_the_log(slurm, tmp_path):
    """The lab of the page names an environment that conda does not have."""
    [lab_yml] = [block for block in blocks(PAGE) if block.file == "lab.yml"]
    machines = yaml.safe_load(lab_yml.text)
    machines["machines"]["big"]["setup"][-1] = "conda activate yest"
    (tmp_path / "lab.yml").write_text(yaml.safe_dump(machines, sort_keys=False))
    (tmp_path / "template").mkdir()
    lab = make_lab(tmp_path / "lab", copy_template(tmp_path / "template", lab_file=tmp_path / "lab.yml"))
    launcher = lab.render("001-first", runs={"first": ["big_000"]}) / "scripts/big_first_000.slurm"
    line = launcher.read_text().splitlines().index("conda activate yest") + 1
    environment = os.environ | {"HOME": str(make_home(tmp_path / "home"))}
    assert run("sbatch", "--wait", launcher, cwd=lab.path, env=environment).returncode == 1
    [log] = (lab.path / "experiments/001-first/slurm/output").glob("*.out")
    assert log.read_text().splitlines()[-1].startswith(f"big_first_000.slurm: line {line} failed: ")
