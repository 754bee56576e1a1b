"""Build the site of the documentation into a folder, by default site/: `make site`.

A link in a page leads to a file of the repository, so it works on GitHub too. PAGES maps such files to pages of the
site. The reference is generated from the parser, from the rules of lab.yml and from docs/example.
"""

import contextlib
import io
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
from experiments.cli import COMMANDS, DESCRIPTION, main  # noqa: E402
from experiments.template import Release  # noqa: E402

EXAMPLE = "docs/example/011-growth"
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "lab.yml": "reference/lab.md",
    EXAMPLE: "reference/example.md",
}
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
WORKER = "https://unpkg.com/iframe-worker/shim"
NAMED = re.compile(r"^(```\w+) (\S+)$", re.MULTILINE)  # a block with the name of a file
LINK = re.compile(r'(\]\(|src=")([^)"#]+)(?=[)"#])')
LANGUAGES = {".cql": "cypher", ".md": "markdown", ".py": "python", ".sh": "bash", ".slurm": "bash", ".toml": "toml"}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def fence(text: str, language: str = "text", title: str = "") -> str:
    """Return a code block. Its fence is longer than those in the text."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{language}{f' title={chr(34)}{title}{chr(34)}' if title else ''}\n{text.rstrip()}\n{ticks}\n"


def printed(*words: str) -> str:
    """Return what `experiments` prints for these words, as in a terminal of 100 columns."""
    terminal = mock.patch.dict(os.environ, COLUMNS="100", NO_COLOR="1")
    with terminal, contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        main(words)
    return output.getvalue()


def commands_page() -> Iterator[str]:
    yield f"# experiments\n\n{DESCRIPTION}\n\n[Updating](../updating.md) describes how to install it."
    for command in COMMANDS:
        yield f"## {command.name}\n\n{fence(printed(command.name, '--help'))}"


def submit_page() -> Iterator[str]:
    call = f"experiment={EXAMPLE.replace('docs/example', 'experiments')}; . arguments.sh; usage"
    folder = ROOT / "template/scripts/runtime"
    usage = subprocess.run(["bash", "-c", call], cwd=folder, check=True, capture_output=True, text=True).stdout
    yield "# submit.sh\n\nEvery experiment has this program. [Submitting](../submitting.md) describes it."
    yield fence(usage)


def lab_page() -> Iterator[str]:
    rules: Any = Release("", "", ROOT).jinja.get_template("rules/lab.jinja").module
    yield "# lab.yml\n\nThe only file to edit in a fork. [Your lab](../your-lab.md) explains each field."
    for title, fields in (("Fields", rules.lab_fields), ("Fields of a machine", rules.machine_fields)):
        rows = (f"| `{name}` | {what} |" for name, (_, what) in fields.items())
        yield "\n".join((f"## {title}\n", "| field | value |", "| --- | --- |", *rows))
    yield f"## The file\n\n{fence(read('lab.yml'), 'yaml', 'lab.yml')}"


def example_page() -> Iterator[str]:
    yield "# A rendered experiment\n\nThe files of an experiment with one run, except the library `scripts/runtime`."
    tracked = subprocess.run(["git", "ls-files", EXAMPLE], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for path in tracked.splitlines():
        name = posixpath.relpath(path, EXAMPLE)
        if not name.startswith("scripts/runtime/") and Path(name).name != ".gitkeep":
            yield f"## {name}\n\n{fence(read(path), LANGUAGES.get(Path(name).suffix, 'yaml'))}"


GENERATED = {
    "reference/lab.md": lab_page,
    "reference/experiments.md": commands_page,
    "reference/submit.md": submit_page,
    "reference/example.md": example_page,
}


def site_path(source: str, target: str) -> str:
    """Return the page, or the file below docs/, that a link in a file of the repository leads to."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path in PAGES:
        return PAGES[path]
    if not path.startswith("docs/"):
        sys.exit(f"{source}: the site has no page for {path}. Add it to PAGES in docs/build_site.py.")
    return path.removeprefix("docs/")


def prepare(source: str, place: str) -> str:
    """Return a page with links to pages of the site, and with the file name of a block as its title."""

    def point(link: re.Match[str]) -> str:
        if "://" in link[2]:
            return link[0]
        return link[1] + posixpath.relpath(site_path(source, link[2]), posixpath.dirname(place) or ".")

    parts = FENCE.split(read(source))
    parts[::2] = [LINK.sub(point, part) for part in parts[::2]]
    parts[1::2] = [NAMED.sub(r'\1 title="\2"', part) for part in parts[1::2]]
    return "".join(parts)


def write_pages(folder: Path) -> None:
    """Write the pages and pictures of the site into a new folder."""
    sources = {f"docs/{path.name}": path.name for path in (ROOT / "docs").glob("*.md")}
    sources |= {source: place for source, place in PAGES.items() if source.endswith(".md")}
    listed = read("docs/zensical.toml")
    if absent := [place for place in (*sources.values(), *GENERATED) if f'"{place}"' not in listed]:
        sys.exit(f"build_site.py: {absent[0]} is not in the navigation. Add it to nav in docs/zensical.toml.")
    (folder / "reference").mkdir(parents=True)
    for source, place in sources.items():
        (folder / place).write_text(prepare(source, place), encoding="utf-8")
    for place, parts in GENERATED.items():
        (folder / place).write_text("\n\n".join(parts()), encoding="utf-8")
    for picture in (ROOT / "docs").glob("*.[ps][nv]g"):
        shutil.copy(picture, folder)


def serve_worker(site: Path) -> None:
    """Make each page load worker.js from the site.

    Zensical's pages load such a script from a network. Without it, search does not work from file://.
    """
    shutil.copy(ROOT / "docs/worker.js", site)
    pages = [(path, path.read_text(encoding="utf-8")) for path in site.rglob("*.html")]
    for path, text in pages:
        local = posixpath.relpath("worker.js", path.parent.relative_to(site).as_posix())
        path.write_text(text.replace(WORKER, local), encoding="utf-8")
    if not any(WORKER in text for _, text in pages):
        sys.exit(f"build_site.py: no page loads {WORKER}. Look at what this version of Zensical loads instead.")


def build(destination: Path) -> None:
    """Build the site in a temporary folder, and move it to its destination when it is complete."""
    with tempfile.TemporaryDirectory() as temporary:
        write_pages(Path(temporary, "docs"))
        shutil.copy(ROOT / "docs/zensical.toml", temporary)
        command = [str(Path(sys.executable).parent / "zensical"), "build", "--strict"]
        if done := subprocess.run(command, cwd=temporary).returncode:
            sys.exit(done)
        site = Path(temporary, "site")
        serve_worker(site)
        shutil.rmtree(destination, ignore_errors=True)
        shutil.move(site, destination)
    print(f"site: {destination / 'index.html'}")


if __name__ == "__main__":
    build(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "site"))
