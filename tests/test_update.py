"""Update: improvements arrive, and nobody's work is lost; by Copier for one experiment, by experiments.py for many."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lab import make_lab
from support.process import commit, git, run
from support.template import ROOT, render

TOOL = ROOT / "experiments.py"
ACCOUNT = ("lab.yml", "bfjt-delta-gpu", "new-account")
SUBMIT = ("template/scripts/submit.sh.jinja", "set -euo pipefail\n", "set -euo pipefail\nshopt -s failglob\n")
RUNS = {"x": ["gh_000", "delta_001"]}


def contents(folder):
    """Every file below a folder, links not followed, git's own left out: {path: content or the link's target}."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and ".git/" not in name and name != ".git":
            found[name] = path.read_bytes()
    return found


def tool(lab, *arguments, cwd=None, env=None):
    return run(sys.executable, TOOL, *arguments, cwd=cwd or lab.path, env=os.environ | (env or {}))


def left(done, experiment, reason):
    """experiments.py update left this experiment, and says why and what to type."""
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"experiments/{experiment.name} ")]
    return (
        done.returncode == 1
        and reason in line
        and line.rstrip().endswith(f"by hand: copier update --defaults experiments/{experiment.name}")
    )


def is_new(experiment):
    return (
        "account=new-account" in (experiment / "scripts/delta_x_001.slurm").read_text()
        and "failglob" in (experiment / "scripts/submit.sh").read_text()
        and "_commit: v1.1.0" in (experiment / ".copier-answers.yml").read_text()
    )


@pytest.fixture(scope="session")
def newer(template, tmp_path_factory):
    """The template with v1.1.0, which has a renamed account and a better submit.sh. To be read only."""
    newer = template.copy(tmp_path_factory.mktemp("newer") / "template")
    newer.release("v1.1.0", [ACCOUNT, SUBMIT])
    return newer


@pytest.fixture
def old(lab, newer):
    """A lab with 011-x rendered at v1.0.0, while the template has v1.1.0."""
    lab.template = newer
    lab.render(runs=RUNS)
    return lab


@pytest.fixture
def own_old(lab, newer, tmp_path):
    """The same with a template that the test may change and release."""
    lab.template = newer.copy(tmp_path / "template")
    lab.render(runs=RUNS)
    return lab


@pytest.fixture
def experiment(old):
    return old.path / "experiments/011-x"


def fresh(lab, tmp_path, version, name="011-x", **answers):
    import copier

    place = tmp_path / "fresh" / name
    copier.run_copy(
        str(lab.template.path), place, data={"runs": RUNS} | answers, vcs_ref=version, defaults=True, quiet=True
    )
    return contents(place)


def copier_update(lab, *arguments, cwd=None):
    return run("copier", "update", "--defaults", *arguments, cwd=cwd or lab.path)


def by_copier(lab):
    return copier_update(lab, "experiments/011-x")


def by_tool(lab):
    return tool(lab, "update")


BOTH = pytest.mark.parametrize("update", [by_copier, by_tool])


# Both ways ------------------------------------------------------------------------------------------------------------


@BOTH
def test_an_unedited_experiment_ends_equal_to_a_fresh_render(old, experiment, tmp_path, update):
    done = update(old)
    assert done.returncode == 0, done.stderr
    assert contents(experiment) == fresh(old, tmp_path, "v1.1.0")


@BOTH
def test_edits_elsewhere_in_a_file_are_kept_and_the_rest_moves(old, experiment, update):
    launcher = experiment / "scripts/delta_x_001.slurm"
    launcher.write_text(launcher.read_text().replace("set -u\n", "set -u\nexport OMP_NUM_THREADS=8\n"))
    (experiment / "scripts/x.py").write_text("mine\n")
    (experiment / "scripts/y.py").write_text("mine too\n")
    (experiment / "queries/001_small_build.cql").unlink()
    git(old.path, "mv", "experiments/011-x/conf/x_gh_000.yaml", "experiments/011-x/conf/x_gh_000_inference_r0.yaml")
    commit(old.path)
    assert update(old).returncode == 0
    assert is_new(experiment)
    assert "export OMP_NUM_THREADS=8\n" in launcher.read_text()
    assert (experiment / "scripts/x.py").read_text() == "mine\n"
    assert (experiment / "scripts/y.py").read_text() == "mine too\n"
    assert not (experiment / "queries/001_small_build.cql").exists()
    assert (
        not (experiment / "conf/x_gh_000.yaml").exists() and (experiment / "conf/x_gh_000_inference_r0.yaml").exists()
    )


@BOTH
def test_everything_else_in_the_repository_stays_byte_identical(old, experiment, update):
    other = old.path / "experiments/012-y"
    shutil.copytree(experiment, other)
    for path in ("results/a.csv", "slurm/output/a.out", "profiling_results/a.prof", "scripts/__pycache__/x.pyc"):
        for each in (experiment, other):
            (each / path).parent.mkdir(exist_ok=True)
            (each / path).write_bytes(os.urandom(64))
    (other / ".copier-answers.yml").unlink()
    (old.path / "notes").mkdir()
    (old.path / "notes/untracked.md").write_text("mine  \n")
    (old.path / "torchcell/timestamp.py").write_text("edited\n")
    touched = {".copier-answers.yml", "scripts/submit.sh", "scripts/delta_x_001.slurm"}
    touched = {f"experiments/011-x/{name}" for name in touched}
    before = contents(old.path)
    assert update(old).returncode == 0
    after = contents(old.path)
    assert {name for name in before | after if before.get(name) != after.get(name)} == touched
    assert is_new(experiment)


INVALID = {
    "experiment": "growth",
    "title": "two\nlines",
    "runs": {"x": ["mars_000"]},
    "package": "torch-cell",
    "repository": "nowhere",
    "user_email": "ada",
}


@pytest.fixture
def invalid(old, experiment):
    """An experiment for each question, whose recorded answer to it is invalid."""
    experiments = [experiment.with_name(f"{number:03}-x") for number in range(len(INVALID))]
    for question, each in zip(INVALID, experiments, strict=True):
        shutil.copytree(experiment, each)
        answers = yaml.safe_load((each / ".copier-answers.yml").read_text()) | {question: INVALID[question]}
        (each / ".copier-answers.yml").write_text(yaml.safe_dump(answers))
    shutil.rmtree(experiment)
    commit(old.path)
    yield experiments
    assert git(old.path, "status", "--porcelain") == ""


def test_a_recorded_answer_that_is_no_longer_valid_stops_copier(old, invalid):
    for each in invalid:
        done = copier_update(old, f"experiments/{each.name}")
        assert done.returncode != 0 and "must " in done.stderr


def test_a_recorded_answer_that_is_no_longer_valid_leaves_the_experiment(old, invalid):
    done = by_tool(old)
    for each in invalid:
        assert left(done, each, " must "), each.name


@BOTH
def test_a_machine_that_a_release_takes_away_stops_the_update(own_old, update):
    experiment = own_old.path / "experiments/011-x"
    own_old.template.release("v1.2.0", [("lab.yml", "\ngh:\n", "\ngilahyper:\n")])
    before = contents(own_old.path)
    done = update(own_old)
    assert done.returncode == 1
    assert 'ValueError: Question "runs" is required' in done.stderr or left(
        done, experiment, "its recorded answer to runs is no longer valid"
    )
    assert contents(own_old.path) == before and git(own_old.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(  # Copier itself wants a clean experiment
    ("update", "committed"), [(by_copier, True), (by_tool, True), (by_tool, False)]
)
def test_folders_that_are_links_to_scratch_survive(old, experiment, tmp_path, update, exists, committed):
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
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {".copier-answers.yml", "scripts/submit.sh", "scripts/delta_x_001.slurm"}
    assert contents(tmp_path / "scratch") == scratch


@BOTH
def test_a_renamed_folder_updates(old, experiment, update):
    git(old.path, "mv", "experiments/011-x", "experiments/012-x")
    commit(old.path)
    renamed = experiment.with_name("012-x")
    assert (by_tool(old) if update is by_tool else copier_update(old, "experiments/012-x")).returncode == 0
    assert is_new(renamed) and not experiment.exists()


@BOTH
def test_a_worktree_updates(old, experiment, tmp_path, update):
    git(old.path, "worktree", "add", "--quiet", tmp_path / "worktree")
    done = run(
        *(
            [sys.executable, TOOL, "update"]
            if update is by_tool
            else ["copier", "update", "--defaults", "experiments/011-x"]
        ),
        cwd=tmp_path / "worktree",
    )
    assert done.returncode == 0, done.stderr
    assert is_new(tmp_path / "worktree/experiments/011-x") and not is_new(experiment)


def released():
    return git(ROOT, "tag", "--list", "v*").split()


@pytest.mark.parametrize("version", released() or [None])
def test_every_release_updates_to_what_a_fresh_render_gives(lab, tmp_path, version):
    if version is None:
        pytest.skip("The template has no release yet, so there is none to update from")
    import copier

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", ROOT, clone)
    copier.run_copy(str(clone), lab.path / "experiments/011-x", vcs_ref=version, defaults=True, quiet=True)
    commit(lab.path)
    shutil.rmtree(clone)
    clone.mkdir()
    git(tmp_path, "clone", "--quiet", ROOT, clone)
    for name in git(ROOT, "ls-files", "-z").split("\0")[:-1]:
        shutil.copy(ROOT / name, clone / name)
    commit(clone)
    git(clone, "tag", "v999.0.0")
    assert copier_update(lab, "experiments/011-x").returncode == 0
    copier.run_copy(str(clone), tmp_path / "fresh/011-x", vcs_ref="v999.0.0", defaults=True, quiet=True)
    assert contents(lab.path / "experiments/011-x") == contents(tmp_path / "fresh/011-x")


# What plain copier update loses or stumbles over, and experiments.py does not -----------------------------------------


def test_a_file_that_the_monorepo_ignores_is_updated(old, experiment):
    (old.path / ".gitignore").write_text((old.path / ".gitignore").read_text() + "*.slurm\nconf/\n*.cql\nsubmit.sh\n")
    commit(old.path)
    before = contents(experiment)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and contents(experiment).keys() == before.keys()


def test_an_ignored_file_where_the_new_version_has_one_stays(own_old):
    experiment = own_old.path / "experiments/011-x"
    (own_old.template.path / "template/scripts/helper.py").write_text("the template's\n")
    own_old.template.release("v1.2.0")
    (own_old.path / ".gitignore").write_text((own_old.path / ".gitignore").read_text() + "helper.py\n")
    commit(own_old.path)
    (experiment / "scripts/helper.py").write_text("mine\n")
    before = contents(own_old.path)
    assert left(by_tool(own_old), experiment, "experiments/011-x/scripts/helper.py is in the way, and not in git")
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


def test_the_path_may_be_a_link_or_have_dots(old, experiment):
    (old.path / "experiments/latest").symlink_to("011-x")
    commit(old.path)
    shutil.copytree(experiment, experiment.with_name("012-y"))
    commit(old.path)
    assert tool(old, "update", "experiments/latest").returncode == 0
    assert is_new(experiment) and (old.path / "experiments/latest").is_symlink()
    assert tool(old, "update", "..", cwd=old.path / "experiments/012-y/scripts").returncode == 0
    assert is_new(experiment.with_name("012-y"))
    commit(old.path)
    assert by_tool(old).stdout.count("up to date") == 2, "the link was taken for a third experiment"


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
    done = run(sys.executable, TOOL, "update", "--commit", cwd=clone)
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


def test_dry_run_changes_nothing_and_says_what_would(old, experiment):
    before = contents(old.path)
    done = tool(old, "update", "--dry-run")
    assert done.returncode == 0
    assert "would change .copier-answers.yml, scripts/delta_x_001.slurm, scripts/submit.sh" in done.stdout
    assert contents(old.path) == before and git(old.path, "status", "--porcelain") == ""


def test_ten_edited_experiments_all_carry_the_new_account(old, experiment):
    for number in range(12, 21):
        shutil.copytree(experiment, experiment.with_name(f"0{number}-x"))
    experiments = sorted(experiment.parent.iterdir())
    for each in experiments:
        (each / "scripts/x.py").write_text(f"# {each.name}\n" + (each / "scripts/x.py").read_text())
        (each / "conf/x_delta_001.yaml").write_text((each / "conf/x_delta_001.yaml").read_text() + "hours: 48\n")
    commit(old.path)
    done = tool(old, "update", "--commit")
    assert done.returncode == 0 and done.stdout.count(" updated") == 10
    for each in experiments:
        assert is_new(each)
        assert (each / "scripts/x.py").read_text().startswith(f"# {each.name}\n")
        assert (each / "conf/x_delta_001.yaml").read_text().endswith("hours: 48\n")
    assert git(old.path, "log", "--oneline").count("Update experiments/") == 10
    assert git(old.path, "status", "--porcelain") == ""
    assert tool(old, "update").stdout.count("up to date") == 10


def test_versions(own_old):
    own_old.template.release("v2.0.0rc1")
    assert tool(own_old, "update", "--vcs-ref", "v9.9.9").returncode == 1
    assert "its template has no v9.9.9" in tool(own_old, "update", "--vcs-ref", "v9.9.9").stdout
    done = tool(own_old, "update", "--commit")
    assert re.search(r"experiments/011-x +v1\.0\.0 +v1\.1\.0 +updated", done.stdout), "a pre-release is no release"
    done = tool(own_old, "update", "--vcs-ref", "v1.0.0")
    assert "Downgrades are not supported" in done.stdout and done.returncode == 1


def test_wrong_paths_and_options_are_one_line(old, experiment):
    (old.path / "empty").mkdir()
    for arguments, message in (
        (["update", "nowhere"], "experiments.py: nowhere has no .copier-answers.yml"),
        (["check", "empty"], "experiments.py: empty has no .copier-answers.yml"),
        (["add-run", "nowhere", "x", "gh_001"], "experiments.py: nowhere has no .copier-answers.yml"),
    ):
        done = tool(old, *arguments)
        assert done.returncode == 1 and done.stderr.startswith(message) and done.stderr.count("\n") == 1
    assert tool(old, "update", "-d", "rnus=1").returncode == 2
    done = tool(old, "update", cwd=old.template.path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "no experiment of this template" in done.stderr
    done = tool(old, "update", cwd="/")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "not a git repository" in done.stderr


def test_a_template_that_is_gone_leaves_the_experiment(own_old):
    experiment = own_old.path / "experiments/011-x"
    shutil.rmtree(own_old.template.path)
    assert left(by_tool(own_old), experiment, "does not exist")


# Killed ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def three(newer, tmp_path_factory):
    """A lab with three edited experiments, to be copied; and what an undisturbed update of it gives."""
    folder = tmp_path_factory.mktemp("three")
    lab = make_lab(folder / "lab", newer)
    for number in range(3):
        each = lab.render(f"01{number}-x", runs=RUNS)
        (each / "scripts/x.py").write_text(f"# {number}\n" + (each / "scripts/x.py").read_text())
    commit(lab.path)
    for each in (lab.path / "experiments").iterdir():
        (each / "conf/default.yaml").write_text("mine: not committed\n")
    undisturbed = folder / "undisturbed"
    shutil.copytree(lab.path, undisturbed)
    start = time.monotonic()
    subprocess.run([sys.executable, TOOL, "update", "--jobs=2"], cwd=undisturbed, check=True, capture_output=True)
    return lab.path, contents(undisturbed / "experiments"), time.monotonic() - start


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_it_loses_nothing_and_finishes_when_run_again(three, tmp_path, seed):
    """Ten kills in a row, so twenty in all."""
    original, undisturbed, seconds = three
    lab = tmp_path / "lab"
    shutil.copytree(original, lab)
    command = [sys.executable, TOOL, "update", "--jobs=2", *(["--commit"] if seed == 0 else [])]
    moments = random.Random(seed)
    for _ in range(10):
        process = subprocess.Popen(
            command, cwd=lab, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moments.uniform(0.2, 1) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for number, each in enumerate(sorted((lab / "experiments").iterdir())):
            assert (each / "conf/default.yaml").read_text() == "mine: not committed\n"
            assert (each / "scripts/x.py").read_text().startswith(f"# {number}\n")
        assert run("git", "fsck", "--no-dangling", cwd=lab).returncode == 0
        (lab / ".git/index.lock").unlink(missing_ok=True)  # as git says to, if it was git that was killed
    again = run(*command, cwd=lab)
    assert again.returncode == 0, again.stdout + again.stderr
    assert contents(lab / "experiments") == undisturbed
    if seed == 0:
        status = git(lab, "status", "--porcelain").splitlines()
        assert len(status) == 3 and all(line.endswith("conf/default.yaml") for line in status)


# Random edits ---------------------------------------------------------------------------------------------------------

FILES = ["scripts/x.py", "scripts/submit.sh", "scripts/delta_x_001.slurm", "conf/default.yaml", "README.md"]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["edit", "insert", "delete", "rename", "new"]), st.sampled_from(FILES), st.integers(0, 60)
    ),
    max_size=4,
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
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
    return {"scripts/x.py": "{{ script }}", "scripts/delta_x_001.slurm": ".slurm.jinja"}.get(
        name, Path(name).name
    ) in path.name


# add-run and check ----------------------------------------------------------------------------------------------------


def test_add_run_in_a_dirty_tree_adds_the_missing_files_and_the_answer(old, experiment):
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
    assert {name for name in before | after if before.get(name) != after.get(name)} == {*added, ".copier-answers.yml"}
    answers = yaml.safe_load(after[".copier-answers.yml"])
    assert answers["runs"] == {"x": ["gh_000", "delta_001", "igb_cabbi_002", "igb_mmli_003"]}
    assert answers["_commit"] == "v1.0.0" and answers["_src_path"] == str(old.template.path)
    commit(old.path)
    assert by_tool(old).returncode == 0 and is_new(experiment)
    assert tool(old, "check").stdout == ""


def test_add_run_with_a_new_script_adds_its_starter_or_keeps_yours(old, experiment):
    assert tool(old, "add-run", "experiments/011-x", "select_triples", "gh_000").returncode == 0
    assert (
        "select_triples.py --config-name select_triples_gh_000"
        in (experiment / "scripts/gh_select_triples_000.slurm").read_text()
    )
    assert old.start("select_triples_gh_000", script="select_triples").returncode == 0
    (experiment / "scripts/mine.py").write_text("mine\n")
    assert tool(old, "add-run", "experiments/011-x", "mine", "gh_000").returncode == 0
    assert (experiment / "scripts/mine.py").read_text() == "mine\n"
    assert (experiment / "scripts/gh_mine_000.slurm").is_file()


@pytest.mark.parametrize(
    ("script", "token", "reason"),
    [
        ("x", "mars_002", "must name a machine of lab.yml"),
        ("x", "gh_000", "has the number 000 twice"),
        ("x", "igb_cabbi_001", "has the number 001 twice"),
        ("x", "gh-2", "must be MACHINE_NNN"),
        ("x-y", "gh_002", "must be a Python module's name"),
        ("x", "delta_007", "conf/x_gh_007.yaml exists, so its number is used"),
        ("x", "gh_008", "scripts/gh_x_008.slurm exists, so its number is used"),
    ],
)
def test_add_run_refuses_what_would_not_be_a_new_run(old, experiment, script, token, reason):
    (experiment / "conf/x_gh_007.yaml").write_text("mine\n")
    (experiment / "scripts/gh_x_008.slurm").write_text("mine\n")
    before = contents(experiment)
    done = tool(old, "add-run", "experiments/011-x", script, token)
    assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1
    assert contents(experiment) == before


def test_sweeps_are_added_and_checked_as_pairs(lab):
    experiment = lab.render()
    done = tool(lab, "add-run", "experiments/011-x", "x", "igb_mmli_optuna", "delta_wandb")
    assert [name.removeprefix("experiments/011-x/") for name in done.stdout.split()] == [
        "conf/x_delta_wandb.yaml",
        "conf/x_mmli_optuna.yaml",
        "scripts/delta_x_wandb.slurm",
        "scripts/igb_mmli_x_optuna.slurm",
        "scripts/optuna_study.py",
        "scripts/optuna_worker.py",
    ]
    assert tool(lab, "check").stdout == ""
    again = tool(lab, "add-run", "experiments/011-x", "x", "delta_wandb")
    assert (
        again.stderr == "experiments.py: script x has the sweep delta_wandb twice; a label has one sweep of each kind\n"
    )
    (experiment / "conf/x_delta_wandb.yaml").rename(experiment / "conf/x_delta_other.yaml")
    assert tool(lab, "check").stdout.splitlines() == [
        "experiments/011-x/conf/x_delta_wandb.yaml: is gone, and the answers have its run",
        "experiments/011-x/scripts/delta_x_wandb.slurm: has no configuration conf/x_delta_wandb.yaml",
        "experiments/011-x/conf/x_delta_other.yaml: has no launcher",
    ]


def test_check_names_each_thing_that_is_wrong(old, experiment):
    scripts = experiment / "scripts"
    launcher = (scripts / "gh_x_000.slurm").read_text()
    (scripts / "gh_x_005.slurm").write_text(launcher.replace("x_gh_000", "x_gh_005"))
    (experiment / "conf/x_gh_006.yaml").write_text("defaults: [default, _self_]\n")
    copied = launcher.replace("--partition=main", "-p oldpart").replace(
        "#SBATCH --mem", "#SBATCH -A oldacct\n#SBATCH --mem"
    )
    copied = copied.replace("set -u\n", "set -u\ncp /home/ada/notes/assets/images/a.png .\n")
    (scripts / "igb_cabbi_x_000.slurm").write_text(copied)
    (scripts / "delta_x_001.slurm").unlink()
    (scripts / "submit.sh").write_text("<<<<<<< before updating\nmine\n=======\n>>>>>>> after updating\n")
    (experiment / "conf/default.yaml.rej").write_text("@@\n")
    shutil.rmtree(experiment / "slurm/output")
    done = tool(old, "check")
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.splitlines() == [
        f"experiments/011-x/{line}"
        for line in [
            ".copier-answers.yml: is at v1.0.0, and the newest release is v1.1.0",
            "scripts/delta_x_001.slurm: is gone, and the answers have its run",
            "scripts/gh_x_005.slurm: has no configuration conf/x_gh_005.yaml",
            "scripts/igb_cabbi_x_000.slurm: asks for partition oldpart, which no machine of lab.yml has",
            "scripts/igb_cabbi_x_000.slurm: asks for account oldacct, which no machine of lab.yml has",
            "scripts/igb_cabbi_x_000.slurm: has a path of one machine, /home/ada/notes/assets/images/a.png",
            "scripts/igb_cabbi_x_000.slurm: has the number 000, which is that of scripts/gh_x_000.slurm too",
            "conf/x_delta_001.yaml: has no launcher",
            "conf/x_gh_006.yaml: has no launcher",
            "slurm/output: is missing, so Slurm would lose every log",
            "conf/default.yaml.rej: is what an update could not apply",
            "scripts/submit.sh: has conflict markers",
        ]
    ]


def test_check_finds_nothing_in_a_new_experiment(lab):
    render(
        lab.template,
        lab.path / "experiments/011-x",
        runs={"x": ["gh_000", "igb_cabbi_001", "delta_002", "igb_mmli_optuna"], "y": ["slurm_000", "delta_wandb"]},
    )
    done = tool(lab, "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_tool_is_short_and_helps():
    assert len(TOOL.read_text().splitlines()) <= 350
    done = run(sys.executable, TOOL, "--help")
    assert "uv run experiments.py update --commit" in done.stdout


def test_a_conflict_in_the_answers_is_named(old, experiment):
    (experiment / ".copier-answers.yml").write_text("<<<<<<< before updating\n_commit: v1\n=======\n>>>>>>> after\n")
    done = tool(old, "check", "experiments/011-x")
    assert done.returncode == 1 and "is not of this template, or has conflicts" in done.stderr
    assert done.stderr.count("\n") == 1
