"""Measure what a run costs: the start of a script, a refusal, and what Run and a point add to a bare Hydra script.

Medians of ten interleaved rounds, with live and pinned code. The bare script only makes the same figure.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from render import BIN, medians, quiet_git, repository, table, template

BARE = """\
import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    figure.subplots().plot([1, 2])
    figure.savefig("{images}/bare.png", dpi=150)


main()
"""
RUN = """\
import os.path as osp

from dotenv import load_dotenv
from runtime import CONF, Run, find_env, require_folders

load_dotenv(find_env())
_, IMAGES, _ = require_folders("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")

import hydra
from timestamp import timestamp


@hydra.main(version_base="1.3", config_path=CONF, config_name="x_slurm_000")
def main(cfg):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    figure.subplots().plot([1, 2])
    with Run(cfg) as run:
        run.save(figure, osp.join(IMAGES, f"{run.stem}_{timestamp()}.png"))


main()
"""


# The last part of a launcher, in a job that computes its point again.
JOB = """\
rm -rf {lab}/data/experiments/011-x/runs/round
export EXPERIMENT_MODE=one EXPERIMENT_SUBMISSION={lab}/receipt EXPERIMENT_JOB=9 SLURM_JOB_ID=9 SLURM_CLUSTER_NAME=lab
export SLURM_ARRAY_JOB_ID=9 SLURM_ARRAY_TASK_ID=1
run=({pinned}/scripts/own.py --config-name round)
python=({python})
source {pinned}/scripts/runtime/point.sh
exec "${{python[@]}}" "${{run[@]}}" "$@"
"""
GRID = "defaults: [runtime, default, _self_]\ngrid: {arms: {a: [], b: [lr=2]}, axes: {seed: [0, 1]}}\nlr: 1\nseed: 0\n"


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder).resolve()
        quiet_git(folder)
        lab = repository(folder / "lab", {".gitignore": "/data\n/images\n/.env\n/pinned\n"})
        for name in ("data", "images", "experiments"):
            (lab / name).mkdir()
        variables = {"DATA_ROOT": "data", "ASSET_IMAGES_DIR": "images", "EXPERIMENT_ROOT": "experiments"}
        (lab / ".env").write_text("".join(f"{name}={lab / value}\n" for name, value in variables.items()))
        source, experiment = template(folder / "template"), lab / "experiments/011-x"
        runs = "runs={x: [slurm_000]}"
        copy = [BIN / "copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", "-d", "package=", "-d", runs]
        subprocess.run([*copy, source, experiment], check=True, cwd=lab)
        (experiment / "scripts/own.py").write_text(RUN)
        (experiment / "conf/round.yaml").write_text(GRID)
        (lab / "receipt").mkdir()
        (lab / "receipt/points").write_text("".join(f"{name}\0{'0' * 16}\0" for name in ("a_0", "a_1", "b_0", "b_1")))
        (lab / "bare.py").write_text(BARE.format(images=lab / "images"))
        pinned = lab / "pinned/experiments/011-x"
        pinned.parent.mkdir(parents=True)
        subprocess.run(["cp", "-r", experiment, pinned], check=True)
        submitted = {"commit": "0" * 40, "dirty": False, "experiment": str(experiment)}
        (lab / "pinned/submitted.json").write_text(json.dumps(submitted))
        (lab / "job.sh").write_text(JOB.format(lab=lab, pinned=pinned, python=sys.executable))
        bad = ["env", "DATA_ROOT=/nonexistent", "sh", "-c", '! "$@"', "sh"]
        python = sys.executable
        seconds = medians(
            {
                "a bare Hydra script with a figure": [python, lab / "bare.py"],
                "the same with Run, live": [python, experiment / "scripts/own.py"],
                "the same with Run, pinned": [python, pinned / "scripts/own.py"],
                "a point in a job, pinned": ["bash", lab / "job.sh"],
                "the starter's --help": [python, experiment / "scripts/x.py", "--help"],
                "its refusal of a bad environment": [*bad, python, experiment / "scripts/x.py"],
            },
            folder,
            os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
        table("What a run costs", seconds, "a bare Hydra script with a figure")


if __name__ == "__main__":
    main()
