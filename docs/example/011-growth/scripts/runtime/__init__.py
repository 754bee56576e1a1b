"""The library of a run. The template owns this folder, and updates improve it.

paths         locate this code and its experiment
environment   find .env, and require variables and folders
process       identify this process and its run
requirements  check what a configuration needs: values, inputs, W&B settings
inputs        check the declared input files, and detect changes after submission
claim         check a run and claim its folder before Hydra makes it
grid          expand the `grid:` of a configuration into points
hydra_yaml    load YAML as Hydra does
campaign      give a script the overrides of its point
point         choose and claim the point of a job, and run scripts that do not record themselves
parent        record the run of such a script, and forward signals to it
point_claims  claim a point, so that one process computes it
run           Run: the names, figures, tables, metrics and status of a run
record        write provenance.json, the record of a run
metrics       write metrics.jsonl, the history of its numbers
usage         measure wall time and peak memory
figures       save figures that record how they were made
savefig       notice the figures that matplotlib's savefig writes
tables        write tables as CSV
tracking      log to Weights & Biases without the environment's secrets
signals       end a run cleanly when a signal arrives
files         write files completely or not at all, also checkpoints
sharing       share files and folders with a group
locks         lock files that the members of a group share
check         the program that submit.sh starts to check launchers
preflight     check scripts, imports and configurations
hydra_help    support Hydra 1.3 and 1.4, and Python 3.14
optuna_*      the journal and the study of an Optuna sweep
sweep_figures draw the figures of its report
point.sh      the part of a launcher that chooses a job's point
legs.sh       the part of a launcher that decides whether a leg continues its run
*.sh          the parts of submit.sh
"""

import os
import sys

from runtime import hydra_help
from runtime.campaign import expand_arguments
from runtime.environment import find_env, interpreter_error, require, require_folders
from runtime.figures import save_figure, timestamp
from runtime.files import atomic_write, end_at_signals, write_json
from runtime.paths import CONF, EXPERIMENT, FOLDER, ROOT, SCRIPTS
from runtime.process import export_run_variables
from runtime.record import provenance
from runtime.run import Run

__all__ = [
    "CONF",
    "EXPERIMENT",
    "FOLDER",
    "ROOT",
    "SCRIPTS",
    "Run",
    "atomic_write",
    "end_at_signals",
    "find_env",
    "provenance",
    "require",
    "require_folders",
    "save_figure",
    "timestamp",
    "write_json",
]

if problem := interpreter_error():
    sys.exit(problem)

# Import the lab's package from this tree, whatever PYTHONPATH holds. Only the script's own folder comes first.
for source in (os.path.join(ROOT, "src"), ROOT):
    if source in sys.path[1:]:
        sys.path.remove(source)
    if os.path.isdir(source):
        sys.path.insert(1, source)

expand_arguments()
export_run_variables()
hydra_help.patch_argparse()
hydra_help.ignore_warnings_of_1_4()
