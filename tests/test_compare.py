"""compare: a table of runs with what differs, and means over runs."""

import csv
import json

import pytest
from support.lab import make_lab
from support.process import commit, edit, git
from support.updating import tool

GRID = """\
defaults: [runtime, default, _self_]
grid:
  arms: {reference: [], wide: [model.hidden=256], "off": [noise=null]}
  axes: {seed: [0, 1]}
"""
LOSSES = {("reference", 0): 0.5, ("reference", 1): 0.7, ("wide", 0): 0.25, ("wide", 1): "nan", ("off", 0): 0.125}


def record(lab, config, name, **facts):
    folder = lab.data / "experiments/011-x/runs" / config / name
    folder.mkdir(parents=True)
    whole = {"status": "finished", "job": None, "commit": "a" * 40, "dirty": False, "slurm": {}, "host": "gh"}
    whole |= {"started": "2025-01-02T03:04:05+00:00", "metrics": {}, "overrides": [], "configuration": {}}
    (folder / "provenance.json").write_text(json.dumps(whole | facts))


@pytest.fixture(scope="module")
def compared(tmp_path_factory, template):
    """Return a lab with a campaign of six points (one failed, one missing) and two other runs."""
    lab = make_lab(tmp_path_factory.mktemp("compared") / "lab", template)
    experiment = lab.render()
    (experiment / "conf/round2.yaml").write_text(GRID)
    for (arm, seed), loss in LOSSES.items():
        model = {"hidden": 256 if arm == "wide" else 128, "layers": 3, "sizes": [1, 2], "empty": {}}
        configuration = {"config": "round2", "folder": "${hydra:x}", "title": f"{arm} {seed}", "seed": seed}
        configuration |= {"noise": None if arm == "off" else 0.1, "model": model, "wandb": {"mode": f"{arm}{seed}"}}
        status = "failed" if arm == "off" else "finished"
        facts = {"point": f"{arm}_{seed}", "arm": arm, "status": status, "configuration": configuration}
        metrics = {"loss": loss, "epochs": 10} | ({"extra": 1} if seed else {})
        record(lab, "round2", f"{arm}_{seed}", metrics=metrics, **facts)
    record(lab, "x_gh_000", "2", configuration={"lr": 1e-3, "seed": 0}, metrics={"loss": 0.123456}, commit="b" * 40)
    record(lab, "x_gh_000", "10", configuration={"lr": 1e-4, "seed": 0}, metrics={"loss": 3}, dirty=True)
    return lab


def table(lab, *words, **environment):
    done = tool(lab, "compare", "011-x", *words, env=environment)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def rows_of(lab, *words):
    done = tool(lab, "compare", "011-x", *words, "--csv")
    assert done.returncode == 0, done.stderr
    return [*csv.DictReader(done.stdout.splitlines())]


def test_compare_prints_only_what_differs(compared):
    assert table(compared, "--config", "round2") == [
        ["run", "arm", "state", "seed", "noise", "model.hidden", "loss", "extra"],
        ["reference_0", "reference", "finished", "0", "0.1", "128", "0.5"],
        ["reference_1", "reference", "finished", "1", "0.1", "128", "0.7", "1"],
        ["wide_0", "wide", "finished", "0", "0.1", "256", "0.25"],
        ["wide_1", "wide", "finished", "1", "0.1", "256", "nan", "1"],
        ["off_0", "off", "failed", "0", "null", "128", "0.125"],
    ]


def test_compare_of_all_runs_has_configurations(compared):
    rows = rows_of(compared)
    assert [(row["config"], row["run"]) for row in rows[-2:]] == [("x_gh_000", "2"), ("x_gh_000", "10")]
    assert (rows[-2]["loss"], rows[-2]["lr"], rows[-2]["noise"]) == ("0.123456", "0.001", "")


def test_compare_by_arm_prints_means(compared):
    done = tool(compared, "compare", "011-x", "--config", "round2", "--by", "arm")
    assert done.stderr == "left out of the means: 1 failed\n"
    assert [line.split("  ") for line in done.stdout.splitlines()][1][0] == "reference"
    words = [line.split() for line in done.stdout.splitlines()]
    assert words == [
        ["arm", "n", "model.hidden", "loss", "extra"],
        ["reference", "2", "128", "0.6", "±", "0.14", "1"],
        ["wide", "2", "256", "nan", "±", "nan", "1"],
    ]
    reference, *_ = rows_of(compared, "--config", "round2", "--by", "arm")
    assert reference["loss_n"] == "2" and reference["extra_n"] == "1" and reference["extra_sd"] == ""
    assert abs(float(reference["loss_mean"]) - 0.6) < 1e-12 and abs(float(reference["loss_sd"]) - 0.02**0.5) < 1e-12
    found = json.loads(tool(compared, "compare", "011-x", "--config", "round2", "--by", "seed", "--json").stdout)
    assert [(each["seed"], each["n"], each["loss"]["n"]) for each in found] == [("0", 2, 2), ("1", 2, 2)]


def test_compare_sorts_by_a_column(compared):
    runs = [row["run"] for row in rows_of(compared, "--sort", "loss")]
    assert runs == ["2", "off_0", "wide_0", "reference_0", "reference_1", "10", "wide_1"]
    runs = [row["run"] for row in rows_of(compared, "--sort", "lr")]
    assert runs[:2] == ["10", "2"]
    done = tool(compared, "compare", "011-x", "--sort", "los")
    assert done.stderr.startswith('experiments: unknown column "los"; the nearest of ') and "loss" in done.stderr


def test_compare_prints_markdown(compared):
    done = tool(compared, "compare", "011-x", "--config", "x_gh_000", "round2", "--markdown")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("| config | run | arm | state | ") and set(lines[1]) == set("| -")
    assert lines[2].startswith("| round2 | reference_0 | reference | finished |") and len(lines) == 9


def test_compare_fits_the_terminal(compared):
    done = tool(compared, "compare", "011-x", "--config", "round2", env={"COLUMNS": "40"})
    blocks = [block.splitlines() for block in done.stdout.split("\n\n")]
    assert len(blocks) > 1 and all(len(line) <= 40 for block in blocks for line in block)
    assert all([line.split()[0] for line in block[1:]] == [*map("_".join, POINTS)] for block in blocks)
    assert {word for block in blocks for word in block[0].split()} >= {"seed", "noise", "model.hidden", "loss", "extra"}


POINTS = [(arm, str(seed)) for arm, seed in LOSSES]


def test_compare_adds_runs_of_another_cluster(compared, tmp_path):
    other = json.loads(tool(compared, "compare", "011-x", "--config", "round2", "--json").stdout)
    assert other[0]["configuration"]["model.hidden"] == 128 and other[0]["metrics"]["loss"] == 0.5
    file = tmp_path / "delta.json"
    file.write_text(json.dumps(other))
    assert len(rows_of(compared, "--config", "round2", "--from", file)) == 5, "a run counts once"
    file.write_text(json.dumps([each | {"host": "delta", "metrics": {"loss": 0.9}} for each in other]))
    rows = rows_of(compared, "--config", "round2", "--from", file)
    assert [(row["from"], row["run"], row["loss"]) for row in rows[4:6]] == [
        ("", "off_0", "0.125"),
        ("delta", "reference_0", "0.9"),
    ]
    [reference, _] = rows_of(compared, "--config", "round2", "--from", file, "--by", "arm")
    assert (reference["n"], reference["loss_n"]) == ("4", "4")
    file.write_text("{}")
    done = tool(compared, "compare", "011-x", "--from", file)
    assert done.stderr.startswith(f"experiments: {file} has no runs. Write it with `experiments compare PATH --json >")


def test_compare_of_two_runs_shows_their_code(compared):
    done = tool(compared, "compare", "011-x", "x_gh_000/2", "x_gh_000/10")
    assert [line.split() for line in done.stdout.splitlines()[:3]] == [
        ["x_gh_000/2", "x_gh_000/10"],
        ["lr", "0.001", "0.0001"],
        ["loss", "0.1235", "3"],
    ]
    assert done.stdout.splitlines()[3:] == [
        "code: bbbbbbbbbb and aaaaaaaaaa, but this repository does not have bbbbbbbbbb",
        "x_gh_000/10 had uncommitted changes, which are not recorded",
    ]


def test_compare_prints_a_git_command_that_works(lab):
    experiment = lab.render()
    first = git(lab.path, "rev-parse", "HEAD").strip()
    edit(experiment / "scripts/x.py", "def main", "def  main")
    commit(lab.path, "Edit")
    second = git(lab.path, "rev-parse", "HEAD").strip()
    commit_of = {"1": first, "2": second, "3": second}
    for name, id_ in commit_of.items():
        record(lab, "x_gh_000", name, commit=id_, configuration={"lr": int(name)})
    done = tool(lab, "compare", "011-x", "1", "2")
    last = done.stdout.splitlines()[-1]
    command = last.partition(": git ")[2].split()
    assert last.startswith("code: 1 file differs: git diff ")
    assert "+def  main" in git(lab.path, *command)
    assert tool(lab, "compare", "011-x", "2", "3").stdout.splitlines()[-1] == f"code: both {second[:10]}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "round3"], 'unknown configuration "round3"; the nearest of '),
        (["--by", "arms"], 'unknown key "arms"; the nearest of '),
        (["nothing"], 'unknown run "nothing" of experiments/011-x. `experiments list experiments/011-x` prints its'),
        (["--from", "none.json"], "none.json: No such file"),
        (["--config", "x_gh_001"], 'unknown configuration "x_gh_001"'),
    ],
)
def test_compare_refuses_in_one_line(compared, words, said):
    done = tool(compared, "compare", "011-x", *words)
    assert done.returncode == 1 and done.stderr.startswith(f"experiments: {said}"), done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
