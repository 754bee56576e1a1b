"""The README.md of a rendered experiment: its commands work as written."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.lab import Lab, fake_programs
from support.process import commit, run
from support.updating import TOOL, WITH_TOOL

MANY = {"a": ["gh_001", "slurm_000"], "b": ["delta_000"], "query": ["gh_001"]}
ANSWERS = [{}, {"package": "", "runs": MANY}]


@dataclass
class Rendered:
    """An experiment, and the commands of two sections of its README."""

    lab: Lab
    path: Path
    text: str
    runs: list[str]  # section "Runs"
    changes: list[str]  # section "Add a run, update"

    @property
    def launchers(self):
        return {path.stem for path in self.path.glob("scripts/*.slurm")}

    def type(self, line, env=None):
        """Type a line that must succeed at the repository's root."""
        environment = os.environ | {"PYTHONPATH": str(self.lab.path)} | (env or {})
        done = run("bash", "-ec", line, cwd=self.lab.path, env=environment)
        assert done.returncode == 0, done.stderr


@pytest.fixture(params=ANSWERS, ids=["defaults", "several machines"])
def rendered(request, lab, own_template):
    lab.template = own_template
    experiment = lab.render(**request.param)
    text = (experiment / "README.md").read_text()
    _, runs, changes = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in runs.splitlines() if "query.py" not in line]  # it needs a database
    return Rendered(lab, experiment, text, lines, changes.splitlines())


def test_rendered_readme_runs_every_launcher(rendered, slurm):
    by_hand = [line for line in rendered.runs if line.startswith("python")]
    submits = [line for line in rendered.runs if line not in by_hand]
    assert {name for line in submits for name in line.split()[2:]} == rendered.launchers
    assert len(by_hand) == len(rendered.launchers - {"gh_query_001"})
    # A cluster does not have the partitions of another one.
    assert len(submits) == (3 if len(rendered.launchers) > 1 else 1)
    for line in rendered.runs:
        rendered.type(line.replace("gh_query_001", ""), env=fake_programs(rendered.lab.path / "home"))
    slurm("scancel", "--user", str(os.getuid()))


def test_instructions_have_commands_that_work(lab, slurm):
    """Type each command of AGENTS.md, with the names of a run."""
    experiment = lab.render()
    text = (experiment / "AGENTS.md").read_text()
    [block] = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    names = {
        "SCRIPT": "x",
        "CONFIG": "x_gh_000",
        "KEY=VALUE": "hours=12",
        "LAUNCHER": "gh_x_000",
        "MACHINE_ID": "gh_001",
    }
    environment = fake_programs(lab.path / "home") | {"PYTHONPATH": f"{lab.path}:{WITH_TOOL['PYTHONPATH']}"}
    for line in block.splitlines():
        line = re.sub("|".join(names), lambda name: names[name[0]], line)
        line = re.sub("^experiments", lambda _: shlex.join(TOOL), line)
        done = run("bash", "-ec", line, cwd=lab.path, env=os.environ | environment)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (experiment / "scripts/gh_x_001.slurm").exists() and list(lab.images.glob("*.png"))
    slurm("scancel", "--user", str(os.getuid()))


def test_rendered_readme_adds_a_run_and_updates(rendered):
    assert f"If `experiments` is not installed, run `uv tool install {rendered.lab.template.path}`." in rendered.text
    before = rendered.launchers
    command = shlex.join(["env", *(f"{name}={value}" for name, value in WITH_TOOL.items()), *TOOL])
    add_run, update = [re.sub("^experiments", lambda _: command, line) for line in rendered.changes]
    commit(rendered.lab.path)
    (rendered.path / "scripts/mine.py").write_text("mine\n")
    rendered.type(add_run)
    assert len(rendered.launchers) == len(before) + 1
    assert (rendered.path / "README.md").read_text() == rendered.text
    commit(rendered.lab.path)
    rendered.lab.template.release("v1.1.0", [("lab.yml", "account: bfjt-delta-gpu", "account: new-account")])
    rendered.type(update)
    assert "v1.1.0" in (rendered.path / ".copier-answers.yml").read_text()
    delta = rendered.path / "scripts/delta_b_000.slurm"
    assert not delta.exists() or "account=new-account" in delta.read_text()
