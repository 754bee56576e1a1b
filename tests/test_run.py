"""Run: a starter writes figure, table and record. It stops at once if a requirement is missing."""

import ast
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from support import offline
from support.lab import make_lab, write_program
from support.preflight import preflight
from support.process import commit, edit, git, run, wait_until
from support.updating import tool

VARIABLES = ["DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"]


def outputs(lab):
    """Return the figures and records of the lab, oldest first."""
    records = sorted((lab.data / "experiments/011-x/runs").glob("*/*/provenance.json"))
    return sorted(lab.images.iterdir()), [json.loads(record.read_text()) for record in records]


def test_run_writes_figure_and_table(lab):
    experiment = lab.render()
    done = lab.start()
    assert done.returncode == 0, done.stderr
    [figure], [record] = outputs(lab)
    folder = Path(record["folder"])
    assert done.stdout == f"figure: {figure}\n" and done.stderr == ""

    with Image.open(figure) as image:
        assert image.size == (1039, 708)
        assert len(image.getcolors(1 << 20)) > 50, "the figure is empty"
        told = {key: value for key, value in image.text.items() if key != "Software"}
    assert told == {
        "Title": "Logistic growth of a wild type and its mutants",
        "Script": "experiments/011-x/scripts/x.py",
        "Configuration": "x_gh_000",
        "Overrides": "",
        "Commit": git(lab.path, "rev-parse", "HEAD").strip(),
        "Job": "none",
        "Run": str(folder),
    }
    assert figure.name.startswith("011-x_gh_000_20") and figure.suffix == ".png"

    with open(experiment / "results/x_gh_000.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["strain"] for row in rows] == ["wild type", "gcn5Δ", "sfp1Δ"]
    assert all(abs(float(row["fitted_rate"]) - float(row["rate"])) < 0.02 for row in rows)
    assert (folder / "x_gh_000.csv").read_text() == (experiment / "results/x_gh_000.csv").read_text()


def test_run_writes_its_record(lab):
    experiment = lab.render()
    assert lab.start().returncode == 0
    [figure], [record] = outputs(lab)
    folder = Path(record["folder"])
    assert folder.parent == lab.data / "experiments/011-x/runs/x_gh_000"
    assert {".hydra", "metrics.jsonl", "provenance.json", "x_gh_000.csv"} == {path.name for path in folder.iterdir()}
    tables = [folder / "x_gh_000.csv", experiment / "results/x_gh_000.csv"]
    assert record["figures"] == [str(figure)] and record["tables"] == list(map(str, tables))
    assert (record["config"], record["stem"], record["overrides"]) == ("x_gh_000", "011-x_gh_000", [])
    [attempt] = record["attempts"]
    assert attempt == {name: record[name] for name in attempt if name != "restart"} | {"restart": 0}
    assert record["status"] == "finished" and record["error"] is None
    assert (record["commit"], record["dirty"]) == (git(lab.path, "rev-parse", "HEAD").strip(), False)
    assert record["command"].endswith("experiments/011-x/scripts/x.py --config-name x_gh_000")
    assert record["slurm"] == {} and record["host"]
    assert record["started"] <= record["finished"]
    assert {"python", "hydra", "matplotlib", "numpy"} <= set(record["versions"])
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["configuration"].keys() >= {"seed", "noise", "strains", "wandb", "task"}
    assert record["configuration"]["folder"] == "${hydra:runtime.output_dir}" and record["configuration"]["task"] == 0
    usage = record["usage"]
    assert 0 < usage["seconds"] < 60 and 30e6 < usage["process_bytes"] < 2e9
    assert usage["child_bytes"] > 1e5 and usage["job_bytes"] is None, "git is the largest child"

    assert git(lab.path, "status", "--porcelain") == "?? experiments/011-x/results/x_gh_000.csv\n"


def test_multirun_is_one_run_per_value(lab):
    experiment = lab.render(title=r"A $\frac{ of 100 % {braces} \n and 酵母, as it is")
    done = lab.start("x_gh_000", "--multirun", "seed=1,1,2", "strains={wild type: 0.6}")
    assert done.returncode == 0, done.stderr
    names = [path.name[:18] for path in outputs(lab)[0]]
    assert names == ["011-x_gh_000_0_202", "011-x_gh_000_1_202", "011-x_gh_000_2_202"]
    tables = [(experiment / f"results/x_gh_000_{number}.csv").read_text() for number in range(3)]
    assert tables[0] == tables[1] != tables[2], "the seed, and nothing else, decides"
    assert all("wild type,0.6,0." in table for table in tables)
    records = sorted((lab.data / "experiments/011-x/runs/x_gh_000").glob("*/*/provenance.json"))
    overrides = [json.loads(record.read_text())["overrides"][0] for record in records]
    assert overrides == ["seed=1", "seed=1", "seed=2"]


def test_dirty_marks_uncommitted_changes(lab):
    experiment = lab.render()
    (experiment / "conf/default.yaml").write_text((experiment / "conf/default.yaml").read_text() + "extra: 1\n")
    assert lab.start().returncode == 0
    [figure], [record] = outputs(lab)
    assert record["dirty"] is True
    with Image.open(figure) as image:
        assert image.text["Commit"].endswith("-dirty")
    git(lab.path, "checkout", "--quiet", ".")
    git(lab.path, "config", "core.quotePath", "false")
    code = f"import sys; sys.path.insert(0, {str(experiment / 'scripts')!r}); import runtime\n"
    for new, is_dirty in (
        ("experiments/011-x/scripts/new.py", True),
        ("experiments/011-x/queries/caf\udce9.cql", True),
        ("torchcell/new.py", True),
        ("notes.md", False),
        ("experiments/012-y/new.py", False),
    ):
        path = lab.path / new
        path.parent.mkdir(exist_ok=True)
        path.touch()
        done = lab.python("-c", f"{code}print(runtime.provenance()['dirty'])")
        assert (done.stdout, done.stderr) == (f"{is_dirty}\n", ""), new
        path.unlink()


def test_commit_is_null_outside_a_repository(lab):
    lab.render()
    lab.write_light()
    run("rm", "-r", lab.path / ".git")
    done = lab.start(script="light")
    assert done.returncode == 0
    assert "provenance: no commit is recorded: fatal: not a git repository" in done.stderr
    assert outputs(lab)[1][0]["commit"] is None


def test_commit_of_pinned_code_is_read_without_git(lab):
    experiment = lab.render()
    pinned = lab.path / "slurm-code"
    (pinned / "experiments").mkdir(parents=True)
    experiment.rename(pinned / "experiments/011-x")
    run("cp", "-r", pinned / "experiments/011-x", experiment, check=True)
    run("cp", "-r", lab.path / "torchcell", pinned, check=True)
    (pinned / "experiments/011-x/conf/default.yaml").write_text("title: as submitted\n")
    facts = {"commit": "c" * 40, "dirty": True, "experiment": str(experiment)}
    (pinned / "submitted.json").write_text(json.dumps(facts))
    (pinned / ".env").symlink_to(lab.path / ".env")
    (lab.path / "bin").mkdir()
    (lab.path / "bin/git").write_text("#!/bin/sh\necho git was called >&2\nexit 1\n")
    (lab.path / "bin/git").chmod(0o755)
    path = f"{lab.path}/bin{os.pathsep}{os.environ['PATH']}"
    done = run(sys.executable, pinned / "experiments/011-x/scripts/x.py", env=os.environ | {"PATH": path}, cwd=pinned)
    assert (done.returncode, done.stderr) == (0, "")
    _, [record] = outputs(lab)
    assert (record["commit"], record["dirty"]) == ("c" * 40, True)
    assert (experiment / "results/x_gh_000.csv").exists()
    assert "as submitted" in (Path(record["folder"]) / ".hydra/config.yaml").read_text()


def test_runs_in_the_same_second_have_separate_folders(lab):
    """A fixed clock gives all of them the same time."""
    experiment = lab.render()
    process, timestamp = experiment / "scripts/runtime/process.py", lab.path / "torchcell/timestamp.py"
    for file in (process, timestamp):
        text = file.read_text()
        assert "datetime.now()" in text
        file.write_text(text.replace("datetime.now()", "datetime(2026, 1, 1)"))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: lab.start(), range(4)))
    assert [process.returncode for process in done] == [0] * 4, [process.stderr for process in done]
    figures, records = outputs(lab)
    time = "2026-01-01-00-00-00"
    assert {path.stem for path in figures} == {f"011-x_gh_000_{time}{n}" for n in ("", "_2", "_3", "_4")}
    assert all(figure.stat().st_size > 10_000 for figure in figures)
    assert {Path(record["folder"]).name for record in records} == {f"{time}-000000{n}" for n in ("", "_2", "_3", "_4")}
    assert len({process.stdout for process in done}) == 4


JOB = {
    "EXPERIMENT_JOB": "686",
    "EXPERIMENT_MODE": "one",
    "SLURM_JOB_ID": "688",
    "SLURM_ARRAY_JOB_ID": "686",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_JOB_NAME": "011-x_gh_000",
}


def test_job_and_task_are_in_names_and_record(lab):
    experiment = lab.render()
    assert lab.start(env=JOB).returncode == 0
    [figure], [record] = outputs(lab)
    assert figure.name.startswith("011-x_gh_000_3_20")
    assert record["slurm"] == {name: value for name, value in JOB.items() if name.startswith("SLURM")}
    assert record["job"] == "686_3" and record["folder"].endswith("/runs/x_gh_000/686_3")
    assert (experiment / "results/x_gh_000_3.csv").exists()
    with Image.open(figure) as image:
        assert image.text["Job"] == "686_3"


PASS = "The `python:` command in lab.yml must pass EXPERIMENT_* and SLURM_*."


def test_job_is_not_detected_by_the_users_variables(lab):
    lab.render()
    lab.write_light()
    by_hand = JOB | {"EXPERIMENT_JOB": "", "ENVIRONMENT": "BATCH"}
    assert lab.start(script="light", env=by_hand).returncode == 0
    assert lab.start(script="light", env=JOB | {"ENVIRONMENT": "production"}).returncode == 0
    assert sorted(str(record["job"]) for record in outputs(lab)[1]) == ["686_3", "None"]


def test_job_without_its_variables_is_refused_by_name(lab):
    lab.render()
    lab.write_light()
    slurm = {name: value for name, value in JOB.items() if name.startswith("SLURM")}
    for mode, given, missing in (
        ("one", {}, "SLURM_JOB_ID"),
        ("srun", {}, "SLURM_JOB_ID, SLURM_PROCID"),
        ("pack", slurm, "SLURM_PROCID, SLURM_NTASKS"),
        ("one", {"SLURM_JOB_ID": "688", "SLURM_ARRAY_JOB_ID": "686"}, "SLURM_ARRAY_TASK_ID"),
    ):
        done = lab.start(script="light", env={"EXPERIMENT_JOB": "686", "EXPERIMENT_MODE": mode} | given)
        assert (done.returncode, done.stderr) == (
            1,
            f"EXPERIMENT_JOB is 686, but Python did not get {missing}. {PASS}\n",
        )
    done = lab.start(script="light", env={"EXPERIMENT_JOB": "686"} | slurm)
    assert done.stderr == f"EXPERIMENT_JOB is 686, but Python did not get EXPERIMENT_MODE. {PASS}\n"
    done = lab.start(script="light", env={name: value for name, value in JOB.items() if "ARRAY" not in name})
    assert done.stderr.startswith("EXPERIMENT_JOB is 686, but Slurm's variables are those of job 688. ")
    assert done.stderr.count("\n") == 1 and outputs(lab) == ([], [])


REFUSED = "{} is not this run's folder. Move it away, or start this run under another name.\n"


def test_folder_of_a_job_is_reused_only_by_its_restart(lab):
    lab.render()
    assert lab.start(env=JOB).returncode == 0
    folder = lab.data / "experiments/011-x/runs/x_gh_000/686_3"
    before = (folder / "provenance.json").read_bytes()
    for other in ({}, {"SLURM_RESTART_COUNT": "1", "SLURM_CLUSTER_NAME": "another"}):
        done = lab.start(env=JOB | other)
        assert (done.returncode, done.stderr) == (1, REFUSED.format(folder))
    assert (folder / "provenance.json").read_bytes() == before
    assert lab.start("x_gh_000", "seed=7", env=JOB | {"SLURM_RESTART_COUNT": "1"}).returncode == 0
    figures, [record] = outputs(lab)
    assert [attempt["restart"] for attempt in record["attempts"]] == [0, 1]
    assert [attempt["status"] for attempt in record["attempts"]] == ["finished", "finished"]
    assert record["figures"] == list(map(str, figures)) and len(figures) == 2
    assert (folder / ".hydra/overrides.yaml").read_text() == "[]\n"
    assert (folder / ".hydra_1/overrides.yaml").read_text() == "- seed=7\n"


def test_existing_folder_is_refused(lab, tmp_path):
    """Cases: a user's folder, a link to another folder, a folder in place of the job's own, a record that is a link."""
    lab.render()
    lab.write_light("run.table([{'a': 1}])")
    folder = lab.data / "experiments/011-x/runs/x_gh_000/686_3"
    folder.parent.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "x_gh_000_3.csv").write_text("precious")
    for env in ({}, {"EXPERIMENT_MODE": "srun", "SLURM_PROCID": "0"}):
        folder.symlink_to(precious)
        assert lab.start(script="light", env=JOB | env).stderr == REFUSED.format(folder)
        folder.unlink()
    folder.mkdir()
    assert lab.start(script="light", env=JOB).stderr == REFUSED.format(folder)
    (folder / "provenance.json").symlink_to(precious / "x_gh_000_3.csv")
    assert lab.start(script="light", env=JOB | {"SLURM_RESTART_COUNT": "1"}).stderr == REFUSED.format(folder)
    (folder / "provenance.json").unlink()
    # If the first attempt wrote no record, its restart uses the folder and replaces links in it.
    (folder / "x_gh_000_3.csv").symlink_to(precious / "x_gh_000_3.csv")
    assert lab.start(script="light", env=JOB | {"SLURM_RESTART_COUNT": "1"}).returncode == 0
    assert (folder / "x_gh_000_3.csv").read_text() == "a\n1\n"
    assert [path.read_text() for path in precious.iterdir()] == ["precious"]


def test_nested_run_has_its_own_folder(lab):
    lab.render()
    lab.write_light("import subprocess\ncfg.seed == 1 and subprocess.run([sys.executable, __file__], check=True)")
    done = lab.start("x_gh_000", "seed=1", script="light")
    assert done.returncode == 0, done.stderr
    assert len(outputs(lab)[1]) == 2


def test_script_starts_twice_in_one_process(lab):
    experiment = lab.render()
    code = (
        f"import sys; sys.path.insert(0, {str(experiment / 'scripts')!r}); sys.argv = ['notebook']\n"
        "import x; x.main(); x.main()"
    )
    done = run(sys.executable, "-c", code, cwd="/")
    assert done.returncode == 0, done.stderr
    figures, records = outputs(lab)
    assert len(figures) == len(records) == 2
    assert {record["script"] for record in records} == {"experiments/011-x/scripts/x.py"}


def test_second_experiment_in_one_process_is_refused(lab):
    """Python imports `runtime` once per process, so the second experiment would use that of the first."""
    first, second = (lab.render(name) / "scripts" for name in ("011-x", "012-y"))
    (second / "own.py").write_text("from runtime import Run, CONF\nRun({})\n")
    add = "import sys; sys.path.insert(0, {!r})\n"
    as_a_notebook = add.format(str(second)) + "from runtime import find_env\nfind_env()\n"
    for code, what in (
        ("import y", f"{second}/y.py"),
        ("import own", f"{second}/own.py"),
        (f"exec({as_a_notebook!r}, {{}})", f"{second}"),
    ):
        done = run(sys.executable, "-c", f"{add.format(str(first))}import x\n{add.format(str(second))}{code}", cwd="/")
        imported = f"This process already uses the runtime of {first.parent}."
        assert done.stderr == f"{imported} Start {what} in a new process.\n"
        assert done.returncode == 1
    assert list(lab.data.iterdir()) == []


@pytest.mark.parametrize("how", ["link", "module", "pdb", "elsewhere"])
def test_script_starts_by_link_module_or_debugger(lab, tmp_path, how):
    lab.render()
    script = lab.write_light()
    (tmp_path / "link.py").symlink_to(script)
    (tmp_path / ".env").write_text("DATA_ROOT=/nonexistent\n")
    commands = {
        "link": ([tmp_path / "link.py"], tmp_path),
        "module": (["-m", "light"], script.parent),
        "pdb": (["-m", "pdb", "-c", "continue", "-c", "quit", script], tmp_path),
        "elsewhere": ([script], tmp_path),
    }
    arguments, folder = commands[how]
    done = run(sys.executable, *arguments, cwd=folder, stdin=subprocess.DEVNULL)
    _, [record] = outputs(lab)
    assert record["status"] == "finished", done.stderr
    assert record["script"] == "experiments/011-x/scripts/light.py"


def test_renamed_experiment_is_refused_with_the_command(lab):
    lab.render()
    git(lab.path, "mv", "experiments/011-x", "experiments/013-z")
    moved = lab.path / "experiments/013-z"
    done = lab.start(name="013-z")
    advice = f"Commit, then rename the experiment in its files: copier update --defaults -d experiment=013-z {moved}\n"
    assert done.returncode == 1
    assert done.stderr == f"{moved} has the files of experiments/011-x, which work only there.\n{advice}"
    commit(lab.path)
    done = run("bash", "-c", advice.split(": ", 1)[1], cwd=lab.path)
    assert done.returncode == 0, done.stderr
    done = lab.start(name="013-z")
    assert done.returncode == 0, done.stderr


def test_moved_experiment_is_refused_with_its_location(lab, tmp_path):
    lab.render().rename(tmp_path / "a folder")
    done = run(sys.executable, tmp_path / "a folder/scripts/x.py", cwd="/")
    first, advice = done.stderr.splitlines()
    assert first == f"{tmp_path}/a folder has the files of experiments/011-x, which work only there."
    run("bash", "-c", advice.removeprefix("Move it: "), check=True)
    env = {"EXPERIMENT_ROOT": str(tmp_path / "experiments")}
    done = run(sys.executable, tmp_path / "experiments/011-x/scripts/x.py", "--help", env=os.environ | env)
    assert "Set them in" in done.stderr  # there is no .env at its new place


def test_missing_input_stops_the_run_before_it_writes(lab):
    experiment = lab.render()
    script = lab.write_light().stem
    text = (experiment / "conf/x_gh_000.yaml").read_text()
    missing = f"inputs: missing or unreadable: {lab.data}/genes.csv\n"
    (lab.data / "graphs").mkdir()
    for inputs in ("[genes.csv, graphs]", "genes.csv"):
        (experiment / "conf/x_gh_000.yaml").write_text(f"{text}inputs: {inputs}\n")
        done = lab.start(script=script)
        assert (done.returncode, done.stderr) == (1, missing)
        assert list(lab.data.iterdir()) == [lab.data / "graphs"]
    # Hydra's -m composes each run only when it starts.
    done = lab.start("x_gh_000", "-m", "inputs=graphs,genes.csv", script=script)
    assert done.returncode == 1 and done.stderr.endswith(missing)
    (lab.data / "genes.csv").touch()
    assert lab.start(script=script).returncode == 0


def test_log_accepts_any_number_and_is_throttled(lab):
    lab.render()
    lab.write_light("""\
import numpy as np
run.log(a=np.float32(0.5), b=np.int64(3), c=float('nan'), d=-np.inf, e=np.array([1.5]), f=10**400)
states, start = set(), time.monotonic()
for step in range(1000):
    run.log(n=step, step=step)
    states.add(os.stat(osp.join(run.folder, "provenance.json")).st_mtime_ns)
print(len(states), time.monotonic() - start)""")
    done = lab.start(script="light")
    assert done.returncode == 0, done.stderr
    _, [record] = outputs(lab)
    assert record["status"] == "finished"
    numbers = {"a": 0.5, "b": 3, "c": "nan", "d": "-inf", "e": 1.5, "f": 10**400, "n": 999}
    assert record["metrics"] == numbers
    history = [json.loads(line) for line in Path(record["folder"], "metrics.jsonl").read_text().splitlines()]
    assert [(each["step"], each["values"]) for each in history[1:]] == [(n, {"n": n}) for n in range(1000)]
    assert history[0]["step"] is None and history[0]["values"].keys() == numbers.keys() - {"n"}
    assert history[0]["time"] <= history[-1]["time"] <= time.time()
    states, seconds = map(float, done.stdout.split())
    assert states <= 2 + seconds, "the record was written more than once a second"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_marks_run_terminated(lab, number):
    lab.render()
    script = lab.write_light("print(run.folder, flush=True)\ntime.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, script], cwd=lab.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    assert outputs(lab)[1][0]["status"] == "running"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    _, [record] = outputs(lab)
    assert (record["status"], record["error"]) == ("terminated", number.name)
    assert record["attempts"][0]["status"] == "terminated" and record["finished"]
    if number != signal.SIGINT:
        assert process.returncode == -number and error == f"{number.name} ended the run.\n"


CATCHES = """\
import signal
print(signal.getsignal(signal.SIGUSR1) == signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL, flush=True)
try:
    print("ready", flush=True)
    time.sleep(60)
except BaseException as error:
    print("caught", error, flush=True)
print("went on")"""


def test_signal_caught_still_marks_run_terminated(lab):
    lab.render()
    script = lab.write_light(CATCHES)
    process = subprocess.Popen([sys.executable, script], cwd=lab.path, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n", "these are for libraries, like Lightning, which ask that first"
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "caught SIGTERM\nwent on\n"
    assert process.returncode == -signal.SIGTERM
    _, [record] = outputs(lab)
    assert (record["status"], record["error"]) == ("terminated", "SIGTERM")


def test_signal_while_git_is_slow_is_recorded(lab, tmp_path):
    lab.render()
    script = lab.write_light()
    write_program(tmp_path / "slow/git", f"touch {tmp_path}/asked; sleep 60")
    path = f"{tmp_path}/slow{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen([sys.executable, script], cwd=lab.path, env=os.environ | {"PATH": path})
    wait_until((tmp_path / "asked").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM
    _, [record] = outputs(lab)
    assert (record["status"], record["error"], record["commit"]) == ("terminated", "SIGTERM", None)


def test_record_that_cannot_be_written_stops_the_run(lab):
    lab.render()
    script = lab.write_light()
    limit = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)); sys.argv.pop(0); "
    limit += f"sys.path[0] = {str(script.parent)!r}; runpy.run_path(sys.argv[0], None, '__main__')"
    done = lab.python("-B", "-c", limit, script, "hydra.output_subdir=null")
    assert done.returncode == 1 and outputs(lab)[1] == []
    [line] = [line for line in done.stderr.splitlines() if line.startswith("OSError: ")]
    assert line.startswith("OSError: [Errno 27] File too large: '") and line.endswith("/provenance.json'")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("after", "run.log must be called inside `with Run(cfg) as run:`."),
        ("before", "run.table must be called inside `with Run(cfg) as run:`."),
        ("forked", "run.log was called in a forked process. Call it in the process of the run."),
    ],
)
def test_calls_outside_the_run_are_refused(lab, body, reason):
    lab.render()
    bodies = {
        "after": "pass\n    run.log(a=1)",
        "before": "Run(cfg).table([{'a': 1}])",
        "forked": "from multiprocessing import get_context\nget_context('fork').Pool(1).map(run.log, [])\n"
        "with get_context('fork').Pool(1) as pool:\n    pool.apply(run.log, (), {'a': 1})",
    }
    script = lab.write_light(bodies[body])
    if body == "after":
        edit(script, "            run.log(a=1)", "    run.log(a=1)")
    done = lab.start(script="light")
    assert done.returncode == 1 and f"{reason}\n" in done.stderr


def test_table_converts_numbers_and_refuses_other_rows(lab):
    lab.render()
    lab.write_light(
        "import numpy as np\nfrom types import SimpleNamespace\n"
        "tensor = SimpleNamespace(detach=None, shape=(), item=lambda: 0.123456)\n"
        "day = np.datetime64('2026-01-02', 'ns')\n"
        "run.table([{'a': np.float32(0.5), 'b': np.array(3), 'c': 'x', 'd': tensor, 'e': day}])"
    )
    assert lab.start(script="light").returncode == 0
    [table] = lab.data.rglob("x_gh_000.csv")
    assert table.read_text() == "a,b,c,d,e\n0.5,3,x,0.123456,2026-01-02T00:00:00.000000000\n"
    for rows in ("5", "'ab'", "[3]", "[]"):
        lab.write_light(f"try:\n    run.table({rows})\nexcept ValueError as error:\n    print(error)")
        assert lab.start(script="light").stdout.startswith("run.table takes at least one row, ")


@pytest.mark.parametrize("inputs", ["5", "[{a: b}]"])
def test_invalid_inputs_are_reported(lab, inputs):
    lab.render()
    done = lab.start("x_gh_000", f"inputs={inputs}")
    expected = " is not a list of paths. Write paths in DATA_ROOT, or ./PATH for the experiment.\n"
    assert done.returncode == 1 and done.stderr.endswith(expected)
    assert done.stderr.count("\n") == 1 and outputs(lab) == ([], [])


def test_config_name_with_yaml_suffix_is_refused(lab):
    lab.render()
    said = "--config-name x_gh_000.yaml: the name must not end in .yaml. Remove that.\n"
    done = lab.start("x_gh_000.yaml")
    assert (done.returncode, done.stderr) == (1, said)
    command = ["experiments/011-x/scripts/x.py", "--config-name", "x_gh_000.yaml"]
    assert preflight(lab, command).lines() == [said.rstrip()]


def test_relative_path_is_in_the_run_folder(lab):
    """The record still names the script, which was started by a relative path."""
    experiment = lab.render()
    lab.write_light("import runtime\nopen('state', 'w').write(runtime.provenance()['script'])")
    done = run(sys.executable, "scripts/light.py", cwd=experiment)
    assert done.returncode == 0, done.stderr
    [state] = lab.data.rglob("state")
    assert state.read_text() == "experiments/011-x/scripts/light.py"
    assert (state.parent / "provenance.json").exists()


def test_wandb_missing_is_reported_before_the_queue(lab, tmp_path):
    lab.render()
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['wandb'] = None\n")
    env = {"PYTHONPATH": str(tmp_path)}
    said = f"wandb.mode is offline, but wandb is not installed for {sys.executable}"
    command = ["experiments/011-x/scripts/x.py", "--config-name", "x_gh_000", "wandb.mode=offline"]
    assert preflight(lab, command, env=env).lines() == [said]
    done = lab.python(*command, env=env)
    assert (done.returncode, done.stderr) == (1, f"{said}\n")


@pytest.mark.parametrize("error", ["", "é" * 2000])
def test_full_disk_at_the_last_write_marks_run_failed(lab, error):
    """The file of the record cannot grow, as on a full disk. The error must fit into its present size."""
    lab.render()
    lab.write_light(f"""\
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = os.stat(osp.join(run.folder, "provenance.json")).st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
if {error!r}:
    raise ValueError({error!r})""")
    done = lab.start(script="light")
    assert done.returncode == 1 and "File too large" in done.stderr
    _, [record] = outputs(lab)
    assert (record["status"], record["attempts"][0]["status"]) == ("failed", "failed")
    assert record["error"].startswith("ValueError: éé" if error else "OSError: [Errno 27] File too large: '")
    assert record["finished"]
    assert [path.name for path in Path(record["folder"]).glob("*.part")] == []


def test_full_disk_leaves_whole_lines_in_the_history(lab):
    lab.render()
    lab.write_light("""\
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run.log(a=1, step=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for step in range(1, 1000):
    run.log(a=1, step=step)
try:
    run.record.history.flush()
except OSError as error:
    print(osp.basename(error.filename), error.strerror)
    print(len(open(error.filename).readlines()))""")
    done = lab.start(script="light")
    assert done.stdout == "metrics.jsonl File too large\n1\n"
    assert done.returncode == 1 and "File too large" in done.stderr
    _, [record] = outputs(lab)
    assert record["status"] == "failed" and "metrics.jsonl" in record["error"]


CONFIGURED = """\
import json, pathlib, sys
sys.path.insert(0, "experiments/011-x/scripts")
from omegaconf import OmegaConf
from runtime.record import plain_configuration
values = {"task": "${decoded}", "decoded": 3, "a": float("nan"), "b": pathlib.Path("/x"), 1: [None, True]}
cfg = OmegaConf.create(values)
print(json.dumps(plain_configuration(cfg), allow_nan=False))
"""


def test_configuration_of_any_type_is_recorded(lab):
    lab.render()
    done = lab.python("-c", CONFIGURED)
    assert json.loads(done.stdout) == {"task": 3, "decoded": 3, "a": "nan", "b": "/x", "1": [None, True]}, done.stderr


USAGE = """\
import sys
sys.path.insert(0, "experiments/011-x/scripts")
from runtime import usage
"""


@pytest.mark.parametrize(
    ("line", "folders"),
    [
        ("0::/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0", ["/system.slice/slurmstepd.scope/job_7"]),
        ("4:cpuset:/slurm/uid_0/job_7\n9:memory:/slurm/uid_0/job_7/step_0", ["/slurm/uid_0/job_7"]),
        ("9:cpu,memory:/slurm/job_7", ["/slurm/job_7"]),
        ("0::/user.slice/session-3.scope\n3:pids:/job_7/x", []),
    ],
)
def test_cgroup_of_a_job_is_found(untouched_lab, line, folders):
    code = f"{USAGE}print([folder for folder, _ in usage.JOB_CGROUP.findall({line!r})])"
    assert untouched_lab.python("-c", code).stdout == f"{folders}\n"


def test_killed_attempt_is_recorded_by_its_restart(lab):
    lab.render()
    lab.write_light(
        "again = 'SLURM_RESTART_COUNT' in os.environ\n"
        "if not again:\n    time.sleep(1)\n    run.log(a=1, step=1)\n"
        "    open(osp.join(run.folder, 'metrics.jsonl'), 'a').write('{torn')\n    os.kill(os.getpid(), 9)\n"
        "run.log(b=1)\nraise ValueError('é' * 10**6)"
    )
    assert lab.start(script="light", env=JOB).returncode == -9
    assert outputs(lab)[1][0]["status"] == "running"
    assert lab.start(script="light", env=JOB | {"SLURM_RESTART_COUNT": "1"}).returncode == 1
    [record] = outputs(lab)[1]
    assert [attempt["status"] for attempt in record["attempts"]] == ["terminated", "failed"]
    assert record["metrics"] == {"a": 1, "b": 1} and record["error"].startswith("ValueError: éé")
    assert len(record["error"]) == 10_000, "a reader takes no record of any size"
    lines = Path(record["folder"], "metrics.jsonl").read_text().splitlines()
    assert lines[1] == "{torn" and [json.loads(lines[number])["values"] for number in (0, 2)] == [{"a": 1}, {"b": 1}]


ERRORS = [
    ("open('/nowhere/file')", [], "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/file'"),
    ("sys.exit('not today')", [], "SystemExit: not today"),
    ("raise ValueError(os.fsdecode(b'caf\\xe9'))", [], "ValueError: caf\udce9"),
    ("run.log(name='gcn5')", [], "TypeError: run.log: name is 'gcn5', which is not a number."),
    ("import numpy\nrun.log(a=numpy.zeros(2))", [], "TypeError: run.log: a is array([0., 0.]), which is not a number."),
    (
        "run.table([{'a': 1}, {'b': 1}])",
        [],
        "x_gh_000.csv: the rows have different keys. Give all rows of run.table the same keys. It is saved as: ",
    ),
    ("pass", ["wandb=null"], "AttributeError: 'NoneType' object has no attribute 'mode'"),
    ("import wandb\nwandb.teardown()", ["wandb.mode=offline"], "AlreadyJoinedError: "),
]


def test_error_of_any_part_is_recorded(lab):
    """Errors come from the script, its calls of the run, its configuration, and W&B at the very end."""
    lab.render()
    for body, overrides, error in ERRORS:
        lab.write_light(body)
        assert lab.start("x_gh_000", *overrides, script="light").returncode == 1, body
        record = outputs(lab)[1][-1]
        assert record["status"] == "failed" and error in record["error"], record["error"]
        assert record["error"] == record["attempts"][-1]["error"]


SECRET = "hunter2hunter2"


def test_secrets_do_not_reach_wandb_figures_or_records(lab):
    experiment = lab.render()
    with (experiment / "conf/x_gh_000.yaml").open("a") as file:
        file.write(
            "password: ${oc.env:NEO4J_PASSWORD}\nuri: bolt://ada:${password}@host\nfirst: ${oc.decode:${password}}\n"
        )
    override = "+typed=${oc.env:NEO4J_PASSWORD}"
    done = lab.start("x_gh_000", "wandb.mode=offline", override, env={"NEO4J_PASSWORD": SECRET})
    assert done.returncode == 0, done.stderr
    [log] = lab.data.glob("experiments/011-x/runs/x_gh_000/*/wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"oc.env:NEO4J_PASSWORD" in content and b"011-x_gh_000" in content and b"gcn5" in content
    [figure], [record] = outputs(lab)
    with Image.open(figure) as image:
        assert image.text["Overrides"] == f"wandb.mode=offline {override}"
    assert record["overrides"] == ["wandb.mode=offline", override]
    for path in lab.path.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


def test_wandb_records_the_commit_of_the_run(lab, tmp_path):
    """Its folder is in another repository, with a token in the URL of its remote."""
    lab.render()
    lab.write_light()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "remote", "add", "origin", f"https://{SECRET}:x-oauth-basic@example.org/data.git")
    commit(tmp_path)
    data = {"DATA_ROOT": str(tmp_path)}
    done = lab.start("x_gh_000", "wandb.mode=offline", script="light", env=data)
    assert done.returncode == 0, done.stderr
    [log] = tmp_path.glob("experiments/011-x/runs/x_gh_000/*/wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert git(lab.path, "rev-parse", "HEAD").strip().encode() in content
    assert git(tmp_path, "rev-parse", "HEAD").strip().encode() not in content
    assert SECRET.encode() not in content and b"example.org/data" not in content


def test_wandb_has_one_run_over_restarts(lab, tmp_path):
    """A process that is killed at once leaves a file that `wandb sync` cannot read, and that it is not given."""
    lab.render()
    lab.write_light("run.log(a=1)\nrun.log(a=2, step=7)\nrun.log(a=3, step=8)")
    for restart in ("", "1"):
        env = JOB | ({"SLURM_RESTART_COUNT": restart} if restart else {})
        done = lab.start("x_gh_000", "wandb.mode=offline", script="light", env=env)
        assert done.returncode == 0, done.stderr
    [record] = outputs(lab)[1]
    folders = sorted(Path(record["folder"], "wandb").glob("offline-run-*"))
    files = [folder / f"run-{record['wandb_id']}.wandb" for folder in folders]
    assert len(files) == 2 and all(file.is_file() for file in files)
    for file in files:
        found = [*offline.records(file)]
        assert {each.run.run_id for each in found if each.HasField("run")} == {record["wandb_id"]}
        steps = [(item.key or item.nested_key[0], item.value_json) for each in found for item in each.history.item]
        assert [value for name, value in steps if name == "step"] == ["7", "8"]
        assert ("*", "step") in {(each.metric.glob_name, each.metric.step_metric) for each in found}

    assert tool(lab, "wandb-sync", "011-x").stdout == f"wandb sync {folders[0]} {folders[1]}\n"
    torn = Path(
        record["folder"], f"wandb/offline-run-20260102_030405-{record['wandb_id']}/run-{record['wandb_id']}.wandb"
    )
    torn.parent.mkdir()
    torn.write_bytes(b"\0" * 99)
    files[0].with_name(f"{files[0].name}.synced").touch()
    assert tool(lab, "wandb-sync", "011-x", record["job"]).stdout == f"wandb sync {folders[1]}\n"
    files[1].with_name(f"{files[1].name}.synced").touch()
    done = tool(lab, "wandb-sync", "011-x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "everything is synced\n")


def test_wandb_settings_win_and_all_figures_are_sent(lab, tmp_path):
    lab.render()
    lab.write_light("""\
from matplotlib.figure import Figure
figure = Figure(figsize=(2, 2))
figure.subplots().plot([1, 2])
images = os.environ["ASSET_IMAGES_DIR"]
run.save(figure, osp.join(images, f"{run.stem}_loss_2026-11-25-10-15-53.svg"))
run.save(figure, osp.join(images, f"{run.stem}_2026-11-25-10-15-53.pdf"))
run.save(figure, osp.join(images, "rates.png"), dpi=50)""")
    done = lab.start(
        *("x_gh_000", "wandb.mode=offline", "+wandb.name=mine", f"+wandb.dir={tmp_path}/own"),
        "+wandb.config={mine: 1, password: '${oc.env:NEO4J_PASSWORD}'}",
        "+wandb.settings={git_remote_url: git@mine}",
        script="light",
        env={"NEO4J_PASSWORD": SECRET},
    )
    assert done.returncode == 0, done.stderr
    [log] = (tmp_path / "own").glob("wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"mine" in content and b"git@mine" in content and SECRET.encode() not in content and b"gcn5" not in content
    media = sorted((tmp_path / "own").glob("wandb/offline-run-*/files/media/images/*.png"))
    assert [path.name.split("_")[0] for path in media] == ["figure", "loss", "rates"]
    sizes = []
    for path in media:
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes == [(300, 300), (300, 300), (100, 100)], "drawn with the options of the file"
    assert list(lab.data.rglob("*.wandb")) == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["wandb.mode=offline", "+wandb.nmae=x"], "wandb.init rejected the configuration: "),
        (["wandb.mode=offline", "+wandb.name=[1]"], "wandb.init rejected the configuration: "),
        (["wandb.mode=offline", "+wandb.dir=/proc/own"], "W&B did not start: "),
        (["wandb.mode=online"], "W&B did not start: "),  # without a key
    ],
)
def test_wandb_error_is_one_line_and_marks_run_failed(lab, tmp_path, overrides, line):
    lab.render()
    lab.write_light()
    options = {"env": {"HOME": str(tmp_path)}, "stdin": subprocess.DEVNULL}
    done = lab.start("x_gh_000", *overrides, script="light", **options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert next(each for each in done.stderr.splitlines() if not each.startswith("wandb: ")).startswith(line)
    _, [record] = outputs(lab)
    assert record["status"] == "failed" and record["error"].startswith(f"SystemExit: {line}")


# Folders of runs ------------------------------------------------------------------------------------------------------

TAKEN = {
    "folder": ["folder={old}"],
    "folder of a multirun": ["-m", "folder={old}", "seed=1,2"],
    "hydra.run.dir": ["hydra.run.dir={old}"],
    "hydra.sweep.dir": ["-m", "hydra.sweep.dir={old}"],
    "hydra.sweep.subdir": ["-m", "hydra.sweep.subdir=../{name}"],
    "hydra.sweep.subdir, absolute": ["-m", "hydra.sweep.subdir={old}"],
    "config": ["config=other"],
    "config, of a multirun": ["-m", "config=other,another"],
    "no callback": ["~hydra.callbacks", "hydra.run.dir={old}", "hydra.output_subdir=null"],
}


@pytest.fixture(scope="module")
def taken(tmp_path_factory, template):
    """Return a lab with a run. Tests try to use its folder for another one."""
    lab = make_lab(tmp_path_factory.mktemp("taken") / "lab", template)
    lab.render()
    lab.write_light("run.table([{'a': cfg.seed}])")
    assert lab.start(script="light").returncode == 0
    return lab


@pytest.mark.parametrize("case", TAKEN)
@pytest.mark.parametrize("env", [{}, JOB], ids=["by hand", "in a job"])
def test_folder_of_another_run_is_refused(taken, case, env):
    [old] = (taken.data / "experiments/011-x/runs/x_gh_000").iterdir()
    if case == "no callback":
        edit(taken.path / "experiments/011-x/conf/runtime.yaml", "  callbacks:", "  # callbacks:")
        edit(taken.path / "experiments/011-x/conf/runtime.yaml", "    start:", "    # start:")
        edit(taken.path / "experiments/011-x/conf/runtime.yaml", "      _target_:", "      # _target_:")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in taken.data.rglob("*") if path.is_file()}
    overrides = [word.format(old=old, name=old.name) for word in TAKEN[case] if word != "~hydra.callbacks"]
    done = taken.start("x_gh_000", *overrides, script="light", env=env)
    git(taken.path, "checkout", "--quiet", ".")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert [path for path in taken.data.rglob("*") if path.is_file() and path not in before] == []


def test_folder_key_in_a_configuration_is_refused(taken):
    [old] = (taken.data / "experiments/011-x/runs/x_gh_000").iterdir()
    record = (old / "provenance.json").read_bytes()
    with (taken.path / "experiments/011-x/conf/x_gh_000.yaml").open("a") as file:
        file.write(f"folder: {old}\n")
    line = f"folder is set to {old}. It must stay ${{hydra:runtime.output_dir}}, as in conf/runtime.yaml. "
    done = taken.start(script="light")
    git(taken.path, "checkout", "--quiet", ".")
    assert done.stderr == f"{line}Use hydra.run.dir=PATH for a new folder.\n"
    assert (old / "provenance.json").read_bytes() == record


def test_folder_chosen_by_the_user_is_accepted(lab, tmp_path):
    lab.render()
    lab.write_light("run.table([{'a': 1}])")
    done = lab.start("x_gh_000", f"hydra.run.dir={tmp_path}/new", "folder=${hydra:runtime.output_dir}", script="light")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "new/provenance.json").read_text())["folder"] == f"{tmp_path}/new"


def test_folder_shared_by_a_multirun_is_refused(lab):
    lab.render()
    lab.write_light("run.log(seed=cfg.seed)")
    done = lab.start("x_gh_000", "-m", "seed=1,2", "hydra.sweep.subdir=same", script="light")
    assert done.returncode == 1 and done.stderr.endswith(
        "/same belongs to another run. Use hydra.run.dir=PATH for a new folder.\n"
    )
    [record] = [json.loads(path.read_text()) for path in lab.data.rglob("provenance.json")]
    assert (record["status"], record["metrics"]) == ("finished", {"seed": 1})


def test_script_may_begin_its_run_twice(lab):
    lab.render()
    lab.write_light("run.log(a=1)\n" + "pass")
    edit(
        lab.path / "experiments/011-x/scripts/light.py",
        "        pass",
        "        pass\n    with Run(cfg) as run:\n        run.log(b=2)",
    )
    assert lab.start(script="light").returncode == 0
    [record] = outputs(lab)[1]
    assert record["metrics"] == {"a": 1, "b": 2} and len(record["attempts"]) == 2


# Refusals at the start ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untouched_lab(tmp_path_factory, template):
    """Return a lab in which no test may write a file."""
    lab = make_lab(tmp_path_factory.mktemp("untouched") / "lab", template)
    lab.render()
    yield lab
    assert list(lab.data.iterdir()) == list(lab.images.iterdir()) == []


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("value", [None, "", "/nonexistent", "/dev/null", "/proc"])
def test_unusable_data_folder_is_refused_in_two_lines(untouched_lab, variable, value):
    env = (untouched_lab.path / ".env").read_text()
    if value is None:
        (untouched_lab.path / ".env").write_text("".join(x for x in env.splitlines(keepends=True) if variable not in x))
    done = untouched_lab.start(env={} if value is None else {variable: value})
    (untouched_lab.path / ".env").write_text(env)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith((f"{variable} ", f"{variable}: ")) and (value or "") in first
    assert second == f"Set {variable} in {untouched_lab.path}/.env, or in the environment, which overrides that file."


def test_missing_env_file_is_reported_with_all_variables(untouched_lab):
    env = (untouched_lab.path / ".env").rename(untouched_lab.path / "env")
    assert untouched_lab.start(env={"ASSET_IMAGES_DIR": ""}).stderr.splitlines() == [
        "DATA_ROOT is not set.",
        "ASSET_IMAGES_DIR is empty.",
        "EXPERIMENT_ROOT is not set.",
        f"Set them in {untouched_lab.path}/.env, or in the environment, which overrides that file.",
    ]
    env.rename(untouched_lab.path / ".env")


def test_experiment_root_of_another_clone_is_refused(untouched_lab, tmp_path):
    (tmp_path / "011-x").mkdir()
    done = untouched_lab.start(env={"EXPERIMENT_ROOT": str(tmp_path)})
    assert done.returncode == 1 and "does not contain this experiment" in done.stderr


def test_starter_checks_folders_before_heavy_imports(untouched_lab):
    tree = ast.parse((untouched_lab.path / "experiments/011-x/scripts/x.py").read_text())
    check = next(
        node.lineno for node in tree.body if isinstance(node, ast.Assign) and "require_folders" in ast.unparse(node)
    )
    early = {
        alias.name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) and node.lineno < check
        for alias in ([ast.alias(node.module)] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert early == {"os", "itertools", "dotenv", "runtime"}


def test_starter_help_is_quick(untouched_lab):
    done = untouched_lab.python("-X", "importtime", "experiments/011-x/scripts/x.py", "--help")
    assert done.returncode == 0 and "strains" in done.stdout
    assert "hydra" in done.stderr and "numpy" not in done.stderr and "matplotlib" not in done.stderr


def test_config_name_that_is_unknown_is_hydras_error(untouched_lab):
    done = untouched_lab.start("x_gh_999")
    assert done.returncode == 1 and "Cannot find primary config 'x_gh_999'" in done.stderr


def test_wandb_mode_that_is_invalid_is_one_line(untouched_lab):
    done = untouched_lab.start("x_gh_000", "wandb.mode=off")
    expected = 'unknown wandb.mode "off"; expected one of: disabled, offline, online.\n'
    assert (done.returncode, done.stderr) == (1, expected)


# Packages and processes -----------------------------------------------------------------------------------------------


def test_config_without_runtime_yaml_is_refused(lab):
    experiment = lab.render()
    lab.write_light()
    (experiment / "conf/x_gh_000.yaml").write_text("seed: 1\n")
    done = lab.start(script="light")
    lacks = "This configuration lacks conf/runtime.yaml. Give it `defaults: [runtime, default, _self_]`.\n"
    assert (done.returncode, done.stderr) == (1, lacks)


def test_timestamp_comes_from_the_repositorys_package(lab, tmp_path):
    lab.render()
    (lab.path / "torchcell/timestamp.py").write_text("def timestamp():\n    return 'from-torchcell'\n")
    (tmp_path / "other/torchcell").mkdir(parents=True)
    (tmp_path / "other/torchcell/__init__.py").touch()
    (tmp_path / "other/torchcell/timestamp.py").write_text("raise SystemExit('the other copy')\n")
    done = lab.start(env={"PYTHONPATH": f"{tmp_path}/other:{lab.path}"})
    assert done.returncode == 0, done.stderr
    assert [path.name for path in outputs(lab)[0]] == ["011-x_gh_000_from-torchcell.png"]


def test_starter_runs_by_uv_from_its_own_metadata(lab):
    lab.render(package="")
    command = ["uv", "run", "--python", sys.executable, "experiments/011-x/scripts/x.py", "--config-name", "x_gh_000"]
    done = run(*command, cwd=lab.path)
    assert done.returncode == 0, done.stderr
    assert len(outputs(lab)[0]) == 1


def test_lightning_ranks_write_only_in_the_first_process(lab):
    """Lightning sets LOCAL_RANK but not RANK, and passes the folder of the first process."""
    lab.render()
    lab.write_light("""\
from matplotlib.figure import Figure
run.save(Figure(), osp.join(os.environ["ASSET_IMAGES_DIR"], "a.png"))
run.table([{"a": 1}])
run.log(a=1)""")
    first = lab.start(script="light")
    assert first.returncode == 0, first.stderr
    [folder] = (lab.data / "experiments/011-x/runs/x_gh_000").iterdir()
    before = {path: path.stat().st_mtime_ns for path in [*folder.rglob("*"), *lab.images.iterdir()]}
    second = lab.start("x_gh_000", f"hydra.run.dir={folder}", script="light", env={"LOCAL_RANK": "1"})
    assert second.returncode == 0, second.stderr
    assert {path: path.stat().st_mtime_ns for path in [*folder.rglob("*"), *lab.images.iterdir()]} == before


# Inputs and submissions -----------------------------------------------------------------------------------------------


@pytest.fixture
def receipt(lab, tmp_path):
    """Return a function that writes the receipt of a submission and returns the environment of its job."""
    lab.render()
    lab.write_light()
    folder = tmp_path / "2026-01-01-00-00-00_0123abcd"
    folder.mkdir()

    def record(*words):
        command = ["experiments/011-x/scripts/light.py", "--config-name", "x_gh_000", *words]
        inputs = preflight(lab, command).inputs["a"]
        text = "".join(f"{word}\0" for pair in inputs.items() for word in pair)
        (folder / "inputs").write_bytes(os.fsencode(text))
        return JOB | {"EXPERIMENT_SUBMISSION": str(folder)}

    return record


def test_input_changed_since_submission_stops_the_job(lab, receipt):
    own = lab.path / "experiments/011-x/results/split.json"
    large, folder, names = lab.data / "large.bin", lab.data / "raw", lab.data / "a\n é.csv"
    folder.mkdir()
    for path in (own, names, folder / "b.csv"):
        path.write_text("1")
    with large.open("wb") as file:
        file.truncate(17 * 2**20)
    inputs = "inputs=[./results/split.json,large.bin,raw,'a\n é.csv']"
    env = receipt(inputs)
    assert lab.start("x_gh_000", inputs, script="light", env=env).returncode == 0
    [record] = outputs(lab)[1]
    assert record["submission"] == "2026-01-01-00-00-00_0123abcd"
    env["SLURM_ARRAY_TASK_ID"] = "4"
    os.utime(folder / "b.csv", (1, 1))  # small files are compared by content
    assert lab.start("x_gh_000", inputs, script="light", env=env).returncode == 0
    env["SLURM_ARRAY_TASK_ID"] = "5"
    for change in (lambda: own.write_text("2"), lambda: os.utime(large, (1, 1)), (folder / "c.csv").touch):
        change()
        done = lab.start("x_gh_000", inputs, script="light", env=env)
        assert done.returncode == 1 and done.stderr.startswith("inputs: changed since the job was submitted: ./results")
        assert done.stderr.count("\n") == 1
    assert "./results/split.json, large.bin, raw. Submit it again." in done.stderr
    assert len(outputs(lab)[1]) == 2, "it does not compute"


def test_input_without_a_checksum_is_not_compared(lab, receipt, tmp_path):
    (lab.data / "a.csv").write_text("1")
    env = receipt("inputs=[a.csv]")
    assert lab.start("x_gh_000", "inputs=[raw]", script="light", env=env).returncode == 1, "but they must exist"
    (lab.data / "a.csv").write_text("2")
    (Path(env["EXPERIMENT_SUBMISSION"]) / "inputs").unlink()
    assert lab.start("x_gh_000", "inputs=[a.csv]", script="light", env=env).returncode == 0
    gone = env | {"EXPERIMENT_SUBMISSION": "/nowhere/x", "SLURM_ARRAY_TASK_ID": "4"}
    done = lab.start("x_gh_000", "inputs=[a.csv]", script="light", env=gone)
    lack = "inputs: cannot be compared, because the receipt /nowhere/x is missing. Submit the job again.\n"
    assert (done.returncode, done.stderr) == (1, lack)


def commit_all(repository):
    """Commit ignored files too, as labs do with tables in results/."""
    git(repository, "add", "--force", "experiments/011-x/results")
    commit(repository)


def dirty(lab, *words, script="light"):
    done = lab.start("x_gh_000", *words, script=script)
    assert done.returncode == 0, done.stderr
    return max(outputs(lab)[1], key=lambda record: record["attempts"][0]["started"] + record["folder"])["dirty"]


def test_dirty_ignores_results_and_logs(lab):
    experiment = lab.render()
    (experiment / "results/table.csv").write_text("a\n")
    lab.write_light()
    commit_all(lab.path)
    (experiment / "results/table.csv").write_text("b\n")
    (experiment / "results/new.csv").touch()
    (experiment / "slurm/output/a.out").touch()
    assert dirty(lab) is False
    assert dirty(lab, "inputs=[./results/table.csv]") is True
    assert dirty(lab, "inputs=[./results/new.csv]") is True, "which git does not track"
    assert dirty(lab, "inputs=[./conf/default.yaml]") is False
    commit_all(lab.path)
    assert dirty(lab, "inputs=[./results/table.csv,./results]") is False
    (experiment / "conf/default.yaml").write_text("title: new\n")
    assert dirty(lab) is True


def test_dirty_includes_uncommitted_inputs(lab, tmp_path):
    experiment = lab.render()
    lab.write_light()
    (experiment / "results/split.json").write_text("{}")
    commit_all(lab.path)
    head = git(lab.path, "rev-parse", "HEAD").strip()
    pinned = tmp_path / "pinned"
    shutil.copytree(experiment, pinned / "experiments/011-x")
    (pinned / ".env").symlink_to(lab.path / ".env")
    (pinned / "submitted.json").write_text(json.dumps({"commit": head, "dirty": False, "experiment": str(experiment)}))
    (pinned / "experiments/011-x/results/split.json").write_text("stale")
    script = pinned / "experiments/011-x/scripts/light.py"
    words = ["--config-name", "x_gh_000", "inputs=[./results/split.json]"]
    for text, expected in (("{}", False), ("{1}", True)):
        (experiment / "results/split.json").write_text(text)
        done = run(sys.executable, script, *words, cwd=pinned)
        assert done.returncode == 0, done.stderr
        assert sorted(record["dirty"] for record in outputs(lab)[1])[-1] is expected


@pytest.mark.parametrize("choice", ["default", "disabled", "none", "stdout"])
def test_job_logging_can_be_replaced(lab, choice):
    lab.render(package="", runs={"x": ["gh_000"]})
    lab.write_light("import logging\nlogging.getLogger('x').warning('a line')")
    for rank in ("0", "1"):
        env = {"RANK": rank, "TORCHELASTIC_RUN_ID": "a"}
        done = lab.start("x_gh_000", f"hydra/job_logging={choice}", script="light", env=env)
        assert done.returncode == 0, done.stderr
        logs = [path.read_text().count("a line") for path in lab.data.rglob("light.log")]
        assert logs == ([1] if choice == "default" else [])
        assert ("a line" in done.stdout) == (choice != "disabled")
