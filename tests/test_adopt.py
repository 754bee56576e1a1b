"""adopt: add the template to an existing experiment without overwriting its files."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support.document import ADDRESS, SHORT, Reader
from support.lab import Lab, write_program
from support.process import commit, edit, git, run
from support.slurm import submitted
from support.template import copy_template
from support.updating import SUBMIT, contents, tool

from experiments.edit_runs import parse_request

LAB_GROUP = pytest.mark.xdist_group("replica")  # one process adopts it

RUNS = {"train": [{"gh_000": {"time": "1-00:00:00"}}]}


@pytest.fixture
def found(lab):
    """Return a lab with an experiment that was written without the template."""
    folder = lab.path / "experiments/005-Old_one"
    for name, text in {
        "README.md": "mine\n",
        "conf/train_gh_000.yaml": "a: 1\n",
        "scripts/train.py": "mine\n",
        "scripts/gh_train_000.slurm": "#!/bin/bash\n"
        "#SBATCH -p main --cpus-per-task 16 --mem=64g --gres=gpu:1 --time=1-00:00:00 # one day\n"
        "python scripts/train.py --config-name train_gh_000\n",
        "scripts/another.slurm": "#!/bin/bash\ntrue\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    commit(lab.path)
    return lab, folder


def test_adopt_adds_missing_files_and_finds_runs(found):
    lab, folder = found
    (folder / "AGENTS.md").write_text("mine\n")
    before = contents(folder)
    done = tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path)
    assert done.returncode == 0, done.stderr
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert {
        "keep AGENTS.md",
        "add CLAUDE.md",
        "keep README.md",
        "keep scripts/train.py",
        "run gh_000 of train: time=1-00:00:00",
        "no run another.slurm: starts no Python script",
    } <= set(rows)
    after = contents(folder)
    assert before.items() <= after.items() and "scripts/submit.sh" in after
    answers = yaml.safe_load(after[".copier-answers.yml"])
    assert (answers["runs"], answers["_commit"]) == (RUNS, "v1.0.0")
    assert answers["own_files"] == ["AGENTS.md"]
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
    done = tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path)
    assert done.returncode == 0
    assert done.stderr.count("\n") == (not package) and ("no torchcell/timestamp.py" in done.stderr) == (not package)
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
    assert (folder / "README.md").read_text().endswith(f"Documentation: {own_template.path}\n")
    answers = yaml.safe_load((folder / ".copier-answers.yml").read_text())
    assert answers["runs"] == RUNS, "a run has its script"
    commit(lab.path)
    launcher = folder / "scripts/gh_train_000.slurm"
    mine = launcher.read_bytes()
    own_template.release("v1.1.0", [SUBMIT, ("lab.yml", "mem: 64g", "mem: 65g")])
    done = tool(lab, "update", "--commit")
    assert done.returncode == 0 and "updated: kept its own launchers, scripts/gh_train_000.slurm\n" in done.stdout
    assert launcher.read_bytes() == mine and "failglob" in (folder / "scripts/submit.sh").read_text()
    done = tool(lab, "set-run", "experiments/005-Old_one", "train", "gh_000", "mem=1g")
    reason = "gh_train_000.slurm is not a launcher of the template; nothing was changed. Edit its #SBATCH lines.\n"
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


def test_adopt_refuses_instructions_that_git_ignores(found):
    lab, folder = found
    (lab.path / ".gitignore").write_text("CLAUDE.md\n")
    (folder / ".gitignore").write_text("*.log\n")
    before = contents(folder)
    done = tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path)
    line = "CLAUDE.md: git would ignore it by .gitignore:1:CLAUDE.md. Write !/CLAUDE.md into experiments/005-Old_one/"
    assert done.returncode == 1 and line in done.stdout and contents(folder) == before
    (folder / ".gitignore").unlink()
    assert tool(lab, "adopt", "experiments/005-Old_one", "--source", lab.template.path).returncode == 0
    assert "005-Old_one/CLAUDE.md\n" in git(lab.path, "ls-files", "--others", "--exclude-standard")


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
        (["experiments/005-Old_one"], "the template is unknown: no other experiment uses one"),
        (["experiments/nowhere"], "is not a folder"),
        (["torchcell"], "is not in experiments/ of its repository. Move it there with `git mv`."),
        (
            ["experiments/Old"],
            "Old has no number, no scripts/ and no conf/, so it is not an experiment. If it is one, run: ",
        ),
        (["experiments/008 a"], "has characters other than letters, digits, _ and - in its name. Rename it with `git"),
        (["experiments/005-Old_one", "--source", "--upload-pack=touch hacked"], "is not a valid address: "),
        (["experiments/005-Old_one", "--source", "ext::sh -c touch% hacked"], "is not a valid address: "),
    ],
)
def test_adopt_refusal_is_one_line_and_leaves_nothing(found, arguments, reason):
    lab, _ = found
    for name in ("Old", "008 a"):
        (lab.path / "experiments" / name).mkdir()
    before = contents(lab.path)
    done = tool(lab, "adopt", *(word.replace("TEMPLATE", str(lab.template.path)) for word in arguments))
    assert done.returncode in (1, 2) and reason in done.stderr
    assert contents(lab.path) == before


def test_page_adopting_works(found, own_template):
    lab, folder = found
    lab.template = own_template
    answers = lab.render("011-growth") / ".copier-answers.yml"
    edit(answers, f"_src_path: {own_template.path}", f"_src_path: {SHORT}")
    for name in ("005-old", "006-older"):
        other = folder.with_name(name)
        shutil.copytree(folder, other)
        (other / "scripts/another.slurm").unlink()
        (other / "scripts/train.py").rename(other / "scripts/fit.py")
        edit(other / "scripts/gh_train_000.slurm", "train", "fit")
        (other / "scripts/gh_train_000.slurm").rename(other / "scripts/gh_fit_000.slurm")
        (other / "conf/train_gh_000.yaml").rename(other / "conf/fit_gh_000.yaml")
    commit(lab.path)
    reader = Reader(lab.path, own_template.path)
    reader.read("docs/adopting.md")
    old = folder.with_name("005-old")
    assert (old / "conf/fit_gh_002.yaml").read_text() == "a: 1\n" and (old / "scripts/fit.py").read_text() == "mine\n"
    new = folder.with_name("007-new")
    (new / "scripts").mkdir(parents=True)
    reader.succeed("experiments adopt experiments/007-new")
    assert f"run `uv tool install git+{ADDRESS}`." in (new / "README.md").read_text()


@dataclass
class Replica:
    """A copy of a lab's repository that has lived, adopted as a whole, and what is true of it."""

    lab: Lab
    facts: dict
    before: dict  # contents by path
    planned: str  # what the dry run printed
    done: subprocess.CompletedProcess

    def launchers(self, *expressible):
        """Return the facts of launchers by (experiment, launcher)."""
        return {
            (name, launcher): fact
            for name, facts in self.facts["experiments"].items()
            for launcher, fact in facts["launchers"].items()
            if fact["expressible"] in expressible
        }

    def answers(self, name):
        return yaml.safe_load((self.lab.path / "experiments" / name / ".copier-answers.yml").read_text())

    def options(self, machine, request):
        """Return the sbatch options of a run, as text."""
        options = self.facts["lab"]["machines"][machine]["sbatch"] | request
        return {name: value if value is True else str(value) for name, value in options.items() if value is not None}


@pytest.fixture(scope="module")
def replica(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replica")
    script = Path(__file__).with_name("support") / "replica.py"
    facts = json.loads(run(sys.executable, script, "--facts", check=True).stdout)
    run(sys.executable, script, folder / "lab", check=True)
    (folder / "lab.yml").write_text(yaml.safe_dump(facts["lab"]))
    lab = Lab(folder / "lab", copy_template(folder / "template", lab_file=folder / "lab.yml"))
    before = contents(lab.path)
    paths = sorted(f"experiments/{path.name}" for path in lab.path.glob("experiments/*"))
    planned = tool(lab, "adopt", *paths, "--source", lab.template.path, "--dry-run")
    assert contents(lab.path) == before
    done = tool(lab, "adopt", *paths, "--source", lab.template.path)
    assert (done.returncode, done.stdout, done.stderr) == (1, planned.stdout, planned.stderr)
    commit(lab.path, "Adopt")
    return Replica(lab, facts, before, planned.stdout, done)


def rows_of(table):
    """Yield (experiment, kind, text) for each row of adopt's tables."""
    name = ""
    for line in table.splitlines():
        if line.startswith("experiments/"):
            name = line.split("/")[1].strip()
        else:
            kind, text = re.split(r"  +", line, maxsplit=1)
            yield name, kind, text


# Launchers of scripts without Hydra, which the replica counts as no runs.
PLAIN = {
    ("002-dmi-tmi", "cpu_benchmark"): ("cpu_benchmark", "delta_cpu"),
    ("006-growth", "gh_flux-growth"): ("flux_growth", "gh"),
    ("010-inference", "gh_merge_shards"): ("merge_shards", "gh"),
    ("033-drug-screen", "gh_flatten_cells"): ("flatten_cells", "gh"),
}


@LAB_GROUP
def test_adopt_recognizes_the_runs_of_a_lab(replica):
    by_launcher = {}
    for name, kind, text in rows_of(replica.planned):
        if kind == "run":
            token, script, like, words = re.fullmatch(
                r"(\S+) of (\w+)(?:, like (\S+)\.slurm)?(?:: (.*))?", text
            ).groups()
            machine, mode, number = re.fullmatch(r"(\w+?)(?:-(\w+?))?(?:_(\d{3}\w*|wandb))?", token).groups()
            own = like or f"{machine}_{script}{f'-{mode}' if mode else ''}_{number}"
            request = parse_request((words or "").split())
            by_launcher[name, own] = (script, machine, mode or "one", number, request, bool(like))
    found = 0
    for key, fact in replica.launchers("as it is", "renamed").items():
        script, machine, mode, number, request, is_renamed = by_launcher.pop(key)
        assert (script, machine, mode) == (fact["script"], fact["machine"], fact["mode"]), key
        assert number == fact["id"] or fact["id"] == "any", key
        assert is_renamed == (fact["expressible"] == "renamed"), key
        assert replica.options(machine, request) == fact["options"], key
        token = f"{machine}{f'-{mode}' if mode != 'one' else ''}_{number}"
        assert {token: request} in replica.answers(key[0])["runs"][script], key
        found += 1
    assert found == 18
    plain = {key: by_launcher.pop(key)[:4] for key in PLAIN}
    assert plain == {key: (script, machine, "plain", None) for key, (script, machine) in PLAIN.items()}
    assert by_launcher == {  # they take their configuration as an argument
        ("025-plate-growth", f"{machine}_cgt"): ("cgt", machine, "ddp", None, request, True)
        for machine, request in {
            "delta": {"mem": "243g", "nodes": 1, "ntasks": 4, "cpus-per-task": 8, "time": "48:00:00"},
            "gh": {"mem": "400g", "nodes": 1, "ntasks": 1, "gres": "gpu:4", "time": "300-00:00:00"},
            "igb_mmli": {"mem": "480g", "nodes": 1, "ntasks": 4, "cpus-per-task": 16, "time": "7-00:00:00"},
        }.items()
    }
    others = {(name, text.split(".slurm: ")[0]) for name, kind, text in rows_of(replica.planned) if kind == "no run"}
    named = {key for key in replica.launchers("no") if key[1].endswith("_cgt")}
    assert others | named | PLAIN.keys() == set(replica.launchers("no")) and not others & PLAIN.keys()


@LAB_GROUP
def test_adopt_keeps_every_byte_and_adds_what_it_lists(replica):
    after = contents(replica.lab.path)
    assert replica.before.items() <= after.items()
    listed = {f"experiments/{name}/{text}" for name, kind, text in rows_of(replica.planned) if kind == "add"}
    folded = {path for path in listed if "/scripts/runtime/ (" in path}
    added = {path for path in after.keys() - replica.before.keys() if "/scripts/runtime/" not in path}
    assert added == listed - folded and len(folded) == 11
    assert replica.done.stderr.splitlines() == [
        "experiments: experiments/database has no number, no scripts/ and no conf/, so it is not an experiment. "
        "If it is one, run: mkdir experiments/database/scripts"
    ]
    for name, prefix in {"tcdb-002-build-speed": "tcdb-002-build-speed", "W019-echo": "W019"}.items():
        scripts = f"experiments/{name}/scripts"
        assert f"job_prefix={prefix}\n" in after[f"{scripts}/submit.sh"].decode()
        assert f'PREFIX = "{prefix}"  # ' in after[f"{scripts}/runtime/paths.py"].decode()
    texts = {path.removeprefix("experiments/"): text.decode() for path, text in after.items() if path in added}
    assert not [path for path, text in texts.items() if "capacity" in text], "the starter's parameters"
    assert texts["003-fitness/conf/point_net_mmli_000.yaml"].endswith("\ndefaults: [point_net-igb_3, _self_]\n")
    assert texts["006-growth/scripts/cell_size.py"] == after["experiments/006-growth/scripts/cell-size.py"].decode()
    assert "/merge_shards.py\n  --merge-only\n  all\n)\n" in texts["010-inference/scripts/gh_merge_shards-plain.slurm"]
    sweep = yaml.safe_load(texts["003-fitness/conf/graph_net_delta_wandb.yaml"])
    assert sweep["method"] == "grid" and "graph_net_delta_wandb_run" in sweep["command"]
    answers = {name: replica.answers(name) for name in ("002-dmi-tmi", "005-pairs", "025-plate-growth", "W019-echo")}
    assert [each["queries"] for each in answers.values()] == [True, True, False, False]
    assert {each["package"] for each in answers.values()} == {"cellab"}


@LAB_GROUP
@pytest.mark.parametrize(
    "name", ["006-growth", "025-plate-growth", "W019-echo", "tcdb-002-build-speed", "033-drug-screen"]
)
def test_adopted_readme_suggests_commands_that_work(replica, name):
    readme = (replica.lab.path / f"experiments/{name}/README.md").read_text()
    [add_run] = re.findall("^experiments (add-run .*)$", readme, flags=re.MULTILINE)
    assert "growth " not in add_run.split(name)[1], "the starter's script"
    done = tool(replica.lab, *add_run.split())
    assert done.returncode == 0, done.stderr
    commit(replica.lab.path)
    for config in re.findall("--config-name ([^ ]+)$", readme, flags=re.MULTILINE):
        assert (replica.lab.path / f"experiments/{name}/conf/{config}.yaml").is_file()


@LAB_GROUP
def test_adopted_lab_takes_every_command(replica, slurm, tmp_path):
    lab, growth = replica.lab, "experiments/006-growth"
    before = contents(lab.path)
    done = tool(lab, "add-run", growth, "cell_net", "gh_100", "gres=null", "mem=1g", "cpus-per-task=1")
    assert done.returncode == 0 and "conf/cell_net_gh_100.yaml is a copy of conf/cell_net_" in done.stderr, done.stderr
    done = tool(lab, "set-run", growth, "cell_net", "delta-srun_006", "mem=200g")
    assert done.stdout == f"{growth}/scripts/delta_cell_net-srun_006.slurm\n", done.stderr
    commit(lab.path)
    lab.template.release("v1.1.0", [SUBMIT, ("lab.yml", "partition: gpuA40x4", "partition: gpuA100x4")])
    done = tool(lab, "update", "--commit")
    rows = done.stdout.splitlines()[1:]
    assert done.returncode == 0 and len(rows) == 11 and all(" updated" in row for row in rows), done.stdout
    assert "partition=gpuA100x4" in (lab.path / growth / "scripts/delta_cell_net-srun_006.slurm").read_text()
    assert tool(lab, "list").stdout.count("v1.1.0") == 11
    after = contents(lab.path)
    assert not {path for path in replica.before if after[path] != before[path]}

    write_program(tmp_path / "miniconda3/envs/cellab/bin/python", f'exec {sys.executable} "$@"')
    environment = os.environ | {"HOME": str(tmp_path)}
    submit = lab.path / growth / "scripts/submit.sh"
    done = run("bash", submit, "gh_cell_net_100", cwd=lab.path, env=environment)
    [number] = submitted(done)
    assert slurm.wait(number)["JobState"] == "COMPLETED"
    [log] = (lab.path / growth / "slurm/output").glob(f"*_{number}.out")
    assert "cell_net seed=0 loss=" in log.read_text()
