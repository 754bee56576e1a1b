"""Points of a campaign: one run per point, by hand and in jobs, each computed exactly once."""

import json
import shutil

import pytest

ROUND2 = """\
defaults: [runtime, default, _self_]
grid:
  arms:
    reference: []
    wide: [hidden=256, lr=6e-4]
    masked: {config: mask, overrides: [lr=3e-4]}
  axes:
    seed: [0, 1]
hidden: 128
lr: 1e-3
seed: ${task}
mask: null
"""
MASK = "defaults: [runtime, default, _self_]\nhidden: 64\nlr: 1e-3\nseed: ${task}\nmask: 7\n"
PRINT = 'print(sorted(set(cfg)), cfg.config, cfg.task, cfg.hidden, cfg.lr, cfg.seed, cfg.mask)\nrun.table([{"a": 1}])'
KEYS = "['config', 'folder', 'hidden', 'inputs', 'lr', 'mask', 'profiler', 'seed', 'task', 'title', 'trial', 'wandb']"


@pytest.fixture
def campaign(lab):
    """Return a lab whose script light.py prints the configuration of round2, a campaign of six points."""
    lab.render()
    write_conf(lab, round2=ROUND2, mask=MASK)
    lab.write_light(PRINT)
    return lab


def write_conf(lab, **files):
    for name, text in files.items():
        (lab.path / f"experiments/011-x/conf/{name}.yaml").write_text(text)


def start(lab, *words, config="round2", **kwargs):
    return lab.start(config, *words, script="light", **kwargs)


def refusal(done):
    """Return the one line of a refusal."""
    assert done.returncode == 1 and done.stdout == "", done.stdout
    [line] = done.stderr.splitlines()
    return line


def folder_of(lab, point, campaign="round2"):
    return lab.data / "experiments/011-x/runs" / campaign / point


def record_of(lab, point, campaign="round2"):
    return json.loads((folder_of(lab, point, campaign) / "provenance.json").read_text())


# By hand --------------------------------------------------------------------------------------------------------------


def test_point_by_hand_runs_once(campaign):
    done = start(campaign, "point=wide_1")
    assert (done.stdout, done.stderr) == (f"{KEYS} round2 0 256 0.0006 1 None\n", "")
    folder, record = folder_of(campaign, "wide_1"), record_of(campaign, "wide_1")
    assert {path.name for path in folder.iterdir()} == {".hydra", "claims", "provenance.json", "wide_1.csv"}
    table = campaign.path / "experiments/011-x/results/round2/wide_1.csv"
    assert record["tables"] == [str(folder / "wide_1.csv"), str(table)] and table.read_text() == "a\n1\n"
    assert (record["status"], record["stem"], record["config"]) == ("finished", "011-round2_wide_1", "round2")
    assert (record["campaign"], record["point"], record["arm"]) == ("round2", "wide_1", "wide")
    assert record["axes"] == {"seed": 1} and record["overrides"] == ["hidden=256", "lr=6e-4", "seed=1"]

    done = start(campaign, "point=wide_1")
    assert refusal(done) == f"point wide_1 of round2: it is finished. Move {folder} away to compute it again."
    write_conf(campaign, round2=ROUND2 + "extra: 1\n")
    line = refusal(start(campaign, "point=wide_1"))
    assert line.startswith(f"point wide_1 of round2: it is finished with another configuration. Move {folder} away")

    done = start(campaign, "title=Other", "point=masked_0", "wandb.mode=disabled")
    assert done.stdout == f"{KEYS} round2 0 64 0.0003 0 7\n", done.stderr
    record = record_of(campaign, "masked_0")
    assert record["overrides"] == ["lr=3e-4", "seed=0", "title=Other", "wandb.mode=disabled"]


def test_point_shows_its_configuration(campaign):
    done = start(campaign, "--cfg", "job", "point=wide_1")
    assert done.returncode == 0, done.stderr
    assert {"config: round2", "hidden: 256", "lr: 0.0006", "seed: 1", "point: wide_1"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "round2 has a grid of 6 points. Choose one, like point=reference_0"),
        (["-m", "lr=1,2"], "round2 has a grid of 6 points. Choose one, like point=reference_0"),
        (["point=wide_7"], 'unknown point "wide_7" of round2; the nearest of its 6 points: wide_1, wide_0, masked_1'),
        (["point=wide_0", "-m"], "point=wide_0: a point is one run. Leave --multirun out."),
        (["point=wide_0", "point=wide_1"], "point=wide_0 point=wide_1: a run computes one point. Leave one of them."),
        (
            ["point=wide_0", "lr=1", "wandb.mode=offline"],
            "point=wide_0 lr=1: other overrides need a folder of their own. Add config=round2.NAME, or leave them out.",
        ),
        (
            ["point=wide_0", "config=x.y"],
            "config=x.y: it must be config=round2.NAME, with a NAME of letters, digits, - and _.",
        ),
        (["++point=wide_0"], "++point=wide_0: write it without ++."),
    ],
)
def test_point_wrong_words_are_refused(campaign, words, message):
    assert refusal(start(campaign, *words)) == message
    assert not folder_of(campaign, "").parent.exists()


def test_point_of_wrong_configuration_is_refused(campaign):
    write_conf(campaign, heir="defaults: [round2, _self_]\n", none="defaults: [round2, _self_]\ngrid: null\n")
    write_conf(campaign, broken=ROUND2.replace("seed: [0, 1]", "lr: [1]"), typo=ROUND2.replace("[]", "["))
    line = refusal(start(campaign, config="heir"))
    assert line == "conf/heir.yaml: it inherits a grid. Write a grid: of its own, or `grid: null` for none."
    assert start(campaign, config="none").stdout == f"{KEYS} none 0 128 0.001 0 None\n"
    assert (
        refusal(start(campaign, "point=a", config="none")) == "point=a: conf/none.yaml has no grid. Leave point= out."
    )
    line = refusal(start(campaign, "point=a", config="broken"))
    assert line == "conf/broken.yaml: arm wide: it sets lr, which is an axis. Remove one of them."
    assert refusal(start(campaign, "point=a", config="typo")).startswith(
        "conf/typo.yaml: while parsing a flow sequence"
    )
    assert refusal(start(campaign, "point=a", config="nix")) == "conf/nix.yaml: there is no such file."
    line = refusal(campaign.python("experiments/011-x/scripts/light.py", "point=a"))
    assert line == "point=a: it needs the name of a configuration. Write --config-name CONFIG point=a"


def test_point_with_name_and_overrides_has_own_folder(campaign):
    done = start(campaign, "point=wide_0", "config=round2.smoke", "lr=5")
    assert done.stdout == f"{KEYS} round2.smoke 0 256 5 0 None\n", done.stderr
    record = record_of(campaign, "wide_0", "round2.smoke")
    assert (record["config"], record["stem"]) == ("round2.smoke", "011-round2.smoke_wide_0")
    assert record["overrides"] == ["hidden=256", "lr=6e-4", "seed=0", "lr=5"]
    assert (campaign.path / "experiments/011-x/results/round2.smoke/wide_0.csv").exists()
    assert not folder_of(campaign, "wide_0").exists()


def test_point_by_hand_continues_after_a_kill(campaign):
    campaign.write_light("if not osp.exists(f'{run.folder}/.hydra_1'):\n    os.kill(os.getpid(), 9)")
    assert start(campaign, "point=wide_0").returncode == -9
    assert start(campaign, "point=wide_0").returncode == 0
    folder, record = folder_of(campaign, "wide_0"), record_of(campaign, "wide_0")
    assert {path.name for path in folder.iterdir()} == {".hydra", ".hydra_1", "claims", "provenance.json"}
    assert [attempt["status"] for attempt in record["attempts"]] == ["terminated", "finished"]
    assert sorted(path.name for path in (folder / "claims").iterdir()) == ["001", "002"]


def test_point_held_elsewhere_is_refused(campaign):
    """A process on another host cannot be looked for, and without Slurm no job can."""
    claim = {"cluster": None, "job": None, "task": None, "restart": 0, "host": "other", "pid": 7, "started": "1"}
    folder = folder_of(campaign, "wide_0")
    path = folder / "claims/001"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(claim | {"submission": None}))
    line = refusal(start(campaign, "point=wide_0"))
    assert line == f"{path}: process 7 on other has claimed this point. If it has ended, remove this file."
    path.write_text(json.dumps(claim | {"submission": None, "cluster": "delta", "job": "5", "task": "3"}))
    line = refusal(start(campaign, "point=wide_0"))
    assert line.startswith("job 5_3 holds a point, and Slurm does not answer about it: it is a job of cluster delta")
    path.write_text("")
    line = refusal(start(campaign, "point=wide_0"))
    assert line == f"{path}: it is not a claim. If no process computes this point, remove this file."
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "provenance.json").write_text("{}")
    assert refusal(start(campaign, "point=wide_0")) == f"{folder} belongs to another run. Move it away."
