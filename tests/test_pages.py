"""README.md and docs/*.md: links resolve, and each page works when typed from top to bottom."""

import json
import os
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest
import yaml
from support.document import TYPED, Reader, blocks, commands
from support.lab import fake_programs
from support.process import edit, git
from support.template import QUESTIONS, ROOT

from experiments.template import Release

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
TOO_SLOW = {"docs/measured.md"}  # `make bench` takes minutes


def anchors(page):
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda path: path.name)
def test_page_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", page.read_text()):
        target = "".join(target)
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            linked = page.parent / name if name else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: {target}"


def test_page_commands_are_run_by_some_test():
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("*.py"))
    typed = TOO_SLOW | set(re.findall(r'read\("([^"]+)"', tests))
    assert typed == {page for page in PAGES if any(block.language in TYPED for block in blocks(page))}


def test_page_readme_works_in_an_empty_repository(own_template, slurm, tmp_path):
    repository = tmp_path / "lab"
    repository.mkdir()
    git(repository, "init", "--quiet")
    Reader(repository, own_template.path, fake_programs(tmp_path / "home", idle=True)).read("README.md")
    assert list((repository / "images").glob("011-growth_slurm_000_*.png"))
    tree = re.findall(r"── (\S+)", (ROOT / "README.md").read_text())
    there = {path.name for path in (repository / "experiments/011-growth").rglob("*")} | {".copier-answers.yml"}
    assert tree and set(tree) <= there
    slurm("scancel", "--user", str(os.getuid()))


def test_page_readme_installs_what_a_starter_declares(lab):
    typed = [shlex.split(command) for block in blocks("README.md") for command in commands(block.text)]
    [installed] = [words[2:] for words in typed if words[:2] == ["pip", "install"]]
    starter = (lab.render() / "scripts/x.py").read_text()
    [declared] = re.findall(r"^# dependencies = \[(.*?)\]$", starter, re.MULTILINE | re.DOTALL)
    names = [re.match("[a-z-]+", word)[0] for word in installed]
    assert sorted(names) == sorted(["copier", *re.findall(r'"([a-z-]+)', declared)])


def test_page_runs_works_and_lists_its_files(lab, own_template, slurm):
    """The table lists the runs of the first command and of `add-run`."""
    Reader(lab.path, own_template.path, fake_programs(lab.path.parent / "home")).read("docs/runs.md")
    slurm("scancel", "--user", str(os.getuid()))
    table = (ROOT / "docs/runs.md").read_text()
    rows = set(re.findall(r"^\| `(.*)` of `(.*)` \| `(.*)` \| `(.*)` \|$", table, re.MULTILINE))
    experiment = lab.path / "experiments/012-yeast"
    assert "--time=0-12:00:00" in (experiment / "scripts/igb_cabbi_growth_001.slurm").read_text()
    answers = yaml.safe_load((experiment / ".copier-answers.yml").read_text())
    runs = Release("v1.0.0", "", own_template.path).parse_runs(answers, answers["runs"])
    names = {(run.token, run.script, f"conf/{run.config}.yaml", f"scripts/{run.launcher}.slurm") for run in runs}
    assert rows == names
    assert all((experiment / name).is_file() for row in rows for name in row[2:])


def test_page_runs_lists_every_question():
    table = (ROOT / "docs/runs.md").read_text().split("## Questions")[1]
    assert re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE) == list(QUESTIONS)


def test_page_campaigns_works(lab, own_template, slurm):
    reader = Reader(lab.path, own_template.path, fake_programs(lab.path.parent / "home", idle=True))
    missing = []

    def read_summary(command):
        if "submit.sh" in command:
            missing.extend(re.findall(r"^  points (.*?):", reader.printed, flags=re.MULTILINE))
            slurm("scancel", "--user", str(os.getuid()))

    reader.read("docs/campaigns.md", read_summary)
    assert [line.split(",")[0] for line in missing] == ["12 of 12", "12 of 12", "2 of 12", "3 of 4"]
    record = lab.data / "experiments/014-growth/runs/cgt/kl-1_0/provenance.json"
    assert json.loads(record.read_text())["overrides"] == ["penalty=1", "seed=0"]


def test_page_submitting_works(lab, own_template, slurm):
    lab.render("011-growth")
    Reader(lab.path, own_template.path, fake_programs(lab.path.parent / "home", idle=True)).read("docs/submitting.md")
    slurm("scancel", "--user", str(os.getuid()))


def test_page_legs_works(lab, own_template, slurm):
    """The documented run pauses before a real limit of one minute, and the next leg finishes it."""
    lab.render("011-growth")
    reader = Reader(lab.path, own_template.path, fake_programs(lab.path.parent / "home"))
    reader.read("docs/legs.md")
    legs = [reader.known[f"job {number}"] for number in (686, 687, 688)]
    assert [slurm.wait(leg)["JobState"] for leg in legs] == ["COMPLETED"] * 3
    [path] = lab.data.glob("experiments/011-growth/runs/steps_gh_000/*/provenance.json")
    record = json.loads(path.read_text())
    attempts = [(attempt["job"], attempt["status"]) for attempt in record["attempts"]]
    assert attempts == [(legs[0], "paused"), (legs[1], "finished")]
    assert record["metrics"] == {"done": 40}
    [run] = json.loads(reader.succeed("experiments list 011 --config steps_gh_000 --json"))[0]["runs"]
    assert (run["state"], run["job"]) == ("finished", legs[0])


def test_page_first_figure_works(lab, own_template):
    Reader(lab.path, own_template.path).read("docs/first-figure.md")


def test_page_own_script_works(lab, own_template, slurm):
    experiment = lab.render("011-growth")
    reader = Reader(lab.path, own_template.path, fake_programs(lab.path.parent / "home"))
    reader.read("docs/own-script.md")
    assert (experiment / "results/decay_gh_000.csv").read_text().startswith("rate,left\n0.5,0.00247")
    assert "dose --rate 0.5" in reader.printed


def test_page_figures_works(lab, own_template):
    experiment = lab.render("011-growth")
    reader = Reader(lab.path, own_template.path)
    reader.read("docs/figures.md")
    assert "figure: " in reader.printed and "dose_gh_000" in reader.printed
    assert (experiment / "results/dose_gh_000.csv").read_text() == "dose,growth\n0,1.0\n2,0.2\n"


@pytest.mark.parametrize("page, name", [("figures", "dose"), ("own-script", "decay")])
def test_page_has_a_script_for_any_repository(lab, page, name):
    """The pages are typed in a repository with the lab's package. This one has none."""
    shutil.rmtree(lab.path / "torchcell")
    experiment = lab.render("011-growth")
    for block in blocks(f"docs/{page}.md"):
        if block.file and Path(block.file).stem in (name, f"{name}_gh_000"):
            (lab.path / block.file).write_text(block.text)
    config = f"{name}_gh_000" if (experiment / f"conf/{name}_gh_000.yaml").exists() else "growth_gh_000"
    done = lab.start(config, name="011-growth", script=name)
    assert done.returncode == 0, done.stderr
    assert (experiment / "scripts/timestamp.py").exists() and list(lab.images.glob(f"011-{config}_20*.png"))


def test_page_figures_shows_the_resume_example_of_run(lab):
    """The tests of `Run` execute that code."""
    [resume] = [block.text for block in blocks("docs/figures.md") if block.text.startswith("checkpoint = ")]
    assert textwrap.indent(resume, " " * 8) in (ROOT / "template/scripts/runtime/run.py").read_text()


def test_page_queries_works(lab, own_template, bolt, slurm):
    lab.render("011-growth")
    bolt(
        "UNWIND ['YMR001C', 'YMR002W'] AS gene CREATE (g:Genotype {of: 'docs'}), (e:Experiment {of: 'docs'}),"
        " (:Dataset {of: 'docs'})<-[:ExperimentMemberOf]-(e)<-[:GenotypeMemberOf]-(g),"
        " (g)<-[:PerturbationMemberOf]-(:Perturbation {of: 'docs', systematic_gene_name: gene}),"
        " (e)<-[:ExperimentReferenceOf]-(:ExperimentReference {of: 'docs'})"
    )
    try:
        Reader(lab.path, own_template.path, bolt.environment | fake_programs(lab.path / "home")).read("docs/queries.md")
    finally:
        bolt("MATCH (n {of: 'docs'}) DETACH DELETE n")


def test_page_comparing_works(lab, own_template):
    """The tests of `runs` execute Python like that of the page."""
    Reader(lab.path, own_template.path).read("docs/comparing.md")


def test_page_sweeps_works(lab, own_template, slurm):
    reader = Reader(lab.path, own_template.path, fake_programs(lab.path.parent / "home"))
    experiment = lab.path / "experiments/013-yeast"
    launcher = experiment / "scripts/slurm_yeast_optuna.slurm"

    def shorten_and_wait(command):
        if command.startswith("copier copy"):
            edit(experiment / "conf/yeast_slurm_optuna.yaml", "n_trials: 64", "n_trials: 4")
            edit(launcher, "--array=0-7", "--array=0-1")
        elif "submit.sh" in command:
            [number] = re.findall(r": job (\d+)$", reader.printed, flags=re.MULTILINE)
            assert {slurm.wait(f"{number}_{task}")["JobState"] for task in range(2)} == {"COMPLETED"}
            edit(launcher, "--array=0-1", "--array=0-7")

    reader.read("docs/sweeps.md", shorten_and_wait)
    assert len(list(lab.data.glob("experiments/013-yeast/runs/*/*/provenance.json"))) == 4
