"""Preflight: report errors before a job is queued, one line each, and accept all that runs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from dotenv import dotenv_values
from support.preflight import PROBES, ask, preflight
from support.process import edit, run
from support.slurm import Submitter, submitted

SCRIPTS = "experiments/011-x/scripts"
SCRIPT = f"{SCRIPTS}/x.py"
STARTER = [SCRIPT, "--config-name", "x_gh_000"]


@pytest.fixture
def jobs(lab, slurm):
    return Submitter(lab, slurm)


@pytest.fixture
def x(lab):
    """Return a lab with 011-x. It does not use the lab's package."""
    lab.render(package="", runs={"x": ["gh_000"]})
    return lab


def change(lab, file, old, new):
    edit(lab.path / "experiments/011-x" / file, old, new)


def write(lab, text, script="own"):
    """Write a user's script, and return its path."""
    (lab.path / SCRIPTS / f"{script}.py").write_text(text)
    return f"{SCRIPTS}/{script}.py"


def problems(lab, *arguments, **kwargs):
    return preflight(lab, arguments or STARTER, **kwargs).lines()


def findings(jobs, *arguments, **kwargs):
    """Return the lines of a refused submission, without the launcher's name. Nothing may be queued."""
    before = jobs.slurm.queue()
    done = jobs.submit(*arguments, **kwargs)
    assert done.returncode == 1 and jobs.slurm.queue() == before, done.stdout
    lines = done.stderr.splitlines()
    assert all(line.startswith(f"submit.sh: {arguments[0]}: ") for line in lines), done.stderr
    return [line.removeprefix(f"submit.sh: {arguments[0]}: ") for line in lines]


# Configuration --------------------------------------------------------------------------------------------------------

CONF = "conf/x_gh_000.yaml"
WRONG = [
    (CONF, "hours: 24", "hours: ???", "conf/x_gh_000.yaml: hours is ???. Give it a value."),
    (CONF, "hours: 24", 'hours: {a: [1, "???"]}', "conf/x_gh_000.yaml: hours.a[1] is ???. Give it a value."),
    (CONF, "hours: 24", "hours: ${ours}", "conf/x_gh_000.yaml: hours: Interpolation key 'ours' not found"),
    (CONF, "hours: 24", "hours: ${oc.env:NO_SUCH}", "Environment variable 'NO_SUCH' not found"),
    (CONF, "hours: 24", "hours: [24", "expected ',' or ']'"),
    (CONF, "hours: 24", "hours: 24\n\tinterval: 1", "found character '\\t' that cannot start any token"),
    (CONF, "[runtime, default, _self_]", "[runtime, default, model: big, _self_]", "Could not find 'model/big'"),
    (CONF, "hours: 24", "hours: 24\ninputs: [raw/a.csv]", "inputs: missing or unreadable: "),
    ("scripts/x.py", "def grow(", "def grow((", "experiments/011-x/scripts/x.py: line "),
    ("scripts/x.py", "def grow(", "import no_such_package\n\n\ndef grow(", ": no module named no_such_package for /"),
    ("scripts/x.py", "def grow(", "from xml.no_such import x\n\n\ndef grow(", ": no module named xml.no_such for /"),
    (
        "scripts/x.py",
        "    import numpy as np\n",
        "    import numpy as np, no_such\n",
        ": no module named no_such for /",
    ),
    ("scripts/x.py", "def grow(", "NAME = {}['key']\n\n\ndef grow(", "KeyError: 'key'"),
    ("scripts/x.py", "def grow(", "raise SystemExit('not today')\n\n\ndef grow(", "scripts/x.py: not today"),
]


def test_mistake_in_a_file_is_found(x):
    for file, old, new, reason in WRONG:
        path = x.path / "experiments/011-x" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        lines = problems(x)
        path.write_text(text)
        assert len(lines) == 1 and reason in lines[0], (new, lines)
        assert "\n" not in lines[0] and str(x.path / "exp") not in lines[0], lines


def test_mistake_in_an_override_is_found(x):
    reasons = {
        "sed=3": "Could not override 'sed'",
        "hours=[1": "no viable alternative at input",
        "hours=???": "hours is ???",
        "model=big": "Could not override 'model'",
        "noise=0.1,0.2": "Ambiguous value",
        "--confg-name=x": "unrecognized arguments: --confg-name=x",
        "hydra.run.dir=${oc.env:NO_SUCH}": "Environment variable 'NO_SUCH' not found",
    }
    answer = preflight(x, *([*STARTER, override] for override in reasons))
    assert [name for name, _ in answer.problems] == list("abcdefg"), answer.problems
    for (_, line), reason in zip(answer.problems, reasons.values(), strict=True):
        assert reason in line


def test_problem_is_reported_in_one_line(x):
    change(x, CONF, "hours: 24", "hours: ???")
    change(x, CONF, "start: 0.05", "start: ???")
    change(x, "scripts/x.py", "def grow(", "def later():\n    import no_such, neither\n\n\ndef grow(")
    lines = problems(x, env={"DATA_ROOT": "", "ASSET_IMAGES_DIR": "/nowhere"})
    assert [line.partition(": no module named ")[2].split()[0] for line in lines[:2]] == ["neither", "no_such"]
    assert lines[2:] == [
        f"DATA_ROOT is not set. Set it in {x.path}/.env",
        "ASSET_IMAGES_DIR: cannot write to /nowhere",
    ]
    change(x, "scripts/x.py", "import no_such, neither", "pass")
    assert [re.search("hours|start", line)[0] for line in problems(x)] == ["start", "hours"]


def test_unresolved_value_is_a_note(x):
    change(x, CONF, "hours: 24", "hours: 24\na: ${late:1}\nb: ${oc.env:SLURM_JOB_ID}\nc: ${gpus:}")
    line = "from omegaconf import OmegaConf\nOmegaConf.register_new_resolver('gpus', lambda: 1 // 0)\n\n\ndef grow("
    change(x, "scripts/x.py", "def grow(", line)
    answer = preflight(x, STARTER)
    assert answer.problems == []
    assert [line.split(": ")[1] for _, line in answer.notes] == ["a", "b", "c"]


def test_secret_of_the_environment_is_not_reported(x):
    change(x, CONF, "hours: 24", "hours: ${${oc.env:DB_PASSWORD}}")
    secret = {"DB_PASSWORD": "hunter2"}
    [line] = problems(x, env=secret)
    assert "hunter2" not in line and "$DB_PASSWORD" in line
    path = write(x, "import os\nif __name__ == '__main__':\n    pass\nraise ValueError(os.environ['DB_PASSWORD'])\n")
    assert problems(x, path, env=secret) == [f"{path}: line 4: ValueError: $DB_PASSWORD"]


def test_configuration_without_runtime_is_refused_for_run(x):
    change(x, CONF, "[runtime, default, _self_]", "[default, _self_]")
    [line] = problems(x)
    assert line.startswith("conf/x_gh_000.yaml: This configuration lacks conf/runtime.yaml")


def test_sweep_of_multirun_is_checked(x):
    for words in (["-m", "noise=0.1,0.2"], ["hydra.mode=MULTIRUN", "noise=range(1,3)"], ["noise=1,2", "--multi"]):
        assert problems(x, *STARTER, *words) == [], words
    [line] = problems(x, *STARTER, "-m", "nois=0.1,0.2")
    assert "Could not override 'nois'" in line


# Scripts of users -----------------------------------------------------------------------------------------------------

PLAIN = """\
import os
from dotenv import load_dotenv
import hydra
BEFORE
load_dotenv()
@hydra.main(version_base=None, config_path="../conf", config_name="old")
def main(cfg):
    raise SystemExit("it ran")

AFTER
if __name__ == "__main__":
    main()
"""
OLD = "model: {lr: 0.1}\ndata: [1, 2]\ninputs: {features: [a, b]}\n"


def plain(lab, before="", after="", text=PLAIN, script="own"):
    (lab.path / "experiments/011-x/conf/old.yaml").write_text(OLD)
    return write(lab, text.replace("BEFORE", before).replace("AFTER", after), script)


def test_hydra_script_without_runtime_is_accepted(x):
    script = plain(x)
    (x.path / "outputs").mkdir()
    start = time.monotonic()
    assert preflight(x, [script], [script, "model.lr=2", "hydra.run.dir=out/${model.lr}"]).problems == []
    assert time.monotonic() - start < 60
    shutil.rmtree(x.path / "outputs")
    assert problems(x, script) == []
    assert "Could not override 'model.l'" in problems(x, script, "model.l=2")[0]
    (x.path / "outputs").write_text("a file")
    assert problems(x, script) == [f"hydra.run.dir: the folder is not writable: {x.path}/outputs"]


ACCEPTED = {
    "structured": PLAIN.replace('config_path="../conf", ', "config_path=None, ").replace(
        "BEFORE",
        "from dataclasses import dataclass\n"
        "from hydra.core.config_store import ConfigStore\n"
        "@dataclass\nclass Old:\n    lr: float = 0.1\n"
        "ConfigStore.instance().store(name='old', node=Old)",
    ),
    "no configuration": PLAIN.replace('config_path="../conf", config_name="old"', "config_path=None"),
    "noise": PLAIN.replace("BEFORE", "import sys\nprint(1)\nsys.stderr.write('2')\nos.system('echo 3 >&2; echo 4')"),
    "argparse": PLAIN.replace(
        "BEFORE",
        "import argparse, sys\nparser = argparse.ArgumentParser()\nparser.add_argument('--fast')\n"
        "options, sys.argv[1:] = parser.parse_known_args()",
    ),
    "two functions": PLAIN.replace(
        "AFTER", '@hydra.main(version_base=None, config_path="../conf", config_name="none")\ndef other(cfg): pass'
    ),
    "called by a function": PLAIN.replace("\n    main()\n", "\n    cli()\n").replace(
        "AFTER", "def cli():\n    main()\n"
    ),
    "decorated": PLAIN.replace("@hydra", "def twice(f):\n    return lambda: (f(), f())\n@twice\n@hydra"),
    "wrapped": PLAIN.replace(
        "AFTER",
        "import functools\ndef outer(f):\n    @functools.wraps(f)\n    def run(): raise SystemExit('it ran')\n"
        "    return run\nmain = outer(main)",
    ),
    "path in a function": PLAIN.replace(
        "AFTER", "def later():\n    import sys\n    sys.path.insert(0, '/somewhere')\n    import only_there\n"
    ),
    "path": PLAIN.replace(
        "BEFORE",
        "import sys, os.path as osp\nsys.path.insert(0, osp.dirname(osp.dirname(osp.abspath(__file__))))\n"
        "from scripts.scales import SCALE",
    ),
    "can do without": PLAIN.replace(
        "BEFORE",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import no_such\n"
        "try:\n    import tomllib\nexcept ImportError:\n    import tomli as tomllib\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import neither\n"
        "def later():\n    if os.name == 'nt':\n        import winreg\n",
    ).replace("import tomllib", "import json"),
    "exits": PLAIN.replace("BEFORE", "import sys\nsys.exit()"),
    "a job's variable": PLAIN.replace("BEFORE", "JOB = os.environ['SLURM_JOB_ID']"),
    "only main": PLAIN.replace("BEFORE", "if __name__ != '__main__':\n    raise SystemExit('run me')"),
    "main module": PLAIN.replace("BEFORE", "import __main__, sys\nassert __main__ is sys.modules[__name__]"),
    "hydra used at import": PLAIN.replace(
        "BEFORE", "with hydra.initialize('../conf', version_base=None):\n    hydra.compose('old')"
    ),
}


def test_script_that_runs_is_accepted(x):
    (x.path / SCRIPTS / "scales.py").write_text("SCALE = 1\n")
    commands = []
    for number, text in enumerate(ACCEPTED.values()):
        commands.append([plain(x, text=text, script=f"s{number}")])
    commands[list(ACCEPTED).index("argparse")] += ["--fast", "1", "model.lr=3"]
    for start in range(0, len(commands), 10):
        assert preflight(x, *commands[start : start + 10]).problems == [], list(ACCEPTED)[start:]
    runs = [run(sys.executable, *words, cwd=x.path, env=os.environ | {"SLURM_JOB_ID": "1"}) for words in commands]
    failed = {
        name: done.stderr
        for name, done in zip(ACCEPTED, runs, strict=True)
        if done.returncode and "it ran" not in done.stderr
    }
    assert not failed, "what is accepted runs"


def test_arguments_of_hydra_equal_those_of_the_run(x, tmp_path):
    script = plain(x)
    other = x.path / "experiments/006-y/conf"
    other.mkdir(parents=True)
    (other / "far.yaml").write_text("far: 1\n")
    (tmp_path / "more.yaml").write_text("more: 1\n")
    answer = preflight(
        x,
        [script, "--config-path=../../006-y/conf", "--config-name", "far", "far=2"],
        [script, "--config-dir", str(tmp_path), "+more@here=1"],
        [script, "hydra/job_logging=none", "hydra/launcher=basic", "hydra.job.chdir=true", "hydra.verbose=true"],
        [script, "--config-name", "far"],
        [script, "--config-dir", "/nowhere"],
        [script, "--help"],
        [script, "--cfg", "job"],
        [script, "--experimental-rerun", "config.pickle"],
    )
    assert [name for name, _ in answer.problems] == ["b", "d", "e"], answer.problems
    assert answer.lines("d") == [
        "configuration far: Cannot find primary config 'far'. Check that it's in your config search path."
    ]


def test_imported_function_is_checked_as_it_runs(x):
    plain(x, script="train")
    imports = 'from train import main\n\nif __name__ == "__main__":\n    main()\n'
    [line] = problems(x, write(x, imports, "start"))  # Hydra looks for the folder inside a package
    done = x.python(f"{SCRIPTS}/start.py")
    assert done.returncode == 1 and "Primary config module" in line and "Primary config module" in done.stderr
    plain(x, text=PLAIN.replace('"old"', '"none"'), script="other")
    for text in (PLAIN, ACCEPTED["decorated"]):
        helper = plain(x, text="import other\n" + text, script="helper")
        assert problems(x, helper, "model.lr=1") == [], "it does not call the other's"


def test_arguments_at_import_belong_to_their_launcher(x):
    script = plain(x, "import sys\nassert sys.argv[1] == 'model.lr=1', sys.argv[1]")
    answer = preflight(x, [script, "model.lr=1"], [script, "model.lr=2"], [script, "model.lr=1"])
    assert answer.problems == [("b", f"{script}: line 5: AssertionError: model.lr=2")]


def test_launchers_of_one_script_do_not_interfere(x):
    """State that one configuration leaves in the process must not reach the next."""
    script = plain(
        x,
        "from omegaconf import OmegaConf\n"
        "def once():\n    assert 'ONCE' not in os.environ\n    os.environ['ONCE'] = '1'\n"
        "    os.chdir('/')\n    return 1\n"
        "OmegaConf.register_new_resolver('once', once)",
    )
    (x.path / "experiments/011-x/conf/old.yaml").write_text(OLD + "a: ${once:}\n")
    answer = preflight(x, [script], [script, "model.lr=2"], [script, "model.l=3"], [script])
    assert [name for name, _ in answer.problems] == ["c"] and answer.notes == []


def test_script_that_dies_or_hangs_is_reported_by_name(x):
    change(x, "scripts/runtime/check.py", "LIMIT, LIMIT_IN_JOB = 120,", "LIMIT, LIMIT_IN_JOB = 3,")
    dies = plain(x, "os.kill(os.getpid(), 11)", script="dies")
    leaves = plain(x, "os._exit(7)", script="leaves")
    seconds = str(1_000_000 + os.getpid())
    child = f"import subprocess, time\nsubprocess.Popen(['sleep', '{seconds}'])\ntime.sleep(99)"
    hangs = plain(x, child, script="hangs")
    late = plain(
        x, "from omegaconf import OmegaConf\nOmegaConf.register_new_resolver('die', lambda: os.abort())", script="late"
    )
    (x.path / "experiments/011-x/conf/dies.yaml").write_text("a: ${die:}\n")
    answer = preflight(x, [dies], [leaves], [hangs], [late, "--config-name", "dies"], [late], [SCRIPT])
    assert answer.problems == [
        ("a", f"{dies}: ended by SIGSEGV when it was imported"),
        ("b", f"{leaves}: ended the process with exit code 7 when it was imported"),
        ("c", f"{hangs}: did not end within 3 seconds when it was imported"),
        ("d", f"{late}: ended by SIGABRT when its configuration was composed"),
    ]
    assert f"sleep {seconds}" not in run("ps", "-eo", "args").stdout, "what it started outlives the check"


def test_preflight_interrupted_leaves_no_process(x):
    script = plain(x, "import time\nopen('began', 'w')\ntime.sleep(98765)\nos.system('')")
    folder = x.path / "ask"
    folder.mkdir()
    (folder / "0.requests").write_bytes(b"a\0" + b"0\0" + b"1\0" + script.encode() + b"\0")
    words = [sys.executable, f"{SCRIPTS}/runtime/check.py", folder, "0"]
    check = subprocess.Popen(words, cwd=x.path, stderr=subprocess.PIPE, env=os.environ | PROBES)
    while not (x.path / "began").exists():
        time.sleep(0.05)
    children = run("ps", "-o", "pid=", "--ppid", str(check.pid)).stdout.split()
    check.send_signal(signal.SIGTERM)
    assert check.wait(20) == 1 and check.stderr.read() == b"ended by SIGTERM\n"
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)


def test_preflight_failure_is_reported_as_such(x):
    change(x, "scripts/runtime/preflight/source.py", "def imports(self)", "def no_imports(self)")
    done, _ = ask(x.path, f"{SCRIPTS}/runtime/check.py", {"a": STARTER})
    assert done.returncode == 1 and "AttributeError: 'Source' object has no attribute 'imports'" in done.stderr


def test_configuration_that_is_not_read_is_noted(x):
    texts = {"import sys": False, "import argparse": True, "import sys\nsys.argv": True, "import hydra": False}
    for text, is_read in texts.items():
        script = write(x, f"{text}\nif __name__ == '__main__':\n    print(1)\n")
        answer = preflight(x, [script, "--config-name", "x_gh_000"], [script])
        note = f"{script}: it does not read its configuration, because it has no hydra.main"
        assert (answer.problems, answer.notes) == ([], [] if is_read else [("a", note)]), text


def test_script_without_guard_is_read_only(x):
    guard = 'if __name__ == "__main__":\n    main()\n'
    change(x, "scripts/x.py", guard, "main()\n")
    answer = preflight(x, STARTER)
    assert answer.problems == []
    note = f'{SCRIPT}: its configuration is not checked, because the script has no `if __name__ == "__main__":`'
    assert answer.notes == [("a", note)]
    assert not list(x.images.iterdir()) and not list(x.data.rglob("provenance.json")), "the preflight ran it"
    change(x, "scripts/x.py", "import hydra", "import hydra, no_such_package")
    assert "no module named no_such_package" in problems(x)[0]


def test_preflight_runs_nothing_and_leaves_nothing(x):
    change(x, "scripts/x.py", "    with Run(", "    raise SystemExit('it ran')\n    with Run(")
    before = sorted(path for path in x.path.rglob("*") if ".git" not in path.parts)
    assert problems(x) == []
    after = sorted(path for path in x.path.rglob("*") if ".git" not in path.parts)
    assert {path for path in set(after) - set(before) if "__pycache__" not in path.parts} == set()


def test_query_is_checked_by_its_dry_run(lab):
    lab.render(package="", runs={"query": ["gh_001"]}, queries=True)
    names = ("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE")
    query = f"{SCRIPTS}/query.py"
    assert problems(lab, query, "001") == [f"{name} is not set. Set it in {lab.path}/.env" for name in names]
    env = dict.fromkeys(names, "none")
    answer = preflight(lab, [query, "001", "--param", 'gene_set=["a"]'], [query, "002"], [query, "001", "a=1"], env=env)
    assert answer.lines("a") == []
    assert answer.lines("b") == ["query.py: 002: unknown query; expected one of: 001_small_build"]
    assert answer.lines("c") == ["query.py: error: unrecognized arguments: a=1"]
    assert not list(lab.data.iterdir())


def test_query_program_of_the_user_is_not_run(x):
    text = "import argparse\n\nif __name__ == '__main__':\n    open('it ran', 'w')\n"
    assert problems(x, write(x, text, "query"), "--limit", "3") == []
    assert not (x.path / "it ran").exists()


# Python ---------------------------------------------------------------------------------------------------------------


def test_python_that_drops_the_environment_is_refused(x):
    gone = ("EXPERIMENT_JOB", "SLURM_PROCID")
    some = {name: value for name, value in PROBES.items() if name not in gone}
    answer = preflight(x, STARTER, STARTER, probes=some)
    line = (
        "python: Python did not get EXPERIMENT_JOB, SLURM_PROCID. "
        "The `python:` command in lab.yml must pass the environment."
    )
    assert answer.problems == [("a", line), ("b", line)]


@pytest.mark.parametrize("option", ["-I", "-E", "-P", "PYTHONSAFEPATH"])
def test_isolated_python_is_refused_by_name(x, option):
    if sys.version_info < (3, 11) and option in ("-P", "PYTHONSAFEPATH"):
        pytest.skip("new in Python 3.11")
    env, words = ({option: "1"}, []) if option == "PYTHONSAFEPATH" else ({}, [option])
    [line] = problems(x, python=[sys.executable, *words], env=env)
    name = option if option == "PYTHONSAFEPATH" else f"python {option}"
    assert line.startswith(f"{name}: with it, Python cannot find")
    path = {} if option in ("-I", "-E") else {"PYTHONPATH": str(x.path / SCRIPTS)}
    if option != "-I":  # -I does not find `runtime` at all
        done = run(sys.executable, *words, SCRIPT, cwd=x.path, env=os.environ | env | path)
        assert (done.returncode, done.stderr) == (1, f"{line}\n")


HOOK = """\
import sys
from importlib.machinery import PathFinder
class Finder:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [{!r}]) if name == "torchcell" else None
sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def editable(tmp_path):
    """Return another checkout of the package, and variables that install it by an import hook."""
    other = tmp_path / "other/torchcell"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / "timestamp.py").write_text("def timestamp():\n    return '2026-01-01-00-00-00'\n")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(HOOK.format(str(other.parent)))
    return other, {"PYTHONPATH": str(hooks)}


def test_package_from_another_place_is_refused(lab, editable):
    other, env = editable
    lab.render(runs={"x": ["gh_000"]})
    assert problems(lab) == []
    [line] = problems(lab, env=env)
    assert line.startswith(f"torchcell is imported from {other}/__init__.py, but this code needs ")
    assert f"{lab.path}/torchcell. Uninstall that copy: " in line.replace(
        "needs torchcell.", f"needs {lab.path}/torchcell."
    )
    done = lab.start(env=env)
    assert done.returncode == 1 and done.stderr.startswith(f"torchcell is imported from {other}/__init__.py, but ")
    assert done.stderr.count("\n") == 1 and not list(lab.data.rglob("provenance.json"))


def test_package_imported_in_a_function_is_compared(lab, editable):
    path = {"PYTHONPATH": str(lab.path)}  # like launchers
    env = {"PYTHONPATH": f"{editable[1]['PYTHONPATH']}:{lab.path}"}
    lab.render(runs={"x": ["gh_000"]})
    script = write(lab, "def main():\n    import torchcell.timestamp\n\nif __name__ == '__main__':\n    main()\n")
    assert len(problems(lab, script, env=env)) == 1 and problems(lab, script, env=path) == []
    lazy = write(lab, "import os\n\nif __name__ == '__main__':\n    print(os.name)\n", "lazy")
    assert problems(lab, lazy, env=env) == [], "it does not import the package"


def test_package_imported_before_the_script_is_refused(lab, editable):
    other, env = editable
    lab.render(runs={"x": ["gh_000"]})
    hooks = Path(env["PYTHONPATH"]) / "sitecustomize.py"
    hooks.write_text(f"import sys\nsys.path.insert(0, {str(other.parent)!r})\nimport torchcell\nsys.path.pop(0)\n")
    for line in (problems(lab, env=env)[0], lab.start(env=env).stderr):
        assert line.startswith(f"torchcell is imported from {other}/__init__.py"), line


def test_dotted_package_in_src_is_found(lab, editable):
    shutil.move(lab.path / "torchcell", lab.path / "src/torchcell/time")
    (lab.path / "src/torchcell/__init__.py").touch()
    lab.render(package="torchcell.time", runs={"x": ["gh_000"]})
    assert problems(lab) == []
    assert lab.start().returncode == 0
    assert len(problems(lab, env=editable[1])) >= 1
    (lab.path / "src/torchcell/new.py").touch()
    assert lab.start().returncode == 0
    records = [path.read_text() for path in lab.data.rglob("provenance.json")]
    assert sorted('"dirty": true' in record for record in records) == [False, True]


# Versions -------------------------------------------------------------------------------------------------------------

WHITELIST = """\
import hydra
main = hydra.main
hydra.main = lambda *words, execution_whitelist=None, **options: main(*words, **options)
"""
HELP = """\
import argparse
add = argparse.ArgumentParser.add_argument
def add_argument(self, *words, **options):
    action = add(self, *words, **options)
    try:
        action.help and "%" in self._get_formatter()._get_help_string(action)
    except TypeError as error:
        raise ValueError("badly formed help string") from error
    return action
argparse.ArgumentParser.add_argument = add_argument
"""


def test_execution_whitelist_of_hydra_1_4_is_accepted(x, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WHITELIST)
    text = PLAIN.replace("version_base=None", "version_base=None, execution_whitelist=['own.*']")
    script = plain(x, text=text)
    env = {"PYTHONPATH": str(tmp_path)}
    assert problems(x, script, env=env) == []
    assert "it ran" in x.python(script, env=env).stderr


def test_hydra_1_3_is_patched_on_python_3_14(x, tmp_path):
    """argparse of Python 3.14 formats each help text at once, which fails on Hydra 1.3."""
    (tmp_path / "sitecustomize.py").write_text(HELP)
    env = {"PYTHONPATH": str(tmp_path)}
    line = f"{SCRIPT}: Hydra rejected its arguments: badly formed help string"
    assert problems(x, env=env) == [line] and x.start(env=env).returncode == 1
    change(x, "scripts/runtime/hydra_help.py", "AFFECTED = (3, 14)", "AFFECTED = sys.version_info[:2]")
    assert problems(x, env=env) == [] and x.start(env=env).returncode == 0
    without = plain(x)  # does not import `runtime`, so it cannot start
    assert len(problems(x, without, env=env)) == 1
    assert "badly formed help string" in x.python(without, env=env).stderr


# Inputs ---------------------------------------------------------------------------------------------------------------


def test_input_checksums_are_recorded(x):
    (x.data / "a.csv").write_text("1")
    (x.data / "raw").mkdir()
    (x.data / "raw/b.csv").write_text("1")
    (x.path / "experiments/011-x/results/split.json").write_text("{}")
    command = [*STARTER, "inputs=[a.csv,raw,./results/split.json,${oc.env:DATA_ROOT}/a.csv]"]
    first = preflight(x, command).inputs["a"]
    assert list(first) == ["a.csv", "raw", "./results/split.json", f"{x.data}/a.csv"]
    assert first["a.csv"] == first[f"{x.data}/a.csv"]
    (x.data / "raw/b.csv").write_text("2")
    second = preflight(x, command).inputs["a"]
    assert [path for path in first if first[path] != second[path]] == ["raw"]


def test_input_outside_data_root_is_refused(x):
    (x.data.parent / "outside").touch()
    for path in ("../outside", "/etc/passwd", "./../../outside", ".", "./", "''"):
        [line] = problems(x, *STARTER, f"inputs=[{path}]")
        assert line.startswith("inputs: not in DATA_ROOT or in the experiment: "), line
        done = x.start("x_gh_000", f"inputs=[{path}]")
        assert (done.returncode, done.stderr) == (1, f"{line}\n")


# .env and folders -----------------------------------------------------------------------------------------------------


def test_folder_variables_are_checked(x):
    variables = ["DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"]
    not_set = [f"{variable} is not set. Set it in {x.path}/.env" for variable in variables]
    for folder in ("/proc", "/nowhere"):
        lines = problems(x, env=dict.fromkeys(variables, folder))
        assert lines == [f"{variable}: cannot write to {folder}" for variable in variables]
    assert problems(x, env=dict.fromkeys(variables, "")) == not_set
    for variable, line in zip(variables, not_set, strict=True):
        assert problems(x, env={variable: ""}) == [line]
    for folder in ("data", "./data", "~/data"):
        line = f"DATA_ROOT names a relative path: {folder}. Write an absolute path."
        assert problems(x, env={"DATA_ROOT": folder}) == [line]
        assert x.start(env={"DATA_ROOT": folder}).stderr.splitlines()[0] == line
    (x.path / ".env").unlink()
    assert problems(x) == not_set


@pytest.mark.parametrize("value", ["1", "True", "no", ""])
def test_disabled_dotenv_is_refused_by_name(x, value):
    disabled = {"PYTHON_DOTENV_DISABLED": value}
    unset = [f"{name} is not set." for name in ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")]
    cause = "PYTHON_DOTENV_DISABLED is set, so .env is not read. Unset it."
    is_refused = value in ("1", "True") and [int(part) for part in version("python-dotenv").split(".")] >= [1, 1, 1]
    assert problems(x, env=disabled) == ([f"{line} {cause}" for line in unset] if is_refused else [])
    done = x.start(env=disabled)
    assert " ".join(done.stderr.split()) == (" ".join([*unset, cause]) if is_refused else "")
    assert problems(x, env=disabled | dotenv_values(x.path / ".env")) == []


def test_folder_of_another_clone_is_refused(x):
    (x.data / "011-x").mkdir()
    line = f"EXPERIMENT_ROOT is a folder that does not contain {x.path}/experiments/011-x: {x.data}"
    assert problems(x, env={"EXPERIMENT_ROOT": str(x.data)}) == [line]


def test_folder_of_runs_must_be_writable(x):
    runs = x.data / "experiments/011-x/runs"
    runs.parent.mkdir(parents=True)
    runs.symlink_to("/proc")
    assert problems(x) == [f"hydra.run.dir: the folder is not writable: {runs}"]


def test_env_file_is_not_loaded_for_a_script_without_it(x):
    script = write(x, "import os\nif __name__ == '__main__':\n    pass\nROOT = os.environ['DATA_ROOT']\n")
    assert problems(x, script) == [f"{script}: line 4: KeyError: 'DATA_ROOT'"]


LINES = [
    "DATA_ROOT={}",
    'DATA_ROOT="{}"',
    "DATA_ROOT='{}'",
    "export DATA_ROOT={}",
    "  DATA_ROOT = {}  ",
    "DATA_ROOT={} # scratch",
    "DATA_ROOT=/old\nDATA_ROOT={}",
    "DATA_ROOT={}\r",
    "SCRATCH={}\nDATA_ROOT=${{SCRATCH}}",
    "A={}\nB=.\nDATA_ROOT=${{A}}/${{B}}",
    "DATA_ROOT=${{NO_SUCH:-{}}}",
    "'DATA_ROOT'={}",
    "\ufeffDATA_ROOT={}",
    "DATA_ROOT=${{DATA_ROOT}}/x",
    "DATA_ROOT=/nowhere/{}",
    "DATA_ROOT=$HOME",
    "DATA_ROOT=",
    "# DATA_ROOT={}",
]


def test_env_file_is_read_like_python_dotenv(x, tmp_path):
    folder = tmp_path / "a b#é"
    folder.mkdir()
    env, script = x.path / ".env", write(x, "")
    for line in LINES:
        text = line.format(folder)
        env.write_text(f"{text}\nASSET_IMAGES_DIR={tmp_path}\nEXPERIMENT_ROOT={x.path}/experiments\n")
        value = dotenv_values(env).get("DATA_ROOT")
        if not value:
            wrong = f"DATA_ROOT is not set. Set it in {env}"
        elif not os.path.isabs(value):
            wrong = f"DATA_ROOT names a relative path: {value}. Write an absolute path."
        else:
            wrong = f"DATA_ROOT: cannot write to {value}"
        is_right = bool(value) and os.path.isdir(value)
        assert problems(x, script) == ([] if is_right else [wrong]), text


def test_env_file_that_the_run_finds_is_checked(jobs, slurm):
    (jobs.experiment / ".env").write_text("OTHER=1\n")
    lines = problems(jobs.lab)
    assert lines[0] == f"DATA_ROOT is not set. Set it in {jobs.experiment}/.env" and len(lines) == 3
    (jobs.experiment / ".env").write_text((jobs.lab.path / ".env").read_text())
    (jobs.lab.path / ".env").write_text("")
    [number] = submitted(jobs.submit("gh_x_000"))
    assert slurm.wait(number)["JobState"] == "COMPLETED"


# Machines and kinds of launchers --------------------------------------------------------------------------------------


def test_values_of_a_child_arrive_in_order(x):
    program = f"""
import sys
sys.path[0] = "{SCRIPTS}"
from runtime.preflight.children import forked
large = ["finished", 7, None] * 10_000
with forked(lambda send: [send(value) for value in ("first", "", large, [], large)], 60) as receive:
    print([len(receive()) for _ in range(5)], receive())
"""
    done = x.python("-c", program)
    assert (done.stdout, done.stderr) == ("[5, 0, 30000, 0, 30000] ended the process with exit code 0\n", "")


def test_launcher_setup_and_python_are_tried(jobs):
    jobs.edit("scripts/gh_x_000.slurm", "set -euo pipefail\n", "set -euo pipefail\necho no module >&2\nfalse\n")
    assert findings(jobs, "gh_x_000") == ["no module"]
    jobs.edit("scripts/gh_x_000.slurm", "echo no module >&2\nfalse\n", "exit 7\n")
    assert findings(jobs, "gh_x_000") == ["its check ended with exit code 7"]
    jobs.edit("scripts/gh_x_000.slurm", "exit 7\n", "")
    (jobs.lab.path / "home/miniconda3/envs/torchcell/bin/python").unlink()
    assert "No such file or directory" in findings(jobs, "gh_x_000")[0]


def test_launcher_of_a_machine_without_login_python_is_noted(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["igb_cabbi_000", "gh_001"]})
    marks = {name: lab.path / f"home/bin/{name}" for name in ("module", "singularity")}
    text = {name: path.read_text() for name, path in marks.items()}
    for name, path in marks.items():
        path.write_text(f"#!/bin/bash\ntouch {lab.data}/{name}\nexit 1\n")
    done = jobs.submit("--dry-run", "igb_cabbi_x_000", "gh_x_001")
    assert (done.returncode, done.stdout) == (0, "igb_cabbi_x_000: ready\ngh_x_001: ready\n")
    assert done.stderr == (
        "submit.sh: igb_cabbi_x_000: the job checks its own script, "
        "because this machine forbids Python on login nodes. Inputs are not compared.\n"
    )
    assert list(lab.data.iterdir()) == [], "something ran where nothing may"
    for name, path in marks.items():
        path.write_text(text[name])
    (jobs.experiment / "conf/x_cabbi_000.yaml").unlink()
    assert "its configuration" in jobs.refused("igb_cabbi_x_000")


def test_job_checks_itself_if_login_nodes_may_not(lab, slurm):
    runs = {"x": [{"igb_cabbi-srun_000": {"ntasks": 2}}, {"igb_cabbi_optuna": {"array": "0-1"}}]}
    jobs = Submitter(lab, slurm, runs=runs)
    jobs.in_run("open(run.folder + '/ran', 'w')")
    wrong = submitted(jobs.submit("igb_cabbi_x-srun_000", "sed=3"))
    edit(jobs.experiment / "conf/x_cabbi_optuna.yaml", "n_trials: ", "n_trials: many #")
    wrong += submitted(jobs.submit("igb_cabbi_x_optuna", "--", "--array=0"))
    [right] = submitted(jobs.submit("igb_cabbi_x-srun_000", "hours=30"))
    states = [slurm.wait(number)["JobState"] for number in (*wrong, right)]
    assert states == ["FAILED", "FAILED", "COMPLETED"]
    logs = [path.read_text() for number in wrong for path in jobs.logs.glob(f"*_{number}*.out")]
    assert [len(log.splitlines()) for log in logs] == [1, 1], logs
    assert "conf/x_cabbi_000.yaml: Could not override 'sed'" in logs[0] and "n_trials" in logs[1], logs
    assert len(list(lab.data.rglob("ran"))) == len(list(lab.data.rglob("provenance.json"))) == 1


def test_launcher_of_every_kind_is_checked(lab, slurm):
    modes = [{"gh-ddp_000": {"gres": "gpu:2"}}, {"gh-srun_001": {"ntasks": 2}}, {"gh-pack_002": {"ntasks": 2}}]
    jobs = Submitter(lab, slurm, runs={"x": [*modes, "gh_optuna", "gh_wandb"], "query": ["gh_001"]})
    for command in ("srun", "torchrun", "wandb"):
        file = lab.path / "home/bin" / command
        file.write_text(f"#!/bin/bash\ntouch {lab.data}/{command}\nexit 1\n")
        file.chmod(0o755)
    (jobs.experiment / "queries/001_small_build.json").write_text('{"gene_set": []}')
    server = dict.fromkeys(["NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE"], "none")
    env = {"SWEEP_ID": "lab/011-x/abc", "NEO4J_URI": "bolt://nowhere"} | server
    launchers = ["gh_x-ddp_000", "gh_x-srun_001", "gh_x-pack_002", "gh_x_optuna", "gh_x_wandb", "gh_query_001"]
    done = jobs.submit("--dry-run", *launchers, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(f"{launcher}: ready\n" for launcher in launchers)
    for name in ("gh_x_wandb", "gh_x_optuna"):
        assert findings(jobs, name, "hours=3", env=env)[0].startswith("overrides are not accepted: ")
    assert "SWEEP_ID: is not set. Set it to ENTITY/PROJECT/ID, the last word that" in findings(jobs, "gh_x_wandb")[0]
    for config in ("x_gh_000", "x_gh_001", "x_gh_002", "x_gh_optuna", "x_gh_wandb_run"):
        jobs.edit(f"conf/{config}.yaml", "hours: 24", "hours: ???")
    done = jobs.submit("--dry-run", *launchers, env=env)
    assert done.stderr.splitlines() == [
        f"submit.sh: {launcher}: conf/{config}.yaml: hours is ???. Give it a value."
        for launcher, config in {
            "gh_x-ddp_000": "x_gh_000",
            "gh_x-srun_001": "x_gh_001",
            "gh_x-pack_002": "x_gh_002",
            "gh_x_wandb": "x_gh_wandb_run",  # not gh_x_optuna: its trials set hours
        }.items()
    ]
    assert findings(jobs, "gh_query_001", "hours=3", env=env) == ["query.py: error: unrecognized arguments: hours=3"]
    jobs.edit("conf/x_gh_001.yaml", "hours: ???", "hours: 24")
    assert findings(jobs, "gh_x-srun_001", "--overwrite") == ["only launchers of queries take --overwrite"]
    (jobs.experiment / "queries/001_small_build.cql").unlink()
    unknown = "query.py: 001: unknown query; expected one of: (queries/ is empty)"
    assert findings(jobs, "gh_query_001", env=env) == [unknown]
    assert list(lab.data.iterdir()) == []


def test_launcher_problems_are_all_reported(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": [f"gh_{number:03}" for number in range(4)]})
    for number in (1, 3):
        jobs.edit(f"conf/x_gh_{number:03}.yaml", "hours: 24", "hours: ???")
    done = jobs.submit(*(f"gh_x_{number:03}" for number in range(4)))
    assert done.returncode == 1 and done.stdout == ""
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["gh_x_001", "gh_x_003"]
