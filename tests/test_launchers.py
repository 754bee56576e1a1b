"""Launchers under a real Slurm: working directory, log, state, signals and requeues."""

import os
import re
import shutil
import socket
import time

import jinja2
import pytest
from support.process import git, run, wait_until
from support.slurm import WATCH, Submitter, submitted
from support.template import MACHINES, ROOT

from experiments.checks.launchers import KILLS_TORCHRUN

TAKES_RUNS = {
    name: entry for name, entry in MACHINES.items() if entry.get("slurm", True) and not entry.get("retired", False)
}
EVERY_MACHINE = {"x": [f"{machine}_{number:03}" for number, machine in enumerate(TAKES_RUNS)]}
WAITS = (
    "import signal, sys, time",
    'signal.signal(signal.SIGUSR1, lambda *_: sys.exit("USR1 reached Python"))',
    'print("waiting")',
    "time.sleep(60)",
)


@pytest.fixture
def jobs(lab, slurm):
    return Submitter(lab, slurm, draws=True)


def test_launcher_of_every_machine_completes(lab, slurm):
    jobs = Submitter(lab, slurm, runs=EVERY_MACHINE)
    head = git(lab.path, "rev-parse", "HEAD").strip()
    launchers = [f"{machine}_x_{number:03}" for number, machine in enumerate(TAKES_RUNS)]
    done = jobs.submit(*launchers)
    numbers = submitted(done)
    assert len(numbers) == len(TAKES_RUNS)
    for number, (machine, entry), token in zip(numbers, TAKES_RUNS.items(), EVERY_MACHINE["x"], strict=True):
        label, run_number = token.rsplit("_", 2)[-2:]
        job, asked = slurm.wait(number), entry["sbatch"]
        log = jobs.logs / f"011-x_{label}_{run_number}_{number}.out"
        assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log.read_text()
        assert job["Partition"] == asked.get("partition", "main")
        assert job["Account"] == asked.get("account", "(null)")
        assert job["CPUs/Task"] == str(asked["cpus-per-task"]) and job["MinMemoryNode"] == asked["mem"].upper()
        script = "experiments/011-x/scripts/x.py --config-name x"
        begin = rf"host {socket.gethostname()}\ncommit {head}\ncommand .*python.* {script}_{label}_{run_number}\n"
        assert re.match(begin, log.read_text())
        assert f"figure: {lab.images}/011-x_{label}_{run_number}_" in log.read_text()
        start = r"  start  [-0-9]{10} [:0-9]{8}, as Slurm estimates\n"
        shown = rf"{machine}_x_{run_number}: job {number}\n{start}{WATCH}{log.name}\n"
        assert re.search(shown, done.stdout)
    configs = [f"x_{'_'.join(token.rsplit('_', 2)[-2:])}" for token in EVERY_MACHINE["x"]]
    records = {record["slurm"]["SLURM_JOB_ID"]: (record["status"], record["config"]) for record in jobs.records()}
    assert records == {number: ("finished", config) for number, config in zip(numbers, configs, strict=True)}


def test_plain_sbatch_runs_live_code(jobs, slurm):
    number = jobs.sbatch("--hold", "experiments/011-x/scripts/gh_x_000.slurm")
    jobs.in_run('print("changed")')
    assert jobs.finish(number)["JobState"] == "COMPLETED"
    log = (jobs.logs / f"011-x_gh_000_{number}.out").read_text()
    assert "figure: " in log and "changed\n" in log
    assert "\ncommit live files, submitted without submit.sh\ncommand " in log


def test_machine_without_slurm_runs_from_anywhere(lab, slurm, tmp_path):
    jobs = Submitter(lab, slurm, runs={"x": ["desk_000"]})
    launcher = jobs.experiment / "scripts/desk_x_000.slurm"
    refusal = "submit.sh: desk_x_000: it is for a machine without Slurm. Run it there: bash "
    assert jobs.refused("desk_x_000") == f"{refusal}{launcher}"
    other = tmp_path / "other"
    (other / launcher.relative_to("/")).parent.mkdir(parents=True)  # where CDPATH would lead
    done = run("bash", launcher.relative_to("/"), "hours=30", cwd="/", env=jobs.environment | {"CDPATH": str(other)})
    assert done.returncode == 0, done.stderr
    [log] = jobs.logs.glob("011-x_desk_000_*.out")
    assert "figure: " in log.read_text()


def test_array_tasks_have_their_own_outputs(jobs, slurm):
    done = jobs.submit("gh_x_000", "--", "--array=0-3%2", "--gres=gpu:1", "--cpus-per-task=2", "--mem=1g")
    [number] = submitted(done)
    for task in range(4):
        assert slurm.wait(f"{number}_{task}")["JobState"] == "COMPLETED"
        assert "figure: " in (jobs.logs / f"011-x_gh_000_{number}_{task}.out").read_text()
        assert len(list(jobs.lab.images.glob(f"011-x_gh_000_*{task}_20*"))) == 1
    records = jobs.records()
    assert sorted(record["slurm"]["SLURM_ARRAY_TASK_ID"] for record in records) == list("0123")
    tables = {path.read_text() for path in (jobs.experiment / "results").glob("*.csv")}
    assert len(tables) == 4, "tasks did not get seeds of their own"
    assert f"\n{WATCH}011-x_gh_000_{number}_0.out\ncancel scancel {number}\n" in done.stdout


def test_failing_script_sets_the_jobs_exit_code(jobs, slurm):
    jobs.in_run("raise SystemExit(cfg.seed)")
    number = jobs.sbatch("--array=1,42", "--gres=none", "experiments/011-x/scripts/gh_x_000.slurm")
    assert [slurm.wait(f"{number}_{task}")["ExitCode"] for task in (1, 42)] == ["1:0", "42:0"]
    assert slurm.job(f"{number}_42")["JobState"] == "FAILED"
    assert [record["status"] for record in jobs.records()] == ["failed", "failed"]


def test_failing_setup_fails_the_job(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["igb_cabbi_000"]})
    (lab.path / "home/bin/module").write_text("#!/bin/bash\nexit 7\n")
    [number] = submitted(jobs.submit("igb_cabbi_x_000"))
    job = slurm.wait(number)
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "7:0")
    assert jobs.records() == []


@pytest.mark.parametrize("machine", ["gh", "igb_mmli"])
def test_signal_reaches_python(lab, slurm, machine):
    jobs = Submitter(lab, slurm, runs={"x": [f"{machine}_000"]})
    jobs.in_run(*WAITS)
    [number] = submitted(jobs.submit(f"{machine}_x_000", "--", "--signal=B:USR1@60"))
    log = jobs.logs / f"011-x_{machine.split('_')[-1]}_000_{number}.out"
    wait_until(lambda: log.exists() and "waiting" in log.read_text(), state=lambda: slurm.job(number))
    slurm("scancel", "--batch", "--signal=USR1", number)
    assert slurm.wait(number)["JobState"] == "FAILED"
    assert "USR1 reached Python" in log.read_text()


def test_signal_that_reaches_no_process_is_reported(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["gh_000", {"gh-ddp_001": {"gres": "gpu:2"}}]})
    assert jobs.refused("gh_x-ddp_001", "--", "--signal=B:SIGUSR1@90") == (
        "submit.sh: gh_x-ddp_001: signal is B:USR1@90, which kills torchrun and leaves its processes running. "
        "Use --signal=B:TERM@90"
    )
    done = jobs.submit("--dry-run", "gh_x_000", "gh_x-ddp_001", "--", "--signal=TERM@90")
    line = "signal is TERM@90, which Slurm only sends to processes started by srun. Use --signal=B:TERM@90"
    assert done.stderr == f"submit.sh: gh_x_000: {line}\nsubmit.sh: gh_x-ddp_001: {line}\n"
    assert jobs.submit("--dry-run", "gh_x-ddp_001", "--", "--signal=B:TERM@90").stderr == ""


KILL_TORCHRUN = ["USR1", "usr1@60", "SIGUSR2", "B:SigUsr2@9", "b:USR1", "R:10@5", "BR:12", "010", "B: USR1@90"]
SPARE_TORCHRUN = ["B:TERM", "TERM@90", "SIGINT", "1", "15@60", "64", "B:2@10"]
CHECK_SIGNALS = """
set -u
. "$0"
work=$1 words=("${@:3}")
declare -A slurm_options starts
die() { exit 1; }
warn() { :; }
for word in "${words[@]}"; do
  slurm_options=() modes=([x]=ddp)
  read_options x --signal="$word" "$2" || echo "Slurm refuses $word"
  (check_signal x "${slurm_options[x signal]}") || echo "$word"
done
"""


def test_signals_that_kill_torchrun_are_the_same_everywhere(jobs, slurm, tmp_path):
    """Slurm ignores the case of a signal and knows its number."""
    known, launcher = [*KILL_TORCHRUN, *SPARE_TORCHRUN], jobs.experiment / "scripts/gh_x_000.slurm"
    assert [word for word in known if KILLS_TORCHRUN.match(word)] == KILL_TORCHRUN
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT), extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"]
    )
    rules = environment.from_string(
        "{% from 'rules/checks.jinja' import kills_torchrun %}{{ kills_torchrun }}"
    ).render()
    assert rules == KILLS_TORCHRUN.pattern
    checks = ROOT / "template/scripts/runtime/checks.sh"
    done = run("bash", "-c", CHECK_SIGNALS, checks, tmp_path, launcher, *known, env=os.environ | slurm.environment)
    assert done.stdout.split("\n")[:-1] == KILL_TORCHRUN


def test_killed_run_stays_marked_running(jobs, slurm):
    jobs.in_run(*WAITS)
    [number] = submitted(jobs.submit("gh_x_000"))
    wait_until(jobs.records)
    assert jobs.records()[0]["status"] == "running"
    slurm("scancel", "--batch", "--signal=KILL", number)
    slurm.wait(number)
    assert jobs.records()[0]["status"] == "running"


def test_requeued_job_keeps_its_folder_log_and_code(jobs, slurm):
    again = 'os.environ.get("SLURM_RESTART_COUNT", "0") > "0"'
    wait = f"    main()\n    import os, time\n    time.sleep(0 if {again} else 60)\n"
    jobs.edit("scripts/x.py", "    main()\n", wait)
    [number] = submitted(jobs.submit("gh_x_000"))
    log = jobs.logs / f"011-x_gh_000_{number}.out"
    wait_until(lambda: log.exists() and log.read_text().count("figure: ") == 1)
    (jobs.experiment / "scripts/x.py").write_text("raise SystemExit('this was never submitted')\n")
    shutil.rmtree(jobs.experiment / "conf")
    slurm("scontrol", "requeue", number)
    wait_until(lambda: slurm.job(number)["JobState"] == "PENDING", state=lambda: slurm.job(number))
    time.sleep(2)  # slurmd refuses a job if it revoked its credential within the same second
    slurm("scontrol", "update", f"jobid={number}", "StartTime=now")
    assert slurm.wait(number)["JobState"] == "COMPLETED", log.read_text()
    assert log.read_text().count("figure: ") == 2
    assert len(list(jobs.lab.images.iterdir())) == 2 and len(jobs.records()) == 1
