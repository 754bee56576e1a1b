"""Figures: complete, with their origin in the metadata, and never over another run's file."""

import os
import re
import signal
import subprocess
import sys
from datetime import datetime
from xml.etree import ElementTree

import pytest
from PIL import Image
from support.process import edit, run

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


def metadata(path):
    """Read the metadata of a figure with an independent reader of its format."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
            return {key: value for key, value in image.text.items() if key != "Software"}
    if path.suffix == ".svg":
        [description] = ElementTree.parse(path).iter("{http://purl.org/dc/elements/1.1/}description")
        return dict(line.split(": ", 1) for line in description.text.splitlines())
    content = path.read_bytes()
    assert content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")
    keys = ("Script", "Configuration", "Overrides", "Commit", "Job", "Run")
    return {key: re.search(rb"/%s \((.*?)\)" % key.encode(), content)[1].decode() for key in keys}


@pytest.mark.parametrize("rc", ["savefig.format: pdf", "savefig.format: svg"])
def test_figure_formats_have_equal_metadata(figures, tmp_path, rc):
    (tmp_path / "matplotlibrc").write_text(f"{rc}\n")
    done = figures.save(
        *("'a.png'", "'a.svg'", "'a.pdf'"),
        overrides=["seed=2", "title=a b"],
        env={"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")},
    )
    assert (done.returncode, done.stderr) == (0, "")
    told = [metadata(figures.lab.images / name) for name in ("a.png", "a.svg", "a.pdf")]
    assert told[0] == told[1] == told[2]
    assert told[0]["Script"] == "experiments/011-x/scripts/own.py"
    assert told[0]["Overrides"] == "seed=2 title=a b" and told[0]["Run"].startswith(f"{figures.lab.data}/experiments")


def test_unknown_format_or_missing_latex_is_one_line(figures, tmp_path):
    done = figures.save("'a.jpg'")
    path = figures.lab.images / "a.jpg"
    problem = 'unknown ending ".jpg"; expected one of: .png, .svg, .pdf.'
    assert done.stderr.startswith(f"{path}: {problem} It is kept: ")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    done = figures.save("'a.png'", env={"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "PATH": "/bin/nowhere"})
    assert done.returncode == 1
    problem = "text.usetex is on, but latex is missing. Install it, or turn text.usetex off, for example in "
    assert f"{figures.lab.images}/a.png: {problem}{tmp_path}/matplotlibrc. It is kept: " in done.stderr
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
    (figures.lab.path / "matplotlibrc").write_text("savefig.dpi: 50\n")
    assert figures.lab.start(script="own").returncode == 0
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
    done = figures.lab.start("x_gh_000", "seed=5", script="own (ü)")
    assert done.returncode == 0, done.stderr
    second = contents()
    assert all(old != new for old, new in zip(first, second, strict=True)) and figures.names() == sorted(names)
    (figures.experiment / "conf/x_gh_001.yaml").write_text((figures.experiment / "conf/x_gh_000.yaml").read_text())
    refused = "{}: another script or configuration made this file. Move it, or choose another name. It is kept: "
    for path in paths:
        assert save(path.name, script="another").stderr.startswith(refused.format(path))
    assert save(names[0], config="x_gh_001").stderr.startswith(refused.format(paths[0]))
    assert contents() == second
    for path, foreign in zip(paths, (b"a colleague's", b"<svg/>", b"%PDF-1.4"), strict=True):
        path.write_bytes(foreign)
        assert save(path.name).stderr.startswith(refused.format(path))
        assert path.read_bytes() == foreign
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
