"""Render: the files, their names and their content are those that the design and the answers say."""

import ast
import subprocess

import pytest
import yaml
from support.lab import make_lab
from support.process import commit, git, run
from support.template import MACHINES, ROOT, copy_template, render

LAYOUT = {
    ".copier-answers.yml",
    ".gitignore",
    "README.md",
    "conf/default.yaml",
    "conf/runtime.yaml",
    "conf/x_gh_000.yaml",
    "profiling_results/.gitkeep",
    "queries/001_small_build.cql",
    "results/.gitkeep",
    "scripts/__init__.py",
    "scripts/gh_x_000.slurm",
    "scripts/query.py",
    "scripts/runtime/__init__.py",
    "scripts/runtime/check.py",
    "scripts/runtime/environment.py",
    "scripts/runtime/files.py",
    "scripts/runtime/place.py",
    "scripts/runtime/record.py",
    "scripts/runtime/run.py",
    "scripts/submit.sh",
    "scripts/x.py",
    "slurm/output/.gitkeep",
}
NEW = [name for name, machine in MACHINES.items() if not machine.get("retired")]
EVERY_RUN = {"x": [f"{machine}_{number:03}" for number, machine in enumerate(NEW)], "y_2": ["gh_000"]}
OPTIONS = [
    {},
    {"package": ""},
    {"repository": ""},
    {"user_email": "ada.l+jobs@mail.example.org"},
    {"queries": False},
    {"title": "Épistasie: \"ΔΔ\" {{ 7 * 7 }} # {% endraw %} \\n 'x' 酵母 `id` $HOME <!-- $x$"},
    {"runs": EVERY_RUN},
    {"runs": EVERY_RUN, "package": "", "repository": "", "user_email": "ada@example.org", "queries": False},
    {"runs": {"x": ["gh_000", "igb_mmli_optuna", "delta_wandb"], "y": ["gh_optuna"], "z": ["slurm_wandb"]}},
    {"runs": {"x": ["igb_cabbi_optuna"]}, "package": "", "repository": ""},
]


@pytest.fixture(autouse=True)
def template_of_copie(request, template):
    """pytest-copie renders the copy that holds the uncommitted changes, without Copier's warning of them."""
    request.config.option.template = str(template.path)


def files(experiment):
    return {path.relative_to(experiment).as_posix() for path in experiment.rglob("*") if path.is_file()}


def test_the_default_experiment_has_the_layout_of_the_design(copie):
    copied = copie.copy(extra_answers={"experiment": "011-x"})
    assert copied.exit_code == 0, copied.exception
    assert files(copied.project_dir) == LAYOUT


def test_options_add_and_remove_files(copie):
    bare = copie.copy(extra_answers={"experiment": "011-x", "queries": False, "package": ""})
    assert files(bare.project_dir) == LAYOUT - {"queries/001_small_build.cql", "scripts/query.py"} | {
        "scripts/timestamp.py"
    }
    assert not (bare.project_dir / "queries").exists()


@pytest.mark.parametrize("answers", OPTIONS, ids=lambda answers: "+".join(answers) or "defaults")
def test_every_rendered_file_is_well_formed(template, tmp_path, answers):
    experiment = render(template, tmp_path / "011-x", **{"runs": {"x": ["gh_000"]}} | answers)
    for name in files(experiment):
        text = (experiment / name).read_text()
        if "title" not in answers:
            assert "{%" not in text and "{{" not in text, name
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), name
        assert all(line == line.rstrip() for line in text.split("\n")), name
        if name.endswith(".py"):
            ast.parse(text)
        if name.endswith((".yaml", ".yml")):
            assert isinstance(yaml.safe_load(text), dict)
    launchers = sorted((experiment / "scripts").glob("*.slurm"))
    for command in (
        ["ruff", "check", "--isolated", "--select=B,E,F,I,UP,W", "--line-length=120", experiment],
        ["ruff", "format", "--isolated", "--check", "--line-length=120", experiment],
        ["yamllint", "--strict", "--config-file", ROOT / ".yamllint.yml", experiment / "conf"],
        ["shellcheck", "--shell=bash", *launchers, experiment / "scripts/submit.sh"],
        *(["bash", "-n", launcher] for launcher in launchers),
    ):
        linted = run(*command)
        assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("repository", ["https://github.com/lab/mono", ""])
def test_every_script_has_the_header_of_the_lab(template, tmp_path, repository):
    experiment = render(
        template,
        tmp_path / "011-x",
        repository=repository,
        package="",
        runs={"x": ["gh_000", "delta_wandb"], "y": ["gh_optuna"]},
    )
    scripts = [
        name for name in files(experiment) if name.startswith(("scripts/", "queries/")) and "__init__" not in name
    ]
    assert len(scripts) == 12
    for name in scripts:
        comment = "//" if name.endswith(".cql") else "#"
        lines = [line for line in (experiment / name).read_text().splitlines() if not line.startswith("#!")]
        dotted = name.rsplit(".", 1)[0].replace("/", ".")
        expected = [f"{comment} experiments/011-x/{name}", f"{comment} [[experiments.011-x.{dotted}]]"]
        if repository:
            expected.append(f"{comment} {repository}/tree/main/experiments/011-x/{name}")
        assert lines[: len(expected)] == expected
        assert not repository or repository not in "\n".join(lines[len(expected) :])
        assert repository or "http" not in "\n".join(lines)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_launcher_asks_for_what_machines_yml_says(template, tmp_path, machine):
    experiment = render(template, tmp_path / "A011-x-y", runs={"x": [f"{machine}_007"]})
    label = machine.rsplit("_", 1)[-1]
    assert {name for name in files(experiment) if name.startswith("conf/")} == {
        "conf/default.yaml",
        f"conf/x_{label}_007.yaml",
    }
    lines = (experiment / f"scripts/{machine}_x_007.slurm").read_text().splitlines()
    directives = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH")
    )
    entry = MACHINES[machine]
    asked = {
        "partition": "partition",
        "account": "account",
        "cpus": "cpus-per-task",
        "mem": "mem",
        "gres": "gres",
        "time": "time",
    }
    assert directives == {option: str(entry[field]) for field, option in asked.items() if field in entry} | {
        "job-name": f"A011-x_{label}_007",
        "output": "experiments/A011-x-y/slurm/output/%x_%j.out",
        "open-mode": "append",
        "requeue": "",
    }
    commands = lines[lines.index("") + 1 :]
    assert commands == [
        "set -eo pipefail",
        *entry.get("setup", []),
        "set -u",
        "export PYTHONUNBUFFERED=1 # the log has at once what is printed",
        f"exec {entry['python']} \\",
        f"  experiments/A011-x-y/scripts/x.py --config-name x_{label}_007",
    ]


def test_a_sweep_is_one_configuration_and_one_launcher_that_is_an_array(template, tmp_path):
    runs = {"x": ["igb_cabbi_001", "igb_mmli_optuna", "delta_wandb"]}
    experiment = render(template, tmp_path / "011-x", package="", runs=runs)
    assert files(experiment) - LAYOUT == {
        "conf/x_cabbi_001.yaml",
        "conf/x_delta_wandb.yaml",
        "conf/x_mmli_optuna.yaml",
        "scripts/delta_x_wandb.slurm",
        "scripts/igb_cabbi_x_001.slurm",
        "scripts/igb_mmli_x_optuna.slurm",
        "scripts/optuna_study.py",
        "scripts/optuna_worker.py",
        "scripts/timestamp.py",
    }
    single, optuna, wandb = (
        (experiment / f"scripts/{name}.slurm").read_text().splitlines()
        for name in ("igb_cabbi_x_001", "igb_mmli_x_optuna", "delta_x_wandb")
    )
    assert "#SBATCH --job-name=011-x_mmli_optuna" in optuna and "#SBATCH --partition=mmli" in optuna
    for lines in (optuna, wandb):
        assert "#SBATCH --array=0-7%4" in lines
        assert "#SBATCH --output=experiments/011-x/slurm/output/%x_%A_%a.out" in lines
    assert "array" not in "\n".join(single)
    assert optuna[-1] == "  experiments/011-x/scripts/optuna_worker.py --config-name x_mmli_optuna"
    assert wandb[-1] == '  -m wandb agent --count 1 "$SWEEP_ID"'
    assert '"wandb' in (experiment / "scripts/x.py").read_text().split("# ///\n")[0]


def test_machines_are_plain_strings_and_numbers_with_known_fields_only():
    fields = {"cluster", "partition", "account", "cpus", "mem", "gres", "time", "setup", "python"}
    comments = [line[4:].split()[0] for line in (ROOT / "lab.yml").read_text().splitlines() if line.startswith("#   ")]
    assert set(comments) == fields
    for name, entry in MACHINES.items():
        assert set(entry) <= fields, name
        assert {"cluster", "cpus", "mem", "time", "python"} <= set(entry), name
        assert isinstance(entry["cpus"], int)
        assert all(isinstance(entry[field], str) for field in set(entry) - {"cpus", "setup"}), name
        assert "/home/" not in str(entry)
    assert MACHINES["delta"]["account"] == "bfjt-delta-gpu"


def test_a_machine_is_added_by_one_entry(own_template, tmp_path):
    own_template.release(
        "v1.1.0",
        [
            (
                "lab.yml",
                "\nslurm:\n",
                "\nmars:\n  cluster: Mars\n  partition: red\n  cpus: 1\n"
                "  mem: 1g\n  time: 0-01:00:00\n  python: python3\n\nslurm:\n",
            )
        ],
    )
    from copier import run_copy

    run_copy(str(own_template.path), tmp_path / "011-x", data={"runs": {"x": ["mars_000"]}}, defaults=True, quiet=True)
    launcher = (tmp_path / "011-x/scripts/mars_x_000.slurm").read_text()
    assert "#SBATCH --partition=red\n" in launcher and launcher.endswith(
        "exec python3 \\\n  experiments/011-x/scripts/x.py --config-name x_mars_000\n"
    )


def test_the_names_of_experiment_010_come_from_its_runs(template, tmp_path):
    model = "equivariant_cell_graph_transformer"
    experiment = render(
        template,
        tmp_path / "010-kuzmin-tmi",
        runs={
            model: ["igb_cabbi_000", "igb_mmli_001", "igb_cabbi_002", "igb_mmli_003"],
            f"{model}_inference_1": ["gh_006"],
            "select_12_and_24_genes_top_triples": ["gh_000"],
        },
    )
    rendered = files(experiment)
    assert {
        f"conf/{model}_cabbi_000.yaml",
        f"conf/{model}_mmli_001.yaml",
        f"conf/{model}_cabbi_002.yaml",
        f"conf/{model}_mmli_003.yaml",
        f"scripts/igb_cabbi_{model}_000.slurm",
        f"scripts/igb_mmli_{model}_001.slurm",
        f"scripts/igb_cabbi_{model}_002.slurm",
        f"scripts/igb_mmli_{model}_003.slurm",
        f"scripts/{model}.py",
        f"scripts/{model}_inference_1.py",
        f"scripts/gh_{model}_inference_1_006.slurm",
        "scripts/select_12_and_24_genes_top_triples.py",
        "scripts/gh_select_12_and_24_genes_top_triples_000.slurm",
        "queries/001_small_build.cql",
    } <= rendered
    assert sum(name.endswith(".slurm") for name in rendered) == 6
    assert sum(name.startswith("conf/") for name in rendered) == 7


def test_no_rendered_file_is_ignored(lab):
    for number, answers in enumerate(OPTIONS):
        experiment = lab.render(f"{number:03}-x", **answers)
        ignored = subprocess.run(
            ["git", "check-ignore", "--no-index", "--stdin"],
            input="\n".join(sorted(files(experiment))),
            cwd=experiment,
            capture_output=True,
            text=True,
        )
        assert (ignored.returncode, ignored.stdout) == (1, "")
        assert git(lab.path, "ls-files", experiment).count("\n") == len(files(experiment))
    assert git(lab.path, "status", "--porcelain") == ""


def test_logs_results_profiles_and_rejects_are_ignored(lab):
    experiment = lab.render()
    names = [
        "slurm/output/a.out",
        "results/a.csv",
        "profiling_results/a.prof",
        "conf/x.rej",
        "scripts/__pycache__/a.pyc",
    ]
    for name in names:
        (experiment / name).parent.mkdir(exist_ok=True)
        (experiment / name).touch()
    assert git(experiment, "check-ignore", *names).split() == names


def test_two_renders_of_one_answer_are_equal(template, tmp_path):
    one, two = (render(template, tmp_path / folder / "011-x", runs=EVERY_RUN) for folder in "ab")
    assert {name: (one / name).read_bytes() for name in files(one)} == {
        name: (two / name).read_bytes() for name in files(two)
    }


def test_a_repository_whose_path_has_spaces_and_brackets(tmp_path):
    (tmp_path / "t [x] é").mkdir()
    lab = make_lab(tmp_path / "lab [1] é", copy_template(tmp_path / "t [x] é"))
    experiment = lab.render()
    assert files(experiment) == LAYOUT
    commit(lab.path)
    assert lab.start().returncode == 0
