"""The preflight: all that can be known to fail fails before the queue, in one line for each problem."""

import os
import re

import pytest
from dotenv import dotenv_values
from support.process import run
from support.slurm import Submitter, submitted


@pytest.fixture
def jobs(lab, slurm):
    return Submitter(lab, slurm)


def findings(jobs, *arguments, **kwargs):
    """The lines with which a submission is refused, without the launcher's name; nothing new is in the queue."""
    before = jobs.slurm.queue()
    done = jobs.submit(*arguments, **kwargs)
    assert done.returncode == 1 and jobs.slurm.queue() == before, done.stdout
    lines = done.stderr.splitlines()
    assert all(line.startswith(f"submit.sh: {arguments[0]}: ") for line in lines), done.stderr
    return [line.removeprefix(f"submit.sh: {arguments[0]}: ") for line in lines]


# Configuration --------------------------------------------------------------------------------------------------------

CONF = "conf/x_gh_000.yaml"
WRONG = [
    (CONF, "hours: 24", "hours: ???", "conf/x_gh_000.yaml: hours is ???: give it a value"),
    (CONF, "hours: 24", 'hours: {a: [1, "???"]}', "conf/x_gh_000.yaml: hours.a[1] is ???: give it a value"),
    (CONF, "hours: 24", "hours: ${ours}", "conf/x_gh_000.yaml: hours: Interpolation key 'ours' not found"),
    (CONF, "hours: 24", "hours: ${oc.env:NO_SUCH}", "Environment variable 'NO_SUCH' not found"),
    (CONF, "hours: 24", "hours: [24", "expected ',' or ']'"),
    (CONF, "hours: 24", "hours: 24\n\tinterval: 1", "found character '\\t' that cannot start any token"),
    (CONF, "[runtime, default, _self_]", "[runtime, default, model: big, _self_]", "Could not find 'model/big'"),
    (CONF, "hours: 24", "hours: 24\ninputs: [raw/a.csv]", "inputs: missing, or not to be read: "),
    ("scripts/x.py", "def grow(", "def grow((", "experiments/011-x/scripts/x.py: line "),
    ("scripts/x.py", "def grow(", "import no_such_package\n\n\ndef grow(", ": no module named no_such_package for /"),
    ("scripts/x.py", "def grow(", "from xml.no_such import x\n\n\ndef grow(", ": no module named xml.no_such for /"),
    (
        "scripts/x.py",
        "    import numpy as np\n",
        "    import numpy as np, no_such\n",
        ": no module named no_such for /",
    ),
    ("scripts/x.py", "def grow(", "NAME = {}['key']\n\n\ndef grow(", "KeyError: 'key'"),
    ("scripts/x.py", "def grow(", "raise SystemExit('not today')\n\n\ndef grow(", "scripts/x.py: not today"),
]


def test_a_mistake_in_a_file_is_found(jobs):
    for file, old, new, reason in WRONG:
        path = jobs.experiment / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        command = ["bash", "experiments/011-x/scripts/gh_x_000.slurm", "--check"]
        done = run(*command, cwd=jobs.lab.path, env=jobs.environment)
        path.write_text(text)
        assert (done.returncode, done.stdout) == (1, "") and reason in done.stderr, (new, done.stderr)
        assert done.stderr.count("\n") == 1 and str(jobs.lab.path / "exp") not in done.stderr, done.stderr


def test_a_mistake_in_an_override_is_found(jobs):
    for override, reason in {
        "sed=3": "Could not override 'sed'",
        "hours=[1": "no viable alternative at input",
        "hours=???": "hours is ???",
        "model=big": "Could not override 'model'",
    }.items():
        [line] = findings(jobs, "gh_x_000", override)
        assert reason in line


def test_each_problem_is_one_line(jobs):
    jobs.edit(CONF, "hours: 24", "hours: ???")
    jobs.edit(CONF, "start: 0.05", "start: ???")
    jobs.edit("scripts/x.py", "def grow(", "def later():\n    import no_such, neither\n\n\ndef grow(")
    env = {"DATA_ROOT": "", "ASSET_IMAGES_DIR": "/nowhere"}
    lines = findings(jobs, "gh_x_000", env=env)
    assert [line.partition(": no module named ")[2].split()[0] for line in lines[:2]] == ["neither", "no_such"]
    assert lines[2:] == [
        f"DATA_ROOT is not set; set it in {jobs.lab.path}/.env",
        "ASSET_IMAGES_DIR cannot be written: /nowhere",
    ]
    jobs.edit("scripts/x.py", "import no_such, neither", "pass")
    assert [re.search("hours|start", line)[0] for line in findings(jobs, "gh_x_000")] == ["start", "hours"]


def test_what_a_script_can_do_without_is_no_problem(jobs, slurm):
    lines = [
        "try:\n    import no_such\nexcept ImportError:\n    no_such = None",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import neither",
        "import os.path\nimport xml.etree.ElementTree\nimport runtime.paths",
        'print("noise")\nimport sys\n\nsys.stderr.write("noise\\n")\nos.system("echo noise >&2")',
        "def unused():\n    from . import nothing\n    import concurrent.futures.thread, hydra.core.config_store",
    ]
    jobs.edit("scripts/x.py", "def grow(", "\n".join(["import os", *lines]) + "\n\n\ndef grow(")
    jobs.edit(
        CONF, "hours: 24", "hours: 24\nplace: ${hydra:runtime.output_dir}\nnumber: ${hydra:job.num}\ninputs: here"
    )
    (jobs.lab.data / "here").mkdir()
    done = jobs.submit("--dry-run", "gh_x_000")
    assert (done.returncode, done.stdout, done.stderr) == (0, "gh_x_000: ready\n", "")


def test_nothing_is_trained_and_nothing_is_left(jobs):
    jobs.in_run('raise SystemExit("it ran")')
    before = sorted(path for path in jobs.lab.path.rglob("*") if ".git" not in path.parts)
    assert jobs.submit("--dry-run", "gh_x_000").returncode == 0
    after = sorted(path for path in jobs.lab.path.rglob("*") if ".git" not in path.parts)
    assert set(after) - set(before) <= {jobs.experiment / "slurm/code"}


# .env and folders -----------------------------------------------------------------------------------------------------


def test_wrong_folders_are_refused_before_the_queue(jobs):
    variables = ["DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"]
    not_set = [f"{variable} is not set; set it in {jobs.lab.path}/.env" for variable in variables]
    for folder in ("/proc", "/nowhere"):
        lines = findings(jobs, "gh_x_000", env=dict.fromkeys(variables, folder))
        assert lines == [f"{variable} cannot be written: {folder}" for variable in variables]
    assert findings(jobs, "gh_x_000", env=dict.fromkeys(variables, "")) == not_set
    for variable, line in zip(variables, not_set, strict=True):
        assert findings(jobs, "gh_x_000", env={variable: ""}) == [line]
    (jobs.lab.path / ".env").unlink()
    assert findings(jobs, "gh_x_000") == not_set


def test_another_clones_experiments_are_refused(jobs):
    (jobs.lab.data / "011-x").mkdir()
    line = jobs.refused("gh_x_000", env={"EXPERIMENT_ROOT": str(jobs.lab.data)})
    assert line == f"submit.sh: gh_x_000: EXPERIMENT_ROOT does not hold {jobs.experiment}: {jobs.lab.data}"


def test_a_runs_folder_of_somebody_else_is_refused(jobs):
    runs = jobs.lab.data / "experiments/011-x/runs"
    runs.parent.mkdir(parents=True)
    runs.symlink_to("/proc")
    assert findings(jobs, "gh_x_000") == [f"the runs' folder cannot be written: {runs}"]


LINES = [
    "DATA_ROOT={}",
    'DATA_ROOT="{}"',
    "DATA_ROOT='{}'",
    "export DATA_ROOT={}",
    "  DATA_ROOT = {}  ",
    "DATA_ROOT={} # scratch",
    "DATA_ROOT=/old\nDATA_ROOT={}",
    "DATA_ROOT={}\r",
    "SCRATCH={}\nDATA_ROOT=${{SCRATCH}}",
    "A={}\nB=.\nDATA_ROOT=${{A}}/${{B}}",
    "DATA_ROOT=${{NO_SUCH:-{}}}",
    "'DATA_ROOT'={}",
    "\ufeffDATA_ROOT={}",
    "DATA_ROOT=${{DATA_ROOT}}/x",
    "DATA_ROOT=/nowhere/{}",
    "DATA_ROOT=$HOME",
    "DATA_ROOT=",
    "# DATA_ROOT={}",
]


def test_env_is_read_by_python_dotenv(jobs, tmp_path):
    folder = tmp_path / "a b#é"
    folder.mkdir()
    script, env = jobs.lab.data / "nothing.py", jobs.lab.path / ".env"
    script.touch()
    for line in LINES:
        text = line.format(folder)
        env.write_text(f"{text}\nASSET_IMAGES_DIR={tmp_path}\nEXPERIMENT_ROOT={jobs.experiment.parent}\n")
        value = dotenv_values(env).get("DATA_ROOT")
        done = jobs.lab.python(jobs.experiment / "scripts/runtime/check.py", script)
        if value and os.path.isdir(value):
            assert (done.returncode, done.stderr) == (0, ""), text
        elif value:
            assert (done.returncode, done.stderr) == (1, f"DATA_ROOT cannot be written: {value}\n"), text
        else:
            assert (done.returncode, done.stderr) == (1, f"DATA_ROOT is not set; set it in {env}\n"), text


def test_the_env_that_the_run_will_find_is_the_one_that_is_checked(jobs, slurm):
    (jobs.experiment / ".env").write_text("OTHER=1\n")
    lines = findings(jobs, "gh_x_000")
    assert lines[0] == f"DATA_ROOT is not set; set it in {jobs.experiment}/.env" and len(lines) == 3
    (jobs.experiment / ".env").write_text((jobs.lab.path / ".env").read_text())
    (jobs.lab.path / ".env").write_text("")
    [number] = submitted(jobs.submit("gh_x_000"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"


# Machines and kinds of launchers --------------------------------------------------------------------------------------


def test_a_machines_setup_and_python_are_tried(jobs):
    jobs.edit("scripts/gh_x_000.slurm", "set -euo pipefail\n", "set -euo pipefail\necho no module >&2\nfalse\n")
    assert findings(jobs, "gh_x_000") == ["no module"]
    jobs.edit("scripts/gh_x_000.slurm", "echo no module >&2\nfalse\n", "exit 7\n")
    assert findings(jobs, "gh_x_000") == ["its --check ended with exit code 7"]
    jobs.edit("scripts/gh_x_000.slurm", "exit 7\n", "")
    (jobs.lab.path / "home/miniconda3/envs/torchcell/bin/python").unlink()
    assert "No such file or directory" in findings(jobs, "gh_x_000")[0]


def test_where_python_may_not_run_it_says_so_and_goes_on(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["igb_cabbi_000", "gh_001"]})
    marks = {name: lab.path / f"home/bin/{name}" for name in ("module", "singularity")}
    text = {name: path.read_text() for name, path in marks.items()}
    for name, path in marks.items():
        path.write_text(f"#!/bin/bash\ntouch {lab.data}/{name}\nexit 1\n")
    done = jobs.submit("--dry-run", "igb_cabbi_x_000", "gh_x_001")
    assert (done.returncode, done.stdout) == (0, "igb_cabbi_x_000: ready\ngh_x_001: ready\n")
    assert done.stderr == (
        "submit.sh: igb_cabbi_x_000: no preflight: Python may not run where people submit to igb_cabbi\n"
    )
    assert list(lab.data.iterdir()) == [], "something ran where nothing may"
    for name, path in marks.items():
        path.write_text(text[name])
    (jobs.experiment / "conf/x_cabbi_000.yaml").unlink()
    assert "no configuration" in jobs.refused("igb_cabbi_x_000")


def test_every_kind_of_launcher_is_checked_without_its_command(lab, slurm):
    modes = [{"gh-ddp_000": {"gres": "gpu:2"}}, {"gh-srun_001": {"ntasks": 2}}, {"gh-pack_002": {"ntasks": 2}}]
    jobs = Submitter(lab, slurm, runs={"x": [*modes, "gh_optuna", "gh_wandb"], "query": ["gh_001"]})
    for command in ("srun", "torchrun", "wandb"):
        file = lab.path / "home/bin" / command
        file.write_text(f"#!/bin/bash\ntouch {lab.data}/{command}\nexit 1\n")
        file.chmod(0o755)
    (jobs.experiment / "queries/001_small_build.json").write_text('{"gene_set": []}')
    server = dict.fromkeys(["NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE"], "none")
    env = {"SWEEP_ID": "lab/011-x/abc", "NEO4J_URI": "bolt://nowhere"} | server
    launchers = ["gh_x-ddp_000", "gh_x-srun_001", "gh_x-pack_002", "gh_x_optuna", "gh_x_wandb", "gh_query_001"]
    done = jobs.submit("--dry-run", *launchers, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{launcher}: ready\n" for launcher in launchers)
    for name in ("gh_x_wandb", "gh_x_optuna"):
        assert findings(jobs, name, "hours=3", env=env)[0].startswith("it takes no overrides: ")
    assert "SWEEP_ID: is not set. Set it to the last word, ENTITY/PROJECT/ID, that" in findings(jobs, "gh_x_wandb")[0]
    for config in ("x_gh_000", "x_gh_001", "x_gh_002", "x_gh_optuna", "x_gh_wandb_run"):
        jobs.edit(f"conf/{config}.yaml", "hours: 24", "hours: ???")
    done = jobs.submit("--dry-run", *launchers, env=env)
    assert done.stderr.splitlines() == [
        f"submit.sh: {launcher}: conf/{config}.yaml: hours is ???: give it a value"
        for launcher, config in {
            "gh_x-ddp_000": "x_gh_000",
            "gh_x-srun_001": "x_gh_001",
            "gh_x-pack_002": "x_gh_002",
            "gh_x_optuna": "x_gh_optuna",
            "gh_x_wandb": "x_gh_wandb_run",
        }.items()
    ]
    assert findings(jobs, "gh_query_001", "hours=3", env=env) == [
        "a query takes --param KEY=JSON and --overwrite, and no override: hours=3"
    ]
    jobs.edit("conf/x_gh_001.yaml", "hours: ???", "hours: 24")
    assert findings(jobs, "gh_x-srun_001", "--overwrite") == ["--overwrite is for the launcher of a query"]
    (jobs.experiment / "queries/001_small_build.cql").unlink()
    assert findings(jobs, "gh_query_001", env=env) == ["query 001: there are none"]
    assert list(lab.data.iterdir()) == []


def test_all_launchers_are_checked_and_every_problem_said(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": [f"gh_{number:03}" for number in range(4)]})
    for number in (1, 3):
        jobs.edit(f"conf/x_gh_{number:03}.yaml", "hours: 24", "hours: ???")
    done = jobs.submit(*(f"gh_x_{number:03}" for number in range(4)))
    assert done.returncode == 1 and done.stdout == ""
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["gh_x_001", "gh_x_003"]


def test_a_script_that_would_run_when_it_is_imported_is_only_read(jobs):
    script = jobs.experiment / "scripts/x.py"
    guard = 'if __name__ == "__main__":\n    main()\n'
    assert script.read_text().endswith(guard)
    script.write_text(script.read_text().removesuffix(guard) + "main()\n")
    done = jobs.submit("--dry-run", "gh_x_000")
    assert (done.returncode, done.stdout) == (0, "gh_x_000: ready\n"), done.stderr
    assert not list(jobs.lab.images.iterdir()) and not jobs.records(), "the preflight ran it"
    assert len(findings(jobs, "gh_x_000", "sed=7")) == 1
    jobs.edit("scripts/x.py", "import hydra", "import hydra, no_such_package")
    assert "no module named no_such_package" in findings(jobs, "gh_x_000")[0]
