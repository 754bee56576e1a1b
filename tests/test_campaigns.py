"""Launchers without a number, which take a configuration, and campaigns: grids of arms and axes."""

import pytest
from support.process import run
from support.slurm import Submitter, submitted

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
    assert f"slurm_x round2: job {numbers[0]}\n  log    {jobs.logs}/011-round2_{numbers[0]}.out\n" in done.stdout
    found = recorded(jobs)
    assert found[numbers[0]] == ("round2", {"seed": 3, "hours": 12})
    assert found[numbers[1]] == ("x", {"seed": 3, "hours": 12})
    receipts = {path.read_text() for path in jobs.experiment.glob("slurm/submitted/*/config")}
    assert receipts == {"round2\n", "x\n", "\n"}


@pytest.mark.parametrize(
    "words, problem",
    [
        (["gh_x"], "gh_x needs a configuration after it; expected one of: round2, x, y_gh_000"),
        (["gh_x", "seed=1"], "gh_x needs a configuration after it; "),
        (["gh_x", "--dry-run"], "gh_x needs a configuration after it; "),
        (["gh_x", "../round2"], "../round2 is not a configuration in "),
        (["gh_x", "a b"], "gh_x: a configuration's name has letters, digits, _, - and . only: a b"),
        (["gh_x", "round3"], "gh_x round3: there is no configuration experiments/011-x/conf/round3.yaml"),
        (["igb_mmli_x", "round3"], "igb_mmli_x round3: there is no configuration "),
        (["gh_x", "x", "gh_x", "conf/x"], "gh_x x is named twice. Name it once."),
        (["gh_x", "round2", "x"], "there is no launcher "),
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
