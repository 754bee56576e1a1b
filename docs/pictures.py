"""Make what README shows from what the template renders: `make pictures`.

copier-copy.svg   a session of `copier copy` in a terminal, in a repository that is not the lab's own
list.svg          a session of `experiments list`
compare.svg       a session of `experiments compare`
example           an experiment with all defaults
growth.png        the figure of its first run
sweep.png         the optimization history of an Optuna sweep
figures-page.png  the page of `experiments figures`, in Chromium
"""

import io
import os
import re
import shutil
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.text import Text

DOCS = Path(__file__).resolve().parent
URL = "https://github.com/lab/tc-exp-template"
sys.path.insert(0, str(DOCS.parent / "tests"))
from support.browser import Browser  # noqa: E402
from support.lab import make_lab  # noqa: E402
from support.process import commit, edit  # noqa: E402
from support.template import QUESTIONS, asked, copy_template  # noqa: E402
from support.terminal import Terminal  # noqa: E402

SESSIONS = {
    "list": "experiments list experiments/012-yeast",
    "compare": "experiments compare experiments/012-yeast --config noise --by arm",
}
WIDTH = 100  # of the terminal of these sessions
VERSION = "v0.1.0"  # that the pictures show, whatever the newest release is
COMMIT = "f4a2c0d9e6b81735f4a2c0d9e6b81735f4a2c0d9"  # as the example has it


def style(cell):
    """Return the color and weight of a cell for rich. Dark blue and green are unreadable on a dark background."""
    color = {"brown": "yellow", "000087": "blue", "008700": "green"}.get(cell.fg, cell.fg)
    return f"{'bold ' * cell.bold}{re.sub('^(?=[0-9a-f]{6}$)', '#', color)}"


def session(lab):
    """The lines of a terminal in which somebody types `copier copy`, and the runs of README. All else is default."""
    elsewhere = lab.path.parent / "elsewhere"
    elsewhere.mkdir()
    terminal = Terminal("copier", "copy", lab.template.path, "experiments/011-growth", cwd=elsewhere, height=120)
    for question in QUESTIONS:
        terminal.expect(asked(question))
        terminal.type("\x15{growth: [slurm_000]}\r" if question == "runs" else "\r")
    terminal.end()
    return lines_of(terminal, "copier copy gh:lab/tc-exp-template experiments/011-growth")


def lines_of(terminal, command):
    """Return the lines of a terminal with their colors, after a command."""
    lines = [Text(f"$ {command}", "bold")]
    for row in range(len(terminal.text().split("\n"))):
        cells = (terminal.screen.buffer[row][column] for column in range(terminal.screen.columns))
        line = Text.assemble(
            *(("".join(cell.data for cell in group), look) for look, group in groupby(cells, key=style))
        )
        line.rstrip()
        if "scripts/runtime/" not in line.plain:  # thirty lines that show nothing new
            lines.append(line)
    return lines


def run_campaign(lab):
    """Render an experiment, and run a campaign of a small script by hand, and three runs more: one fails."""
    experiment = lab.render("012-yeast", runs={"yeast": ["slurm_000", "slurm"]}, queries=False)
    script = lab.write_light(
        "import random; random.seed(cfg.seed + 10 * cfg.noise)\n"
        "if cfg.noise > 1: raise ValueError('noise is above 1')\n"
        "run.log(error=round(cfg.noise * random.random(), 4), rate=0.45)",
        script="yeast",
        name="012-yeast",
    )
    (experiment / "conf/noise.yaml").write_text(
        "defaults: [runtime, default, _self_]\nnoise: 0.1\nseed: 0\n"
        "grid:\n  arms: {low: [], high: [noise=0.3]}\n  axes: {seed: [0, 1, 2]}\n"
    )
    commit(lab.path, "Add a campaign")
    points = [f"{arm}_{seed}" for arm in ("low", "high") for seed in range(3)]
    words = [["--config-name", "noise", f"point={point}"] for point in points[:5]]
    words += [["--config-name", "yeast_slurm_000", *each] for each in ([], ["noise=0.3"], ["noise=3"])]
    for each in words:
        lab.python(script, *each)


def command_session(lab, command):
    """The lines of a terminal in which somebody types a command of `experiments`."""
    terminal = Terminal(sys.executable, "-m", *command.split(), cwd=lab.path, width=WIDTH)
    terminal.end()
    return lines_of(terminal, command)


def svg(lines, title="copier copy", width=92):
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(*lines, sep="\n")
    picture = console.export_svg(title=title, unique_id="session")
    return re.sub(r"\s*@font-face \{.*?\}", "", picture, flags=re.DOTALL)  # it would be fetched from elsewhere


def example(lab, destination):
    """Render the experiment. Its source is a folder here; for people it is a repository."""
    lab.render("011-growth")
    shutil.copytree(lab.path / "experiments/011-growth", destination, dirs_exist_ok=True)
    answers = destination / ".copier-answers.yml"
    text = re.sub("^_src_path: .*$", "_src_path: gh:lab/tc-exp-template", answers.read_text(), flags=re.MULTILINE)
    answers.write_text(re.sub("^_commit_id: .*$", f"_commit_id: {COMMIT}", text, flags=re.MULTILINE))
    readme = destination / "README.md"
    text = readme.read_text().replace(f"install {lab.template.path}", f"install git+{URL}")
    readme.write_text(text.replace(str(lab.template.path), URL))


def growth_figure(lab):
    lab.render("011-growth")
    done = lab.start("growth_gh_000", name="011-growth", script="growth")
    return re.search("^figure: (.*)$", done.stdout, re.MULTILINE)[1]


def sweep_figure(lab):
    experiment = lab.render("013-yeast", runs={"yeast": ["slurm_optuna"]})
    conf = experiment / "conf/yeast_slurm_optuna.yaml"
    edit(conf, "n_trials: 64", "n_trials: 20")
    edit(conf, "figures: 013-yeast_slurm_optuna", "figures: null")
    worker = [experiment / "scripts/optuna_worker.py", "--config-name", "yeast_slurm_optuna"]
    lab.python(*worker, check=True)
    return re.search("^figure: (.*history.*)$", lab.python(*worker, "--report", check=True).stdout, re.MULTILINE)[1]


def draw_figures(lab):
    """Draw a figure that becomes stale, one that is current, and one that is dirty. Return the page of all."""
    script = lab.render("011-growth") / "scripts/growth.py"

    def draw(title, *overrides):
        done = lab.start("growth_gh_000", f"title={title}", *overrides, name="011-growth", script="growth")
        assert done.returncode == 0, done.stderr

    draw("Growth of a wild type and its mutants")
    edit(script, "markersize=2", "markersize=1.5")
    commit(lab.path, "Draw smaller points")
    draw("Growth with noise 0.1", "noise=0.1")
    edit(script, "linewidth=1", "linewidth=1.2")
    draw("Growth with noise 0.02", "noise=0.02")
    edit(script, "linewidth=1.2", "linewidth=1")
    page = lab.path / "figures.html"
    tool = {"PYTHONPATH": str(DOCS.parent / "src")}
    lab.python("-m", "experiments", "figures", "011-growth", "--output", page, env=tool, check=True)
    page.write_text(page.read_text().replace(str(lab.path), "/home/ada/torchcell"))
    return page


def screenshot(page, profile, destination):
    browser = Browser(profile)
    browser.resize(1260, 620)
    browser.open(page)
    browser.evaluate("document.fonts.ready")
    shown = "[...document.querySelectorAll('article img')].slice(0, 3)"
    browser.evaluate(f"Promise.all({shown}.map(image => image.decode()))")
    browser.screenshot(destination)
    browser.stop()


def main():
    who = {f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    os.environ |= who | {"PYTHONPATH": str(DOCS.parent / "src")}
    os.environ |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "template").mkdir()
        lab = make_lab(Path(folder, "lab"), copy_template(Path(folder, "template"), VERSION))
        (DOCS / "copier-copy.svg").write_text(svg(session(lab)))
        run_campaign(lab)
        for name, command in SESSIONS.items():
            (DOCS / f"{name}.svg").write_text(svg(command_session(lab, command), f"experiments {name}", WIDTH))
        shutil.rmtree(DOCS / "example", ignore_errors=True)
        example(lab, DOCS / "example/011-growth")
        shutil.copy(growth_figure(lab), DOCS / "growth.png")
        shutil.copy(sweep_figure(lab), DOCS / "sweep.png")
        other = make_lab(Path(folder, "torchcell"), lab.template)
        screenshot(draw_figures(other), Path(folder, "browser"), DOCS / "figures-page.png")


if __name__ == "__main__":
    main()
