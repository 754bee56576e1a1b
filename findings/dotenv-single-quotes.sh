#!/usr/bin/env bash
# python-dotenv 1.2.1: ${NAME} is expanded in single quotes too, so no quotes keep it as it is written.
#
# Guess: as in a shell, single quotes keep the text, and double quotes expand it.
# Seen:  both expand it. A password such as 'a${b}c' becomes ac, without an error or a warning. Only interpolate=False
#        for the whole file, or a variable of the environment, keeps it.
# Here:  docs/queries.md describes it. Such a password is set in the environment.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  python-dotenv==1.2.1 2> /dev/null
cd "$folder"
cat > .env << 'END'
SINGLE='a${b}c'
DOUBLE="a${b}c"
BACKSLASH="a\${b}c"
END
env -u b env/bin/python -W error - << 'END'
from importlib.metadata import version

from dotenv import dotenv_values

values = dict(dotenv_values(".env"))
print(f"python-dotenv {version('python-dotenv')}: {values}")
assert values == {"SINGLE": "ac", "DOUBLE": "ac", "BACKSLASH": "a\\c"}, "this has changed"
END
