"""check: one line per problem, also in experiments without the template."""

import json
import re
import shutil
import sys
from pathlib import Path

import yaml
from support.lab import Lab
from support.process import commit, edit, run
from support.template import ROOT, TESTS, render
from support.updating import contents, tool

from experiments.checks import CHECKS


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
    (experiment / "conf/x_mmli_optuna.yaml").rename(experiment / "conf/x_mmli_other.yaml")
    assert tool(lab, "check").stdout.splitlines() == [
        "experiments/011-x: 2 files: is missing, but the answers have its run [missing-file]",
        "  experiments/011-x/conf/x_delta_wandb.yaml",
        "  experiments/011-x/conf/x_mmli_optuna.yaml",
        "experiments/011-x/conf/x_mmli_other.yaml: is a configuration that nothing runs [unused-config]",
        "experiments/011-x/scripts/igb_mmli_x_optuna.slurm: "
        "has no configuration conf/x_mmli_optuna.yaml [missing-config]",
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
    unused = "is a configuration that nothing runs [unused-config]"
    lost = "logs to slurm/output, which is missing: Slurm would lose every log [missing-log-folder]"
    assert done.stdout.splitlines() == [
        "experiments/011-x/.copier-answers.yml: is at v1.0.0, but the newest release is v1.1.0 [version]",
        "experiments/011-x/conf/default.yaml.rej: is a change that an update could not apply [conflict]",
        f"experiments/011-x/conf/x_gh_006.yaml: {unused}",
        "experiments/011-x/scripts/delta_x_001.slurm: is missing, but the answers have its run [missing-file]",
        f"experiments/011-x: 3 files: {lost}",
        *(f"  experiments/011-x/scripts/{name}.slurm" for name in ("gh_x_000", "gh_x_005", "igb_cabbi_x_000")),
        "experiments/011-x/scripts/gh_x_005.slurm: has no configuration conf/x_gh_005.yaml [missing-config]",
        *(
            f"experiments/011-x/scripts/igb_cabbi_x_000.slurm: {what}"
            for what in (
                "requests account oldacct, which no machine of lab.yml has [dead-account]",
                "has a path of one machine: /home/ada/notes/assets/images/a.png [machine-path]",
                "has the number 000, but so does scripts/gh_x_000.slurm [shared-number]",
                "requests partition oldpart, which no machine of lab.yml has [unknown-partition]",
            )
        ),
        "experiments/011-x/scripts/submit.sh: has conflict markers [conflict]",
    ]
    done = tool(old, "check", "--select", "conflict,version", "--ignore", "version")
    assert [line.rpartition("[")[2] for line in done.stdout.splitlines()] == ["conflict]"] * 2
    done = tool(old, "check", "--ignore", "no-such")
    assert done.stderr == f'experiments: unknown check "no-such"; expected one of: {", ".join(CHECKS)}\n'


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
    assert "is not an answers file of this template, or has conflicts" in done.stdout
    assert "experiments/011-x/.copier-answers.yml: has conflict markers [conflict]\n" in done.stdout


OLD_LAUNCHER = """#!/bin/bash
#SBATCH -p gpu
# --config-name not_this_one
source ~/.bashrc
#SBATCH --mem=8g
cp /Users/ada/a /u/ada/b /scratch/lab/images/c.png .
python /home/ada/lab/experiments/005-old/scripts/train.py \\
  --config-name "train_000"
"""


def test_check_works_on_unadopted_experiments(lab):
    old = lab.path / "experiments/005-old"
    (old / "scripts").mkdir(parents=True)
    (old / "conf").mkdir()
    (old / "scripts/train_000.slurm").write_text(OLD_LAUNCHER)
    (old / "scripts/train_001.slurm").write_text(OLD_LAUNCHER.replace("_000", "_001"))
    ddp = OLD_LAUNCHER.replace("-p gpu", "--signal=B:SIGUSR1@120").replace("python /home/ada/lab/", "torchrun ")
    (old / "scripts/train_003.slurm").write_text(re.sub("cp .*|#SBATCH --mem.*", "", ddp))
    (old / "scripts/large.txt").write_text("<<<<<<< \n" * 200_000)
    (old / "scripts/train.py").write_text("import hydra\n")
    (old / "conf/train_000.yaml").write_text("a: 1\n")
    (old / "conf/train_002.yaml").write_text("a: 1\n")
    both = [f"  experiments/005-old/scripts/train_{number}.slurm" for number in ("000", "001")]
    done = tool(lab, "check", "experiments/005-old")
    assert done.stdout.splitlines() == [
        "experiments/005-old/conf/train_002.yaml: is a configuration that nothing runs [unused-config]",
        "experiments/005-old: 2 files: has a line that Slurm ignores: #SBATCH --mem=8g [ignored-directive]",
        *both,
        "experiments/005-old: 2 files: has a path of one machine: /Users/ada/a [machine-path]",
        *both,
        "experiments/005-old/scripts/train_001.slurm: has no configuration conf/train_001.yaml [missing-config]",
        "experiments/005-old/scripts/train_003.slurm: has signal B:SIGUSR1@120, which kills torchrun alone. "
        "Use B:TERM@120 [torchrun-signal]",
    ]


def test_compose_without_hydra_prints_a_hint(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "hydra", None)
    done = tool(lab, "check", "--compose")
    hint = "Install hydra-core next to experiments: `uvx --with hydra-core ...`"
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
    assert lines[1] == "experiments/011-x/conf/x_gh_001.yaml: lacks a value of model.hidden [compose]"
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
        "loop": "for n in 4 5; do python m.py -cn m_gh_00$n; done",
        "array": 'ALL=(m_gh_004 m_gh_005)\npython m.py --config-name "${ALL[$SLURM_ARRAY_TASK_ID]}"',
        "text": "note=$'it\\'s'\nrun=(\n  m.py\n  --config-name m_gh_000 $'it\\'s'\n)",
    }
    for name, body in bodies.items():
        (folder / f"scripts/{name}.slurm").write_text(f"#!/bin/bash\n#SBATCH --job-name=Ada's\n{body}\n")
    done = tool(lab, "check", "experiments/005-old")
    assert done.stdout == ""
    (folder / "scripts/open.slurm").write_text("#!/bin/bash\nrun=(\n  'm.py\n  --config-name m_gh_000\n)\n")
    (folder / "scripts/default.slurm").write_text("#!/bin/bash\npython m.py --config-name m_gh_001\n")
    (folder / "conf/m_gh_016.yaml").write_text("a: 1\n")
    done = tool(lab, "check", "experiments/005-old")
    other, broken = done.stdout.splitlines()
    assert broken.startswith("experiments/005-old/scripts/open.slurm: line 3: unexpected EOF"), done.stdout
    assert other == "experiments/005-old/conf/m_gh_016.yaml: is a configuration that nothing runs [unused-config]"


def test_copied_experiment_is_reported_and_not_changed(old, experiment):
    copied = shutil.copytree(experiment, experiment.with_name("013-copy"))
    (copied / "scripts/x.py").unlink()
    commit(old.path)
    rename = "copier update --defaults -d experiment=013-copy experiments/013-copy"
    said = f".copier-answers.yml: belongs to experiment 011-x. Rename its files: {rename} [renamed-folder]"
    lines = tool(old, "check", "experiments/013-copy").stdout.splitlines()
    assert f"experiments/013-copy/{said}" in lines
    assert "experiments/013-copy/scripts/x.py: is missing, but the answers have its run [missing-file]" in lines
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
    problem = f"{broken}: cannot be compared with the template: {broken} is not an answers file of this template"
    assert problem in tool(old, "check").stdout
    done = tool(old, "update", "experiments/README.md", "experiments/011-x")
    assert done.returncode == 3 and "v1.1.0  updated" in done.stdout
    assert "skipped: experiments/README.md has no .copier-answers.yml, so it is not an experiment" in done.stdout
    assert (
        f"skipped: {broken} of the last commit is not an answers file of this template, or has conflicts"
        in tool(old, "update").stdout
    )


def test_wandb_sweep_with_missing_program_is_reported(lab):
    experiment = lab.render(runs={"x": ["delta_wandb"]})
    conf = experiment / "conf/x_delta_wandb.yaml"
    edit(conf, "experiments/011-x/scripts/x.py", "experiments/009-old/scripts/x.py")
    said = "names the program experiments/009-old/scripts/x.py, which does not exist [sweep-program]"
    assert tool(lab, "check").stdout == f"experiments/011-x/conf/x_delta_wandb.yaml: {said}\n"


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
    missing = "is missing, but the template has it [missing-file]"
    edited = "was edited. Undo that, or change the template: later updates may conflict. [edited-library]"
    assert tool(lab, "check").stdout.splitlines() == [
        f"experiments/011-x: 2 files: {missing}",
        "  experiments/011-x/scripts/runtime/__init__.py",
        "  experiments/011-x/scripts/runtime/locks.py",
        f"experiments/011-x: 2 files: {edited}",
        "  experiments/011-x/scripts/runtime/pin.sh",
        "  experiments/011-x/scripts/runtime/run.py",
    ]


FACTS = {  # the kinds of findings in the facts of the replica, and their checks
    "DOS line breaks": "dos-line-breaks",
    "base of a configuration missing": "missing-base",
    "bash syntax error": "bash-syntax",
    "configuration missing": "missing-config",
    "configuration that nothing runs": "unused-config",
    "dead account": "dead-account",
    "log folder missing": "missing-log-folder",
    "logs into another experiment": "foreign-log-folder",
    "password": "password",
    "path of one machine": "machine-path",
    "script missing": "missing-script",
    "unknown sbatch option": "sbatch-option",
}


def reported(lab, *words):
    """Return the findings of check by file and name."""
    found, name, what = {}, "", ""
    done = tool(lab, "check", *words)
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        if line.startswith("  "):
            found[line.strip(), name] = what
            continue
        file, _, what = line.partition(": ")
        name = line.rpartition("[")[2].removesuffix("]")
        if not what.partition(" ")[2].startswith("files: "):
            found[file, name] = what
    return found


def test_replica_has_all_findings_and_no_other(own_template, tmp_path):
    """Before and after adoption, check finds each of the 33 faults of a real lab, and nothing else."""
    builder = [sys.executable, TESTS / "support/replica.py"]
    facts = json.loads(run(*builder, "--facts", check=True).stdout)
    lab = Lab(tmp_path / "lab", own_template)
    run(*builder, lab.path, check=True)
    (own_template.path / "lab.yml").write_text(yaml.safe_dump(facts["lab"], sort_keys=False))
    own_template.release("v1.1.0")
    wrong = {
        (f"experiments/{x}/{file}", FACTS[kind]): what
        for x, fact in facts["experiments"].items()
        for file, kinds in fact["findings"].items()
        for kind, what in kinds.items()
    }
    assert len(wrong) == 33
    paths = [f"experiments/{x}" for x in facts["experiments"]]
    before = reported(lab, *paths, "--source", own_template.path)
    assert before.keys() == wrong.keys()
    unquoted = ("a quote is open", "every line ends in one", "only a comment has its name", "no file has its name")
    assert [key for key, what in wrong.items() if what not in before[key] and what not in unquoted] == []
    assert not [what for what in before.values() if "not-a-secret-9" in what]
    adopted = [path for path in paths if not tool(lab, "adopt", path, "--source", own_template.path).returncode]
    assert len(adopted) >= 9
    assert reported(lab, *paths) == before


FINE = {  # launchers with nothing wrong
    "message": 'cat << END\npython gone.py --config-name gone > /home/ada/x\nEND\nprintf "%s" /scratch/x',
    "mount": 'apptainer exec --bind "$PWD:/mnt,$HOME/db:/db" x.sif python /mnt/a.py --data=/db/x',
    "pattern": "sed -i '/home/d' x.txt; awk '/scratch/ {print}' x.txt; curl -s host/home x:8080/scratch neo4j://host/db",
    "made": "cat > experiments/005-old/scripts/new.py << 'E'\n1\nE\npython experiments/005-old/scripts/new.py",
    "secret": 'export A_PASSWORD=$B MAX_TOKENS=512 HF_TOKEN=short TOKEN_FILE=x\nx --password "$A_PASSWORD" --token=$B',
    "folder": 'python experiments/005-old/scripts/m.py --config-dir="$1" --config-name gone',
    "argument": "cp experiments/005-old/scripts/lost.py . ; python experiments/$1/scripts/lost.py",
    "argparse": "python experiments/005-old/scripts/plain.py --config-name gone",
    "pyxis": "true",
}
WRONG = {  # launchers, and what is found in each
    "m_password": ("x --db-password hunter22", ["password: has a password: db-password"]),
    "m_address": ("x bolt://ada:hunter22@host", ["password: has a password: in an address"]),
    "m_key": ("export WANDB_API_KEY=0123456789abcdef0123", ["password: has a password: WANDB_API_KEY"]),
    "m_heredoc": ("srun bash << E\ncat /lustre/x\nE", ["machine-path: has a path of one machine: /lustre/x"]),
    "m_default": ('cd "${ROOT:-/gpfs/x}"', ["machine-path: has a path of one machine: /gpfs/x"]),
    "m_script": (
        "S=experiments/005-old/scripts\nbash $S/lost.sh && python $S/m.py --config-name m",
        ["missing-script: runs scripts/lost.sh, which does not exist"],
    ),
    "m_two": (
        "python scripts/m.py --config-name m_1 & python scripts/m.py --config-name=m_2 & wait",
        ["missing-config: has no configuration conf/m_1.yaml", "missing-config: has no configuration conf/m_2.yaml"],
    ),
    "m_other": (
        "python experiments/005-old/scripts/m.py --config-path ../conf/sub --config-name m",
        ["missing-config: has no configuration conf/sub/m.yaml"],
    ),
    "m_none": ("python experiments/005-old/scripts/m.py", ["missing-config: names no configuration for m.py"]),
}


def test_launchers_are_read_and_not_guessed(lab):
    folder = lab.path / "experiments/005-old"
    for name in ("conf", "scripts"):
        (folder / name).mkdir(parents=True)
    (folder / "scripts/m.py").write_text('@hydra.main(config_path="../conf")\ndef main(cfg): ...\n')
    (folder / "scripts/plain.py").write_text("import argparse\n")
    (folder / "conf/m.yaml").write_text("defaults:\n- db@data: x\n- /other/y@_here_\n- override hydra/z: z\n- _self_\n")
    for name in ("db/x", "other/y"):
        (folder / f"conf/{name}.yaml").parent.mkdir()
        (folder / f"conf/{name}.yaml").write_text("a: 1\n")
    bodies = FINE | {name: body for name, (body, _) in WRONG.items()}
    for name, body in bodies.items():
        option = "--container-image=x" if name == "pyxis" else "--mem=1g"
        (folder / f"scripts/{name}.slurm").write_text(f"#!/bin/bash\n#SBATCH {option}\n{body}\n")
    (folder / "scripts/m_broken.slurm").write_text("#!/bin/bash\nif true; then\n  echo 'it's'\n")
    (folder / "scripts/m_broken2.slurm").write_text("#!/bin/bash\necho `date\n")
    (folder / "scripts/m_broken3.slurm").write_text("#!/bin/bash\necho `date\n")
    found = {}
    for (file, name), what in reported(lab, "experiments/005-old").items():
        found.setdefault(Path(file).stem, []).append(f"{name}: {what}")
    for name in ("m_broken", "m_broken2", "m_broken3"):
        assert "bash-syntax" in found.pop(name)[0]
    assert found.keys() == WRONG.keys()
    for name, (_, wanted) in WRONG.items():
        assert len(found[name]) == len({line.partition(":")[0] for line in wanted})
        assert all(line.startswith(tuple(wanted)) for line in found[name]), found[name]


def test_every_check_is_documented_and_listed(lab):
    page = (ROOT / "docs/updating.md").read_text()
    listed = tool(lab, "check", "--list").stdout
    for name, each in CHECKS.items():
        assert f"| `{name}` |" in page
        assert re.search(rf"^{name} +{re.escape(each.summary)}$", listed, re.MULTILINE)
