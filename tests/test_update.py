"""Update: Copier (one experiment) and `experiments update` (many) give the same result."""

import os
import re
import shutil

import copier
import pytest
import yaml
from support.process import commit, edit, git
from support.template import ROOT, Template
from support.updating import (
    BOTH,
    MOVED,
    RUNS,
    USER_OWNED,
    by_copier,
    by_tool,
    changed,
    contents,
    is_new,
    skipped,
    tool,
    typed,
)


def fresh(lab, tmp_path, version):
    """Return the files of a version with the answers of 011-x. Defaults depend on the repository around a folder."""
    recorded = yaml.safe_load((lab.path / "experiments/011-x/.copier-answers.yml").read_text())
    answers = {name: value for name, value in recorded.items() if not name.startswith("_")}
    place = tmp_path / "fresh/011-x"
    copier.run_copy(str(lab.template.path), place, data=answers, vcs_ref=version, defaults=True, quiet=True)
    return contents(place)


@BOTH
def test_unedited_experiment_equals_a_fresh_render(old, experiment, tmp_path, update):
    done = update(old)
    assert done.returncode == 0, done.stderr
    assert contents(experiment) == fresh(old, tmp_path, "v1.1.0")


@BOTH
def test_edits_are_kept_and_the_rest_is_updated(old, experiment, update):
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
def test_deleted_template_file_stays_deleted(old, experiment, update):
    (experiment / "scripts/submit.sh").unlink()
    commit(old.path)
    assert update(old).returncode == 0
    assert not (experiment / "scripts/submit.sh").exists()
    assert "account=new-account" in (experiment / "scripts/delta_x_001.slurm").read_text()


@BOTH
def test_other_files_stay_byte_identical(old, experiment, update):
    other = old.path / "experiments/012-y"
    shutil.copytree(experiment, other)
    for path in ("results/a.csv", "slurm/output/a.out", "profiling_results/a.prof", "scripts/__pycache__/x.pyc"):
        for each in (experiment, other):
            (each / path).parent.mkdir(exist_ok=True)
            (each / path).write_bytes(os.urandom(64))
    git(old.path, "add", "experiments/011-x/results")  # untracked files stop a plain update
    git(old.path, "commit", "--quiet", "--message=Results")
    (other / ".copier-answers.yml").unlink()
    (old.path / "notes").mkdir()
    (old.path / "notes/untracked.md").write_text("mine  \n")
    (old.path / "torchcell/timestamp.py").write_text("edited\n")
    before = contents(old.path)
    assert update(old).returncode == 0
    after = contents(old.path)
    assert changed(before, after) == {f"experiments/011-x/{name}" for name in MOVED}
    assert is_new(experiment)


def test_ignored_file_is_updated(old, experiment):
    (old.path / ".gitignore").write_text((old.path / ".gitignore").read_text() + "*.slurm\nconf/\n*.cql\nsubmit.sh\n")
    commit(old.path)
    before = contents(experiment)
    assert by_tool(old).returncode == 0
    assert is_new(experiment) and contents(experiment).keys() == before.keys()


def test_edited_experiments_all_get_the_new_account(old, experiment):
    for name in ("012-x", "013-x", "014-x"):
        shutil.copytree(experiment, experiment.with_name(name))
    experiments = sorted(experiment.parent.iterdir())
    for each in experiments:
        (each / "scripts/x.py").write_text(f"# {each.name}\n" + (each / "scripts/x.py").read_text())
        (each / "conf/x_delta_001.yaml").write_text((each / "conf/x_delta_001.yaml").read_text() + "hours: 48\n")
    commit(old.path)
    done = typed(old, "update", "--commit")
    assert done.returncode == 0 and done.stdout.count(" updated") == 4
    for each in experiments:
        assert is_new(each)
        assert (each / "scripts/x.py").read_text().startswith(f"# {each.name}\n")
        assert (each / "conf/x_delta_001.yaml").read_text().endswith("hours: 48\n")
    assert git(old.path, "log", "--oneline").count("Update experiments/") == 4
    assert git(old.path, "status", "--porcelain") == ""
    assert tool(old, "update").stdout.count("up to date") == 4


def test_dry_run_lists_changes_and_writes_nothing(old, experiment):
    before = contents(old.path)
    done = tool(old, "update", "--dry-run")
    assert done.returncode == 0
    assert "would change: scripts/delta_x_001.slurm, scripts/submit.sh, .copier-answers.yml" in done.stdout
    assert contents(old.path) == before and git(old.path, "status", "--porcelain") == ""


UNRELEASED = "v0.0.0"  # the last commit, as if released


@pytest.mark.parametrize("version", [UNRELEASED, *git(ROOT, "tag", "--list", "v*").split()])
def test_update_from_any_release_equals_a_fresh_render(lab, tmp_path, version):
    """User-owned files stay as that release rendered them."""
    template = tmp_path / "template"
    git(tmp_path, "init", "--quiet", template)
    git(ROOT, "archive", f"--output={tmp_path}/files.tar", "HEAD" if version == UNRELEASED else version)
    shutil.unpack_archive(tmp_path / "files.tar", template)
    shutil.copy(template / "tests/lab.yml", template / "lab.yml")  # a fork's lab.yml has other machines
    lab.template = Template(template, version)
    lab.template.release(version)
    experiment = lab.render(runs=RUNS)
    before = contents(experiment)
    for name in git(ROOT, "ls-files", "-z").split("\0")[:-1]:
        shutil.copy(ROOT / name, template / name)
    shutil.copy(template / "tests/lab.yml", template / "lab.yml")
    lab.template.release("v999.0.0")
    assert by_copier(lab).returncode == 0
    yours = {name: before[name] for name in USER_OWNED if name in before}
    assert contents(experiment) == fresh(lab, tmp_path, "v999.0.0") | yours


# Versions -------------------------------------------------------------------------------------------------------------


def test_version_must_exist_and_be_newer(own_old):
    own_old.template.release("v2.0.0rc1")
    experiment = own_old.path / "experiments/011-x"
    assert skipped(
        tool(own_old, "update", "--vcs-ref", "v9.9.9"),
        experiment,
        "its template has no v9.9.9. Its newest versions are v2.0.0rc1, v1.1.0",
    )
    done = tool(own_old, "update", "--commit")
    assert re.search(r"experiments/011-x +v1\.0\.0 +v1\.1\.0 +updated", done.stdout), "a pre-release is not a release"
    assert skipped(tool(own_old, "update", "--vcs-ref", "v1.0.0"), experiment, "downgrades are not supported")


def test_version_order_is_that_of_copier(own_old):
    for tag in ("v1.1.0.post1", "v1.2.0rc1", "v9"):
        own_old.template.release(tag if tag != "v9" else "nightly")
    assert re.search(r"v1\.0\.0 +v1\.1\.0\.post1 +updated", by_tool(own_old).stdout)


def test_version_between_releases_is_updated(own_old):
    own_old.template.version = "HEAD"
    (own_old.template.path / "notes").touch()
    commit(own_old.template.path)
    own_old.render("012-y", runs=RUNS)
    own_old.template.release("v1.2.0", [("lab.yml", "new-account", "newest-account")])
    assert re.search(r"y +v1\.1\.0-1-g[0-9a-f]+ +v1\.2\.0 +updated\n", by_tool(own_old, "experiments/012-y").stdout)


def move_tag(template, tag):
    """Move a tag to a new commit. The old one is no longer on a branch."""
    path = template.path / "template/scripts/submit.sh.jinja"
    path.write_text(path.read_text() + "# after the tag was moved\n")
    git(template.path, "reset", "--quiet", "--soft", f"{tag}~1")
    git(template.path, "commit", "--quiet", "--all", "--message", "Again")
    git(template.path, "tag", "--force", "--annotate", tag, "--message", tag)


def test_moved_tag_is_reported_and_merged_from_the_old_commit(own_old):
    """A merge from the tag's new commit would lose its changes."""
    experiment = own_old.path / "experiments/011-x"
    assert tool(own_old, "update", "--commit").returncode == 0
    recorded = (experiment / ".copier-answers.yml").read_text()
    assert f"_commit_id: {git(own_old.template.path, 'rev-parse', 'v1.1.0^{commit}')}" in recorded
    move_tag(own_old.template, "v1.1.0")
    assert (
        "is at v1.1.0, but the newest release is v1.1.0, which was moved [version]\n" in tool(own_old, "check").stdout
    )
    done = tool(own_old, "update", "--commit")
    assert re.search(r"v1\.1\.0, which was moved +v1\.1\.0 +updated", done.stdout), done.stdout
    assert is_new(experiment) and (experiment / "scripts/submit.sh").read_text().endswith("# after the tag was moved\n")
    assert "up to date" in by_tool(own_old).stdout


def test_moved_tag_without_its_old_commit_is_skipped(own_old):
    experiment = own_old.path / "experiments/011-x"
    template = own_old.template.path
    former = git(template, "rev-parse", "v1.0.0^{commit}").strip()
    git(template, "tag", "--force", "v1.0.0", "v1.1.0")
    git(template, "checkout", "--quiet", "--orphan", "again")
    git(template, "commit", "--quiet", "--all", "--message", "Again")
    git(template, "tag", "--force", "v1.1.0")
    git(template, "tag", "--force", "v1.0.0")
    git(template, "branch", "--quiet", "--delete", "--force", "main")
    git(template, "reflog", "expire", "--expire=now", "--all")
    git(template, "gc", "--quiet", "--prune=now")
    reason = f"v1.0.0 of its template was moved from {former[:10]}, which no longer exists, to "
    assert skipped(by_tool(own_old), experiment, reason) and reason in tool(own_old, "check").stdout
    done = tool(own_old, "add-run", "experiments/011-x", "x", "gh_002")
    assert done.returncode == 1 and "was moved" in done.stderr and git(own_old.path, "status", "--porcelain") == ""


BROKEN = {
    "copier.yml": ("title:\n", "title: [\n", "v1.2.0"),
    "lab.yml": ("machines:\n", "machine:\n", "version v1.2.0 of its template has no machines in lab.yml"),
    "rules/runs.jinja": ("{%", "{% no", "version v1.2.0 of its template cannot read runs"),
    "template/scripts/submit.sh.jinja": ("{{", "{{ nowhere.", "v1.2.0"),
}


@pytest.mark.parametrize("file", BROKEN)
def test_broken_release_is_reported(own_old, file):
    old, new, reason = BROKEN[file]
    text = (own_old.template.path / file).read_text()
    (own_old.template.path / file).write_text(text.replace(old, new, 1))
    own_old.template.release("v1.2.0")
    assert skipped(by_tool(own_old), own_old.path / "experiments/011-x", reason)
    assert tool(own_old, "update", "--vcs-ref", "v1.1.0").returncode == 0


# Files that a release adds or drops -----------------------------------------------------------------------------------


def drop_submit(template):
    (template / "template/scripts/submit.sh.jinja").unlink()


def rename_submit(template):
    (template / "template/scripts/submit.sh.jinja").rename(template / "template/scripts/Submit.sh.jinja")


@pytest.mark.parametrize("change", [drop_submit, rename_submit])
def test_dropped_file_is_deleted_unless_edited(own_old, change):
    edited = own_old.path / "experiments/011-x"
    shutil.copytree(edited, edited.with_name("012-y"))
    (edited / "scripts/submit.sh").write_text("mine\n")
    commit(own_old.path)
    change(own_old.template.path)
    own_old.template.release("v1.2.0")
    done = tool(own_old, "update", "--commit", "--jobs=1")
    assert "skipped: scripts/submit.sh was edited here, but the template no longer has it" in done.stdout
    assert (edited / "scripts/submit.sh").read_text() == "mine\n"
    assert not (edited.with_name("012-y") / "scripts/submit.sh").exists()
    assert (edited.with_name("012-y") / "scripts/Submit.sh").exists() == (change is rename_submit)
    assert git(own_old.path, "status", "--porcelain") == ""


def test_added_file_gets_its_mode(own_old):
    experiment = own_old.path / "experiments/011-x"
    file = own_old.template.path / "template/scripts/new.sh"
    file.write_text("echo new\n")
    file.chmod(0o755)
    (own_old.template.path / "template/scripts/submit.sh.jinja").chmod(0o755)
    for folder in (own_old.template.path / "template", experiment):
        (folder / "scripts/same.sh").write_text("echo same\n")
    (own_old.path / ".gitignore").write_text((own_old.path / ".gitignore").read_text() + "new.sh\n")
    commit(own_old.path)
    edit(own_old.template.path / "template/scripts/runtime/paths.py.jinja", "import shlex\n", "import shlex\n\n")
    own_old.template.release("v1.2.0")
    own = experiment / "scripts/delta_x_001.slurm"
    own.chmod(0o700)
    commit(own_old.path)
    for name in ("runtime/paths.py", "submit.sh"):
        (experiment / f"scripts/{name}").chmod(0o600)
    done = tool(own_old, "update", "--commit")
    assert done.returncode == 0, done.stdout
    assert os.access(experiment / "scripts/new.sh", os.X_OK) and os.access(experiment / "scripts/submit.sh", os.X_OK)
    assert (experiment / "scripts/runtime/paths.py").stat().st_mode & 0o777 == 0o600
    assert (experiment / "scripts/submit.sh").stat().st_mode & 0o777 == 0o700
    assert own.stat().st_mode & 0o777 == 0o700 and "new-account" in own.read_text(), "a person's own mode"
    assert "scripts/new.sh\n" in git(experiment, "ls-files"), "it is ignored, and was not committed"
    assert git(own_old.path, "status", "--porcelain") == ""
