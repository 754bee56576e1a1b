"""Measure `experiments figures` with 1,000 figures of fifty commits, and how long Chromium takes to open their page."""

import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from list import measure
from render import ROOT, quiet_git, template
from update import git, monorepo

FIGURES, COMMITS, ROUNDS = 1000, 50, 3
PICTURE = ROOT / "docs/growth.png"
# Cards, not images: the place of an image below the screen makes Chromium lay out its card.
SEEN = "[...document.querySelectorAll('article')].filter(card => card.getBoundingClientRect().top < innerHeight)"
SHOWN = f"Promise.all({SEEN}.map(card => card.querySelector('img').decode()))"
PNG_START = 33  # bytes: the signature and the header, after which texts may stand


def write_figures(lab, images):
    """Write copies of a real figure, each with metadata of its own. Another file changes with each commit."""
    picture = PICTURE.read_bytes()
    for number in range(COMMITS):
        (lab / "notes.txt").write_text(str(number))
        git(lab, "add", "notes.txt")
        git(lab, "commit", "--quiet", "--message", f"Note {number}")
        commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=lab, text=True).strip()
        for other in range(number, FIGURES, COMMITS):
            facts = {"Title": f"Figure {other}", "Script": "experiments/000-x/scripts/x.py", "Commit": commit}
            facts |= {"Configuration": f"x_gh_{other % 40:03}", "Overrides": f"noise={other / 7}", "Job": "none"}
            texts = b"".join(text_chunk(name, text) for name, text in facts.items())
            (images / f"{other:04}.png").write_bytes(picture[:PNG_START] + texts + picture[PNG_START:])


def text_chunk(name, text):
    content = b"tEXt" + name.encode() + b"\0" + text.encode()
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def open_in_browser(page, folder):
    """Return the seconds that Chromium takes until the page and the figures in sight are shown."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.browser import Browser

    times = []
    for number in range(ROUNDS):
        browser = Browser(folder / f"browser{number}")  # with an empty cache
        browser.resize(1260, 900)
        start = time.monotonic()
        browser.open(page)
        browser.evaluate(SHOWN)
        times.append(time.monotonic() - start)
        assert browser.evaluate("document.querySelectorAll('article').length") == FIGURES and not browser.problems
        browser.stop()
    return statistics.median(times)


def main():
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quiet_git(folder)
        source = template(folder / "template")
        git(source, "tag", "v1.0.0")
        lab, images = folder / "lab", folder / "images"
        monorepo(lab, source, ["000-x"], 0)
        images.mkdir()
        (lab / ".env").write_text(f"DATA_ROOT={folder}\nASSET_IMAGES_DIR={images}\n")
        write_figures(lab, images)
        times, peaks = zip(
            *(measure(lab, "figures", "--output", folder / "page.html") for _ in range(ROUNDS)), strict=True
        )
        print(f"\n{FIGURES} figures of {COMMITS} commits (median of {ROUNDS})\n")
        print(f"  {statistics.median(times):5.2f} s  {max(peaks):4.0f} MB  experiments figures")
        print(f"  {open_in_browser(folder / 'page.html', folder):5.2f} s           open the page in Chromium\n")


if __name__ == "__main__":
    main()
