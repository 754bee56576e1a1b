"""Pictures: README and docs/example match the current template. If a test fails, run `make pictures`."""

import html
import importlib.metadata
import importlib.util
import re

import pytest
from PIL import Image, ImageChops, ImageStat
from support.lab import make_lab
from support.process import git
from support.template import ROOT, copy_template

OUTDATED = "out of date: make pictures"


@pytest.fixture
def pictures():
    """Return the module docs/pictures.py."""
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs/pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pictured_lab(pictures, tmp_path):
    """Return a lab with the template at the version of the pictures."""
    (tmp_path / "template").mkdir()
    return make_lab(tmp_path / "lab", copy_template(tmp_path / "template", pictures.VERSION))


def sorted_texts(svg):
    """Return the sorted texts of an SVG. Copier creates files in the order of the file system."""
    return sorted(re.findall(r">([^<>]+)</text>", svg))


def words_of(svg):
    """Return the words of an SVG without numbers, commits and rules of tables."""
    texts = html.unescape(" ".join(re.findall(r">([^<>]+)</text>", svg)))
    return re.findall(r"(?<![\w-])[a-z_]{3,}=?(?![\w-])", texts)


def test_copier_session_and_example_are_current(pictures, pictured_lab):
    session = pictures.svg(pictures.session(pictured_lab))
    assert sorted_texts((ROOT / "docs/copier-copy.svg").read_text()) == sorted_texts(session), OUTDATED
    fresh, shown = pictured_lab.path / "example", ROOT / "docs/example/011-growth"
    pictures.example(pictured_lab, fresh)
    names = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file())
    committed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", shown).split("\0")[:-1]
    assert names == sorted((ROOT / name).relative_to(shown) for name in committed), OUTDATED
    for name in names:
        assert (shown / name).read_text() == (fresh / name).read_text(), f"{name}: {OUTDATED}"


def test_pictures_of_runs_are_current(pictures, pictured_lab, monkeypatch):
    """Numbers differ from run to run: times, commits, durations. The widths of columns follow them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    pictures.run_campaign(pictured_lab)
    for name, command in pictures.SESSIONS.items():
        made = pictures.svg(pictures.command_session(pictured_lab, command), f"experiments {name}", pictures.WIDTH)
        shown = (ROOT / f"docs/{name}.svg").read_text()
        assert words_of(shown) == words_of(made), OUTDATED


@pytest.mark.parametrize("name", ["growth", "sweep"])
def test_figure_picture_is_current(pictures, pictured_lab, name):
    """Allow small differences: versions of matplotlib draw letters and edges differently."""
    version = importlib.metadata.version("matplotlib")
    if f"matplotlib=={version}" not in (ROOT / "requirements-dev.txt").read_text().split():
        pytest.skip(f"the pictures show figures by the versions of requirements-dev.txt, not by {version}")
    figure = getattr(pictures, f"{name}_figure")(pictured_lab)
    with Image.open(ROOT / f"docs/{name}.png") as shown, Image.open(figure) as made:
        assert shown.size == made.size, OUTDATED
        difference = ImageStat.Stat(ImageChops.difference(shown.convert("L"), made.convert("L"))).mean[0]
        assert difference < 1, OUTDATED
