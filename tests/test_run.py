"""Run: the starter makes its figure, table and record, and stops at once when something is missing."""

import ast
import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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
    folder = lab.data / "experiments/011-x/runs/x_gh_000" / done.stdout.strip().rsplit("/", 1)[-1]
    assert done.stdout == f"figure: {figure}\nfolder: {folder}\n"

    head = git(lab.path, "rev-parse", "HEAD").strip()
    with Image.open(figure) as image:
        assert image.size == (960, 600)
        assert len(image.getcolors(1 << 20)) > 50, "the figure is empty"
        told = {key: image.text[key] for key in ("Script", "Configuration", "Commit", "Job")}
    assert told == {
        "Script": "experiments/011-x/scripts/x.py",
        "Configuration": "x_gh_000",
        "Commit": head,
        "Job": "none",
    }
    assert figure.name.startswith("011-x_gh_000_20") and figure.suffix == ".png"

    with open(experiment / "results/x_gh_000.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["strain"] for row in rows] == ["wild type", "gcn5Δ", "sfp1Δ"]
    assert all(abs(float(row["fitted_rate"]) - float(row["rate"])) < 0.02 for row in rows)

    assert {".hydra", "provenance.json", "x.log"} == {path.name for path in folder.iterdir()}
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
    (lab.path / "notes.md").touch()
    assert lab.start().returncode == 0
    figures, records = outputs(lab)
    assert [record["dirty"] for record in records] == [True, True, False]
    with Image.open(figures[0]) as image:
        assert image.text["Commit"].endswith("-dirty")


def test_without_a_commit_the_record_says_so(lab):
    lab.render()
    run("rm", "-r", lab.path / ".git")
    done = lab.start()
    assert done.returncode == 0
    assert "No commit in this run's provenance: fatal: not a git repository" in done.stderr
    assert outputs(lab)[1][0]["commit"] is None


def test_eight_runs_in_one_second_leave_eight_figures_and_eight_records(lab):
    lab.render()
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: lab.start(), range(8)))
    assert [process.returncode for process in done] == [0] * 8, [process.stderr for process in done]
    figures, records = outputs(lab)
    assert len(figures) == len(records) == 8
    assert all(figure.stat().st_size > 10_000 for figure in figures)
    assert len({process.stdout for process in done}) == 8


def test_a_job_and_its_task_are_in_the_names_and_the_record(lab):
    experiment = lab.render()
    job = {
        "SLURM_JOB_ID": "688",
        "SLURM_ARRAY_JOB_ID": "686",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_JOB_NAME": "011-x_gh_000",
    }
    assert lab.start(env=job).returncode == 0
    [figure], [record] = outputs(lab)
    assert figure.name.startswith("011-x_gh_000_686_3_20")
    assert record["slurm"] == job
    assert (experiment / "results/x_gh_000_3.csv").exists()
    with Image.open(figure) as image:
        assert image.text["Job"] == "686_3"
    assert lab.start(env=job | {"SLURM_ARRAY_TASK_ID": "4"}).returncode == 0
    assert (experiment / "results/x_gh_000_3.csv").read_text() != (experiment / "results/x_gh_000_4.csv").read_text()


def test_a_figure_that_exists_stops_the_run_and_stays(lab):
    lab.render()
    (lab.path / "torchcell/timestamp.py").write_text("def timestamp():\n    return 'now'\n")
    figure = lab.images / "011-x_gh_000_now.png"
    figure.write_bytes(b"mine")
    done = lab.start()
    assert done.returncode != 0
    assert f"{figure} exists already and was not overwritten" in done.stderr
    assert figure.read_bytes() == b"mine" and list(lab.images.iterdir()) == [figure]
    assert outputs(lab)[1][0]["status"] == "failed"


def test_a_run_that_fails_says_so_and_leaves_no_half_figure(lab):
    lab.render()
    done = lab.start("x_gh_000", "capacity=-1")
    assert done.returncode == 1
    figures, [record] = outputs(lab)
    assert figures == [] and record["status"] == "failed" and record["error"]


def test_the_profiler_writes_a_profile(lab):
    experiment = lab.render()
    assert lab.start("x_gh_000", "profiler.enabled=true").returncode == 0
    [profile] = (experiment / "profiling_results").glob("*.prof")
    import pstats

    assert any(name == "simulate" for _, _, name in pstats.Stats(str(profile)).stats)


def test_a_multirun_is_one_run_per_value(lab):
    lab.render()
    done = lab.start("x_gh_000", "--multirun", "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert len(outputs(lab)[0]) == 2
    assert len(list((lab.data / "experiments/011-x/runs/x_gh_000").glob("*/*/provenance.json"))) == 2


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
    assert early == {"csv", "os", "dotenv", "runtime"}


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


def test_the_package_of_the_repository_gives_the_timestamp(lab):
    lab.render()
    (lab.path / "torchcell/timestamp.py").write_text("def timestamp():\n    return 'from-torchcell'\n")
    assert lab.start().returncode == 0
    assert [path.name for path in outputs(lab)[0]] == ["011-x_gh_000_from-torchcell.png"]


def test_a_package_that_is_not_on_the_path_stops_before_anything_is_made(lab):
    lab.render()
    done = run(sys.executable, "experiments/011-x/scripts/x.py", "--config-name", "x_gh_000", cwd=lab.path)
    assert done.returncode == 1 and done.stderr.endswith("ModuleNotFoundError: No module named 'torchcell'\n")
    assert list(lab.data.iterdir()) == []


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
    assert len((experiment / "scripts/x.py").read_text().splitlines()) <= 80
