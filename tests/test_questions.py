"""Questions: asked once, defaulted, and refused with the rule when an answer is wrong."""

import re
import sys

import copier
import pytest
import yaml
from conftest import MACHINES, QUESTIONS, Terminal, render, run

CLEAR, STOP = "\x15", "\x03"  # Ctrl-U, Ctrl-C
NAMES = ["experiment", "title", "runs", "package", "repository", "user_email", "queries"]
WRONG = [
    ("experiment", "growth", "must be NNN-slug"),
    ("experiment", "11-growth", "must be NNN-slug"),
    ("experiment", "011-Growth", "must be NNN-slug"),
    ("experiment", "011-growth-", "must be NNN-slug"),
    ("experiment", "011_growth", "must be NNN-slug"),
    ("experiment", "011-growth\n", "must be NNN-slug"),
    ("experiment", "../011-growth", "must be NNN-slug"),
    ("title", "", "must be one line"),
    ("title", " padded", "must be one line"),
    ("title", "two\nlines", "must be one line"),
    ("title", "next\x85line", "must be one line"),
    ("title", "separator\u2028line", "must be one line"),
    ("title", "bell\x07", "must be one line"),
    ("title", "lone \ud800 surrogate", "must be one line"),
    ("title", "${oc.env:HOME}", "must be one line"),
    ("title", "???", "must be one line"),
    ("runs", None, "must be a mapping"),
    ("runs", {}, "must be a mapping"),
    ("runs", ["gh_000"], "must be a mapping"),
    ("runs", "gh_000", "must be a mapping"),
    ("runs", {"x": []}, "must have a list of runs"),
    ("runs", {"x": "gh_000"}, "must have a list of runs"),
    ("runs", {"x": {"gh": 0}}, "must have a list of runs"),
    ("runs", {"x": None}, "must have a list of runs"),
    ("runs", {"x": ["gh_000\n"]}, "must be MACHINE_NNN"),
    ("runs", {"x": ["gh_00"]}, "must be MACHINE_NNN"),
    ("runs", {"x": ["gh_0000"]}, "must be MACHINE_NNN"),
    ("runs", {"x": ["gh"]}, "must be MACHINE_NNN"),
    ("runs", {"x": [1_000]}, "must be MACHINE_NNN"),
    ("runs", {"x": [True]}, "must be MACHINE_NNN"),
    ("runs", {"x": ["gh_\u0660\u0660\u0660"]}, "must be MACHINE_NNN"),
    ("runs", {"x": ["mars_000"]}, f"must name a machine of machines.yml: {', '.join(MACHINES)}"),
    ("runs", {"x": ["_000"]}, "must name a machine"),
    ("runs", {"x": ["gh_000", "gh_000"]}, "has the number 000 twice"),
    ("runs", {"x": ["gh_000", "delta_000"]}, "has the number 000 twice"),
    ("runs", {"x": ["gh_optuna", "gh_optuna"]}, "has the sweep gh_optuna twice"),
    ("runs", {"x": ["mars_optuna"]}, "must name a machine"),
    ("runs", {"x": ["gh_Optuna"]}, "must be MACHINE_NNN, like gh_000, or a sweep, MACHINE_optuna or MACHINE_wandb"),
    ("runs", {"x": ["optuna"]}, "must name a machine"),
    ("runs", {"optuna_study": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"growth-curves": ["gh_000"]}, "must be a Python module's name"),
    ("runs", {"x\n": ["gh_000"]}, "must be a Python module's name"),
    ("runs", {"../x": ["gh_000"]}, "must be a Python module's name"),
    ("runs", {"x" * 101: ["gh_000"]}, "must be a Python module's name"),
    ("runs", {1: ["gh_000"]}, "must be a Python module's name"),
    ("runs", {True: ["gh_000"]}, "must be a Python module's name"),
    ("runs", {"class": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"random": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"numpy": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"query": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"x": ["gh_000"], "X": ["gh_000"]}, "two runs have the launcher gh_x_000.slurm"),
    ("package", "torch-cell", "must be empty or a Python package"),
    ("package", "torchcell\n", "must be empty or a Python package"),
    ("package", "os; import os", "must be empty or a Python package"),
    ("package", "my.class", "must be empty or a Python package"),
    ("repository", "github.com/lab/x", "must be empty or a web address"),
    ("repository", "https://github.com/lab/x/", "must be empty or a web address"),
    ("repository", "https://github.com/lab/x\nimport os", "must be empty or a web address"),
    ("repository", "https://github.com/lab/x y", "must be empty or a web address"),
    ("user_email", "ada", "must be empty or an e-mail address"),
    ("user_email", "ada@example.org\n", "must be empty or an e-mail address"),
    ("user_email", "ada@example.org --wrap=x", "must be empty or an e-mail address"),
]


def test_the_seven_questions_each_ask_one_thing_and_have_a_default():
    assert list(QUESTIONS) == NAMES
    for details in QUESTIONS.values():
        assert details["help"].count("?") == 1 and details["help"].endswith("?")
        assert "default" in details


@pytest.mark.parametrize(("question", "answer", "rule"), WRONG)
def test_wrong_answers_are_refused_with_the_rule_and_leave_nothing(plain_template, tmp_path, question, answer, rule):
    destination = tmp_path / "011-x"
    with pytest.raises(ValueError, match=re.escape(rule)) as error:
        render(plain_template, destination, **{question: answer})
    assert str(error.value).startswith(f"Validation error for question '{question}': ")
    assert "\n" not in str(error.value)
    assert not destination.exists()


def test_every_module_of_python_is_refused_as_a_script():
    from conftest import CONFIG

    reserved = set(CONFIG["reserved_scripts"]["default"].split()) | set(CONFIG["keywords"]["default"].split())
    modules = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    assert {name.lower() for name in modules} <= reserved


@pytest.mark.parametrize("name", ["011-x", "000-a", "A123-kuzmin-tmi", "006-dmf-2"])
def test_the_folder_names_the_experiment(template, tmp_path, name):
    experiment = render(template, tmp_path / name, **({"runs": {"x": ["gh_000"]}}))
    assert f"experiment: {name}\n" in (experiment / ".copier-answers.yml").read_text()


def test_a_wrong_folder_name_stops_the_command_with_the_rule(template, tmp_path):
    refused = run("copier", "copy", "--defaults", template.path, tmp_path / "growth", stdin=None)
    assert refused.returncode != 0
    assert "must be NNN-slug" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "growth").exists()


def test_defaults_ask_nothing_and_warn_of_nothing(template, tmp_path):
    done = run("copier", "copy", "--defaults", template.path, "011-x", cwd=tmp_path, input="")
    assert done.returncode == 0
    assert "arning" not in done.stderr
    for command in next_commands("011-x"):
        assert command in done.stderr


def next_commands(name):
    path = f"experiments/{name}/scripts"
    return [
        f"git add experiments/{name}",
        f"python {path}/x.py --config-name x_gh_000",
        f"bash {path}/submit.sh gh_x_000",
    ]


@pytest.fixture
def person(template, tmp_path):
    """Somebody at a terminal who has typed `copier copy`."""
    return Terminal("copier", "copy", template.path, "experiments/011-x", cwd=tmp_path, width=200)


def test_a_person_is_asked_seven_times_and_told_what_to_type_next(person, tmp_path):
    for question in NAMES:
        person.expect(QUESTIONS[question]["help"])
        person.type("\r")
    assert person.end() == 0
    assert all(command in person.text() for command in next_commands("011-x"))
    assert (tmp_path / "experiments/011-x/scripts/x.py").is_file()


@pytest.mark.parametrize("width", [80, 200])
def test_a_persons_typos_are_told_with_the_rule_and_mended(template, tmp_path, width):
    person = Terminal("copier", "copy", template.path, "experiments/011-x", cwd=tmp_path, width=width)
    typed = {
        "experiment": ("11-x", '"11-x" must be NNN-slug, like 011-g', "011-x"),
        "title": ("${x}", "must be one line of text, without con", "Wachstum"),
        "runs": ("{x: gh_000}", "script x must have a list of runs, like [", "{x: [gh_000, slurm_optuna]}"),
        "package": ("torch-cell", "must be empty or a Python package", ""),
        "repository": ("github.com/lab", "must be empty or a web address", ""),
        "user_email": ("ada@", "must be empty or an e-mail address", "ada@example.org"),
    }
    for question, (wrong, rule, right) in typed.items():
        person.expect(QUESTIONS[question]["help"])
        person.type(f"{CLEAR}{wrong}\r")
        person.expect(rule)
        person.type(f"{CLEAR}{right}\r")
    person.expect(QUESTIONS["queries"]["help"])
    person.type("n")
    assert person.end() == 0, person.text()
    answers = yaml.safe_load((tmp_path / "experiments/011-x/.copier-answers.yml").read_text())
    assert [answers[name] for name in NAMES[:2]] == ["011-x", "Wachstum"]
    assert answers["runs"] == {"x": ["gh_000", "slurm_optuna"]}
    assert [answers[name] for name in NAMES[3:]] == ["", "", "ada@example.org", False]


@pytest.mark.parametrize("answered", [0, 3, 6])
def test_ctrl_c_half_way_leaves_nothing(person, tmp_path, answered):
    for question in NAMES[:answered]:
        person.expect(QUESTIONS[question]["help"])
        person.type("\r")
    person.expect(QUESTIONS[NAMES[answered]]["help"])
    person.type(STOP)
    assert person.end() == 1
    assert person.text().endswith("Execution stopped by user")
    assert not (tmp_path / "experiments").exists()


def test_a_persons_own_settings_fill_the_email(template, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yml"
    settings.write_text("defaults:\n  user_email: ada@example.org\n")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(settings))
    launcher = render(template, tmp_path / "011-x") / "scripts/gh_x_000.slurm"
    assert "#SBATCH --mail-user=ada@example.org\n#SBATCH --mail-type=END,FAIL\n" in launcher.read_text()


def test_force_on_a_first_copy_renders_everything(template, tmp_path):
    copier.run_copy(str(template.path), tmp_path / "011-x", defaults=True, overwrite=True, quiet=True)
    assert (tmp_path / "011-x/slurm/output/.gitkeep").exists()
    assert (tmp_path / "011-x/scripts/gh_x_000.slurm").exists()
