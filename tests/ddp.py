"""Data-parallel training with real torch. `make test-ddp` installs torch and runs these tests.

Four processes on one machine add up their ranks by gloo on the CPU, in a -ddp launcher under Slurm and by hand.
"""

import json
import re
import sys

import pytest
from support.process import run
from support.slurm import Submitter

REDUCE = """\
list(grow(cfg))
        import torch
        torch.distributed.init_process_group("gloo")
        total = torch.tensor([float(torch.distributed.get_rank())])
        torch.distributed.all_reduce(total)
        run.log(total=total)
        import os
        os.write(1, f"rank {run.process.rank} {run.is_main} {run.folder} {total.item()}\\n".encode())  # at once
        torch.distributed.destroy_process_group()
"""


@pytest.fixture
def jobs(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": [{"gh-ddp_000": {"gres": "gpu:4"}}]})
    jobs.edit("scripts/x.py", "list(grow(cfg))\n", REDUCE)
    return jobs


def check(jobs, output, name):
    [record], [figure] = jobs.records(), jobs.lab.images.iterdir()
    assert (record["status"], record["figures"]) == ("finished", [str(figure)])
    assert record["metrics"]["total"] == 6.0
    assert re.fullmatch(name, record["folder"].rsplit("/", 1)[-1])
    told = re.findall(r"rank (\d) (\w+) (\S+) 6\.0", output)
    assert sorted(told) == [(str(rank), str(rank == 0), record["folder"]) for rank in range(4)]
    [folder] = (jobs.lab.data / "experiments/011-x/runs/x_gh_000").iterdir()
    assert {path.name for path in folder.iterdir()} == {".hydra", "metrics.jsonl", "provenance.json", "x_gh_000.csv"}


def test_ddp_launcher_is_one_run_of_four_processes(jobs, slurm):
    job = jobs.sbatch("experiments/011-x/scripts/gh_x-ddp_000.slurm")
    state = slurm.wait(job, seconds=120)["JobState"]
    [log] = jobs.logs.glob(f"*_{job}.out")
    assert state == "COMPLETED", log.read_text()
    check(jobs, log.read_text(), job)


def test_torchrun_by_hand_is_one_run_of_four_processes(jobs):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4"]
    done = run(*torchrun, jobs.experiment / "scripts/x.py", cwd=jobs.lab.path)
    assert done.returncode == 0, done.stderr
    check(jobs, done.stdout, r"[0-9a-f-]{36}")


def test_torchrun_restart_is_another_attempt(jobs):
    fails = 'list(grow(cfg))\n        assert __import__("os").environ["TORCHELASTIC_RESTART_COUNT"] != "0"\n'
    jobs.edit("scripts/x.py", "list(grow(cfg))\n", fails)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4", "--max-restarts=1"]
    done = run(*torchrun, jobs.experiment / "scripts/x.py", cwd=jobs.lab.path)
    assert done.returncode == 0, done.stderr
    [record] = [json.loads(path.read_text()) for path in jobs.lab.data.rglob("provenance.json")]
    first, second = (attempt["status"] for attempt in record["attempts"])
    assert first in ("failed", "terminated") and second == "finished"
