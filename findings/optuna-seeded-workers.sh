#!/usr/bin/env bash
# Optuna 5.0.0: two workers of one study whose samplers have the same seed compute each random trial twice.
#
# Guess: the workers share a study, and the sampler sees its trials, so it does not propose equal values again.
# Seen:  a seeded sampler proposes the same values in each process. A job array that runs one script with
#        TPESampler(seed=0) gets ten random trials from each worker, and all workers get the same ten.
# Here:  each proposal has a seed of its own, derived from the configuration's and the trial's number
#        (scripts/runtime/optuna_study.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  --no-deps optuna==5.0.0 colorlog numpy packaging tqdm 2> /dev/null
cd "$folder"
cat > worker.py << 'END'
import optuna

optuna.logging.set_verbosity(optuna.logging.CRITICAL)
study = optuna.create_study(
    storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("journal")),
    study_name="growth",
    load_if_exists=True,
    sampler=optuna.samplers.TPESampler(seed=0),
)
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
values = [trial.params["x"] for trial in study.trials]
print(f"optuna {optuna.__version__}: {len(values)} trials, {len(set(values))} different")
END
env/bin/python worker.py > first
seen=$(env/bin/python worker.py)
echo "$seen"
[[ $seen == *": 10 trials, 5 different" ]] || { echo "this has changed" >&2; exit 1; }
