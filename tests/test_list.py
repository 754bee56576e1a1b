"""list: print runs and their states, and change nothing."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.process import run
from support.updating import TOOL, WITH_TOOL, contents, restored, tool

from experiments import history, points
from experiments.experiment import Experiment
from experiments.git import Repository
from experiments.history import History, resolve_histories
from experiments.records import RunInfo, resolve_states, state_of
from experiments.slurm import Ended, Job, Key, Queue


def record(lab, config, name, status, **facts):
    """Write the record of a run."""
    folder = lab.data / "experiments/011-x/runs" / config / name
    folder.mkdir(parents=True)
    whole = {"status": status, "error": None, "job": None, "commit": "a" * 40, "dirty": True, "slurm": {}}
    whole |= {"started": "2026-01-02T03:04:05+00:00", "config": config, "script": "x.py", "figures": []}
    (folder / "provenance.json").write_text(json.dumps(whole | facts))
    return folder


@pytest.fixture
def ran(lab):
    lab.render(runs={"x": ["gh_000", "delta_001"]})
    (lab.images / "a.svg").write_text("<svg/>")
    record(lab, "x_gh_000", "1", "finished", figures=[str(lab.images / "a.svg")])
    record(lab, "x_gh_000", "2", "failed", error="ValueError: [red]no[/x]")
    record(lab, "x_delta_001", "686", "running", job="686")
    (record(lab, "x_delta_001", "687", "running") / "provenance.json").write_text("{")
    record(lab, "x_delta_001", "688", "finished", error="x" * 11_000_000)
    (lab.data / "experiments/011-x/runs/x_gh_000/1/link").symlink_to(lab.data)
    return lab


def test_list_prints_runs_and_changes_nothing(ran):
    before = contents(ran.path)
    every, one, data = tool(ran, "list"), tool(ran, "list", "experiments/011-x"), tool(ran, "list", "--json")
    assert every.returncode == one.returncode == data.returncode == 0, every.stderr + one.stderr
    assert "1 finished, 1 failed" in every.stdout and "2 unreadable" in every.stdout and "v1.0.0" in every.stdout
    assert "ValueError: [red]no[/x]" in one.stdout and "aaaaaaaa+" in one.stdout
    [listed] = json.loads(data.stdout)
    assert listed["counts"]["finished"] == 1 and 11_000_500 < listed["runs_bytes"] < 11_005_000
    assert contents(ran.path) == before


def test_list_finds_env_files_like_a_run(ran):
    """The nearest .env above the scripts wins over that of the repository's root."""
    (ran.path / ".env").rename(ran.path / "experiments/.env")
    assert "1 finished, 1 failed" in tool(ran, "list").stdout
    (ran.path / ".env").write_text("DATA_ROOT=/nowhere\n")
    assert "1 finished, 1 failed" in tool(ran, "list").stdout
    assert "no runs" in tool(ran, "list", env={"DATA_ROOT": "/nowhere"}).stdout
    for file in (ran.path / ".env", ran.path / "experiments/.env"):
        file.unlink()
    done = tool(ran, "list")
    assert done.returncode == 1 and f"DATA_ROOT is not set in {ran.path}/.env. Set it" in done.stderr


LOADED = """\
import os, sys
sys.path.insert(0, "experiments/011-x/scripts")
from dotenv import load_dotenv
from runtime import find_env
load_dotenv(find_env())
print(os.path.realpath(find_env()), os.environ.get("DATA_ROOT", ""), sep="\\n")
"""
NEAR = "experiments/011-x/scripts/.env"


@pytest.mark.parametrize(
    ("files", "environment"),
    [
        ({".env": "DATA_ROOT=/a"}, {}),
        ({".env": "DATA_ROOT=/a", "experiments/.env": "OTHER=1"}, {}),
        ({".env": "DATA_ROOT=/a", NEAR: "DATA_ROOT=/b"}, {}),
        ({".env": "DATA_ROOT=/a", NEAR: None}, {}),
        ({"experiments/.env": None}, {"DATA_ROOT": "/c"}),
        ({".env": "DATA_ROOT=/a"}, {"DATA_ROOT": "/c"}),
        ({".env": "DATA_ROOT=/a"}, {"DATA_ROOT": ""}),
        ({".env": "BASE=/a\nDATA_ROOT=${BASE}/x"}, {"BASE": "/shell"}),
        ({".env": "BASE=/a\nDATA_ROOT=${BASE}/x"}, {}),
        ({".env": "DATA_ROOT=/a"}, {"PYTHON_DOTENV_DISABLED": "1"}),
    ],
)
def test_env_file_of_list_is_that_of_scripts(lab, files, environment):
    """Python, bash and the command look for .env. A folder of that name (None) is skipped."""
    lab.render()
    (lab.path / ".env").unlink()
    for name, text in files.items():
        (lab.path / name).mkdir() if text is None else (lab.path / name).write_text(text)
    env, data = lab.python("-c", LOADED, env=environment).stdout.splitlines()
    found = Experiment.open(lab.path / "experiments/011-x")
    assert str(history.find_env(found)) == env
    pin = found.path / "scripts/runtime/pin.sh"
    bash = 'root=$1 scripts=$1/experiments/011-x/scripts; readonly root scripts folder; . "$2"; find_env; echo "$env"'
    assert run("bash", "-c", bash, "-", lab.path, pin).stdout == f"{env}\n"
    with restored(lab.path, environment):
        before = dict(os.environ)
        assert history.load_env(history.find_env(found)).get("DATA_ROOT", "") == data
        assert dict(os.environ) == before


def test_list_includes_multirun_runs(lab):
    lab.render(runs={"x": ["gh_000"]})
    lab.start("x_gh_000", "--multirun", "noise=0.1,0.2,none")
    [listed] = json.loads(tool(lab, "list", "--json").stdout)
    runs = listed["runs"]
    time = runs[0]["name"].partition("/")[0]
    assert [(run["config"], run["name"], run["state"]) for run in runs] == [
        ("x_gh_000", f"{time}/0", "finished"),
        ("x_gh_000", f"{time}/1", "finished"),
        ("x_gh_000", f"{time}/2", "failed"),
    ]
    assert [Path(run["figure"]).is_file() for run in runs] == [True, True, False]
    figure = runs[1]["figure"]
    assert f"{time}/1" in tool(lab, "list", "--figure", figure).stdout


FACTS = {
    "Script": "x.py",
    "Configuration": "x_gh_000",
    "Overrides": r"hours=(1) title='\ é'",
    "Commit": "abc",
    "Job": "7",
    "Run": "/data/a run (1)",
}
SAVE = """import json, sys
sys.path.insert(0, "experiments/011-x/scripts")
from matplotlib.figure import Figure
from runtime.figures import write_figure
write_figure(Figure(), "images/a.png", ["svg", "pdf", "gif"], json.loads(sys.argv[1]), {})
"""


def test_figure_metadata_names_its_run(lab):
    """The metadata of run.save stays with the figure if it is moved. Records name its old path."""
    lab.render()
    lab.python("-c", SAVE, json.dumps(FACTS), check=True)
    (lab.path / ".env").unlink()
    for name in ("a.png", "a.svg", "a.pdf", "a.gif"):
        moved = (lab.images / name).rename(lab.images / f"moved-{name}")
        done = tool(lab, "list", "--json", "--figure", moved)
        expected = FACTS | {"State": "unknown: its commit was not recorded"}
        assert done.returncode == 0 and json.loads(done.stdout) == expected, done.stdout + done.stderr
        assert "/data/a run (1)" in tool(lab, "list", "--figure", moved).stdout


def test_figure_without_metadata_is_found_in_records(ran):
    done = tool(ran, "list", "--figure", "images/a.svg")
    assert done.returncode == 0 and "011-x/runs/x_gh_000/1" in done.stdout
    odd = {"g.svg": '<?xml version="1.0" encoding="odd"?><svg/>', "h.png": "\x89PNG", "i.PNG": ""}
    bad = {"b.svg": "<svg/>", "c.svg": "<svg", "d.png": "no", "e.pdf": "/Run (", "f.jpg": ""}
    for name, content in (bad | odd).items():
        (ran.images / name).write_text(content)
        done = tool(ran, "list", "--figure", f"images/{name}")
        assert done.returncode == 1 and "no record contains it" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("recorded", "queued", "ended", "state"),
    [
        ("running", "RUNNING", "", "running"),
        ("running", "CONFIGURING", "", "configuring"),
        ("terminated", "PENDING", "", "queued"),
        ("terminated", "RUNNING", "", "terminated"),
        ("finished", "COMPLETING", "", "finished"),
        ("finished", "", "", "finished"),
        ("running", "", "", "lost"),
        ("running", "", "COMPLETED", "lost"),
        ("running", "", "OUT_OF_MEMORY", "out of memory"),
        ("running", "", "FAILED", "failed"),
        ("running", "", "BOOT_FAIL", "node failed"),
        ("terminated", "", "TIMEOUT", "time limit"),
        ("terminated", "", "FAILED", "terminated"),
        ("failed", "", "CANCELLED", "failed"),
        ("", "", "COMPLETED", "finished"),
        ("", "", "NEW_WORD", "new word"),
        ("", "", "", "no record"),
    ],
)
def test_state_combines_record_and_slurm(recorded, queued, ended, state):
    job = Job("687_3", queued, "any", "/lab") if queued else None
    end = Ended("687_3", ended, "any", "/lab", "0:9") if ended else None
    assert state_of(recorded, job, end, is_here=True) == state


def test_state_without_slurm_is_the_recorded_one():
    assert state_of("running", None, None, is_here=False) == "running"


def test_array_numbers_are_grouped():
    assert points.array_of([9, 3, 7, 10, 12, 11]) == "3,7,9-12"
    assert points.array_of([]) == "" and points.array_of([0, 1]) == "0-1"


def test_jobs_without_a_receipt_are_matched_by_name(lab):
    """A colleague's clone has jobs of the same names, so the user is not enough."""
    root = lab.path.resolve()
    found = Experiment(lab.render(runs={"x": ["gh_000"]}).resolve(), Repository(root))
    jobs = {
        "1": Job("1", "PENDING", "011-x_gh_000", str(root)),
        "2_3": Job("2_3", "CONFIGURING", "011-x_gh_000", f"{root}/experiments/011-x/slurm/code/abc"),
        "3": Job("3", "PENDING", "011-x_gh_000", "/home/colleague/lab"),
        "4": Job("4", "PENDING", "011-x_gh_000", f"{root}-2"),
        "5": Job("5", "PENDING", "012-x_gh_000", str(root)),
        "6": Job("6", "PENDING", "011-notebook", str(root)),
        "7": Job("7", "RUNNING", "011-x_gh_000", str(root)),
        "8": Job("8", "PENDING", "011-query_gh_001", str(root)),
    }
    known = [RunInfo("x_gh_000", "7", "running", "7", entry="7")]
    history = History(found, root, known, {})
    resolve_histories([history], Queue("lab", jobs))
    states = {run.job: run.state for run in history.runs}
    assert states == {"1": "queued", "2_3": "configuring", "7": "running", "8": "queued"}


def test_job_of_another_cluster_keeps_its_state(lab):
    """Two clusters can share a disk. Both use the same numbers, and jobs are renamed."""
    queue = Queue("here", {"7": Job("7", "PENDING", "blast", "/lab")})
    clusters = {"here": "queued", "elsewhere": "running", "": "queued"}
    runs = [RunInfo("x", "7", "running", "7", cluster, "7") for cluster in clusters]
    resolve_states(runs, queue, {Key("third", "7"): Ended("7", "TIMEOUT", "blast", "/lab", "0:0")})
    assert {run.cluster: run.state for run in runs} == clusters


def test_queued_tasks_of_a_throttled_array_are_listed(lab, slurm, monkeypatch):
    lab.render(runs={"x": ["gh_000", "delta_001"]})
    monkeypatch.setenv("SQUEUE_STATES", "COMPLETED")
    options = ["--hold", "--parsable", "--array=3-5%1", "--job-name=011-x_gh_000", f"--chdir={lab.path}", "--wrap=true"]
    number = slurm("sbatch", *options).strip()
    try:
        jobs = Queue.read().jobs
        assert {f"{number}_{task}" for task in (3, 4, 5)} <= jobs.keys()
        done = tool(lab, "list", "experiments/011-x")
        assert done.stdout.count(" queued") == 3 and f"{number}_4" in done.stdout
    finally:
        slurm("scancel", number)


def test_list_cuts_long_lines_and_handles_closed_pipes(ran):
    record(ran, "x_gh_000", "3", "failed", error="no " * 1000)
    done = tool(ran, "list", "experiments/011-x")
    assert len([line for line in done.stdout.splitlines() if "no no" in line]) == 1
    reader, writer = os.pipe()
    os.close(reader)
    command = [*TOOL, "list", "experiments/011-x"]
    with open(writer, "w") as pipe:
        done = subprocess.run(command, cwd=ran.path, env=os.environ | WITH_TOOL, stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
