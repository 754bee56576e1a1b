"""Measure `experiments list`, `compare`, `usage`, `points` and `check` with forty experiments and 10,000 runs."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from render import ROOT, as_installed, quiet_git, template
from update import git, monorepo

EXPERIMENTS = [f"{number:03}-x" for number in range(40)]
RECORDS = 250  # of each experiment
ROUNDS = 3
GRID = f"""\
defaults: [runtime, default, _self_]
grid:
  arms: {{{", ".join(f"arm{number}: [lr={number}]" for number in range(36))}}}
  axes: {{seed: [0, 1, 2, 3, 4, 5, 6, 7]}}
"""
USAGE = {"seconds": 3600.0, "process_bytes": 2**30, "child_bytes": 2**20, "job_bytes": None}
CONFIGURATION = {f"key_{other}": other / 7 for other in range(20)}
CONFIGURATION |= {"model": {f"part_{other}": {"size": other, "kind": "linear"} for other in range(10)}}
POINTS = [f"arm{arm}_{seed}" for arm in range(36) for seed in range(8)]


def write_records(data):
    for name in EXPERIMENTS:
        for number in range(RECORDS):
            write_record(data / "experiments" / name / "runs/x_gh_000" / f"{number:05}")


def write_record(folder, **facts):
    folder.mkdir(parents=True)
    record = {"status": "finished", "job": None, "started": "2026-01-02T03:04:05+00:00", "figures": []}
    record |= {"finished": "2026-01-02T04:04:05+00:00", "overrides": ["lr=6e-4", "model.hidden=256"]}
    record |= {"metrics": {f"number_{other}": 0.123456 for other in range(10)}}
    record |= {"configuration": CONFIGURATION | {"lr": int(folder.name, 36)}, "commit": "a" * 40, "arm": None}
    record |= {"usage": USAGE, "attempts": [{"usage": USAGE, "status": "finished", "error": None, "host": "gh01"}]}
    record |= {"versions": {f"package_{other}": "1.2.3" for other in range(60)}}
    (folder / "provenance.json").write_text(json.dumps(record | facts, indent=2))


def write_large(data):
    """Write 10,000 records of one experiment."""
    for number in range(RECORDS, 40 * RECORDS):
        job = str(100_000 + number)
        configuration = CONFIGURATION | {"lr": number, "seed": number % 3}
        facts = {"job": job, "slurm": {"SLURM_JOB_ID": job}, "configuration": configuration}
        write_record(data / "experiments/002-x/runs/x_gh_000" / job, **facts)


def write_campaign(lab, data):
    """Write a grid of 288 points with a record each, one receipt, and a squeue that lists their tasks as running."""
    experiment = lab / "experiments/000-x"
    (experiment / "conf/round2.yaml").write_text(GRID)
    for number, point in enumerate(POINTS):
        slurm = {"SLURM_JOB_ID": "900", "SLURM_ARRAY_JOB_ID": "900", "SLURM_ARRAY_TASK_ID": str(number)}
        facts = {"status": "running", "job": f"900_{number}", "slurm": slurm, "point": point}
        write_record(data / "experiments/000-x/runs/round2" / point, **facts)
    receipt = experiment / "slurm/submitted/2026-01-02-03-04-05-01234567"
    receipt.mkdir(parents=True)
    for name, text in {"job": "900", "launcher": "gh_x", "config": "round2", "words": ""}.items():
        (receipt / name).write_text(text)
    jobs = "\n".join(f"900_{number}\x1fRUNNING\x1f000-round2\x1f{lab}" for number in range(len(POINTS)))
    squeue = lab / "bin/squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\ncat << END\n{jobs}\nEND\n")
    squeue.chmod(0o755)
    os.environ["PATH"] = f"{squeue.parent}{os.pathsep}{os.environ['PATH']}"


def measure(lab, *words):
    """Return the seconds, the CPU seconds, and the megabytes of a command. Its process prints its own peak."""
    code = "import sys; from experiments.cli import main\ntry: main()\nfinally:\n"
    code += " print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0], file=sys.stderr)"
    start, before = time.perf_counter(), cpu_seconds()
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=lab, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - start, cpu_seconds() - before, int(done.stderr.splitlines()[-1]) / 1000


def cpu_seconds():
    """Return the CPU time of all ended commands. Another load of the machine changes it less than the wall time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(lab, *words):
    times, cpu, sizes = zip(*(measure(lab, *words) for _ in range(ROUNDS)), strict=True)
    seconds = f"{statistics.median(times):5.2f} s   CPU {statistics.median(cpu):5.2f} s"
    print(f"  {' '.join(words):>24}   {seconds}   {max(sizes):4.0f} MB")


def main():
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    with tempfile.TemporaryDirectory() as folder:
        quiet_git(folder)
        as_installed(folder)
        source = template(Path(folder, "template"))
        git(source, "tag", "v1.0.0")
        lab = Path(folder, "lab")
        monorepo(lab, source, EXPERIMENTS, 0)
        (lab / ".env").write_text(f"DATA_ROOT={folder}/data\n")
        write_records(Path(folder, "data"))
        print(f"\nForty experiments with {40 * RECORDS:,} records (median of {ROUNDS})\n")
        for words in ("list", "list --json", "list 001-x", "compare 001-x", "usage 001-x", "check"):
            show(lab, *words.split())
        write_campaign(lab, Path(folder, "data"))
        print(f"\nA campaign of {len(POINTS)} points, all in the queue (median of {ROUNDS})\n")
        for words in ("points 000-x round2", "list 000-x"):
            show(lab, *words.split())
        write_large(Path(folder, "data"))
        print(f"\nOne experiment with {40 * RECORDS:,} records of jobs (median of {ROUNDS})\n")
        for words in ("list 002-x", "list 002-x --json", "compare 002-x", "compare 002-x --by seed", "usage 002-x"):
            show(lab, *words.split())
        print()


if __name__ == "__main__":
    main()
