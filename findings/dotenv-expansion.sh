#!/usr/bin/env bash
# python-dotenv 1.2.1: dotenv_values() and load_dotenv() expand ${NAME} of the same file to different values.
#
# Guess: both read a file in the same way. They differ only in where the values go.
# Seen:  if the environment has NAME too, load_dotenv() expands ${NAME} to the environment's value, and dotenv_values()
#        to the file's. A program that checks folders with the one finds others than a script that uses the other.
# Here:  `experiments` loads .env as a run does, by load_dotenv() (src/experiments/history.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  python-dotenv==1.2.1 2> /dev/null
cd "$folder"
printf '%s\n' 'ROOT=/file' 'DATA_ROOT=${ROOT}/data' > .env
env -u DATA_ROOT ROOT=/environment env/bin/python -W error - << 'END'
import os
from importlib.metadata import version

from dotenv import dotenv_values, load_dotenv

values = dotenv_values(".env")["DATA_ROOT"]
load_dotenv(".env")
loaded = os.environ["DATA_ROOT"]
print(f"python-dotenv {version('python-dotenv')}: dotenv_values {values}, load_dotenv {loaded}")
assert (values, loaded) == ("/file/data", "/environment/data"), "this has changed"
END
