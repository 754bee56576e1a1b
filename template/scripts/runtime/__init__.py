"""The library of a run. The template owns this folder, and updates improve it.

paths         where this code and its experiment are
environment   .env, and the variables and folders that a script requires
process       which process of which run this one is
requirements  what a run needs by its configuration: values, inputs, settings of W&B
inputs        the files that a run declares, and whether they changed since it was submitted
claim         what happens before Hydra makes a run's folder
run           Run: its names, figures, tables, numbers and state
record        provenance.json: how a result was made
figures       figures that record how they were made, and never overwrite those of others
tables        tables as CSV: whole, and with plain numbers
tracking      Weights & Biases, without the secrets of the environment
signals       how a run ends at a signal
files         files that are written whole or not at all
locks         locks that several people of a group share
check         the program that submit.sh starts before the queue
preflight     what it checks: scripts, imports, configurations
hydra_help    a remedy for Hydra 1.3 on Python 3.14
optuna_*      the journal and the study of a sweep by Optuna
*.sh          the parts of submit.sh
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
