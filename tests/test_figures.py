"""Figures: whole, with what made them in their metadata, and never over the work of others."""

import os
import re
import signal
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from PIL import Image
from support.process import run

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
    """An experiment whose script `own` saves the paths of a list, which are Python."""

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
    """What a figure says of its run, read by means of its format's own."""
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
def test_the_ending_decides_and_all_formats_say_the_same(figures, tmp_path, rc):
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


def test_another_ending_or_tex_without_latex_is_one_line(figures, tmp_path):
    done = figures.save("'a.jpg'")
    path = figures.lab.images / "a.jpg"
    assert done.stderr == f"{path} is no name of a figure: let it end in .png, .svg or .pdf.\n"
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    done = figures.save("'a.png'", env={"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "PATH": "/bin/nowhere"})
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("text.usetex is on, but there is no latex")
    assert figures.names() == []


@pytest.mark.parametrize("format", ["%Y-%m-%d-%H-%M-%S", "%Y%m%d_%H%M%S", "%s"])
def test_a_name_with_a_stamp_is_always_a_new_file(figures, format):
    now = f"datetime(2026, 11, 25, 10, 15, 53).strftime({format!r})"
    (figures.lab.path / "torchcell/timestamp.py").write_text(
        f"from datetime import datetime\ndef timestamp():\n    return {now}\n"
    )
    stamped, in_folder = "f'{stem}_{timestamp()}.png'", "f'{stem}_{timestamp()}/a.png'"
    for _ in range(2):
        assert figures.save(stamped, stamped, in_folder).returncode == 0
    names = figures.names()
    assert len(names) == 6 and len([name for name in names if name.endswith("/a_2.png")]) == 1
    assert sum(bool(re.search(r"_[234]\.png$", name)) for name in names) == 4


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_stable_name_is_replaced_by_its_own_script_and_configuration_alone(figures, ending):
    path = figures.lab.images / f"dose_0_1_2_5_10_20.{ending}"
    name = repr(path.name)
    assert figures.save(name).returncode == 0
    first = path.read_bytes()
    assert figures.save(name, overrides=["seed=5"]).returncode == 0
    second = path.read_bytes()
    assert second != first and figures.names() == [path.name]
    (figures.experiment / "conf/x_gh_001.yaml").write_text((figures.experiment / "conf/x_gh_000.yaml").read_text())
    refused = f"{path} is not by this script and configuration, and stays: move it away, or choose another name.\n"
    assert figures.save(name, script="another").stderr == refused
    assert figures.save(name, config="x_gh_001").stderr == refused
    assert path.read_bytes() == second
    path.write_bytes(b"a colleague's")
    assert figures.save(name).stderr == refused
    assert path.read_bytes() == b"a colleague's" and figures.names() == [path.name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_while_it_draws_leaves_the_old_figure_whole(figures, number):
    assert figures.save("'a.png'").returncode == 0
    path = figures.lab.images / "a.png"
    before = path.read_bytes()
    # It dies in the middle of savefig, when half of the file is written.
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


def test_a_full_disk_leaves_no_half_figure(figures):
    assert figures.save("'a.png'").returncode == 0
    before = (figures.lab.images / "a.png").read_bytes()
    figures.write("'a.png'", "f'{stem}_{timestamp()}.png'", body="run.save(figure, osp.join(IMAGES, {}))")
    script = figures.experiment / "scripts/own.py"
    # No file may be larger than two kilobytes, as on a disk that is full; Python makes an OSError of it.
    full = (
        "        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
    )
    script.write_text(script.read_text().replace("        stem =", f"{full}        stem ="))
    done = run(sys.executable, script, cwd=figures.lab.path, env=os.environ)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert figures.names() == ["a.png"] and (figures.lab.images / "a.png").read_bytes() == before
