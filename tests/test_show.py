"""show: the record of a run for people, and the commands that reproduce it. runs: records in Python."""

import json
import os
import sys
from pathlib import Path

import pytest
from support.process import commit, edit, git, run
from support.slurm import Submitter, submitted
from support.updating import WITH_TOOL, tool

BODY = """\
from matplotlib.figure import Figure
run.log(loss=0.5, step=1)
run.log(loss=cfg.noise, step=2)
figure = Figure()
figure.subplots()
run.save(figure, osp.join(os.environ["ASSET_IMAGES_DIR"], f"{run.stem}.png"))"""

WORDS = ("x_gh_000", "noise=0.25", "title='two words'")


@pytest.fixture
def ran(lab):
    lab.render()
    lab.write_light(BODY)
    commit(lab.path, "Write light")
    assert lab.start(*WORDS, script="light").returncode == 0
    return lab


def shown(lab, *words):
    """Return the printed facts by their titles, and the commands."""
    done = tool(lab, "show", *words)
    assert done.returncode == 0, done.stderr
    facts, commands = done.stdout.split("\nTo reproduce it:\n\n")
    rows = [line.partition("  ") for line in facts.splitlines()]
    return {title: text.strip() for title, _, text in rows if title}, commands.splitlines()


def records(lab):
    return [json.loads(path.read_text()) for path in sorted(lab.data.glob("experiments/011-x/runs/*/*/prov*"))]


def test_show_prints_the_record(ran):
    [record] = records(ran)
    facts, _ = shown(ran, "011-x", "x_gh_000/20")
    assert facts["run"] == "x_gh_000/" + os.path.basename(record["folder"])
    assert (facts["state"], facts["overrides"]) == ("finished", "noise=0.25 title='two words'")
    assert facts["commit"] == record["commit"] and facts["folder"] == record["folder"]
    assert facts["metrics"] == "loss = 0.25" and facts["memory"].endswith(" largest child")
    [figure] = record["figures"]
    assert facts["figures"] == figure and shown(ran, "--figure", figure)[0] == facts
    (ran.images / "b").mkdir()
    (ran.images / "b/a.png").write_bytes((ran.images / "011-x_gh_000.png").read_bytes())
    for named in ("images/011-x_gh_000.png", "./011-x_gh_000.png", "b/a.png"):  # as notes embed images
        done = tool(ran, "show", "--figure", named, cwd=ran.path / "experiments")
        assert done.returncode == 0, done.stderr
        assert f"folder     {record['folder']}\n" in done.stdout


def test_show_reproduces_a_run_by_hand(ran):
    """The commands are typed after the script has changed."""
    edit(ran.path / "experiments/011-x/scripts/light.py", "loss=0.5", "loss=0.75")
    commit(ran.path, "Change light")
    _, commands = shown(ran, "011-x", "20")
    done = run("bash", "-ec", "\n".join(commands), cwd=ran.path)
    assert done.returncode == 0, done.stderr
    first, second = records(ran)
    same = ("commit", "dirty", "overrides", "config", "configuration_hash", "metrics")
    assert {name: first[name] for name in same} == {name: second[name] for name in same}


def test_show_reproduces_a_point(ran):
    """A point is computed once in a folder, so each time it gets another one."""
    grid = "defaults: [x_gh_000, _self_]\ngrid: {axes: {noise: [0.25]}}\n"
    (ran.path / "experiments/011-x/conf/round2.yaml").write_text(grid)
    commit(ran.path, "Add round2")
    assert ran.start("round2", "point=0.25", script="light").returncode == 0
    for config, new in (("round2", "round2.again"), ("round2.again", "round2.again2")):
        _, commands = shown(ran, "011-x", f"{config}/0.25")
        done = run("bash", "-ec", "\n".join(commands), cwd=ran.path)
        assert done.returncode == 0, done.stderr
        [first, second] = [record for record in records(ran) if record["config"] in (config, new)]
        assert first["configuration_hash"] == second["configuration_hash"]


def test_show_reproduces_a_dirty_run(ran):
    """New files and binary ones are part of the changes; ignored files, .env and results are not."""
    experiment = ran.path / "experiments/011-x"
    edit(experiment / "scripts/light.py", "loss=0.5", "loss=helper.LOSS")
    edit(experiment / "scripts/light.py", "import hydra", "import hydra\nimport helper")
    (experiment / "scripts/helper.py").write_text("LOSS = 0.75  \n")
    (experiment / "conf/table.bin").write_bytes(bytes(range(256)))
    for secret in (experiment / ".env", experiment / "results/.env", experiment / "slurm/x"):
        secret.parent.mkdir(exist_ok=True)
        secret.write_text("PASSWORD=secret\n")
    (experiment / ".env").write_text((ran.path / ".env").read_text() + "PASSWORD=secret\n")
    assert ran.start(*WORDS, script="light").returncode == 0
    record = records(ran)[-1]
    patch = Path(record["folder"], record["changes"]).read_bytes()
    assert b"secret" not in patch and b"table.bin" in patch
    assert git(ran.path, "diff", "--cached", "--name-only") == ""
    name = os.path.basename(record["folder"])
    edit(experiment / "scripts/light.py", "helper.LOSS", "1")
    facts, commands = shown(ran, "011-x", name)
    assert facts["commit"].endswith(f" (and uncommitted changes: {record['folder']}/changes.patch)")
    done = run("bash", "-ec", "\n".join(commands), cwd=ran.path)
    assert done.returncode == 0, done.stderr
    again = records(ran)[-1]
    same = ("commit", "dirty", "overrides", "config", "configuration_hash")
    assert {name: record[name] for name in same} == {name: again[name] for name in same}
    assert again["folder"] != record["folder"] and "0.75" in Path(again["folder"], "metrics.jsonl").read_text()
    assert Path(again["folder"], "changes.patch").read_bytes() == patch
    (experiment / "scripts/large.bin").write_bytes(bytes(1_100_000))
    done = ran.start(*WORDS, script="light")
    assert done.returncode == 0 and "changes are not recorded: they are larger than 1 MB" in done.stderr
    assert records(ran)[-1]["changes"] is None


def test_show_reproduces_a_submitted_run(lab, slurm):
    jobs = Submitter(lab, slurm, runs={"x": ["slurm_000"]})
    body = f"{BODY}\nfrom runtime import save_figure\nsave_figure(figure, '{lab.images}/plain.png')"
    lab.write_light(body, script="x")
    [number] = submitted(jobs.submit("slurm_x_000", "hours=2"))
    assert slurm.wait(number, "COMPLETED")
    facts, commands = shown(lab, "011-x", number)
    figures = [lab.images / name for name in ("011-x_slurm_000.png", "plain.png")]
    assert [shown(lab, "--figure", figure)[1] for figure in figures] == [commands] * 2
    assert shown(lab, "--figure", figures[1])[0]["Commit"].endswith("-dirty")
    assert (facts["job"], facts["launcher"], facts["overrides"]) == (number, "slurm_x_000", "hours=2")
    [again] = submitted(run("bash", "-c", commands[0], cwd=lab.path))
    assert slurm.wait(again, "COMPLETED")
    facts, _ = shown(lab, "011-x", again)
    assert (facts["job"], facts["launcher"], facts["overrides"]) == (again, "slurm_x_000", "hours=2")
    [live] = submitted(jobs.submit("slurm_x_000", "hours=2", "--live"))
    assert slurm.wait(live, "COMPLETED")
    facts, commands = shown(lab, "011-x", live)
    assert "(and uncommitted changes: " in facts["commit"] and "git worktree add" in commands[0], facts


def test_show_refuses_in_one_line(ran):
    (ran.images / "b").mkdir()
    for path in ("a.png", "b/a.png"):
        (ran.images / path).touch()
    for words, said in (
        (["011-x"], "no run is given. Write PATH RUN, or --figure FILE."),
        (["011-x", "nothing"], 'unknown run "nothing" of experiments/011-x. `experiments list experiments/011-x`'),
        (["--figure", "none.png"], "none.png is neither a file nor the name of a figure in ASSET_IMAGES_DIR\n"),
        (["--figure", "a.png"], f"a.png is the name of 2 figures. Use one of the paths: {ran.images}/a.png, "),
    ):
        done = tool(ran, "show", *words)
        assert done.returncode == 1 and done.stderr.startswith(f"experiments: {said}"), done.stderr


READ = """\
from experiments import runs
[record] = runs("experiments/011-x")
print(record["state"], record["metrics"], record["configuration"]["noise"], record["run"] in record["folder"])
try:
    print(runs("011-x", frame=True)[["state", "metrics.loss", "configuration.noise"]].iloc[0].tolist())
except Exception as error:
    print(type(error).__name__, error)
"""


NOTEBOOK = """\
import os, sys
sys.path.insert(0, "experiments/011-x/scripts")
import light
from hydra import compose, initialize_config_dir
with initialize_config_dir(os.path.abspath("experiments/011-x/conf"), version_base="1.3"):
    light.main(compose("x_gh_000"))
"""


def test_notebook_with_a_composed_configuration_is_refused(ran):
    done = ran.python("-c", NOTEBOOK)
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("This configuration has no run folder, like one from hydra.compose")


def test_runs_are_read_in_python(ran):
    done = run(sys.executable, "-c", READ, cwd=ran.path, env=os.environ | WITH_TOOL)
    first, second = done.stdout.splitlines()
    assert first == "finished {'loss': 0.25} 0.25 True", done.stderr
    assert second in (
        "Problem pandas is not installed for this Python. Install it: pip install pandas",
        "['finished', 0.25, 0.25]",
    )


PLAIN = """\
import sys
from dotenv import load_dotenv
from runtime import find_env, require_folders, save_figure
load_dotenv(find_env())
[IMAGES] = require_folders("ASSET_IMAGES_DIR")
from matplotlib.figure import Figure
print(save_figure(Figure((1, 1)), f"{IMAGES}/{sys.argv[1:] or 'none'}_1999-01-02-03-04-05.png"))
"""


def test_show_reproduces_a_figure_of_a_plain_script(lab):
    script = lab.render() / "scripts/plain.py"
    script.write_text(PLAIN)
    commit(lab.path, "Write plain")

    def draw(*words, **options):
        done = lab.python(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    figure = draw(script, "two words")
    edit(script, "1999", "2000")
    dirty = draw(script, "dirty")
    commit(lab.path, "Change plain")
    facts, [command] = shown(lab, "--figure", figure)
    assert facts["Command"] == "experiments/011-x/scripts/plain.py 'two words'"
    for _ in range(2):
        done = run("bash", "-c", command, cwd=lab.path)
        assert "/['two words']_1999-" in done.stdout, done.stderr
        facts, [again] = shown(lab, "--figure", done.stdout.splitlines()[-1])
        assert again != command  # that worktree exists
        command = again
    typed = run(sys.executable, "-", cwd=script.parent, input=PLAIN).stdout.strip()
    for path, problem in (
        (dirty, "it was made from uncommitted changes of "),
        (typed, "it was made in an interactive session, which is not recorded. Save it in a script.\n"),
    ):
        done = tool(lab, "show", "--figure", path)
        assert (done.returncode, done.stderr) == (0, "") and f"\nNo command reproduces it: {problem}" in done.stdout
    assert "State    unknown: an interactive session made it" in done.stdout
