"""Owners: updates change the template's files and leave user-owned files byte-identical."""

import shutil

import pytest
from support.process import commit, git, run
from support.template import render
from support.updating import BOTH, USER_OWNED, by_copier, by_tool, contents

PLACES = ["profiling_results", "results", "slurm/output"]
RUNS = {"x": ["gh_000", "gh_optuna", "delta_wandb"], "query": ["gh_001"]}
LINE, MINE = "the release's line", "a person's line"


def sources(template):
    """Return the files of template/ that exist after the first copy too."""
    return [path for path in (template.path / "template").rglob("*") if path.is_file() and path.name != ".gitkeep"]


def of_people(path):
    """Check whether users own a file of template/ after it is rendered."""
    name = path.as_posix()
    return (
        "README.md" in name
        or ("/conf/" in name and "runtime.yaml" not in name)
        or "/queries" in name
        or (path.name.startswith(("__init__", "{% yield script")) and path.parent.name == "scripts")
    )


def change(template):
    """Append a comment to every file."""
    for path in sources(template):
        if "answers" not in path.name:
            sign = "//" if "queries" in path.as_posix() else "#"
            path.write_text(path.read_text().rstrip("\n") + f"\n{sign} {LINE}\n")


def drop(template):
    """Delete the user-owned files, and change the rest."""
    change(template)
    for path in sources(template):
        if of_people(path):
            path.unlink()


def rename(template):
    """Rename the user-owned files, and change the rest."""
    change(template)
    for path in sources(template):
        if of_people(path):
            path.rename(path.with_name(path.name.replace("{% yield", "new_{% yield")))


def rewrite(experiment):
    for name in USER_OWNED:
        (experiment / name).write_text(f"mine: {name}\n")
    timestamp = experiment / "scripts/timestamp.py"
    timestamp.write_text(f"# {MINE}\n" + timestamp.read_text())


def delete(experiment):
    for name in USER_OWNED:
        (experiment / name).unlink()


def link(experiment):
    """Move results, logs and profiles to a scratch disk. Change nothing else."""
    for name in PLACES:
        scratch = experiment.parents[2] / "scratch" / experiment.name / name
        scratch.mkdir(parents=True)
        shutil.rmtree(experiment / name)
        (experiment / name).symlink_to(scratch)


EDITS = {"011-x": link, "012-x": rewrite, "013-x": delete}


@pytest.fixture(scope="module", params=[change, drop, rename])
def released(request, template, tmp_path_factory):
    """Return a template with a release. Do not change it."""
    released = template.copy(tmp_path_factory.mktemp("released") / "template")
    request.param(released)
    released.release("v1.1.0")
    return released


@BOTH
def test_user_owned_files_survive_every_update(lab, released, update):
    lab.template = released
    experiments = [lab.render(name, runs=RUNS, package="") for name in EDITS]
    for experiment in experiments:
        EDITS[experiment.name](experiment)
    commit(lab.path)
    before = [contents(experiment) for experiment in experiments]
    for words in [[f"experiments/{name}"] for name in EDITS] if update is by_copier else [[]]:
        done = update(lab, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert git(lab.path, "diff", "--name-only", "--diff-filter=U") == ""
    assert list((lab.path.parent / "scratch").rglob(".gitkeep")) == [], "a link was followed"
    for experiment, old in zip(experiments, before, strict=True):
        new = contents(experiment)
        mine = {name for name in old if name in USER_OWNED + PLACES or ".gitkeep" in name}
        assert {name: old[name] for name in mine} == {name: new.get(name) for name in mine}
        assert new.keys() == old.keys(), "a file of people's came back, or went"
        for name in old.keys() - mine - {".copier-answers.yml"}:
            assert LINE in new[name].decode(), f"{name} is the template's, and stayed old"
            assert (MINE in new[name].decode()) == (MINE in old[name].decode()), f"{name} lost an edit"
        assert b"v1.1.0" in new[".copier-answers.yml"]


def test_user_owned_files_survive_at_a_repository_root(own_template, tmp_path):
    """The experiment's folder is the repository, so it contains .git."""
    experiment = render(own_template, tmp_path / "011-x", runs=RUNS)
    git(experiment, "init", "--quiet")
    rewrite(experiment)
    (experiment / "queries/001_small_build.cql").unlink()
    commit(experiment)
    before = contents(experiment)
    drop(own_template)
    own_template.release("v1.1.0")
    done = run("copier", "update", "--defaults", cwd=experiment)
    assert done.returncode == 0, done.stderr
    after = contents(experiment)
    assert after.keys() == before.keys()
    assert {name for name in USER_OWNED if after.get(name) != before.get(name)} == set()
    assert LINE in after["scripts/submit.sh"].decode() and LINE in after["conf/runtime.yaml"].decode()


def own_instructions(lab, template):
    """Render an experiment in a folder with an AGENTS.md of its own."""
    lab.template = template
    experiment = lab.path / "experiments/011-x"
    experiment.mkdir()
    (experiment / "AGENTS.md").write_text(f"{MINE}\n")
    render(template, experiment, runs=RUNS)
    commit(lab.path)
    return experiment


@BOTH
def test_own_instructions_survive_every_update(lab, own_template, update):
    experiment = own_instructions(lab, own_template)
    assert (experiment / "CLAUDE.md").read_text() == "@AGENTS.md\n"
    change(own_template)
    own_template.release("v1.1.0")
    assert update(lab).returncode == 0
    assert git(lab.path, "diff", "--name-only", "--diff-filter=U") == ""
    assert (experiment / "AGENTS.md").read_text() == f"{MINE}\n"
    assert (experiment / "CLAUDE.md").read_text() == f"@AGENTS.md\n# {LINE}\n"
    assert "own_files:\n- AGENTS.md\n" in (experiment / ".copier-answers.yml").read_text()


def test_instructions_of_a_release_leave_existing_ones(lab, own_template):
    """A version without instructions is updated to one that has them."""
    [agents] = (own_template.path / "template").glob("*AGENTS.md*.jinja")
    text = agents.read_text()
    agents.unlink()
    own_template.release("v1.0.1")
    own_template.version = "v1.0.1"
    experiment = own_instructions(lab, own_template)
    agents.write_text(text)
    own_template.release("v1.1.0")
    for version in ("v1.1.0", "v1.2.0"):
        done = by_tool(lab)
        assert done.returncode == 0 and "updated" in done.stdout, done.stdout
        commit(lab.path)
        assert (experiment / "AGENTS.md").read_text() == f"{MINE}\n"
        if version == "v1.1.0":
            change(own_template)
            own_template.release("v1.2.0")


def test_recopy_restores_deleted_files(lab):
    experiment = lab.render()
    shutil.rmtree(experiment / "queries")
    commit(lab.path)
    command = ["copier", "recopy", "--skip-answered", "--vcs-ref=:current:", "--defaults", "--overwrite"]
    done = run(*command, "experiments/011-x", cwd=lab.path)
    assert done.returncode == 0, done.stderr
    assert (experiment / "queries/001_small_build.cql").is_file()
