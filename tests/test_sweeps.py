"""Sweeps: exactly `n_trials` completed trials from one configuration, even if workers are killed."""

import importlib.metadata
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from random import Random

import jsonschema
import optuna
import pytest
import yaml
from optuna.trial import TrialState
from PIL import Image
from support.lab import fake_programs
from support.preflight import preflight
from support.process import edit, git, run, wait_until
from support.slurm import Submitter, submitted
from support.terminal import Terminal
from support.updating import tool

WORKER = "experiments/011-x/scripts/optuna_worker.py"
STUDY = "011-x_slurm_optuna"

# A starter with a trivial objective, so workers access the study at the same time.
QUICK = """\
import os
import socket
import time
from pathlib import Path
import hydra
from dotenv import load_dotenv
from runtime import Run
load_dotenv()

@hydra.main(version_base="1.3", config_path="../conf", config_name="default")
def main(cfg):
    with Run(cfg):
        {body}
    return abs(cfg.start - 0.05)
"""

# Tasks 0 and 1 wait until the file `again` exists. Then trials wait until two more arrays work.
MEET = """\
job, task = os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]
        data = Path(os.environ["DATA_ROOT"])
        while task < "2" and not (data / "again").exists():
            time.sleep(0.1)
        (data / f"job-{job}").touch()
        while (data / "again").exists() and len(list(data.glob("job-*"))) < 3:
            time.sleep(0.1)
"""


def journal_of(lab):
    return lab.data / f"experiments/011-x/studies/{STUDY}.journal"


def trials_of(lab, *states):
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal_of(lab))))
    return optuna.load_study(study_name=STUDY, storage=storage).get_trials(states=states or None)


def check(lab, wanted):
    """Check that the wanted number of trials is complete, each in its own folder, no proposal twice."""
    complete = trials_of(lab, TrialState.COMPLETE)
    assert len(complete) == wanted
    assert len({tuple(trial.params.values()) for trial in complete}) == wanted
    assert trials_of(lab, TrialState.RUNNING) == []
    records = {record["stem"]: record["status"] for record in records_of(lab)}
    assert {records[f"{STUDY}_{trial.number}"] for trial in complete} == {"finished"}


def records_of(lab):
    return [json.loads(path.read_text()) for path in lab.data.glob("experiments/011-x/runs/*/*/provenance.json")]


def change(lab, old, new, name="conf/x_slurm_optuna.yaml"):
    edit(lab.path / "experiments/011-x" / name, old, new)


# In jobs --------------------------------------------------------------------------------------------------------------


class Sweep:
    """An experiment with an Optuna sweep on the machine `slurm`."""

    def __init__(self, lab, slurm, token, body, n_trials):
        self.jobs = Submitter(lab, slurm, runs={"x": [token, "gh_000"]})
        self.lab, self.slurm = lab, slurm
        (self.jobs.experiment / "scripts/x.py").write_text(QUICK.format(body=body))
        change(lab, "n_trials: 64", f"n_trials: {n_trials}")

    def submit(self, tasks):
        [number] = submitted(self.jobs.submit("slurm_x_optuna", "--", f"--array=0-{tasks - 1}"))
        return number

    def wait(self, number, tasks):
        """Wait for the tasks of an array, and count their final states."""
        return Counter(self.slurm.wait(f"{number}_{task}", seconds=120)["JobState"] for task in range(tasks))

    def logs(self):
        return "".join(path.read_text() for path in sorted(self.jobs.logs.glob("*.out")))


def test_killed_workers_trials_are_repeated_by_two_arrays(lab, slurm):
    sweep = Sweep(lab, slurm, "slurm_optuna", MEET, 12)
    first = sweep.submit(4)
    wait_until(lambda: journal_of(lab).exists() and len(records_of(lab)) >= 12, 120, sweep.logs)
    assert sweep.slurm.wait(f"{first}_2")["JobState"] == sweep.slurm.wait(f"{first}_3")["JobState"] == "COMPLETED"
    lost = trials_of(lab, TrialState.RUNNING)
    assert {trial.user_attrs["worker"][1] for trial in lost} == {f"{first}_0", f"{first}_1"}
    for task in range(2):
        slurm("scancel", "--full", "--signal=KILL", f"{first}_{task}")
    assert sweep.wait(first, 4)["COMPLETED"] == 2
    change(lab, "n_trials: 12", "n_trials: 64")
    (lab.data / "again").touch()
    numbers = [sweep.submit(4), sweep.submit(4)]
    for number in numbers:
        assert sweep.wait(number, 4) == {"COMPLETED": 4}, sweep.logs()
    check(lab, 64)
    trials = trials_of(lab)
    assert [trial.number for trial in trials_of(lab, TrialState.FAIL)] == [trial.number for trial in lost]
    assert len(trials) == 66
    again = [trial.params for trial in trials if "replaces" in trial.user_attrs]
    assert again == [trial.params for trial in lost]
    assert {trial.user_attrs["worker"][1].split("_")[0] for trial in trials} == {first, *numbers}
    assert f"study {STUDY} is finished: 64 of 64 trials complete, 0 running, 2 failed, best " in sweep.logs()


def test_requeued_worker_repeats_its_own_trial(lab, slurm):
    sweep = Sweep(lab, slurm, "slurm_optuna", "time.sleep(0 if os.environ.get('SLURM_RESTART_COUNT') else 60)", 2)
    number = sweep.submit(1)
    wait_until(lambda: list(lab.data.rglob("provenance.json")))
    slurm("scontrol", "requeue", f"{number}_0")
    wait_until(lambda: slurm.job(f"{number}_0")["JobState"] == "PENDING", state=sweep.logs)
    time.sleep(2)  # slurmd refuses a job if it revoked its credential within the same second
    slurm("scontrol", "update", f"jobid={number}_0", "StartTime=now")
    assert sweep.wait(number, 1) == {"COMPLETED": 1}, sweep.logs()
    assert [trial.state.name for trial in trials_of(lab)] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials_of(lab)[0].params == trials_of(lab)[1].params


def test_workers_of_a_pack_share_one_job(lab, slurm):
    """squeue lists more jobs than fit into an environment variable."""
    sweep = Sweep(lab, slurm, {"slurm-pack_optuna": {"ntasks": 4}}, "time.sleep(0.1)", 16)
    launcher = "scripts/slurm_x-pack_optuna.slurm"
    sweep.jobs.edit(launcher, "--format=%i)", "--format=%i; seq -f 9%.0f_0 100000 120000)")
    number = sweep.jobs.sbatch(f"experiments/011-x/{launcher}")
    assert slurm.wait(number, seconds=120)["JobState"] == "COMPLETED", sweep.logs()
    check(lab, 16)
    assert len(trials_of(lab)) == 16
    assert {trial.user_attrs["worker"][1] for trial in trials_of(lab)} == {number}
    folders = lab.data.glob("experiments/011-x/runs/x_slurm_optuna/*")
    workers = {path.name.rpartition("_")[0] for path in folders}
    assert len(workers) > 1 and workers <= {f"{number}_{task}" for task in range(4)}


# By hand --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_hand(lab):
    """Return an experiment with a sweep of 2 quick trials, run without Slurm."""
    experiment = lab.render(package="", runs={"x": ["slurm_optuna", "gh_000", "gh_optuna"]})
    change(lab, "n_trials: 64", "n_trials: 2")
    (experiment / "scripts/x.py").write_text(QUICK.format(body="pass"))
    return lab


def command(*options, config="x_slurm_optuna"):
    return [sys.executable, WORKER, "--config-name", config, *options]


def worker(lab, *options, config="x_slurm_optuna", **kwargs):
    return run(*command(*options, config=config), cwd=lab.path, **kwargs)


# Write a file, call the command, and repeat in one process, because Python and Optuna start slowly.
MANY = """\
import contextlib, json, sys
sys.path.insert(0, "experiments/011-x/scripts")
import optuna_worker
for path, content, options in json.load(sys.stdin):
    with open(path, "w") as file:
        file.write(content)
    sys.argv = ["optuna_worker.py", "--config-name", "x_slurm_optuna", *options]
    with contextlib.suppress(SystemExit):
        optuna_worker.main()
"""


def refused(lab, cases):
    """Return one line per refused case: (path, content, options)."""
    done = lab.python("-c", MANY, input=json.dumps([(str(path), *rest) for path, *rest in cases]))
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == len(cases), done.stderr
    assert all(line.startswith("optuna_worker.py: x_slurm_optuna: ") for line in lines)
    return [line.removeprefix("optuna_worker.py: x_slurm_optuna: ") for line in lines]


WRONG = [
    ("sweep:", "swept:", "Key 'sweep' is not in struct"),
    ("  n_trials: 2\n", "", "sweep: missing: n_trials"),
    ("n_trials: 2", "n_trials: 2\n  n_trails: 3", 'sweep: unknown key "n_trails"; expected one of: direction, study'),
    ("n_trials: 2", "n_trials: many", "sweep.n_trials must be an integer above 0, but is 'many'"),
    ("n_trials: 2", "n_trials: true", "sweep.n_trials must be an integer above 0, but is True"),
    ("max_failures: 3", "max_failures: 0", "sweep.max_failures must be an integer above 0, but is 0"),
    ("timeout: null", "timeout: 1h", "sweep.timeout must be seconds above 0, or null, but is '1h'"),
    (f"figures: {STUDY}", "figures: ../x", "sweep.figures must be the name of a folder, or null, but is '../x'"),
    (f"study: {STUDY}", "study: a/b", "sweep.study must be the name of a file, but is 'a/b'"),
    ("    seed: 0 #", "    # seed: 0", "sweep.sampler.seed must be an integer, but is None"),
    ("direction: minimize", "direction: down", "must be a list of minimize and maximize, but is ['down']"),
    ("  direction: minimize", "  # direction", "sweep.direction is missing. For an objective with several values,"),
    ("objective: x.main", "objective: x.mian", "'mian' is importable from module 'x'"),
    ("objective: x.main", "objective: y.main", "No module named 'y'"),
    ("samplers.TPESampler", "samplers.Best", "Error locating target 'optuna.samplers.Best'"),
    ("pruner: null", "pruner: median", "sweep.pruner must be an Optuna pruner with its arguments, or null, but is"),
    ("pruner: null", "pruner: {_target_: optuna.pruners.Best}", "Error locating target 'optuna.pruners.Best'"),
    ("    start: {", "    strat: {", "Could not override 'strat'"),
    ("type: int", "type: whole", "sweep.params.hours is not a float, int or categorical with valid bounds"),
    ("high: 36", "high: 3", "(low=12, high=3)"),
    ("[2.0, 4.0, 8.0]", "[]", "sweep.params.capacity is not a float, int or categorical with valid bounds"),
]


def test_invalid_sweep_is_refused_in_one_line(by_hand):
    conf = by_hand.path / "experiments/011-x/conf/x_slurm_optuna.yaml"
    text = conf.read_text()
    assert all(old in text for old, _, _ in WRONG)
    lines = refused(by_hand, [(conf, text.replace(old, new), []) for old, new, _ in WRONG])
    for line, (_, _, reason) in zip(lines, WRONG, strict=True):
        assert reason in line
    assert refused(by_hand, [(conf, text.replace(old, new), ["--dry-run"]) for old, new, _ in WRONG]) == lines
    assert list(by_hand.data.rglob("*.journal")) == []
    assert worker(by_hand).returncode == 1


def test_preflight_writes_nothing(by_hand):
    program = [WORKER, "--config-name", "x_slurm_optuna"]
    (by_hand.data / "a.csv").touch()
    change(by_hand, "noise: 0.05", "inputs: [a.csv]\nnoise: 0.05")
    answer = preflight(by_hand, program)
    assert (answer.problems, answer.notes, list(answer.inputs["a"])) == ([], [], ["a.csv"])
    done = worker(by_hand, "--dry-run")
    assert done.stdout.startswith(f"study {STUDY}: 2 trials of x.main with optuna.samplers.TPESampler\ninput: a.csv ")
    assert not list(by_hand.images.iterdir()) and not (by_hand.data / "experiments").exists()
    change(by_hand, "n_trials: 2", "n_trials: many")
    line = "optuna_worker.py: x_slurm_optuna: sweep.n_trials must be an integer above 0, but is 'many'"
    assert preflight(by_hand, program).lines() == [line]
    change(by_hand, "n_trials: many", "n_trials: 2")
    change(by_hand, "noise: 0.05", "noise: ???")
    change(by_hand, "capacity: 4.0", "capacity: ???")  # of which each trial has a value
    line = "optuna_worker.py: conf/x_slurm_optuna.yaml: noise is ???. Give it a value."
    assert preflight(by_hand, program).lines() == [line]


def test_preflight_reads_an_existing_study(by_hand):
    assert worker(by_hand).returncode == 0
    [journal] = by_hand.data.rglob("*.journal")
    before = journal.read_bytes(), sorted(journal.parent.iterdir())
    program = [WORKER, "--config-name", "x_slurm_optuna"]
    assert preflight(by_hand, program).problems == []
    change(by_hand, "high: 36", "high: 48")
    [line] = preflight(by_hand, program).lines()
    assert f"study {STUDY} has another direction or other params" in line
    assert (journal.read_bytes(), sorted(journal.parent.iterdir())) == before


def test_worker_stops_if_an_input_changed(by_hand, tmp_path):
    (by_hand.data / "a.csv").touch()
    change(by_hand, "noise: 0.05", "inputs: [a.csv]\nnoise: 0.05")
    (tmp_path / "inputs").write_text("a.csv\0another\0")
    done = worker(by_hand, env=os.environ | {"EXPERIMENT_SUBMISSION": str(tmp_path)})
    line = "inputs: changed since the job was submitted: a.csv. Submit it again.\n"
    assert (done.returncode, done.stderr) == (1, line)
    assert list(by_hand.data.rglob("*.journal")) == []


def test_worker_stops_if_squeue_omits_its_job(by_hand):
    job = {
        "EXPERIMENT_JOB": "6",
        "EXPERIMENT_MODE": "one",
        "SLURM_JOB_ID": "7",
        "SLURM_ARRAY_JOB_ID": "6",
        "SLURM_ARRAY_TASK_ID": "1",
    }
    done = worker(by_hand, env=os.environ | job, input="5_0\n6_0\n")
    lack = "squeue lists 2 jobs of this user, but not this job, 6_1"
    assert (done.returncode, done.stderr) == (1, f"optuna_worker.py: x_slurm_optuna: {lack}\n")
    assert done.stdout == "" and list(by_hand.data.rglob("provenance.json")) == []


def test_worker_stops_after_max_failures(by_hand):
    raising = "[lambda: 1 / 0, lambda: None, lambda: float('nan'), offline, no_strain]"
    change(by_hand, "with Run(cfg):", f"with Run(cfg):\n        return {raising}[int(cfg.trial[-1])]()", "scripts/x.py")
    with (by_hand.path / "experiments/011-x/scripts/x.py").open("a") as file:
        file.write("def offline():\n    socket.create_connection(('127.0.0.1', 1))\n")
        file.write("def no_strain():\n    raise SystemExit('no such strain')\n")
    change(by_hand, "max_failures: 3", "max_failures: 5")
    done = worker(by_hand)
    last = "optuna_worker.py: 5 trials failed (see above). Fix the cause, then submit again.\n"
    assert done.returncode == 1 and done.stderr.endswith(last) and done.stderr.count("Traceback") == 5
    assert "0 of 2 trials complete, 0 running, 5 failed" in done.stdout
    errors = [trial.user_attrs["error"] for trial in trials_of(by_hand, TrialState.FAIL)]
    assert [error.partition("(")[0] for error in errors] == [
        "ZeroDivisionError",
        "TypeError",
        "ValueError",
        "ConnectionRefusedError",
        "SystemExit",
    ]
    assert Counter(record["status"] for record in records_of(by_hand)) == {"failed": 3, "finished": 2}
    (by_hand.path / "experiments/011-x/scripts/x.py").write_text(QUICK.format(body="int(cfg.trial[-1]) == 6 and 1 / 0"))
    assert worker(by_hand).returncode == 0
    check(by_hand, 2)
    assert [trial.number for trial in trials_of(by_hand, TrialState.COMPLETE)] == [5, 7]


def test_trial_figures_have_their_own_folder_or_are_off(lab):
    lab.render(package="", runs={"x": ["slurm_optuna"]})
    change(lab, "n_trials: 64", "n_trials: 1")
    assert worker(lab).stdout.startswith(f"figure: {lab.images}/{STUDY}/{STUDY}_0_")
    assert [path.name for path in lab.images.iterdir()] == [STUDY] and len(list(lab.images.rglob("*.png"))) == 1
    change(lab, f"figures: {STUDY}", "figures: null")
    change(lab, "n_trials: 1", "n_trials: 2")
    done = worker(lab)
    assert done.returncode == 0 and "figure" not in done.stdout
    assert sorted(len(record["figures"]) for record in records_of(lab)) == [0, 1]
    assert len(list(lab.images.rglob("*.png"))) == 1
    assert lab.start("x_slurm_optuna").stdout.startswith(f"figure: {lab.images}/011-x_slurm_optuna_")


def test_trial_figure_is_kept_in_the_trials_folder(by_hand):
    body = "from matplotlib.figure import Figure; run.save(Figure(), '/proc/own/a.png')"
    change(by_hand, "with Run(cfg):\n        pass", f"with Run(cfg) as run:\n        {body}", "scripts/x.py")
    change(by_hand, "max_failures: 3", "max_failures: 1")
    done = worker(by_hand)
    assert done.returncode == 1 and "/proc/own/a.png: No such file or directory. " in done.stderr
    [record] = records_of(by_hand)
    assert record["status"] == "failed" and record["figures"] == [f"{record['folder']}/a.png"]
    assert os.path.exists(record["figures"][0]) and len(trials_of(by_hand, TrialState.FAIL)) == 1


def test_trial_saves_its_work_after_two_signals(by_hand):
    body = "try:\n            time.sleep(60)\n        finally:\n            time.sleep(1)\n"
    body += "            (Path(os.environ['DATA_ROOT']) / 'saved').touch()"
    change(by_hand, "pass", body, "scripts/x.py")
    process = subprocess.Popen(command(), cwd=by_hand.path)
    wait_until(lambda: list(by_hand.data.rglob("provenance.json")))
    time.sleep(1)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert process.wait(60) == -signal.SIGTERM and (by_hand.data / "saved").exists()
    assert [(record["status"], record["error"]) for record in records_of(by_hand)] == [("terminated", "SIGTERM")]
    (by_hand.path / "experiments/011-x/scripts/x.py").write_text(QUICK.format(body="pass"))
    assert worker(by_hand).returncode == 0
    check(by_hand, 2)


def test_study_can_be_shared_but_not_changed(by_hand):
    assert worker(by_hand).returncode == 0
    conf = by_hand.path / "experiments/011-x/conf/x_slurm_optuna.yaml"
    text = conf.read_text()
    others = [("high: 36", "high: 48"), ("direction: minimize", "direction: maximize")]
    reason = f"study {STUDY} has another direction or other params. Choose a new name."
    assert refused(by_hand, [(conf, text.replace(*other), []) for other in others]) == [reason, reason]
    conf.write_text(text)
    change(by_hand, "study: 011-x_gh_optuna", f"study: {STUDY}", "conf/x_gh_optuna.yaml")
    change(by_hand, "n_trials: 64", "n_trials: 4", "conf/x_gh_optuna.yaml")
    assert "is finished: 4 of 4 trials complete" in worker(by_hand, config="x_gh_optuna").stdout
    runs = by_hand.data / "experiments/011-x/runs"
    assert {path.name[-2:] for path in (runs / "x_gh_optuna").iterdir()} == {"_2", "_3"}
    finished = worker(by_hand).stdout
    assert finished.startswith(f"study {STUDY} is finished: 4 of 2 trials complete, 0 running, 0 failed, best ")
    assert finished.count("\n") == 1 and len(trials_of(by_hand)) == 4


@pytest.mark.parametrize(
    "sampler", ["GridSampler\n    search_space: {hours: [12, 24], interval: [0.5, 1.0]}", "QMCSampler"]
)
def test_samplers_that_end_or_are_experimental_work(by_hand, sampler):
    change(by_hand, "TPESampler", sampler)
    conf = by_hand.path / "experiments/011-x/conf/x_slurm_optuna.yaml"
    conf.write_text(re.sub("^    (start|capacity): {.*\n", "", conf.read_text(), flags=re.MULTILINE))
    first = worker(by_hand)
    change(by_hand, "n_trials: 2", "n_trials: 4")
    second = worker(by_hand)
    assert (first.returncode, first.stderr) == (second.returncode, second.stderr) == (0, "")
    check(by_hand, 4)


def test_worker_shows_progress_in_a_terminal(by_hand):
    """Elsewhere it prints no bar, as other tests check."""
    terminal = Terminal(*command(), cwd=by_hand.path)
    assert terminal.end() == 0, terminal.text()
    bars = [line.partition("|")[0].strip() for line in terminal.text().splitlines() if "trials" in line and "|" in line]
    assert bars == ["0%", "50%", "100%"]


def test_worker_starts_no_trial_after_its_timeout(by_hand):
    change(by_hand, "pass", "time.sleep(1)", "scripts/x.py")
    change(by_hand, "n_trials: 2", "n_trials: 100")
    change(by_hand, "timeout: null", "timeout: 1")
    done = worker(by_hand)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"study {STUDY}: 1 of 100 trials complete, 0 running, 0 failed, best " in done.stdout


def test_trial_gets_title_and_choices_unchanged(lab):
    title = "\"ΔΔ\" 'x' \\n \\ # {a: b}, [$HOME] = 酵母 \\"
    experiment = lab.render(package="", title=title, runs={"x": ["slurm_optuna"]})
    change(lab, "n_trials: 64", "n_trials: 3")
    change(lab, "choices: [2.0, 4.0, 8.0]", "choices: ['a \"b\" = \\, c', null, true]")
    (experiment / "scripts/x.py").write_text(QUICK.format(body="print(repr(cfg.title), repr(cfg.capacity))"))
    done = worker(lab)
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if STUDY in line and not line.startswith("study")]
    chosen = [trial.params["capacity"] for trial in trials_of(lab)]
    assert printed == [f"{f'{title} ({STUDY}_{n})'!r} {choice!r}" for n, choice in enumerate(chosen)]
    assert 'a "b" = \\, c' in chosen


def test_study_is_reproducible_by_its_seed(by_hand):
    def proposals():
        assert worker(by_hand).returncode == 0
        overrides = sorted(by_hand.data.rglob(".hydra/overrides.yaml"))
        values = [path.read_text().split("- trial")[0] for path in overrides]
        shutil.rmtree(by_hand.data / "experiments")
        return values

    first = proposals()
    assert len(set(first)) == 2
    assert proposals() == first
    change(by_hand, "seed: 0 # combined", "seed: 1 # with")
    assert not set(proposals()) & set(first)


# Trials ---------------------------------------------------------------------------------------------------------------

PRUNING = """\
with Run(cfg) as run:
        if run.trial:
            smooth = run.trial.number and run.trial.suggest_float("noise", 0, 1) + run.trial.suggest_int("new", 0, 1)
            for step in range(2):
                run.trial.report(run.trial.number % 2 + smooth / 100, step)
                if run.trial.should_prune():
                    raise optuna.TrialPruned
"""


def test_pruned_trials_are_neither_complete_nor_failed(by_hand):
    change(by_hand, "with Run(cfg):\n        pass\n", PRUNING, "scripts/x.py")
    change(by_hand, "import hydra\n", "import hydra, optuna\n", "scripts/x.py")
    change(by_hand, "cfg.start - 0.05)", "cfg.start - 0.05) if run.trial and run.trial.number else 1", "scripts/x.py")
    with (by_hand.path / "experiments/011-x/scripts/x.py").open("a") as file:
        file.write("\nif __name__ == '__main__':\n    main()\n")
    change(by_hand, "pruner: null", "pruner: {_target_: optuna.pruners.ThresholdPruner, upper: 0.5}")
    change(by_hand, "n_trials: 2", "n_trials: 4")
    change(by_hand, "max_failures: 3", "max_failures: 1")
    done = worker(by_hand)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is finished: 4 of 4 trials complete, 0 running, 0 failed, 3 pruned, best " in done.stdout
    assert [trial.state.name for trial in trials_of(by_hand)] == ["COMPLETE", "PRUNED"] * 3 + ["COMPLETE"]
    assert [list(trial.intermediate_values) for trial in trials_of(by_hand)] == [[0, 1], [0]] * 3 + [[0, 1]]
    assert Counter(record["status"] for record in records_of(by_hand)) == {"finished": 4, "pruned": 3}
    listed = tool(by_hand, "list", "experiments/011-x", "--json")
    assert json.loads(listed.stdout)[0]["counts"] == {"finished": 4, "pruned": 3}, listed.stderr
    done = worker(by_hand, "--report")
    assert done.returncode == 0, done.stderr
    state, header, *rows = done.stdout.splitlines()
    assert "3 pruned" in state and header.split()[-2:] == ["noise", "new"]
    assert [row.split()[-1] == "-" for row in rows[:4]] == [row.split()[0] == "0" for row in rows[:4]]
    assert [row.count("_intermediate_values_") for row in rows[4:-1]] == [0, 0, 0, 1]
    assert re.search(r" noise=0\.\d+ \+new=[01]$", rows[-1])
    typed = run("bash", "-c", rows[-1].removeprefix("again:  "), cwd=by_hand.path)
    assert (typed.returncode, typed.stderr) == (0, "")


def test_config_group_can_be_a_param(by_hand):
    folder = by_hand.path / "experiments/011-x/conf/model"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(f"layers: {name}{name}\n")
    change(by_hand, "defaults: [runtime,", "defaults: [model: a, runtime,")
    change(
        by_hand, "capacity: {type: categorical, choices: [2.0, 4.0, 8.0]}", "model: {type: categorical, choices: [b]}"
    )
    change(by_hand, "pass", "print(cfg.trial, cfg.model.layers)", "scripts/x.py")
    done = worker(by_hand)
    assert f"{STUDY}_0 bb\n{STUDY}_1 bb\n" in done.stdout, done.stderr


COMPARE = """\
import sys
sys.path.insert(0, "experiments/011-x/scripts")
from optuna_worker import CONF, Callable, OmegaConf, compose, hydra, override
values = {"start": 1e-5, "interval": 2, "hours": True, "capacity": None, "noise": -3.0}
values |= {"title": "\\"a=b,\\" \\\\ # {c}: '[$d]", "hydra.run.dir": "/a b"}
with hydra.initialize_config_dir(CONF, version_base="1.3"):
    for config in ("x_slurm_optuna", "x_gh_000"):
        cfgs = compose(config, values), override(compose(config, {}), values)
        assert OmegaConf.to_yaml(cfgs[0]) == OmegaConf.to_yaml(cfgs[1])
        assert cfgs[0].noise == -3.0 and len(cfgs[1].hydra.overrides.task) == 6
"""


def test_configuration_composed_once_equals_a_new_one(by_hand):
    change(by_hand, "noise: 0.05", "noise: ???", "conf/x_gh_000.yaml")
    done = by_hand.python("-c", COMPARE)
    assert (done.returncode, done.stderr) == (0, "")


# Faults ---------------------------------------------------------------------------------------------------------------


def shorten_timeouts(lab):
    """Wait only seconds for the lock of a killed worker, instead of minutes."""
    change(lab, "grace_period=120", "grace_period=5", "scripts/runtime/optuna_study.py")
    journal = "scripts/runtime/optuna_journal.py"
    change(lab, "Lock(path)", "Lock(path, grace_period=5)", journal)


def test_worker_repeats_the_trial_of_a_killed_one(by_hand):
    body = "Run.trial.suggest_float('rate', 0, 1); Run.trial.report(1, 0); time.sleep(60)"
    change(by_hand, "pass", body, "scripts/x.py")
    first = subprocess.Popen(command(), cwd=by_hand.path)
    wait_until(lambda: journal_of(by_hand).exists() and "intermediate_value" in journal_of(by_hand).read_text())
    assert "0 of 2 trials complete, 1 running" in worker(by_hand, "--report").stdout
    first.kill()
    first.wait()
    change(by_hand, "time.sleep(60)", "pass", "scripts/x.py")
    done = worker(by_hand)
    assert f"study {STUDY} is finished: 2 of 2 trials complete, 0 running, 1 failed, best " in done.stdout
    assert done.stderr == "" and [trial.intermediate_values for trial in trials_of(by_hand)] == [{0: 1}, {0: 1}, {0: 1}]
    lost, again, _ = trials_of(by_hand)
    assert again.params == lost.params and "rate" in again.params


def test_worker_interrupted_prints_one_line(by_hand):
    change(by_hand, "pass", "time.sleep(60)", "scripts/x.py")
    process = subprocess.Popen(command(), cwd=by_hand.path, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(by_hand.data.rglob("provenance.json")))
    process.send_signal(signal.SIGINT)
    said = "optuna_worker.py: x_slurm_optuna: interrupted. The next worker repeats its trial.\n"
    assert (process.communicate()[1], process.returncode) == (said, 1)
    change(by_hand, "time.sleep(60)", "pass", "scripts/x.py")
    done = worker(by_hand)
    assert "finished: 2 of 2 trials complete, 0 running, 1 failed" in done.stdout
    first, *_ = trials_of(by_hand)
    assert trials_of(by_hand)[1].params == first.params


def test_report_works_with_a_read_only_data_root(by_hand):
    assert worker(by_hand).returncode == 0
    folder = by_hand.data / "experiments/011-x/studies"
    for path in (folder, by_hand.data):
        path.chmod(0o555)
    anybody = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    try:
        refused = run(*anybody, *command(), cwd=by_hand.path)
        done = run(*anybody, *command(), "--report", cwd=by_hand.path)
    finally:
        by_hand.data.chmod(0o755)
        folder.chmod(0o755)
    assert "DATA_ROOT: cannot write to" in refused.stderr
    assert done.returncode == 0 and "2 of 2 trials complete" in done.stdout, done.stderr


@pytest.mark.parametrize("seed", range(int(os.environ.get("FAULT_ROUNDS", 1))))
def test_workers_killed_at_random_complete_each_trial_once(by_hand, seed):
    """FAULT_ROUNDS=20 repeats it 20 times, with other moments each time."""
    shorten_timeouts(by_hand)
    random, wanted = Random(seed), 32
    change(by_hand, "n_trials: 2", f"n_trials: {wanted}")
    change(by_hand, "pass", "time.sleep(0.2)", "scripts/x.py")
    workers = [subprocess.Popen(command(), cwd=by_hand.path, stdout=subprocess.DEVNULL) for _ in range(5)]
    wait_until(lambda: len(records_of(by_hand)) >= 4)
    for process in workers:
        time.sleep(random.uniform(0, 0.4))
        process.kill()
        process.wait()
    assert len(trials_of(by_hand, TrialState.COMPLETE)) < wanted, "they were killed too late"
    workers = [subprocess.Popen(command(), cwd=by_hand.path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in workers] == [0, 0]
    check(by_hand, wanted)


def limited(lab, size, reach):
    """Run a worker with a limit of file size in bytes. `reach` is its handler of SIGXFSZ."""
    program = "import runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.{}); sys.argv.pop(0); "
    program = (
        program.format(reach)
        + "sys.path[0] = 'experiments/011-x/scripts'; runpy.run_path(sys.argv[0], None, '__main__')"
    )

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # a partial .pyc would stay
    words = [sys.executable, "-c", program, *command()[1:]]
    return run(*words, cwd=lab.path, env=environment, preexec_fn=limit)


def test_journal_survives_full_disks_and_kills(by_hand):
    """The disk is full during three trials. Then a worker is killed in the middle of a line."""
    shorten_timeouts(by_hand)
    change(by_hand, "n_trials: 2", "n_trials: 16")
    journal = journal_of(by_hand)
    for size in (6100, 8300, 10600):
        full = limited(by_hand, size, "SIG_IGN")
        reason = f"[Errno 27] File too large: '{journal}'"
        assert (full.returncode, full.stderr) == (1, f"optuna_worker.py: x_slurm_optuna: {reason}\n")
        # A line may end exactly at the limit, because the length of lines depends on the machine's paths.
        assert size - 500 < journal.stat().st_size <= size and journal.read_bytes().endswith(b"}\n")
    half = 20  # bytes, shorter than any record
    size = journal.stat().st_size + half
    killed = limited(by_hand, size, "SIG_DFL")
    assert killed.returncode == -signal.SIGXFSZ
    assert journal.stat().st_size == size and not journal.read_bytes().endswith(b"\n")
    done = worker(by_hand)
    assert done.returncode == 0 and f"{journal}: removed {half} bytes " in done.stderr
    check(by_hand, 16)


TRUNCATE = """\
import ast, sys
from pathlib import Path
from runtime.optuna_journal import Journal
journal, partial = Path(sys.argv[1]), ast.literal_eval(sys.argv[2])
whole = journal.read_bytes()
for rest in partial:
    journal.write_bytes(whole + rest)
    Journal(sys.argv[1]).begin()
    assert journal.read_bytes() == whole
"""


def test_journal_with_a_partial_line_is_truncated(by_hand):
    assert worker(by_hand).returncode == 0
    journal = journal_of(by_hand)
    whole = journal.read_bytes()
    partial = [b'{"op_code":4,"tri', b"\0\0\0\0", b"\n", b'\0\n\n{"op_code": 4}']
    done = by_hand.python("-c", TRUNCATE, journal, partial, env={"PYTHONPATH": "experiments/011-x/scripts"})
    removed = "removed {} bytes after the last complete line, left by a crash\n"
    assert done.stderr == "".join(f"{journal}: {removed.format(len(rest))}" for rest in partial)
    assert journal.read_bytes() == whole
    journal.write_bytes(whole + b'{"op_code":4,"tri')
    change(by_hand, "n_trials: 2", "n_trials: 3")
    assert "2 of 3 trials complete" in worker(by_hand, "--report").stdout
    assert journal.read_bytes() == whole + b'{"op_code":4,"tri', "a report writes nothing"
    done = worker(by_hand)
    assert "removed 17 bytes" in done.stderr and "is finished: 3 of 3 trials complete" in done.stdout
    assert journal.read_bytes().startswith(whole + b"{")


def test_journal_damage_is_reported_by_line(by_hand):
    assert worker(by_hand).returncode == 0
    journal = journal_of(by_hand)
    lines = journal.read_text().splitlines()
    worker_id = json.loads(lines[3])["worker_id"]
    records = [{}, [], 3, None, {"op_code": 99}, {"op_code": 5, "trial_id": 0, "worker_id": worker_id}, {"op_code": 5}]
    damaged = [lines[3][:9], "", "\0\0", *map(json.dumps, records)]
    cases = [(journal, "\n".join([*lines[:3], line, *lines[4:], ""]), ["--report"]) for line in damaged]
    reason = f"{journal}: line 4 is damaged. Restore a copy of the file, or move it away to start a new study."
    assert refused(by_hand, cases) == [reason] * len(damaged)
    content = journal.read_bytes()
    done = worker(by_hand)
    assert (done.returncode, done.stderr) == (1, f"optuna_worker.py: x_slurm_optuna: {reason}\n")
    assert journal.read_bytes() == content
    journal.rename(by_hand.path / "data/away")
    done = worker(by_hand)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is finished: 2 of 2 trials complete, 0 running, 0 failed" in done.stdout
    assert len(records_of(by_hand)) == 4


# Reports --------------------------------------------------------------------------------------------------------------


def test_report_of_several_directions_has_a_pareto_front(by_hand):
    change(by_hand, "direction: minimize", "directions: [minimize, maximize]")
    change(by_hand, "n_trials: 2", "n_trials: 12")
    change(by_hand, "return abs(cfg.start - 0.05)", "return cfg.start, cfg.hours", "scripts/x.py")
    assert "12 of 12 trials complete, 0 running, 0 failed" in worker(by_hand).stdout
    done = worker(by_hand, "--report")
    assert (done.returncode, done.stderr) == (0, "")
    points = [trial.values for trial in trials_of(by_hand)]
    front = [
        trial.number
        for trial in trials_of(by_hand)
        if not any(a <= trial.values[0] and b >= trial.values[1] and [a, b] != trial.values for a, b in points)
    ]
    state, header, *rows = done.stdout.splitlines()
    assert state.endswith(f", {len(front)} of them on the Pareto front")
    assert header.split()[:3] == ["trial", "value_0", "value_1"]
    assert [int(row.split()[0]) for row in rows[: len(front)]] == front
    assert len(list(by_hand.images.glob(f"{STUDY}_pareto_front_*.png"))) == 1
    change(by_hand, "return cfg.start, cfg.hours", "return cfg.start", "scripts/x.py")
    change(by_hand, "n_trials: 12", "n_trials: 13")
    assert "the objective returned 1 values for 2 directions" in worker(by_hand).stderr


def test_report_has_the_best_trials_and_figures(by_hand):
    change(by_hand, "choices: [2.0, 4.0, 8.0]", "choices: ['a \"b\" = \\, c$HOME', 'x']")
    none = worker(by_hand, "--report")
    lacks = f"study {STUDY} has not started: {journal_of(by_hand)} does not exist"
    assert (none.returncode, none.stderr) == (1, f"optuna_worker.py: x_slurm_optuna: {lacks}\n")
    assert list(by_hand.data.iterdir()) == list(by_hand.images.iterdir()) == []
    change(by_hand, "n_trials: 2", "n_trials: 1")
    assert worker(by_hand).returncode == 0
    one = worker(by_hand, "--report")
    assert (one.returncode, one.stderr) == (1, "The report needs at least two complete trials.\n")
    change(by_hand, "n_trials: 1", "n_trials: 12")
    assert worker(by_hand).returncode == 0
    content = journal_of(by_hand).read_bytes()
    done = worker(by_hand, "--report")
    assert (done.returncode, done.stderr) == (0, "")
    assert journal_of(by_hand).read_bytes() == content
    state, header, *rows = done.stdout.splitlines()
    assert state.startswith(f"study {STUDY} is finished: 12 of 12 trials complete")
    assert header.split() == ["trial", "value", "start", "interval", "hours", "capacity"]
    values = [float(row.split()[1]) for row in rows[:10]]
    assert values == sorted(values) and len(set(values)) == 10
    assert f"best {values[0]:g} in trial {rows[0].split()[0]}" in state
    figures = [row.removeprefix("figure: ") for row in rows[10:-1]]
    for figure, plot in zip(figures, ("optimization_history", "param_importances", "slice"), strict=True):
        assert re.fullmatch(rf"{by_hand.images}/{STUDY}_{plot}_[-0-9]{{19}}\.png", figure)
        with Image.open(figure) as image:
            assert image.width / image.info["dpi"][0] * 25.4 == pytest.approx(88, abs=0.1)  # a journal's column
            assert len(image.convert("L").resize((200, 150)).getcolors(256)) > 10
            assert image.text["Script"] == WORKER and image.text["Command"].endswith(" --report")
            assert image.text["Title"] == f"{STUDY}: {plot.replace('_', ' ')}"
            head = git(by_hand.path, "rev-parse", "HEAD").strip()
            assert image.text["Commit"] == f"{head}-dirty"  # n_trials was edited
    best = min(trials_of(by_hand), key=lambda trial: trial.value)
    printed = "print(cfg.start, cfg.interval, cfg.hours, cfg.capacity)\n    return abs"
    change(by_hand, "return abs", printed, "scripts/x.py")
    with (by_hand.path / "experiments/011-x/scripts/x.py").open("a") as file:
        file.write("\nmain()\n")
    typed = run("bash", "-c", rows[-1].removeprefix("again:  "), cwd=by_hand.path)
    assert typed.stdout == " ".join(map(str, best.params.values())) + "\n", typed.stderr


def test_rendered_readme_command_works(by_hand):
    change(by_hand, "n_trials: 64", "n_trials: 2", "conf/x_gh_optuna.yaml")
    text = (by_hand.path / "experiments/011-x/README.md").read_text()
    [work] = re.findall("^python .*optuna_worker.py --config-name x_gh_optuna$", text, flags=re.MULTILINE)
    assert "is finished: 2 of 2 trials complete" in run("bash", "-c", work, cwd=by_hand.path).stdout


def test_sweep_with_a_suffix_has_its_own_study(lab):
    """All its values are equal, which the worker and the report print."""
    experiment = lab.render(package="", runs={"x": ["gh_optuna_r2"]})
    change(lab, "n_trials: 64", "n_trials: 2", "conf/x_gh_optuna_r2.yaml")
    edit(experiment / "scripts/x.py", "    return error\n", "    return 1\n")
    done = worker(lab, config="x_gh_optuna_r2")
    state = "study 011-x_gh_optuna_r2 is finished: 2 of 2 trials complete, 0 running, 0 failed, best 1 in trial 0"
    warning = ". All values are equal: check whether the objective uses sweep.params"
    assert done.stdout.splitlines()[-1] == f"{state}{warning}", done.stderr
    assert {path.name for path in lab.images.iterdir()} == {"011-x_gh_optuna_r2"}
    assert {path.name[:21] for path in lab.images.glob("*/*.png")} == {"011-x_gh_optuna_r2_0_", "011-x_gh_optuna_r2_1_"}
    done = worker(lab, "--report", config="x_gh_optuna_r2")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == f"{state}{warning}", done.stderr
    names = {
        re.sub("_[-0-9]{19}", "", path.stem) for path in lab.images.glob("*.png")
    }  # equal values have no importances
    assert names == {f"011-x_gh_optuna_r2_{name}" for name in ("optimization_history", "slice")}


def test_oldest_optuna_works(by_hand):
    """All other tests use the newest version."""
    change(by_hand, "n_trials: 2", "n_trials: 8")
    uv = ["uv", "run", "--python", sys.executable, "--with", "optuna==4.3.0", *command()[1:]]
    assert run(*uv, "--help", cwd=by_hand.path).returncode == 0
    workers = [subprocess.Popen(uv, cwd=by_hand.path) for _ in range(2)]
    assert [process.wait() for process in workers] == [0, 0]
    assert [trial.state for trial in trials_of(by_hand)] == [TrialState.COMPLETE] * 8
    done = run(*uv, "--report", cwd=by_hand.path)
    assert done.returncode == 0, done.stderr
    assert len(list(by_hand.images.glob("*.png"))) == 3


# Hydra multiruns ------------------------------------------------------------------------------------------------------


def test_multirun_works_by_joblib_and_is_refused_by_submitit(lab):
    lab.render(package="")
    script = lab.write_light("run.log(seed=cfg.seed)")
    uv = ["uv", "run", "--quiet", "--no-project", "--python", sys.executable]
    uv += ["--with", "hydra-joblib-launcher==1.2.0", "--with", "hydra-submitit-launcher==1.2.0"]
    multirun = [*uv, script, "--config-name", "x_gh_000", "-m", "seed=3,4"]
    done = run(*multirun, "hydra/launcher=submitit_local", cwd=lab.path)
    line = "hydra/launcher=submitit_local: its processes cannot import the modules of this experiment. "
    line += "Use hydra/launcher=joblib, or give the values to submit.sh.\n"
    assert (done.returncode, done.stderr) == (1, line)
    assert list(lab.data.iterdir()) == []
    done = run(*multirun, "hydra/launcher=joblib", cwd=lab.path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in lab.data.glob("experiments/011-x/runs/*/*/*/provenance.json")]
    assert {(each["stem"][-2:], each["status"], each["metrics"]["seed"]) for each in records} == {
        ("_0", "finished", 3),
        ("_1", "finished", 4),
    }


# Weights & Biases -----------------------------------------------------------------------------------------------------


@pytest.fixture
def wandb_lab(lab):
    lab.render(package="", runs={"x": ["delta_wandb", "gh_000"]})
    return lab


def sweep_file(lab):
    return yaml.safe_load((lab.path / "experiments/011-x/conf/x_delta_wandb.yaml").read_text())


def schema():
    """Return W&B's JSON schema of a sweep. YAML reads an unquoted 1e-4 as text, which it rejects."""
    [file] = [path for path in importlib.metadata.files("sweeps") if path.name == "schema.json"]
    return jsonschema.Draft7Validator(json.loads(file.read_text()))


def test_wandb_sweep_file_matches_the_schema(wandb_lab):
    sweep = sweep_file(wandb_lab)
    assert list(schema().iter_errors(sweep)) == []
    assert (wandb_lab.path / sweep["program"]).is_file()
    assert {"program", "method", "metric", "parameters", "command"} <= set(sweep)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("method: bayes", "method: best"),
        ("method: bayes\n", ""),
        ("min: 0.01", "min: 1e-4"),
        ("distribution: int_uniform", "distribution: integers"),
        ("goal: minimize", "goal: smallest"),
        ("parameters:", "params:"),
        ("command:\n", "command: ${program}\nx:\n"),
    ],
)
def test_wandb_schema_rejects_invalid_sweep_files(wandb_lab, old, new):
    change(wandb_lab, old, new, "conf/x_delta_wandb.yaml")
    assert list(schema().iter_errors(sweep_file(wandb_lab)))


def test_wandb_sweep_command_runs_the_script(wandb_lab, monkeypatch):
    """Do an agent's work except the parts that need an account: the proposal and the online run."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("PYTHON", sys.executable)
    sweep = sweep_file(wandb_lab)
    proposal = {"args": {name: {"value": value} for name, value in {"start": 0.02, "interval": 1, "hours": 12}.items()}}
    words = {f"${{{name}}}": value for name, value in create_sweep_command_args(proposal).items()}
    words |= {"${env}": ["/usr/bin/env"], "${program}": [sweep["program"]], "wandb.mode=online": ["wandb.mode=offline"]}
    command = [word for part in create_sweep_command(sweep["command"]) for word in words.get(part, [part])]
    done = run(*command, cwd=wandb_lab.path)
    assert done.returncode == 0, done.stderr
    [record] = [json.loads(path.read_text()) for path in wandb_lab.data.rglob("provenance.json")]
    assert record["config"] == "x_delta_wandb" and record["metrics"].keys() == {sweep["metric"]["name"]}
    assert all(f"{name}={value}" in record["command"] for name, value in (("start", 0.02), ("hours", 12)))
    [log] = wandb_lab.data.glob("experiments/011-x/runs/x_delta_wandb/*/wandb/offline-run-*/*.wandb")
    assert b"error" in log.read_bytes() and b"011-x_delta_wandb" in log.read_bytes()
    [figure] = wandb_lab.images.iterdir()
    assert figure.name.startswith("011-x_delta_wandb_")
    changed = git(wandb_lab.path, "status", "--porcelain")
    assert changed == "?? experiments/011-x/results/x_delta_wandb.csv\n", "W&B writes to DATA_ROOT alone"


def test_wandb_is_not_imported_if_disabled(wandb_lab, tmp_path):
    (tmp_path / "wandb.py").write_text("raise ImportError('imported')\n")
    paths = {"PYTHONPATH": f"{tmp_path}"}
    assert wandb_lab.start("x_gh_000", env=paths).returncode == 0
    assert "ImportError: imported" in wandb_lab.start("x_gh_000", "wandb.mode=offline", env=paths).stderr


@pytest.mark.parametrize(
    ("mode", "environment", "reason"),
    [
        ("off", {}, 'unknown wandb.mode "off"; expected one of: disabled, offline, online.'),
        ("offline", {"WANDB_MODE": ""}, "WANDB_MODE is empty. Unset it or set a value."),
    ],
)
def test_wandb_mode_that_is_invalid_is_one_line(wandb_lab, mode, environment, reason):
    done = wandb_lab.start("x_gh_000", f"wandb.mode={mode}", env=environment)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, reason)
    assert list(wandb_lab.images.iterdir()) == []


@pytest.mark.parametrize("sweep_id", [None, "lab/011-x/abc"])
def test_wandb_agent_without_sweep_or_account_fails(lab, sweep_id):
    """The job is only its launcher, so this does not need Slurm."""
    lab.render(package="", runs={"x": ["slurm_wandb"]})
    launcher = "experiments/011-x/scripts/slurm_x_wandb.slurm"
    environment = os.environ | fake_programs(lab.path.parent / "home") | ({"SWEEP_ID": sweep_id} if sweep_id else {})
    done = run("bash", launcher, cwd=lab.path, env=environment)
    assert done.returncode == 1
    if sweep_id:
        assert "API key" in done.stderr or "api_key" in done.stderr
        assert git(lab.path, "status", "--porcelain") == ""
    else:
        advice = (
            "SWEEP_ID: is not set. Set it to ENTITY/PROJECT/ID, the last word that this command prints: "
            "wandb sweep experiments/011-x/conf/x_slurm_wandb.yaml"
        )
        assert done.stderr.endswith(f"{advice}\n")
        assert (lab.path / advice.split()[-1]).is_file()
