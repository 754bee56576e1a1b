"""Runs of scripts that do not record themselves: plain scripts, and Hydra scripts without conf/runtime.yaml."""

import json

import pytest
from support.process import commit, wait_until
from support.slurm import Submitter, submitted

ECHO = """\
import argparse
import json
import os
import sys

parser = argparse.ArgumentParser()
parser.add_argument("words", nargs="*")
parser.add_argument("--code", type=int, default=0)
given, rest = parser.parse_known_args()
print(json.dumps({"argv": sys.argv[1:], "folder": os.environ["RUN_FOLDER"]}))
sys.exit(given.code)
"""

OLD = """\
import os
import time
from pathlib import Path

import hydra
from dotenv import load_dotenv

load_dotenv()


@hydra.main(version_base=None, config_path="../conf", config_name="default")
def main(cfg):
    stop = Path(os.environ["DATA_ROOT"], "wait")
    while cfg.model.width == 128 and stop.exists():
        time.sleep(0.1)
    assert "grid" not in cfg or cfg.grid is None, cfg
    print("loss", cfg.seed, cfg.model)


if __name__ == "__main__":
    main()
"""
DEFAULT = "seed: 0\nmodel: {lr: 0.1, width: 64, penalty: 0}\n"
ROUND2 = """\
defaults: [default, _self_]
grid:
  arms:
    kl-1: {config: kl_003, overrides: [model.penalty=1]}
    kl-10: {config: kl_003, overrides: [model.penalty=10]}
    hops-1: {config: mask_007, overrides: [+model.hops=1]}
    hops-2: {config: mask_007, overrides: [+model.hops=2]}
    deep: {config: wide_010, overrides: [+model.depth=9]}
    wide: {config: wide_011, overrides: [model.width=128]}
  axes:
    seed: [0, 1, 2, 3]
"""


@pytest.fixture
def old(lab, slurm):
    """Return a submitter whose script cgt.py knows nothing of the template. Its campaign has 24 points."""
    submitter = Submitter(lab, slurm, runs={"cgt": [{"slurm": {"mem": "1m", "cpus-per-task": 1}}]})
    (submitter.experiment / "scripts/cgt.py").write_text(OLD)
    names = {"kl_003": 3, "mask_007": 7, "wide_010": 10, "wide_011": 11}
    files = {name: f"defaults: [default, _self_]\nseed: {seed}\n" for name, seed in names.items()}
    for name, text in {**files, "default": DEFAULT, "round2": ROUND2}.items():
        (submitter.experiment / f"conf/{name}.yaml").write_text(text)
    commit(lab.path)
    return submitter


def test_old_campaign_runs_each_point(old):
    done = old.submit("slurm_cgt", "round2")
    [number] = submitted(done)
    for task in range(24):
        old.slurm.wait(f"{number}_{task}")
    print(done.stdout, done.stderr)
    for log in sorted(old.logs.glob("*"))[:3]:
        print(log, log.read_text())
    for record in old.records():
        print(json.dumps(record, indent=1))
        break
    assert [record["status"] for record in old.records()] == 24 * ["finished"]
