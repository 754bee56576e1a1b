"""The text of launchers: commands, variables and #SBATCH lines, read and never executed."""

import re

import pytest
from support.process import run

from experiments.launcher import Launcher
from experiments.sbatch import FLAGS, SHORT, VALUED, full_name, parse_options, suggest
from experiments.shell import Script, directive_words


def words_of(text):
    return [command.words for command in Script.parse(text).commands if command.words]


@pytest.mark.parametrize(
    "text, words",
    [
        ("python a.py \\\n  --x # not --y\n", ["python", "a.py", "--x"]),
        ("if ! python a.py; then exit 1; fi", ["python", "a.py"]),
        ("while true; do python 'a b'\"c$d\"\\ e; done", ["python", "a bc$d e"]),
        ("X=1 python a.py > log 2>&1 &", ["python", "a.py"]),
        ("python a#b '#c' #d", ["python", "a#b", "#c"]),
        ("((a < b)) && python a.py", ["python", "a.py"]),
        ("case $1 in a) python a.py ;; esac", ["python", "a.py"]),
        ("python <(sort b) a.py", ["python", "", "a.py"]),
        ("cat << 'END' | python a.py\npython b.py\nEND\n", ["python", "a.py"]),
        ("cat <<- END > x\n\tpython b.py\n\tEND\npython a.py", ["python", "a.py"]),
        ("srun bash -c \"python a.py '$x' \\$y\"", ["python", "a.py", "$x", "$y"]),
        ("bash -l << END\npython a.py\nEND\n", ["python", "a.py"]),
        ("x=$(python a.py \"$(cat \"b c\")\")", ["python", "a.py", "$(cat \"b c\")"]),
        ("python a.py \"open", ["python", "a.py", "open"]),
        ("python a.py $'it\\'s' b", ["python", "a.py", "it\\'s", "b"]),
    ],
)  # fmt: skip
def test_words_of_a_command(text, words):
    assert [list(found) for found in words_of(text) if found[0] == "python"] == [words]


@pytest.mark.parametrize(
    "text, word, values",
    [
        ("A=1", "x_$A", ["x_1"]),
        ("A=1; A=2", "${A}", ["2"]),
        ("A=(b c)", "${A[$i]}", ["b", "c"]),
        ("for a in b c; do :; done", "$a", ["b", "c"]),
        ("A=${1:-b}", "$A", ["b", "*"]),
        ("A=${1:?usage}", "$A", ["*"]),
        ('A=$(printf "g_%03d" "$i")', "$A", ["g_*"]),
        ("A=$((1 + 2))", "n=$A", ["n=*"]),
        ("export A=b B=$A", "$B", ["b"]),
        ("A=$A", "$A", ["*"]),
        ("", "${1%.yaml}", ["*"]),
    ],
)
def test_values_of_variables(text, word, values):
    assert Script.parse(text).expand(word) == values


def test_hostile_nesting_is_read():
    for part in ('"$(', "$(", "`", "${", "(", "bash -c '", "<<"):
        Script.parse(part * 5000)
    variables = "".join(f"A{number}={f'$A{number + 1}' * 50}\n" for number in range(20))
    script = Script.parse(f"{variables}A20=$A0 B=({' '.join(map(str, range(50)))})")
    assert script.expand("${B[0]}$A0") and script.expand("${B[0]}${B[0]}${B[0]}") == ["*"]


LINES = (
    '--job-name="a b"#c -N 1 # x',
    "--cpus-per-tas=3",
    "--comment=3g\\#x",
    "--wckey=a\"#\"b\t-p'main'",
    "-n4 --mem 8g --exclusive -Jx",
)


def test_sbatch_lines_are_read_as_slurm_reads_them(slurm, tmp_path):
    for line in LINES:
        launcher = tmp_path / "x.slurm"
        launcher.write_text(f"#!/bin/bash\n#SBATCH {line}\ntrue\n#SBATCH --qos=no\n", newline="")
        done = run("sbatch", "--verbose", "--test-only", launcher, env=slurm.environment)
        found = dict(re.findall(r"^sbatch: ([a-z-]+) +: (.*?)\s*$", done.stdout + done.stderr, re.MULTILINE))
        asked = {option.name: option.value for option in parse_options(directive_words(line))}
        assert asked.keys() == found.keys() - {"verbose", "test-only"}, line
        for name in asked.keys() & {"job-name", "comment", "wckey", "partition", "cpus-per-task", "ntasks", "output"}:
            assert asked[name] == found[name], line


def test_options_are_those_of_sbatch(slurm):
    """The installed sbatch may be older or newer than the list, so one direction is tested."""
    page = run("sbatch", "--help", env=slurm.environment).stdout
    named = set(re.findall(r"^ +(?:-\w, +|-\w  +)?--([a-z-]+)", page, re.MULTILINE))
    assert len(named) > 60
    assert named <= VALUED | FLAGS
    pairs = dict(re.findall(r"^ +-(\w),? +--([a-z-]+)", page, re.MULTILINE))
    assert pairs.items() <= SHORT.items()


def test_mistyped_option_is_known_and_corrected():
    assert (full_name("cpu-per-task"), suggest("cpu-per-task")) == ("", "cpus-per-task")
    assert (full_name("part"), full_name("mem"), full_name("ntasks-per")) == ("partition", "mem", "")


def test_starts_of_a_launcher():
    text = """#!/bin/bash
#SBATCH -p main
#SBATCH --mem=8g
run=(
  experiments/011-x/scripts/x.py
  --config-name x_gh_000
)
echo "python old.py --config-name old"
cp a.py b.py
PYTHON=~/env/bin/python
$PYTHON "${run[@]}"
srun --label bash -c "torchrun --nproc_per_node 4 y.py --config-name=$1"
COMMAND="python z.py -cn z"
$COMMAND
"""
    launcher = Launcher("x", text)
    assert launcher.options == {"partition": "main", "mem": "8g"}
    assert [(start.mode, start.script, start.configs) for start in launcher.starts] == [
        ("one", "experiments/011-x/scripts/x.py", ("x_gh_000",)),
        ("ddp", "y.py", ("*",)),
        ("one", "z.py", ("z",)),
    ]
    assert launcher.starts[0].words[1:] == ("experiments/011-x/scripts/x.py", "--config-name", "x_gh_000")
