"""Runs of scripts that do not record themselves: plain scripts, and Hydra scripts without conf/runtime.yaml."""

import json
import re
import shlex
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.process import commit, edit, run, wait_until
from support.slurm import Submitter, submitted
from support.updating import tool

from experiments.figure_metadata import read_metadata

ECHO = """\
import argparse
import json
import os
import sys

parser = argparse.ArgumentParser()
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
    assert cfg.model.lr > 0
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
    hops-2: {config: mask_007, overrides: [+model.hops=2]}
    wide: {config: wide_011, overrides: [model.width=128]}
  axes:
    seed: [0, 1, 2, 3]
"""


SMALL_GRID = "defaults: [default, _self_]\ngrid: {arms: {a: []}, axes: {seed: [0, 1]}}\n"
SMALL = {"mem": "1m", "cpus-per-task": 1, "gres": None}


@pytest.fixture
def old(lab, slurm):
    """Return a submitter with scripts that do not use the template. The campaign of cgt.py has 12 points."""
    runs = {
        "cgt": [{"slurm": SMALL}, {"igb_cabbi": SMALL}, {"slurm-srun": SMALL | {"ntasks": 2}}],
        "flatten": [{"slurm-plain_000": SMALL}, {"igb_cabbi-plain": SMALL}],
    }
    submitter = Submitter(lab, slurm, runs=runs)
    (submitter.experiment / "scripts/cgt.py").write_text(OLD)
    (submitter.experiment / "scripts/flatten.py").write_text(ECHO)
    names = {"kl_003": 3, "mask_007": 7, "wide_011": 11}
    files = {name: f"defaults: [default, _self_]\nseed: {seed}\n" for name, seed in names.items()}
    for name, text in {**files, "default": DEFAULT, "round2": ROUND2, "small": SMALL_GRID}.items():
        (submitter.experiment / f"conf/{name}.yaml").write_text(text)
    commit(lab.path)
    return submitter


def record_of(old, *names):
    return json.loads(old.lab.data.joinpath("experiments/011-x/runs", *names, "provenance.json").read_text())


def log_of(old, number):
    [log] = old.logs.glob(f"*_{number}.out")
    return log.read_text()


def states(old, config="round2"):
    """Return the states of points as `experiments points` prints them."""
    done = tool(old.lab, "points", "experiments/011-x", config, "--json")
    assert done.returncode == 0, done.stderr
    return {point["name"]: point["state"] for point in json.loads(done.stdout)["points"]}


def test_old_campaign_runs_each_point_once(old):
    """12 points of three arms on three configurations. One is cancelled, one requeued, the first submitted again."""
    wait = old.lab.data / "wait"
    wait.touch()
    [number] = submitted(old.submit("slurm_cgt", "round2"))
    waiting = [f"wide_{seed}" for seed in range(4)]
    wait_until(lambda: Counter(states(old).values()) == {"finished": 8, "running": 4}, 120, lambda: states(old))
    old.slurm("scancel", f"{number}_8")
    old.slurm.wait(f"{number}_8")
    assert states(old)["wide_0"] == "terminated", log_of(old, f"{number}_8")
    old.slurm("scontrol", "requeue", f"{number}_9")
    old.slurm.wait(f"{number}_9", "PENDING")
    done = old.submit("slurm_cgt", "round2", "--", "--hold")
    assert "  points 1 of 12, 8 finished, 3 running: wide_0\n" in done.stdout, done.stdout + done.stderr
    [second] = submitted(done)
    wait.unlink()
    old.slurm("scontrol", "update", f"jobid={number}_9", "StartTime=now")
    old.finish(f"{second}_8")
    for task in range(8, 12):
        old.slurm.wait(f"{number}_{task}")
    assert states(old) == dict.fromkeys(states(old), "finished") and len(states(old)) == 12
    attempts = {name: [each["status"] for each in record_of(old, "round2", name)["attempts"]] for name in waiting}
    assert attempts.pop("wide_0") == attempts.pop("wide_1") == ["terminated", "finished"]
    assert list(attempts.values()) == [["finished"], ["finished"]]
    record, first = record_of(old, "round2", "hops-2_1"), record_of(old, "round2", "kl-1_0")
    assert "loss 1 {'lr': 0.1, 'width': 64, 'penalty': 0, 'hops': 2}\n" in log_of(old, f"{number}_5")
    assert (record["campaign"], record["point"], record["arm"]) == ("round2", "hops-2_1", "hops-2")
    assert record["axes"] == {"seed": 1} and record["overrides"] == ["+model.hops=2", "seed=1"]
    assert (record["stem"], record["job"]) == ("011-round2_hops-2_1", f"{number}_5")
    assert record["script"] == "experiments/011-x/scripts/cgt.py" and record["commit"] and record["dirty"] is False
    assert record["configuration_hash"] != first["configuration_hash"] and len(first["configuration_hash"]) == 16
    folder = Path(record["folder"])
    assert sorted(path.name for path in folder.iterdir()) == [".hydra", "cgt.log", "claims", "provenance.json"]
    assert shlex.split(record["command"])[-5:] == [
        *("--config-name", "mask_007", f"hydra.run.dir='{folder}'", "+model.hops=2", "seed=1")
    ]
    done = old.submit("slurm_cgt", "round2")
    assert "nothing to submit\n  points 0 of 12, 12 finished, 0 running\n" in done.stdout
    edit(old.experiment / "conf/kl_003.yaml", "seed: 3", "seed: 3\nextra: 1")
    assert "finished with another configuration: kl-1_0, " in old.refused("slurm_cgt", "round2")
    # The folder of a configuration has the runs of one script.
    (old.experiment / "scripts/other.py").write_text(OLD)
    edit(old.experiment / "scripts/slurm_cgt.slurm", "scripts/cgt.py", "scripts/other.py")
    assert old.refused("slurm_cgt", "round2") == (
        "submit.sh: slurm_cgt round2: runs/round2 contains the runs of experiments/011-x/scripts/cgt.py. "
        "For experiments/011-x/scripts/other.py, copy the configuration round2 to another name."
    )


def test_old_script_is_recorded_in_each_mode(old):
    """A machine that forbids Python where jobs are submitted, srun, a run without a grid, and a point by hand."""
    [array] = submitted(old.submit("igb_cabbi_cgt", "small", "--", "--array=0-0"))
    [ranks] = submitted(old.submit("slurm_cgt-srun", "kl_003", "model.lr=2"))
    [failed] = submitted(old.submit("slurm_cgt", "mask_007", "model.lr=-1", "--live"))
    assert old.slurm.wait(f"{array}_0")["JobState"] == "COMPLETED", log_of(old, f"{array}_0")
    record = record_of(old, "small", "a_0")
    assert (record["status"], record["point"], record["configuration_hash"]) == ("finished", "a_0", None)
    assert old.slurm.wait(ranks)["JobState"] == "COMPLETED", log_of(old, ranks)
    record = record_of(old, "kl_003", ranks)
    assert (record["status"], record["overrides"], len(record["attempts"])) == ("finished", ["model.lr=2"], 1)
    assert log_of(old, ranks).count("loss 3 {'lr': 2,") == 2
    assert old.slurm.wait(failed)["JobState"] == "FAILED"
    record = record_of(old, "mask_007", failed)
    assert (record["status"], record["error"]) == ("failed", "exit code 1")

    point = ["experiments/011-x/scripts/runtime/point.py", "a_1", "--", sys.executable]
    command = [*point, "experiments/011-x/scripts/cgt.py", "--config-name", "small"]
    done = old.lab.python(*command)
    assert done.returncode == 0 and "loss 1 " in done.stdout, done.stderr
    assert record_of(old, "small", "a_1")["status"] == "finished"
    done = old.lab.python(*command)
    assert done.returncode == 1 and done.stderr.startswith("this point is finished. Move "), done.stderr
    done = old.lab.python(*point, "experiments/011-x/scripts/cgt.py")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "--config-name CONFIG" in done.stderr


ARGUMENTS = ["--check", "a b", "c=d", "", "it's", '"q"', "--", "$HOME", "*"]


def test_plain_script_gets_its_arguments_whole(old):
    done = old.submit("slurm_flatten-plain_000", "igb_cabbi_flatten-plain", "--", "--time=1:00", "--", *ARGUMENTS)
    numbers = submitted(done)
    for number, name in zip(numbers, ["flatten_slurm_000", "flatten"], strict=True):
        assert old.slurm.wait(number)["JobState"] == "COMPLETED", log_of(old, number)
        record, log = record_of(old, name, number), log_of(old, number)
        printed = json.loads([line for line in log.splitlines() if line.startswith("{")][-1])
        assert printed == {"argv": ARGUMENTS, "folder": record["folder"]}
        assert (record["status"], record["overrides"], record["config"]) == ("finished", ARGUMENTS, name)
        assert shlex.split(record["command"])[-len(ARGUMENTS) :] == ARGUMENTS
        assert record["script"] == "experiments/011-x/scripts/flatten.py" and record["commit"]
        assert old.slurm.job(number)["JobName"] == f"011-{name}" and old.slurm.job(number)["TimeLimit"] == "00:01:00"
    listed = tool(old.lab, "list", "experiments/011-x").stdout
    assert "flatten_slurm_000" in listed and "finished" in listed, listed
    [again] = submitted(old.submit("--again", numbers[0]))
    done = old.submit("slurm_flatten-plain_000", "--legs", "2", "--", "--", "--code", "3")
    [number] = submitted(done)
    [second] = re.findall(r"^  legs   (\d+)$", done.stdout, flags=re.MULTILINE)
    assert old.slurm.wait(number)["ExitCode"] == "3:0"
    record = record_of(old, "flatten_slurm_000", number)
    assert (record["status"], record["error"]) == ("failed", "exit code 3") and record["usage"]["child_bytes"] > 1e6
    assert old.slurm.wait(second)["JobState"] == "COMPLETED" and "the run's status is failed" in log_of(old, second)
    assert old.slurm.wait(again)["JobState"] == "COMPLETED"
    assert record_of(old, "flatten_slurm_000", again)["overrides"] == ARGUMENTS
    launcher = old.experiment / "scripts/slurm_flatten-plain_000.slurm"
    done = run("bash", launcher, "--rate", "a b", cwd=old.lab.path, env=old.environment)
    assert json.loads(done.stdout)["argv"] == ["--rate", "a b"], done.stderr


def test_plain_words_are_checked(old):
    name = "slurm_flatten-plain_000"
    assert old.refused(name, "a=b") == (
        f"submit.sh: {name} takes no overrides. Write the arguments of its script after a second --: -- -- a=b"
    )
    assert old.refused("slurm_cgt", "kl_003", "--", "--", "seed=1") == (
        "submit.sh: slurm_cgt kl_003 takes no arguments after a second --. Write overrides as KEY=VALUE."
    )
    edit(old.experiment / "scripts/flatten.py", "import argparse", "import argparse\nimport nowhere")
    assert "line 2: no module named nowhere" in old.refused(name)


def test_plain_run_ends_by_a_signal(old):
    (old.experiment / "scripts/flatten.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    [number] = submitted(old.submit("slurm_flatten-plain_000", "--", "--signal=B:USR1@1"))
    wait_until(lambda: list(old.logs.glob(f"*_{number}.out")) and "ready" in log_of(old, number), 60)
    old.slurm("scancel", "--batch", "--signal=USR2", number)  # reaches the parent alone
    assert old.slurm.wait(number)["JobState"] == "FAILED"
    record = record_of(old, "flatten_slurm_000", number)
    assert (record["status"], record["error"]) == ("terminated", "SIGUSR2")


def test_plain_starter_runs(lab):
    """A new script for which only plain runs are asked parses its own arguments."""
    experiment = lab.render(runs={"flatten": ["slurm-plain", "desk-plain_001"]})
    assert not list(experiment.glob("conf/flatten*")) and (experiment / "scripts/slurm_flatten-plain.slurm").exists()
    done = run("bash", experiment / "scripts/desk_flatten-plain_001.slurm", "--rate", "0.5", cwd=lab.path)
    assert done.returncode == 0, [log.read_text() for log in experiment.glob("slurm/output/*.out")]
    [result] = experiment.glob("results/*.json")
    assert json.loads(result.read_text())["script"] == "experiments/011-x/scripts/flatten.py"
    [image], [record] = lab.images.glob("*.png"), list(lab.data.rglob("provenance.json"))
    assert json.loads(record.read_text())["overrides"] == ["--rate", "0.5"] and record.parts[-3] == "flatten_desk_001"
    assert read_metadata(str(image))["Script"] == "experiments/011-x/scripts/flatten.py"
