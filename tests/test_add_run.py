"""add-run and set-run: they change a run's answer and its own files, and no others."""

import os
import subprocess

import pytest
import yaml
from support.process import commit, edit
from support.updating import RUNS, TOOL, WITH_TOOL, by_tool, changed, contents, is_new, tool


def test_add_run_works_in_a_dirty_tree(old, experiment):
    (experiment / "scripts/x.py").write_text("mine\n")
    (experiment / "untracked.txt").write_text("mine\n")
    before = contents(experiment)
    done = tool(old, "add-run", "experiments/011-x", "x", "igb_cabbi_002", "igb_mmli_003")
    assert done.returncode == 0, done.stderr
    added = [
        "conf/x_cabbi_002.yaml",
        "conf/x_mmli_003.yaml",
        "scripts/igb_cabbi_x_002.slurm",
        "scripts/igb_mmli_x_003.slurm",
    ]
    assert done.stdout.split() == [f"experiments/011-x/{name}" for name in added]
    after = contents(experiment)
    assert changed(before, after) == {*added, ".copier-answers.yml"}
    answers = yaml.safe_load(after[".copier-answers.yml"])
    assert answers["runs"] == {"x": ["gh_000", "delta_001", "igb_cabbi_002", "igb_mmli_003"]}
    assert answers["_commit"] == "v1.0.0" and answers["_src_path"] == str(old.template.path)
    commit(old.path)
    assert by_tool(old).returncode == 0 and is_new(experiment)
    assert tool(old, "check").stdout == ""


def test_add_run_adds_a_starter_or_keeps_the_users_script(old, experiment):
    assert tool(old, "add-run", "experiments/011-x", "select_triples", "gh_000").returncode == 0
    assert (
        "scripts/select_triples.py\n  --config-name select_triples_gh_000\n"
        in (experiment / "scripts/gh_select_triples_000.slurm").read_text()
    )
    assert old.start("select_triples_gh_000", script="select_triples").returncode == 0
    (experiment / "scripts/mine.py").write_text("mine\n")
    done = tool(old, "add-run", "experiments/011-x", "mine", "gh_000")
    assert done.stderr == "conf/mine_gh_000.yaml is empty, because mine has no configuration yet. Add its values\n"
    assert (experiment / "scripts/mine.py").read_text() == "mine\n"
    assert (experiment / "scripts/gh_mine_000.slurm").is_file()
    assert (experiment / "conf/mine_gh_000.yaml").read_text() == "defaults: [default, _self_]\n"


STARTS = """\
from runtime import CONF, Run
@hydra.main(
    version_base="1.3", config_path=CONF, config_name="base"
)
def main(cfg):
    pass
"""


def test_add_run_of_old_script_has_no_starter_parameters(old, experiment):
    (experiment / "scripts/fit.py").write_text(STARTS)
    assert tool(old, "add-run", "experiments/011-x", "fit", "gh_000").returncode == 0
    assert (experiment / "conf/fit_gh_000.yaml").read_text() == "defaults: [runtime, default, _self_]\n"
    (experiment / "conf/fit_gh_000.yaml").unlink()
    (experiment / "conf/base.yaml").write_text("lr: 0.1\nseed: ${task} # each its own\n")
    done = tool(old, "add-run", "experiments/011-x", "fit", "gh_001", "gh_optuna", "delta_wandb")
    assert "conf/fit_gh_001.yaml is a copy of conf/base.yaml\n" in done.stderr
    assert "conf/fit_delta_wandb.yaml has no parameters yet. Add them\n" in done.stderr
    optuna = yaml.safe_load((experiment / "conf/fit_gh_optuna.yaml").read_text())
    assert (optuna["lr"], optuna["seed"], optuna["sweep"]["params"]) == (0.1, 0, "???") and len(optuna) == 3
    assert optuna["sweep"]["sampler"]["_target_"] == "optuna.samplers.TPESampler"
    wandb = yaml.safe_load((experiment / "conf/fit_delta_wandb.yaml").read_text())
    assert wandb["parameters"] == {} and wandb["command"][-1] == "${args_no_hyphens}"
    values = yaml.safe_load((experiment / "conf/fit_delta_wandb_run.yaml").read_text())
    assert values == {"lr": 0.1, "seed": 0}


@pytest.mark.parametrize(
    ("script", "token", "reason"),
    [
        ("x", "mars_002", 'unknown machine "mars"'),
        (
            "x",
            "gh_000",
            "the ID 000 of x is already used by gh_000; nothing was added. Use another ID, or change that run: "
            "`experiments set-run experiments/011-x x gh_000 mem=100g`",
        ),
        ("x", "igb_cabbi_001", "the ID 001 of x is already used by delta_001; nothing was added."),
        ("x", "gh-2", 'unknown mode "2"'),
        ("x", "gone_002", "gone is retired and cannot have new runs"),
        ("x-y", "gh_002", "is not a module name"),
        ("x", "delta_007", "conf/x_gh_007.yaml exists, so its number is used"),
        ("x", "gh_007", "conf/x_gh_007.yaml exists, so its number is used"),
        ("x", "gh_008", "scripts/gh_x_008.slurm exists, so its number is used"),
    ],
)
def test_add_run_refuses_an_invalid_run(old, experiment, script, token, reason):
    (experiment / "conf/x_gh_007.yaml").write_text("mine\n")
    (experiment / "scripts/gh_x_008.slurm").write_text("mine\n")
    before = contents(experiment)
    done = tool(old, "add-run", "experiments/011-x", script, token)
    assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1
    assert contents(experiment) == before


PATHS = "last: runs/x_delta_001/last.ckpt\nbest: x_delta_001_best.ckpt\n"  # files that a new run does not have


def test_add_run_copies_the_newest_configuration(old, experiment):
    (experiment / "conf/x_gh_000.yaml").write_text("defaults: [runtime, default, _self_]\nhours: 1\n")
    (experiment / "conf/x_delta_001.yaml").write_text("defaults: [runtime, default]\nhours: 99 # x_delta_001\n" + PATHS)
    done = tool(old, "add-run", "experiments/011-x", "x", "gh_002")
    assert done.returncode == 0, done.stderr
    assert "hours: 99" in (experiment / "conf/x_gh_002.yaml").read_text()
    assert "# x_gh_002\n" + PATHS in (experiment / "conf/x_gh_002.yaml").read_text()
    assert done.stderr == "conf/x_gh_002.yaml is a copy of conf/x_delta_001.yaml\n"


def test_add_run_adds_a_sweep_to_the_newest_configuration(old, experiment):
    (experiment / "conf/x_delta_001.yaml").write_text("defaults: [runtime, default]\nhours: 99 # x_delta_001")
    done = tool(old, "add-run", "experiments/011-x", "x", "gh_optuna_r2", "gh_wandb")
    assert done.stderr == (
        "conf/x_gh_optuna_r2.yaml is a copy of conf/x_delta_001.yaml, with a sweep. Set its params\n"
        "conf/x_gh_wandb.yaml has no parameters yet. Add them\n"
        "conf/x_gh_wandb_run.yaml is a copy of conf/x_delta_001.yaml\n"
    )
    text = (experiment / "conf/x_gh_optuna_r2.yaml").read_text()
    assert text.startswith("defaults: [runtime, default]\nhours: 99 # x_gh_optuna_r2\n\n# All workers ")
    cfg = yaml.safe_load(text)
    assert cfg["hours"] == 99 and cfg["sweep"].pop("params") == "???"
    assert (cfg["sweep"]["study"], cfg["sweep"]["objective"]) == ("011-x_gh_optuna_r2", "x.main")
    assert (experiment / "conf/x_gh_wandb_run.yaml").read_text().endswith("hours: 99 # x_gh_wandb_run")
    assert yaml.safe_load((experiment / "conf/x_gh_wandb.yaml").read_text())["method"] == "bayes"


def test_add_run_accepts_sbatch_options(old, experiment):
    done = tool(old, "add-run", "experiments/011-x", "x", "gh-pack_002", "ntasks=4", "time=0-12:00:00", "comment=007")
    assert done.returncode == 0, done.stderr
    launcher = (experiment / "scripts/gh_x-pack_002.slurm").read_text()
    assert "#SBATCH --ntasks=4\n" in launcher and "#SBATCH --time=0-12:00:00\n" in launcher
    assert "#SBATCH --comment=007\n" in launcher


def test_add_run_twice_at_once_keeps_both_answers(old, experiment):
    command = [*TOOL, "add-run", "experiments/011-x", "x"]
    started = [
        subprocess.Popen([*command, token], cwd=old.path, env=os.environ | WITH_TOOL, stdout=subprocess.DEVNULL)
        for token in ("gh_002", "gh_003")
    ]
    assert [process.wait() for process in started] == [0, 0]
    answers = yaml.safe_load((experiment / ".copier-answers.yml").read_text())
    assert sorted(answers["runs"]["x"][2:]) == ["gh_002", "gh_003"]
    assert tool(old, "check").stdout.count("\n") == 1, "more than the version is found"


def test_set_run_changes_only_launcher_and_answer(old, experiment):
    launcher = experiment / "scripts/gh_x_000.slurm"
    edit(launcher, "run=(", "export MINE=1\nrun=(")
    (experiment / "scripts/x.py").write_text("mine, not committed\n")
    before = contents(old.path)
    words = ["mem=100g", "time=0-12:00:00", "gres=null", "exclusive=true", "nodes=1"]
    done = tool(old, "set-run", "experiments/011-x", "x", "gh_000", *words)
    assert done.returncode == 0, done.stderr
    names = {"experiments/011-x/scripts/gh_x_000.slurm", "experiments/011-x/.copier-answers.yml"}
    assert changed(before, contents(old.path)) == names
    text = launcher.read_text()
    for line in ("--mem=100g", "--time=0-12:00:00", "--exclusive", "--nodes=1"):
        assert f"#SBATCH {line}\n" in text
    assert "--gres" not in text and "export MINE=1\n" in text
    answers = yaml.safe_load((experiment / ".copier-answers.yml").read_text())
    request = {"mem": "100g", "time": "0-12:00:00", "gres": None, "exclusive": True, "nodes": 1}
    assert answers["runs"] == {"x": [{"gh_000": request}, "delta_001"]}
    again = tool(old, "set-run", "experiments/011-x", "x", "gh_000", *(f"{word.split('=')[0]}=" for word in words))
    assert again.returncode == 0, again.stderr
    assert yaml.safe_load((experiment / ".copier-answers.yml").read_text())["runs"] == RUNS
    assert "--mem=64g" in launcher.read_text() and "export MINE=1\n" in launcher.read_text()
    again = tool(old, "set-run", "experiments/011-x", "x", "gh_000", "mem=")
    said = "gh_000 of x already requests that; nothing was changed\n"
    assert (again.returncode, again.stdout, again.stderr) == (0, "", said)


def test_set_run_changes_a_sweep(lab):
    experiment = lab.render(runs={"x": ["delta_wandb", "gh_optuna"]})
    before = contents(experiment)
    for token, launcher in (("delta_wandb", "delta_x_wandb"), ("gh_optuna", "gh_x_optuna")):
        done = tool(lab, "set-run", "experiments/011-x", "x", token, "array=0-3%2")
        assert done.returncode == 0, done.stderr
        assert "#SBATCH --array=0-3%2\n" in (experiment / f"scripts/{launcher}.slurm").read_text()
    names = {"scripts/delta_x_wandb.slurm", "scripts/gh_x_optuna.slurm", ".copier-answers.yml"}
    assert changed(before, contents(experiment)) == names and tool(lab, "check").stdout == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["x", "gh_009", "mem=1g"],
            'unknown run "gh_009" of x in experiments/011-x; expected one of: gh_000, del',
        ),
        (["y", "gh_000", "mem=1g"], 'unknown script "y" of experiments/011-x; expected one of: x'),
        (["x", "gh_000", "mem"], "mem is not KEY=VALUE"),
        (["x", "gh_000", "time=43200"], "time is 43200, because"),
        (["x", "gh_000", "output=a"], "output is set by the template"),
        (["x", "delta_001", "mem=1g"], "scripts/delta_x_001.slurm was edited in the same lines"),
    ],
)
def test_set_run_refusal_changes_nothing(old, experiment, words, reason):
    launcher = experiment / "scripts/delta_x_001.slurm"
    edit(launcher, "--mem=200g", "--mem=201g")
    before = contents(experiment)
    done = tool(old, "set-run", "experiments/011-x", *words)
    assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert contents(experiment) == before


def test_set_run_refuses_symlinks_and_binary_launchers(old, experiment):
    launcher = experiment / "scripts/gh_x_000.slurm"
    text = launcher.read_bytes()
    launcher.write_bytes(text + b"\0")
    (experiment / "scripts/delta_x_001.slurm").rename(experiment / "scripts/mine")
    (experiment / "scripts/delta_x_001.slurm").symlink_to("mine")
    before = contents(experiment)
    for token, reason in (
        ("gh_000", "is not text; nothing was changed"),
        ("delta_001", "is a symlink, lies below one, or is not a regular file"),
    ):
        done = tool(old, "set-run", "experiments/011-x", "x", token, "mem=1g")
        assert done.returncode == 1 and reason in done.stderr, done.stderr
    assert contents(experiment) == before
