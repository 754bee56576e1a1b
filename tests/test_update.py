"""Update: improvements arrive, by Copier for one experiment and by `experiments update` for many; both end equal."""

import os
import re
import shutil

import pytest
import yaml
from support.process import commit, git, run
from support.template import ROOT
from support.updating import MOVED, RUNS, TOOL, WITH_TOOL, by_copier, by_tool, changed, contents, is_new, left, tool


def copier_update(lab, *arguments, cwd=None):
    return run("copier", "update", "--defaults", *arguments, cwd=cwd or lab.path)


def fresh(lab, tmp_path, version, name="011-x", **answers):
    import copier

    place = tmp_path / "fresh" / name
    copier.run_copy(
        str(lab.template.path),
        place,
        data={"runs": RUNS, "package": "torchcell"} | answers,
        vcs_ref=version,
        defaults=True,
        quiet=True,
    )
    return contents(place)


BOTH = pytest.mark.parametrize("update", [by_copier, by_tool])


@BOTH
def test_an_unedited_experiment_ends_equal_to_a_fresh_render(old, experiment, tmp_path, update):
    done = update(old)
    assert done.returncode == 0, done.stderr
    assert contents(experiment) == fresh(old, tmp_path, "v1.1.0")


@BOTH
def test_edits_elsewhere_in_a_file_are_kept_and_the_rest_moves(old, experiment, update):
    launcher = experiment / "scripts/delta_x_001.slurm"
    launcher.write_text(
        launcher.read_text().replace("set -euo pipefail\n", "set -euo pipefail\nexport OMP_NUM_THREADS=8\n")
    )
    (experiment / "scripts/x.py").write_text("mine\n")
    (experiment / "scripts/y.py").write_text("mine too\n")
    (experiment / "queries/001_small_build.cql").unlink()
    git(old.path, "mv", "experiments/011-x/conf/x_gh_000.yaml", "experiments/011-x/conf/x_gh_007.yaml")
    commit(old.path)
    assert update(old).returncode == 0
    assert is_new(experiment)
    assert "export OMP_NUM_THREADS=8\n" in launcher.read_text()
    assert (experiment / "scripts/x.py").read_text() == "mine\n"
    assert (experiment / "scripts/y.py").read_text() == "mine too\n"
    assert not (experiment / "queries/001_small_build.cql").exists()
    assert not (experiment / "conf/x_gh_000.yaml").exists() and (experiment / "conf/x_gh_007.yaml").exists()


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
    before = contents(old.path)
    assert update(old).returncode == 0
    after = contents(old.path)
    assert changed(before, after) == {f"experiments/011-x/{name}" for name in MOVED}
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
    own_old.template.release(
        "v1.2.0",
        [("lab.yml", "\n  gh:\n", "\n  gilahyper:\n"), ("lab.yml", "first_run: gh_000", "first_run: delta_000")],
    )
    before = contents(own_old.path)
    done = update(own_old)
    assert done.returncode == 1
    assert 'ValueError: Question "runs" is required' in done.stderr or left(
        done, experiment, "its recorded answer to runs is not valid in v1.2.0"
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
    assert changed(before, after) == MOVED
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
        *([*TOOL, "update"] if update is by_tool else ["copier", "update", "--defaults", "experiments/011-x"]),
        cwd=tmp_path / "worktree",
        env=os.environ | WITH_TOOL,
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


def test_dry_run_changes_nothing_and_says_what_would(old, experiment):
    before = contents(old.path)
    done = tool(old, "update", "--dry-run")
    assert done.returncode == 0
    assert "would change scripts/delta_x_001.slurm, scripts/submit.sh, .copier-answers.yml" in done.stdout
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
    assert "downgrades are not supported" in done.stdout and done.returncode == 1


def test_wrong_paths_and_options_are_one_line(old, experiment):
    (old.path / "empty").mkdir()
    for arguments, message in (
        (["update", "nowhere"], "experiments: nowhere has no .copier-answers.yml"),
        (["check", "empty"], "experiments: empty has neither .copier-answers.yml nor scripts/"),
        (["add-run", "nowhere", "x", "gh_001"], "experiments: nowhere has no .copier-answers.yml"),
    ):
        done = tool(old, *arguments)
        assert done.returncode == 1 and done.stderr.startswith(message) and done.stderr.count("\n") == 1
    assert tool(old, "update", "-d", "rnus=1").returncode == 2
    done = tool(old, "update", cwd=old.template.path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "no experiment of this template" in done.stderr
    done = tool(old, "update", cwd="/")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "not a git repository" in done.stderr


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
