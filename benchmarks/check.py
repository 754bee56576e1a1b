"""Measure `experiments check` with forty experiments and 600 launchers of a lab's own."""

import os
import statistics
import tempfile
from pathlib import Path

from list import measure
from render import ROOT, quiet_git, template
from update import git, monorepo

EXPERIMENTS = 40
LAUNCHERS = 15  # of each experiment
ROUNDS = 5

LAUNCHER = """#!/bin/bash
#SBATCH --job-name={name}_{number}
#SBATCH --partition=main
#SBATCH --mem=64g  # 32g does not start
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --time=1-00:00:00
#SBATCH --output=experiments/{name}/slurm/output/%x_%j.out

module load singularity
cd "$SLURM_SUBMIT_DIR" || exit 1
export PYTHONPATH="$SLURM_SUBMIT_DIR${{PYTHONPATH:+:$PYTHONPATH}}"
export NUM_WORKERS=$((SLURM_CPUS_PER_TASK - 2)) # two for all else
if [[ ! -d results ]]; then echo "no results, as of an old run" >&2; fi
singularity exec --nv rocky.sif bash -c "
source \\$HOME/miniconda3/bin/activate cellab
torchrun --standalone --nnodes=1 --nproc_per_node=4 \\
  experiments/{name}/scripts/train.py --config-name train_gh_{number} data.num_workers=\\$NUM_WORKERS
"
"""
SCRIPT = "import hydra\n\n\n@hydra.main(config_path='../conf', config_name='default')\ndef main(cfg): ...\n"


def write_experiments(lab):
    """Write experiments that the template did not make, with nothing wrong in them."""
    names = [f"{100 + number}-own" for number in range(EXPERIMENTS)]
    for name in names:
        folder = lab / "experiments" / name
        for part in ("conf", "scripts", "slurm/output"):
            (folder / part).mkdir(parents=True)
        (folder / "scripts/train.py").write_text(SCRIPT)
        (folder / "conf/default.yaml").write_text("seed: 0\n")
        for number in range(LAUNCHERS):
            launcher = LAUNCHER.format(name=name, number=f"{number:03}")
            (folder / f"scripts/gh_train_{number:03}.slurm").write_text(launcher)
            (folder / f"conf/train_gh_{number:03}.yaml").write_text("defaults: [default, _self_]\nseed: 1\n")
    return [f"experiments/{name}" for name in names]


def main():
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    with tempfile.TemporaryDirectory() as folder:
        quiet_git(folder)
        source = template(Path(folder, "template"))
        git(source, "tag", "v1.0.0")
        lab = Path(folder, "lab")
        monorepo(lab, source, ["011-x"], 0)  # the others are compared with its template
        paths = write_experiments(lab)
        times = [measure(lab, "check", *paths)[0] for _ in range(ROUNDS)]
        print(f"\ncheck of {EXPERIMENTS} experiments with {EXPERIMENTS * LAUNCHERS} launchers (median of {ROUNDS})\n")
        print(f"  {statistics.median(times):5.2f} s\n")


if __name__ == "__main__":
    main()
