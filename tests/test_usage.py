"""usage: what launchers request and what their jobs used, and the command that requests what they need."""

import json
import shlex

import pytest
from support.updating import tool

from experiments.usage import slurm_memory, slurm_time

GIB = 2**30


def record(lab, config, job, *attempts, task=None, name=None):
    """Write the record of a job's run. Each attempt is its minutes and its bytes: process, largest child, job."""
    name = name or job
    folder = lab.data / "experiments/011-x/runs" / config / name
    folder.mkdir(parents=True)
    usages = [dict(zip(("process_bytes", "child_bytes", "job_bytes"), sizes, strict=True)) for _, sizes in attempts]
    made = [
        {"started": "2026-01-02T03:00:00+00:00", "finished": f"2026-01-02T03:{minutes:02}:00+00:00", "usage": usage}
        for (minutes, _), usage in zip(attempts, usages, strict=True)
    ]
    slurm = {"SLURM_JOB_ID": job.partition("_")[0]}
    whole = {"status": "finished", "job": name, "slurm": slurm, "started": made[0]["started"], "attempts": made}
    (folder / "provenance.json").write_text(json.dumps(whole))


@pytest.fixture
def used(lab):
    """Return a lab with jobs of a launcher, of a pack and of several ranks. No job has a receipt."""
    lab.render(
        runs={"x": ["gh_000", {"gh-pack_001": {"mem-per-cpu": "1g", "ntasks": 4}}, "gh-ddp_002"], "y": ["gh_000"]}
    )
    record(lab, "x_gh_000", "70", (10, (GIB, GIB // 2, None)), (40, (2 * GIB, 0, None)))
    record(lab, "x_gh_000", "71", (20, (GIB, GIB // 4, 3 * GIB)))
    for number in range(4):
        record(lab, "x_gh_001", "72", (5, (GIB // 8, 0, None)), name=f"72_{number}")
    record(lab, "x_gh_002", "73", (1, (GIB, 0, None)))
    return lab


def test_usage_prints_what_launchers_used(used):
    done = tool(used, "usage", "011-x")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    rows = [line.split("  ") for line in done.stdout.splitlines()]
    found = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert found[0] == ["launcher", "jobs", "memory", "used", "time", "longest"]
    assert [(row[0], row[1], row[3], row[-1]) for row in found[1:4]] == [
        ("gh_x-ddp_002", "1", "> 1.1 GB", "1m00s"),
        ("gh_x-pack_001", "1", "537 MB", "5m00s"),
        ("gh_x_000", "2", "3.2 GB", "40m00s"),
    ]
    assert found[2][2] == "1g per cpu"
    assert [row[0] for row in rows[5:]] == [
        "experiments set-run experiments/011-x x gh-ddp_002 time=0-00:02:00",
        "experiments set-run experiments/011-x x gh-pack_001 mem=1g mem-per-cpu= time=0-00:07:00",
        "experiments set-run experiments/011-x x gh_000 mem=6g time=0-00:52:00",
    ]


def test_usage_commands_work_as_printed(used):
    lines = tool(used, "usage", "011-x").stdout.splitlines()
    for line in lines[5:]:
        done = tool(used, *shlex.split(line)[1:])
        assert done.returncode == 0, line + done.stderr
    texts = {path.stem: path.read_text() for path in (used.path / "experiments/011-x/scripts").glob("*.slurm")}
    assert "#SBATCH --mem=6g\n" in texts["gh_x_000"] and "#SBATCH --time=0-00:52:00\n" in texts["gh_x_000"]
    assert "#SBATCH --mem=1g\n" in texts["gh_x-pack_001"] and "mem-per-cpu" not in texts["gh_x-pack_001"]


def test_usage_without_the_template_proposes_nothing(used):
    answers = used.path / "experiments/011-x/.copier-answers.yml"
    answers.write_text(answers.read_text().replace(str(used.template.path), "/nowhere"))
    done = tool(used, "usage", "011-x")
    assert done.stderr.startswith("no command is proposed: ") and "set-run" not in done.stdout


@pytest.mark.parametrize(("size", "text"), [(1, "100m"), (1000 * 2**20, "1000m"), (2**30, "1g"), (2.1 * GIB, "3g")])
def test_proposed_memory_is_rounded_up(size, text):
    assert slurm_memory(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(1, "0-00:01:00"), (3601, "0-01:01:00"), (90_000, "1-01:00:00")])
def test_proposed_time_is_rounded_up(seconds, text):
    assert slurm_time(seconds) == text
