"""Render: the files, their names and their content are those that the design and the answers say."""

import ast
import re

import pytest
import yaml
from support.lab import make_lab
from support.process import commit, git, run
from support.template import MACHINES, ROOT, copy_template

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
    "scripts/runtime/arguments.sh",
    "scripts/runtime/check.py",
    "scripts/runtime/checks.sh",
    "scripts/runtime/claim.py",
    "scripts/runtime/environment.py",
    "scripts/runtime/figures.py",
    "scripts/runtime/files.py",
    "scripts/runtime/hydra_help.py",
    "scripts/runtime/inputs.py",
    "scripts/runtime/locks.py",
    "scripts/runtime/optuna_journal.py",
    "scripts/runtime/optuna_study.py",
    "scripts/runtime/paths.py",
    "scripts/runtime/pin.sh",
    "scripts/runtime/preflight/__init__.py",
    "scripts/runtime/preflight/children.py",
    "scripts/runtime/preflight/composition.py",
    "scripts/runtime/preflight/findings.py",
    "scripts/runtime/preflight/script.py",
    "scripts/runtime/preflight/source.py",
    "scripts/runtime/process.py",
    "scripts/runtime/record.py",
    "scripts/runtime/requirements.py",
    "scripts/runtime/run.py",
    "scripts/runtime/signals.py",
    "scripts/runtime/tables.py",
    "scripts/runtime/tracking.py",
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
    ],
    "query": ["gh_001", "desk_002"],
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
]
together = pytest.mark.xdist_group("every option")  # which one process renders


@pytest.fixture
def rendered(copie, template):
    """Renders an experiment with some answers by pytest-copie."""

    def render(experiment="011-x", **answers):
        result = copie.copy({"experiment": experiment, **answers}, template.path)
        assert result.exception is None, result.exception
        assert {"experiment": experiment, **answers}.items() <= result.answers.items()
        return result.project_dir

    return render


def files(experiment):
    return {path.relative_to(experiment).as_posix() for path in experiment.rglob("*") if path.is_file()}


def test_the_default_experiment_has_the_layout_of_the_design(rendered):
    """Where the repository has no package with a timestamp, the experiment has its own."""
    assert files(rendered()) == LAYOUT | {"scripts/timestamp.py"}


def test_options_add_and_remove_files(rendered):
    bare = rendered(queries=False, package="torchcell")
    assert files(bare) == LAYOUT - {"queries/001_small_build.cql", "scripts/query.py"}
    assert not (bare / "queries").exists()


# Every option ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_option(template, tmp_path_factory):
    """A lab with an experiment of each of OPTIONS."""
    lab = make_lab(tmp_path_factory.mktemp("options") / "lab", template)
    for number, answers in enumerate(OPTIONS):
        lab.render(f"{number:03}-x", **{"runs": {"x": ["gh_000"]}} | answers)
    return lab


def texts(lab, pattern="*"):
    """The files of all experiments, and as text."""
    for path in sorted((lab.path / "experiments").rglob(pattern)):
        if path.is_file():
            yield path, path.read_text()


@together
def test_every_file_is_well_formed(every_option):
    for path, text in texts(every_option):
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), path
        assert all(line == line.rstrip() for line in text.split("\n")), path
        if path.suffix == ".py":
            ast.parse(text)
        if path.suffix in (".yaml", ".yml"):
            assert isinstance(yaml.safe_load(text), dict), path


@together
def test_nothing_of_jinja_is_left(every_option):
    for path, text in texts(every_option):
        own = text.replace("{{ 7 * 7 }}", "").replace("{% endraw %}", "")  # of a title
        assert "{{ " not in own and "{% " not in own, path


@together
@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--isolated", "--select=B,E,F,I,UP,W", "--line-length=120"],
        ["ruff", "format", "--isolated", "--check", "--line-length=120"],
        ["yamllint", "--strict", "--config-data", "{extends: .yamllint.yml, ignore: []}"],
        ["shellcheck", "--shell=bash", "--external-sources", "--check-sourced", "--source-path=SCRIPTDIR"],
    ],
    ids=" ".join,
)
def test_no_linter_finds_anything(every_option, command):
    patterns = {"ruff": ["*.py"], "yamllint": ["conf/*.yaml"], "shellcheck": ["*.slurm", "submit.sh"]}[command[0]]
    paths = [path for pattern in patterns for path, _ in texts(every_option, pattern)]
    assert len(paths) >= len(OPTIONS)
    linted = run(*command, *paths, cwd=ROOT)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@together
def test_no_file_is_ignored(every_option):
    lab = every_option
    names = [path for path, _ in texts(lab)]
    ignored = run("git", "check-ignore", "--no-index", "--stdin", cwd=lab.path, input="\n".join(map(str, names)))
    assert (ignored.returncode, ignored.stdout) == (1, "")
    assert git(lab.path, "ls-files", "experiments").count("\n") == len(names)
    assert git(lab.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("repository", ["https://github.com/lab/mono", ""])
def test_every_script_has_the_header_of_the_lab(rendered, repository):
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
    """The lines of #SBATCH of a launcher, as Slurm takes them."""
    return re.findall(r"^#SBATCH (--.*)$", launcher.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("machine", NEW)
def test_a_launcher_asks_for_what_lab_yml_says(rendered, machine):
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


def test_between_two_options_stands_a_line_that_nothing_changes(rendered):
    experiment = rendered(runs={"x": ["delta_000"]}, user_email="ada@example.org")
    lines = (experiment / "scripts/delta_x_000.slurm").read_text().splitlines()
    options = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert len(options) > 3
    assert [lines[number + 1] for number in options[2:]] == ["#"] * len(options[2:])


def test_a_sweep_is_one_configuration_and_one_launcher_that_is_an_array(rendered):
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


def test_a_script_added_later_needs_no_key_of_default_yaml(lab):
    experiment = lab.render(runs={"x": ["gh_000"], "y": ["gh_000"]})
    (experiment / "conf/default.yaml").write_text("model: {hidden: 64}\n")
    done = lab.start("y_gh_000", script="y")
    assert done.returncode == 0, done.stderr
    assert list(lab.images.glob("011-y_gh_000_*.png"))


def test_what_people_replace_is_small(rendered):
    experiment = rendered(runs={"x": ["gh_000"], "y": ["delta_wandb"], "query": ["gh_001"]})
    assert len((experiment / "scripts/x.py").read_text().splitlines()) <= 60
    assert len((experiment / "conf/default.yaml").read_text().splitlines()) <= 15
    parameters = yaml.safe_load((experiment / "conf/x_gh_000.yaml").read_text())
    assert parameters.pop("defaults") == ["runtime", "default", "_self_"]
    assert len(parameters) <= 8
    assert len((experiment / "README.md").read_text().splitlines()) <= 40


def test_a_readme_with_many_runs_is_still_short(rendered):
    runs = {name: [f"gh_{number:03}" for number in range(20)] for name in ("x", "y")}
    readme = (rendered(runs=runs) / "README.md").read_text()
    assert len(readme.splitlines()) <= 40


def test_an_experiment_without_runs_or_queries_says_nothing_of_them(rendered):
    experiment = rendered(runs={}, queries=False)
    readme = (experiment / "README.md").read_text()
    assert "submit.sh" not in readme and "query" not in readme and "sweep" not in readme.lower()
    assert not list((experiment / "scripts").glob("*.slurm"))


def test_logs_profiles_and_rejects_are_ignored(lab):
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


def test_two_renders_of_one_answer_are_equal(rendered):
    one, two = (rendered(runs=EVERY_RUN) for _ in range(2))
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
