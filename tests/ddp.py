"""Training with real torch and Lightning. `make test-ddp` installs them and runs these tests.

Four processes on one machine add up their ranks by gloo on the CPU, in a -ddp launcher under Slurm and by hand. The
scripts of docs/training.md are typed and run.
"""

import json
import re
import shlex
import sys
import time

import pytest
import torch
import yaml
from support.document import Reader, blocks
from support.lab import fake_programs
from support.process import run, wait_until
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
    # as `torchrun: [--local-addr=127.0.0.1]` of lab.yml
    jobs.edit("scripts/gh_x-ddp_000.slurm", "--standalone", "--standalone --local-addr=127.0.0.1")
    return jobs


def check(jobs, output, name):
    [record], [figure] = jobs.records(), jobs.lab.images.iterdir()
    assert (record["status"], record["figures"]) == ("finished", [str(figure)])
    assert record["metrics"]["total"] == 6.0
    assert re.fullmatch(name, record["folder"].rsplit("/", 1)[-1])
    told = re.findall(r"rank (\d) (\w+) (\S+) 6\.0", output)
    assert sorted(told) == [(str(rank), str(rank == 0), record["folder"]) for rank in range(4)]
    [folder] = (jobs.lab.data / "experiments/011-x/runs/x_gh_000").glob("*/")
    names = {".hydra", "changes.patch", "metrics.jsonl", "provenance.json", "x_gh_000.csv"}
    assert {path.name for path in folder.iterdir()} == names


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


# Training scripts -----------------------------------------------------------------------------------------------------


class Training:
    """The experiment of docs/training.md, and its jobs."""

    def __init__(self, lab, slurm, template):
        self.lab, self.slurm = lab, slurm
        self.reader = Reader(lab.path, template.path, fake_programs(lab.path.parent / "home"))
        self.experiment = lab.path / "experiments/015-train"

    def submit(self, *words):
        """Submit a launcher, and return its jobs."""
        self.reader.succeed(f"bash experiments/015-train/scripts/submit.sh {shlex.join(words)}")
        return self.jobs()

    def sbatch(self, *words):
        """Submit a launcher without its checks, and return its job."""
        return self.reader.succeed(f"sbatch --parsable {shlex.join(words)}").strip()

    def jobs(self):
        """Return the jobs that the last command has submitted."""
        return re.findall(r"(?:: job|^  legs  ) (\d+)$", self.reader.printed, flags=re.MULTILINE)

    def log(self, job):
        return "".join(path.read_text() for path in self.experiment.glob(f"slurm/output/*_{job}.out"))

    def folder(self, config, job):
        return self.lab.data / "experiments/015-train/runs" / config / job

    def record(self, config, job):
        return json.loads((self.folder(config, job) / "provenance.json").read_text())

    def signal(self, job, name, ready):
        """Send a signal to a job's launcher once it is ready, as Slurm does for --signal=B:NAME@60."""
        wait_until(ready, 120, lambda: self.log(job))
        self.slurm("scancel", "--batch", f"--signal={name}", job)

    def requeued(self, job):
        """Wait until a requeued job has ended, and return its log."""
        wait_until(lambda: self.slurm.job(job)["JobState"] == "PENDING", state=lambda: self.log(job))
        time.sleep(2)  # slurmd refuses a job if it revoked its credential within the same second
        self.slurm("scontrol", "update", f"jobid={job}", "StartTime=now")
        assert self.slurm.wait(job, "COMPLETED")["JobState"] == "COMPLETED", self.log(job)
        return self.log(job)


def attempts(record):
    return [attempt["status"] for attempt in record["attempts"]]


def test_page_training_works(lab, slurm, own_template):
    training, jobs = Training(lab, slurm, own_template), {}

    def send_signals(command):
        if "gh_train-ddp_000" in command:
            jobs["legs"] = first, _ = training.jobs()
            training.signal(first, "TERM", (training.folder("train_gh_000", first) / "checkpoint.pt").exists)
        elif command.endswith("gh_fit_001"):
            jobs["fit"] = [job] = training.jobs()
            folder = training.folder("fit_gh_001", job)
            training.signal(job, "USR1", lambda: list(folder.rglob("epoch=0*.ckpt")))

    training.reader.read("docs/training.md", send_signals)
    check_legs(training, *jobs["legs"])
    check_requeue(training, *jobs["fit"])


def check_legs(training, first, second):
    """The second leg of torchrun continues where the first one stopped."""
    assert training.slurm.wait(second)["JobState"] == "COMPLETED", training.log(second)
    record = training.record("train_gh_000", first)
    assert attempts(record) == ["paused", "finished"] and record["status"] == "finished"
    history = (training.folder("train_gh_000", first) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in history] == list(range(200))


def check_requeue(training, job):
    """The requeued job continues at the step of Lightning's checkpoint, and another job starts at 0."""
    folder = training.folder("fit_gh_001", job)
    first, second = re.findall(r"starts at step (\d+)", training.requeued(job))
    [checkpoint] = folder.glob("hpc_ckpt_*.ckpt")
    step = torch.load(checkpoint, weights_only=False)["global_step"]
    assert first == "0" and int(second) == step >= 20
    record = training.record("fit_gh_001", job)
    assert (attempts(record), record["metrics"]["steps"]) == (["terminated", "finished"], 200)
    assert not list(training.lab.path.glob("*.ckpt")) and not (training.lab.path / "lightning_logs").exists()
    [other] = training.submit("gh_fit_001", "epochs=1")
    training.slurm.wait(other)
    assert "starts at step 0\n" in training.log(other)


DEVICES = """\
fit:
  - gh_002: {gres: "gpu:2"}
  - gh-ddp_003: {gres: "gpu:2"}
  - gh-srun_004: {gres: "gpu:2", ntasks-per-node: 2}
  - gh_005: {gres: "gpu:1", ntasks: 1}
"""
LAUNCHERS = {"gh_fit_002": "fit_gh_002", "gh_fit-ddp_003": "fit_gh_003", "gh_fit-srun_004": "fit_gh_004"}


def test_lightning_has_a_process_per_device(lab, slurm, own_template):
    """Each launcher of the page's table trains two processes. With ntasks=1, Lightning trains one, without an error."""
    training = Training(lab, slurm, own_template)
    lab.render("015-train", runs=yaml.safe_load(DEVICES), package="")
    files = {block.file.rsplit("/", 1)[-1]: block.text for block in blocks("docs/training.md")}
    (training.experiment / "scripts/fit.py").write_text(files["fit.py"])
    for path in training.experiment.glob("conf/fit_*.yaml"):
        path.write_text(files["fit_gh_001.yaml"])
    words = ["devices=2", "epochs=1"]
    jobs = dict(zip(LAUNCHERS, training.submit(*LAUNCHERS, *words), strict=True))
    [lone] = training.submit("gh_fit_005", *words)
    refused = training.sbatch("--gres=gpu:2", "experiments/015-train/scripts/gh_fit_005.slurm", *words)
    for launcher, job in jobs.items():
        assert slurm.wait(job)["JobState"] == "COMPLETED", training.log(job)
        assert training.log(job).count("starts at step 0\n") == 2, launcher
        record = training.record(LAUNCHERS[launcher], job)
        assert (record["status"], record["metrics"]["steps"]) == ("finished", 10)
    assert slurm.wait(lone)["JobState"] == "COMPLETED"
    assert training.log(lone).count("starts at step 0\n") == 1
    assert training.record("fit_gh_005", lone)["metrics"]["steps"] == 10, "half of the data"
    assert slurm.wait(refused)["JobState"] == "FAILED"
    assert training.log(refused).splitlines()[-1].startswith("Lightning: ntasks is 1, but the job has 2 GPUs.")
