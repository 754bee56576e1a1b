"""Points of a campaign: one run per point, by hand and in jobs, each computed exactly once."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from random import Random

import pytest
from support.offline import wandb_run
from support.preflight import preflight
from support.process import edit, run, wait_until

ROUND2 = """\
defaults: [runtime, default, _self_]
grid:
  arms:
    reference: []
    wide: [hidden=256, lr=6e-4]
    masked: {config: mask, overrides: [lr=3e-4]}
  axes:
    seed: [0, 1]
hidden: 128
lr: 1e-3
seed: ${task}
mask: null
"""
MASK = "defaults: [runtime, default, _self_]\nhidden: 64\nlr: 1e-3\nseed: ${task}\nmask: 7\n"
PRINT = 'print(sorted(set(cfg)), cfg.config, cfg.task, cfg.hidden, cfg.lr, cfg.seed, cfg.mask)\nrun.table([{"a": 1}])'
KEYS = "['config', 'folder', 'hidden', 'inputs', 'lr', 'mask', 'seed', 'task', 'title', 'trial', 'wandb']"


@pytest.fixture
def campaign(lab):
    """Return a lab with a script light.py that prints the configuration of round2, a campaign of six points."""
    lab.render()
    write_conf(lab, round2=ROUND2, mask=MASK)
    lab.write_light(PRINT)
    return lab


def write_conf(lab, **files):
    for name, text in files.items():
        (lab.path / f"experiments/011-x/conf/{name}.yaml").write_text(text)


def start(lab, *words, config="round2", **kwargs):
    return lab.start(config, *words, script="light", **kwargs)


def refusal(done):
    """Return the one line of a refusal."""
    assert done.returncode == 1 and done.stdout == "", done.stdout
    [line] = done.stderr.splitlines()
    return line


def folder_of(lab, point, campaign="round2"):
    return lab.data / "experiments/011-x/runs" / campaign / point


def record_of(lab, point, campaign="round2"):
    return json.loads((folder_of(lab, point, campaign) / "provenance.json").read_text())


# By hand --------------------------------------------------------------------------------------------------------------


def test_point_by_hand_runs_once(campaign):
    done = start(campaign, "point=wide_1")
    assert (done.stdout, done.stderr) == (f"{KEYS} round2 0 256 0.0006 1 None\n", "")
    folder, record = folder_of(campaign, "wide_1"), record_of(campaign, "wide_1")
    assert {path.name for path in folder.iterdir()} == {
        ".hydra",
        "changes.patch",
        "claims",
        "provenance.json",
        "wide_1.csv",
    }
    table = campaign.path / "experiments/011-x/results/round2/wide_1.csv"
    assert record["tables"] == [str(folder / "wide_1.csv"), str(table)] and table.read_text() == "a\n1\n"
    assert (record["status"], record["stem"], record["config"]) == ("finished", "011-round2_wide_1", "round2")
    assert (record["campaign"], record["point"], record["arm"]) == ("round2", "wide_1", "wide")
    assert record["axes"] == {"seed": 1} and record["overrides"] == ["hidden=256", "lr=6e-4", "seed=1"]

    done = start(campaign, "point=wide_1")
    assert refusal(done) == f"point wide_1 of round2: it is finished. To compute it again, move {folder} away."
    write_conf(campaign, round2=ROUND2 + "extra: 1\n")
    line = refusal(start(campaign, "point=wide_1"))
    assert line.startswith(f"point wide_1 of round2: it is finished with another configuration. Move {folder} away")

    done = start(campaign, "title=Other", "point=masked_0", "wandb.mode=disabled")
    assert done.stdout == f"{KEYS} round2 0 64 0.0003 0 7\n", done.stderr
    record = record_of(campaign, "masked_0")
    assert record["overrides"] == ["lr=3e-4", "seed=0", "title=Other", "wandb.mode=disabled"]


def test_point_shows_its_configuration(campaign):
    done = start(campaign, "--cfg", "job", "point=wide_1")
    assert done.returncode == 0, done.stderr
    assert {"config: round2", "hidden: 256", "lr: 0.0006", "seed: 1", "point: wide_1"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "round2 has a grid of 6 points. Choose one, such as point=reference_0"),
        (["-m", "lr=1,2"], "round2 has a grid of 6 points. Choose one, such as point=reference_0"),
        (["point=wide_7"], 'unknown point "wide_7" of round2; the nearest of its 6 points: wide_1, wide_0, masked_1'),
        (["point=wide_0", "-m"], "point=wide_0: a point is one run. Remove --multirun."),
        (["point=wide_0", "point=wide_1"], "point=wide_0 point=wide_1: a run computes one point. Remove one of them."),
        (
            ["point=wide_0", "lr=1", "wandb.mode=offline"],
            "point=wide_0 lr=1: other overrides need their own folder. Add config=round2.NAME, or remove them.",
        ),
        (
            ["point=wide_0", "config=x.y"],
            "config=x.y: it must be config=round2.NAME, with a NAME of letters, digits, - and _.",
        ),
        (["++point=wide_0"], "++point=wide_0: write it without ++."),
    ],
)
def test_point_wrong_words_are_refused(campaign, words, message):
    assert refusal(start(campaign, *words)) == message
    assert not folder_of(campaign, "").parent.exists()


def test_point_of_wrong_configuration_is_refused(campaign):
    write_conf(campaign, heir="defaults: [round2, _self_]\n", none="defaults: [round2, _self_]\ngrid: null\n")
    write_conf(campaign, broken=ROUND2.replace("seed: [0, 1]", "lr: [1]"), typo=ROUND2.replace("[]", "["))
    line = refusal(start(campaign, config="heir"))
    assert line == "conf/heir.yaml: it inherits a grid. Write its own `grid:`, or `grid: null` for none."
    assert start(campaign, config="none").stdout == f"{KEYS} none 0 128 0.001 0 None\n"
    assert refusal(start(campaign, "point=a", config="none")) == "point=a: conf/none.yaml has no grid. Remove point=."
    line = refusal(start(campaign, "point=a", config="broken"))
    assert line == "conf/broken.yaml: arm wide: it sets lr, which is an axis. Remove one of them."
    assert refusal(start(campaign, "point=a", config="typo")).startswith(
        "conf/typo.yaml: while parsing a flow sequence"
    )
    assert refusal(start(campaign, "point=a", config="nix")) == "conf/nix.yaml: this file does not exist."
    line = refusal(campaign.python("experiments/011-x/scripts/light.py", "point=a"))
    assert line == "point=a: it needs a configuration. Write --config-name CONFIG point=a"


def test_point_with_name_and_overrides_has_own_folder(campaign):
    done = start(campaign, "point=wide_0", "config=round2.smoke", "lr=5")
    assert done.stdout == f"{KEYS} round2.smoke 0 256 5 0 None\n", done.stderr
    record = record_of(campaign, "wide_0", "round2.smoke")
    assert (record["config"], record["stem"]) == ("round2.smoke", "011-round2.smoke_wide_0")
    assert record["overrides"] == ["hidden=256", "lr=6e-4", "seed=0", "lr=5"]
    assert (campaign.path / "experiments/011-x/results/round2.smoke/wide_0.csv").exists()
    assert not folder_of(campaign, "wide_0").exists()

    # PyTorch Lightning starts further processes with the words that this process got.
    expanded = ["++config=round2.smoke", "++point=masked_1", "lr=3e-4", "seed=1"]
    done = start(campaign, *expanded, config="mask")
    assert done.stdout == f"{KEYS} round2.smoke 0 64 0.0003 1 7\n", done.stderr
    record = record_of(campaign, "masked_1", "round2.smoke")
    assert (record["point"], record["arm"], record["axes"]) == ("masked_1", "masked", {"seed": 1})


def test_point_by_hand_continues_after_a_kill(campaign):
    campaign.write_light("if not osp.exists(f'{run.folder}/.hydra_1'):\n    os.kill(os.getpid(), 9)")
    assert start(campaign, "point=wide_0").returncode == -9
    assert start(campaign, "point=wide_0").returncode == 0
    folder, record = folder_of(campaign, "wide_0"), record_of(campaign, "wide_0")
    assert {path.name for path in folder.iterdir()} == {
        ".hydra",
        ".hydra_1",
        "changes.patch",
        "claims",
        "provenance.json",
    }
    assert [attempt["status"] for attempt in record["attempts"]] == ["terminated", "finished"]
    assert sorted(path.name for path in (folder / "claims").iterdir()) == ["001", "002"]


def test_point_held_elsewhere_is_refused(campaign):
    """A process on another host cannot be looked for, and without Slurm no job can."""
    claim = {"cluster": None, "job": None, "task": None, "restart": 0, "host": "other", "pid": 7, "started": "1"}
    folder = folder_of(campaign, "wide_0")
    path = folder / "claims/001"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(claim | {"submission": None}))
    line = refusal(start(campaign, "point=wide_0"))
    assert line == f"{path}: process 7 on other has claimed this point. If it has ended, remove this file."
    path.write_text(json.dumps(claim | {"submission": None, "cluster": "delta", "job": "5", "task": "3"}))
    line = refusal(start(campaign, "point=wide_0"))
    assert line.startswith("job 5_3 holds a point, and Slurm did not return its state: it is a job of cluster delta")
    path.write_text("")
    line = refusal(start(campaign, "point=wide_0"))
    assert line == f"{path}: not a claim. If no process computes this point, remove this file."
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "provenance.json").write_text("{}")
    assert refusal(start(campaign, "point=wide_0")) == f"{folder} belongs to another run. Move it away."


def test_point_in_wandb_has_group_name_and_tags(campaign):
    """The values are those of W&B's own offline file."""
    done = start(campaign, "point=wide_0", "wandb.mode=offline")
    assert done.returncode == 0, done.stderr
    run = wandb_run(folder_of(campaign, "wide_0"))
    assert (run.run_group, run.display_name, list(run.tags)) == ("round2", "wide_0", ["wide", "seed=0"])
    write_conf(campaign, round2=ROUND2 + "wandb: {group: mine, name: own, tags: [a]}\n")
    assert start(campaign, "point=wide_1", "wandb.mode=offline").returncode == 0
    run = wandb_run(folder_of(campaign, "wide_1"))
    assert (run.run_group, run.display_name, list(run.tags)) == ("mine", "own", ["a"])


CLAIMS = """\
import os, sys
sys.path.insert(0, "experiments/011-x/scripts")
from runtime import write_json
from runtime import point_claims as claims

folder = os.path.join(sys.argv[1], "wide_0")
first = claims.Owner("lab", "7", "3", 0, "node", None, None, None)
second = first._replace(restart=1)
other = first._replace(job="8")

def attempt(owner, gone=()):
    try:
        claims.claim_point(folder, owner, gone)
    except Exception as error:
        return type(error).__name__, str(error) or getattr(error, "words", ())
    return claims.newest_claim(folder)

assert attempt(first) == (1, first)
assert attempt(first) == (1, first), "the same job continues"
assert attempt(other) == ("Unknown", ("lab", "7_3", "wide_0"))
assert attempt(other, ["7", "8_3"])[0] == "Unknown"
assert attempt(second) == (2, second), "a later restart takes over"
assert attempt(first) == ("Taken", "restart 1 of job 7_3 computes it")
assert attempt(other, ["7_3"]) == (3, other)
assert attempt(first._replace(cluster="delta"))[0] == "ClaimError"
assert not claims.write_claim(claims.claim_path(folder, 3), first)
look = claims.newest_claim
claims.newest_claim = lambda folder: [look(folder), write_json(f"{folder}/provenance.json", {"status": "finished"})][0]
assert attempt(first, ["8_3"])[0] == "Finished", "the holder finished after the first look"
assert attempt(other)[0] == "Finished"
"""


def test_claims_have_one_holder(campaign):
    done = campaign.python("-c", CLAIMS, campaign.data)
    assert done.returncode == 0, done.stderr


SCHEMA = """\
from dataclasses import dataclass
from typing import Any
from hydra.core.config_store import ConfigStore

@dataclass
class Schema:
    title: str = ""
    config: str = ""
    folder: str = ""
    task: int = 0
    trial: Any = None
    inputs: Any = None
    wandb: Any = None
    seed: int = 0
    FIELDS

ConfigStore.instance().store("schema", Schema)
"""


def test_point_with_schema_needs_two_fields(campaign):
    write_conf(campaign, typed="defaults: [schema, runtime, _self_]\ngrid: {axes: {seed: [0, 1]}}\n")
    light = campaign.write_light("print(cfg.seed, sorted(cfg)[:3])")
    plain = light.read_text()
    for fields, output in (("pass", ""), ("grid: Any = None; point: Any = None", "1 ['config', 'folder', 'inputs']\n")):
        light.write_text(plain.replace("\n@hydra", f"\n{SCHEMA.replace('FIELDS', fields)}\n@hydra"))
        done = start(campaign, "point=1", config="typed")
        assert done.stdout == output, done.stderr
        if fields == "pass":
            code = "import sys; from runtime.requirements import missing_fields as f; print(f(sys.argv[1]), f('x'))"
            told = campaign.python("-c", f"import sys; sys.path[0] = 'experiments/011-x/scripts'; {code}", done.stderr)
            remedy = "Add the fields `grid: Any = None` and `point: Any = None` to Schema."
            assert told.stdout == f"{remedy} None\n"
            lines = preflight(campaign, ["experiments/011-x/scripts/light.py", "--config-name", "typed"]).lines()
            assert lines and all(line.startswith("conf/typed.yaml: ") and line.endswith(remedy) for line in lines)


# In jobs --------------------------------------------------------------------------------------------------------------

LAUNCHER = """\
#!/bin/bash
set -eEuo pipefail
trap 'echo "line ${{BASH_LINENO[-2]}} failed: $BASH_COMMAND" >&2' ERR
export EXPERIMENT_MODE={mode} EXPERIMENT_SUBMISSION='' EXPERIMENT_JOB=''
if [[ ${{1-}} == --submission=* ]]; then EXPERIMENT_SUBMISSION=${{1#*=}} && shift; fi
if [[ ${{ENVIRONMENT-}} == BATCH ]]; then EXPERIMENT_JOB=${{SLURM_ARRAY_JOB_ID:-${{SLURM_JOB_ID-}}}}; fi
run=(
  experiments/011-x/scripts/light.py
  --config-name round2
)
python=( {python} )
source experiments/011-x/scripts/runtime/point.sh
exec {srun} "${{python[@]}}" "${{run[@]}}" "$@"
"""
SRUN = "srun --export=ALL --label --kill-on-bad-exit={}"

# A run that waits before its last step until the file `go` exists. It notes its end, and whether another one computes
# the same point at the same time.
WORK = """\
import fcntl, json
from pathlib import Path
folder, data = Path(run.folder), Path(os.environ["DATA_ROOT"])
lock = open(folder / "lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (data / "overlap").touch()
checkpoint = folder / "checkpoint.json"
done = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
(folder / "pid").write_text(str(os.getpid()))
with open(data / "log", "a") as log:
    for step in range(done, 4):
        log.write(f"{folder.name} {step}\\n")
        log.flush()
        while step == 2 and not (data / "go").exists():
            time.sleep(0.05)
        write_json(checkpoint, step + 1)
"""


class Jobs:
    """Jobs of the campaign on a real Slurm."""

    def __init__(self, lab, slurm, mode="one"):
        self.lab, self.slurm = lab, slurm
        srun = "" if mode == "one" else SRUN.format(int(mode != "pack"))
        (lab.path / "job.sh").write_text(LAUNCHER.format(mode=mode, python=sys.executable, srun=srun))
        self.logs = lab.data / "logs"
        self.logs.mkdir()
        self.numbers = set()

    def submit(self, array, *words, options=()):
        log = self.logs / "%A_%a.out"
        command = ["sbatch", "--parsable", f"--array={array}", f"--output={log}", "--open-mode=append", *options]
        number = run(*command, "job.sh", *words, cwd=self.lab.path, check=True).stdout.strip()
        self.numbers.add(number)
        return number

    def live(self):
        """Return their tasks that Slurm has. A requeued task would wait for two minutes, so let it start now."""
        lines = self.slurm("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        tasks = [line.split() for line in lines if line.partition("_")[0] in self.numbers]
        for task, state in tasks:
            if state == "PENDING":
                self.slurm("scontrol", "update", f"jobid={task}", "StartTime=now", check=False)
        return [task for task, _ in tasks]

    def wait(self):
        wait_until(lambda: not self.live(), 120, self.output)

    def output(self):
        return "".join(path.read_text() for path in sorted(self.logs.iterdir()))

    def states(self, job):
        return Counter(
            self.slurm("squeue", "--noheader", "--states=all", "--array", "--format=%T", f"--jobs={job}").split()
        )


@pytest.fixture
def jobs(campaign, slurm):
    return Jobs(campaign, slurm)


def owner_of(folder):
    return json.loads(max((folder / "claims").iterdir()).read_text())


def test_points_are_computed_once_despite_kills(campaign, jobs):
    """Two arrays compute six points. Twenty times, a running one is killed, cancelled or requeued."""
    light = campaign.write_light(WORK)
    edit(light, "from runtime import CONF", "from runtime import write_json, CONF")
    first, second = jobs.submit("0-5"), jobs.submit("0-5")
    folders = [folder_of(campaign, f"{arm}_{seed}") for arm in ("reference", "wide", "masked") for seed in (0, 1)]

    def running():
        return [folder for folder in folders if is_alive(folder)]

    wait_until(lambda: len(running()) == 6, 60, jobs.output)
    wait_until(lambda: len(jobs.live()) == 6, 60, jobs.output)
    assert jobs.states(first) + jobs.states(second) == {"RUNNING": 6, "COMPLETED": 6}
    assert jobs.output().count("computes it\n") == 6

    random = Random(29)
    attacks = 5 * ["kill", "kill", ["scancel"], ["scontrol", "requeue"]]
    random.shuffle(attacks)
    for attack in attacks:
        wait_until(lambda: jobs.live() and running(), 60, jobs.output)
        folder = random.choice(running())
        owner = owner_of(folder)
        task = f"{owner['job']}_{owner['task']}"
        if attack == "kill":
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
        else:
            jobs.slurm(*attack, task)
        time.sleep(random.random() / 2)
        if len(running()) < 4:
            jobs.submit("0-5")
    (campaign.data / "go").touch()
    for _ in range(5):
        jobs.wait()
        if all(is_finished(folder) for folder in folders):
            break
        jobs.submit("0-5")
    log = (campaign.data / "log").read_text()
    assert not (campaign.data / "overlap").exists(), jobs.output()
    for folder in folders:
        record = json.loads((folder / "provenance.json").read_text())
        assert record["status"] == "finished", jobs.output()
        assert [attempt["status"] for attempt in record["attempts"]].count("finished") == 1
        assert log.count(f"{folder.name} 3\n") == 1, log
    assert sum(len(list((folder / "claims").iterdir())) for folder in folders) >= 20
    before = log
    again = jobs.submit("0-5")
    jobs.wait()
    assert jobs.states(again) == {"COMPLETED": 6} and (campaign.data / "log").read_text() == before


def is_alive(folder):
    """Return whether the process of a point has begun and runs."""
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False
    return True


def is_finished(folder):
    path = folder / "provenance.json"
    return path.exists() and json.loads(path.read_text())["status"] == "finished"


def test_pack_processes_claim_points_of_their_own(campaign, slurm):
    """Six points need two packs of four processes. The last two processes have none."""
    jobs = Jobs(campaign, slurm, mode="pack")
    number = jobs.submit("0-1", options=["--ntasks=4"])
    jobs.wait()
    assert jobs.states(number) == {"COMPLETED": 2}, jobs.output()
    assert jobs.output().count("has 6 points, and this process has none\n") == 2
    names = ["masked_0", "masked_1", "reference_0", "reference_1", "wide_0", "wide_1"]
    assert sorted(path.name for path in folder_of(campaign, "").iterdir() if path.is_dir()) == names
    assert [record_of(campaign, name)["status"] for name in names] == 6 * ["finished"]
    assert [record_of(campaign, name)["job"] for name in names[2:4]] == [f"{number}_0", f"{number}_1"]

    for name in ("wide_0", "wide_1"):  # one holder is gone, the other is not
        (folder_of(campaign, name) / "provenance.json").unlink()
    claim = folder_of(campaign, "wide_1") / "claims/002"
    held = jobs.submit("0", options=["--hold"])
    claim.write_text(json.dumps(owner_of(folder_of(campaign, "wide_1")) | {"job": held, "task": "0"}))
    again = jobs.submit("0-1", "wandb.mode=disabled", options=["--ntasks=4"])
    wait_until(lambda: jobs.states(again)["COMPLETED"] == 2, 60, jobs.output)
    assert f"point wide_1: job {held}_0 computes it\n" in jobs.output()
    assert record_of(campaign, "wide_0")["overrides"][-1] == "wandb.mode=disabled"
    slurm("scancel", held)


def test_srun_processes_compute_one_point(campaign, slurm):
    campaign.write_light("print('rank', run.process.rank, run.folder)\nrun.table([{'a': run.process.rank}])")
    jobs = Jobs(campaign, slurm, mode="srun")
    number = jobs.submit("3", options=["--ntasks=3"])
    jobs.wait()
    assert jobs.states(number) == {"COMPLETED": 1}, jobs.output()
    folder = folder_of(campaign, "wide_1")
    assert sorted(jobs.output().splitlines()) == [f"{rank}: rank {rank} {folder}" for rank in range(3)]
    assert (folder / "wide_1.csv").read_text() == "a\n0\n"
    assert {path.name for path in (folder / "claims").iterdir()} == {"001"}


def test_point_of_job_follows_its_receipt(campaign, jobs, tmp_path):
    """The receipt has the points with their hashes, and the campaign's name."""
    assert start(campaign, "point=wide_0").returncode == 0
    found = record_of(campaign, "wide_0")["configuration_hash"]
    receipt = tmp_path / "receipt"
    receipt.mkdir()
    points = f"wide_0\0{found}\0wide_0\0{found[::-1]}\0wide_1\0{found}\0"
    (receipt / "points").write_text(points)
    number = jobs.submit("0-3", f"--submission={receipt}", "title=Other")
    jobs.wait()
    assert jobs.states(number) == {"COMPLETED": 2, "FAILED": 2}, jobs.output()
    logs = [(jobs.logs / f"{number}_{task}.out").read_text() for task in range(4)]
    assert logs[0] == "point wide_0 of round2 is finished\n"
    assert logs[1].startswith("point wide_0 of round2: it is finished with another configuration. Move ")
    assert logs[2].endswith(" round2 0 256 0.0006 1 None\n")
    assert logs[3] == "round2 has 3 points. Submit it with --array=0-2.\n"
    (receipt / "name").write_text("smoke\n")
    number = jobs.submit("0", f"--submission={receipt}", "lr=7")
    jobs.wait()
    assert jobs.states(number) == {"COMPLETED": 1}, jobs.output()
    assert record_of(campaign, "wide_0", "round2.smoke")["overrides"] == ["hidden=256", "lr=6e-4", "seed=0", "lr=7"]
    assert sorted(path.name for path in receipt.iterdir()) == ["name", "points", "runs"]


def test_point_by_hand_asks_slurm_about_its_holder(campaign, jobs, tmp_path):
    held = jobs.submit("0", options=["--hold"])
    folder = folder_of(campaign, "wide_0")
    (folder / "claims").mkdir(parents=True)
    claim = {"cluster": "lab", "job": held, "task": "0", "restart": 0, "host": "x", "pid": None, "started": None}
    (folder / "claims/001").write_text(json.dumps(claim | {"submission": None}))
    line = refusal(start(campaign, "point=wide_0"))
    assert line == f"point wide_0 of round2: job {held}_0 computes it. Wait until it ends."
    (tmp_path / "slurm.conf").write_text("ClusterName=lab\n")
    silent = {"SLURM_CONF": str(tmp_path / "slurm.conf"), "SLURM_CLUSTER_NAME": "lab"}
    line = refusal(start(campaign, "point=wide_0", env=silent))
    assert line.startswith(f"job {held}_0 holds a point, and Slurm did not return its state: squeue: ")
    ids = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2"}
    job = silent | ids | {"ENVIRONMENT": "BATCH"}
    done = run("bash", "job.sh", cwd=campaign.path, env=os.environ | job)
    assert done.returncode == 1 and done.stderr.splitlines()[0] == line
    jobs.slurm("scancel", held)
    done = start(campaign, "point=wide_0")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (folder / "claims").iterdir()} == {"001", "002"}
