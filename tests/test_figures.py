"""Figures: complete, with their origin in the metadata, and never over another run's file."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime

import pytest
from PIL import Image
from support.process import commit, edit, git, run
from support.template import ROOT

SOURCES = {"PYTHONPATH": str(ROOT / "src")}

SCRIPT = """\
import os
import os.path as osp
import resource
import signal
import time
from dotenv import load_dotenv
from runtime import CONF, Run, find_env, require_folders
load_dotenv(find_env())
_, IMAGES = require_folders("DATA_ROOT", "ASSET_IMAGES_DIR")
import hydra
from torchcell.timestamp import timestamp

@hydra.main(version_base="1.3", config_path=CONF, config_name="x_gh_000")
def main(cfg):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(4, 3))
    figure.subplots().plot([cfg.seed, 1])
    with Run(cfg) as run:
        stem = run.stem
        BODY

main()
"""


class Figures:
    """An experiment with a script that saves a figure to each path. Paths are Python expressions."""

    def __init__(self, lab):
        self.lab, self.experiment = lab, lab.render()

    def write(self, *paths, script="own", body="run.save(figure, osp.join(IMAGES, {}))"):
        lines = "; ".join(body.format(path) for path in paths)
        (self.experiment / f"scripts/{script}.py").write_text(SCRIPT.replace("BODY", lines))

    def save(self, *paths, script="own", overrides=(), env=None, config="x_gh_000"):
        self.write(*paths, script=script)
        return self.lab.start(config, *overrides, script=script, env=env)

    def names(self):
        return sorted(str(path.relative_to(self.lab.images)) for path in self.lab.images.rglob("*") if path.is_file())


@pytest.fixture
def figures(lab):
    return Figures(lab)


NAMES = ("Script", "Configuration", "Overrides", "Command", "Commit", "Job", "Run", "Title")


def exiftool(*words):
    if not shutil.which("exiftool"):
        pytest.fail("not installed: exiftool. Type: make programs")
    return run("exiftool", *words, check=True).stdout


def metadata(*paths):
    """Return the metadata of each figure as exiftool reads it."""
    found = []
    for read in json.loads(exiftool("-json", *paths)):
        text = read.get("WorkDescription") or read.get("Comment")  # of an SVG and of a GIF
        own = dict(line.split(": ", 1) for line in text.splitlines()) if text else read
        found.append({name: str(own[name]) for name in NAMES if name in own})
    return found


@pytest.mark.parametrize("rc", ["savefig.format: pdf", "savefig.format: svg"])
def test_figure_formats_have_equal_metadata(figures, tmp_path, rc):
    (tmp_path / "matplotlibrc").write_text(f"{rc}\n")
    done = figures.save(
        *("'a.png'", "'a.svg'", "'a.pdf'", "'a.gif'"),
        overrides=["seed=2", "title=a b"],
        env={"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")},
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = metadata(*(figures.lab.images / name for name in ("a.png", "a.svg", "a.pdf", "a.gif")))
    assert told[0] == told[1] == told[2] == told[3]
    assert told[0]["Script"] == "experiments/011-x/scripts/own.py"
    assert told[0]["Overrides"] == "seed=2 title=a b" and told[0]["Run"].startswith(f"{figures.lab.data}/experiments")


def test_unknown_format_or_missing_latex_is_one_line(figures, tmp_path):
    done = figures.save("'a.jpg'")
    path = figures.lab.images / "a.jpg"
    problem = 'unknown file extension ".jpg"; expected one of: .png, .svg, .pdf, .gif.'
    assert done.stderr.startswith(f"{path}: {problem} It is saved as: ")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    done = figures.save("'a.png'", env={"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "PATH": "/bin/nowhere"})
    assert done.returncode == 1
    problem = "text.usetex is on, but latex is missing. Install it, or turn text.usetex off, for example in "
    assert f"{figures.lab.images}/a.png: {problem}{tmp_path}/matplotlibrc. It is saved as: " in done.stderr
    assert figures.names() == []


STAMPS = """\
from datetime import datetime
FORMATS = ["%Y-%m-%d-%H-%M-%S", "%Y%m%d_%H%M%S", "%s"]
FORMAT = FORMATS[0]
def timestamp():
    return datetime(2026, 11, 25, 10, 15, 53).strftime(FORMAT)
"""
IN_ALL_FORMATS = """\
import torchcell.timestamp as stamps
        for stamps.FORMAT in stamps.FORMATS:
            for name in ("{}.png", "{}/a.png", "fold1{}2.png"):
                for _ in range(2):
                    run.save(figure, osp.join(IMAGES, f"{stem}_{name.format(timestamp())}"))
"""


def test_timestamped_name_is_always_a_new_file(figures):
    (figures.lab.path / "torchcell/timestamp.py").write_text(STAMPS)
    (figures.experiment / "scripts/own.py").write_text(SCRIPT.replace("BODY", IN_ALL_FORMATS))
    for _ in range(2):
        done = figures.lab.start(script="own")
        assert done.returncode == 0, done.stderr
    stamps = ("2026-11-25-10-15-53", "20261125_101553", f"{datetime(2026, 11, 25, 10, 15, 53).timestamp():.0f}")
    names = [f"011-x_gh_000_{name}" for stamp in stamps for name in (stamp, f"{stamp}/a", f"fold1{stamp}2")]
    assert figures.names() == sorted(f"{name}{end}.png" for name in names for end in ("", "_2", "_3", "_4"))


def test_resolution_comes_from_figure_or_matplotlibrc(figures):
    name = "f'{{len(os.listdir(IMAGES))}}.png'"
    body = f"run.save(Figure({{}}), osp.join(IMAGES, {name}))"
    figures.write("figsize=(2, 2)", "figsize=(2, 2), dpi=300", body=body)
    assert figures.lab.start(script="own").returncode == 0
    settings = figures.lab.path / "matplotlibrc"
    settings.write_text("savefig.dpi: 50\n")
    assert figures.lab.start(script="own", env={"MATPLOTLIBRC": str(settings)}).returncode == 0
    sizes = []
    for path in sorted(figures.lab.images.iterdir()):
        with Image.open(path) as image:
            sizes.append(image.width)
    assert sizes == [300, 600, 100, 100]


def test_stable_name_is_replaced_only_by_its_own_run(figures):
    paths = [figures.lab.images / f"dose_0_1_2_5_10_20.{ending}" for ending in ("png", "svg", "pdf")]
    figure = "run.save(figure, osp.join(IMAGES, {}), dpi=30, transparent=True)"

    def save(*names, script="own (ü)", **options):
        figures.write(*map(repr, names), script=script, body=figure)
        return figures.lab.start(script=script, **options)

    def contents():
        return [path.read_bytes() for path in paths]

    names = [path.name for path in paths]
    assert save(*names).returncode == 0
    with Image.open(paths[0]) as image:
        assert image.size == (120, 90) and image.mode == "RGBA" and image.getpixel((0, 0))[3] == 0
    first = contents()
    (figures.experiment / "conf/default.yaml").open("a").write("# other values\n")
    edit(figures.experiment / "scripts/own (ü).py", "[cfg.seed, 1]", "[cfg.seed + 5, 1]")
    done = figures.lab.start("x_gh_000", script="own (ü)")
    assert done.returncode == 0, done.stderr
    second = contents()
    assert all(old != new for old, new in zip(first, second, strict=True)) and figures.names() == sorted(names)
    (figures.experiment / "conf/x_gh_001.yaml").write_text((figures.experiment / "conf/x_gh_000.yaml").read_text())
    refused = "{}: another script or configuration made this file. Move it, or choose another name. It is saved as: "

    def assert_refused(done, *paths):
        lines = done.stderr.splitlines()[: len(paths)]
        assert [line.startswith(refused.format(path)) for line, path in zip(lines, paths, strict=True)] == [True] * 3

    assert_refused(save(*names, script="another"), *paths)
    assert save(names[0], config="x_gh_001").stderr.startswith(refused.format(paths[0]))
    assert contents() == second
    for path, foreign in zip(paths, (b"a colleague's", b"<svg/>", b"%PDF-1.4"), strict=True):
        path.write_bytes(foreign)
    before = contents()
    assert_refused(save(*names), *paths)
    assert contents() == before
    # A link's target is not written. A dangling link belongs to another user too.
    precious = figures.lab.path / "precious"
    precious.write_bytes(second[0])
    for target in (precious, "/nowhere/at/all"):
        paths[0].unlink()
        paths[0].symlink_to(target)
        done = save(names[0])
        assert done.stderr == "" if target == precious else done.stderr.startswith(refused.format(paths[0]))
        assert paths[0].is_symlink() == (target != precious)
    assert precious.read_bytes() == second[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_save_keeps_the_old_figure(figures, number):
    assert figures.save("'a.png'").returncode == 0
    path = figures.lab.images / "a.png"
    before = path.read_bytes()
    # The process ends in savefig, after half of the file is written.
    dies = (
        "def half(file, **_):\n"
        "            file.write(b'half')\n"
        "            file.flush()\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
        "            time.sleep(9)\n"
        "        figure.savefig = half\n"
        "        "
    )
    figures.write("'a.png'", body=dies + "run.save(figure, osp.join(IMAGES, {}))")
    command = [sys.executable, "experiments/011-x/scripts/own.py"]
    assert subprocess.run(command, cwd=figures.lab.path, capture_output=True).returncode == -number
    assert path.read_bytes() == before
    left = [name for name in figures.names() if name != "a.png"]
    assert all(name.endswith(".part") for name in left) and (number == signal.SIGKILL or not left)


def test_full_disk_keeps_the_old_figure(figures):
    assert figures.save("'a.png'").returncode == 0
    before = (figures.lab.images / "a.png").read_bytes()
    figures.write("'a.png'", "f'{stem}_{timestamp()}.png'", body="run.save(figure, osp.join(IMAGES, {}))")
    script = figures.experiment / "scripts/own.py"
    # Files are limited to two kilobytes, as on a full disk. Python raises an OSError.
    full = (
        "        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
    )
    edit(script, "        stem =", f"{full}        stem =")
    done = run(sys.executable, script, cwd=figures.lab.path, env=os.environ)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{figures.lab.images / 'a.png'}: File too large. ")
    assert figures.names() == ["a.png"] and (figures.lab.images / "a.png").read_bytes() == before


PLAIN = """\
import argparse
import sys
from pathlib import Path
from dotenv import load_dotenv
from runtime import find_env, require_folders, save_figure
load_dotenv(find_env())
[IMAGES] = require_folders("ASSET_IMAGES_DIR")
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=float)
width = parser.parse_args().width
figure = Figure(figsize=(width / 25.4, 50 / 25.4))
axes = figure.subplots()
[line] = axes.plot([0, 1], [0, 1])
figure.suptitle("Two <b>\\nlines")
print(save_figure(figure, Path(IMAGES, "plain.png"), also=["svg", ".pdf", "gif"]))
moving = FuncAnimation(figure, lambda frame: line.set_ydata([0, frame]), frames=3, interval=200)
print(save_figure(moving, Path(IMAGES, "moving.gif")))
save_figure(moving, Path(IMAGES, "moving.png"))
"""


def test_save_figure_needs_neither_run_nor_hydra(figures):
    script = figures.experiment / "scripts/plain.py"
    script.write_text(PLAIN)
    commit(figures.lab.path)
    images, head = figures.lab.images, git(figures.lab.path, "rev-parse", "HEAD").strip()

    def start(width, **kwargs):
        return figures.lab.python("experiments/011-x/scripts/plain.py", "--width", width, **kwargs)

    done = start("85")
    paths = [images / "plain.png", images / "moving.gif"]
    assert done.stdout.split() == list(map(str, paths))
    refused = f'{images}/moving.png: an animation cannot be written as ".png". Use the extension .gif.\n'
    assert (done.returncode, done.stderr) == (1, refused)
    name = "experiments/011-x/scripts/plain.py"
    expected = {
        "Script": name,
        "Command": f"{name} --width 85",
        "Commit": head,
        "Job": "none",
        "Title": "Two <b> lines",
    }
    assert metadata(*paths, *(images / f"plain.{ending}" for ending in ("svg", "pdf", "gif"))) == [expected] * 5
    with Image.open(paths[1]) as image:
        assert image.n_frames == 3 and image.info["duration"] == 200
    # The width in millimeters is that of the formats, within a thousandth, and of the PNG within a pixel.
    [box] = re.findall(r"MediaBox = \[0,0,([\d.]+),", exiftool("-v3", images / "plain.pdf"))
    [svg] = re.findall(r"ImageWidth: ([\d.]+)pt", exiftool("-s2", images / "plain.svg"))
    assert [float(points) / 72 * 25.4 for points in (box, svg)] == pytest.approx([85, 85], rel=1e-3)
    with Image.open(paths[0]) as image:
        assert image.width / image.info["dpi"][0] * 25.4 == pytest.approx(85, abs=0.2)

    assert start("85").stdout.split() == list(map(str, paths))
    before = {path: path.read_bytes() for path in images.iterdir()}
    done = start("120")  # other arguments: nothing is replaced, and the figure is kept under a new name
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    found = re.fullmatch(
        rf"{paths[0]}: this file was made with {name} --width 85\. "
        r"To accept it: experiments (figures --promote (\S+) \S+) It is saved as: (.*)\n",
        done.stderr,
    )
    kept = found[3].split(", ")
    assert found[2] == kept[0] and len(kept) == 4
    assert {path: path.read_bytes() for path in before} == before
    done = run(sys.executable, "-m", "experiments", *found[1].split(), cwd=figures.lab.path, env=SOURCES | os.environ)
    assert done.stdout.splitlines() == [f"figure: {images}/plain.{ending}" for ending in ("gif", "pdf", "png", "svg")]
    assert metadata(paths[0])[0]["Command"] == f"{name} --width 120"


def test_stable_name_needs_equal_overrides_or_promotion(figures):
    gif = "FuncAnimation(figure, lambda frame: None, frames=2)"
    body = f"from matplotlib.animation import FuncAnimation; run.save({gif}, osp.join(IMAGES, 'b.gif')); "
    figures.write("'a.png'", body=body + "run.save(figure, osp.join(IMAGES, {}), also=['pdf'])")
    png, pdf = figures.lab.images / "a.png", figures.lab.images / "a.pdf"
    done = figures.lab.start(script="own")
    printed = [line for line in done.stdout.splitlines() if "matplotlib" not in line]  # it logs each animation
    assert printed == [f"figure: {figures.lab.images}/{name}" for name in ("b.gif", "a.png", "a.pdf")]
    assert metadata(figures.lab.images / "b.gif")[0]["Configuration"] == "x_gh_000"
    before = {path: path.read_bytes() for path in (png, pdf)}
    done = figures.lab.start("x_gh_000", "seed=5", script="own")
    assert done.returncode == 1 and {path: path.read_bytes() for path in before} == before
    line = next(line for line in done.stderr.splitlines() if line.startswith(str(png)))
    found = re.fullmatch(
        rf"{png}: this file was made with no overrides\. "
        rf"To accept it: experiments (figures --promote (\S+) {png}) It is saved as: \2, (\S+)\.pdf",
        line,
    )
    assert found[2] == f"{found[3]}.png" and found[3].startswith(str(figures.lab.data))
    done = run(sys.executable, "-m", "experiments", *found[1].split(), cwd=figures.lab.path, env=SOURCES | os.environ)
    assert done.stdout == f"figure: {pdf}\nfigure: {png}\n", done.stderr
    assert [each["Overrides"] for each in metadata(png, pdf)] == ["seed=5", "seed=5"]
    done = figures.lab.start("x_gh_000", "seed=5", script="own")  # only the GIF still has other overrides
    assert [line.split(": ")[0] for line in done.stderr.splitlines()[:-1]] == [f"{figures.lab.images}/b.gif"]
    png.write_bytes(b"a colleague's")
    promote = (sys.executable, "-m", "experiments", "figures", "--promote")
    done = run(*promote, pdf, "a", cwd=figures.lab.path, env=SOURCES | os.environ)
    assert done.returncode == 0 and png.read_bytes() == b"a colleague's"
    done = run(*promote, f"{found[3]}.png", png, cwd=figures.lab.path, env=SOURCES | os.environ)
    assert done.returncode == 1 and done.stderr.startswith(f"experiments: {png} was not made by ")


SAVEFIG = """\
import sys
from pathlib import Path
os.chdir(run.folder)
early = "matplotlib.figure" in sys.modules
from matplotlib import figure as module
from matplotlib.figure import Figure
figure = Figure()
run.save(figure, os.environ["ASSET_IMAGES_DIR"] + "/own.png")
Figure((1, 1)).savefig(Path("first.jpg"))
figure.savefig(open("file.png", "wb"))
import matplotlib.pyplot as plt
plt.figure()
for _ in range(2):
    plt.savefig(fname="second")
if not os.fork():
    plt.savefig("forked.png")
    os._exit(0)
os.wait()
run.log(early=early)
"""
AFTER = """\
from matplotlib.figure import Figure
print(Figure.savefig.__code__.co_filename, any(type(each).__name__ == "SavefigWatch" for each in sys.meta_path))
"""


@pytest.mark.parametrize("is_early", [False, True])
def test_savefig_is_recorded_and_reported(lab, is_early):
    lab.render()
    script = lab.write_light(SAVEFIG)
    edit(script, "    main()\n", "    main()\n    " + AFTER.replace("\n", "\n    ") + "\n")
    if is_early:
        edit(script, "import hydra\n", "import hydra\nimport matplotlib.pyplot\n")
    commit(lab.path)
    done = lab.start(script="light")
    assert done.returncode == 0, done.stderr
    own, after = done.stdout.splitlines()
    assert own == f"figure: {lab.images}/own.png" and after.endswith("matplotlib/figure.py False")
    [path] = lab.data.glob("experiments/011-x/runs/*/*/provenance.json")
    record = json.loads(path.read_text())
    first, second = f"{record['folder']}/first.jpg", f"{record['folder']}/second.png"
    assert record["metrics"] == {"early": is_early}
    assert record["figures"] == [f"{lab.images}/own.png", first, second]
    hint = "Save it, and others, by run.save(figure, path)."
    assert done.stderr == f"{first}: savefig does not record how a figure was made. {hint}\n"
    if is_early:
        return
    command = (sys.executable, "-m", "experiments")
    options = {"cwd": lab.path, "env": SOURCES | os.environ}
    assert " unknown " in run(*command, "list", "011-x", **options).stdout
    page = run(*command, "figures", "011-x", "--output", "page.html", **options)
    assert page.stdout == f"page: {lab.path}/page.html (3 figures, 2 unknown)\n", page.stderr
    found = run(*command, "list", "--figure", second, **options)
    assert f"Run            {record['folder']}\n" in found.stdout and "\nState          unknown: " in found.stdout
