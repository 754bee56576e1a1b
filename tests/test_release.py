"""`make release`: make a commit and an annotated tag after all checks, or change nothing."""

import re

import pytest
from support.checkout import reuse_venv
from support.process import commit, edit, git, run
from support.template import ROOT

NOTES = "On update: nothing.\n\n### Added\n\n- A thing."


@pytest.fixture
def checkout(own_template, monkeypatch):
    """Return a template with its environment, and with notes for a release."""
    monkeypatch.delenv("SLURM_CONF", raising=False)  # another test's, which `make test` would take for a site's
    reuse_venv(own_template.path)
    changelog = own_template.path / "CHANGELOG.md"
    changelog.write_text(f"# Changelog\n\n## [Unreleased]\n\n{NOTES}\n\n## [0.0.1] - 2026-01-01\n\nOld.\n")
    commit(own_template.path, "Take notes")
    return own_template.path


def release(checkout, version, tests="--version"):
    """Release with fast tests, and without the type check."""
    command = ["make", "--no-print-directory", "release", f"VERSION={version}"]
    return run(*command, f"PYTEST={tests}", "MYPY=true", cwd=checkout)


def state(checkout):
    return git(checkout, "rev-parse", "HEAD"), git(checkout, "status", "--porcelain"), git(checkout, "tag")


def refusal(checkout, *arguments):
    """Return the second last line of `make`, and check that nothing changed."""
    before = state(checkout)
    done = release(checkout, *arguments)
    assert (done.returncode, state(checkout)) == (2, before)
    return (done.stdout + done.stderr).splitlines()[-2]


def notes_under(version, checkout):
    """Return the notes of CHANGELOG.md for a version. Headings have a date, except Unreleased."""
    date = "" if version == "Unreleased" else r" - \d{4}-\d\d-\d\d"
    pattern = rf"^## \[{version}\]{date}\n(.*?)(?=^## |\Z)"
    [notes] = re.findall(pattern, (checkout / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    return notes.strip()


def test_release_makes_a_commit_and_an_annotated_tag(checkout):
    done = release(checkout, "7.9.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("v7.9.0 is made here. To publish it: git push --atomic --follow-tags\n")
    assert git(checkout, "cat-file", "-t", "v7.9.0") == "tag\n" and git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "log", "-1", "--format=%s") == "Release 7.9.0\n"
    assert git(checkout, "rev-list", "--count", "v1.0.0..v7.9.0") == "2\n"
    assert notes_under("Unreleased", checkout) == ""
    assert notes_under("7.9.0", checkout) == NOTES
    assert git(checkout, "tag", "--list", "v7.9.0", "--format=%(contents:body)").strip() == NOTES
    assert 'version = "7.9.0"' in (checkout / "pyproject.toml").read_text().splitlines()


def test_release_refuses_a_wrong_version(checkout):
    git(checkout, "tag", "v7.9.0")
    hint = "is not three numbers. Type: make release VERSION=0.1.0"
    assert refusal(checkout, "1.0") == f"make release: VERSION=1.0 {hint}"
    assert refusal(checkout, "07.9.0") == f"make release: VERSION=07.9.0 {hint}"
    assert refusal(checkout, "7.9.0") == "make release: v7.9.0 exists"
    assert refusal(checkout, "7.8.9") == "make release: v7.9.0 is newer than v7.8.9"


def test_release_refuses_uncommitted_changes(checkout):
    edit(checkout / "lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")
    assert refusal(checkout, "7.9.0") == "make release: the tree is not clean; commit first"


@pytest.mark.parametrize("switch", [["--create", "topic"], ["--detach"]], ids=["topic", "detached"])
def test_release_refuses_another_branch(checkout, switch):
    git(checkout, "switch", "--quiet", *switch)
    assert refusal(checkout, "7.9.0") == "make release: a release is made on the branch main. Type: git switch main"


def test_release_refuses_missing_update_notes(checkout):
    edit(checkout / "CHANGELOG.md", "On update: nothing.", "Nothing.")
    commit(checkout)
    wanted = "make release: CHANGELOG.md has no line 'On update: ...' under Unreleased"
    assert refusal(checkout, "7.9.0") == wanted


def test_release_after_a_failed_test_leaves_nothing(checkout):
    assert refusal(checkout, "7.9.0", "--fail").endswith("test] Error 4")


def test_release_after_a_refused_commit_leaves_nothing(checkout):
    hook = checkout / ".git/hooks/commit-msg"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert refusal(checkout, "7.9.0") == "not today"


def test_release_reaches_experiments_by_update(checkout, lab):
    copier = ["copier", "copy", "--quiet", "--defaults", checkout, "experiments/011-x"]
    assert run(*copier, cwd=lab.path).returncode == 0
    experiment = lab.path / "experiments/011-x"
    assert "_commit: v1.0.0" in (experiment / ".copier-answers.yml").read_text().splitlines()
    commit(lab.path)
    edit(checkout / "lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")
    commit(checkout, "Shorten the time limits")
    assert release(checkout, "7.10.0").returncode == 0
    assert run("copier", "update", "--quiet", "--defaults", "experiments/011-x", cwd=lab.path).returncode == 0
    assert "_commit: v7.10.0" in (experiment / ".copier-answers.yml").read_text().splitlines()
    assert "--time=1-00:00:00" in (experiment / "scripts/gh_x_000.slurm").read_text()


def test_release_notes_have_update_lines():
    notes = notes_under("Unreleased", ROOT)
    assert not notes or "On update: " in [line[: len("On update: ")] for line in notes.splitlines()]
