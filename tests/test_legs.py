"""Chains of jobs that continue one run: submit.sh --legs, run.pause and run.time_left."""

import pytest
from support.process import wait_until
from support.slurm import Submitter, submitted

# Hours choose what a run does: 0 pauses once, 1 sleeps, 2 fails, 3 finishes.
BODY = """\
import json
from pathlib import Path
from runtime import write_json
checkpoint = osp.join(run.folder, "checkpoint.json")
done = json.loads(Path(checkpoint).read_text())["done"] if osp.exists(checkpoint) else 0
run.log(done=done, left=-1 if run.time_left is None else run.time_left)
write_json(checkpoint, {"done": done + 1})
if cfg.hours == 0 and done == 0:
    while run.time_left > 55: time.sleep(0.1)
    run.pause()
if cfg.hours == 1 and done == 0: time.sleep(200)
if cfg.hours == 2: raise ValueError("no")"""
GRID = "defaults: [x_gh_000, _self_]\ngrid: {axes: {hours: [0, 2, 3]}}\n"


@pytest.fixture
def jobs(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["gh_000", "gh", {"gh-pack": {"ntasks": 2}}, "gh_optuna"]})
    lab.write_light(BODY, script="x")
    (jobs.experiment / "conf/grid.yaml").write_text(GRID)
    return jobs


def chain(done):
    """Return the jobs of the one chain that was submitted, as its scancel line has them."""
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("  cancel scancel ")]
    numbers = line.split()[2:]
    assert submitted(done) == numbers[:1]
    return numbers


def attempts(record):
    return [(attempt["job"], attempt["status"]) for attempt in record["attempts"]]


def test_chain_of_legs_continues_one_run(jobs, slurm):
    """Several chains run side by side, with a limit of one minute."""
    limit = ["--", "--time=1"]
    limited = chain(jobs.submit("gh_x_000", "hours=1", "--legs", "2", *limit))
    paused = chain(jobs.submit("gh_x_000", "hours=0", "--legs=3", *limit))
    failed = chain(jobs.submit("gh_x_000", "hours=2", "--legs", "3", *limit))
    points = chain(jobs.submit("gh_x", "grid", "--legs", "3", *limit))
    stopped = chain(jobs.submit("gh_x_000", "hours=1", "--legs", "3", "--", "--signal=B:TERM@1"))
    dependency = slurm.job(stopped[2])["Dependency"]
    assert all(f"afterany:{number}(" in dependency for number in stopped[:2]), dependency
    slurm.wait(stopped[0], "RUNNING")
    slurm("scancel", stopped[1])
    states = {number: slurm.wait(number)["JobState"] for number in (*paused, *failed)}
    assert states == dict.fromkeys([*paused, *failed], "COMPLETED") | {failed[0]: "FAILED"}
    assert slurm.job(stopped[2])["JobState"] == "PENDING", "it must wait for the first leg"
    wait_until(lambda: any(record["job"] == stopped[0] for record in jobs.records()))
    slurm("scancel", "--signal=TERM", "--batch", stopped[0])
    slurm.wait(stopped[2])
    runs = {record["job"]: record for record in jobs.records()}
    assert attempts(runs[paused[0]]) == [(paused[0], "paused"), (paused[1], "finished")]
    assert runs[paused[0]]["metrics"]["done"] == 1 and 0 < runs[paused[0]]["metrics"]["left"] <= 60
    assert attempts(runs[failed[0]]) == [(failed[0], "failed")]
    assert attempts(runs[stopped[0]]) == [(stopped[0], "terminated")]

    def line(number):
        return (jobs.logs / f"011-x_gh_000_{number}.out").read_text()

    assert line(paused[2]) == f"job {paused[2]} of the chain of job {paused[0]} ends: the run's status is finished\n"
    assert line(failed[2]).endswith(f" of the chain of job {failed[0]} ends: job {failed[1]} left nothing to do\n")
    assert line(failed[1]).endswith(" ends: the run's status is failed\n")
    assert f" ends: job {stopped[1]} was cancelled. To continue the run: bash " in line(stopped[2])
    for task in range(3):
        slurm.wait(f"{points[2]}_{task}")
    ends = {record["point"]: attempts(record) for record in jobs.records() if record.get("point")}
    assert ends == {
        "0": [(f"{points[0]}_0", "paused"), (f"{points[1]}_0", "finished")],
        "2": [(f"{points[0]}_1", "failed")],
        "3": [(f"{points[0]}_2", "finished")],
    }
    assert slurm.wait(limited[1])["JobState"] == "COMPLETED"
    [record] = [record for record in jobs.records() if record["job"] == limited[0]]
    assert attempts(record) == [(limited[0], "terminated"), (limited[1], "finished")]
    assert slurm.job(limited[0])["JobState"] == "TIMEOUT"
