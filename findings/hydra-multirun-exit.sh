#!/usr/bin/env bash
# Hydra 1.3.8: sys.exit() in one job of a multirun ends the whole multirun, and the exit code of the job is the result.
#
# Guess: sys.exit() ends one job. The others still run, as after an exception with the joblib launcher, or the multirun
#        fails because it is not complete.
# Seen:  no later job runs, and after sys.exit() or sys.exit(0) the exit code of the multirun is 0. A sweep over three
#        values that computed one looks like a success.
# Here:  a script that has nothing to do for one value returns from main instead. A campaign starts each point as a
#        process of its own, so no point can end the others.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  hydra-core==1.3.8 2> /dev/null
cd "$folder"
cat > job.py << 'END'
import sys

import hydra


@hydra.main(version_base=None)
def main(cfg):
    print("ran", cfg.x, flush=True)
    if cfg.x == 1:
        sys.exit()


main()
END
code=0
ran=$(env/bin/python job.py --multirun +x=0,1,2 | grep '^ran') || code=$?
version=$(env/bin/python -c 'from importlib.metadata import version; print(version("hydra-core"))')
echo "hydra-core $version: of x=0,1,2 with sys.exit() at 1: ${ran//$'\n'/, }; exit code $code"
[[ $ran == $'ran 0\nran 1' && $code == 0 ]] || { echo "this has changed" >&2; exit 1; }
