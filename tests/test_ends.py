"""list: the ends of jobs, as sacct reads them from a real database, and jobs that have no record."""

import json

import pytest
from support.process import wait_until
from support.slurm import Submitter, submitted
from support.updating import tool

from experiments.slurm import Key, read_ends

BODY = """\
import signal
if cfg.hours == 2: os.kill(os.getpid(), signal.SIGKILL)
if cfg.hours == 3: time.sleep(100)
if cfg.hours == 4: raise ValueError("no")"""
EXITS = 'import os, sys\nif "SLURM_JOB_ID" in os.environ: sys.exit(7)\n'


@pytest.fixture
def jobs(lab, accounting):
    jobs = Submitter(lab, accounting, runs={"x": ["slurm_000"], "y": ["slurm_000"]})
    lab.write_light(BODY, script="x")
    script = lab.write_light(script="y")
    script.write_text(EXITS + script.read_text())
    return jobs


def listed(jobs, *words):
    """Return the listed runs by their job."""
    done = tool(jobs.lab, "list", "011", "--json", *words)
    assert done.returncode == 0, done.stderr
    return {run["entry"]: run for run in json.loads(done.stdout)[0]["runs"]}


def start(jobs, *words, options=()):
    """Queue the launcher of x without submit.sh, which takes longer and writes a receipt."""
    return jobs.sbatch(*options, jobs.experiment / "scripts/slurm_x_000.slurm", *words)


def is_recorded(jobs, number):
    return any(record["job"] == number for record in jobs.records())


def test_list_shows_how_jobs_ended(jobs, accounting):
    killed, sleeping, failed = (start(jobs, f"hours={hours}", options=["-J", "renamed"]) for hours in (2, 3, 4))
    wait_until(lambda: is_recorded(jobs, sleeping))
    for number in (killed, failed):
        accounting.wait(number)
    accounting("scancel", sleeping)
    accounting.wait(sleeping)
    wait_until(lambda: listed(jobs)[sleeping]["state"] == "cancelled", state=lambda: listed(jobs)[sleeping])
    runs = listed(jobs)
    assert (runs[killed]["state"], runs[killed]["error"]) == ("failed", "the job was killed by signal 9")
    assert runs[failed]["error"] == "ValueError: no" and runs[sleeping]["error"] is None
    ends = {"OUT_OF_MEMORY": "out of memory", "TIMEOUT": "time limit", "DEADLINE": "deadline"}
    ends |= {"NODE_FAIL": "node failed", "PREEMPTED": "preempted", "COMPLETED": "lost"}
    for word, state in ends.items():
        accounting.set_end(killed, word)
        assert listed(jobs)[killed]["state"] == state
    accounting.set_end(sleeping, "TIMEOUT")  # its record has `terminated`, as of a run that was cancelled
    assert [*listed(jobs, "--state", "time-limit")] == [sleeping]
    [folder] = (
        path for path in jobs.lab.data.rglob("provenance.json") if json.loads(path.read_text())["job"] == killed
    )
    record = json.loads(folder.read_text())
    record["slurm"]["SLURM_CLUSTER_NAME"] = "elsewhere"
    folder.write_text(json.dumps(record))
    assert listed(jobs)[killed]["state"] == "running", "another cluster has this number too"


def test_list_shows_the_last_attempt_of_a_requeued_job(jobs, accounting):
    number = start(jobs, "hours=3")
    wait_until(lambda: is_recorded(jobs, number))
    accounting("scontrol", "requeuehold", number)
    wait_until(lambda: listed(jobs)[number]["state"] == "queued")
    accounting("scancel", number)
    wait_until(lambda: listed(jobs)[number]["state"] == "cancelled", state=lambda: listed(jobs)[number])
    rows = accounting("sacct", "-X", "-n", "--duplicates", "-j", number, "-o", "State")
    assert len(rows.split("\n")) > 2, rows


def test_list_shows_jobs_without_a_record(jobs, accounting):
    """One died before Run began, one waits under another name, one has its folder elsewhere."""
    elsewhere = jobs.lab.path / "elsewhere"
    [moved] = submitted(jobs.submit("slurm_x_000", f"hydra.run.dir={elsewhere}"))
    [died, waiting] = *submitted(jobs.submit("slurm_y_000")), jobs.hold("slurm_y_000", "hours=5")
    accounting("scontrol", "update", f"jobid={waiting}", "jobname=other")
    for number in (moved, died):
        accounting.wait(number)
    wait_until(lambda: listed(jobs)[died]["state"] == "failed", state=lambda: listed(jobs)[died])
    runs = listed(jobs)
    assert (runs[died]["config"], runs[died]["error"], runs[died]["name"]) == ("y_slurm_000", "exit code 7", "")
    assert (runs[waiting]["state"], runs[waiting]["overrides"]) == ("queued", ["hours=5"])
    assert (runs[moved]["state"], runs[moved]["folder"]) == ("finished", str(elsewhere))
    assert runs[moved]["record"]["job"] == moved and len(runs) == 3
    accounting("scancel", waiting)


def test_sacct_is_asked_in_chunks(jobs, accounting, monkeypatch):
    number = start(jobs, "hours=2")
    accounting.wait(number)
    monkeypatch.setattr("experiments.slurm.CHUNK", 5)
    wanted = {Key(cluster, str(job)) for cluster in ("", "lab", "nowhere") for job in range(1, int(number) + 3)}
    wait_until(lambda: Key("lab", number) in read_ends(wanted, "lab"))
    ends = read_ends(wanted, "lab")
    assert ends[Key("", number)].state == ends[Key("lab", number)].state == "FAILED"
    assert not any(key.cluster == "nowhere" for key in ends)


def test_list_without_accounting_shows_lost(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["slurm_000"]})
    lab.write_light(BODY, script="x")
    number = start(jobs, "hours=2")
    slurm.wait(number)
    wait_until(lambda: number not in slurm.queue())
    assert listed(jobs)[number]["state"] == "lost"
