"""Run: the starter makes its figure, table and record, and stops at once when something is missing."""

import ast
import csv
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from support.process import git, run

VARIABLES = ["DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"]


def outputs(lab):
    """Figures and provenances of the lab, oldest first."""
    records = sorted((lab.data / "experiments/011-x/runs").glob("*/*/provenance.json"))
    return sorted(lab.images.iterdir()), [json.loads(record.read_text()) for record in records]


def test_a_run_leaves_a_figure_a_table_and_its_record(lab):
    experiment = lab.render()
    done = lab.start()
    assert done.returncode == 0, done.stderr
    [figure], [record] = outputs(lab)
    folder = Path(record["folder"])
    assert folder.parent == lab.data / "experiments/011-x/runs/x_gh_000"
    assert done.stdout == f"figure: {figure}\n" and done.stderr == ""

    head = git(lab.path, "rev-parse", "HEAD").strip()
    with Image.open(figure) as image:
        assert image.size == (960, 600)
        assert len(image.getcolors(1 << 20)) > 50, "the figure is empty"
        told = {key: value for key, value in image.text.items() if key != "Software"}
    assert told == {
        "Script": "experiments/011-x/scripts/x.py",
        "Configuration": "x_gh_000",
        "Overrides": "",
        "Commit": head,
        "Job": "none",
        "Run": str(folder),
    }
    assert figure.name.startswith("011-x_gh_000_20") and figure.suffix == ".png"

    with open(experiment / "results/x_gh_000.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["strain"] for row in rows] == ["wild type", "gcn5Δ", "sfp1Δ"]
    assert all(abs(float(row["fitted_rate"]) - float(row["rate"])) < 0.02 for row in rows)

    assert {".hydra", "provenance.json", "x_gh_000.csv"} == {path.name for path in folder.iterdir()}
    tables = [folder / "x_gh_000.csv", experiment / "results/x_gh_000.csv"]
    assert record["figures"] == [str(figure)] and record["tables"] == list(map(str, tables))
    assert tables[0].read_text() == tables[1].read_text()
    assert (record["config"], record["stem"], record["overrides"]) == ("x_gh_000", "011-x_gh_000", [])
    [attempt] = record["attempts"]
    assert attempt == {name: record[name] for name in attempt if name != "restart"} | {"restart": 0}
    assert record["status"] == "finished" and record["error"] is None
    assert (record["commit"], record["dirty"]) == (head, False)
    assert record["command"].endswith("experiments/011-x/scripts/x.py --config-name x_gh_000")
    assert record["slurm"] == {} and record["host"]
    assert record["started"] <= record["finished"]
    assert {"python", "hydra", "matplotlib", "numpy"} <= set(record["versions"])
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))

    assert git(lab.path, "status", "--porcelain") == ""


def test_the_configuration_drives_the_computation(lab):
    experiment = lab.render()
    table = experiment / "results/x_gh_000.csv"
    tables = set()
    for overrides in ([], ["seed=1"], ["noise=0"], ["strains={wild type: 0.6}"]):
        assert lab.start("x_gh_000", *overrides).returncode == 0
        tables.add(table.read_text())
    assert len(tables) == 4
    assert "wild type,0.6,0." in table.read_text()
    assert lab.start("x_gh_000").returncode == 0
    assert table.read_text() in tables, "the same seed gave another table"


def test_dirty_says_when_the_commit_is_not_the_whole_truth(lab):
    experiment = lab.render()
    (experiment / "conf/default.yaml").write_text((experiment / "conf/default.yaml").read_text() + "extra: 1\n")
    assert lab.start().returncode == 0
    git(lab.path, "checkout", "--quiet", ".")
    (experiment / "scripts/new.py").touch()
    assert lab.start().returncode == 0
    (experiment / "scripts/new.py").unlink()
    (lab.path / "torchcell/new.py").touch()
    assert lab.start().returncode == 0
    (lab.path / "torchcell/new.py").unlink()
    (lab.path / "notes.md").touch()
    (lab.path / "experiments/012-y").mkdir()
    (lab.path / "experiments/012-y/new.py").touch()
    assert lab.start().returncode == 0
    figures, records = outputs(lab)
    assert [record["dirty"] for record in records] == [True, True, True, False]
    with Image.open(figures[0]) as image:
        assert image.text["Commit"].endswith("-dirty")


def test_without_a_commit_the_record_says_so(lab):
    lab.render()
    run("rm", "-r", lab.path / ".git")
    done = lab.start()
    assert done.returncode == 0
    assert "No commit in this run's provenance: fatal: not a git repository" in done.stderr
    assert outputs(lab)[1][0]["commit"] is None


def test_pinned_code_knows_its_commit_and_calls_no_git(lab):
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


def test_eight_runs_in_one_second_leave_eight_figures_and_eight_records(lab):
    lab.render()
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: lab.start(), range(8)))
    assert [process.returncode for process in done] == [0] * 8, [process.stderr for process in done]
    figures, records = outputs(lab)
    assert len(figures) == len(records) == 8
    assert all(figure.stat().st_size > 10_000 for figure in figures)
    assert len({process.stdout for process in done}) == 8


JOB = {
    "EXPERIMENT_MODE": "one",
    "SLURM_JOB_ID": "688",
    "SLURM_ARRAY_JOB_ID": "686",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_JOB_NAME": "011-x_gh_000",
}


def test_a_job_and_its_task_are_in_the_names_and_the_record(lab):
    experiment = lab.render()
    assert lab.start(env=JOB).returncode == 0
    [figure], [record] = outputs(lab)
    assert figure.name.startswith("011-x_gh_000_3_20")
    assert record["slurm"] == {name: value for name, value in JOB.items() if name.startswith("SLURM")}
    assert record["job"] == "686_3" and record["folder"].endswith("/runs/x_gh_000/686_3")
    assert (experiment / "results/x_gh_000_3.csv").exists()
    with Image.open(figure) as image:
        assert image.text["Job"] == "686_3"
    assert lab.start(env=JOB | {"SLURM_ARRAY_TASK_ID": "4"}).returncode == 0
    assert (experiment / "results/x_gh_000_3.csv").read_text() != (experiment / "results/x_gh_000_4.csv").read_text()


def test_an_interactive_job_is_by_hand(lab):
    lab.render()
    job = {name: value for name, value in JOB.items() if name != "EXPERIMENT_MODE"}
    for _ in range(2):
        assert lab.start(env=job | {"SLURM_PROCID": "3"}).returncode == 0
    figures, records = outputs(lab)
    assert [record["job"] for record in records] == [None, None]
    assert len(figures) == 2


def test_a_jobs_folder_is_its_own_restarts_and_no_others(lab):
    lab.render()
    assert lab.start(env=JOB).returncode == 0
    folder = lab.data / "experiments/011-x/runs/x_gh_000/686_3"
    before = (folder / "provenance.json").read_bytes()
    for other in ({}, {"SLURM_RESTART_COUNT": "1", "SLURM_CLUSTER_NAME": "another"}):
        done = lab.start(env=JOB | other)
        assert done.returncode == 1
        assert done.stderr == (
            f"{folder} is the folder of another run: move it away, or start this one under another name.\n"
        )
    assert (folder / "provenance.json").read_bytes() == before
    assert lab.start("x_gh_000", "seed=7", env=JOB | {"SLURM_RESTART_COUNT": "1"}).returncode == 0
    figures, [record] = outputs(lab)
    assert [attempt["restart"] for attempt in record["attempts"]] == [0, 1]
    assert [attempt["status"] for attempt in record["attempts"]] == ["finished", "finished"]
    assert record["figures"] == list(map(str, figures)) and len(figures) == 2
    assert (folder / ".hydra/overrides.yaml").read_text() == "[]\n"
    assert (folder / ".hydra_1/overrides.yaml").read_text() == "- seed=7\n"


def test_a_run_that_another_run_starts_has_a_folder_of_its_own(lab):
    experiment = lab.render()
    starter = (experiment / "scripts/x.py").read_text()
    again = "    import subprocess, sys\n    cfg.seed == 1 and subprocess.run([sys.executable, __file__], check=True)\n"
    (experiment / "scripts/x.py").write_text(
        starter.replace("    with Run(cfg) as run:\n", again + "    with Run(cfg) as run:\n")
    )
    assert lab.start("x_gh_000", "seed=1").returncode == 0
    assert len(outputs(lab)[1]) == 2


def test_a_run_may_be_started_twice_in_one_process_from_any_directory(lab):
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


def test_two_experiments_in_one_process_are_refused(lab):
    first, second = lab.render(), lab.render("012-y")
    code = (
        f"import sys; sys.path[:0] = [{str(first / 'scripts')!r}]; import x\n"
        f"sys.path[:0] = [{str(second / 'scripts')!r}]; import y"
    )
    done = run(sys.executable, "-c", code, cwd="/")
    assert done.returncode == 1
    assert done.stderr == (f"This process runs {first} already: start {second}/scripts/y.py in a process of its own.\n")


@pytest.mark.parametrize("how", ["link", "module", "pdb", "elsewhere"])
def test_a_script_starts_anyhow(lab, tmp_path, how):
    script = lab.render() / "scripts/x.py"
    (tmp_path / "link.py").symlink_to(script)
    (tmp_path / ".env").write_text("DATA_ROOT=/nonexistent\n")
    commands = {
        "link": ([tmp_path / "link.py"], tmp_path),
        "module": (["-m", "x"], script.parent),
        "pdb": (["-m", "pdb", "-c", "continue", "-c", "quit", script], tmp_path),
        "elsewhere": ([script], tmp_path),
    }
    arguments, folder = commands[how]
    done = run(sys.executable, *arguments, cwd=folder, stdin=subprocess.DEVNULL)
    figures, [record] = outputs(lab)
    assert record["status"] == "finished", done.stderr
    assert record["script"] == "experiments/011-x/scripts/x.py" and len(figures) == 1


def test_a_moved_experiment_says_where_it_belongs(lab):
    experiment = lab.render()
    git(lab.path, "mv", "experiments/011-x", "experiments/013-z")
    done = lab.start(name="013-z")
    moved = experiment.with_name("013-z")
    advice = f"Move it: mkdir -p {experiment.parent} && mv {moved} {experiment}\n"
    assert done.returncode == 1
    assert done.stderr == f"{moved} has the files of experiments/011-x, which work only there.\n{advice}"
    run("bash", "-c", advice.removeprefix("Move it: "), check=True)
    assert lab.start().returncode == 0


def test_a_missing_input_stops_before_anything_is_written(lab):
    experiment = lab.render()
    with (experiment / "conf/x_gh_000.yaml").open("a") as file:
        file.write("inputs: [genes.csv, graphs]\n")
    (lab.data / "graphs").mkdir()
    done = lab.start()
    assert done.returncode == 1
    assert done.stderr == f"An input of this run is missing or cannot be read: {lab.data}/genes.csv\n"
    assert list(lab.data.iterdir()) == [lab.data / "graphs"]
    (lab.data / "genes.csv").touch()
    assert lab.start().returncode == 0


def test_runs_under_a_stopped_clock_have_folders_of_their_own(lab):
    experiment = lab.render()
    process = experiment / "scripts/runtime/process.py"
    text = process.read_text()
    assert "datetime.now()" in text
    process.write_text(text.replace("datetime.now()", "datetime(2026, 1, 1)"))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: lab.start(), range(4)))
    assert [process.returncode for process in done] == [0] * 4, [process.stderr for process in done]
    time = "2026-01-01-00-00-00-000000"
    assert {Path(record["folder"]).name for record in outputs(lab)[1]} == {time, *(f"{time}_{n}" for n in (2, 3, 4))}


LOGS = """\
from dotenv import load_dotenv
from runtime import CONF, Run, find_env
load_dotenv(find_env())
import hydra

@hydra.main(version_base="1.3", config_path=CONF, config_name="x_gh_000")
def main(cfg):
    import numpy as np
    with Run(cfg) as run:
        print(run.folder, flush=True)
        BODY

main()
"""


def write_script(experiment, body):
    (experiment / "scripts/own.py").write_text(LOGS.replace("BODY", body))


def test_numbers_of_any_kind_leave_valid_json(lab):
    write_script(
        lab.render(), "run.log(a=np.float32(0.5), b=np.int64(3), c=float('nan'), d=-np.inf, e=np.array([1.5]))"
    )
    assert lab.start(script="own").returncode == 0
    _, [record] = outputs(lab)
    assert record["status"] == "finished"
    assert record["metrics"] == {"a": 0.5, "b": 3, "c": "nan", "d": "-inf", "e": 1.5}


def test_a_log_of_no_number_fails_with_its_name(lab):
    write_script(lab.render(), "run.log(name='gcn5')")
    assert lab.start(script="own").returncode == 1
    assert outputs(lab)[1][0]["error"] == "TypeError(\"run.log takes numbers, and name is 'gcn5'\")"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_a_run_and_its_record_says_which(lab, number):
    write_script(lab.render(), "import time; time.sleep(60)")
    command = [sys.executable, "experiments/011-x/scripts/own.py"]
    process = subprocess.Popen(command, cwd=lab.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    assert outputs(lab)[1][0]["status"] == "running"
    process.send_signal(number)
    _, error = process.communicate(timeout=20)
    _, [record] = outputs(lab)
    assert (record["status"], record["error"]) == ("terminated", number.name)
    assert record["attempts"][0]["status"] == "terminated" and record["finished"]
    if number != signal.SIGINT:
        assert process.returncode == -number and error == f"The run was ended by {number.name}.\n"


def test_a_run_that_was_killed_says_so_once_it_is_requeued(lab):
    write_script(
        lab.render(),
        "import os; 'SLURM_RESTART_COUNT' in os.environ or os.kill(os.getpid(), 9)",
    )
    assert lab.start(script="own", env=JOB).returncode == -9
    assert outputs(lab)[1][0]["status"] == "running"
    assert lab.start(script="own", env=JOB | {"SLURM_RESTART_COUNT": "1"}).returncode == 0
    attempts = outputs(lab)[1][0]["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["terminated", "finished"]


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["wandb.mode=offline", "+wandb.nonsense=1"], "unexpected keyword argument"),
        (["profiler.enabled=true"], "PermissionError"),
        (["profiler=null"], "AttributeError"),
    ],
)
def test_an_error_of_any_part_is_in_the_record(lab, overrides, error):
    experiment = lab.render()
    (experiment / "profiling_results/.gitkeep").unlink()
    (experiment / "profiling_results").rmdir()
    if error == "PermissionError":
        error = "NotADirectoryError"
        (experiment / "profiling_results").touch()
    assert lab.start("x_gh_000", *overrides).returncode == 1
    _, [record] = outputs(lab)
    assert record["status"] == "failed" and error in record["error"]


def test_no_secret_of_the_environment_reaches_wandb_or_the_record(lab):
    experiment = lab.render()
    with (experiment / "conf/x_gh_000.yaml").open("a") as file:
        file.write(
            "password: ${oc.env:NEO4J_PASSWORD}\nuri: bolt://ada:${password}@host\nfirst: ${oc.decode:${password}}\n"
        )
    done = lab.start("x_gh_000", "wandb.mode=offline", "+wandb.name=mine", env={"NEO4J_PASSWORD": "hunter2hunter2"})
    assert done.returncode == 0, done.stderr
    [log] = lab.data.glob("experiments/011-x/runs/x_gh_000/*/wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"oc.env:NEO4J_PASSWORD" in content and b"mine" in content and b"gcn5" in content
    for path in lab.path.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path


def test_a_run_that_fails_says_so_and_leaves_no_half_figure(lab):
    lab.render()
    done = lab.start("x_gh_000", "capacity=0")
    assert done.returncode == 1
    figures, [record] = outputs(lab)
    assert figures == [] and record["status"] == "failed" and record["error"]


def test_the_profiler_writes_a_profile(lab):
    experiment = lab.render()
    assert lab.start("x_gh_000", "profiler.enabled=true").returncode == 0
    [profile] = (experiment / "profiling_results").glob("*.prof")
    import pstats

    assert any(name == "grow" for _, _, name in pstats.Stats(str(profile)).stats)


def test_a_multirun_is_one_run_per_value(lab):
    lab.render()
    done = lab.start("x_gh_000", "--multirun", "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert [figure.name[:18] for figure in outputs(lab)[0]] == ["011-x_gh_000_0_202", "011-x_gh_000_1_202"]
    records = (lab.data / "experiments/011-x/runs/x_gh_000").glob("*/*/provenance.json")
    assert sorted(json.loads(record.read_text())["overrides"] for record in records) == [["seed=1"], ["seed=2"]]


def test_a_title_is_drawn_as_it_is(lab):
    lab.render(title=r"A $\frac{ of 100 % {braces} \n and 酵母")
    done = lab.start()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("value", [None, "", "/nonexistent", "/dev/null", "/proc"])
def test_a_missing_empty_or_unwritable_folder_stops_in_two_lines(lab, variable, value):
    lab.render()
    if value is None:
        lines = (lab.path / ".env").read_text().splitlines(keepends=True)
        (lab.path / ".env").write_text("".join(line for line in lines if not line.startswith(variable)))
    done = lab.start(env={} if value is None else {variable: value})
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{variable} ") and (value or "") in first
    assert second == f"Set {variable} in {lab.path}/.env, or in the environment, which wins over that file."
    assert list(lab.data.iterdir()) == list(lab.images.iterdir()) == []


def test_without_any_env_file_the_message_says_where_it_belongs(lab):
    lab.render()
    (lab.path / ".env").unlink()
    assert f"Set DATA_ROOT in {lab.path}/.env" in lab.start().stderr


def test_another_clones_experiments_are_refused(lab):
    lab.render()
    (lab.data / "011-x").mkdir()
    done = lab.start(env={"EXPERIMENT_ROOT": str(lab.data)})
    assert done.returncode == 1 and "does not hold this experiment" in done.stderr


def test_folders_are_checked_before_anything_heavy_is_imported(lab):
    experiment = lab.render()
    tree = ast.parse((experiment / "scripts/x.py").read_text())
    check = next(
        node.lineno for node in tree.body if isinstance(node, ast.Assign) and "require_folders" in ast.unparse(node)
    )
    early = {
        alias.name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) and node.lineno < check
        for alias in ([ast.alias(node.module)] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert early == {"os", "dotenv", "runtime"}


def test_help_imports_nothing_heavy(lab):
    lab.render()
    done = lab.python("-X", "importtime", "experiments/011-x/scripts/x.py", "--help")
    assert done.returncode == 0 and "strains" in done.stdout
    assert "hydra" in done.stderr and "numpy" not in done.stderr and "matplotlib" not in done.stderr


def test_an_unknown_configuration_is_hydras_message_and_leaves_nothing(lab):
    lab.render()
    done = lab.start("x_gh_999")
    assert done.returncode == 1 and "Cannot find primary config 'x_gh_999'" in done.stderr
    assert list(lab.data.iterdir()) == list(lab.images.iterdir()) == []


def test_the_starter_brings_its_own_timestamp_without_a_package(lab):
    lab.render(package="")
    done = run(sys.executable, "experiments/011-x/scripts/x.py", "--config-name", "x_gh_000", cwd=lab.path)
    assert done.returncode == 0, done.stderr
    assert len(outputs(lab)[0]) == 1


def test_the_package_of_the_repository_gives_the_timestamp_though_it_is_on_no_path(lab):
    lab.render()
    (lab.path / "torchcell/timestamp.py").write_text("def timestamp():\n    return 'from-torchcell'\n")
    assert lab.start().returncode == 0
    assert [path.name for path in outputs(lab)[0]] == ["011-x_gh_000_from-torchcell.png"]


def test_uv_runs_the_starter_from_its_own_metadata(lab):
    lab.render(package="")
    done = subprocess.run(
        ["uv", "run", "--python", sys.executable, "experiments/011-x/scripts/x.py", "--config-name", "x_gh_000"],
        cwd=lab.path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(outputs(lab)[0]) == 1


def test_the_starter_is_short(lab):
    experiment = lab.render()
    assert len((experiment / "scripts/x.py").read_text().splitlines()) <= 60


def test_the_processes_that_lightning_starts_write_nothing_beside_the_first(lab):
    """It gives them LOCAL_RANK, no RANK, and the folder of the first."""
    lab.render(package="")
    first = lab.start("x_gh_000")
    assert first.returncode == 0, first.stderr
    [folder] = (lab.data / "experiments/011-x/runs/x_gh_000").iterdir()
    before = sorted(folder.rglob("*")), sorted(lab.images.iterdir())
    second = lab.start("x_gh_000", f"hydra.run.dir={folder}", env={"LOCAL_RANK": "1"})
    assert second.returncode == 0, second.stderr
    assert (sorted(folder.rglob("*")), sorted(lab.images.iterdir())) == before


def test_another_copy_of_the_package_before_it_on_pythonpath_is_not_taken(lab, tmp_path):
    lab.render()
    (tmp_path / "other/torchcell").mkdir(parents=True)
    (tmp_path / "other/torchcell/__init__.py").touch()
    (tmp_path / "other/torchcell/timestamp.py").write_text("raise SystemExit('the other copy')\n")
    done = lab.start("x_gh_000", env={"PYTHONPATH": f"{tmp_path}/other:{lab.path}"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("override", ["+wandb.nmae=x", "+wandb.name=[1]"])
def test_what_wandb_does_not_take_is_one_line(lab, override):
    lab.render(package="")
    done = lab.start("x_gh_000", "wandb.mode=offline", override)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("wandb, in the configuration, is not what wandb.init takes: ")
    assert "Traceback" not in done.stderr


def test_a_wrong_mode_of_wandb_leaves_nothing(lab):
    lab.render(package="")
    assert lab.start("x_gh_000", "wandb.mode=off").returncode == 1
    assert list(lab.data.iterdir()) == []
