"""Ranks: processes that share a run write what one process writes, by Slurm, torchrun and by hand."""

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image
from support.process import run, wait_until
from support.slurm import Submitter
from support.updating import tool

PYTHON = '"$HOME/miniconda3/envs/torchcell/bin/python"'
RUNS = {
    "x": [
        {"gh-srun_000": {"ntasks": 4, "cpus-per-task": 1, "mem": "8g"}},
        {"gh-pack_001": {"ntasks": 4, "cpus-per-task": 1, "mem": "8g"}},
        "gh_002",
    ]
}


@pytest.fixture
def jobs(lab, slurm):
    return Submitter(lab, slurm, draws=True, runs=RUNS)


def log(jobs, job):
    [path] = jobs.logs.glob(f"*_{job}.out")
    return path.read_text()


def folders(jobs, config):
    return sorted(path for path in (jobs.lab.data / "experiments/011-x/runs" / config).iterdir() if path.is_dir())


def launcher(name):
    return f"experiments/011-x/scripts/{name}.slurm"


def test_srun_processes_are_one_run_with_export_none(jobs):
    jobs.edit("scripts/gh_x-srun_000.slurm", PYTHON, sys.executable)
    jobs.edit(
        "scripts/x.py", "list(grow(cfg))", "list(grow(cfg)); print('rank', run.process.rank, run.is_main, run.folder)"
    )
    job = jobs.sbatch("--export=NONE", launcher("gh_x-srun_000"))
    assert jobs.slurm.wait(job)["JobState"] == "COMPLETED", log(jobs, job)
    [folder] = folders(jobs, "x_gh_000")
    assert folder.name == job
    names = {".hydra", "changes.patch", "metrics.jsonl", "provenance.json", "x_gh_000.csv"}
    assert {path.name for path in folder.iterdir()} == names
    told = re.findall(r"^(\d): rank (\d) (\w+) (.*)$", log(jobs, job), flags=re.MULTILINE)
    assert sorted(told) == [(str(rank), str(rank), str(rank == 0), str(folder)) for rank in range(4)]
    [record], [figure] = jobs.records(), jobs.lab.images.iterdir()
    assert (record["status"], record["job"], record["figures"]) == ("finished", job, [str(figure)])
    with Image.open(figure) as image:
        assert (image.text["Job"], image.text["Run"]) == (job, str(folder))
    assert [path.name for path in (jobs.experiment / "results").glob("*.csv")] == ["x_gh_000.csv"]


def test_srun_process_that_fails_fails_the_job(jobs):
    jobs.edit("scripts/x.py", "list(grow(cfg))", "list(grow(cfg)); assert run.process.rank != 3, 'the fourth'")
    job = jobs.sbatch(launcher("gh_x-srun_000"))
    assert jobs.slurm.wait(job)["JobState"] == "FAILED"
    assert re.search(r"^3: AssertionError: the fourth", log(jobs, job), flags=re.MULTILINE)


def test_pack_is_four_runs_that_fail_independently(jobs):
    jobs.edit("scripts/x.py", "list(grow(cfg))", "list(grow(cfg)); assert cfg.task != 2, 'the third'")
    job = jobs.sbatch(launcher("gh_x-pack_001"))
    assert jobs.slurm.wait(job)["JobState"] == "FAILED"
    assert [folder.name for folder in folders(jobs, "x_gh_001")] == [f"{job}_{task}" for task in range(4)]
    records = {record["job"]: record for record in jobs.records()}
    assert {name: record["status"] for name, record in records.items()} == {
        f"{job}_{task}": "failed" if task == 2 else "finished" for task in range(4)
    }
    assert records[f"{job}_2"]["error"] == "AssertionError: the third"
    figures = sorted(path.name.rsplit("_", 1)[0] for path in jobs.lab.images.iterdir())
    assert figures == ["011-x_gh_001_0", "011-x_gh_001_1", "011-x_gh_001_3"]
    tables = sorted((jobs.experiment / "results").glob("*.csv"))
    assert [path.name for path in tables] == ["x_gh_001_0.csv", "x_gh_001_1.csv", "x_gh_001_3.csv"]
    assert len({path.read_text() for path in tables}) == 3, "each has a seed of its own"
    assert re.search(r"^2: AssertionError: the third", log(jobs, job), flags=re.MULTILINE)


def test_scancel_terminates_every_run_of_a_job(jobs):
    jobs.lab.write_light("time.sleep(60)", script="x")
    names = ("gh_x_002", "gh_x-srun_000", "gh_x-pack_001")
    numbers = [jobs.sbatch(launcher(name)) for name in names]
    wait_until(lambda: len(jobs.records()) == 6, state=lambda: [log(jobs, number) for number in numbers])
    listed = tool(jobs.lab, "list", "experiments/011-x", "--json", env={"DATA_ROOT": str(jobs.lab.data)})
    states = {run["name"]: run["state"] for run in json.loads(listed.stdout)[0]["runs"]}
    assert len(states) == 6 and set(states.values()) == {"running"}, "of a pack squeue lists the job alone"
    for number in numbers:
        jobs.slurm("scancel", number)
    assert [jobs.slurm.wait(number)["JobState"] for number in numbers] == ["CANCELLED"] * 3
    wait_until(lambda: all(each["status"] == "terminated" for each in jobs.records()), state=jobs.records)
    assert [record["error"] for record in jobs.records()] == ["SIGTERM"] * 6


RESUMES = """\
import os.path as osp
import time
from pathlib import Path
from dotenv import load_dotenv
from runtime import CONF, Run, atomic_write, find_env
load_dotenv(find_env())
import hydra
import numpy as np

def work(step):
    print("step", step, flush=True)
    if step == 2 and not osp.exists("again"):
        Path("again").touch()
        time.sleep(60)

@hydra.main(version_base="1.3", config_path=CONF, config_name="x_gh_002")
def main(cfg):
    with Run(cfg) as run:
EXAMPLE

main()
"""


def test_requeued_job_resumes_by_the_example_of_run(jobs):
    text = (jobs.experiment / "scripts/runtime/run.py").read_text()
    [example] = re.findall(r"after its job was requeued:\n\n(.*?)\n\s*\"\"\"", text, flags=re.DOTALL)
    assert len(example.splitlines()) == 6
    code = RESUMES.replace("EXAMPLE", textwrap.indent(inspect.cleandoc("\n" + example), " " * 8))
    (jobs.experiment / "scripts/x.py").write_text(code)
    jobs.edit("scripts/gh_x_002.slurm", "--config-name x_gh_002", "--config-name x_gh_002\n  +steps=4")
    job = jobs.sbatch("--requeue", launcher("gh_x_002"))
    wait_until(lambda: list(jobs.lab.data.rglob("again")), state=lambda: log(jobs, job))  # in the run's folder
    jobs.slurm("scontrol", "requeue", job)
    wait_until(lambda: jobs.slurm.job(job)["JobState"] == "PENDING")
    time.sleep(2)  # slurmd refuses a job if it revoked its credential within the same second
    jobs.slurm("scontrol", "update", f"jobid={job}", "StartTime=now")
    assert jobs.slurm.wait(job, "COMPLETED")["JobState"] == "COMPLETED", log(jobs, job)
    assert re.findall(r"^step (\d)$", log(jobs, job), flags=re.MULTILINE) == ["0", "1", "2", "2", "3"]
    [folder], [record] = folders(jobs, "x_gh_002"), jobs.records()
    assert folder.name == job and (folder / ".hydra").is_dir() and (folder / ".hydra_1").is_dir()
    assert [(each["restart"], each["status"], each["error"]) for each in record["attempts"]] == [
        (0, "terminated", "SIGTERM"),
        (1, "finished", None),
    ]
    assert all(each["job"] == job and each["host"] and each["finished"] for each in record["attempts"])


def test_interactive_job_counts_as_by_hand(jobs):
    """This includes launchers that are started in it, any number of times."""
    script = jobs.lab.write_light("run.table([{'task': cfg.task}])", script="x")
    lines = [
        f"{sys.executable} {script} --config-name x_gh_002",
        f"bash {launcher('gh_x_002')}",
        f"bash {launcher('gh_x_002')}",
        f"bash {launcher('gh_x-srun_000')}",
        f"bash {launcher('gh_x-pack_001')}",
    ]
    command = ["salloc", "--quiet", "--ntasks=2", "--mem=8g", "bash", "-exc", "\n".join(lines)]
    done = run(*command, cwd=jobs.lab.path, env=jobs.environment)
    assert done.returncode == 0, done.stderr
    records = jobs.records()
    assert sorted(record["config"] for record in records) == ["x_gh_000", *["x_gh_001"] * 2, *["x_gh_002"] * 3]
    assert all(record["job"] is None and record["status"] == "finished" for record in records)
    tables = sorted((jobs.experiment / "results").glob("x_gh_001_*.csv"))
    assert [path.read_text() for path in tables] == ["task\n0\n", "task\n1\n"]
    [shared] = folders(jobs, "x_gh_000")
    assert re.fullmatch(r"\d+\.\d+", shared.name), "a job and its step"


def start_ranks(lab, count=4, **environment):
    """Start processes with the variables that torchrun sets."""
    command = [sys.executable, "experiments/011-x/scripts/x.py"]
    ranks = [os.environ | {"RANK": str(rank)} | environment for rank in range(count)]
    processes = [subprocess.Popen(command, cwd=lab.path, env=each, stderr=subprocess.PIPE, text=True) for each in ranks]
    errors = [process.communicate()[1] for process in processes]
    return [process.returncode for process in processes], errors


def test_ranks_by_hand_share_the_folder_of_their_run(lab):
    lab.render()
    assert start_ranks(lab, TORCHELASTIC_RUN_ID="4a1e") == ([0] * 4, [""] * 4)
    [record] = [json.loads(path.read_text()) for path in lab.data.rglob("provenance.json")]
    assert Path(record["folder"]).name == "4a1e" and record["job"] is None
    assert len(list(lab.images.iterdir())) == 1


def test_ranks_of_a_run_without_a_name_are_refused(lab):
    lab.render()
    codes, errors = start_ranks(lab, 2)
    message = "RANK is set, but the processes do not know their shared run. Start torchrun with --standalone.\n"
    assert (codes, errors) == ([1, 1], [message, message])
    assert list(lab.data.iterdir()) == []
