"""Trust: rendering executes nothing, and answers never become code."""

import ast
import json
import os
import re
import shutil
import string
import tempfile
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import yaml
from copier.errors import UserMessageError
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lab import fake_programs
from support.process import commit, git, run
from support.template import CONFIG, MACHINES, render

EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
HOSTILE = st.sampled_from(
    ["${", "{{", "{%", *"\"'`$\\{}[]#%:;|&<>!*?\n\r\t\x00\x1b\x85\u2028\u202e\ud800\ufeff\uffff é酵"]
)
TEXT = st.lists(HOSTILE | st.characters(), max_size=20).map("".join)
ATTACKS = [
    '"""\nimport os; os.system("touch CANARY")\n"""',
    '"""; __import__("os").system("touch CANARY"); """',
    "title\ntouch CANARY",
    "$(touch CANARY)",
    "`touch CANARY`",
    "'; touch CANARY; '",
    "${oc.env:HOME}",
    "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    '!!python/object/apply:os.system ["touch CANARY"]',
    "*/ touch CANARY /*",
    "x\r#SBATCH --wrap='touch CANARY'",
    "%(touch CANARY)s",
]


def test_template_does_not_need_trust():
    assert not {"_tasks", "_migrations", "_jinja_extensions", "_secret_questions"} & CONFIG.keys()


def test_copy_and_update_run_without_trust(lab, own_template):
    lab.template = own_template
    lab.render()
    own_template.release("v1.1.0", [("lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")])
    updated = run("copier", "update", "--defaults", "experiments/011-x", cwd=lab.path)
    assert updated.returncode == 0, updated.stderr
    assert "-#SBATCH --time=2-00:00:00\n+#SBATCH --time=1-00:00:00" in git(lab.path, "diff")


@cache
def check_python(text):
    ast.parse(text)


# A validator refuses an answer, and a name of an experiment is refused before the first question.
REFUSED = (ValueError, UserMessageError)
REFUSAL = re.compile(r"Validation error for question '|'None' has no attribute '.* does not have the form NNN-slug")


def accepted(template, **answers):
    """Render, check that all files are well formed, and return the folder, or None if refused."""
    destination = Path(tempfile.mkdtemp()) / "011-x"
    try:
        render(template, destination, **{"runs": {"x": ["gh_000", "igb_cabbi_001"]}} | answers)
    except REFUSED as error:
        assert REFUSAL.match(str(error)), error
        assert not destination.exists()
        shutil.rmtree(destination.parent)
        return None
    for file in destination.rglob("*.py"):
        check_python(file.read_text())
    for file in destination.rglob("*.y*ml"):
        yaml.load(file.read_text(), yaml.CSafeLoader)
    for file in destination.rglob("*.slurm"):
        assert run("bash", "-n", file).stderr == ""
    with initialize_config_dir(str(destination / "conf"), version_base="1.3"):
        for config in {path.stem for path in (destination / "conf").iterdir()} - {"runtime"}:
            composed = compose(config)
            assert composed.title == answers.get("title", composed.title)
    recorded = yaml.safe_load((destination / ".copier-answers.yml").read_text())
    assert {name: recorded[name] for name in answers} == answers
    return destination


def forget(destination):
    if destination:
        shutil.rmtree(destination.parent)


def is_no_title(text):
    """Check whether a text is not one line, or means a missing value or an interpolation to Hydra."""
    breaks_lines = any(
        unicodedata.category(sign) in ("Cc", "Cs") or sign in "\u2028\u2029\ufffe\uffff" for sign in text
    )
    return breaks_lines or text != text.strip() or text in ("", "???") or "${" in text


@EXAMPLES
@given(title=TEXT)
def test_title_is_unchanged_or_refused(plain_template, title):
    destination = accepted(plain_template, title=title)
    assert (destination is None) == is_no_title(title)
    if destination:
        assert (destination / "README.md").read_text().startswith(f"# {title}\n")
    forget(destination)


@EXAMPLES
@given(
    package=st.just("") | st.from_regex(r"[a-z_.]{1,9}", fullmatch=True) | TEXT,
    repository=st.just("") | TEXT.map("https://github.com/lab/{}".format),
    user_email=st.just("") | TEXT.map("ada{}@example.org".format),
)
def test_package_repository_and_email_are_safe_or_refused(plain_template, package, repository, user_email):
    forget(accepted(plain_template, package=package, repository=repository, user_email=user_email))


@EXAMPLES
@given(experiment=st.from_regex(r"[A-Z]?[0-9]{3}(-[a-z0-9]{1,5}){1,3}", fullmatch=True) | TEXT)
def test_experiment_name_is_safe_or_refused(plain_template, experiment):
    forget(accepted(plain_template, experiment=experiment))


TOKENS = st.builds("{}_{:03}".format, st.sampled_from(list(MACHINES)), st.integers(0, 999)) | TEXT
SCRIPTS = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12) | TEXT
RUNS = st.dictionaries(SCRIPTS, st.lists(TOKENS, max_size=4), max_size=3)


@EXAMPLES
@given(runs=RUNS)
def test_runs_render_exactly_their_files_or_are_refused(plain_template, runs):
    destination = accepted(plain_template, runs=runs)
    if destination:
        tokens = [(script, *token.rpartition("_")[::2]) for script, tokens in runs.items() for token in tokens]
        configs = {f"{script}_{machine.split('_')[-1]}_{number}.yaml" for script, machine, number in tokens}
        launchers = {f"{machine}_{script}_{number}.slurm" for script, machine, number in tokens}
        assert {path.name for path in (destination / "conf").iterdir()} == configs | {"default.yaml", "runtime.yaml"}
        assert {path.name for path in (destination / "scripts").glob("*.slurm")} == launchers
        assert {f"{script}.py" for script in runs} <= {path.name for path in (destination / "scripts").iterdir()}
    forget(destination)


VALUES = TEXT | st.integers() | st.booleans() | st.none() | st.floats() | st.lists(TEXT, max_size=2)
NAMES = st.sampled_from(["mem", "comment", "gres", "time", "constraint", "output", "wrap"]) | TEXT


@EXAMPLES
@given(request=st.dictionaries(NAMES, VALUES, max_size=3))
def test_request_is_one_line_per_option_or_refused(plain_template, request):
    destination = accepted(plain_template, runs={"x": [{"slurm_000": request}]})
    if destination:
        lines = (destination / "scripts/slurm_x_000.slurm").read_text().splitlines()
        asked = [line for line in lines if line.startswith("#SBATCH")]
        own = MACHINES["slurm"]["sbatch"]
        wanted = {name for name, value in (own | request).items() if value is not None}
        wanted -= {"mem"} if any(name.startswith("mem-") for name in request) and "mem" not in request else set()
        assert len(asked) == 3 + len(wanted)
        known = (
            "#",
            "set ",
            "export ",
            "PYTHONPATH=",
            "python=(",
            "run=(",
            "  ",
            ")",
            "if ",
            "exec ",
            "source experiments/",
            "unset WANDB_",
        )
        assert all(line.startswith(known) or not line for line in lines)
    forget(destination)


@pytest.mark.parametrize("attack", ATTACKS)
def test_request_with_an_attack_executes_nothing(lab, plain_template, attack):
    """Python is a program that does nothing, so only the launcher's own lines run."""
    lab.template = plain_template
    is_refused = bool(set(attack) & set("\"'\\\n\r"))
    try:
        lab.render(runs={"x": [{"gh_000": {"comment": attack}}]})
    except ValueError as error:
        assert is_refused and "comment has a quote, a backslash or a line break" in str(error)
    else:
        assert not is_refused
        environment = os.environ | fake_programs(lab.path / "home")
        (lab.path / "home/miniconda3/envs/torchcell/bin/python").write_text("#!/bin/sh\n")
        started = run("bash", "experiments/011-x/scripts/gh_x_000.slurm", cwd=lab.path, env=environment)
        assert started.returncode == 0, started.stderr
    assert not list(lab.path.rglob("CANARY"))


QUESTIONS = ["title", "package", "repository", "user_email", "experiment", "runs"]


@pytest.mark.parametrize(("question", "attack"), [(question, attack) for question in QUESTIONS for attack in ATTACKS])
def test_attacks_in_answers_execute_nothing(lab, plain_template, monkeypatch, question, attack):
    monkeypatch.chdir(lab.path)
    lab.template = plain_template
    if question == "title" and not is_no_title(attack):
        lab.render(title=attack)
        environment = os.environ | fake_programs(lab.path / "home") | {"PYTHONPATH": str(lab.path)}
        started = run("bash", "experiments/011-x/scripts/gh_x_000.slurm", cwd=lab.path, env=environment)
        assert started.returncode == 0, started.stderr
        assert len(list(lab.images.iterdir())) == 1
    else:
        with pytest.raises(REFUSED, match=REFUSAL):
            lab.render(**{question: {attack: [attack]} if question == "runs" else attack})
    assert not list(lab.path.rglob("CANARY"))


def test_secrets_are_not_rendered_or_recorded(lab, monkeypatch):
    monkeypatch.setenv("NEO4J_PASSWORD", "hunter2-secret")
    experiment = lab.render()
    assert lab.start().returncode == 0
    commit(lab.path)
    for root in (experiment, lab.data, lab.images):
        assert not any(b"hunter2-secret" in path.read_bytes() for path in root.rglob("*") if path.is_file())
    [record] = lab.data.rglob("provenance.json")
    assert json.loads(record.read_text())["status"] == "finished"
