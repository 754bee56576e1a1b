"""Launchers without a number, which take a configuration, and campaigns: grids of arms and axes."""

import pytest
from support.process import remove, run
from support.slurm import WATCH, Submitter, submitted
from support.template import ROOT

TAKES_CONFIG = {"x": ["gh", "slurm", {"gh-pack": {"ntasks": 2}}, "desk", "igb_mmli"], "y": ["gh_000"]}


@pytest.fixture
def jobs(lab, slurm):
    jobs = Submitter(lab, slurm, runs=TAKES_CONFIG)
    lab.write_light("run.log(seed=cfg.seed, hours=cfg.hours)", script="x")
    text = (jobs.experiment / "conf/x.yaml").read_text()
    (jobs.experiment / "conf/round2.yaml").write_text(text.replace("hours: 24", "hours: 12"))
    return jobs


def recorded(jobs):
    return {record["job"]: (record["config"], record["metrics"]) for record in jobs.records()}


def test_launcher_takes_its_configuration(jobs, slurm):
    done = jobs.submit("slurm_x", "round2", "slurm_x", "conf/x.yaml", "gh_y_000", "seed=3", "hours=12")
    numbers = submitted(done)
    assert [slurm.wait(number)["JobState"] for number in numbers] == ["COMPLETED"] * 3
    assert [slurm.job(number)["JobName"] for number in numbers] == ["011-round2", "011-x", "011-y_gh_000"]
    assert f"slurm_x round2: job {numbers[0]}\n" in done.stdout
    assert f"\n{WATCH}011-round2_{numbers[0]}.out\n" in done.stdout
    found = recorded(jobs)
    assert found[numbers[0]] == ("round2", {"seed": 3, "hours": 12})
    assert found[numbers[1]] == ("x", {"seed": 3, "hours": 12})
    receipts = {path.read_text() for path in jobs.experiment.glob("slurm/submitted/*/config")}
    assert receipts == {"round2\n", "x\n", "\n"}


@pytest.mark.parametrize(
    "words, problem",
    [
        (["gh_x"], "gh_x needs a configuration; expected one of: round2, x, y_gh_000"),
        (["gh_x", "seed=1"], "gh_x needs a configuration; "),
        (["gh_x", "--dry-run"], "gh_x needs a configuration; "),
        (["gh_x", "../round2"], "../round2 is not a configuration in "),
        (["gh_x", "a b"], "gh_x: the name of a configuration can only contain letters, digits, _, - and dots: a b"),
        (["gh_x", "round3"], "gh_x round3: its configuration experiments/011-x/conf/round3.yaml does not exist"),
        (
            ["igb_mmli_x", "round3"],
            "igb_mmli_x round3: its configuration experiments/011-x/conf/round3.yaml does not exist",
        ),
        (["gh_x", "x", "gh_x", "conf/x"], "gh_x x is given twice. Remove one."),
        (["gh_x", "round2", "x"], "the launcher "),
    ],
)
def test_launcher_refuses_a_wrong_configuration(jobs, words, problem):
    assert jobs.refused(*words).startswith(f"submit.sh: {problem}")


def test_launcher_by_hand_takes_its_configuration(jobs):
    launcher = jobs.experiment / "scripts/desk_x.slurm"
    done = run("bash", launcher, cwd=jobs.lab.data, env=jobs.environment)
    assert done.returncode and "config: is missing. Write a configuration after the launcher, like x" in done.stderr
    done = run("bash", launcher, "round2", "seed=5", cwd=jobs.lab.data, env=jobs.environment)
    assert done.returncode == 0, done.stderr
    [log] = jobs.logs.glob("011-round2_*.out")
    assert list(recorded(jobs).values()) == [("round2", {"seed": 5, "hours": 12})], log.read_text()


def test_pack_takes_its_configuration(jobs, slurm):
    [number] = submitted(jobs.submit("gh_x-pack", "round2"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    assert {job: config for job, (config, _) in recorded(jobs).items()} == {f"{number}_{n}": "round2" for n in range(2)}


# Grids ----------------------------------------------------------------------------------------------------------------

ROUND3 = """\
defaults: [x, _self_]

grid:
  arms:
    reference: []
    short: [hours=12]
    other: {config: round2, overrides: [noise=0.1]}
  axes:
    seed: [0, 1]
"""
POINTS = ["reference_0", "reference_1", "short_0", "short_1", "other_0", "other_1"]


def write_grid(jobs, text=ROUND3, config="round3"):
    (jobs.experiment / f"conf/{config}.yaml").write_text(text)


def points_of(jobs, campaign="round3"):
    """Return what the records of a campaign's points have."""
    folder = jobs.lab.data / "experiments/011-x/runs" / campaign
    return {record["point"]: record for record in jobs.records() if record["folder"].startswith(f"{folder}/")}


def test_campaign_runs_each_point_once(jobs, slurm):
    write_grid(jobs)
    done = jobs.submit("slurm_x", "round3", "--dry-run")
    summary = f"points 6 of 6, 0 finished, 0 running: {' '.join(POINTS[:4])}\n         {' '.join(POINTS[4:])}"
    assert (done.stdout, done.stderr) == (f"slurm_x round3: ready\n  {summary}\n", "")
    done = jobs.submit("slurm_x", "round3")
    [number] = submitted(done)
    assert f"slurm_x round3: job {number}\n  {summary}\n" in done.stdout
    assert f"\n{WATCH}011-round3_{number}_0.out\n" in done.stdout
    for task in range(6):
        assert slurm.wait(f"{number}_{task}")["JobState"] == "COMPLETED", (
            jobs.logs / f"011-round3_{number}_{task}.out"
        ).read_text()
    records = points_of(jobs)
    assert sorted(records) == sorted(POINTS)
    found = {point: (record["metrics"]["seed"], record["metrics"]["hours"]) for point, record in records.items()}
    assert found == {point: (int(point[-1]), 24 if point.startswith("reference") else 12) for point in POINTS}
    assert {point: record["job"] for point, record in records.items()} == {
        point: f"{number}_{task}" for task, point in enumerate(POINTS)
    }
    [receipt] = jobs.experiment.glob("slurm/submitted/*")
    words = (receipt / "points").read_text().split("\0")[:-1]
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        point: record["configuration_hash"] for point, record in records.items()
    }
    again = jobs.submit("slurm_x", "round3")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == "slurm_x round3: nothing to submit\n  points 0 of 6, 6 finished, 0 running\n"
    again = jobs.submit("slurm_x", "round3", "--parsable")
    assert (again.returncode, again.stdout) == (3, "")
    assert again.stderr.startswith("submit.sh: nothing to submit: ")
    for point in ("reference_1", "other_0", "other_1"):
        remove(jobs.lab.data / "experiments/011-x/runs/round3" / point)
    [number] = submitted(jobs.submit("slurm_x", "round3", "--", "--hold"))
    assert slurm.job(number)["ArrayTaskId"] == "1,4-5"
    slurm("scancel", number)
    (jobs.experiment / "conf/x.yaml").write_text(
        (jobs.experiment / "conf/x.yaml").read_text().replace("hours: 24", "hours: 25")
    )
    line = jobs.refused("slurm_x", "round3")
    assert line.startswith(
        "submit.sh: slurm_x round3: round3: finished with another configuration: reference_0. Move them"
    )
    done = jobs.submit("slurm_x", "round3", "noise=0.2", "--name", "noisy", "--", "--array=2")
    [number] = submitted(done)
    assert slurm.wait(f"{number}_2")["JobState"] == "COMPLETED"
    assert {point: record["campaign"] for point, record in points_of(jobs, "round3.noisy").items()} == {
        "short_0": "round3.noisy"
    }


@pytest.mark.parametrize(
    "array, tasks", [("0-3,7", "0 1 2 3 7"), ("0-10:4%2", "0 4 8"), ("08-09", "8 9")], ids=["ranges", "step", "zeros"]
)
def test_tasks_of_an_array(array, tasks):
    code = 'source "$1"; for task in {0..9}; do ! is_in_array $task "$2" || found+=($task); done; echo "${found[*]}"'
    arrays = ROOT / "template/scripts/runtime/arrays.sh"
    assert run("bash", "-c", code, "bash", arrays, array, check=True).stdout == f"{tasks}\n"


GRID = "defaults: [x, _self_]\ngrid:\n"


@pytest.mark.parametrize(
    "text, words, problem",
    [
        (ROUND3, ["hours=12"], "round3 has a grid. Points with overrides need a name: --name NAME"),
        (ROUND3, ["point=short_0"], "point= only works in runs by hand. To submit one point: -- --array=NUMBER"),
        (ROUND3, ["--name", "a b"], None),
        (f"{GRID}  arms: {{a: [hours=x]}}\n  bad: 1\n", [], 'conf/round3.yaml: grid: unknown key "bad"; expected'),
        (
            f"{GRID}  arms: {{a: [hors=12]}}\n",
            [],
            "conf/round3.yaml: arm a: Could not override 'hors'. To append",
        ),
        (
            f"{GRID}  arms: {{a: [hors=12], b: [], c: [hors=12]}}\n",
            [],
            "conf/round3.yaml: arm a, arm c: Could not override 'hors'. To append",
        ),
        (f"{GRID}  arms: {{a: [], b: []}}\nhours: 1\nhours: 2\n", [], "conf/round3.yaml: while constructing a mapping"),
        (f"{GRID}  axes: {{noise: [0.1, 0.1]}}\n", [], "conf/round3.yaml: point 0.1: two points have this name"),
        (
            f"{GRID}  arms: {{a: [seed=1]}}\n  axes: {{seed: [1, 2]}}\n",
            [],
            "conf/round3.yaml: arm a: it sets seed, which",
        ),
        (f"{GRID}  axes: {{seed: 3}}\n", [], "conf/round3.yaml: axis seed: it must be a list"),
        (
            f"{GRID}  axes: {{seed: {list(range(1002))}}}\n",
            [],
            "conf/round3.yaml: its grid has 1002 points, but Slurm allows 1001 (MaxArraySize)",
        ),
        ("defaults: [round2, _self_]\nhours: 3\n", ["--name", "a"], None),
    ],
    ids=range(12),
)
def test_campaign_with_a_wrong_grid_is_refused(jobs, text, words, problem):
    write_grid(jobs, text)
    line = jobs.refused("slurm_x", "round3", *words)
    assert line.startswith("submit.sh: --name " if problem is None else f"submit.sh: slurm_x round3: {problem}")


def test_campaign_refuses_an_inherited_grid(jobs):
    write_grid(jobs)
    write_grid(jobs, "defaults: [round3, _self_]\nhours: 3\n", "round4")
    assert jobs.refused("slurm_x", "round4").startswith("submit.sh: slurm_x round4: conf/round4.yaml: ")
    write_grid(jobs, "defaults: [round3, _self_]\nhours: 3\ngrid: null\n", "round4")
    assert jobs.submit("slurm_x", "round4", "--dry-run").stdout == "slurm_x round4: ready\n"


def test_campaign_of_a_numbered_launcher_and_a_pack(jobs, slurm):
    """In a pack of two processes, two points share a task."""
    write_grid(
        jobs, (jobs.experiment / "conf/y_gh_000.yaml").read_text() + "grid: {axes: {seed: [5, 6]}}\n", "y_gh_000"
    )
    write_grid(jobs, f"{GRID}  axes: {{noise: [0.1, 0.2, 0.3]}}\n")
    numbers = submitted(jobs.submit("gh_y_000", "gh_x-pack", "round3"))
    for number in numbers:
        for task in range(2):
            assert slurm.wait(f"{number}_{task}")["JobState"] == "COMPLETED"
    assert sorted(points_of(jobs)) == ["0.1", "0.2", "0.3"]
    assert {path.read_text() for path in jobs.experiment.glob("slurm/submitted/*/ntasks")} == {"1\n", "2\n"}
    assert sorted(points_of(jobs, "y_gh_000")) == ["5", "6"]
    assert {record["status"] for record in jobs.records()} == {"finished"}


def test_campaign_composes_a_config_group(jobs, slurm):
    """The values of such an axis change other keys than its own."""
    for name, hours in (("small", 6), ("large", 36)):
        (jobs.experiment / "conf/size").mkdir(exist_ok=True)
        (jobs.experiment / f"conf/size/{name}.yaml").write_text(f"# @package _global_\nhours: {hours}\n")
    write_grid(jobs, "defaults: [x, _self_, size: small]\ngrid: {axes: {size: [small, large], seed: [0, 1]}}\n")
    [number] = submitted(jobs.submit("slurm_x", "round3"))
    for task in range(4):
        assert slurm.wait(f"{number}_{task}")["JobState"] == "COMPLETED"
    found = {point: record["metrics"]["hours"] for point, record in points_of(jobs).items()}
    assert found == {"small_0": 6, "small_1": 6, "large_0": 36, "large_1": 36}
    assert jobs.submit("slurm_x", "round3").stdout.endswith("points 0 of 4, 4 finished, 0 running\n")
    # More points are shared among processes. Jobs have recorded the hashes of four.
    seeds = f"seed: {list(range(16))}"
    write_grid(jobs, f"defaults: [x, _self_, size: small]\ngrid: {{axes: {{size: [small, large], {seeds}}}}}\n")
    assert "points 28 of 32, 4 finished, 0 running: " in jobs.submit("slurm_x", "round3", "--dry-run").stdout
    (jobs.experiment / "conf/size/large.yaml").write_text("# @package _global_\nhours: ${nothing}\n")
    assert "conf/round3.yaml: axis size, value 1: hours: " in jobs.refused("slurm_x", "round3")


def test_campaign_where_python_is_forbidden_needs_tasks(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["igb_cabbi"]})
    write_grid(jobs, f"{GRID}  axes: {{noise: [0.1, 0.2]}}\n")
    line = jobs.refused("igb_cabbi_x", "round3")
    assert line.endswith("round3 has a grid, but its points cannot be counted here. Pass the tasks: -- --array=0-N")
    [number] = submitted(jobs.submit("igb_cabbi_x", "round3", "--", "--array=0-1"))
    assert slurm.job(number)["ArrayTaskThrottle"] == "3"
    for task in range(2):
        log = jobs.logs / f"011-round3_{number}_{task}.out"
        assert slurm.wait(f"{number}_{task}")["JobState"] == "COMPLETED", log.read_text()
    assert sorted(points_of(jobs)) == ["0.1", "0.2"]
