"""The small library of a run. The template owns this folder and improves it in updates.

paths        where this code is, and where its experiment is
environment  .env, and the variables and folders that a script requires
process      which process of which run this one is
requirements what a run needs by its configuration: values, settings of W&B
inputs       the files that a run declares, and whether they changed since it was submitted
hydra_help   a remedy for Hydra 1.3 on Python 3.14
claim        what happens before Hydra makes a run's folder
run          Run: its names, figures, tables, numbers and state
record       provenance.json: what made a result
figures      figures that record how they were made, and never overwrite those of others
tables       tables as CSV: whole, and with plain numbers
tracking     Weights & Biases, without the secrets of the environment
signals      how a run ends at a signal
files        files that are whole or not there
locks        locks on files that several people of a group share
check        the preflight of launchers, which submit.sh starts
preflight    the check of one script and its configurations
source       what a script's text shows without running it
optuna_*     the journal and the study of a sweep by Optuna
"""

import os
import sys

from runtime import hydra_help
from runtime.environment import find_env, interpreter_error, require, require_folders
from runtime.figures import save_figure
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
    "write_json",
]

if problem := interpreter_error():
    sys.exit(problem)

# The package of this very tree is imported, right after what is beside the script, and whatever PYTHONPATH has.
for source in (os.path.join(ROOT, "src"), ROOT):
    if source in sys.path[1:]:
        sys.path.remove(source)
    if os.path.isdir(source):
        sys.path.insert(1, source)

export_run_variables()
hydra_help.mend()
