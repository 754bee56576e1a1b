#!/usr/bin/env bash
# W&B 0.31.0, offline: resume="must" is accepted for a run that does not exist, and nothing is resumed.
#
# Guess: resume="must" raises, since no such run is known, and a second process with the same id and resume="allow" goes
#        on at the next step with the summary of the first.
# Seen:  neither. Each process begins at step 0 with an empty summary and run.resumed False, in a folder of its own,
#        without a warning. A requeued job that logs offline repeats the steps 0, 1, 2 of the same run.
# Here:  `Run` gives W&B an axis of its own for steps, and finds its step by its checkpoint
#        (scripts/runtime/tracking.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  wandb==0.31.0 2> /dev/null
cd "$folder"
cat > job.py << 'END'
import sys

import wandb

run = wandb.init(project="growth", id="one", resume=sys.argv[1], mode="offline")
print(f"{sys.argv[1]} step {run.step} resumed {run.resumed} summary {dict(run.summary)}")
run.log({"loss": 1.0})
run.finish()
END
export WANDB_SILENT=true WANDB_CONFIG_DIR=$folder WANDB_CACHE_DIR=$folder
unset WANDB_SERVICE
seen=$(for resume in must allow; do env/bin/python job.py "$resume"; done)
echo "wandb $(env/bin/python -c 'import wandb; print(wandb.__version__)'): ${seen//$'\n'/; }"
expected=$'must step 0 resumed False summary {}\nallow step 0 resumed False summary {}'
[[ $seen == "$expected" ]] || { echo "this has changed" >&2; exit 1; }
