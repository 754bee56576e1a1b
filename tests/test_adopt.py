"""adopt: add the template to an existing experiment without overwriting its files."""

import os

import pytest
import yaml
from support.process import commit, edit
from support.updating import SUBMIT, contents, tool


@pytest.fixture
def found(lab):
    """Return a lab with an experiment that was written without the template."""
    folder = lab.path / "experiments/005-Old_one"
    for name, text in {
        "README.md": "mine\n",
        "conf/train_gh_000.yaml": "a: 1\n",
        "scripts/train.py": "mine\n",
        "scripts/gh_train_000.slurm": "#!/bin/bash\npython scripts/train.py --config-name train_gh_000\n",
        "scripts/another.slurm": "#!/bin/bash\ntrue\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    commit(lab.path)
    return lab, folder


def test_adopt_adds_missing_files_and_finds_runs(found):
    lab, folder = found
    before = contents(folder)
    done = tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path)
    assert done.returncode == 0, done.stderr
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert {"keep README.md", "keep scripts/train.py", "run gh_000 of train"} <= set(rows)
    after = contents(folder)
    assert before.items() <= after.items() and "scripts/submit.sh" in after
    answers = yaml.safe_load(after[".copier-answers.yml"])
    assert (answers["runs"], answers["_commit"]) == ({"train": ["gh_000"]}, "v1.0.0")
    assert (answers["title"], answers["package"], answers["queries"]) == ("005-Old_one", "torchcell", False)
    (folder / ".copier-answers.yml").unlink()  # as if killed before the last file
    assert tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path).returncode == 0
    assert contents(folder) == after
    commit(lab.path)
    done = tool(lab, "add-run", "experiments/005-Old_one", "train", "gh_001")
    assert done.returncode == 0, done.stderr
    commit(lab.path)
    assert "up to date" in tool(lab, "update").stdout
    assert tool(lab, "check").stdout == ""


@pytest.mark.parametrize(("place", "package"), [("src/torchcell", "torchcell"), ("elsewhere", "")])
def test_adopt_detects_the_package(found, place, package):
    """adopt uses the same defaults as Copier's first copy."""
    lab, folder = found
    (lab.path / "src").mkdir()
    (lab.path / "torchcell").rename(lab.path / place)
    assert tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path).returncode == 0
    assert yaml.safe_load((folder / ".copier-answers.yml").read_text())["package"] == package
    assert (folder / "scripts/timestamp.py").exists() == (not package)


def test_adopt_without_runs_uses_the_labs_template(found):
    lab, folder = found
    (folder / "scripts/gh_train_000.slurm").unlink()
    other = folder.with_name("006-other")
    (other / "scripts").mkdir(parents=True)
    relative = os.path.relpath(lab.template.path, lab.path)
    answers = lab.render() / ".copier-answers.yml"
    edit(answers, str(lab.template.path), relative)
    for path in (folder, other):
        done = tool(lab, "adopt", path.relative_to(lab.path))
        assert done.returncode == 0, done.stderr
        answers = yaml.safe_load((path / ".copier-answers.yml").read_text())
        assert (answers["runs"], answers["_src_path"]) == ({}, relative)


def test_adopted_launchers_survive_updates(found, own_template):
    lab, folder = found
    (folder / "README.md").unlink()
    (folder / "conf/other_gh_001.yaml").write_text("a: 1\n")
    (folder / "scripts/gh_other_001.slurm").write_text("#!/bin/bash\npython scripts/another.py\n")
    commit(lab.path)
    assert tool(lab, "adopt", "experiments/005-Old_one", "--source", own_template.path).returncode == 0
    assert (folder / "README.md").read_text().endswith(f"documentation: {own_template.path}\n")
    answers = yaml.safe_load((folder / ".copier-answers.yml").read_text())
    assert answers["runs"] == {"train": ["gh_000"]}, "a run has its script"
    commit(lab.path)
    launcher = folder / "scripts/gh_train_000.slurm"
    mine = launcher.read_bytes()
    own_template.release("v1.1.0", [SUBMIT, ("lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")])
    done = tool(lab, "update", "--commit")
    assert done.returncode == 0 and "updated: kept launchers of its own, scripts/gh_train_000.slurm\n" in done.stdout
    assert launcher.read_bytes() == mine and "failglob" in (folder / "scripts/submit.sh").read_text()
    done = tool(lab, "set-run", "experiments/005-Old_one", "train", "gh_000", "mem=1g")
    reason = "gh_train_000.slurm is not the template's; nothing was changed. Edit its #SBATCH lines.\n"
    assert done.returncode == 1 and done.stderr.endswith(reason)
    assert launcher.read_bytes() == mine


@pytest.mark.parametrize(
    "name", ["scripts/runtime.py", "scripts/submit.sh", "scripts/runtime", "conf/runtime.yaml", "slurm"]
)
def test_adopt_refuses_clashing_names(found, name):
    lab, folder = found
    (folder / name).write_text("mine\n")
    before = contents(folder)
    done = tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path)
    assert done.returncode == 1 and "clash " in done.stdout and "nothing was added" in done.stderr
    assert contents(folder) == before


def test_adopt_interrupted_leaves_nothing(found, monkeypatch):
    lab, folder = found

    def stop(write):
        raise KeyboardInterrupt

    before = sorted(folder.rglob("*"))
    monkeypatch.setattr("experiments.files.commit", stop)
    assert tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path).returncode == 130
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["experiments/005-Old_one"], "the template is unknown: no other experiment has one"),
        (["experiments/nowhere"], "is not a folder"),
        (["torchcell"], "is not in experiments/ of its repository. Move it there with `git mv`."),
        (
            ["experiments/Old", "--source", "TEMPLATE"],
            "does not have the form NNN-slug. Name the folder like 011-growth",
        ),
        (["experiments/005-Old_one", "--source", "--upload-pack=touch hacked"], "is not an address: "),
        (["experiments/005-Old_one", "--source", "ext::sh -c touch% hacked"], "is not an address: "),
    ],
)
def test_adopt_refusal_is_one_line_and_leaves_nothing(found, arguments, reason):
    lab, _ = found
    (lab.path / "experiments/Old").mkdir()
    before = contents(lab.path)
    done = tool(lab, "adopt", *(word.replace("TEMPLATE", str(lab.template.path)) for word in arguments))
    assert done.returncode in (1, 2) and reason in done.stderr
    assert contents(lab.path) == before
