"""A campaign from its first attempt to its end: what Slurm ended, what usage proposes, and what finishes its points.

The story has the only wait for a time limit of this suite. Slurm enforces a limit of a minute within 90 seconds.
"""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from support.process import commit, wait_until
from support.slurm import Submitter, submitted
from support.updating import tool

from experiments.slurm import Key, read_used

# In the first attempt, the point with seed 0 of each arm but `steady` ends badly. `hours` chooses how.
BODY = """\
import signal
from pathlib import Path
begun = Path(run.folder, "begun")
attempts = len(begun.read_text()) if begun.exists() else 0
begun.write_text("x" * (attempts + 1))
if cfg.seed == 0 and attempts == 0:
    if cfg.hours == 2: os.kill(os.getpid(), signal.SIGKILL)
    if cfg.hours in (3, 4): time.sleep(600)
    if cfg.hours == 5: raise ValueError("no data")
if cfg.seed == 0 and attempts == 1 and cfg.hours == 5: run.pause()
run.log(loss=cfg.hours + cfg.seed)"""
GRID = """\
defaults: [x_slurm_000, _self_]
grid:
  arms: {steady: [hours=1], large: [hours=2], long: [hours=3], stopped: [hours=4], broken: [hours=5]}
  axes: {seed: [0, 1]}
wandb: {mode: offline}
"""
ARMS = ("steady", "large", "long", "stopped", "broken")
POINTS = [f"{arm}_{seed}" for arm in ARMS for seed in (0, 1)]


@pytest.fixture
def jobs(lab, accounting):
    jobs = Submitter(lab, accounting, runs={"x": ["slurm_000", "slurm"]})
    lab.write_light(BODY, script="x")
    (jobs.experiment / "conf/round2.yaml").write_text(GRID)
    commit(lab.path, "Add round2")
    return jobs


def listed(jobs):
    """Return the state of each point."""
    done = tool(jobs.lab, "list", "011", "--config", "round2", "--json")
    assert done.returncode == 0, done.stderr
    return {run["point"]: run["state"] for run in json.loads(done.stdout)[0]["runs"]}


def wait_for(jobs, states):
    """Wait until `list` shows these states: the accounting is a moment behind."""
    wait_until(lambda: listed(jobs) == states, state=lambda: listed(jobs), every=1)


def attempts(jobs, name):
    [record] = [each for each in jobs.records() if name in (each.get("point"), each["job"])]
    return [attempt["status"] for attempt in record["attempts"]]


def type_proposals(jobs):
    """Type the commands that `usage` proposes. Return its rows, and the #SBATCH options of the campaign's launcher."""
    table, commands = tool(jobs.lab, "usage", "011").stdout.split("\n\n")
    for line in commands.splitlines():
        assert tool(jobs.lab, *shlex.split(line)[1:]).returncode == 0, line
    rows = [re.split("  +", line) for line in table.splitlines()]
    launcher = (jobs.experiment / "scripts/slurm_x.slurm").read_text()
    return {row[0]: row[1:] for row in rows}, re.findall("^#SBATCH (--.*)$", launcher, re.MULTILINE)


def chain(done):
    assert done.returncode == 0, done.stderr
    return re.findall("^cancel scancel (.*)$", done.stdout, re.MULTILINE)[0].split()


def test_campaign_from_first_attempts_to_its_table(jobs, accounting):
    [array] = submitted(jobs.submit("slurm_x", "round2"))
    single = chain(jobs.submit("slurm_x_000", "hours=3", "seed=0", "--legs", "2", "--", "--time=1"))
    task = {point: f"{array}_{number}" for number, point in enumerate(POINTS)}
    accounting("scontrol", "update", f"jobid={task['long_0']}", "timelimit=1")
    begun = jobs.lab.data / "experiments/011-x/runs/round2/stopped_0/begun"
    wait_until(lambda: begun.exists() and begun.read_text())
    accounting("scancel", task["stopped_0"])
    for point in set(POINTS) - {"long_0"}:
        accounting.wait(task[point])
    accounting.set_end(accounting.job(task["large_0"])["JobId"], "OUT_OF_MEMORY")
    ends = {"large_0": "out of memory", "stopped_0": "cancelled", "broken_0": "failed"}
    points = dict.fromkeys(POINTS, "finished")
    wait_until(lambda: ends.items() <= listed(jobs).items(), state=lambda: listed(jobs), every=1)
    used = read_used({Key("", task["steady_0"]), Key("nowhere", task["steady_0"])}, "lab")
    assert [key.cluster for key in used] == [""] and used[Key("", task["steady_0"])].seconds > 0
    rows, options = type_proposals(jobs)
    assert rows["slurm_x"][:3] == ["9", "8g", "out of memory"] and "--mem=16g" in options
    commit(jobs.lab.path, "Request more memory")

    # The minute passes here.
    accounting.wait(task["long_0"])
    accounting.wait(single[1])
    wait_for(jobs, points | ends | {"long_0": "time limit"})
    assert attempts(jobs, single[0]) == ["terminated", "finished"], "a leg continues after the limit"
    summary = tool(jobs.lab, "list", "011", env={"COLUMNS": "80"}).stdout
    assert "6 finished, 1 failed, 1 out of memory, 1 time limit, 1" in summary
    assert all(len(line) <= 80 for line in summary.splitlines())
    assert jobs.submit("--failed", "round2", "--dry-run").stdout.endswith(
        "points 3 of 10, 6 finished, 0 running: large_0 long_0 broken_0\n"
    )
    failed = chain(jobs.submit("--failed", "round2", "--legs", "2", "--", "--mem=16g"))
    [rest] = submitted(jobs.submit("slurm_x", "round2", "--", f"--dependency=afterany:{failed[-1]}"))
    accounting.wait(f"{rest}_{POINTS.index('stopped_0')}")
    assert {job["MinMemoryNode"] for job in (accounting.job(failed[0]), accounting.job(rest))} == {"16G"}
    wait_for(jobs, points)
    assert {point: attempts(jobs, point) for point in ("large_0", "long_0", "stopped_0", "broken_0")} == {
        "large_0": ["terminated", "finished"],
        "long_0": ["terminated", "finished"],
        "stopped_0": ["terminated", "finished"],
        "broken_0": ["failed", "paused", "finished"],
    }
    table = tool(jobs.lab, "compare", "011", "--config", "round2", "--by", "arm", "--csv").stdout
    found = {row["arm"]: (row["n"], row["loss_mean"]) for row in csv.DictReader(table.splitlines())}
    assert found == {arm: ("2", str(hours + 0.5)) for hours, arm in enumerate(ARMS, start=1)}
    check_wandb(jobs)


def check_wandb(jobs):
    """Check that W&B has one run per point, with a file per attempt, which one command uploads."""
    ids, files = {}, {}
    for record in jobs.records():
        if record.get("point"):
            found = [*Path(record["folder"], "wandb").glob("offline-run-*/run-*.wandb")]
            [ids[record["point"]]] = {path.stem.removeprefix("run-") for path in found}
            files[record["point"]] = len(found)
    assert len(set(ids.values())) == len(POINTS) and sum(files.values()) > len(POINTS)
    commands = tool(jobs.lab, "wandb-sync", "011").stdout.splitlines()
    assert len(commands) == len(POINTS) and all(command.startswith("wandb sync /") for command in commands)
