#!/usr/bin/env bash
# W&B 0.31.0: a process that was started with the environment of an ended run cannot start one of its own.
#
# Guess: wandb.init starts a service if that of WANDB_SERVICE has ended. The variable is internal and undocumented.
# Seen:  wandb.init exports WANDB_SERVICE to all child processes. A batch job that a notebook submits inherits it, and
#        wandb.init there raises WandbServiceConnectionError, also offline.
# Here:  launchers unset the variable before Python starts.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  wandb==0.31.0 2> /dev/null
cd "$folder"
cat > job.py << 'END'
import os

import wandb

try:
    run = wandb.init(project="growth", mode="offline")
    print(os.environ["WANDB_SERVICE"])
    run.finish()
except Exception as error:
    print(type(error).__name__)
END
export WANDB_SILENT=true WANDB_CONFIG_DIR=$folder WANDB_CACHE_DIR=$folder
unset WANDB_SERVICE
service=$(env/bin/python job.py)
later=$(WANDB_SERVICE=$service env/bin/python job.py)
echo "wandb $(env/bin/python -c 'import wandb; print(wandb.__version__)'): with the variable of an ended run: $later"
[[ -n $service && $later == WandbServiceConnectionError ]] || { echo "this has changed" >&2; exit 1; }
