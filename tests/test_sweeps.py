"""Sweeps: one configuration, many outputs. As many trials as are wanted, each once, whatever happens to workers."""

import importlib.metadata
import json
import os
import re
import resource
import shutil
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
from support.process import git, run, wait_until
from support.slurm import Submitter, submitted

WORKER = "experiments/011-x/scripts/optuna_worker.py"
STUDY = "011-x_slurm_optuna"

# A starter's shape around a trivial objective, so that workers meet at the study all the time.
QUICK = """\
import os
import time
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


def trials_of(lab, *states):
    journal = lab.data / f"experiments/011-x/studies/{STUDY}.journal"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    return optuna.load_study(study_name=STUDY, storage=storage).get_trials(states=states or None)


def ends(folder, number):
    """Whether it is the run folder of a trial: its worker's name, and the trial's number."""
    return folder.name.rpartition("_")[2] == str(number)


@pytest.fixture
def sweep(lab, slurm):
    return Sweep(Submitter(lab, slurm, runs={"x": ["slurm_optuna", "gh_000"]}))


class Sweep:
    """An experiment with a sweep by Optuna on the machine `slurm`, and what is left of it."""

    def __init__(self, jobs):
        self.jobs, self.lab, self.slurm = jobs, jobs.lab, jobs.slurm
        self.conf = jobs.experiment / "conf/x_slurm_optuna.yaml"

    def quick(self, body="pass"):
        (self.jobs.experiment / "scripts/x.py").write_text(QUICK.format(body=body))

    def edit(self, old, new):
        self.jobs.edit("conf/x_slurm_optuna.yaml", old, new)

    def submit(self, tasks=8):
        [number] = submitted(self.jobs.submit("slurm_x_optuna", "--", f"--array=0-{tasks - 1}"))
        return number

    def wait(self, number, tasks=8):
        """The states in which the tasks of an array end."""
        return Counter(self.slurm.wait(f"{number}_{task}", seconds=120)["JobState"] for task in range(tasks))

    def logs(self):
        return "".join(path.read_text() for path in sorted(self.jobs.logs.glob("*.out")))

    def trials(self, *states):
        return trials_of(self.lab, *states)

    def folders(self):
        return sorted(self.lab.data.glob("experiments/011-x/runs/x_slurm_optuna/*"))

    def record(self, trial):
        records = [json.loads((folder / "provenance.json").read_text()) for folder in self.folders()]
        [record] = [record for record, path in zip(records, self.folders(), strict=True) if ends(path, trial.number)]
        return record

    def check(self, wanted):
        """As many trials as are wanted are complete, each in a folder of its own; no proposal was completed twice."""
        complete = self.trials(TrialState.COMPLETE)
        assert len(complete) == wanted, self.logs()
        assert len({tuple(trial.params.values()) for trial in complete}) == wanted
        assert {self.record(trial)["status"] for trial in complete} == {"finished"}


@pytest.mark.parametrize("repeat", range(3))
def test_eight_workers_complete_64_trials_each_once(sweep, repeat):
    if repeat:
        sweep.quick()
    number = sweep.submit()
    assert sweep.wait(number) == {"COMPLETED": 8}, sweep.logs()
    sweep.check(64)
    assert len(sweep.trials()) == 64
    assert len({trial.user_attrs["worker"][1] for trial in sweep.trials()}) > 1
    assert f"study {STUDY} is finished: 64 of 64 trials complete, 0 running, 0 failed, best " in sweep.logs()
    if not repeat:
        figures = sorted(path.name.rsplit("_", 1)[0] for path in (sweep.lab.images / STUDY).iterdir())
        assert figures == sorted(f"{STUDY}_{trial}" for trial in range(64))


def test_what_killed_workers_left_is_taken_up_by_submitting_again(sweep):
    again = "os.path.exists(os.environ['DATA_ROOT'] + '/again')"
    sweep.quick(f"time.sleep(0.3 if os.environ['SLURM_ARRAY_TASK_ID'] > '2' or {again} else 600)")
    number = sweep.submit()
    wait_until(lambda: sweep.folders() and len(sweep.trials(TrialState.COMPLETE)) == 61, 120, sweep.logs, every=0.5)
    lost = sweep.trials(TrialState.RUNNING)
    assert {trial.user_attrs["worker"][1] for trial in lost} == {f"{number}_{task}" for task in range(3)}
    for task in range(3):
        sweep.slurm("scancel", "--full", "--signal=KILL", f"{number}_{task}")
    assert sweep.wait(number)["COMPLETED"] == 5
    (sweep.lab.data / "again").touch()
    assert sweep.wait(sweep.submit()) == {"COMPLETED": 8}, sweep.logs()
    sweep.check(64)
    complete = [trial.params for trial in sweep.trials(TrialState.COMPLETE)]
    assert all(trial.params in complete for trial in lost)
    assert [trial.number for trial in sweep.trials(TrialState.FAIL)] == [trial.number for trial in lost]
    assert len(sweep.trials()) == 67
    again = sweep.submit(2)
    assert sweep.wait(again, 2) == {"COMPLETED": 2}
    log = (sweep.jobs.logs / f"011-x_slurm_optuna_{again}_1.out").read_text()
    assert log.startswith(f"study {STUDY} is finished: 64 of 64 trials complete, 0 running, 3 failed, best ")
    assert log.count("\n") == 1 and len(sweep.trials()) == 67


def test_a_requeued_worker_takes_up_its_own_trial(sweep):
    sweep.quick("time.sleep(0 if os.environ.get('SLURM_RESTART_COUNT') else 60)")
    sweep.edit("n_trials: 64", "n_trials: 2")
    number = sweep.submit(1)
    wait_until(lambda: list(sweep.lab.data.rglob("provenance.json")), 30)
    sweep.slurm("scontrol", "requeue", f"{number}_0")
    time.sleep(2)
    sweep.slurm("scontrol", "update", f"jobid={number}_0", "StartTime=now")
    assert sweep.wait(number, 1) == {"COMPLETED": 1}, sweep.logs()
    states = [trial.state.name for trial in sweep.trials()]
    assert states == ["FAIL", "COMPLETE", "COMPLETE"]
    assert sweep.trials()[0].params == sweep.trials()[1].params


def test_two_launchers_of_one_study_at_once(sweep):
    sweep.quick("time.sleep(0.1)")
    numbers = [sweep.submit(), sweep.submit()]
    for number in numbers:
        assert sweep.wait(number) == {"COMPLETED": 8}, sweep.logs()
    sweep.check(64)
    assert len(sweep.trials()) == 64
    assert {trial.user_attrs["worker"][1].split("_")[0] for trial in sweep.trials()} == set(numbers)


def test_a_worker_that_cannot_tell_who_lives_stops(sweep):
    sweep.jobs.edit("scripts/slurm_x_optuna.slurm", "--format=%i)", "--format=%i | grep -v '' || true)")
    number = sweep.submit(1)
    assert sweep.slurm.wait(f"{number}_0")["JobState"] == "FAILED"
    assert sweep.logs() == (
        f"optuna_worker.py: x_slurm_optuna: what squeue lists of this user's 0 jobs lacks this very job, {number}_0\n"
    )


def test_a_trial_that_raises_is_recorded_and_replaced(sweep):
    sweep.quick("int(cfg.trial.rpartition('_')[2]) % 3 or 1 / 0")
    sweep.edit("n_trials: 64", "n_trials: 16")
    sweep.edit("max_failures: 3", "max_failures: 16")
    assert sweep.wait(sweep.submit(4), 4) == {"COMPLETED": 4}, sweep.logs()
    failed = sweep.trials(TrialState.FAIL)
    assert [trial.number for trial in failed] == list(range(0, len(sweep.trials()), 3))
    assert {trial.user_attrs["error"] for trial in failed} == {"ZeroDivisionError('division by zero')"}
    sweep.check(16)
    assert {sweep.record(trial)["status"] for trial in failed} == {"failed"}
    assert "ZeroDivisionError: division by zero" in sweep.logs()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("1 / 0", "ZeroDivisionError('division by zero')"),
        ("raise SystemExit('no such strain')", "SystemExit('no such strain')"),
        ("return None", "TypeError("),
        ("return float('nan')", "ValueError('the objective returned nan')"),
    ],
)
def test_a_worker_whose_trials_fail_stops_and_its_job_has_failed(sweep, body, error):
    sweep.quick(body)
    number = sweep.submit(1)
    job = sweep.slurm.wait(f"{number}_0")
    assert (job["JobState"], job["ExitCode"]) == ("FAILED", "1:0")
    assert [trial.state for trial in sweep.trials()] == [TrialState.FAIL] * 3
    assert all(trial.user_attrs["error"].startswith(error) for trial in sweep.trials())
    assert sweep.logs().endswith("optuna_worker.py: 3 trials failed, as above: mend the cause, then submit again\n")
    sweep.quick()
    sweep.edit("n_trials: 64", "n_trials: 2")
    assert sweep.wait(sweep.submit(1), 1) == {"COMPLETED": 1}
    sweep.check(2)


def test_workers_by_hand_take_up_what_a_killed_one_left(lab):
    experiment = lab.render(package="", runs={"x": ["slurm_optuna"]})
    script, conf = experiment / "scripts/x.py", experiment / "conf/x_slurm_optuna.yaml"
    script.write_text(QUICK.format(body="time.sleep(60)"))
    conf.write_text(conf.read_text().replace("n_trials: 64", "n_trials: 2"))
    command = [sys.executable, WORKER, "--config-name", "x_slurm_optuna"]
    first = subprocess.Popen(command, cwd=lab.path)
    wait_until(lambda: list(lab.data.rglob("provenance.json")))
    assert "0 of 2 trials complete, 1 running" in run(*command, "--report", cwd=lab.path).stdout
    first.kill()
    first.wait()
    script.write_text(QUICK.format(body="pass"))
    done = run(*command, cwd=lab.path)
    assert f"study {STUDY} is finished: 2 of 2 trials complete, 0 running, 1 failed, best " in done.stdout


@pytest.fixture
def by_hand(lab):
    """An experiment with a sweep of 2 quick trials, run without Slurm."""
    experiment = lab.render(package="", runs={"x": ["slurm_optuna", "gh_000", "gh_optuna"]})
    conf = experiment / "conf/x_slurm_optuna.yaml"
    conf.write_text(conf.read_text().replace("n_trials: 64", "n_trials: 2"))
    (experiment / "scripts/x.py").write_text(QUICK.format(body="pass"))
    return lab


def edit(lab, old, new, name="conf/x_slurm_optuna.yaml"):
    file = lab.path / "experiments/011-x" / name
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def worker(lab, *options, config="x_slurm_optuna"):
    return run(sys.executable, WORKER, "--config-name", config, *options, cwd=lab.path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("sweep:", "swept:", "Key 'sweep' is not in struct"),
        ("  n_trials: 2\n", "", "sweep lacks n_trials"),
        ("n_trials: 2", "n_trials: many", "sweep.n_trials must be a whole number above 0, and is 'many'"),
        ("max_failures: 3", "max_failures: 0", "sweep.max_failures must be a whole number above 0, and is 0"),
        ("timeout: null", "timeout: 1h", "sweep.timeout must be seconds or null, and is '1h'"),
        ("    seed: 0 #", "    # seed: 0", "sweep.sampler.seed must be a whole number, and is None"),
        ("direction: minimize", "direction: down", "must be a list of `minimize` or `maximize`, but got ['down']"),
        ("objective: x.main", "objective: x.mian", "'mian' is importable from module 'x'"),
        ("objective: x.main", "objective: y.main", "No module named 'y'"),
        ("samplers.TPESampler", "samplers.Best", "Error locating target 'optuna.samplers.Best'"),
        ("    start: {", "    strat: {", "Could not override 'strat'"),
        ("type: int", "type: whole", "sweep.params.hours is no float, int or categorical with its bounds"),
        ("high: 36", "high: 3", "(low=12, high=3)"),
        ("[2.0, 4.0, 8.0]", "[]", "sweep.params.capacity is no float, int or categorical with its bounds"),
    ],
)
def test_a_wrong_sweep_is_refused_in_one_line_before_it_begins(by_hand, old, new, reason):
    edit(by_hand, old, new)
    done = worker(by_hand)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("optuna_worker.py: x_slurm_optuna: ") and reason in line
    assert list(by_hand.data.rglob("provenance.json")) == []


def test_a_study_keeps_its_params_and_direction_and_may_be_extended(by_hand):
    assert worker(by_hand).returncode == 0
    edit(by_hand, "high: 36", "high: 48")
    refused = worker(by_hand)
    reason = f"study {STUDY} was begun with another direction or other params: name a new one"
    assert (refused.returncode, refused.stderr) == (1, f"optuna_worker.py: x_slurm_optuna: {reason}\n")
    edit(by_hand, "high: 48", "high: 36")
    edit(by_hand, "direction: minimize", "direction: maximize")
    assert reason in worker(by_hand).stderr
    edit(by_hand, "direction: maximize", "direction: minimize")
    edit(by_hand, "n_trials: 2", "n_trials: 3")
    assert "is finished: 3 of 3 trials complete" in worker(by_hand).stdout


@pytest.mark.parametrize(
    "sampler", ["GridSampler\n    search_space: {hours: [12, 24], interval: [0.5, 1.0]}", "QMCSampler"]
)
def test_samplers_that_end_or_are_experimental_work_too(by_hand, sampler):
    edit(by_hand, "TPESampler", sampler)
    conf = by_hand.path / "experiments/011-x/conf/x_slurm_optuna.yaml"
    conf.write_text(re.sub("^    (start|capacity): {.*\n", "", conf.read_text(), flags=re.MULTILINE))
    first = worker(by_hand)
    edit(by_hand, "n_trials: 2", "n_trials: 4")
    second = worker(by_hand)
    assert (first.returncode, first.stderr) == (second.returncode, second.stderr) == (0, "")
    assert len({tuple(trial.params.values()) for trial in trials_of(by_hand, TrialState.COMPLETE)}) == 4


def test_after_its_timeout_a_worker_begins_no_other_trial(by_hand):
    edit(by_hand, "pass", "time.sleep(1)", "scripts/x.py")
    edit(by_hand, "n_trials: 2", "n_trials: 100")
    edit(by_hand, "timeout: null", "timeout: 1")
    done = worker(by_hand)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"study {STUDY}: 1 of 100 trials complete, 0 running, 0 failed, best " in done.stdout


def test_any_title_and_choice_reaches_the_trial_as_it_is(lab):
    title = "\"ΔΔ\" 'x' \\n \\ # {a: b}, [$HOME] = 酵母 \\"
    experiment = lab.render(package="", title=title, runs={"x": ["slurm_optuna"]})
    edit(lab, "n_trials: 64", "n_trials: 3")
    edit(lab, "choices: [2.0, 4.0, 8.0]", "choices: ['a \"b\" = \\, c', null, true]")
    (experiment / "scripts/x.py").write_text(QUICK.format(body="print(repr(cfg.title), repr(cfg.capacity))"))
    done = worker(lab)
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if STUDY in line and not line.startswith("study")]
    chosen = [trial.params["capacity"] for trial in trials_of(lab)]
    assert printed == [f"{f'{title} ({STUDY}_{n})'!r} {choice!r}" for n, choice in enumerate(chosen)]
    assert 'a "b" = \\, c' in chosen


# Faults ---------------------------------------------------------------------


def journal_of(lab):
    return lab.data / f"experiments/011-x/studies/{STUDY}.journal"


def test_what_a_crash_left_at_the_journals_end_is_cut(by_hand):
    edit(by_hand, "n_trials: 2", "n_trials: 1")
    assert worker(by_hand).returncode == 0
    journal = journal_of(by_hand)
    for trials, rest in enumerate((b'{"op_code":4,"tri', b"\0\0\0\0", b"\n", b'\0\n\n{"op_code": 4}'), 1):
        whole = journal.read_bytes()
        journal.write_bytes(whole + rest)
        assert f"{trials} of {trials} trials complete" in worker(by_hand, "--report").stdout
        assert journal.read_bytes() == whole + rest, "a report writes nothing"
        edit(by_hand, f"n_trials: {trials}", f"n_trials: {trials + 1}")
        done = worker(by_hand)
        assert done.stderr == f"{journal}: cut {len(rest)} bytes that a crash left after the last whole line\n"
        assert f"is finished: {trials + 1} of {trials + 1} trials complete" in done.stdout
        assert journal.read_bytes().startswith(whole + b"{")


def test_other_damage_names_its_line_and_a_new_journal_begins_anew(by_hand):
    assert worker(by_hand).returncode == 0
    journal = journal_of(by_hand)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][:9] + b"\n"
    journal.write_bytes(b"".join(lines))
    for options in ((), ("--report",)):
        done = worker(by_hand, *options)
        [line] = done.stderr.splitlines()
        assert done.returncode == 1 and f"{journal}: line 4 is damaged: " in line
        assert journal.read_bytes() == b"".join(lines)
    journal.rename(by_hand.path / "data/away")
    done = worker(by_hand)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is finished: 2 of 2 trials complete, 0 running, 0 failed" in done.stdout
    assert len(list(by_hand.data.rglob("provenance.json"))) == 4


@pytest.mark.parametrize("size", [9000, 9600, 10300])
def test_a_full_disk_stops_a_worker_in_one_line_and_loses_no_trial(by_hand, size):
    edit(by_hand, "n_trials: 2", "n_trials: 24")

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    command = [sys.executable, WORKER, "--config-name", "x_slurm_optuna"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # of which a half would be left
    full = run(*command, cwd=by_hand.path, env=environment, preexec_fn=small)
    journal = journal_of(by_hand)
    assert full.returncode == 1
    assert full.stderr == f"optuna_worker.py: x_slurm_optuna: [Errno 27] File too large: '{journal}'\n"
    assert journal.read_bytes().endswith(b"}\n")
    assert worker(by_hand).returncode == 0
    complete = trials_of(by_hand, TrialState.COMPLETE)
    assert len(complete) == len({tuple(trial.params.values()) for trial in complete}) == 24


def test_workers_killed_at_random_lose_and_repeat_nothing(by_hand):
    edit(by_hand, "n_trials: 2", "n_trials: 24")
    edit(by_hand, "pass", "time.sleep(0.4)", "scripts/x.py")
    command = [sys.executable, WORKER, "--config-name", "x_slurm_optuna"]
    random = Random(0)
    for _ in range(3):
        workers = [subprocess.Popen(command, cwd=by_hand.path, stdout=subprocess.DEVNULL) for _ in range(4)]
        time.sleep(random.uniform(2, 4))
        for process in workers:
            process.kill()
            process.wait()
    assert worker(by_hand).returncode == 0
    complete = trials_of(by_hand, TrialState.COMPLETE)
    assert len(complete) == len({tuple(trial.params.values()) for trial in complete}) == 24
    assert trials_of(by_hand, TrialState.RUNNING) == []


def test_several_workers_in_one_job(lab, slurm):
    """More jobs than fit into an environment variable are in the list that they are given."""
    sweep = Sweep(Submitter(lab, slurm, runs={"x": [{"slurm-pack_optuna": {"ntasks": 4}}]}))
    sweep.quick("time.sleep(0.1)")
    sweep.edit("n_trials: 64", "n_trials: 16")
    launcher = "scripts/slurm_x-pack_optuna.slurm"
    sweep.jobs.edit(launcher, "--format=%i)", "--format=%i; seq -f 9%.0f_0 100000 120000)")
    number = sweep.jobs.sbatch(f"experiments/011-x/{launcher}")
    assert sweep.slurm.wait(number, seconds=120)["JobState"] == "COMPLETED", sweep.logs()
    sweep.check(16)
    assert len(sweep.trials()) == 16
    assert {trial.user_attrs["worker"][1] for trial in sweep.trials()} == {number}
    workers = {path.name.rpartition("_")[0] for path in sweep.folders()}
    assert len(workers) > 1 and workers <= {f"{number}_{task}" for task in range(4)}


def test_several_directions_have_a_pareto_front(by_hand):
    edit(by_hand, "direction: minimize", "directions: [minimize, maximize]")
    edit(by_hand, "n_trials: 2", "n_trials: 12")
    edit(by_hand, "return abs(cfg.start - 0.05)", "return cfg.start, cfg.hours", "scripts/x.py")
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
    edit(by_hand, "return cfg.start, cfg.hours", "return cfg.start", "scripts/x.py")
    edit(by_hand, "n_trials: 12", "n_trials: 13")
    assert "the objective returned 1 values for 2 directions" in worker(by_hand).stderr


def test_two_configurations_may_share_a_study(by_hand):
    assert worker(by_hand).returncode == 0
    edit(by_hand, "study: 011-x_gh_optuna", f"study: {STUDY}", "conf/x_gh_optuna.yaml")
    edit(by_hand, "n_trials: 64", "n_trials: 4", "conf/x_gh_optuna.yaml")
    assert "is finished: 4 of 4 trials complete" in worker(by_hand, config="x_gh_optuna").stdout
    runs = by_hand.data / "experiments/011-x/runs"
    assert {path.name[-2:] for path in (runs / "x_gh_optuna").iterdir()} == {"_2", "_3"}
    assert "is finished: 4 of 2 trials complete" in worker(by_hand).stdout


def test_a_study_is_repeated_by_its_seed(by_hand):
    def proposals():
        assert worker(by_hand).returncode == 0
        overrides = sorted(by_hand.data.rglob(".hydra/overrides.yaml"))
        values = [path.read_text().split("- trial")[0] for path in overrides]
        shutil.rmtree(by_hand.data / "experiments")
        return values

    first = proposals()
    assert len(set(first)) == 2
    assert proposals() == first
    edit(by_hand, "seed: 0 # with", "seed: 1 # with")
    assert not set(proposals()) & set(first)


def test_the_report_has_the_best_trials_and_figures_of_them_all(by_hand):
    none = worker(by_hand, "--report")
    journal = by_hand.data / f"experiments/011-x/studies/{STUDY}.journal"
    assert none.stderr == (f"optuna_worker.py: x_slurm_optuna: study {STUDY} has not begun: there is no {journal}\n")
    assert none.returncode == 1 and list(by_hand.data.iterdir()) == list(by_hand.images.iterdir()) == []
    edit(by_hand, "n_trials: 2", "n_trials: 1")
    assert worker(by_hand).returncode == 0
    one = worker(by_hand, "--report")
    assert (one.returncode, one.stderr) == (1, "A report needs two complete trials.\n")
    edit(by_hand, "n_trials: 1", "n_trials: 12")
    assert worker(by_hand).returncode == 0
    done = worker(by_hand, "--report")
    assert (done.returncode, done.stderr) == (0, "")
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
            assert image.width > 600 and len(image.convert("L").resize((200, 150)).getcolors(256)) > 10
            assert image.text["Study"] == STUDY and image.text["Script"] == WORKER
            assert image.text["Commit"] == git(by_hand.path, "rev-parse", "HEAD").strip()
    again = rows[-1].removeprefix("again:  ")
    assert again.startswith("python experiments/011-x/scripts/x.py --config-name x_slurm_optuna start=")
    edit(by_hand, "return abs", "print('value', abs(cfg.start - 0.05))\n    return abs", "scripts/x.py")
    with (by_hand.path / "experiments/011-x/scripts/x.py").open("a") as file:
        file.write("\nmain()\n")
    assert f"value {values[0]:.6g}"[:10] in run("bash", "-c", again, cwd=by_hand.path).stdout


def test_the_command_of_the_rendered_readme(by_hand):
    edit(by_hand, "n_trials: 64", "n_trials: 2", "conf/x_gh_optuna.yaml")
    text = (by_hand.path / "experiments/011-x/README.md").read_text()
    [work] = re.findall("^python .*optuna_worker.py --config-name x_gh_optuna$", text, flags=re.MULTILINE)
    assert "is finished: 2 of 2 trials complete" in run("bash", "-c", work, cwd=by_hand.path).stdout


def test_the_oldest_optuna(by_hand):
    """All other tests run the newest."""
    edit(by_hand, "n_trials: 2", "n_trials: 8")
    uv = ["uv", "run", "--python", sys.executable, "--with", "optuna==4.3.0", WORKER, "--config-name", "x_slurm_optuna"]
    assert run(*uv, "--help", cwd=by_hand.path).returncode == 0
    workers = [subprocess.Popen(uv, cwd=by_hand.path) for _ in range(2)]
    assert [process.wait() for process in workers] == [0, 0]
    assert [trial.state for trial in trials_of(by_hand)] == [TrialState.COMPLETE] * 8
    done = run(*uv, "--report", cwd=by_hand.path)
    assert done.returncode == 0, done.stderr
    assert len(list(by_hand.images.glob("*.png"))) == 3


# Weights & Biases --------------------------------------------------------------


@pytest.fixture
def wandb_lab(lab):
    lab.render(package="", runs={"x": ["delta_wandb", "gh_000"]})
    return lab


def sweep_file(lab):
    return yaml.safe_load((lab.path / "experiments/011-x/conf/x_delta_wandb.yaml").read_text())


def schema():
    """The JSON schema of a sweep that W&B publishes, of which numbers such as an unquoted 1e-4 are no numbers."""
    [file] = [path for path in importlib.metadata.files("sweeps") if path.name == "schema.json"]
    return jsonschema.Draft7Validator(json.loads(file.read_text()))


def test_the_sweep_file_is_one_of_wandb(wandb_lab):
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
def test_a_spoiled_sweep_file_is_none_of_wandb(wandb_lab, old, new):
    edit(wandb_lab, old, new, "conf/x_delta_wandb.yaml")
    assert list(schema().iter_errors(sweep_file(wandb_lab)))


def test_the_command_of_the_sweep_runs_the_script_as_the_agent_would(wandb_lab, monkeypatch):
    """All of an agent's work but W&B's own part, which needs an account: its proposal, and that the run is online."""
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
    assert len(list(wandb_lab.data.glob("experiments/011-x/runs/x_delta_wandb/*/wandb/offline-run-*"))) == 1
    [figure] = wandb_lab.images.iterdir()
    assert figure.name.startswith("011-x_delta_wandb_")


def test_an_offline_run_is_whole_under_data_root(wandb_lab, tmp_path):
    done = wandb_lab.start("x_gh_000", "wandb.mode=offline", env={"HOME": str(tmp_path / "home")})
    assert done.returncode == 0, done.stderr
    [log] = wandb_lab.data.glob("experiments/011-x/runs/x_gh_000/*/wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"error" in content and b"011-x_gh_000" in content
    assert git(wandb_lab.path, "status", "--porcelain") == ""
    assert not (wandb_lab.path / "wandb").exists()


def test_disabled_never_imports_wandb_and_other_modes_do(wandb_lab, tmp_path):
    (tmp_path / "wandb.py").write_text("raise ImportError('imported')\n")
    paths = {"PYTHONPATH": f"{tmp_path}"}
    assert wandb_lab.start("x_gh_000", env=paths).returncode == 0
    assert "ImportError: imported" in wandb_lab.start("x_gh_000", "wandb.mode=offline", env=paths).stderr


@pytest.mark.parametrize(
    ("mode", "environment", "reason"),
    [
        ("off", {}, "wandb.mode is off: set it to disabled, offline or online."),
        ("offline", {"WANDB_MODE": ""}, "WANDB_MODE is empty: unset it."),
    ],
)
def test_a_wrong_mode_stops_in_one_line(wandb_lab, mode, environment, reason):
    done = wandb_lab.start("x_gh_000", f"wandb.mode={mode}", env=environment)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, reason)
    assert list(wandb_lab.images.iterdir()) == []


def test_an_agent_without_a_sweep_says_how_to_make_one(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["slurm_wandb"]})
    number = jobs.sbatch("--array=0", "experiments/011-x/scripts/slurm_x_wandb.slurm")
    assert slurm.wait(f"{number}_0")["JobState"] == "FAILED"
    log = (jobs.logs / f"011-x_slurm_wandb_{number}_0.out").read_text()
    advice = "SWEEP_ID: is not set. Set it to what this prints: wandb sweep experiments/011-x/conf/x_slurm_wandb.yaml\n"
    assert log.endswith(advice)
    assert (lab.path / advice.split()[-1]).is_file()


def test_an_agent_without_an_account_fails_its_job_and_says_so(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["slurm_wandb"]})
    launcher = "experiments/011-x/scripts/slurm_x_wandb.slurm"
    number = jobs.sbatch("--array=0", "--export=ALL,SWEEP_ID=lab/011-x/abc", launcher)
    assert slurm.wait(f"{number}_0")["JobState"] == "FAILED"
    log = (jobs.logs / f"011-x_slurm_wandb_{number}_0.out").read_text()
    assert "API key" in log or "api_key" in log
    assert git(lab.path, "status", "--porcelain") == ""
