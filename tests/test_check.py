"""check: one line per problem, also in experiments without the template."""

import shutil
import sys

from support.process import commit, edit, run
from support.template import render
from support.updating import contents, tool


def test_sweep_pairs_are_added_and_checked(lab):
    experiment = lab.render()
    done = tool(lab, "add-run", "experiments/011-x", "x", "igb_mmli_optuna", "delta_wandb")
    assert [name.removeprefix("experiments/011-x/") for name in done.stdout.split()] == [
        "conf/x_delta_wandb.yaml",
        "conf/x_delta_wandb_run.yaml",
        "conf/x_mmli_optuna.yaml",
        "scripts/delta_x_wandb.slurm",
        "scripts/igb_mmli_x_optuna.slurm",
        "scripts/optuna_worker.py",
    ]
    assert tool(lab, "check").stdout == ""
    again = tool(lab, "add-run", "experiments/011-x", "x", "delta_wandb")
    assert again.stderr == (
        "experiments: the ID wandb of x is already used by delta_wandb; nothing was added. "
        "Use another ID, or change that run: `experiments set-run experiments/011-x x delta_wandb mem=100g`\n"
    )
    (experiment / "conf/x_delta_wandb.yaml").rename(experiment / "conf/x_delta_other.yaml")
    assert tool(lab, "check").stdout.splitlines() == [
        "experiments/011-x/conf/x_delta_wandb.yaml: is missing, but the answers have its run",
        "experiments/011-x/conf/x_delta_other.yaml: has no launcher",
    ]


def test_check_reports_every_problem(old, experiment):
    scripts = experiment / "scripts"
    launcher = (scripts / "gh_x_000.slurm").read_text()
    (scripts / "gh_x_005.slurm").write_text(launcher.replace("x_gh_000", "x_gh_005"))
    (experiment / "conf/x_gh_006.yaml").write_text("defaults: [default, _self_]\n")
    copied = launcher.replace("--partition=main", "-p oldpart").replace(
        "#SBATCH --mem", "#SBATCH -A oldacct\n#SBATCH --mem"
    )
    copied = copied.replace("set -euo pipefail\n", "set -euo pipefail\ncp /home/ada/notes/assets/images/a.png .\n")
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
            ".copier-answers.yml: is at v1.0.0, but the newest release is v1.1.0",
            "scripts/delta_x_001.slurm: is missing, but the answers have its run",
            "scripts/gh_x_005.slurm: has no configuration conf/x_gh_005.yaml",
            "scripts/igb_cabbi_x_000.slurm: requests partition oldpart, which no machine of lab.yml has",
            "scripts/igb_cabbi_x_000.slurm: requests account oldacct, which no machine of lab.yml has",
            "scripts/igb_cabbi_x_000.slurm: has a path of one machine: /home/ada/notes/assets/images/a.png",
            "scripts/igb_cabbi_x_000.slurm: has the number 000, but so does scripts/gh_x_000.slurm",
            "conf/x_delta_001.yaml: has no launcher",
            "conf/x_gh_006.yaml: has no launcher",
            "slurm/output: is missing, so Slurm would lose every log",
            "conf/default.yaml.rej: is a change that an update could not apply",
            "scripts/submit.sh: has conflict markers",
        ]
    ]


def test_check_accepts_a_new_experiment(lab):
    render(
        lab.template,
        lab.path / "experiments/011-x",
        runs={"x": ["gh_000", "igb_cabbi_001", "delta_002", "igb_mmli_optuna"], "y": ["slurm_000", "delta_wandb"]},
    )
    done = tool(lab, "check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_check_reports_conflicting_answers(old, experiment):
    (experiment / ".copier-answers.yml").write_text("<<<<<<< before updating\n_commit: v1\n=======\n>>>>>>> after\n")
    done = tool(old, "check", "experiments/011-x")
    assert done.returncode == 1 and done.stderr == ""
    assert "is not of this template, or has conflicts" in done.stdout
    assert "experiments/011-x/.copier-answers.yml: has conflict markers\n" in done.stdout


OLD_LAUNCHER = """#!/bin/bash
#SBATCH -p gpu
# --config-name not_this_one
source ~/.bashrc
#SBATCH --mem=8g
cp /Users/ada/a /u/ada/b /scratch/lab/images/c.png .
python /home/ada/lab/experiments/005-old/scripts/train.py \\
  --config-name "train_000"
"""
PATHS = (
    "/Users/ada/a",
    "/u/ada/b",
    "/home/ada/lab/experiments/005-old/scripts/train.py",
    "/scratch/lab/images/c.png",
)


def test_check_works_on_unadopted_experiments(lab):
    old = lab.path / "experiments/005-old"
    (old / "scripts").mkdir(parents=True)
    (old / "conf").mkdir()
    (old / "scripts/train_000.slurm").write_text(OLD_LAUNCHER)
    (old / "scripts/train_001.slurm").write_text(OLD_LAUNCHER.replace("_000", "_001"))
    (old / "scripts/train_any.slurm").write_text('python train.py --config-name "train_$1"\n')
    (old / "scripts/large.txt").write_text("<<<<<<< \n" * 200_000)
    (old / "conf/train_000.yaml").write_text("a: 1\n")
    (old / "conf/train_002.yaml").write_text("a: 1\n")
    done = tool(lab, "check", "experiments/005-old")
    assert done.stdout.splitlines() == [
        f"experiments/005-old/{line}"
        for line in [
            "scripts/train_001.slurm: has no configuration conf/train_001.yaml",
            "scripts/train_000.slurm: has a line that Slurm ignores: #SBATCH --mem=8g",
            "scripts/train_001.slurm: has a line that Slurm ignores: #SBATCH --mem=8g",
            *(f"scripts/train_000.slurm: has a path of one machine: {path}" for path in PATHS),
            *(f"scripts/train_001.slurm: has a path of one machine: {path}" for path in PATHS),
            "conf/train_002.yaml: has no launcher",
            "slurm/output: is missing, so Slurm would lose every log",
        ]
    ]


def test_compose_without_hydra_prints_a_hint(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra", None)
    done = tool(lab, "check", "--compose")
    hint = "Install hydra-core beside experiments: `uvx --with hydra-core ...`"
    assert (done.returncode, done.stderr) == (1, f"experiments: --compose needs Hydra. {hint}\n")


def test_compose_reports_each_broken_configuration(lab):
    experiment = render(
        lab.template, lab.path / "experiments/011-x", runs={"x": ["gh_000", "gh_001", "gh_002", "delta_wandb"]}
    )
    assert tool(lab, "check", "--compose").stdout == ""
    (experiment / "conf/x_gh_000.yaml").write_text("defaults: [runtime, default, nowhere, _self_]\n")
    (experiment / "conf/x_gh_001.yaml").write_text("defaults: [runtime, default, _self_]\nmodel: {hidden: '???'}\n")
    (experiment / "conf/x_gh_002.yaml").write_text("defaults: [runtime\n")
    lines = tool(lab, "check", "--compose").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("experiments/011-x/conf/x_gh_000.yaml: does not compose: ") and "nowhere" in lines[0]
    assert lines[1] == "experiments/011-x/conf/x_gh_001.yaml: lacks a value of model.hidden"
    assert lines[2].startswith("experiments/011-x/conf/x_gh_002.yaml: does not compose: ")


def test_check_reads_configurations_of_old_launchers(lab):
    folder = lab.path / "experiments/005-old"
    for name in ("conf", "scripts", "slurm/output"):
        (folder / name).mkdir(parents=True)
    for number in range(6):
        (folder / f"conf/m_gh_00{number}.yaml").write_text("a: 1\n")
    bodies = {
        "quoted": 'python m.py --config-name="m_gh_000"',
        "default": 'CONFIG=${1:-m_gh_001}\npython m.py --config-name="$CONFIG"',
        "two": "python m.py --config-name m_gh_002 & python m.py --config-name m_gh_003 & wait",
        "array": 'ALL=(m_gh_004 m_gh_005)\npython m.py --config-name "${ALL[$SLURM_ARRAY_TASK_ID]}"',
        "text": "note=$'it\\'s'\nrun=(\n  m.py\n  --config-name m_gh_000 $'it\\'s'\n)",
    }
    for name, body in bodies.items():
        (folder / f"scripts/{name}.slurm").write_text(f"#!/bin/bash\n#SBATCH --job-name=Ada's\n{body}\n")
    done = tool(lab, "check", "experiments/005-old")
    assert done.stdout == ""
    (folder / "scripts/open.slurm").write_text("#!/bin/bash\nrun=(\n  'm.py\n  --config-name m_gh_000\n)\n")
    (folder / "conf/m_gh_006.yaml").write_text("a: 1\n")
    done = tool(lab, "check", "experiments/005-old")
    broken, other = done.stdout.splitlines()
    assert broken.startswith("experiments/005-old/scripts/open.slurm: line 3: unexpected EOF"), done.stdout
    assert other == "experiments/005-old/conf/m_gh_006.yaml: has no launcher"


def test_copied_experiment_is_reported_and_not_changed(old, experiment):
    copied = shutil.copytree(experiment, experiment.with_name("013-copy"))
    (copied / "scripts/x.py").unlink()
    commit(old.path)
    rename = "copier update --defaults -d experiment=013-copy experiments/013-copy"
    said = f".copier-answers.yml: belongs to experiment 011-x. Rename its files: {rename}"
    lines = tool(old, "check", "experiments/013-copy").stdout.splitlines()
    assert f"experiments/013-copy/{said}" in lines
    assert "experiments/013-copy/scripts/x.py: is missing, but the answers have its run" in lines
    for command in (["add-run", "gh_005"], ["set-run", "gh_000", "mem=1g"]):
        before = contents(copied)
        done = tool(old, command[0], "experiments/013-copy", "x", *command[1:])
        assert done.returncode == 1 and done.stderr.endswith(f"Rename its files: {rename}\n")
        assert contents(copied) == before
    assert run(*rename.split(), cwd=old.path).returncode == 0
    assert "--job-name=013-x_gh_000" in (copied / "scripts/gh_x_000.slurm").read_text()


def test_check_continues_after_an_invalid_path(old, experiment):
    (old.path / "experiments/README.md").write_text("mine\n")
    empty = experiment.with_name("013-z")
    empty.mkdir()
    (empty / ".copier-answers.yml").touch()
    commit(old.path)
    said = "experiments/README.md has neither .copier-answers.yml nor scripts/, so it is not an experiment\n"
    done = tool(old, "check", "experiments/README.md", "experiments/011-x")
    assert done.returncode == 1 and done.stdout.startswith(said) and "is at v1.0.0" in done.stdout
    broken = "experiments/013-z/.copier-answers.yml"
    assert (
        f"{broken}: cannot be compared with the template: {broken} is not of this template" in tool(old, "check").stdout
    )
    done = tool(old, "update", "experiments/README.md", "experiments/011-x")
    assert done.returncode == 3 and "v1.1.0  updated" in done.stdout
    assert "skipped: experiments/README.md has no .copier-answers.yml, so it is not an experiment" in done.stdout
    assert (
        f"skipped: {broken} of the last commit is not of this template, or has conflicts" in tool(old, "update").stdout
    )


def test_wandb_sweep_with_missing_program_is_reported(lab):
    experiment = lab.render(runs={"x": ["delta_wandb"]})
    conf = experiment / "conf/x_delta_wandb.yaml"
    edit(conf, "experiments/011-x/scripts/x.py", "experiments/009-old/scripts/x.py")
    said = "conf/x_delta_wandb.yaml: names the program experiments/009-old/scripts/x.py, which does not exist\n"
    assert tool(lab, "check").stdout == f"experiments/011-x/{said}"


def test_edited_library_files_are_reported(lab):
    experiment = lab.render()
    runtime = experiment / "scripts/runtime"
    edit(runtime / "run.py", '"""', '"""Mine: ')
    (runtime / "pin.sh").write_text("# mine\n" + (runtime / "pin.sh").read_text())
    edit(runtime / "paths.py", '"""', '"""Mine: ')  # not reported: it is rendered, so it differs between experiments
    (runtime / "files.py").write_bytes((runtime / "files.py").read_bytes().replace(b"\n", b"\r\n"))
    (runtime / "locks.py").unlink()
    (runtime / "__init__.py").unlink()
    (runtime / "own.py").write_text("mine\n")
    said = "was edited. Undo that, or change the template: later updates may conflict."
    assert tool(lab, "check").stdout.splitlines() == [
        "experiments/011-x/scripts/runtime/__init__.py: is missing, but the template has it",
        "experiments/011-x/scripts/runtime/locks.py: is missing, but the template has it",
        f"experiments/011-x/scripts/runtime/pin.sh: {said}",
        f"experiments/011-x/scripts/runtime/run.py: {said}",
    ]
