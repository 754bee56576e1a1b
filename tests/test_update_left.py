"""Update: an experiment with work at risk is skipped unchanged, with the reason and the remedy."""

import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.lab import make_lab
from support.process import commit, edit, git, run
from support.updating import BOTH, RUNS, by_copier, by_tool, contents, is_new, skipped, tool

from experiments.git import Repository

INVALID = {
    "experiment": "a growth",
    "title": "two\nlines",
    "runs": {"x": ["mars_000"]},
    "package": "torch-cell",
    "repository": "nowhere",
    "user_email": "ada",
}


@pytest.fixture
def invalid(old, experiment):
    """Return one experiment per question, each with an invalid recorded answer."""
    experiments = [experiment.with_name(f"{number:03}-x") for number in range(len(INVALID))]
    for question, each in zip(INVALID, experiments, strict=True):
        shutil.copytree(experiment, each)
        answers = yaml.safe_load((each / ".copier-answers.yml").read_text()) | {question: INVALID[question]}
        (each / ".copier-answers.yml").write_text(yaml.safe_dump(answers))
    shutil.rmtree(experiment)
    commit(old.path)
    yield experiments
    assert git(old.path, "status", "--porcelain") == ""


def test_invalid_recorded_answer_stops_copier(old, invalid):
    for question, each in zip(INVALID, invalid, strict=True):
        done = by_copier(old, f"experiments/{each.name}")
        assert done.returncode != 0 and f"Validation error for question '{question}': " in done.stderr


def test_invalid_recorded_answer_is_skipped(old, invalid):
    done = by_tool(old)
    for question, each in zip(INVALID, invalid, strict=True):
        reason = 'unknown machine "mars"' if question == "runs" else f"its answer to {question} is not valid: "
        assert skipped(done, each, reason), each.name


@BOTH
def test_removed_machine_is_skipped(own_old, update):
    experiment = own_old.path / "experiments/011-x"
    own_old.template.release(
        "v1.2.0",
        [("lab.yml", "\n  gh:\n", "\n  gilahyper:\n"), ("lab.yml", "first_run: gh_000", "first_run: delta_000")],
    )
    before = contents(own_old.path)
    done = update(own_old)
    assert 'ValueError: Question "runs" is required' in done.stderr or skipped(
        done, experiment, "its recorded answer to runs is not valid in v1.2.0"
    )
    assert contents(own_old.path) == before and git(own_old.path, "status", "--porcelain") == ""


def test_conflict_skips_only_its_experiment(old, experiment):
    shutil.copytree(experiment, experiment.with_name("012-y"))
    launcher = experiment / "scripts/delta_x_001.slurm"
    edit(launcher, "bfjt-delta-gpu", "my-account")
    commit(old.path)
    before = contents(experiment)
    done = by_tool(old)
    assert skipped(done, experiment, "conflict in scripts/delta_x_001.slurm")
    assert contents(experiment) == before
    assert is_new(experiment.with_name("012-y"))
    assert git(old.path, "diff", "--name-only", "--diff-filter=U") == ""
    # Edits hidden from git are refused before conflicts.
    git(old.path, "update-index", "--assume-unchanged", launcher)
    launcher.write_text(launcher.read_text() + "# mine\n")
    assert skipped(by_tool(old), experiment, "scripts/delta_x_001.slurm has uncommitted changes")


HOSTILE = """\
[apply]
whitespace = error
[color]
ui = always
[core]
excludesFile = {excludes}
quotePath = true
[diff]
noprefix = true
external = /bin/false
[merge]
conflictStyle = diff3
[status]
showUntrackedFiles = no
"""


def test_conflict_advice_works_under_any_git_settings(old, experiment, tmp_path, monkeypatch):
    launcher, submit = experiment / "scripts/delta_x_001.slurm", experiment / "scripts/submit.sh"
    edit(launcher, "bfjt-delta-gpu", "my-account")
    submit.write_text(submit.read_text() + "# mine  \n")
    commit(old.path)
    (tmp_path / "excludes").write_text("*.slurm\nsubmit.sh\n")
    settings = tmp_path / "gitconfig"
    settings.write_text(Path(os.environ["GIT_CONFIG_GLOBAL"]).read_text())
    settings.write_text(settings.read_text() + HOSTILE.format(excludes=tmp_path / "excludes"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    [line] = [line for line in by_tool(old).stdout.splitlines() if "by hand: " in line]
    program, *advice = shlex.split(line.partition("by hand: ")[2])
    assert program == "experiments" and git(old.path, "status", "--porcelain") == ""
    done = tool(old, *advice)
    assert done.returncode == 3 and "conflict: in scripts/delta_x_001.slurm. Edit the text between " in done.stdout
    assert "failglob" in submit.read_text() and submit.read_text().endswith("# mine  \n")
    sides = r"<<<<<<< this experiment\n.*my-account\n.*>>>>>>> v1\.1\.0\n"
    assert re.search(sides, launcher.read_text(), re.DOTALL) and "new-account" in launcher.read_text()
    name = "experiments/011-x/scripts/delta_x_001.slurm"
    assert git(old.path, "diff", "--no-ext-diff", "--no-color", "--name-only", "--diff-filter=U").strip() == name
    assert f"{name} has conflicts of a merge" in tool(old, *advice).stdout
    assert run("git", "commit", "--message", "x", cwd=old.path).returncode != 0
    git(old.path, "checkout", "--theirs", "--", name)
    git(old.path, "add", name)
    assert is_new(experiment)
    commit(old.path)
    assert "up to date" in by_tool(old).stdout


def test_conflicts_and_commit_cannot_be_combined(old):
    done = tool(old, "update", "--commit", "--conflicts")
    line = "experiments: --commit and --conflicts cannot be combined. Resolve the conflicts first, then commit.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_ignored_file_is_not_overwritten(own_old):
    experiment = own_old.path / "experiments/011-x"
    (own_old.template.path / "template/scripts/helper.sh").write_text("the template's\n")
    own_old.template.release("v1.2.0")
    (own_old.path / ".gitignore").write_text((own_old.path / ".gitignore").read_text() + "helper.sh\n")
    commit(own_old.path)
    (experiment / "scripts/helper.sh").write_text("mine\n")
    before = contents(own_old.path)
    assert skipped(by_tool(own_old), experiment, "experiments/011-x/scripts/helper.sh is in the way and not in git")
    assert contents(own_old.path) == before


@pytest.mark.parametrize("bit", ["--skip-worktree", "--assume-unchanged"])
def test_edits_hidden_from_git_are_kept(old, experiment, bit):
    git(experiment, "update-index", bit, "scripts/submit.sh")
    (experiment / "scripts/submit.sh").write_text("mine\n")
    assert skipped(by_tool(old), experiment, "scripts/submit.sh has uncommitted changes")
    assert (experiment / "scripts/submit.sh").read_text() == "mine\n" and not is_new(experiment)


def test_edited_answers_file_adds_and_loses_nothing(old, experiment):
    answers = experiment / ".copier-answers.yml"
    edit(answers, "    - delta_001\n", "    - delta_001\n    - gh_002\n")
    commit(old.path)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and not (experiment / "conf/x_gh_002.yaml").exists()
    found = tool(old, "check").stdout
    files = "  experiments/011-x/conf/x_gh_002.yaml\n  experiments/011-x/scripts/gh_x_002.slurm\n"
    assert f"2 files: is missing, but the answers have its run [missing-file]\n{files}" in found


def never_commit(repository, experiment):
    git(repository, "rm", "--quiet", "-r", "--cached", experiment)
    git(repository, "commit", "--quiet", "--message", "Remove")


def write(repository, experiment):
    (experiment / "scripts/submit.sh").write_text("mine\n")


def delete(repository, experiment):
    (experiment / "scripts/submit.sh").unlink()


def stage(repository, experiment):
    write(repository, experiment)
    git(repository, "add", experiment)


def untrack(repository, experiment):
    git(repository, "rm", "--quiet", "--cached", experiment / "scripts/submit.sh")


def link(repository, experiment):
    (experiment / "scripts").rename(repository / "real")
    (experiment / "scripts").symlink_to(repository / "real")


def leave_open(repository, experiment):
    """Leave a conflict in the index, like a merge or `git stash pop`."""
    name = f"experiments/{experiment.name}/scripts/submit.sh"
    blob = git(repository, "rev-parse", f"HEAD:{name}").strip()
    entries = "".join(f"100644 {blob} {stage}\t{name}\n" for stage in (1, 2, 3))
    git(repository, "rm", "--quiet", "--cached", name)
    run("git", "update-index", "--index-info", cwd=repository, input=entries, check=True)


STAKES = {
    never_commit: "it is not committed",
    write: "scripts/submit.sh has uncommitted changes",
    delete: "scripts/submit.sh is deleted, but that is not committed",
    stage: "scripts/submit.sh has staged changes",
    untrack: "scripts/submit.sh has staged changes",
    link: "is a symlink, lies below one, or is not a regular file",
    leave_open: "scripts/submit.sh has conflicts of a merge",
}


def test_uncommitted_work_is_skipped_unchanged(old, experiment):
    experiments = [experiment.with_name(f"{number:03}-x") for number in range(len(STAKES))]
    for each in experiments:
        shutil.copytree(experiment, each)
    shutil.rmtree(experiment)
    commit(old.path)
    for change, each in zip(STAKES, experiments, strict=True):
        change(old.path, each)
    before, status = contents(old.path), git(old.path, "status", "--porcelain")
    for option in ("--commit", "--dry-run"):
        done = tool(old, "update", "--jobs=1", option)
        for each, reason in zip(experiments, STAKES.values(), strict=True):
            assert skipped(done, each, reason), done.stdout
        assert (contents(old.path), git(old.path, "status", "--porcelain")) == (before, status)


def test_missing_template_is_skipped(own_old):
    experiment = own_old.path / "experiments/011-x"
    shutil.rmtree(own_old.template.path)
    assert skipped(by_tool(own_old), experiment, "does not exist")


@pytest.mark.parametrize(
    "content", [b"mine\0\n", "mine \u00e9\n".encode("utf-16"), "# mine \u00e9\n".encode("latin-1")], ids=repr
)
def test_binary_file_is_skipped(old, experiment, content):
    (experiment / "scripts/submit.sh").write_bytes(content)
    commit(old.path)
    assert skipped(by_tool(old), experiment, "skipped: scripts/submit.sh is not UTF-8 text")
    assert (experiment / "scripts/submit.sh").read_bytes() == content


def test_symlink_in_place_of_a_file_is_skipped(old, experiment):
    submit = experiment / "scripts/submit.sh"
    submit.rename(old.path / "submit.sh")
    submit.symlink_to("../../../submit.sh")
    commit(old.path)
    assert skipped(by_tool(old), experiment, "scripts/submit.sh is a symlink now") and submit.is_symlink()


def test_read_only_file_is_skipped(old, experiment):
    (experiment / "scripts/submit.sh").chmod(0o444)
    assert skipped(
        by_tool(old), experiment, "scripts/submit.sh is read-only. Run `chmod u+w experiments/011-x/scripts/"
    )


OPERATIONS = {
    "a merge": "MERGE_HEAD",
    "a rebase": "rebase-merge",
    "a cherry-pick": "CHERRY_PICK_HEAD",
    "a revert": "REVERT_HEAD",
    "a bisect": "BISECT_LOG",
}


def test_git_operation_in_progress_is_skipped(old, experiment):
    head = git(old.path, "rev-parse", "HEAD")
    before = contents(experiment)
    for operation, name in OPERATIONS.items():
        (old.path / ".git" / name).write_text(head)
        done = tool(old, "update", "--commit")
        assert skipped(done, experiment, f"{operation} is in progress") and contents(experiment) == before
        (old.path / ".git" / name).unlink()
    git(old.path, "checkout", "--quiet", "--detach")
    assert skipped(tool(old, "update", "--commit"), experiment, "no branch is checked out")
    assert contents(experiment) == before and git(old.path, "status", "--porcelain") == ""


def test_failed_commit_is_reported(old, experiment, monkeypatch):
    (old.path / ".git/index.lock").touch()
    assert skipped(tool(old, "update", "--commit"), experiment, "updated, but not committed: ")
    (old.path / ".git/index.lock").unlink()
    monkeypatch.setattr("experiments.files.LOCK_SECONDS", 0)
    with Repository(old.path).lock():
        reason = "updated, but not committed: another command is working on it. Wait for it to end, and run again."
        assert skipped(tool(old, "update", "--commit"), experiment, reason)
    assert tool(old, "update", "--commit").returncode == 0 and is_new(experiment)
    assert git(old.path, "status", "--porcelain") == ""


FILES = ["scripts/x.py", "scripts/submit.sh", "scripts/delta_x_001.slurm", "conf/default.yaml", "README.md"]


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["edit", "insert", "delete", "rename", "new"]), st.sampled_from(FILES), st.integers(0, 60)
    ),
    max_size=4,
)


def edit_somehow(experiment, number, kind, file, line):
    path = experiment / file
    if kind == "new":
        (experiment / f"scripts/new_{number}.py").write_text(f"edit {number}\n")
    elif path.exists() and kind == "delete":
        path.unlink()
    elif path.exists() and kind == "rename":
        path.rename(path.with_name(f"renamed_{number}"))
    elif path.exists():
        lines = path.read_text().split("\n")
        line %= len(lines)
        lines[line : line + (kind == "edit")] = [f"edit {number}"]
        path.write_text("\n".join(lines))


@settings(
    max_examples=8, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(edits=EDITS, committed=st.booleans(), where=st.integers(0, 60), name=st.sampled_from(FILES[1:]))
def test_random_edits_survive_or_are_skipped(template, edits, committed, where, name):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        lab = make_lab(folder / "lab", template.copy(folder / "template"))
        experiment = lab.render(runs=RUNS)
        for number, (kind, file, line) in enumerate(edits):
            edit_somehow(experiment, number, kind, file, line)
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
            assert contents(experiment) == mine, "a skipped experiment has changed"
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
    """Check whether a template file renders to this name."""
    return {"scripts/x.py": "{{ script }}", "scripts/delta_x_001.slurm": ".slurm{%"}.get(
        name, Path(name).name
    ) in path.name
