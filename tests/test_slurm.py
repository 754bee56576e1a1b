"""Slurm: launchers that a real sbatch runs, and submit.sh, which lets no wrong one into the queue."""

import os
import re
import shutil
import subprocess
import time

import pytest
from dotenv import dotenv_values
from support.process import git, run, wait_until
from support.slurm import Submitter, submitted
from support.template import MACHINES

EVERY_MACHINE = {"x": [f"{machine}_{number:03}" for number, machine in enumerate(MACHINES)]}


@pytest.fixture
def jobs(lab, slurm):
    return Submitter(lab, slurm)


def test_every_machines_launcher_completes_with_its_figure_and_log(lab, slurm):
    jobs = Submitter(lab, slurm, runs=EVERY_MACHINE)
    launchers = [f"{machine}_x_{number:03}" for number, machine in enumerate(MACHINES)]
    done = jobs.submit(*launchers)
    numbers = submitted(done)
    assert len(numbers) == len(MACHINES)
    head = git(lab.path, "describe", "--always").strip()
    for number, (machine, entry), token in zip(numbers, MACHINES.items(), EVERY_MACHINE["x"], strict=True):
        label, run_number = token.rsplit("_", 2)[-2:]
        job = slurm.wait(number)
        log = jobs.logs / f"011-x_{label}_{run_number}_{number}.out"
        assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), log.read_text()
        assert job["Partition"] == entry.get("partition", "main")
        assert job["Account"] == entry.get("account", "(null)")
        assert job["CPUs/Task"] == str(entry["cpus"]) and job["MinMemoryNode"] == entry["mem"].upper()
        assert job["Comment"] == head
        [figure] = lab.images.glob(f"011-x_{label}_{run_number}_{number}_*.png")
        assert f"figure: {figure}\n" in log.read_text()
        assert f"{machine}_x_{run_number}: job {number}\n  log    {log}\n  watch  tail -F {log}\n" in done.stdout
    records = jobs.records()
    assert [record["status"] for record in records] == ["finished"] * len(MACHINES)
    assert {record["slurm"]["SLURM_JOB_ID"] for record in records} == set(numbers)


def test_plain_sbatch_from_the_repositorys_root(jobs, slurm):
    number = jobs.sbatch("experiments/011-x/scripts/gh_x_000.slurm")
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert "figure: " in (jobs.logs / f"011-x_gh_000_{number}.out").read_text()


@pytest.mark.parametrize("folder", ["exists", "missing"])
def test_the_log_is_where_it_belongs_from_every_directory(jobs, slurm, folder):
    for where in (".", "experiments/011-x", "experiments/011-x/scripts", "/"):
        if folder == "missing":
            shutil.rmtree(jobs.experiment / "slurm")
        [number] = submitted(jobs.submit("gh_x_000", cwd=jobs.lab.path / where))
        assert slurm.wait(number)["JobState"] == "COMPLETED"
        assert "figure: " in (jobs.logs / f"011-x_gh_000_{number}.out").read_text()


@pytest.mark.parametrize("name", ["scripts/gh_x_000.slurm", "gh_x_000.slurm", "gh_x_000"])
def test_a_launcher_may_be_named_as_the_shell_completes_it(jobs, name):
    assert jobs.submit("--dry-run", name).stdout == jobs.submit(name, "--dry-run").stdout == "gh_x_000: ready\n"


def test_spaces_and_signs_in_the_path(tmp_path, template, slurm):
    from support.lab import make_lab

    lab = make_lab(tmp_path / "a lab, 100 % é", template)
    jobs = Submitter(lab, slurm)
    done = jobs.submit("gh_x_000", cwd="/")
    [number] = submitted(done)
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    log = jobs.logs / f"011-x_gh_000_{number}.out"
    assert f"  log    {log}\n" in done.stdout and "figure: " in log.read_text()
    watch = re.search(r"watch  tail -F (.*)$", done.stdout, flags=re.MULTILINE)[1]
    assert run("bash", "-c", f"cat {watch}").stdout == log.read_text()


def test_a_worktree_submits_its_own_files(jobs, slurm, tmp_path):
    worktree = tmp_path / "worktree"
    git(jobs.lab.path, "worktree", "add", "--quiet", worktree)
    script = worktree / "experiments/011-x/scripts/submit.sh"
    assert "DATA_ROOT is not set" in jobs.refused("gh_x_000", script=script)
    env = (jobs.lab.path / ".env").read_text()
    (worktree / ".env").write_text(env)
    assert f"does not hold {worktree}/experiments/011-x" in jobs.refused("gh_x_000", script=script)
    (worktree / ".env").write_text(env.replace(f"{jobs.lab.path}/experiments", f"{worktree}/experiments"))
    [number] = submitted(jobs.submit("gh_x_000", script=script))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert (worktree / f"experiments/011-x/slurm/output/011-x_gh_000_{number}.out").is_file()
    assert (worktree / "experiments/011-x/results/x_gh_000.csv").is_file()


def test_logs_on_scratch_behind_a_link(jobs, slurm, tmp_path):
    shutil.rmtree(jobs.logs)
    jobs.logs.symlink_to(tmp_path / "scratch")
    assert "slurm/output is a link to nowhere" in jobs.refused("gh_x_000")
    (tmp_path / "scratch").mkdir()
    [number] = submitted(jobs.submit("gh_x_000"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert "figure: " in (tmp_path / f"scratch/011-x_gh_000_{number}.out").read_text()


def test_from_inside_another_job(jobs, slurm):
    script = jobs.lab.path / "outer.sh"
    script.write_text("#!/bin/bash\nbash experiments/011-x/scripts/submit.sh gh_x_000\n")
    outer = jobs.sbatch("--output=outer.out", "--array=5", "--mem=1g", "--cpus-per-task=2", script)
    assert slurm.wait(f"{outer}_5")["JobState"] == "COMPLETED"
    [number] = re.findall(r": job (\d+)$", (jobs.lab.path / "outer.out").read_text(), flags=re.MULTILINE)
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert "SLURM_ARRAY_TASK_ID" not in jobs.records()[0]["slurm"]
    assert list(jobs.lab.images.glob(f"011-x_gh_000_{number}_20*.png"))


def test_an_array_of_eight_leaves_eight_of_everything(jobs, slurm):
    done = jobs.submit("gh_x_000", "--", "--array=0-7%4", "--gres=gpu:1", "--cpus-per-task=2", "--mem=1g")
    [number] = submitted(done)
    for task in range(8):
        assert slurm.wait(f"{number}_{task}")["JobState"] == "COMPLETED"
        assert "figure: " in (jobs.logs / f"011-x_gh_000_{number}_{task}.out").read_text()
        assert len(list(jobs.lab.images.glob(f"011-x_gh_000_{number}_{task}_20*.png"))) == 1
    records = jobs.records()
    assert sorted(record["slurm"]["SLURM_ARRAY_TASK_ID"] for record in records) == list("01234567")
    tables = {path.read_text() for path in (jobs.experiment / "results").glob("*.csv")}
    assert len(tables) == 8, "tasks did not get seeds of their own"
    watch = re.search(r"watch  tail -F (.*)$", done.stdout, flags=re.MULTILINE)[1]
    assert run("bash", "-c", f"ls {watch}").stdout.count("\n") == 8


def test_a_failing_script_gives_a_failed_job_with_its_code(jobs, slurm):
    jobs.edit("scripts/x.py", "hours, strains = simulate(cfg)", "raise SystemExit(cfg.seed)")
    numbers = [jobs.sbatch("--array=1,42", "--gres=none", "experiments/011-x/scripts/gh_x_000.slurm")]
    assert [slurm.wait(f"{numbers[0]}_{task}")["ExitCode"] for task in (1, 42)] == ["1:0", "42:0"]
    assert slurm.job(f"{numbers[0]}_42")["JobState"] == "FAILED"
    assert [record["status"] for record in jobs.records()] == ["failed", "failed"]


def test_a_failing_setup_gives_a_failed_job(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["igb_cabbi_000"]})
    (lab.path / "home/bin/module").write_text("#!/bin/bash\nexit 7\n")
    [number] = submitted(jobs.submit("igb_cabbi_x_000"))
    job = slurm.wait(number)
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "7:0")
    assert jobs.records() == []


WAITS = """\
import signal, sys, time
        signal.signal(signal.SIGUSR1, lambda *_: sys.exit("USR1 reached Python"))
        print("waiting")
        time.sleep(60)
"""


@pytest.mark.parametrize("machine", ["gh", "igb_mmli"])
def test_a_signal_reaches_python(lab, slurm, machine):
    jobs = Submitter(lab, slurm, runs={"x": [f"{machine}_000"]})
    jobs.edit("scripts/x.py", "hours, strains = simulate(cfg)", WAITS + "        hours, strains = simulate(cfg)")
    [number] = submitted(jobs.submit(f"{machine}_x_000", "--", "--signal=B:USR1@60"))
    log = jobs.logs / f"011-x_{machine.split('_')[-1]}_000_{number}.out"
    wait_until(lambda: log.exists() and "waiting" in log.read_text(), 20, lambda: slurm.job(number))
    slurm("scancel", "--batch", "--signal=USR1", number)
    assert slurm.wait(number)["JobState"] == "FAILED"
    assert "USR1 reached Python" in log.read_text()


def test_a_killed_run_is_told_from_a_finished_one(jobs, slurm):
    jobs.edit("scripts/x.py", "hours, strains = simulate(cfg)", WAITS + "        hours, strains = simulate(cfg)")
    [number] = submitted(jobs.submit("gh_x_000"))
    wait_until(lambda: jobs.records(), 20)
    assert jobs.records()[0]["status"] == "running"
    slurm("scancel", "--batch", "--signal=KILL", number)
    slurm.wait(number)
    assert jobs.records()[0]["status"] == "running"


def test_a_requeued_job_keeps_the_first_attempts_log_figure_and_folder(jobs, slurm):
    jobs.edit("scripts/x.py", "        print(f", '        print("attempt")\n        print(f')
    text = (jobs.experiment / "scripts/gh_x_000.slurm").read_text()
    hold = '[[ "${SLURM_RESTART_COUNT:-0}" == 0 ]] && sleep 60\n'
    (jobs.experiment / "scripts/gh_x_000.slurm").write_text(text.replace("exec ", "") + hold + "true\n")
    [number] = submitted(jobs.submit("gh_x_000"))
    log = jobs.logs / f"011-x_gh_000_{number}.out"
    wait_until(lambda: log.exists() and log.read_text().count("figure: ") == 1, 20)
    slurm("scontrol", "requeue", number)
    wait_until(lambda: slurm.job(number)["JobState"] == "PENDING", 20, lambda: slurm.job(number))
    time.sleep(2)  # slurmd starts no job whose credential it has revoked within the same second
    slurm("scontrol", "update", f"jobid={number}", "StartTime=now")
    assert slurm.wait(number)["JobState"] == "COMPLETED", log.read_text()
    assert log.read_text().count("figure: ") == 2
    assert len(list(jobs.lab.images.iterdir())) == len(jobs.records()) == 2


def test_wrong_jobs_are_refused_before_the_queue(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["gh_000", "delta_001"]})
    launcher = "scripts/gh_x_000.slurm"
    original = (jobs.experiment / launcher).read_text()

    for old, new, reason in [
        ("--partition=main", "--partition=mars", "invalid partition specified: mars"),
        ("--mem=64g", "--mem=9999g", "Requested node configuration is not available"),
        ("--gres=gpu:1", "--gres=gpu:5", "Requested node configuration is not available"),
        ("--time=2-00:00:00", "--time=soon", "Invalid --time specification"),
        ("#SBATCH --mem", " #SBATCH --mem", "Slurm ignores line 8"),
        ("#SBATCH --mem=64g", "true\n#SBATCH --mem=64g", "Slurm ignores line 9"),
        ("set -u\n", "set -u\nif true; then\n", "syntax error"),
        ("x_gh_000\n", "x_gh_999\n", "no configuration experiments/011-x/conf/x_gh_999.yaml"),
        ("\n", "\r\n", "DOS line breaks"),
    ]:
        (jobs.experiment / launcher).write_text(original.replace(old, new))
        line = jobs.refused("gh_x_000")
        assert line.startswith("submit.sh: gh_x_000: ") and reason in line, line
        assert jobs.refused("delta_x_001", "gh_x_000") == line, "one wrong launcher must hold back all"
    (jobs.experiment / launcher).write_text(original)

    jobs.edit("scripts/delta_x_001.slurm", "bfjt-delta-gpu", "other-account")
    assert "delta_x_001: allocation failure: Invalid account" in jobs.refused("gh_x_000", "delta_x_001")
    assert "no launcher" in jobs.refused("gh_x_999")
    assert jobs.refused() == "submit.sh: which launcher? delta_x_001.slurm gh_x_000.slurm"
    assert "invalid --begin" in jobs.refused("gh_x_000", "--", "--begin=never").lower()


def test_a_submission_that_fails_half_way_cancels_the_first_half(lab, slurm, tmp_path):
    jobs = Submitter(lab, slurm, runs={"x": ["gh_000", "gh_001"]})
    real = shutil.which("sbatch")
    stand_in = lab.path / "home/bin/sbatch"
    stand_in.write_text(
        f'#!/bin/bash\n[[ "$*" != *--parsable*gh_x_001* ]] || {{ echo "sbatch: error: gone" >&2; exit 1; }}\n'
        f'exec {real} "$@"\n'
    )
    stand_in.chmod(0o755)
    done = jobs.submit("gh_x_000", "gh_x_001", "--", "--begin=now+1hour")
    assert done.returncode == 1 and done.stderr == "submit.sh: gh_x_001: sbatch: error: gone\n"
    [number] = re.findall(r"gh_x_000: job (\d+)", done.stdout)
    assert slurm.wait(number)["JobState"] == "CANCELLED"


@pytest.mark.parametrize("variable", ["DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"])
def test_wrong_folders_are_refused_before_the_queue(jobs, variable):
    assert f"{variable} is not set; set it in {jobs.lab.path}/.env" in jobs.refused("gh_x_000", env={variable: ""})
    assert f"{variable} cannot be written: /proc" in jobs.refused("gh_x_000", env={variable: "/proc"})
    assert f"{variable} cannot be written: /nowhere" in jobs.refused("gh_x_000", env={variable: "/nowhere"})
    env = (jobs.lab.path / ".env").read_text()
    (jobs.lab.path / ".env").write_text(env.replace(variable, "OTHER"))
    assert f"{variable} is not set" in jobs.refused("gh_x_000")
    (jobs.lab.path / ".env").unlink()
    assert "DATA_ROOT is not set" in jobs.refused("gh_x_000")


def test_another_clones_experiments_are_refused(jobs):
    (jobs.lab.data / "011-x").mkdir()
    line = jobs.refused("gh_x_000", env={"EXPERIMENT_ROOT": str(jobs.lab.data)})
    assert line == f"submit.sh: EXPERIMENT_ROOT does not hold {jobs.experiment}: {jobs.lab.data}"


LINES = [
    "DATA_ROOT={}",
    'DATA_ROOT="{}"',
    "DATA_ROOT='{}'",
    "export DATA_ROOT={}",
    "  DATA_ROOT = {}  ",
    "DATA_ROOT={} # scratch",
    'DATA_ROOT="{}" # scratch',
    "DATA_ROOT=/old\nDATA_ROOT={}",
    "DATA_ROOT={}\r",
    "SCRATCH={}\nDATA_ROOT=${{SCRATCH}}",
    "DATA_ROOT=/nowhere/{}",
    "DATA_ROOT=$HOME",
    "DATA_ROOT=",
    "# DATA_ROOT={}",
]


@pytest.mark.parametrize("folder", ["scratch", "a b", "a#b", "é"])
def test_env_is_read_as_python_dotenv_reads_it(jobs, tmp_path, folder):
    (tmp_path / folder).mkdir()
    env = jobs.lab.path / ".env"
    for line in LINES:
        text = line.format(tmp_path / folder)
        env.write_text(f"{text}\nASSET_IMAGES_DIR={tmp_path}\nEXPERIMENT_ROOT={jobs.experiment.parent}\n")
        value = dotenv_values(env).get("DATA_ROOT")
        done = jobs.submit("--dry-run", "gh_x_000")
        if value and os.path.isdir(value):
            assert done.returncode == 0, (text, done.stderr)
        elif value:
            assert done.stderr == f"submit.sh: DATA_ROOT cannot be written: {value}\n", text
        else:
            assert "DATA_ROOT is not set" in done.stderr, text


def test_without_slurm_one_line_says_so(jobs, tmp_path):
    for name in ("bash", "basename", "dirname", "git"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = jobs.submit("gh_x_000", env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (1, "submit.sh: no sbatch here; submit from a machine of the cluster\n")


def test_dry_run_queues_nothing(jobs, slurm):
    before = slurm.queue()
    done = jobs.submit("--dry-run", "gh_x_000", "--", "--array=0-3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "gh_x_000: ready\n", "")
    assert slurm.queue() == before


def test_a_dirty_tree_is_in_the_jobs_comment(jobs, slurm):
    jobs.edit("conf/default.yaml", "hours: 24", "hours: 25")
    [number] = submitted(jobs.submit("gh_x_000"))
    assert slurm.job(number)["Comment"].endswith("-dirty")
    subprocess.run(["scancel", number], check=True)


def test_submit_is_short_and_clean(jobs):
    script = jobs.experiment / "scripts/submit.sh"
    assert len(script.read_text().splitlines()) <= 60
    assert run("shellcheck", script).stdout == ""
