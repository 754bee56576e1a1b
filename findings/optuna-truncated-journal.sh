#!/usr/bin/env bash
# Optuna 5.0.0: a journal whose last line is cut off loads, and loses the first record that is written after it.
#
# Guess: a journal with half a last line, as a full disk leaves it, is refused when it is loaded, or the half line is
#        dropped and the study goes on.
# Seen:  it loads without an error or a warning. The next record is appended to the half line, so the journal breaks at
#        the first write: json.JSONDecodeError, then and at every later start.
# Here:  a sweep's worker cuts off an unfinished last line before it opens the journal
#        (scripts/runtime/optuna_journal.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  --no-deps optuna==5.0.0 colorlog numpy packaging tqdm 2> /dev/null
cd "$folder"
env/bin/python -W error - << 'END'
import json
import os

import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)


def load():
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("journal"))
    return optuna.create_study(storage=storage, study_name="growth", load_if_exists=True)


def outcome(action):
    try:
        return f"{len(action().trials)} trials"
    except json.JSONDecodeError:
        return "JSONDecodeError"


def add(study):
    study.add_trial(optuna.trial.create_trial(value=1.0))
    return study


study = load()
for _ in range(3):
    add(study)
os.truncate("journal", os.path.getsize("journal") - 20)
seen = [outcome(load), outcome(lambda: add(load())), outcome(load)]
print(f"optuna {optuna.__version__}: load, load and add, load again: {', '.join(seen)}")
assert seen == ["2 trials", "JSONDecodeError", "JSONDecodeError"], "this has changed"
END
