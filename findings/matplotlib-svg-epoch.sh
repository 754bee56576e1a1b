#!/usr/bin/env bash
# matplotlib 3.11.2: with SOURCE_DATE_EPOCH, a PDF is the same each time, and an SVG is not.
#
# Guess: SOURCE_DATE_EPOCH, which matplotlib documents for reproducible files, makes two files of one figure equal in
#        each format that records a date.
# Seen:  PNG, PDF and PS are equal. In an SVG the names of clip paths are random, so git shows a change of a committed
#        figure for each run. rcParams["svg.hashsalt"] makes them equal.
# Here:  figures of runs are not committed. The SVG files in docs/ are not matplotlib's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  matplotlib==3.11.2 2> /dev/null
cd "$folder"
SOURCE_DATE_EPOCH=1700000000 MPLCONFIGDIR=$folder env/bin/python - << 'END'
import io

import matplotlib
from matplotlib.figure import Figure


def content(kind):
    figure = Figure()
    figure.subplots().plot([1, 2])
    file = io.BytesIO()
    figure.savefig(file, format=kind)
    return file.getvalue()


same = {kind: content(kind) == content(kind) for kind in ("png", "pdf", "ps", "svg")}
matplotlib.rcParams["svg.hashsalt"] = "growth"
same["svg with a salt"] = content("svg") == content("svg")
print(f"matplotlib {matplotlib.__version__}, two files of one figure are equal: {same}")
assert same == {"png": True, "pdf": True, "ps": True, "svg": False, "svg with a salt": True}, "this has changed"
END
