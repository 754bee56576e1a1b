"""The page of `experiments figures`, in a real browser, and what it states about the code of figures."""

import json
import os
import sys

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.process import commit, edit, git, run
from support.template import ROOT

from experiments.embedded import check_embedded

EXPERIMENT = {"runs": {"growth": ["gh_000"], "dose": ["gh_000"]}}
SCRIPT = "experiments/011-x/scripts/{}.py"


class Shelf:
    """A lab with an experiment, and figures with the metadata of a run."""

    def __init__(self, lab):
        self.lab, self.experiment = lab, lab.render(**EXPERIMENT)

    def command(self, *arguments, code=0):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        done = run(sys.executable, "-m", "experiments", *arguments, cwd=self.lab.path, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout or done.stderr

    def draw(self, name, script="growth", title="A title", dirty=False, **others):
        """Write a small figure that a run at HEAD would have made."""
        head = git(self.lab.path, "rev-parse", "HEAD").strip()
        facts = {"Title": title, "Script": SCRIPT.format(script), "Configuration": f"{script}_gh_000"}
        facts |= {"Overrides": "", "Commit": f"{head}{'-dirty' if dirty else ''}", "Job": "none", **others}
        text = PngInfo()
        for key, value in facts.items():
            text.add_itxt(key, value)
        path = self.lab.images / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (160, 100), "white").save(path, pnginfo=text)
        return path

    def record(self, config, name, **facts):
        """Write the record of a run, and return its folder."""
        folder = self.lab.data / "experiments/011-x/runs" / config / name
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps({"status": "finished", "config": config} | facts))
        return folder


@pytest.fixture
def shelf(lab):
    return Shelf(lab)


def shown(browser):
    return browser.evaluate("[...document.querySelectorAll('article')].filter(c => !c.hidden).map(title)")


ATTACK = """<script>document.title = "attacked"</script><img src=x onerror="document.title='attacked'">" '&amp;"""


def test_page_filters_enlarges_and_escapes(shelf, browser, tmp_path):
    point = shelf.record("round2", "wide_0", point="wide_0", started="2026-11-25T10:00:00+00:00")
    older = shelf.record("growth_gh_000", "7", started="2026-11-20T10:00:00+00:00", script=ATTACK, commit="1" * 40)
    newest = shelf.record("dose_gh_000", "8", started="2026-11-27T10:00:00+00:00")
    shelf.draw("011-round2 wide #0.png", title="wide", Configuration="round2", Run=str(point))
    plain = shelf.lab.images / "plain.png"
    Image.new("RGB", (9, 9)).save(plain)
    shelf.record("old", "9", started="2026-11-19T10:00:00+00:00", figures=[str(plain)], script=ATTACK)
    shelf.draw("011-a.png", title=ATTACK, Overrides=ATTACK, Run=str(older))
    shelf.draw("011-b.png", script="dose", title="dose", Overrides="noise=0.25", dirty=True, Run=str(newest))
    (shelf.lab.images / "011-b.pdf").write_bytes(b"%PDF-1.4 no metadata")
    Image.new("RGB", (9, 9)).save(shelf.lab.images / "screenshot.png")  # of no experiment
    edit(shelf.experiment / "conf/dose_gh_000.yaml", "seed", "# seed")
    page = tmp_path / "deep/figures.html"
    printed = shelf.command("figures", "011-x", "--output", page)
    assert printed == f"page: {page} (5 figures, 1 dirty, 2 unknown)\n"

    browser.open(page)
    browser.evaluate("globalThis.title = card => card.querySelector('h3').textContent")
    names = shown(browser)
    assert names[:2] == ["011-b", "dose"] and names[2:4] == ["wide", " ".join(ATTACK.split())] and names[4] == "plain"
    titles = browser.evaluate("[...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert titles[2] == "011-x / round2 / wide_0"
    assert browser.evaluate("[document.title, document.scripts.length]") == ["Figures", 1]
    images = "[...document.querySelectorAll('article img')]"
    assert browser.evaluate(f"{images}.map(image => image.loading)") == ["lazy"] * 4
    browser.evaluate(f"Promise.all({images}.map(image => (image.loading = 'eager', image.decode())))")

    browser.evaluate("document.querySelector('#text').focus()")
    browser.type("NOISE=0.25 dose")
    assert shown(browser) == ["dose"]
    assert browser.evaluate("document.querySelector('#count').textContent").startswith("1 of 5 figures")
    browser.evaluate("document.querySelector('#text').value = ''; filter()")
    browser.click("input[value=dirty]")
    assert shown(browser) == ["dose"]
    browser.click("input[value=unknown]")
    assert shown(browser) == ["011-b", "dose", "plain"]
    browser.click("input[value=unknown]")
    browser.click("input[value=dirty]")

    enlarged = "document.querySelector('dialog').open && document.querySelector('dialog b').textContent"
    browser.evaluate("document.querySelectorAll('article button')[1].setAttribute('id', 'second')")
    browser.click("#second")
    steps = [browser.evaluate(enlarged)]
    for key in ("ArrowLeft", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "Escape"):
        browser.press(key)
        steps.append(browser.evaluate(enlarged))
    assert steps == ["dose", "dose", "wide", names[3], "wide", "dose", False]
    assert browser.evaluate("document.activeElement.id") == "second"

    for scheme, color in (("dark", "rgb(20, 23, 26)"), ("light", "rgb(255, 255, 255)")):
        browser.prefer(scheme)
        assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == color
    browser.resize(360, 640)
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.problems == []


def test_figure_states_follow_git(shelf, monkeypatch, capsys):
    monkeypatch.chdir(shelf.lab.path)
    (shelf.lab.path / "results.txt").write_text("1")
    paper = shelf.lab.path / "paper"
    paper.mkdir()
    names = ("growth", "dose", "other", "plain")
    (paper / "a.tex").write_text("\n".join(rf"\includegraphics{{../images/011-{name}}}" for name in names))
    commit(shelf.lab.path)
    first = shelf.draw("011-growth.png")
    shelf.draw("011-dose.png", script="dose")
    shelf.draw("011-other.png", Commit="1234567890" * 4)
    Image.new("RGB", (9, 9)).save(shelf.lab.images / "011-plain.png")

    def states():
        """Return the words about each figure in the check."""
        assert check_embedded(["paper"]) == 1
        lines = capsys.readouterr().out.splitlines()
        found = {line.split()[1]: line.split(" is ", 1)[1] for line in lines}
        return {name.removeprefix("../images/011-"): text for name, text in found.items()}

    commit_id = git(shelf.lab.path, "rev-parse", "--short=8", "HEAD").strip()
    unknown = {
        "other": "unknown, because its commit 12345678 is not in this repository",
        "plain": "unknown, because its metadata has no script or no commit",
    }
    assert states() == unknown
    (shelf.lab.path / "results.txt").write_text("2")  # neither script, configuration nor package
    os.utime(shelf.experiment / "scripts/dose.py", (1, 1))
    assert states() == unknown
    configuration = "experiments/011-x/conf/growth_gh_000.yaml"
    with (shelf.lab.path / configuration).open("a") as file:
        file.write("# edited\n")
    assert states() == unknown | {"growth": f"stale, because {configuration} differs from {commit_id}"}
    commit(shelf.lab.path)
    assert states() == unknown | {"growth": f"stale, because {configuration} differs from {commit_id}"}
    git(shelf.lab.path, "revert", "--no-edit", "HEAD")
    assert states() == unknown
    with (shelf.experiment / "conf/default.yaml").open("a") as file:  # the base of both configurations
        file.write("# edited\n")
    assert states().keys() == unknown.keys() | {"growth", "dose"}
    git(shelf.lab.path, "checkout", "--quiet", "experiments")
    with (shelf.lab.path / "torchcell/__init__.py").open("a") as file:
        file.write("# edited\n")
    reason = f"torchcell/__init__.py differs from {commit_id}"
    assert states()["dose"] == f"stale, because {reason}"
    assert f"stale: {reason}\n" in shelf.command("list", "--figure", first)
    page = shelf.lab.path / "figures.html"
    assert shelf.command("figures", "--output", page) == f"page: {page} (4 figures, 2 stale, 2 unknown)\n"
    assert f'<b class="stale">stale</b> {reason}</p>' in page.read_text()
    git(shelf.lab.path, "checkout", "--quiet", "torchcell")
    shelf.draw("011-dose.png", script="dose", dirty=True)
    head = git(shelf.lab.path, "rev-parse", "--short=8", "HEAD").strip()
    assert states() == unknown | {"dose": f"dirty, because it was made from uncommitted changes of {head}"}


def test_figure_of_untracked_configuration(shelf, monkeypatch):
    """A submission commits untracked files without the user's index."""
    monkeypatch.chdir(shelf.lab.path)
    commit(shelf.lab.path)
    configuration = shelf.experiment / "conf/growth_gh_001.yaml"
    configuration.write_text("defaults: [runtime, default, _self_]\n")
    with monkeypatch.context() as patch:
        patch.setenv("GIT_INDEX_FILE", str(shelf.lab.path / ".git/index-of-submission"))
        git(shelf.lab.path, "add", ".")
        tree = git(shelf.lab.path, "write-tree").strip()
    submitted = git(shelf.lab.path, "commit-tree", "-p", "HEAD", "-m", "submitted", tree).strip()
    figure = shelf.draw("011-x.png", Configuration="growth_gh_001", Commit=f"{submitted}-dirty")
    dirty = f"dirty: it was made from uncommitted changes of {submitted[:8]}"
    assert shelf.command("list", "--figure", figure).splitlines()[-1].endswith(dirty)
    configuration.write_text("defaults: [runtime, default, _self_]\nseed: 1\n")
    stale = f"stale: experiments/011-x/conf/growth_gh_001.yaml differs from {submitted[:8]}"
    assert shelf.command("list", "--figure", figure).splitlines()[-1].endswith(stale)


NOTE = """\
![A](./assets/images/good.png) ![b](assets/images/gone.png "title") ![c](<assets/images/a b.png>)
![good.png again](./assets/images/good.png) ![web](https://example.org/x.png) ![[another.note]]
![[good.png|300]] ![[lost.png]] ![[deep/nested.png#fig]] ![](/assets/images/dirty%20one.png)
`![code](none.png)` and ![d][ref] <img width=3 src='assets/images/fold.png'>
```
![fenced](none.png)
```
![old](assets/images/s_2026-11-25-10-15-53.png) ![new](assets/images/s_2026-11-26-10-15-53_2.png)
![old folder](assets/images/f_2026-11-25-10-15-53/x.png)

[ref]: assets/images/ref.png
"""
PAPER = r"""
\graphicspath{{../notes/assets/images/}{figures/}}
% \includegraphics{none}
50\% \includegraphics[width=\linewidth]{good} \includegraphics{good.png} \includegraphics*{ lost }
\includegraphics{\home/x.png}\includegraphics{v1.5}
"""
FOUND = """\
notes/a.md:1: assets/images/gone.png is missing
notes/a.md:1: assets/images/a b.png is unknown, because its metadata has no script or no commit
notes/a.md:3: lost.png is missing
notes/a.md:3: deep/nested.png is unknown, because its metadata has no script or no commit
notes/a.md:3: /assets/images/dirty one.png is dirty, because it was made from uncommitted changes of {head}
notes/a.md:4: assets/images/ref.png is missing
notes/a.md:4: assets/images/fold.png is missing
notes/a.md:8: assets/images/s_2026-11-25-10-15-53.png is older than s_2026-11-26-10-15-53_2.png
notes/a.md:9: assets/images/f_2026-11-25-10-15-53/x.png is older than f_2026-11-27-10-15-53/x.png
paper/sections/a.tex:4: lost is missing
paper/sections/a.tex:5: \\home/x.png cannot be checked, because the path contains a macro. Write the path in full.
"""


def test_embedded_figures_are_checked(shelf):
    notes = shelf.lab.path / "notes"
    (notes / "assets").mkdir(parents=True)
    shelf.lab.images.rename(notes / "assets/images")
    edit(shelf.lab.path / ".env", f"{shelf.lab.path}/images", f"{notes}/assets/images")
    shelf.lab.images.symlink_to("notes/assets/images")
    commit(shelf.lab.path)
    series = ("s_2026-11-25-10-15-53.png", "s_2026-11-26-10-15-53_2.png", "s2_2026-11-29-10-15-53.png")
    for name in ("good.png", "v1.5.png", *series, "f_2026-11-25-10-15-53/x.png", "f_2026-11-27-10-15-53/x.png"):
        shelf.draw(name)
    shelf.draw("dirty one.png", dirty=True)
    for name in ("a b.png", "deep/nested.png"):
        shelf.draw(name, Script="").write_bytes(b"not by a script")
    (notes / "a.md").write_text(NOTE)
    (shelf.lab.path / "paper/sections").mkdir(parents=True)
    (shelf.lab.path / "paper/sections/a.tex").write_text(PAPER)
    head = git(shelf.lab.path, "rev-parse", "--short=8", "HEAD").strip()
    printed = shelf.command("check", "--figures", "notes", "paper", code=1)
    assert printed == FOUND.format(head=head)
    (notes / "a.md").unlink()
    assert shelf.command("check", "--figures", "notes") == ""
    assert shelf.command("check", "--figures", "nowhere", code=1) == "experiments: nowhere is not a folder\n"
    # What --markdown prints can be appended to a note: its links are relative to the folder of the notes.
    text = shelf.command("figures", "011-x", "--markdown")
    assert "## 011-x growth\\_gh\\_000\n\n![A title](./assets/images/" in text
    assert f"*A title*: [[experiments.011-x.scripts.growth]], `growth_gh_000`, commit {head}" in text
    (notes / "b.md").write_text(text)
    lines = shelf.command("check", "--figures", "notes", code=1).splitlines()
    assert lines and not any("missing" in line for line in lines)


def test_figures_of_a_real_note_have_no_metadata(tmp_path):
    replica = tmp_path / "replica"
    run(sys.executable, ROOT / "tests/support/replica.py", replica, check=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = run(sys.executable, "-m", "experiments", "check", "--figures", "notes", cwd=replica, env=environment)
    unknown = "is unknown, because its metadata has no script or no commit"
    images = "./assets/images/025-plate-growth"
    assert (done.returncode, done.stdout.splitlines()) == (
        1,
        [
            f"notes/experiments.025-plate-growth.md:10: {images}/closure_2026-09-30-11-12-13.png {unknown}",
            f"notes/experiments.025-plate-growth.md:11: {images}/arms.png {unknown}",
        ],
    )
