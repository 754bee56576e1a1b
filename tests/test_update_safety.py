"""Update: nobody loses work. Where something is at stake, the experiment is left as it was, and the tool says why."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.lab import make_lab
from support.process import commit, git, run
from support.updating import RUNS, TOOL, WITH_TOOL, by_tool, contents, is_new, left, tool


def test_a_file_that_the_monorepo_ignores_is_updated(old, experiment):
    (old.path / ".gitignore").write_text((old.path / ".gitignore").read_text() + "*.slurm\nconf/\n*.cql\nsubmit.sh\n")
    commit(old.path)
    before = contents(experiment)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and contents(experiment).keys() == before.keys()


def test_an_ignored_file_where_the_new_version_has_one_stays(own_old):
    experiment = own_old.path / "experiments/011-x"
    (own_old.template.path / "template/scripts/helper.sh").write_text("the template's\n")
    own_old.template.release("v1.2.0")
    (own_old.path / ".gitignore").write_text((own_old.path / ".gitignore").read_text() + "helper.sh\n")
    commit(own_old.path)
    (experiment / "scripts/helper.sh").write_text("mine\n")
    before = contents(own_old.path)
    assert left(by_tool(own_old), experiment, "experiments/011-x/scripts/helper.sh is in the way, and not in git")
    assert contents(own_old.path) == before


@pytest.mark.parametrize("bit", ["--skip-worktree", "--assume-unchanged"])
def test_edits_that_git_was_told_to_overlook_stay(old, experiment, bit):
    git(experiment, "update-index", bit, "scripts/submit.sh")
    (experiment / "scripts/submit.sh").write_text("mine\n")
    assert left(by_tool(old), experiment, "scripts/submit.sh has uncommitted changes")
    assert (experiment / "scripts/submit.sh").read_text() == "mine\n" and not is_new(experiment)


def test_a_leftover_reject_elsewhere_costs_nothing(old, experiment):
    (old.path / "torchcell/timestamp.py").write_text("edited\n")
    (old.path / "torchcell/timestamp.py.rej").write_text("old\n")
    assert by_tool(old).returncode == 0
    assert is_new(experiment)
    assert (old.path / "torchcell/timestamp.py").read_text() == "edited\n"
    assert (old.path / "torchcell/timestamp.py.rej").read_text() == "old\n"


def test_a_conflict_leaves_its_experiment_and_others_proceed(old, experiment):
    shutil.copytree(experiment, experiment.with_name("012-y"))
    launcher = experiment / "scripts/delta_x_001.slurm"
    launcher.write_text(launcher.read_text().replace("bfjt-delta-gpu", "my-account"))
    commit(old.path)
    before = contents(experiment)
    done = by_tool(old)
    assert left(done, experiment, "conflict in scripts/delta_x_001.slurm")
    assert contents(experiment) == before
    assert is_new(experiment.with_name("012-y"))
    assert git(old.path, "diff", "--name-only", "--diff-filter=U") == ""


def test_odd_settings_of_git_do_not_matter(old, experiment, tmp_path, monkeypatch):
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


def test_crlf_in_the_working_tree_is_no_edit(old, experiment):
    git(old.path, "config", "core.autocrlf", "true")
    shutil.rmtree(experiment)
    git(old.path, "checkout", "--", "experiments")
    assert b"\r\n" in (experiment / "scripts/submit.sh").read_bytes()
    done = tool(old, "update", "--commit")
    assert done.returncode == 0, done.stdout
    assert is_new(experiment) and git(old.path, "status", "--porcelain") == ""


def test_a_hook_of_git_may_call_it(old, experiment):
    done = tool(old, "update", env={"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index", "GIT_WORK_TREE": "/"})
    assert done.returncode == 0, done.stderr
    assert is_new(experiment)


def test_an_answers_file_edited_by_hand_neither_adds_nor_loses(old, experiment):
    answers = experiment / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace("    - delta_001\n", "    - delta_001\n    - gh_002\n"))
    commit(old.path)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and not (experiment / "conf/x_gh_002.yaml").exists()
    found = tool(old, "check").stdout
    assert "experiments/011-x/conf/x_gh_002.yaml: is gone, and the answers have its run" in found
    assert "experiments/011-x/scripts/gh_x_002.slurm: is gone, and the answers have its run" in found


def test_fifty_thousand_ignored_files_do_not_matter(old, experiment):
    folder = old.path / "torchcell/cache"
    folder.mkdir()
    for number in range(50_000):
        (folder / f"{number}.pyc.dat").touch()
    (old.path / ".gitignore").write_text((old.path / ".gitignore").read_text() + "*.dat\n")
    commit(old.path)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and len(list(folder.iterdir())) == 50_000


def test_a_sparse_partial_clone_updates(old, tmp_path):
    (old.path / "torchcell/large.bin").write_bytes(os.urandom(1000))
    commit(old.path)
    git(old.path, "config", "uploadpack.allowFilter", "true")
    git(old.path, "config", "uploadpack.allowAnySHA1InWant", "true")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", "--sparse", f"file://{old.path}", clone)
    git(clone, "sparse-checkout", "set", "experiments/011-x")
    done = run(*TOOL, "update", "--commit", cwd=clone, env=os.environ | WITH_TOOL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert is_new(clone / "experiments/011-x")
    assert not (clone / "torchcell").exists() and git(clone, "status", "--porcelain") == ""
    assert git(clone, "show", "--format=", "--name-only", "HEAD").count("\n") == 3


def test_deletions_and_staged_work_elsewhere_stay_as_they_are(old, experiment):
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


def never_commit(repository, experiment):
    git(repository, "rm", "--quiet", "-r", "--cached", experiment)
    git(repository, "commit", "--quiet", "--message", "Remove")


def edit(repository, experiment):
    (experiment / "scripts/submit.sh").write_text("mine\n")


def delete(repository, experiment):
    (experiment / "scripts/submit.sh").unlink()


def stage(repository, experiment):
    edit(repository, experiment)
    git(repository, "add", experiment)


def untrack(repository, experiment):
    git(repository, "rm", "--quiet", "--cached", experiment / "scripts/submit.sh")


def link(repository, experiment):
    (experiment / "scripts").rename(repository / "real")
    (experiment / "scripts").symlink_to(repository / "real")


STAKES = {
    never_commit: "it is not committed",
    edit: "scripts/submit.sh has uncommitted changes",
    delete: "scripts/submit.sh is deleted, and that is not committed",
    stage: "scripts/submit.sh has staged changes",
    untrack: "scripts/submit.sh has staged changes",
    link: "is behind a link",
}


@pytest.mark.parametrize("arguments", [[], ["--commit"], ["--dry-run"]])
def test_work_at_stake_leaves_the_experiment_as_it_was(old, experiment, arguments):
    experiments = [experiment.with_name(f"{number:03}-x") for number in range(len(STAKES))]
    for each in experiments:
        shutil.copytree(experiment, each)
    shutil.rmtree(experiment)
    commit(old.path)
    for change, each in zip(STAKES, experiments, strict=True):
        change(old.path, each)
    before, status = contents(old.path), git(old.path, "status", "--porcelain")
    done = tool(old, "update", *arguments)
    for each, reason in zip(experiments, STAKES.values(), strict=True):
        assert left(done, each, reason), done.stdout
    assert (contents(old.path), git(old.path, "status", "--porcelain")) == (before, status)


def test_a_template_that_is_gone_leaves_the_experiment(own_old):
    experiment = own_old.path / "experiments/011-x"
    shutil.rmtree(own_old.template.path)
    assert left(by_tool(own_old), experiment, "does not exist")


FILES = ["scripts/x.py", "scripts/submit.sh", "scripts/delta_x_001.slurm", "conf/default.yaml", "README.md"]


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["edit", "insert", "delete", "rename", "new"]), st.sampled_from(FILES), st.integers(0, 60)
    ),
    max_size=4,
)


@settings(
    max_examples=8, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(edits=EDITS, committed=st.booleans(), where=st.integers(0, 60), name=st.sampled_from(FILES[1:]))
def test_random_edits_survive_a_random_change_or_the_experiment_is_left(template, edits, committed, where, name):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        lab = make_lab(folder / "lab", template.copy(folder / "template"))
        experiment = lab.render(runs=RUNS)
        for number, (kind, file, line) in enumerate(edits):
            path = experiment / file
            if kind == "new":
                (experiment / f"scripts/new_{number}.py").write_text(f"edit {number}\n")
            elif path.exists():
                lines = path.read_text().split("\n")
                line %= len(lines)
                if kind == "edit":
                    lines[line] = f"edit {number}"
                elif kind == "insert":
                    lines.insert(line, f"edit {number}")
                path.write_text("\n".join(lines))
                if kind == "delete":
                    path.unlink()
                elif kind == "rename":
                    path.rename(path.with_name(f"renamed_{number}"))
        if committed:
            commit(lab.path)
        mine = contents(experiment)
        source = next(path for path in (lab.template.path / "template").rglob("*.jinja") if similar(path, name))
        lines = source.read_text().split("\n")
        lines.insert(max(1, where % len(lines)), "# the template's new line")
        source.write_text("\n".join(lines))
        lab.template.release("v1.1.0")
        done = tool(lab, "update")
        if done.returncode:
            assert contents(experiment) == mine, "an experiment that was left has changed"
            return
        after = contents(experiment)
        assert b"v1.1.0" in after[".copier-answers.yml"]
        assert mine.keys() <= after.keys()
        for file, content in mine.items():
            if file != ".copier-answers.yml":
                kept = set(re.findall(rb"edit \d", content))
                assert kept <= set(re.findall(rb"edit \d", after[file])), f"an edit of {file} is lost"
                if not file.endswith(Path(name).suffix):
                    assert after[file] == content


def similar(path, name):
    """Whether a template file renders to this name."""
    return {"scripts/x.py": "{{ script }}", "scripts/delta_x_001.slurm": ".slurm{%"}.get(
        name, Path(name).name
    ) in path.name
