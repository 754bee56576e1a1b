#!/usr/bin/env bash
# Optuna 5.0.0: create_study(load_if_exists=True) ignores the direction that it is given.
#
# Guess: a study that was created with direction="minimize" refuses to be loaded with direction="maximize".
# Seen:  it is loaded without an error or a warning, and goes on minimizing. `best_value` is the smallest value, so the
#        sampler and the report both answer the opposite of what the script asks for.
# Here:  a sweep's worker compares the directions and refuses another one (scripts/runtime/optuna_study.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  --no-deps optuna==5.0.0 colorlog numpy packaging tqdm 2> /dev/null
cd "$folder"
env/bin/python -W error - << 'END'
import optuna
from optuna.study import StudyDirection

optuna.logging.set_verbosity(optuna.logging.WARNING)
journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("journal"))
first = optuna.create_study(storage=journal, study_name="growth", direction="minimize")
for value in (3.0, 1.0, 2.0):
    first.add_trial(optuna.trial.create_trial(value=value))
again = optuna.create_study(storage=journal, study_name="growth", direction="maximize", load_if_exists=True)
print(f"optuna {optuna.__version__}: asked to maximize, direction {again.direction.name}, best value {again.best_value}")
assert again.direction == StudyDirection.MINIMIZE and again.best_value == 1.0, "this has changed"
END
