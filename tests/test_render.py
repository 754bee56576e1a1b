"""Rendered files: their names, content and style for many answers."""

import ast
import os
import re
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from support.lab import make_lab
from support.process import commit, git, run
from support.template import MACHINES, ROOT, copy_template

LAYOUT = {
    ".copier-answers.yml",
    ".gitignore",
    "AGENTS.md",
    "CLAUDE.md",
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
    "scripts/runtime/again.sh",
    "scripts/runtime/arguments.sh",
    "scripts/runtime/arrays.sh",
    "scripts/runtime/campaign.py",
    "scripts/runtime/changes.py",
    "scripts/runtime/check.py",
    "scripts/runtime/checks.sh",
    "scripts/runtime/claim.py",
    "scripts/runtime/environment.py",
    "scripts/runtime/figure_metadata.py",
    "scripts/runtime/figures.py",
    "scripts/runtime/files.py",
    "scripts/runtime/grid.py",
    "scripts/runtime/hydra_help.py",
    "scripts/runtime/hydra_yaml.py",
    "scripts/runtime/inputs.py",
    "scripts/runtime/legs.sh",
    "scripts/runtime/locks.py",
    "scripts/runtime/metrics.py",
    "scripts/runtime/optuna_journal.py",
    "scripts/runtime/optuna_study.py",
    "scripts/runtime/parent.py",
    "scripts/runtime/parquet.py",
    "scripts/runtime/paths.py",
    "scripts/runtime/pin.sh",
    "scripts/runtime/point.py",
    "scripts/runtime/point.sh",
    "scripts/runtime/point_claims.py",
    "scripts/runtime/preflight/__init__.py",
    "scripts/runtime/preflight/children.py",
    "scripts/runtime/preflight/composition.py",
    "scripts/runtime/preflight/configs.py",
    "scripts/runtime/preflight/findings.py",
    "scripts/runtime/preflight/points.py",
    "scripts/runtime/preflight/script.py",
    "scripts/runtime/preflight/source.py",
    "scripts/runtime/process.py",
    "scripts/runtime/record.py",
    "scripts/runtime/report.sh",
    "scripts/runtime/requirements.py",
    "scripts/runtime/ruff.toml",
    "scripts/runtime/run.py",
    "scripts/runtime/savefig.py",
    "scripts/runtime/sharing.py",
    "scripts/runtime/signals.py",
    "scripts/runtime/sweep_figures.py",
    "scripts/runtime/tables.py",
    "scripts/runtime/tracking.py",
    "scripts/runtime/usage.py",
    "scripts/submit.sh",
    "scripts/x.py",
    "slurm/output/.gitkeep",
}
NEW = [name for name, machine in MACHINES.items() if not machine.get("retired")]
EVERY_RUN = {"x": [f"{machine}_{number:03}" for number, machine in enumerate(NEW)], "y_2": ["gh_000"]}
EVERY_MODE = {
    "x": [
        "gh-ddp_000",
        {"gh-srun_001": {"ntasks": 2}},
        {"gh-pack_002": {"ntasks": 2}},
        {"gh-pack_optuna": {"ntasks": 2}},
        {"delta-pack_wandb": {"ntasks": 2}},
        "desk_003",
        "desk_optuna",
        "gh_optuna_r2",
    ],
    "cgt": ["gh", "desk", "igb_mmli-ddp", {"gh-pack": {"ntasks": 2}}],
    "query": ["gh_001", "desk_002"],
}
EVERY_REQUEST = {
    "x": [
        {"gh_000": {"mem-per-cpu": "2g", "gres": None, "comment": "a b # c"}},
        {"gh_001_test": {"mem": None, "gpus": 2, "time": "0-01:00:00", "zzz": 1, "constraint": "scratch&v100"}},
        {"delta_002": {"exclusive": True, "array": "0-3", "nodes": 2, "account": None}},
        {"slurm_optuna": {"array": "0-1", "requeue": None, "mail-type": "ALL"}},
    ],
}
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
    {"runs": EVERY_MODE},
    {"runs": EVERY_REQUEST, "user_email": "ada@example.org"},
]
together = pytest.mark.xdist_group("every option")  # one process renders them all


@pytest.fixture
def rendered(copie, template):
    """Return a function that renders an experiment by pytest-copie."""

    def render(experiment="011-x", **answers):
        result = copie.copy({"experiment": experiment, **answers}, template.path)
        assert result.exception is None, result.exception
        assert {"experiment": experiment, **answers}.items() <= result.answers.items()
        return result.project_dir

    return render


def files(experiment):
    return {path.relative_to(experiment).as_posix() for path in experiment.rglob("*") if path.is_file()}


def test_default_experiment_has_the_documented_layout(rendered):
    """The experiment has a timestamp.py of its own if the repository has no package with one."""
    assert files(rendered(queries=True)) == LAYOUT | {"scripts/timestamp.py"}


def test_answers_add_and_remove_files(rendered):
    bare = rendered(queries=False, package="torchcell")
    assert files(bare) == LAYOUT - {"queries/001_small_build.cql", "scripts/query.py"}
    assert not (bare / "queries").exists()


# Every option ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_option(template, tmp_path_factory):
    """Return a lab with one experiment for each of OPTIONS."""
    lab = make_lab(tmp_path_factory.mktemp("options") / "lab", template)
    for number, answers in enumerate(OPTIONS):
        lab.render(f"{number:03}-x", **{"runs": {"x": ["gh_000"]}} | answers)
    return lab


def texts(lab, pattern="*"):
    """Yield the files of all experiments with their text."""
    for path in sorted((lab.path / "experiments").rglob(pattern)):
        if path.is_file():
            yield path, path.read_text()


@together
def test_files_are_well_formed(every_option):
    for path, text in texts(every_option):
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), path
        assert all(line == line.rstrip() for line in text.split("\n")), path
        if path.suffix == ".py":
            ast.parse(text)
        if path.suffix in (".yaml", ".yml"):
            assert isinstance(yaml.safe_load(text), dict), path


@together
def test_files_contain_no_jinja(every_option):
    for path, text in texts(every_option):
        own = text.replace("{{ 7 * 7 }}", "").replace("{% endraw %}", "")  # part of a title
        assert "{{ " not in own and "{% " not in own, path


def linted(paths, *command):
    """Run a linter and return its output, or nothing if it finds no problem."""
    done = run(*command, *paths, cwd=ROOT)
    return done.stdout + done.stderr if done.returncode else ""


@together
def test_python_of_the_template_is_clean(every_option, tmp_path):
    """Lines that make linters skip a file are removed first."""
    lab = every_option
    names = ["__init__.py", "query.py", "optuna_worker.py", "runtime/**/*.py"]
    paths = [path for name in names for path in sorted(lab.path.glob(f"experiments/*/scripts/{name}"))]
    assert len(paths) >= 20 * len(OPTIONS)
    for path in paths:
        copy = tmp_path / path.relative_to(lab.path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(re.sub("^# (ruff: noqa|fmt: off)\n", "", path.read_text(), flags=re.MULTILINE))
    style = ["--isolated", "--line-length=120"]
    assert linted([tmp_path], "ruff", "check", *style, "--select=B,E,F,I,UP,W") == ""
    assert linted([tmp_path], "ruff", "format", *style, "--check") == ""


LAB_STYLE = """\
[tool.ruff]
line-length = 88

[tool.ruff.lint]
select = ["D", "E", "F", "I", "W"]
"""


@together
@pytest.mark.parametrize(
    "options",
    [
        ["--force-exclude"],  # as pre-commit calls ruff, by the settings of pyproject.toml
        ["--force-exclude", "--line-length=88"],
        [],
    ],
    ids=" ".join,
)
def test_formatters_of_a_lab_change_no_rendered_file(every_option, tmp_path, options):
    lab = shutil.copytree(every_option.path, tmp_path / "lab")
    (lab / "pyproject.toml").write_text(LAB_STYLE)
    paths = sorted((lab / "experiments").rglob("*.py"))
    assert linted(paths, "ruff", "check", "--no-cache", "--fix", *options) == ""
    assert linted(paths, "ruff", "format", "--no-cache", *options) == ""
    assert git(lab, "status", "--porcelain") == "?? pyproject.toml\n"


@together
@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        ("conf/*.yaml", ["yamllint", "--strict", "--config-data", "{extends: .yamllint.yml, ignore: []}"]),
        ("*.slurm", ["shellcheck", "--shell=bash"]),
        ("submit.sh", ["shellcheck", "--external-sources", "--check-sourced", "--source-path=SCRIPTDIR"]),
    ],
)
def test_linters_find_nothing(every_option, pattern, command):
    paths = [path for path, _ in texts(every_option, pattern)]
    assert len(paths) >= len(OPTIONS)
    if pattern == "submit.sh":  # its parts are the same everywhere, and take shellcheck half a minute
        del paths[1:]
    assert linted(paths, *command) == ""


GOLDEN = Path(__file__).with_name("rendered.txt")


@together
def test_launchers_and_configurations_have_recorded_bytes(every_option):
    """A change of the rules changes no rendered byte, unless that is wanted: GOLDEN=write records the bytes again.

    GOLDEN=write .venv/bin/python -m pytest tests/test_render.py -k recorded_bytes
    """
    paths = [path for pattern in ("*.slurm", "conf/*.yaml") for path, _ in texts(every_option, pattern)]
    names = [path.relative_to(every_option.path / "experiments").as_posix() for path in paths]
    lines = [f"{sha256(path.read_bytes()).hexdigest()[:16]} {name}" for path, name in zip(paths, names, strict=True)]
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text("\n".join(lines) + "\n")
    assert lines == GOLDEN.read_text().splitlines()


@together
def test_files_are_not_ignored_by_git(every_option):
    lab = every_option
    names = [path for path, _ in texts(lab)]
    ignored = run("git", "check-ignore", "--no-index", "--stdin", cwd=lab.path, input="\n".join(map(str, names)))
    assert (ignored.returncode, ignored.stdout) == (1, "")
    assert git(lab.path, "ls-files", "experiments").count("\n") == len(names)
    assert git(lab.path, "status", "--porcelain") == ""


@together
def test_instructions_are_short_and_list_machines_with_rules(every_option):
    for path, text in texts(every_option, "AGENTS.md"):
        assert text.startswith(f"# How to work in experiments/{path.parent.name}\n") and text.count("\n") <= 60
        assert max(map(len, text.splitlines())) <= 120
        assert path.with_name("CLAUDE.md").read_text() == "@AGENTS.md\n"
        assert text.split("## Machines")[1].splitlines()[2:] == [
            "- a workstation without Slurm: `desk`",
            "- any Slurm cluster: `slurm`",
            "- GilaHyper: `gh`",
            "- IGB Biocluster: `igb_cabbi`, `igb_mmli`. Rules: no Python on login nodes; large files go to /scratch",
            "- NCSA Delta: `delta`",
        ]


@pytest.mark.parametrize("repository", ["https://github.com/lab/mono", ""])
def test_scripts_have_the_header(rendered, repository):
    runs = {"x": ["gh_000", "delta_wandb"], "y": ["gh_optuna"]}
    experiment = rendered(repository=repository, package="", runs=runs)
    scripts = [
        name
        for name in files(experiment)
        if name.startswith(("scripts/", "queries/"))
        and name != "scripts/__init__.py"
        and not name.startswith("scripts/runtime/")
    ]
    assert {"scripts/x.py", "scripts/gh_y_optuna.slurm", "scripts/optuna_worker.py"} < set(scripts)
    for name in scripts:
        comment = "//" if name.endswith(".cql") else "#"
        lines = [line for line in (experiment / name).read_text().splitlines() if not line.startswith("#!")]
        dotted = name.rsplit(".", 1)[0].replace("/", ".")
        expected = [f"{comment} experiments/011-x/{name}", f"{comment} [[experiments.011-x.{dotted}]]"]
        if repository:
            expected.append(f"{comment} {repository}/tree/main/experiments/011-x/{name}")
        assert lines[: len(expected)] == expected
        assert not repository or repository not in "\n".join(lines[len(expected) :])
        assert repository or "/tree/main/" not in "\n".join(lines)


def options_of(launcher):
    """Return the options in the #SBATCH lines of a launcher."""
    return re.findall(r"^#SBATCH (--.*)$", launcher.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("machine", NEW)
def test_launcher_requests_the_options_of_its_machine(rendered, machine):
    experiment = rendered("A011-x-y", runs={"x": [f"{machine}_007"]})
    label = machine.rsplit("_", 1)[-1]
    assert {name for name in files(experiment) if name.startswith("conf/")} == {
        "conf/default.yaml",
        "conf/runtime.yaml",
        f"conf/x_{label}_007.yaml",
    }
    launcher = experiment / f"scripts/{machine}_x_007.slurm"
    entry = MACHINES[machine]
    if entry.get("slurm", True):
        assert options_of(launcher) == [
            f"--job-name=A011-x_{label}_007",
            "--output=experiments/A011-x-y/slurm/output/%x_%j.out",
            "--open-mode=append",
            *(f"--{name}={value}" for name, value in entry["sbatch"].items()),
        ]
    else:
        assert options_of(launcher) == []
    text = launcher.read_text()
    assert text.count("\nset -e") == 1
    assert ("set -euo pipefail" in text) == (not entry.get("setup"))
    assert all(f"\n{line}\n" in text for line in entry.get("setup", []))
    assert f"python=(\n  {entry['python']}\n)\n" in text
    assert f"run=(\n  experiments/A011-x-y/scripts/x.py\n  --config-name x_{label}_007\n)\n" in text
    assert text.endswith('exec "${python[@]}" "${run[@]}" "$@"\n')
    assert ("export EXPERIMENT_MODE=one " in text) == entry.get("slurm", True)


def test_launcher_separates_options_by_comment_lines(rendered):
    experiment = rendered(runs={"x": ["delta_000"]}, user_email="ada@example.org")
    lines = (experiment / "scripts/delta_x_000.slurm").read_text().splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert len(options) > 3
    assert [lines[number + 1] for number in options[2:]] == ["#"] * len(options[2:])


def test_sweep_has_one_configuration_and_one_array(rendered):
    runs = {"x": ["igb_cabbi_001", "igb_mmli_optuna", "delta_wandb"]}
    experiment = rendered(package="", runs=runs)
    assert files(experiment) - LAYOUT == {
        "conf/x_cabbi_001.yaml",
        "conf/x_delta_wandb.yaml",
        "conf/x_delta_wandb_run.yaml",
        "conf/x_mmli_optuna.yaml",
        "scripts/delta_x_wandb.slurm",
        "scripts/igb_cabbi_x_001.slurm",
        "scripts/igb_mmli_x_optuna.slurm",
        "scripts/optuna_worker.py",
        "scripts/timestamp.py",
    }
    single, optuna, wandb = (
        experiment / f"scripts/{name}.slurm" for name in ("igb_cabbi_x_001", "igb_mmli_x_optuna", "delta_x_wandb")
    )
    assert {"--job-name=011-x_mmli_optuna", "--partition=mmli", "--requeue"} < set(options_of(optuna))
    array = {"--array=0-7%4", "--output=experiments/011-x/slurm/output/%x_%A_%a.out"}
    assert array < set(options_of(optuna)) and array < set(options_of(wandb))
    assert not [option for option in options_of(single) if option.startswith(("--array", "--requeue"))]
    optuna, wandb = (launcher.read_text().splitlines() for launcher in (optuna, wandb))
    number = optuna.index("run=(")
    assert optuna[number + 1 : number + 3] == [
        "  experiments/011-x/scripts/optuna_worker.py",
        "  --config-name x_mmli_optuna",
    ]
    assert wandb[-1] == 'exec "${python[@]}" -m wandb agent --count 1 "$SWEEP_ID"'


def test_starter_needs_no_key_of_default_yaml(lab):
    experiment = lab.render(runs={"x": ["gh_000"], "y": ["gh_000"]})
    (experiment / "conf/default.yaml").write_text("model: {hidden: 64}\n")
    done = lab.start("y_gh_000", script="y")
    assert done.returncode == 0, done.stderr
    assert list(lab.images.glob("011-y_gh_000_*.png"))


def test_user_owned_files_are_small(rendered):
    experiment = rendered(runs={"x": ["gh_000"], "y": ["delta_wandb"], "query": ["gh_001"]})
    assert len((experiment / "scripts/x.py").read_text().splitlines()) <= 90
    assert len((experiment / "conf/default.yaml").read_text().splitlines()) <= 15
    parameters = yaml.safe_load((experiment / "conf/x_gh_000.yaml").read_text())
    assert parameters.pop("defaults") == ["runtime", "default", "_self_"]
    assert len(parameters) <= 8
    assert len((experiment / "README.md").read_text().splitlines()) <= 40


def test_readme_of_many_runs_is_short(rendered):
    runs = {name: [f"gh_{number:03}" for number in range(20)] for name in ("x", "y")}
    readme = (rendered(runs=runs) / "README.md").read_text()
    assert len(readme.splitlines()) <= 40


def test_readme_omits_missing_runs_and_queries(rendered):
    experiment = rendered(runs={}, queries=False)
    readme = (experiment / "README.md").read_text()
    assert "submit.sh" not in readme and "query" not in readme and "sweep" not in readme.lower()
    assert not list((experiment / "scripts").glob("*.slurm"))


def test_gitignore_covers_logs_profiles_and_rejects(lab):
    experiment = lab.render()
    names = [
        "slurm/output/a.out",
        "slurm/code/a.py",
        "slurm/submitted/a/words",
        "profiling_results/a.prof",
        "conf/x.rej",
        "scripts/__pycache__/a.pyc",
    ]
    for name in names:
        (experiment / name).parent.mkdir(parents=True, exist_ok=True)
        (experiment / name).touch()
    assert git(experiment, "check-ignore", *names).split() == names
    (experiment / "results/a.csv").touch()
    assert git(lab.path, "status", "--porcelain") == "?? experiments/011-x/results/a.csv\n", "results are committed"


def test_renders_are_deterministic(rendered):
    one, two = (rendered(runs=EVERY_RUN) for _ in range(2))
    assert {name: (one / name).read_bytes() for name in files(one)} == {
        name: (two / name).read_bytes() for name in files(two)
    }


def test_repository_path_may_have_spaces_and_brackets(tmp_path):
    (tmp_path / "t [x] é").mkdir()
    lab = make_lab(tmp_path / "lab [1] é", copy_template(tmp_path / "t [x] é"))
    experiment = lab.render()
    assert files(experiment) == LAYOUT
    commit(lab.path)
    assert lab.start().returncode == 0
