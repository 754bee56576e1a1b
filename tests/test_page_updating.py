"""docs/updating.md: its session, its advice for four situations, and its GitHub Actions workflow."""

import re

import pytest
import yaml
from support.document import SHORT, Reader, blocks, commands
from support.lab import write_program
from support.process import commit, edit, git
from support.template import ROOT

PAGE = "docs/updating.md"
LIMITS = ("lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")  # the change of v1.1.0


def test_updating_page_works(lab, own_template):
    lab.template = own_template
    growth = lab.render("011-growth", runs={"growth": ["gh_000"]})
    other = lab.render("012-y", runs={"y": ["delta_000"]})
    (lab.path / "experiments/005-old/scripts").mkdir(parents=True)
    for experiment in (growth, other):
        edit(experiment / ".copier-answers.yml", f"_src_path: {own_template.path}", f"_src_path: {SHORT}")
    commit(lab.path)
    own_template.release("v1.1.0", [LIMITS])
    reader = Reader(lab.path, own_template.path)
    reader.read("docs/updating.md", lambda command: commit(lab.path) if command.startswith("git diff exp") else None)
    assert "--time=1-00:00:00" in (growth / "scripts/gh_growth_000.slurm").read_text()


# Advice of the page ---------------------------------------------------------------------------------------------------


@pytest.fixture
def growth(lab, own_template):
    """Return a lab with 011-growth at v1.0.0. Its template has v1.1.0."""
    lab.template = own_template
    experiment = lab.render("011-growth", runs={"growth": ["gh_000"]})
    own_template.release("v1.1.0", [LIMITS])
    return experiment


@pytest.fixture
def reader(lab, own_template):
    return Reader(lab.path, own_template.path)


def advice(title):
    """Return the commands of a list entry such as "Abort an update"."""
    page = (ROOT / PAGE).read_text()
    [text] = re.findall(rf"^- \*\*{title}\*\*: (.*(?:\n  .*)*)", page, flags=re.MULTILINE)
    return re.findall(r"`((?:git|copier|experiments) [^`]*)`", text)


def update_commands():
    """Return two commands of the Copier section: the update, and the list of conflicts."""
    [update, conflicts, _] = next(commands(block.text) for block in blocks(PAGE) if block.text.startswith("copier"))
    return update, conflicts.split("    #")[0]


def test_updating_page_aborts_an_update(lab, growth, reader):
    update, _ = update_commands()
    reader.succeed(update)
    restore, look = advice("Abort an update")
    reader.succeed(restore)
    assert reader.succeed(look) == git(lab.path, "status", "--porcelain") == ""


def test_updating_page_adds_a_run_to_a_changed_tree(growth, reader):
    (growth / "README.md").write_text("changed\n")
    [add_run] = advice("Add a run")
    reader.succeed(add_run)
    assert (growth / "scripts/delta_growth_001.slurm").is_file()


def test_updating_page_resolves_a_conflict(lab, growth, reader):
    launcher = growth / "scripts/gh_growth_000.slurm"
    name = str(launcher.relative_to(lab.path))
    edit(launcher, "--time=2-00:00:00", "--time=9-00:00:00")
    commit(lab.path)
    update, conflicts = update_commands()
    reader.succeed(update)
    status, add = advice("Resolve a conflict")
    assert f"UU {name}" in reader.succeed(f"{status} --porcelain")
    assert reader.succeed(conflicts).strip() == name
    text = launcher.read_text()
    assert "<<<<<<<" in text and ">>>>>>>" in text
    launcher.write_text(re.sub("<<<<<<<.*?\n(.*?)=======\n.*?>>>>>>>.*?\n", "\\1", text, flags=re.DOTALL))
    reader.succeed(f"{add} {name}")
    assert reader.succeed(conflicts) == ""


def test_updating_page_renames_and_removes_a_run(lab, growth, reader):
    [rename] = advice("Rename a run")
    reader.succeed(rename)
    commit(lab.path)
    [remove] = advice("Remove a run")
    assert "expected one of: delta_growth_000\n" in reader.type(remove) * reader.printed
    reader.succeed(remove.replace("gh_growth_000", "delta_growth_000"))
    assert not [*growth.glob("scripts/*.slurm"), *growth.glob("conf/growth_*")]


def test_updating_page_renames_an_experiment(lab, growth, reader):
    move, rename = advice("Rename an experiment")
    reader.succeed(move)
    commit(lab.path)
    reader.succeed(rename)
    assert lab.start("growth_gh_000", name="013-growth", script="growth").returncode == 0
    assert "013-growth" in (lab.path / "experiments/013-growth/conf/runtime.yaml").read_text()


# The workflow ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def runner(lab, own_template, tmp_path):
    """Return a reader in a CI clone with 011-fine and 012-conflict. The template has a newer release."""
    lab.template = own_template
    lab.render("011-fine")
    conflict = lab.render("012-conflict", runs={"x": ["gh_000"]})
    edit(conflict / "scripts/gh_x_000.slurm", "--time=2-00:00:00", "--time=9-00:00:00")
    commit(lab.path)
    own_template.release("v1.1.0", [LIMITS])
    git(tmp_path, "clone", "--quiet", "--bare", lab.path, "origin.git")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tmp_path}/origin.git", "runner")  # like actions/checkout
    reader = Reader(tmp_path / "runner", own_template.path)
    asked = tmp_path / "asked"
    write_program(reader.programs / "pipx", '[ "$1 $2 $4" = "run --spec experiments" ] || exit 9; exec "${@:4}"')
    write_program(reader.programs / "gh", f'printf "%s\\n" "$@" >> {asked}; cat "${{@: -1}}" >> {asked}')
    reader.environment |= {"RUNNER_TEMP": str(tmp_path), "GITHUB_SHA": git(lab.path, "rev-parse", "HEAD").strip()}
    return reader


def test_updating_workflow_opens_a_pull_request(runner, tmp_path):
    [workflow] = [block for block in blocks(PAGE) if block.file]
    for step in yaml.safe_load(workflow.text)["jobs"]["update"]["steps"][1:]:
        runner.succeed(f"set -eo pipefail; {step['run']}")
    pushed = git(tmp_path / "origin.git", "log", "--format=%s", "main..update-experiments").splitlines()
    assert pushed == ["Update experiments/011-fine from template v1.0.0 to v1.1.0"]
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("pr\ncreate\n--head\nupdate-experiments\n")
    assert re.search("^experiments/012-conflict .*conflict in", asked, re.MULTILINE) and "011-fine" in asked
