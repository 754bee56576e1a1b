"""points, logs, and the campaigns and sweeps in list: what they print of records, receipts and a grid."""

import json
import os
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.process import run
from support.terminal import Terminal
from support.updating import TOOL, WITH_TOOL, tool, typed

from experiments.records import LARGE, load_record
from experiments.widths import Fit, cut_words, shorten, shorten_all

GRID = """\
defaults: [runtime, default, _self_]
grid:
  arms:
    reference: []
    wide: [model.hidden=256, lr=6e-4]
    masked: {config: x_gh_000, overrides: [lr=1e-3]}
  axes:
    seed: [0, 1, 2]
    rate: [1e-3]
"""
POINTS = [f"{arm}_{seed}_0.001" for arm in ("reference", "wide", "masked") for seed in (0, 1, 2)]
LONG = "data.path=/data/a/very/long/path/to/the/data/set"


def record(lab, config, name, status, **facts):
    folder = lab.data / "experiments/011-x/runs" / config / name
    folder.mkdir(parents=True)
    whole = {"status": status, "error": None, "job": None, "commit": "a" * 40, "dirty": False, "slurm": {}}
    whole |= {"started": "2025-01-02T03:04:05+00:00", "finished": "2025-01-02T05:14:05+00:00", "metrics": {}}
    (folder / "provenance.json").write_text(json.dumps(whole | {"overrides": [], "versions": {"numpy": "2"}} | facts))


def record_point(lab, name, status, campaign="round2", **facts):
    words = [f"config={campaign}", "seed=0", f"++point={name}"]
    record(lab, campaign, name, status, **{"point": name, "overrides": words} | facts)


def receipt(lab, name, job, **files):
    folder = lab.path / "experiments/011-x/slurm/submitted" / f"2025-01-02-03-04-05-{name}"
    folder.mkdir(parents=True)
    files = {"job": f"{job}\n", "launcher": "gh_y\n", "config": "round2\n", "commit": "b" * 40, "words": ""} | files
    for file, text in files.items():
        (folder / file).write_text(text)


@pytest.fixture
def campaign(lab):
    """Return a lab with a campaign of nine points, a sweep, a multirun and three runs."""
    experiment = lab.render(runs={"x": ["gh_000", "gh_optuna"], "y": ["gh"]})
    (experiment / "conf/round2.yaml").write_text(GRID)
    record_point(lab, "wide_0_0.001", "finished", metrics={"loss": 0.123456}, job="900_3")
    record_point(lab, "wide_1_0.001", "finished", commit="c" * 40, started="2024-01-02T03:04:05+00:00")
    record_point(lab, "masked_0_0.001", "failed", error="ValueError: no")
    record_point(lab, "gone_0", "finished", started="2024-01-01T03:04:05+00:00")
    record_point(lab, "masked_0_0.001", "finished", "round2.smoke")
    for number in range(3):
        record(lab, "x_gh_optuna", f"700_{number}", "finished")
        record(lab, "x_gh_000", f"time/{number}", "failed" if number else "finished")
        words = ["model.hidden=256", f"{LONG}_{number}.csv", "lr=6e-4"]
        record(lab, "x_gh_000", f"2025-01-02-03-04-05-12345{number}", "finished", overrides=words)
    return lab


def test_points_prints_states_in_grid_order(campaign):
    done = tool(campaign, "points", "011-x", "round2")
    assert done.returncode == 0, done.stderr
    title, summary, _, *rows = done.stdout.splitlines()
    assert title == "round2: 9 points"
    assert summary == "2 finished (1 at another commit), 1 failed, 6 missing, 1 not in the grid"
    assert [row.split()[1] for row in rows[:9]] == POINTS
    cells = "3 wide_0_0.001 finished 900_3 2h10m model.hidden=256 lr=6e-4 seed=0 rate=0.001 loss=0.1235"
    assert " ".join(rows[3].split()) == cells and " finished* " in rows[4] and " missing " in rows[5]
    assert "config=x_gh_000 lr=1e-3 seed=0" in rows[6] and rows[6].endswith("ValueError: no")
    assert rows[9].split()[:3] == ["-", "gone_0", "finished"]
    assert rows[10:] == [
        f"* finished at another commit than the newest run, {'a' * 10}",
        "- no longer in the grid of round2",
        "unfinished: submit.sh LAUNCHER round2 -- --array=0-2,5-8",
    ]
    only = tool(campaign, "points", "011-x", "round2", "--state", "failed").stdout
    assert only.endswith("unfinished: submit.sh LAUNCHER round2 -- --array=6\n") and "wide_0" not in only
    receipt(campaign, "a", 900)
    smoke = tool(campaign, "points", "011-x", "round2", "--name", "smoke").stdout
    assert "1 finished, 8 missing" in smoke and "submit.sh LAUNCHER round2 --name smoke -- --array=0-5,7-8\n" in smoke
    assert "submit.sh gh_y round2 -- --array=0-2,5-8\n" in tool(campaign, "points", "011-x", "round2").stdout


def test_points_prints_json(campaign):
    found = json.loads(tool(campaign, "points", "011-x", "round2", "--json").stdout)
    assert found["array"] == "0-2,5-8" and found["counts"] == {"finished": 2, "failed": 1, "missing": 6}
    first, wide, older = found["points"][0], found["points"][3], found["points"][4]
    assert (first["number"], first["state"], first["run"]) == (0, "missing", None)
    assert wide["axes"] == {"seed": 0, "rate": 0.001} and wide["arm"] == "wide" and not wide["is_older"]
    assert wide["run"]["record"]["versions"] == {"numpy": "2"} and older["is_older"]


@pytest.mark.parametrize(
    "words, problem",
    [
        (["round3"], 'unknown configuration "round3"; the nearest of 4: round2, '),
        (["x_gh_000"], "conf/x_gh_000.yaml has no grid. `experiments list experiments/011-x --config x_gh_000` prints"),
        (["broken"], "conf/broken.yaml: axis seed: it must be a list of at least one value."),
        (["yaml"], "conf/yaml.yaml: while parsing"),
    ],
)
def test_points_refuses_a_wrong_configuration(campaign, words, problem):
    conf = campaign.path / "experiments/011-x/conf"
    if words[0] in ("broken", "yaml"):
        (conf / f"{words[0]}.yaml").write_text("grid: {axes: {seed: 1}}\n" if words[0] == "broken" else "grid: {a: [\n")
        listed = tool(campaign, "list", "011-x").stdout
        assert problem in listed and "x_gh_optuna" in listed
    done = tool(campaign, "points", "011-x", *words)
    assert done.returncode == 1 and done.stderr.startswith(f"experiments: {problem}"), done.stderr
    assert done.stderr.count("\n") == 1


def test_list_prints_one_row_per_campaign_and_sweep(campaign):
    done = tool(campaign, "list", "011-x")
    assert done.returncode == 0, done.stderr
    rows = [line.split("  ") for line in done.stdout.splitlines()]
    groups = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows if row[0]}
    assert groups["round2"][0] == "9 points" and groups["round2"][1].startswith("2 finished (1 at another commit), 1 f")
    assert groups["round2.smoke"] == ["9 points", "1 finished, 8 missing"]
    assert groups["x_gh_optuna"] == ["3 runs", "3 finished"]
    assert done.stdout.count("2025-01-02-03-04-05") == 3 and "wide_0" not in done.stdout
    assert done.stdout.count("1 finished, 2 failed") == 1
    points = tool(campaign, "list", "011-x", "--points", "--config", "round2").stdout
    assert [name in points for name in [*POINTS, "gone_0"]] == [True] * 10 and "x_gh" not in points.split("\n", 4)[4]
    failed = tool(campaign, "list", "011-x", "--state", "failed").stdout
    assert "masked_0_0.001" in failed and "time/1" in failed and "wide" not in failed
    missing = tool(campaign, "list", "011-x", "--state", "missing").stdout
    assert missing.count(" missing ") == 6 + 8
    last = tool(campaign, "list", "011-x", "--last", "2").stdout
    assert len(last.splitlines()) == 6, last
    [every] = json.loads(tool(campaign, "list", "011-x", "--json").stdout)
    assert [each["counts"]["finished"] for each in every["campaigns"]] == [2, 1]
    assert every["runs"][0]["record"]["versions"] == {"numpy": "2"}
    done = tool(campaign, "list", "011-x", "--config", "round3")
    assert done.returncode == 1 and 'unknown configuration "round3"; the nearest' in done.stderr
    for words in (["list", "011-x"], ["points", "011-x", "round2"]):
        done = tool(campaign, *words, "--state", "faild")
        assert done.returncode == 1 and 'unknown state "faild"; expected some of: queued, ' in done.stderr
    done = tool(campaign, "list", "--last", "1")
    assert done.returncode == 1 and done.stderr.startswith("experiments: no experiment is given. Write its PATH")


def test_list_fits_a_terminal(campaign, monkeypatch):
    """Each run is one line of 80 columns. Runs with different overrides look different, apart from their names.

    Columns are left out before states, results and the names of runs cannot be read.
    """
    monkeypatch.setenv("PYTHONPATH", WITH_TOOL["PYTHONPATH"])
    record(campaign, "x_gh_000", "686_3", "out of memory", error="ValueError: " + "no " * 100, dirty=True)
    for words in (["list", "011"], ["list", "011", "--points"], ["points", "011", "round2"], ["list"]):
        terminal = Terminal(*TOOL, *words, cwd=campaign.path, width=80)
        assert terminal.end() == 0
        piped = run(*TOOL, *words, cwd=campaign.path, env=os.environ | WITH_TOOL | {"COLUMNS": "80"}).stdout
        lines = piped.splitlines()
        assert terminal.text().split("\n") == lines
        assert max(map(cell_len, lines)) <= 80 and str(campaign.path) not in piped
    runs = [line for line in tool(campaign, "list", "011").stdout.splitlines() if "x_gh_000  2025" in line]
    assert all(LONG in line for line in runs), "a pipe has whole cells"
    short = typed_at_80(campaign, "list", "011")
    cells = [line.split("finished")[1] for line in short if "x_gh_000  2025" in line]
    assert len(set(cells)) == len(cells) == 3, short
    [failed] = [line for line in short if "686_3" in line]
    assert "  out of memory  " in failed and failed.endswith("  ValueError: …")
    assert short[-1].startswith("left out: started, time, commit (use 1"), short
    width = {"COLUMNS": short[-1].split("use ")[1].split()[0]}
    whole = tool(campaign, "list", "011", env=width).stdout
    assert "started" in whole and "commit  " in whole and "left out" not in whole, whole


def typed_at_80(lab, *words):
    return run(*TOOL, *words, cwd=lab.path, env=os.environ | WITH_TOOL | {"COLUMNS": "80"}).stdout.splitlines()


@pytest.mark.parametrize(
    "text, width, short",
    [("abcdefgh", 8, "abcdefgh"), ("abcdefghi", 8, "abcd…ghi"), ("日本語日本語", 8, "日本…語"), ("abc", 1, "…")],
)
def test_cell_is_shortened_in_the_middle(text, width, short):
    assert shorten(text, width) == short and cell_len(short) <= width


def test_large_mappings_of_records_are_skipped(tmp_path):
    path = tmp_path / "provenance.json"
    facts = {"a": {"versions": {"b": 1}}, "configuration": {"c": {"d": [2]}, "e": "}"}, "versions": {"f": "3"}}
    text = json.dumps(facts, indent=2)
    path.write_text(text)
    assert load_record(str(path)) == facts
    assert load_record(str(path), LARGE) == facts | {"configuration": {}, "versions": {}}
    for content, found in ((text[:-1], {}), (text[:-4], {}), (text[:70], {}), (json.dumps(facts), facts)):
        path.write_text(content)
        assert load_record(str(path), LARGE) == found, content


def test_result_is_cut_after_a_word():
    assert cut_words("error=0.25 rate=0.125", 18) == "error=0.25 …"
    assert cut_words("a " + "b" * 20, 10) == "a bbbbbbb…", "half of the width is too much to lose"
    assert cut_words("日本語日本語", 8) == "日本語…"


def test_run_names_are_cut_while_they_differ():
    names = ["2026-01-02-03-04-05-123456", "2026-01-02-03-04-06-123456", "686"]
    column, fit = ["run", *names], Fit(typed=("run",), names=("config",))
    columns = [column, ["config", "abc_000"]]
    assert fit.needed(columns) == 29 and fit.widths(columns, 29) == [20, 7]
    assert fit.cells(column, 20) == ["run", "2026-01-02-03-04-05…", "2026-01-02-03-04-06…", "686"]
    assert len(set(fit.cells(column, 12))) == 4, "names that would look alike get a number"


def test_shortened_cells_stay_different():
    cells = ["aaaaa1zzzzz", "aaaaa2zzzzz", "aaaaa1zzzzz", "short"]
    short = shorten_all(cells, 8)
    assert short[0] == short[2] != short[1] and short[3] == "short" and max(map(len, short)) <= 8


def test_points_of_jobs_without_a_record(campaign, monkeypatch):
    """A task computes the points that its submission had, even if the grid has changed since."""
    from experiments.slurm import Ended, Job, Key, Queue

    root = str(campaign.path.resolve())
    jobs = {entry: Job(entry, state, "any", root) for entry, state in (("901_0", "PENDING"), ("901_3", "RUNNING"))}
    jobs["902_1"] = Job("902_1", "PENDING", "any", root)
    monkeypatch.setattr(Queue, "read", lambda: Queue("lab", jobs))
    ends = {Key("", "901_8"): Ended("901_8", "OUT_OF_MEMORY", "any", root, "0:125")}
    ends[Key("", "901_7")] = Ended("901_7", "COMPLETED", "any", root, "0:0")
    monkeypatch.setattr("experiments.history.read_ends", lambda wanted, own: ends)
    names = ["reference_1_0.001", "masked_0_0.001", "reference_2_0.001", "wide_2_0.001"]
    receipt(campaign, "a", 901)
    receipt(campaign, "b", 902, ntasks="2\n", points="".join(f"{name}\0hash\0" for name in names))
    found = json.loads(tool(campaign, "points", "011", "round2", "--json").stdout)
    states = [point["state"] for point in found["points"]]
    waiting, finished, missing = "queued", "finished", "missing"
    assert states[:6] == [waiting, missing, waiting, finished, finished, waiting]
    assert states[6:9] == ["failed", missing, "out of memory"]
    assert found["array"] == "0,3-4", "the newest submission was a pack of two points a task"


def test_logs_prints_the_log_of_a_job(campaign, monkeypatch):
    output = campaign.path / "experiments/011-x/slurm/output"
    for number, name in enumerate(("011-x_686.out", "other_900_3.out", "011-x_687.out")):
        (output / name).write_text(f"log of {name}\n")
        os.utime(output / name, (number, number))
    for words in (["687"], [], ["900_3"], ["wide_0_0.001"], ["round2/wide_0_0.001"]):
        name = "other_900_3.out" if words and words[0] != "687" else "011-x_687.out"
        done = typed(campaign, "logs", "011-x", *words)
        assert done.stdout == f"{output.resolve() / name}\nlog of {name}\n", done.stderr
    monkeypatch.setenv("PYTHONPATH", WITH_TOOL["PYTHONPATH"])
    terminal = Terminal(*TOOL, "logs", "011-x", "--follow", cwd=campaign.path, width=200)
    terminal.expect("log of 011-x_687.out")
    with (output / "011-x_687.out").open("a") as file:
        file.write("more\n")
    terminal.expect("more")
    terminal.child.terminate()
    problems = {
        "masked_0": "round2.smoke/masked_0_0.001 was run by hand, so it has no log",
        "gone": "round2/gone_0 was run by",
    }
    problems |= {"7_7": 'unknown run "7_7" of experiments/011-x. `experiments list'}
    for name, problem in problems.items():
        done = tool(campaign, "logs", "011-x", name)
        assert done.returncode == 1 and done.stderr.startswith(f"experiments: {problem}"), done.stderr


def test_short_names_of_experiments(campaign):
    """A path, the name and the number name the same experiment in every command, from any folder."""
    inside = campaign.path / "experiments/011-x/conf"
    for name in ("011-x", "011", "../../011-x"):
        assert "round2.smoke" in tool(campaign, "list", name, cwd=inside).stdout
        assert "scripts" not in tool(campaign, "check", name, cwd=inside).stderr
        assert tool(campaign, "update", "--dry-run", name, cwd=inside).returncode in (0, 3)
    (campaign.path / "experiments/011-other").mkdir()
    errors = {"011": '"011" is ambiguous: 011-other, 011-x. Write one of these names.'}
    errors |= {"012": 'unknown experiment "012"; the nearest of 2 in experiments/: 011-', "a/b": "a/b has no .copier-"}
    for name, error in errors.items():
        done = tool(campaign, "list", name)
        assert done.returncode == 1 and done.stderr.startswith(f"experiments: {error}"), done.stderr
    done = tool(campaign, "adopt", "011-x")
    assert "already is an experiment" in done.stderr
    assert Path(campaign.path, "experiments/011-other").is_dir()
