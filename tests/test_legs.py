"""Chains of jobs that continue one run: submit.sh --legs, run.pause and run.time_left."""

import shutil
import time
from pathlib import Path

import pytest
from support.lab import write_program
from support.process import run, wait_until
from support.slurm import Submitter, submitted

# Hours choose what a run does: 0 pauses once, 1 sleeps, 2 fails, 3 finishes, 4 sleeps twice.
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
if (cfg.hours == 1 and done == 0) or (cfg.hours == 4 and done < 2): time.sleep(200)
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
    [line] = [line for line in done.stdout.splitlines() if line.startswith("cancel scancel ")]
    numbers = line.split()[2:]
    assert submitted(done) == numbers[:1]
    return numbers


def attempts(record):
    return [(attempt["job"], attempt["status"]) for attempt in record["attempts"]]


def test_chain_of_legs_continues_one_run(jobs, slurm):
    """Several chains run side by side, with a limit of one minute. test_story.py has one that reaches it."""
    limit = ["--", "--time=1"]
    paused = chain(jobs.submit("gh_x_000", "hours=0", "--legs=3", *limit))
    failed = chain(jobs.submit("gh_x_000", "hours=2", "--legs", "3", *limit))
    points = chain(jobs.submit("gh_x", "grid", "--legs", "3", *limit))
    stopped = chain(jobs.submit("gh_x_000", "hours=1", "--legs", "3"))
    signaled = chain(jobs.submit("gh_x_000", "hours=1", "--legs", "2"))
    dependency = slurm.job(stopped[2])["Dependency"]
    assert all(f"afterany:{number}(" in dependency for number in stopped[:2]), dependency
    slurm.wait(stopped[0], "RUNNING")
    slurm("scancel", stopped[1])
    states = {number: slurm.wait(number)["JobState"] for number in (*paused, *failed)}
    assert states == dict.fromkeys([*paused, *failed], "COMPLETED") | {failed[0]: "FAILED"}
    assert slurm.job(stopped[2])["JobState"] == "PENDING", "it must wait for the first leg"
    wait_until(lambda: {stopped[0], signaled[0]} <= {record["job"] for record in jobs.records()})
    slurm("scancel", "--signal=TERM", "--batch", stopped[0], signaled[0])  # like --signal=B:TERM@60
    for number in (stopped[2], signaled[1]):
        slurm.wait(number)
    runs = {record["job"]: record for record in jobs.records()}
    assert attempts(runs[paused[0]]) == [(paused[0], "paused"), (paused[1], "finished")]
    assert runs[paused[0]]["metrics"]["done"] == 1 and 0 < runs[paused[0]]["metrics"]["left"] <= 60
    assert attempts(runs[failed[0]]) == [(failed[0], "failed")]
    assert attempts(runs[stopped[0]]) == [(stopped[0], "terminated")]
    assert attempts(runs[signaled[0]]) == [(signaled[0], "terminated"), (signaled[1], "finished")]

    def line(number):
        return (jobs.logs / f"011-x_gh_000_{number}.out").read_text()

    assert line(paused[2]) == f"job {paused[2]} of the chain of job {paused[0]} ends: the run's status is finished\n"
    assert line(failed[2]).endswith(f" of the chain of job {failed[0]} ends: job {failed[1]} completed\n")
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


@pytest.mark.parametrize(
    "words, problem",
    [
        (["gh_x_000", "--legs", "0"], "--legs must be a number from 1 to 99: 0"),
        (["gh_x_000", "--legs"], "--legs must be a number from 1 to 99: "),
        (
            ["gh_x-pack", "x_gh_000", "--legs=2"],
            "gh_x-pack x_gh_000: a pack has several runs, and legs continue only one run.",
        ),
        (
            ["gh_x_optuna", "--legs=2"],
            "gh_x_optuna: legs continue a run, but this launcher starts a query or a sweep",
        ),
    ],
)
def test_legs_of_unsupported_launchers_are_refused(jobs, words, problem):
    assert jobs.refused(*words).startswith(f"submit.sh: {problem}")


def test_chain_stops_if_slurm_forgot_a_job(jobs, slurm):
    """A killed leg stops the chain if Slurm does not know how it ended. The printed command continues the run."""
    killed, later = chain(jobs.submit("gh_x_000", "hours=4", "--legs", "2"))
    wait_until(lambda: any(record["job"] == killed for record in jobs.records()))
    for command in ("squeue", "sacct"):
        real = shutil.which(command)
        write_program(
            jobs.lab.path / f"home/bin/{command}", f'[[ $* != *--jobs={killed} ]] && exec {real} "$@"; exit 1'
        )
    write_program(jobs.lab.path / "home/bin/sleep", "")
    slurm("scancel", "--signal=KILL", "--full", killed)
    assert slurm.wait(later)["JobState"] == "FAILED"
    log = (jobs.logs / f"011-x_gh_000_{later}.out").read_text()
    head, _, command = log.strip().partition(" To continue the run: ")
    assert head == f"job {later} of the chain of job {killed} stops: Slurm does not know how job {killed} ended."
    done = run("bash", "-c", f"{command} hours=1", env=jobs.environment)
    assert "takes the launcher, overrides and code from the receipt" in done.stderr
    [number] = submitted(run("bash", "-c", command, env=jobs.environment))
    wait_until(lambda: jobs.records()[0]["status"] == "running")
    slurm("scontrol", "requeue", number)
    wait_until(lambda: slurm.job(number)["JobState"] == "PENDING")
    time.sleep(2)  # slurmd refuses a job if it revoked its credential within the same second
    slurm("scontrol", "update", f"jobid={number}", "StartTime=now")
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    [record] = jobs.records()
    assert attempts(record) == [(killed, "terminated"), (number, "terminated"), (number, "finished")]
    hidden = sorted(path.name for path in Path(record["folder"]).glob(".hydra*"))
    assert hidden == [".hydra", ".hydra_leg3", ".hydra_leg3_1"]
