"""submit.sh --again, --continue and --failed: submit recorded runs as their receipts describe them."""

import re
import shutil

import pytest
from support.lab import write_program
from support.process import commit, git, remove, wait_until
from support.slurm import Submitter, submitted
from support.updating import tool

BODY = """\
run.log(seed=cfg.seed, hours=cfg.hours)
if cfg.hours == 2 and cfg.seed != 5: raise ValueError("no")
if cfg.hours == 4: time.sleep(100)"""
GRID = "defaults: [x_gh_000, _self_]\ngrid: {axes: {seed: [0, 1, 2, 5]}}\nhours: 2\n"


@pytest.fixture
def jobs(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["gh_000", "gh"]})
    lab.write_light(BODY, script="x")
    (jobs.experiment / "conf/grid.yaml").write_text(GRID)
    commit(lab.path)
    return jobs


def finish(jobs, *words):
    """Submit one launcher, wait until its job ends, and return its number."""
    [number] = submitted(jobs.submit(*words))
    jobs.slurm.wait(number)
    return number


def folder_of(jobs, number):
    [folder] = {record["folder"] for record in jobs.records() if record["job"] == number}
    return folder


def test_again_submits_a_run_as_it_was(jobs, slurm):
    jobs.edit("scripts/x.py", "run.log(seed", "run.log(old=1, seed")
    first = finish(jobs, "gh_x_000", "seed=7", "--", "--time=2:00:00")
    old = jobs.receipt(first)
    jobs.edit("scripts/x.py", "run.log(old=1, seed", "run.log(seed")
    commit(jobs.lab.path, "New")
    remove(jobs.experiment / "slurm/code" / old["commit"])
    [receipt] = (path.name for path in jobs.experiment.glob("slurm/submitted/*"))
    assert jobs.submit("--again", receipt, "--dry-run").stdout == "gh_x_000: ready\n"
    for run in (first, receipt, folder_of(jobs, first), f"x_gh_000/{first}"):
        done = jobs.submit("--again", run, "--", "--mem=3g", "--hold")
        [number] = submitted(done)
        job = slurm.job(number)
        assert (job["TimeLimit"], job["MinMemoryNode"]) == ("02:00:00", "3G")
        assert f"commit {old['commit']} has your uncommitted changes" in done.stdout
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    [record] = [record for record in jobs.records() if record["job"] == number]
    assert record["metrics"] == {"old": 1, "seed": 7, "hours": 24}
    assert (record["commit"], record["dirty"], record["overrides"]) == (old["commit"], True, ["seed=7"])
    slurm("scancel", "--user", "root")


def test_again_refuses_a_missing_launcher_or_commit(jobs, slurm):
    jobs.edit("conf/x_gh_000.yaml", "hours: 24", "hours: 25")
    number = jobs.hold("gh_x_000")
    slurm("scancel", number)
    sha = jobs.receipt(number)["commit"]
    for run in ("999", "a b", "x_gh_000/999"):
        expected = "expected a job, a receipt, CONFIG/RUN or a run folder, of a submitted run"
        assert jobs.refused("--again", run) == f'submit.sh: unknown run "{run}"; {expected}'
    assert "takes the launcher, overrides and code from the receipt" in jobs.refused("--again", number, "seed=1")
    launcher = jobs.experiment / "scripts/gh_x_000.slurm"
    launcher.rename(launcher.with_name("gh_x_001.slurm"))
    assert f"{number}: scripts/gh_x_000.slurm does not exist" in jobs.refused("--again", number)
    launcher.with_name("gh_x_001.slurm").rename(launcher)
    git(jobs.lab.path, "update-ref", "-d", f"refs/submitted/{sha}")
    git(jobs.lab.path, "-c", "gc.reflogExpire=now", "gc", "--quiet", "--prune=now")
    assert f"{number}: its commit {sha} is gone" in jobs.refused("--again", number)
    number = jobs.hold("gh_x_000", "--live")
    slurm("scancel", number)
    assert "it was submitted with --live and uncommitted changes" in jobs.refused("--again", number)
    commit(jobs.lab.path)
    number = jobs.hold("gh_x_000")
    slurm("scancel", number)
    moved = jobs.experiment.with_name("012-x")
    jobs.experiment.rename(moved)
    for file in (moved / "scripts/submit.sh", moved / "scripts/runtime/paths.py", launcher.name):
        path = moved / "scripts" / file
        path.write_text(path.read_text().replace("011-x", "012-x"))
    commit(jobs.lab.path, "Move")
    jobs.experiment = moved
    assert " has no experiments/012-x: it was moved since then. " in jobs.refused("--again", number)


def test_failed_submits_each_failed_run_once(jobs, slurm):
    for words in (["hours=2"], ["hours=3"], ["hours=2", "seed=3"]):
        finish(jobs, "gh_x_000", *words)
    [array] = submitted(jobs.submit("gh_x", "grid"))
    [cancelled] = submitted(jobs.submit("gh_x_000", "hours=4"))
    wait_until(lambda: any(record["job"] == cancelled for record in jobs.records()))
    slurm("scancel", cancelled)
    slurm.wait(cancelled)
    for task in range(4):
        slurm.wait(f"{array}_{task}")
    done = jobs.submit("--failed", "x_gh_000", "--", "--hold")
    again = submitted(done)
    assert [slurm.job(number)["JobState"] for number in again] == ["PENDING"] * 2
    receipts = [jobs.receipt(number) for number in again]
    assert [receipt["words"].split("\0")[:-1] for receipt in receipts] == [["hours=2"], ["hours=2", "seed=3"]]
    assert (
        jobs.refused("--failed", "x_gh_000")
        == "submit.sh: no run of x_gh_000 has failed, or all failed runs were resubmitted"
    )
    [number] = submitted(jobs.submit("--failed", "grid", "--", "--hold"))
    assert slurm.job(number)["ArrayTaskId"] == "0-2"
    asked = jobs.lab.path / "asked"
    write_program(jobs.lab.path / "home/bin/squeue", f'mkdir {asked} && exit 1; exec {shutil.which("squeue")} "$@"')
    assert "points 3 of 4, 1 finished, 0 running: 0 1 2\n" in jobs.submit("gh_x", "grid", "--dry-run").stdout
    write_program(jobs.lab.path / "home/bin/squeue", "echo no contact >&2; exit 1")
    assert "gh_x grid: squeue failed, so running points are unknown: no contact. " in jobs.refused("gh_x", "grid")
    (jobs.lab.path / "home/bin/squeue").unlink()
    assert "no launcher was submitted with this configuration" in jobs.refused("--failed", "x")
    refusal = "grid/5: this point is finished. Add --name NAME to compute it"
    assert refusal in jobs.refused("--again", "grid/5")
    done = jobs.submit("gh_x", "grid", "--dry-run", "--", "--array=3")
    assert done.stdout == "gh_x grid: nothing to submit\n  points 0 of 4, 1 finished, 0 running\n"
    assert "--array=4 has no task of its grid; the tasks are 0-3" in jobs.refused("gh_x", "grid", "--", "--array=4")
    done = jobs.submit("gh_x", "grid", "--", "--array=2-3%1", "--hold")
    [number] = submitted(done)
    assert slurm.job(number)["ArrayTaskId"] == "2%1"
    advice = tool(jobs.lab, "show", "011-x", "grid/5").stdout.splitlines()[-1].split()
    assert advice[:2] == ["bash", "experiments/011-x/scripts/submit.sh"]
    [number] = submitted(jobs.submit(*advice[2:]))
    slurm.wait(f"{number}_3")
    [record] = [record for record in jobs.records() if record["config"] == "grid.again"]
    assert (record["status"], record["point"], record["metrics"]["seed"]) == ("finished", "5", 5)
    slurm("scancel", "--user", "root")


def test_continue_uses_the_folder_of_the_run(jobs, slurm):
    failed, finished = finish(jobs, "gh_x_000", "hours=2"), finish(jobs, "gh_x_000")
    assert "this run is finished. Use --again" in jobs.refused("--continue", finished)
    [number] = submitted(jobs.submit("--continue", failed))
    slurm.wait(number)
    [record] = [record for record in jobs.records() if record["job"] == failed]
    assert [(attempt["job"], attempt["status"]) for attempt in record["attempts"]] == [
        (failed, "failed"),
        (number, "failed"),
    ]
    done = jobs.submit("--continue", failed, "--legs", "2")
    [legs] = re.findall("cancel scancel (.*)", done.stdout)
    for leg in legs.split():
        slurm.wait(leg)
    [record] = [record for record in jobs.records() if record["job"] == failed]
    assert [attempt["job"] for attempt in record["attempts"]] == [failed, number, legs.split()[0]]
