"""completion: a real bash completes commands, experiments, runs and configurations."""

import json
import os

import pytest
from support.document import bin_folder
from support.process import run

# Complete a command line as the Tab key does: by the function that `complete` has registered.
TAB = """\
eval "$(experiments completion bash)"
[[ $(complete -p experiments) =~ -F\\ ([^ ]+) ]]
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
read -ra COMP_WORDS <<< "$1"
if [[ $1 == *' ' ]]; then COMP_WORDS+=(''); fi
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"${BASH_REMATCH[1]}" experiments "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]%% }"
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return a PATH with the command."""
    return f"{bin_folder(tmp_path_factory.mktemp('programs'))}{os.pathsep}{os.environ['PATH']}"


def test_bash_completes_commands_and_arguments(lab, path):
    experiment = lab.render()
    lab.render("012-y")
    for name in ("wide_0", "wide_1", "tall_0"):
        folder = lab.data / "experiments/011-x/runs/round2" / name
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps({"status": "finished"}))

    def completed(line, cwd=lab.path):
        done = run("bash", "--norc", "-c", TAB, "-", line, cwd=cwd, env=os.environ | {"PATH": path})
        assert done.stderr == "", done.stderr
        return sorted(done.stdout.split())

    assert completed("experiments usa") == ["usage"]
    assert completed("experiments list --po") == ["--points"]
    assert completed("experiments show 01") == ["011-x", "012-y"]
    assert completed("experiments list experiments/01", experiment.parents[1]) == [
        "experiments/011-x/",
        "experiments/012-y/",
    ]
    assert completed("experiments show 011 wi") == ["wide_0", "wide_1"]
    assert completed("experiments show 011-x round2/t") == ["round2/tall_0"]
    assert completed("experiments list 011 --config x_") == ["x_gh_000"]
    assert completed("experiments show 013 w") == []
