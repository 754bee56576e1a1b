"""Measure `experiments list` and `experiments check` with forty experiments and 10,000 records of runs."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from render import ROOT, quiet_git, template
from update import git, monorepo

EXPERIMENTS = [f"{number:03}-x" for number in range(40)]
RECORDS = 250  # of each experiment
ROUNDS = 3


def write_records(data):
    for name in EXPERIMENTS:
        for number in range(RECORDS):
            folder = data / "experiments" / name / "runs/x_gh_000" / f"{number:05}"
            folder.mkdir(parents=True)
            record = {"status": "finished", "job": None, "started": "2026-01-02T03:04:05+00:00", "figures": []}
            versions = {f"package_{other}": "1.2.3" for other in range(60)}
            (folder / "provenance.json").write_text(json.dumps(record | {"versions": versions}, indent=2))


def seconds(lab, *words):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "experiments", *words], cwd=lab, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - start


def main():
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    with tempfile.TemporaryDirectory() as folder:
        quiet_git(folder)
        source = template(Path(folder, "template"))
        git(source, "tag", "v1.0.0")
        lab = Path(folder, "lab")
        monorepo(lab, source, EXPERIMENTS, 0)
        (lab / ".env").write_text(f"DATA_ROOT={folder}/data\n")
        write_records(Path(folder, "data"))
        print(f"\nForty experiments with {40 * RECORDS:,} records (median of {ROUNDS})\n")
        for words in (["list"], ["list", "--json"], ["list", "experiments/000-x"], ["check"]):
            print(f"  {' '.join(words):>24}   {statistics.median(seconds(lab, *words) for _ in range(ROUNDS)):5.2f} s")
        print()


if __name__ == "__main__":
    main()
