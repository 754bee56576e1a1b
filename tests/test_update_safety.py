"""Update: nobody loses work. Where something is at stake, the experiment is left as it was, and the tool says why."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.lab import make_lab
from support.process import commit, git, run
from support.updating import RUNS, TOOL, WITH_TOOL, by_tool, contents, is_new, left, tool

from experiments import files
from experiments.errors import Problem


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


# What was lost once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"mine\0\n", "mine \u00e9\n".encode("utf-16"), "# mine \u00e9\n".encode("latin-1")], ids=repr
)
def test_what_is_no_text_is_left(old, experiment, content):
    (experiment / "scripts/submit.sh").write_bytes(content)
    commit(old.path)
    assert left(by_tool(old), experiment, "left: scripts/submit.sh, which is no text in UTF-8")
    assert (experiment / "scripts/submit.sh").read_bytes() == content


def drop_submit(template):
    (template / "template/scripts/submit.sh.jinja").unlink()


def rename_submit(template):
    (template / "template/scripts/submit.sh.jinja").rename(template / "template/scripts/Submit.sh.jinja")


@pytest.mark.parametrize("change", [drop_submit, rename_submit])
def test_a_file_that_a_release_drops_goes_if_nobody_edited_it(own_old, change):
    edited = own_old.path / "experiments/011-x"
    shutil.copytree(edited, edited.with_name("012-y"))
    (edited / "scripts/submit.sh").write_text("mine\n")
    commit(own_old.path)
    change(own_old.template.path)
    own_old.template.release("v1.2.0")
    done = tool(own_old, "update", "--commit")
    assert "left: scripts/submit.sh, which the template no longer has and which was edited" in done.stdout
    assert (edited / "scripts/submit.sh").read_text() == "mine\n"
    assert not (edited.with_name("012-y") / "scripts/submit.sh").exists()
    assert (edited.with_name("012-y") / "scripts/Submit.sh").exists() == (change is rename_submit)
    assert git(own_old.path, "status", "--porcelain") == ""


def test_a_file_that_a_release_adds_and_its_mode(own_old):
    experiment = own_old.path / "experiments/011-x"
    file = own_old.template.path / "template/scripts/new.sh"
    file.write_text("echo new\n")
    file.chmod(0o755)
    (own_old.template.path / "template/scripts/submit.sh.jinja").chmod(0o755)
    own_old.template.release("v1.2.0")
    (experiment / "scripts/delta_x_001.slurm").chmod(0o600)
    done = tool(own_old, "update", "--commit")
    assert done.returncode == 0, done.stdout
    assert os.access(experiment / "scripts/new.sh", os.X_OK) and os.access(experiment / "scripts/submit.sh", os.X_OK)
    assert (experiment / "scripts/delta_x_001.slurm").stat().st_mode & 0o777 == 0o600
    assert git(own_old.path, "status", "--porcelain") == ""


def test_a_read_only_file_is_left(old, experiment):
    (experiment / "scripts/submit.sh").chmod(0o444)
    assert left(by_tool(old), experiment, "scripts/submit.sh is read-only; `chmod u+w experiments/011-x/scripts/")


def test_the_newest_release_is_that_of_copier(own_old):
    for tag in ("v1.1.0.post1", "v1.2.0rc1", "v9"):
        own_old.template.release(tag if tag != "v9" else "nightly")
    assert re.search(r"v1\.0\.0 +v1\.1\.0\.post1 +updated", by_tool(own_old).stdout)


OPERATIONS = {
    "a merge": "MERGE_HEAD",
    "a rebase": "rebase-merge",
    "a cherry-pick": "CHERRY_PICK_HEAD",
    "a bisect": "BISECT_LOG",
}


def test_nothing_is_committed_in_the_middle_of_something(old, experiment):
    head = git(old.path, "rev-parse", "HEAD")
    before = contents(experiment)
    for operation, name in OPERATIONS.items():
        (old.path / ".git" / name).write_text(head)
        done = tool(old, "update", "--commit")
        assert left(done, experiment, f"{operation} is in progress") and contents(experiment) == before
        (old.path / ".git" / name).unlink()
    git(old.path, "checkout", "--quiet", "--detach")
    assert left(tool(old, "update", "--commit"), experiment, "no branch is checked out")
    assert contents(experiment) == before and git(old.path, "status", "--porcelain") == ""


def test_an_update_that_cannot_be_committed_says_so(old, experiment):
    (old.path / ".git/index.lock").touch()
    assert left(tool(old, "update", "--commit"), experiment, "updated, but not committed: ")
    (old.path / ".git/index.lock").unlink()
    assert tool(old, "update", "--commit").returncode == 0 and is_new(experiment)
    assert git(old.path, "status", "--porcelain") == ""


# Stopped, step by step ------------------------------------------------------------------------------------------------

BEFORE = {"a": b"old a\n", "b": b"old b\n", "d": b"old d\n", "answers": b"old\n"}
AFTER = {"a": b"new a\n", "b": b"new b\n", "c": b"new c\n", "answers": b"new\n"}
ORDER = ("d", "a", "b", "c", "answers")


class Killed(BaseException):
    """As if by SIGKILL: whatever is called afterwards does nothing any more."""


def stop_at(patch, step, lasting):
    """End what writes files at its step number `step`; `lasting` as a kill does, else once, like Ctrl-C."""
    calls = []

    def counted(function):
        def call(*arguments, **options):
            calls.append(function)
            if len(calls) == step or (lasting and len(calls) > step):
                raise Killed
            return function(*arguments, **options)

        return call

    for name in ("replace", "unlink", "chmod"):
        patch.setattr(os, name, counted(getattr(os, name)))
    patch.setattr(Path, "write_bytes", counted(Path.write_bytes))
    return calls


@pytest.mark.parametrize("lasting", [True, False], ids=["killed", "interrupted"])
def test_stopped_at_every_step_nothing_is_half_done(tmp_path, lasting):
    stopped = 0
    for step in range(1, 100):
        folder = tmp_path / str(step)
        folder.mkdir()
        for name, content in BEFORE.items():
            (folder / name).write_bytes(content)
        writes = [files.Write(folder / name, BEFORE.get(name), AFTER.get(name)) for name in ORDER]
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, step, lasting)
            try:
                files.write_all(writes)
                break
            except Killed:
                stopped += 1
        found = {name: content for name, content in contents(folder).items() if not name.endswith(".part")}
        if not lasting:
            assert found in (BEFORE, AFTER), f"step {step}"
        for name, content in found.items():
            assert content in (BEFORE.get(name), AFTER.get(name)), f"step {step} cut {name} short"
        assert found["answers"] == b"old\n" or found == AFTER, f"step {step}: the answers were not last"
    assert stopped >= 9, "the steps are not seen"


def test_what_an_editor_saves_meanwhile_stays(tmp_path):
    for name, content in BEFORE.items():
        (tmp_path / name).write_bytes(content)
    writes = [files.Write(tmp_path / name, BEFORE.get(name), AFTER.get(name)) for name in ORDER]
    (tmp_path / "b").write_bytes(b"saved just now\n")
    with pytest.raises(Problem, match="b was changed at this moment"):
        files.write_all(writes)
    assert contents(tmp_path) == BEFORE | {"b": b"saved just now\n"}


@pytest.mark.parametrize("seconds", [0.7, 1.4])
def test_killed_it_loses_nothing_and_finishes_when_run_again(old, experiment, seconds):
    (experiment / "conf/default.yaml").write_text("mine: not committed\n")
    command = [*TOOL, "update", "--commit"]
    process = subprocess.Popen(command, cwd=old.path, env=os.environ | WITH_TOOL, start_new_session=True)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (old.path / ".git/index.lock").unlink(missing_ok=True)  # as git says to, if it was git that was killed
    assert run(*command, cwd=old.path, env=os.environ | WITH_TOOL).returncode == 0
    assert is_new(experiment) and (experiment / "conf/default.yaml").read_text() == "mine: not committed\n"
    assert git(old.path, "status", "--porcelain").split() == ["M", "experiments/011-x/conf/default.yaml"]
