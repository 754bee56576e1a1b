"""Update: repositories of any kind, with any settings of git."""

import os
import shutil
from pathlib import Path

import pytest
from support.process import commit, git
from support.updating import BOTH, MOVED, by_copier, by_tool, changed, contents, is_new, skipped, tool


def test_git_settings_do_not_matter(old, experiment, tmp_path, monkeypatch):
    (experiment / "scripts/x.py").write_text("trailing   \n\n\n")
    (old.path / "torchcell/more.py").write_text("trailing   \n")
    commit(old.path)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for hook in (
        "pre-commit",
        "commit-msg",
        "post-commit",
        "reference-transaction",
        "post-index-change",
        "post-checkout",
    ):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\nexit 1\n")
        (hooks / hook).chmod(0o755)
    config = Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text()
    (tmp_path / "gitconfig").write_text(
        f"{config}[core]\nautocrlf = true\nsafecrlf = true\nhooksPath = {hooks}\nquotePath = true\nfileMode = false\n"
        "[apply]\nwhitespace = error\n[commit]\ngpgSign = true\ntemplate = /nowhere\n[gpg]\nprogram = /bin/false\n"
        "[diff]\nnoprefix = true\nmnemonicPrefix = true\nexternal = /bin/false\nrenames = copies\n"
        "[status]\nshowUntrackedFiles = no\nrelativePaths = true\n[color]\nui = always\n[init]\ndefaultBranch = odd\n"
        "[merge]\nconflictStyle = diff3\n[push]\ndefault = nothing\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    done = tool(old, "update", "--commit")
    assert done.returncode == 0, done.stdout
    assert is_new(experiment) and not (tmp_path / "hook-ran").exists()
    assert (
        git(old.path, "log", "-1", "--format=%s").strip() == "Update experiments/011-x from template v1.0.0 to v1.1.0"
    )
    assert git(old.path, "status", "--porcelain") == ""


def test_crlf_in_the_working_tree_is_not_an_edit(old, experiment):
    git(old.path, "config", "core.autocrlf", "true")
    shutil.rmtree(experiment)
    git(old.path, "checkout", "--", "experiments")
    assert b"\r\n" in (experiment / "scripts/submit.sh").read_bytes()
    done = tool(old, "update", "--commit")
    assert done.returncode == 0, done.stdout
    assert is_new(experiment) and git(old.path, "status", "--porcelain") == ""


def test_git_hook_can_run_an_update(old, experiment):
    done = tool(old, "update", env={"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index", "GIT_WORK_TREE": "/"})
    assert done.returncode == 0, done.stderr
    assert is_new(experiment)


def test_ignored_files_do_not_slow_an_update(old, experiment):
    folder = old.path / "torchcell/cache"
    folder.mkdir()
    for number in range(50_000):
        (folder / f"{number}.pyc.dat").touch()
    (old.path / ".gitignore").write_text((old.path / ".gitignore").read_text() + "*.dat\n")
    commit(old.path)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and len(list(folder.iterdir())) == 50_000


def test_leftover_reject_files_do_not_matter(old, experiment):
    (old.path / "torchcell/timestamp.py").write_text("edited\n")
    (old.path / "torchcell/timestamp.py.rej").write_text("old\n")
    assert by_tool(old).returncode == 0
    assert is_new(experiment)
    assert (old.path / "torchcell/timestamp.py").read_text() == "edited\n"
    assert (old.path / "torchcell/timestamp.py.rej").read_text() == "old\n"


def test_sparse_partial_clone_is_updated(old, tmp_path):
    (old.path / "torchcell/large.bin").write_bytes(os.urandom(1000))
    commit(old.path)
    git(old.path, "config", "uploadpack.allowFilter", "true")
    git(old.path, "config", "uploadpack.allowAnySHA1InWant", "true")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", "--sparse", f"file://{old.path}", clone)
    git(clone, "sparse-checkout", "set", "experiments/011-x")
    done = tool(old, "update", "--commit", cwd=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert is_new(clone / "experiments/011-x")
    assert not (clone / "torchcell").exists() and git(clone, "status", "--porcelain") == ""
    assert git(clone, "show", "--format=", "--name-only", "HEAD").count("\n") == 3


def test_staged_work_elsewhere_is_kept(old, experiment):
    (old.path / "torchcell/timestamp.py").unlink()
    git(old.path, "rm", "--quiet", "--cached", "torchcell/__init__.py")
    (old.path / "staged.md").write_text("staged\n")
    git(old.path, "add", "staged.md")
    (experiment / "scripts/x.py").write_text("mine, not committed\n")
    before = git(old.path, "status", "--porcelain")
    done = tool(old, "update", "--commit")
    assert done.returncode == 0, done.stdout
    assert is_new(experiment)
    assert git(old.path, "status", "--porcelain") == before
    assert set(git(old.path, "show", "--format=", "--name-only", "HEAD").split()) == {
        f"experiments/011-x/{name}"
        for name in (".copier-answers.yml", "scripts/submit.sh", "scripts/delta_x_001.slurm")
    }
    assert (experiment / "scripts/x.py").read_text() == "mine, not committed\n"


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(  # Copier refuses uncommitted changes
    ("update", "committed"), [(by_copier, True), (by_tool, True), (by_tool, False)]
)
def test_symlinks_to_scratch_are_kept(old, experiment, tmp_path, update, exists, committed):
    for name in ("results", "profiling_results", "slurm/output"):
        shutil.rmtree(experiment / name)
        (experiment / name).symlink_to(tmp_path / "scratch" / name)
        if exists:
            (tmp_path / "scratch" / name).mkdir(parents=True)
            (tmp_path / "scratch" / name / "kept").write_text("kept\n")
    if committed:
        commit(old.path)
    before = contents(experiment)
    scratch = contents(tmp_path / "scratch")
    done = update(old)
    assert done.returncode == 0, done.stderr
    assert is_new(experiment)
    after = contents(experiment)
    assert changed(before, after) == MOVED
    assert contents(tmp_path / "scratch") == scratch


def test_sha256_repository_is_updated(old, experiment):
    shutil.rmtree(old.path / ".git")
    git(old.path, "init", "--quiet", "--object-format=sha256")
    assert skipped(by_tool(old), experiment, "it is not committed")
    commit(old.path)
    for options in ([], ["--commit"]):
        assert tool(old, "update", *options).returncode == 0
    assert is_new(experiment) and git(old.path, "status", "--porcelain") == ""


def test_path_with_brackets_is_not_a_pattern(own_old):
    scripts = own_old.path / "experiments/011-x/scripts"
    (scripts / "new1.sh").write_text("mine\n")
    commit(own_old.path)
    (scripts / "new1.sh").write_text("mine, not committed\n")
    (own_old.template.path / "template/scripts/new[1].sh").write_text("the template's\n")
    own_old.template.release("v1.2.0")
    done = tool(own_old, "update", "--commit")
    assert done.returncode == 0, done.stdout
    assert (scripts / "new[1].sh").read_text() == "the template's\n"
    assert git(own_old.path, "status", "--porcelain") == " M experiments/011-x/scripts/new1.sh\n"


@BOTH
def test_renamed_folder_is_updated(old, experiment, update):
    git(old.path, "mv", "experiments/011-x", "experiments/012-x")
    commit(old.path)
    renamed = experiment.with_name("012-x")
    assert update(old, "experiments/012-x").returncode == 0
    assert is_new(renamed) and not experiment.exists()


@BOTH
def test_worktree_is_updated(old, experiment, tmp_path, update):
    git(old.path, "worktree", "add", "--quiet", tmp_path / "worktree")
    done = update(old, tmp_path / "worktree/experiments/011-x")
    assert done.returncode == 0, done.stderr
    assert is_new(tmp_path / "worktree/experiments/011-x") and not is_new(experiment)


def test_path_or_option_that_is_wrong_is_one_line(old, experiment):
    (old.path / "empty").mkdir()
    for arguments, message in (
        (["update", "nowhere"], 'experiments: unknown experiment "nowhere"; the nearest of 1 in experiments/: 011-x'),
        (["check", "empty"], "experiments: empty has neither .copier-answers.yml nor scripts/"),
        (["add-run", "./nowhere", "x", "gh_001"], "experiments: ./nowhere has no .copier-answers.yml"),
    ):
        done = tool(old, *arguments)
        assert done.returncode == 1 and done.stderr.startswith(message) and done.stderr.count("\n") == 1
    (old.path / "experiments/005 old").mkdir()
    advice = ". To adopt it, run `experiments adopt 'experiments/005 old'`.\n"
    assert tool(old, "update", "experiments/005 old").stderr.endswith(advice)
    assert tool(old, "update", "-d", "rnus=1").returncode == 2
    done = tool(old, "update", cwd=old.template.path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "no experiment of this template" in done.stderr
    done = tool(old, "update", cwd="/")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "not a git repository" in done.stderr


def test_path_can_be_a_link_or_have_dots(old, experiment):
    (old.path / "experiments/latest").symlink_to("011-x")
    commit(old.path)
    shutil.copytree(experiment, experiment.with_name("012-y"))
    commit(old.path)
    assert tool(old, "update", "experiments/latest").returncode == 0
    assert is_new(experiment) and (old.path / "experiments/latest").is_symlink()
    assert tool(old, "update", "..", cwd=old.path / "experiments/012-y/scripts").returncode == 0
    assert is_new(experiment.with_name("012-y"))
    commit(old.path)
    done = by_tool(old)
    assert done.stdout.count("up to date") == 2 and done.returncode == 0, "the link was taken for a third experiment"


def test_experiment_can_be_its_own_repository(old, experiment):
    git(experiment, "init", "--quiet")
    commit(experiment)
    done = tool(old, "update", "--commit", "experiments/011-x")
    assert done.returncode == 0, done.stdout
    assert is_new(experiment) and git(experiment, "status", "--porcelain") == ""
    assert git(experiment, "log", "-1", "--format=%s") == "Update 011-x from template v1.0.0 to v1.1.0\n"
