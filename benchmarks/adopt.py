"""Measure `experiments adopt --dry-run` of forty experiments with 600 launchers that the template did not make."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from render import ROOT, quiet_git, repository, template
from update import git

EXPERIMENTS = 40
LAUNCHERS = 15  # of each
ROUNDS = 5

SCRIPT = '@hydra.main(version_base=None, config_path="../conf", config_name="default")\ndef main(cfg):\n    pass\n'

# A third has the names of the template's runs, a third starts Python by srun, and a third takes its configuration.
HEAD = """\
#!/bin/bash
#SBATCH -p {partition}
#SBATCH --mem=400g  # half of the node
#SBATCH -N 1
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=14
#SBATCH --gres=gpu:4
#SBATCH --time=300-00:00:00
#SBATCH --job-name={experiment}-{script}
#SBATCH --output=/home/ada/projects/lab/experiments/{experiment}/slurm/output/%x_%j.out
"""
BODIES = (
    """\
cd /home/ada/projects/lab || exit 1
export NUM_WORKERS=$((SLURM_CPUS_PER_TASK - 2))
singularity exec --nv /home/ada/lab.sif bash -c "
source \\$HOME/miniconda3/bin/activate lab
torchrun --standalone --nproc_per_node=4 experiments/{experiment}/scripts/{script}.py \\
  --config-name {config} data.num_workers=\\$NUM_WORKERS
"
""",
    """\
export MASTER_ADDR=$(hostname) MASTER_PORT=$(shuf -i 10000-65500 -n 1)
srun --kill-on-bad-exit=1 apptainer exec --nv lab.sif bash -c "
PYTHONPATH=/home/ada/projects/lab python experiments/{experiment}/scripts/{script}.py --config-name {config}
"
""",
    """\
CONFIG_NAME="${{1:?usage: sbatch LAUNCHER CONFIG}}"
[[ -f experiments/{experiment}/conf/$CONFIG_NAME.yaml ]] || {{ echo "no configuration" >&2; exit 1; }}
python experiments/{experiment}/scripts/{script}.py --config-name "$CONFIG_NAME" "${{@:2}}"
""",
)


def experiment_files(experiment):
    """Return the files of an experiment, by path."""
    folder = f"experiments/{experiment}"
    files = {f"{folder}/conf/default.yaml": "seed: 0\n"}
    for number in range(LAUNCHERS):
        script, config = f"train_{number // 3}", f"train_{number // 3}_gh_{number:03}"
        words = {"experiment": experiment, "script": script, "config": config, "partition": "main"}
        names = (f"gh_{script}-ddp_{number:03}", f"gh_{script}_long", f"gh_{script}")
        files[f"{folder}/scripts/{names[number % 3]}.slurm"] = (HEAD + BODIES[number % 3]).format(**words)
        files[f"{folder}/scripts/{script}.py"] = SCRIPT
        files[f"{folder}/conf/{config}.yaml"] = "defaults: [default, _self_]\nlr: 0.1\n"
    return files


def old_lab(path):
    """Make a lab's repository with forty experiments and 600 launchers."""
    names = [f"{number:03}-old" for number in range(EXPERIMENTS)]
    files = {name: text for experiment in names for name, text in experiment_files(experiment).items()}
    return repository(path, files | {"torchcell/timestamp.py": ""})


def main():
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    with tempfile.TemporaryDirectory() as folder:
        quiet_git(folder)
        source = template(Path(folder, "template"))
        git(source, "tag", "v1.0.0")
        lab = old_lab(Path(folder, "lab"))
        paths = sorted(str(path.relative_to(lab)) for path in lab.glob("experiments/*"))
        command = [sys.executable, "-m", "experiments", "adopt", "--dry-run", "--source", str(source), *paths]
        times = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            done = subprocess.run(command, cwd=lab, capture_output=True, text=True, check=True)
            times.append(time.perf_counter() - start)
        runs = sum(line.startswith("run ") for line in done.stdout.splitlines())
        print(f"\nForty experiments with {EXPERIMENTS * LAUNCHERS} launchers (median of {ROUNDS})\n")
        print(f"  adopt --dry-run   {statistics.median(times):5.2f} s, {runs} runs\n")


if __name__ == "__main__":
    main()
