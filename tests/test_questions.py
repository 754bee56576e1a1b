"""The questions: their defaults, and the message for each wrong answer."""

import keyword
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import copier
import jinja2
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.process import run
from support.template import LAB, QUESTIONS, ROOT, asked, render
from support.terminal import Terminal

FILTERS = ["jinja2_ansible_filters.AnsibleCoreFiltersExtension"]  # as in Copier
CLEAR, STOP = "\x15", "\x03"  # Ctrl-U, Ctrl-C
NAMES = ["experiment", "title", "runs", "package", "repository", "user_email", "queries"]
WRONG = [
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
    ("runs", ["gh_000"], "must be a mapping"),
    ("runs", "gh_000", "must be a mapping"),
    ("runs", {"x": []}, "script x must have a list of runs"),
    ("runs", {"x": "gh_000"}, "script x must have a list of runs"),
    ("runs", {"x": {"gh": 0}}, "script x must have a list of runs"),
    ("runs", {"x": None}, "script x must have a list of runs"),
    ("runs", {"x": [1_000]}, "run 1000 of x must be a token"),
    ("runs", {"x": [True]}, "run true of x must be a token"),
    ("runs", {"x": [["gh_000"]]}, 'run ["gh_000"] of x must be a token'),
    ("runs", {"x": [{"gh_000": {}, "gh_001": {}}]}, "of x must be a token"),
    ("runs", {"x": [{}]}, "run {} of x must be a token"),
    ("runs", {"x": ["gh_000\n"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh_00"]}, 'run "gh_00" of x: must have the form MACHINE_ID'),
    ("runs", {"x": ["gh_0000"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh_000_"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh_000-test"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh_test"]}, "must have the form MACHINE_ID or MACHINE, such as gh_000"),
    ("runs", {"x": ["gh_optuna_"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh_optuna-2"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh_Optuna"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["optuna"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh_\u0660\u0660\u0660"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["mars_000"]}, 'unknown machine "mars"; expected one of: gh, igb_cabbi, igb_mmli, delta, slurm'),
    ("runs", {"x": ["_000"]}, 'unknown machine ""; expected one of: gh'),
    ("runs", {"x": ["GH_000"]}, 'unknown machine "GH"; expected one of: gh'),
    ("runs", {"x": ["mars_optuna"]}, 'unknown machine "mars"; expected one of: gh'),
    ("runs", {"x": ["gone_000"]}, 'run "gone_000" of x: gone is retired and cannot have new runs'),
    ("runs", {"x": ["gh-mpi_000"]}, 'run "gh-mpi_000" of x: unknown mode "mpi"; expected one of: ddp, srun, pack'),
    ("runs", {"x": ["gh-_000"]}, "must have the form MACHINE_ID"),
    ("runs", {"x": ["gh-mpi"]}, 'run "gh-mpi" of x: unknown mode "mpi"'),
    ("runs", {"x": ["gone"]}, 'run "gone" of x: gone is retired'),
    ("runs", {"x": ["gh-srun"]}, "srun needs a number of tasks"),
    ("runs", {"x": ["desk-pack"]}, "desk has no Slurm, so pack cannot be used"),
    ("runs", {"x": ["gh", "gh"]}, 'run "gh" of x: the name gh_x is already used by gh'),
    ("runs", {"x": ["gh_000"], "x_000": ["gh"]}, "the name gh_x_000 is already used by gh_000"),
    ("runs", {"default": ["gh"]}, "its configuration would be conf/default.yaml"),
    ("runs", {"x": ["gh_wandb", "gh_wandb_run"]}, "the name x_gh_wandb_run is already used by gh_wandb"),
    ("runs", {"query": ["gh"]}, "must have the form MACHINE_NNN"),
    ("runs", {"x": ["gh-ddp_optuna_r2"]}, "a sweep cannot use ddp. Write gh_optuna_r2 or gh-pack_optuna_r2"),
    ("runs", {"x": ["gh-ddp_optuna"]}, "a sweep cannot use ddp. Write gh_optuna or gh-pack_optuna"),
    ("runs", {"x": ["gh-srun_wandb"]}, "a sweep cannot use srun. Write gh_wandb or gh-pack_wandb"),
    ("runs", {"x": ["gh-pack_000"]}, "pack needs a number of tasks. Request ntasks"),
    ("runs", {"x": ["gh-srun_000"]}, "srun needs a number of tasks. Request ntasks"),
    ("runs", {"x": [{"gh-pack_optuna": {"ntasks": None}}]}, "pack needs a number of tasks"),
    ("runs", {"x": ["slurm-ddp_000"]}, "ddp needs GPUs"),
    ("runs", {"x": [{"gh-ddp_000": {"gres": None}}]}, "ddp needs GPUs"),
    ("runs", {"x": [{"gh-ddp_000": {"gres": "lscratch:1"}}]}, "ddp needs GPUs"),
    (
        "runs",
        {"x": [{"gh-ddp_000": {"signal": "B:USR1@60"}}]},
        "signal is B:USR1@60, which kills torchrun and leaves its processes running. Use B:TERM@60",
    ),
    ("runs", {"x": [{"gh-ddp_000": {"signal": "SIGUSR2"}}]}, "leaves its processes running. Use B:TERM"),
    ("runs", {"x": [{"gh-ddp_000": {"nodes": 2}}]}, "ddp runs on one node, but nodes is 2"),
    ("runs", {"x": [{"gh-ddp_000": {"nodes": "1-2"}}]}, "ddp runs on one node, but nodes is 1-2"),
    ("runs", {"x": ["desk-srun_000"]}, "desk has no Slurm, so srun cannot be used"),
    ("runs", {"x": ["desk_wandb"]}, "desk has no Slurm, so wandb cannot be used"),
    ("runs", {"x": [{"desk_000": {"mem": "1g"}}]}, "desk has no Slurm, so sbatch options cannot be used"),
    ("runs", {"x": [{"gh_000": None}]}, 'run "gh_000" of x: sbatch options must be a mapping'),
    ("runs", {"x": [{"gh_000": ["mem"]}]}, "sbatch options must be a mapping"),
    (
        "runs",
        {"x": [{"gh_000": {"cpus_per_task": 4}}]},
        '"cpus_per_task" is not a long sbatch option. Write cpus-per-task',
    ),
    ("runs", {"x": [{"gh_000": {"mem": "4g", "mem-per-cpu": "1g"}}]}, "mem and mem-per-cpu cannot be combined."),
    (
        "runs",
        {"x": [{"gh_000": {"cpus-per-gpu": 4, "tres-per-task": "cpu:4"}}]},
        "cpus-per-gpu and tres-per-task cannot be combined",
    ),
    ("runs", {"x": [{"gh_000": {"c": 4}}]}, '"c" is not a long sbatch option'),
    ("runs", {"x": [{"gh_000": {1: 4}}]}, "1 is not a long sbatch option"),
    ("runs", {"x": [{"gh_000": {"--mem": "4g"}}]}, '"--mem" is not a long sbatch option'),
    ("runs", {"x": [{"gh_000": {"output": "x"}}]}, "output is set by the template"),
    ("runs", {"x": [{"gh_000": {"chdir": "/"}}]}, "chdir is set by the template"),
    (
        "runs",
        {"x": [{"gh_000": {"time": 43200}}]},
        'time is 43200, because YAML reads 12:00:00 as a number. Write it as a string, such as "0-12:00:00"',
    ),
    ("runs", {"x": [{"gh_000": {"time": 90}}]}, 'such as "0-01:30:00"'),
    ("runs", {"x": [{"gh_000": {"requeue": False}}]}, "requeue is false. Write true to set a flag"),
    ("runs", {"x": [{"gh_000": {"mem": 1.5}}]}, "mem must be a string, an integer, true or null"),
    ("runs", {"x": [{"gh_000": {"gres": ["gpu:1"]}}]}, "gres must be a string"),
    ("runs", {"x": [{"gh_000": {"mem": ""}}]}, 'mem is ""'),
    ("runs", {"x": [{"gh_000": {"comment": "a\nb"}}]}, "comment has a quote, a backslash or a line break"),
    ("runs", {"x": [{"gh_000": {"comment": 'a"b'}}]}, "comment has a quote"),
    ("runs", {"x": ["gh_000", "gh_000"]}, 'run "gh_000" of x: the ID 000 of x is already used by gh_000. Use'),
    ("runs", {"x": ["gh_000", "delta_000"]}, 'run "gh_000" of x: the ID 000 of x is already used by delta_000'),
    ("runs", {"x": ["gh_000_a", "delta_000_A"]}, "the ID 000_a of x is already used by delta_000_A"),
    ("runs", {"x": ["gh_000", {"gh-pack_000": {"ntasks": 2}}]}, "the ID 000 of x is already used by gh-pack_000"),
    ("runs", {"x": ["gh_optuna", "gh_optuna"]}, "the name x_gh_optuna is already used by gh"),
    ("runs", {"x": ["gh_optuna", {"gh-pack_optuna": {"ntasks": 2}}]}, "the name x_gh_optuna is already used by gh"),
    ("runs", {"x": ["gh_000"], "X": ["gh_000"]}, "the name x_gh_000 is already used by gh_000"),
    ("runs", {"x": ["gh_000_" + "a" * 200]}, "name of its launcher is longer than 200 characters"),
    ("runs", {"query": ["gh-srun_001"]}, "must have the form MACHINE_NNN, where NNN is the number of a file"),
    ("runs", {"query": ["gh_optuna"]}, "must have the form MACHINE_NNN, where NNN is the number of a file"),
    ("runs", {"query": ["gh_001_a"]}, "must have the form MACHINE_NNN, where NNN is the number of a file"),
    ("runs", {"Query": ["gh_001"]}, "script Query would hide the Python module"),
    ("runs", {"optuna_worker": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"growth-curves": ["gh_000"]}, "is not a module name"),
    ("runs", {"x\n": ["gh_000"]}, "is not a module name"),
    ("runs", {"../x": ["gh_000"]}, "is not a module name"),
    ("runs", {"x" * 101: ["gh_000"]}, "is not a module name"),
    ("runs", {1: ["gh_000"]}, "is not a module name"),
    ("runs", {True: ["gh_000"]}, "is not a module name"),
    ("runs", {"class": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"random": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"numpy": ["gh_000"]}, "would hide the Python module or keyword"),
    ("runs", {"runtime": ["gh_000"]}, "would hide the Python module or keyword"),
    ("package", "torch-cell", "must be empty or the name of a Python package"),
    ("package", "torchcell\n", "must be empty or the name of a Python package"),
    ("package", "os; import os", "must be empty or the name of a Python package"),
    ("package", "my.class", "must be empty or the name of a Python package"),
    ("repository", "github.com/lab/x", "must be empty or a web address"),
    ("repository", "https://github.com/lab/x/", "must be empty or a web address"),
    ("repository", "https://github.com/lab/x\nimport os", "must be empty or a web address"),
    ("repository", "https://github.com/lab/x y", "must be empty or a web address"),
    ("user_email", "ada", "must be empty or an e-mail address"),
    ("user_email", "ada@example.org\n", "must be empty or an e-mail address"),
    ("user_email", "ada@example.org --wrap=x", "must be empty or an e-mail address"),
]


def test_each_question_has_one_question_mark_and_a_default():
    assert list(QUESTIONS) == NAMES
    for name, details in QUESTIONS.items():
        assert details["help"].count("?") == 1 and asked(name).endswith("?")
        assert "default" in details


@pytest.mark.parametrize(("question", "answer", "rule"), WRONG)
def test_wrong_answer_is_refused_with_its_rule(plain_template, tmp_path, question, answer, rule):
    destination = tmp_path / "011-x"
    with pytest.raises(ValueError, match=re.escape(rule)) as error:
        render(plain_template, destination, **{question: answer})
    assert str(error.value).startswith(f"Validation error for question '{question}': ")
    assert "\n" not in str(error.value)
    assert not destination.exists()


def words(name):
    return (ROOT / "rules" / name).read_text().lower().split()


def test_standard_modules_are_reserved_script_names():
    modules = {name.lower() for name in sys.stdlib_module_names if not name.startswith("_")}
    assert modules <= {*words("reserved.txt"), *words("keywords.txt")}
    assert set(keyword.kwlist) <= set((ROOT / "rules/keywords.txt").read_text().split())


@pytest.mark.parametrize("name", ["011-x", "000-a", "A123-kuzmin-tmi", "006-dmf-2", "007-Kuzmin_TMI", "008-a__b--c"])
def test_folder_names_the_experiment(template, tmp_path, name):
    experiment = render(template, tmp_path / name, **({"runs": {"x": ["gh_000"]}}))
    assert f"experiment: {name}\n" in (experiment / ".copier-answers.yml").read_text()


@pytest.mark.parametrize(
    "name",
    ["growth", "11-growth", "011-growth-", "011_growth", "011-_growth", "011-growth_", "011-growth\n", "../011-growth"],
)
def test_wrong_name_is_refused_before_the_questions(plain_template, tmp_path, name):
    with pytest.raises(copier.errors.UserMessageError) as refused:
        render(plain_template, tmp_path / "011-x", experiment=name)
    assert " does not have the form NNN-slug. Run: --data experiment=001-" in str(refused.value)
    assert "\n" not in str(refused.value) and not (tmp_path / "011-x").exists()


@pytest.mark.parametrize(
    ("folder", "advised"),
    [("growth", "015-growth"), ("9_my growth!", "015-my-growth"), ("12", "015-growth"), ("x/growth", "x/001-growth")],
)
def test_wrong_folder_is_refused_with_a_command(template, tmp_path, folder, advised):
    """The advised number follows the highest one."""
    (tmp_path / "014-other/scripts").mkdir(parents=True)
    (tmp_path / "014-other/README.md").touch()
    done = run("copier", "copy", template.path, folder, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert f"does not have the form NNN-slug. Run: copier copy {template.path} {advised}'" in line
    assert not (tmp_path / folder).exists()


def test_defaults_need_no_input_and_print_no_warning(template, tmp_path):
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
    """Start `copier copy` in a terminal."""
    return Terminal("copier", "copy", template.path, "experiments/011-x", cwd=tmp_path, width=200)


def test_prompts_end_with_the_next_commands(person, tmp_path):
    for question in NAMES:
        person.expect(asked(question))
        person.type("\r")
    assert person.end() == 0
    assert all(command in person.text() for command in next_commands("011-x"))
    assert (tmp_path / "experiments/011-x/scripts/x.py").is_file()


@pytest.mark.parametrize("width", [80, 200])
def test_prompts_show_the_rule_of_a_wrong_answer(template, tmp_path, width):
    person = Terminal("copier", "copy", template.path, "experiments/011-x", cwd=tmp_path, width=width)
    typed = {
        "experiment": ("11-x", '"11-x" does not have the form NNN-', "011-x"),
        "title": ("${x}", "must be one line of text without con", "Wachstum"),
        "runs": ("{x: gh_000}", "script x must have a list of runs, such", "{x: [gh_000, slurm_optuna]}"),
        "package": ("torch-cell", "must be empty or the name of a Py", ""),
        "repository": ("github.com/lab", "must be empty or a web address", ""),
        "user_email": ("ada@", "must be empty or an e-mail address", "ada@example.org"),
    }
    for question, (wrong, rule, right) in typed.items():
        person.expect(asked(question))
        person.type(f"{CLEAR}{wrong}\r")
        person.expect(rule)
        person.type(f"{CLEAR}{right}\r")
    person.expect(asked("queries"))
    person.type("n")
    assert person.end() == 0, person.text()
    answers = yaml.safe_load((tmp_path / "experiments/011-x/.copier-answers.yml").read_text())
    assert [answers[name] for name in NAMES[:2]] == ["011-x", "Wachstum"]
    assert answers["runs"] == {"x": ["gh_000", "slurm_optuna"]}
    assert [answers[name] for name in NAMES[3:]] == ["", "", "ada@example.org", False]


@pytest.mark.parametrize("answered", [0, 3, 6])
def test_ctrl_c_leaves_no_files(person, tmp_path, answered):
    for question in NAMES[:answered]:
        person.expect(asked(question))
        person.type("\r")
    person.expect(asked(NAMES[answered]))
    person.type(STOP)
    assert person.end() == 1
    assert person.text().endswith("Execution stopped by user")
    assert not (tmp_path / "experiments").exists()


def test_defaults_depend_on_the_repository(plain_template, tmp_path):
    """The lab's own repository is known by its package. In it, its address is not asked."""

    def answers(name):
        text = (render(plain_template, tmp_path / f"lab/experiments/{name}") / ".copier-answers.yml").read_text()
        return [yaml.safe_load(text)[name] for name in ("package", "repository", "queries")]

    assert answers("001-x") == ["", "", False]
    (tmp_path / "lab/.env").touch()
    assert answers("002-x") == ["", "", False]
    (tmp_path / "lab/torchcell").mkdir()
    (tmp_path / "lab/torchcell/timestamp.py").touch()
    assert answers("003-x") == ["torchcell", LAB["repository"], True]
    (tmp_path / "lab/.env").unlink()
    assert answers("004-x") == ["torchcell", LAB["repository"], False]
    person = Terminal("copier", "copy", plain_template.path, "experiments/005-x", cwd=tmp_path / "lab", width=80)
    for question in NAMES:
        if question != "repository":
            person.expect(asked(question))
            if question == "runs":
                person.expect("   gh         GilaHyper\n   igb_cabbi  IGB Biocluster\n")
            assert "web address" not in person.text()
            person.type("\r")
    assert person.end() == 0


def test_copier_settings_fill_the_email(template, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yml"
    settings.write_text("defaults:\n  user_email: ada@example.org\n")
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(settings))
    launcher = render(template, tmp_path / "011-x") / "scripts/gh_x_000.slurm"
    assert "#SBATCH --mail-type=END,FAIL\n#\n#SBATCH --mail-user=ada@example.org\n" in launcher.read_text()


def test_copier_settings_cannot_replace_computed_values(plain_template, tmp_path, monkeypatch):
    names = ["lab", "lab_documents", "plan", "run_list", "configurations", "scripts", "sweepers"]
    settings = tmp_path / "settings.yml"
    settings.write_text(yaml.safe_dump({"defaults": dict.fromkeys([*names, "new", "first_copy", "machines"], "mine")}))
    monkeypatch.setenv("COPIER_SETTINGS_PATH", str(settings))
    assert (render(plain_template, tmp_path / "011-x") / "scripts/gh_x_000.slurm").exists()


def test_force_on_first_copy_renders_all_files(template, tmp_path):
    done = run("copier", "copy", "--force", template.path, tmp_path / "011-x")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "011-x/slurm/output/.gitkeep").exists()
    assert (tmp_path / "011-x/scripts/gh_x_000.slurm").exists()


# Defaults -------------------------------------------------------------------------------------------------------------

RESERVED = sorted({word.lower() for word in [*words("reserved.txt"), *words("keywords.txt")]})
SLUGS = st.from_regex(r"[A-Za-z0-9]{1,9}([-_]{1,2}[A-Za-z0-9]{1,9}){0,3}", fullmatch=True)


@cache
def rule_of_scripts():
    """Return the template of the default script's name."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOT), extensions=FILTERS)
    rule = "{% from 'rules/names.jinja' import default_script %}{{ default_script(experiment) }}"
    return environment.from_string(rule)


def script_of(slug):
    """Return the default script of a folder."""
    return rule_of_scripts().render(experiment=f"012-{slug}")


def test_default_script_is_never_a_reserved_word():
    for word in RESERVED:
        assert script_of(word) == f"{word}_run"
        assert script_of(word.capitalize()) == f"{word.capitalize()}_run"


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(slug=SLUGS | st.sampled_from(RESERVED).map(lambda word: word.replace("_", "-")))
@example(slug="random")
@example(slug="query")
@example(slug="token")
@example(slug="import")
@example(slug="12-hours")
@example(slug="a" * 150)
@example(slug="Optuna_Study")
def test_accepted_folder_renders_with_defaults(plain_template, slug):
    with tempfile.TemporaryDirectory() as folder:
        experiment = render(plain_template, Path(folder) / f"012-{slug}")
        [script] = yaml.safe_load((experiment / ".copier-answers.yml").read_text())["runs"]
        assert script == script_of(slug) and (experiment / f"scripts/{script}.py").is_file()


@pytest.mark.parametrize("name", ["012-random", "027-24-hours"])
def test_pressing_enter_renders_any_folder(template, tmp_path, name):
    person = Terminal("copier", "copy", template.path, f"experiments/{name}", cwd=tmp_path, width=200)
    for question in NAMES:
        person.expect(asked(question))
        person.type("\r")
    assert person.end() == 0, person.text()
    assert len(list((tmp_path / f"experiments/{name}/scripts").glob("gh_*_000.slurm"))) == 1


@pytest.mark.parametrize(
    ("modules", "package"),
    [
        ([], ""),
        (["torchcell/__init__.py"], ""),
        (["torchcell/timestamp.py"], "torchcell"),
        (["src/torchcell/timestamp.py"], "torchcell"),
    ],
)
def test_default_package_exists_in_the_repository(plain_template, tmp_path, monkeypatch, modules, package):
    root = tmp_path / "a [lab] * ?"
    for module in modules:
        (root / module).parent.mkdir(parents=True)
        (root / module).touch()
    (root / "experiments").mkdir(parents=True)
    monkeypatch.chdir(root / "experiments")
    for destination in (root / "experiments/011-x", Path("012-y"), Path("../experiments/013-z")):
        experiment = render(plain_template, destination)
        assert yaml.safe_load((experiment / ".copier-answers.yml").read_text())["package"] == package


@pytest.mark.parametrize("package", ["", "torchcell", "src/torchcell"])
def test_new_experiment_saves_a_figure_without_edits(lab, package):
    shutil.rmtree(lab.path / "torchcell")
    if package:
        (lab.path / package).mkdir(parents=True)
        (lab.path / package / "timestamp.py").write_text("def timestamp():\n    return '2025-05-10-16-57-03'\n")
    render(lab.template, lab.path / "experiments/012-random")
    done = lab.start("random_run_gh_000", name="012-random", script="random_run")
    assert done.returncode == 0, done.stderr
    [figure] = lab.images.iterdir()
    assert ("2025-05-10-16-57-03" in figure.name) == bool(package)


def test_script_query_requires_queries(plain_template, tmp_path):
    with pytest.raises(ValueError, match="must be yes, because runs contains the script query"):
        render(plain_template, tmp_path / "011-x", runs={"query": ["gh_001"]}, queries=False)


@pytest.mark.parametrize("name", ["job-name", "output", "error", "chdir", "wrap", "open-mode", "parsable"])
def test_options_of_the_template_are_refused(plain_template, tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is set by the template. Remove it"):
        render(plain_template, tmp_path / "011-x", runs={"x": [{"gh_000": {name: "a"}}]})


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ("mem", ["mem-per-cpu", "mem-per-gpu"]),
        ("cpus-per-task", ["cpus-per-gpu", "tres-per-task"]),
        ("gres", ["gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"]),
    ],
)
def test_request_replaces_exclusive_options(plain_template, tmp_path, own, others):
    entries = [{f"gh_{number:03}": {name: "1"}} for number, name in enumerate(others)]
    runs = {"x": [*entries, {"gh_009": {others[0]: None}}]}
    experiment = render(plain_template, tmp_path / "011-x", runs=runs)
    *launchers, unchanged = sorted(experiment.glob("scripts/*.slurm"))
    assert f"#SBATCH --{own}=" in unchanged.read_text() and f"--{others[0]}=" not in unchanged.read_text()
    for launcher, name in zip(launchers, others, strict=True):
        text = launcher.read_text()
        assert f"#SBATCH --{name}=1\n" in text and f"#SBATCH --{own}=" not in text
