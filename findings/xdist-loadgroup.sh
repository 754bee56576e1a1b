#!/usr/bin/env bash
# pytest 9.2.0 with pytest-xdist 3.8.0: --dist=loadgroup is ignored.
#
# Guess: tests with the same xdist_group mark run in one worker, as with pytest 9.1, or an incompatible version stops.
# Seen:  they are spread over the workers, without a warning. A fixture that starts a server once per worker then starts
#        it in all of them.
# Here:  pyproject.toml requires pytest<9.2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > test_group.py << 'END'
import os

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_worker(number):
    with open("workers", "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
END
python3 -m venv env
for version in 9.1.1 9.2.0; do
  env/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
    "pytest==$version" pytest-xdist==3.8.0 2> /dev/null
  rm -f workers
  env/bin/python -m pytest -q -n 2 --dist=loadgroup > /dev/null
  counts+=("$(sort -u workers | wc -l)")
  echo "pytest $version, pytest-xdist 3.8.0: one group ran in ${counts[-1]} worker(s)"
done
[[ ${counts[*]} == "1 2" ]] || { echo "this has changed" >&2; exit 1; }
