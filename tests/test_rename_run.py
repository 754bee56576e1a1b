"""rename-run and remove-run: they change the names of a run, and refuse whatever would be lost."""

import pytest
import yaml
from support.process import commit, edit, git
from support.updating import changed, contents, tool


@pytest.fixture
def sweeps(old, experiment):
    """Return 011-x with a run of each kind, and with edits in the files of one."""
    assert tool(old, "add-run", "experiments/011-x", "x", "gh_optuna", "gh_wandb", "gh-plain_009").returncode == 0
    edit(experiment / "scripts/gh_x_000.slurm", "\nexport PYTHONUN", "\nexport OMP_NUM_THREADS=8\nexport PYTHONUN")
    edit(experiment / "scripts/x.py", "import os.path", "# x_gh_000 is the first one.\nimport os.path")
    edit(experiment / "conf/x_gh_000.yaml", "seed:", "note: x_gh_000 of last/x_gh_000.ckpt\nseed:")
    commit(old.path)
    return experiment


def rename(lab, *words):
    return tool(lab, "rename-run", "experiments/011-x", *words)


def remove(lab, name):
    return tool(lab, "remove-run", "experiments/011-x", name)


def test_rename_run_moves_it_to_another_machine(old, sweeps):
    before = contents(sweeps)
    done = rename(old, "x_gh_000", "igb_cabbi_004")
    assert done.returncode == 0, done.stderr
    after = contents(sweeps)
    added = {"conf/x_cabbi_004.yaml", "scripts/igb_cabbi_x_004.slurm"}
    assert changed(before, after) == {
        *added,
        "conf/x_gh_000.yaml",
        "scripts/gh_x_000.slurm",
        "scripts/x.py",
        "README.md",
        ".copier-answers.yml",
    }
    assert {f"experiments/011-x/{name}" for name in {*added, "scripts/x.py", "README.md"}} == {*done.stdout.split()}
    launcher = after["scripts/igb_cabbi_x_004.slurm"].decode()
    assert "export OMP_NUM_THREADS=8\n" in launcher and "--config-name x_cabbi_004\n" in launcher
    assert "--partition=cabbi" in launcher and "=main" not in launcher
    assert b"note: x_cabbi_004 of last/x_gh_000.ckpt\n" in after["conf/x_cabbi_004.yaml"]
    assert b"# x_cabbi_004 is the first one.\n" in after["scripts/x.py"] and b"x_gh_000" not in after["README.md"]
    commit(old.path)
    assert tool(old, "check", "--ignore", "version").stdout == ""
    for old_name, new in (
        ("gh_x_optuna", "gh_optuna_r2"),
        ("x_gh_wandb", "gh_x_wandb_r2"),
        ("gh-plain_009", "gh-plain_010"),
    ):
        assert rename(old, old_name, new).returncode == 0
        commit(old.path)
    runs = yaml.safe_load((sweeps / ".copier-answers.yml").read_text())["runs"]["x"]
    assert runs == ["igb_cabbi_004", "delta_001", "gh_optuna_r2", "gh_wandb_r2", "gh-plain_010"]
    assert (sweeps / "conf/x_gh_wandb_r2_run.yaml").is_file() and not (sweeps / "conf/x_gh_wandb_run.yaml").exists()


def test_remove_run_deletes_its_files(old, sweeps):
    before = contents(sweeps)
    done = remove(old, "gh_x_optuna")
    assert done.returncode == 0 and done.stderr == ""
    gone = {"conf/x_gh_optuna.yaml", "scripts/gh_x_optuna.slurm", "scripts/optuna_worker.py"}
    assert changed(before, contents(sweeps)) == {*gone, ".copier-answers.yml"}
    commit(old.path)
    done = remove(old, "conf/x_gh_000.yaml")
    assert done.stderr == "gh_x_000 is still named in: README.md, scripts/x.py\n"
    commit(old.path)
    for token in ("delta_001", "gh_wandb", "gh-plain_009"):
        assert remove(old, token).returncode == 0
        commit(old.path)
    assert "\nruns: {}\n" in (sweeps / ".copier-answers.yml").read_text()
    assert tool(old, "check", "--ignore", "version").stdout == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["gh_x_007", "gh_008"], 'unknown run "gh_x_007" of experiments/011-x; expected one of: delta_x_001, gh_x_000'),
        (["gh_x_000", "mars_002"], 'unknown machine "mars"'),
        (["gh_x_000", "gh_000"], "gh_x_000 already has that name; nothing was changed"),
        (["gh_x_000", "y_gh_004"], 'run "y_gh_004" of x: unknown machine "y_gh"'),
        (["gh_x_000", "gh_optuna"], "gh_optuna is a different kind of run than gh_x_000; nothing was changed"),
        (["gh_x_000", "gh_001"], "the ID 001 of x is already used by delta_001; nothing was added"),
        (["gh_x_000", "gh_008"], "experiments/011-x/conf/x_gh_008.yaml exists; nothing was added."),
    ],
)
def test_rename_run_refuses_an_invalid_name(old, experiment, words, reason):
    (experiment / "conf/x_gh_008.yaml").write_text("mine\n")
    before = contents(experiment)
    done = rename(old, *words)
    assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1
    assert contents(experiment) == before


KEEP = "Keep it, and add a new one with add-run"


def record(lab, experiment):
    folder = lab.data / "experiments/011-x/runs/x_gh_000.smoke/12"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text("{}")
    return f"has recorded runs (1); nothing was changed. {KEEP}. Or move its records away: mv {folder.parent} ELSEWHERE"


def submit(lab, experiment):
    receipt = experiment / "slurm/submitted/2026-11-27-21-40-00-0123abcd"
    receipt.mkdir(parents=True)
    (receipt / "launcher").write_text("gh_x_000\n")
    (receipt / "job").write_text("12\n")
    return f"was submitted as job 12; nothing was changed. {KEEP}."


def change(lab, experiment):
    (experiment / "conf/x_gh_000.yaml").write_text("mine\n")
    return "conf/x_gh_000.yaml has uncommitted changes. Commit that, and run again."


def untrack(lab, experiment):
    git(lab.path, "rm", "--cached", "--quiet", experiment / "scripts/gh_x_000.slurm")
    git(lab.path, "commit", "--quiet", "--message", "x")
    return "scripts/gh_x_000.slurm is not committed; nothing was changed. Commit it, and run again."


@pytest.mark.parametrize("risk", [record, submit, change, untrack])
def test_run_at_risk_is_neither_renamed_nor_removed(old, experiment, risk):
    reason = risk(old, experiment)
    before = contents(experiment)
    for done in (rename(old, "gh_x_000", "gh_004"), remove(old, "gh_x_000")):
        assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1
        assert contents(experiment) == before
