"""`experiments figures`: find figures, and write a page or Markdown that shows how each was made."""

import os
import shlex
import sys
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from experiments.code_state import SCRIPT, CodeState, Mark
from experiments.errors import Problem, one_line, reason
from experiments.experiment import Experiment, find_all
from experiments.figure_metadata import READERS, read_metadata
from experiments.files import Write, read_now, write_all
from experiments.history import find_env, load_env, runs_folder
from experiments.records import find_records, load_record, text_of, texts_of

PREFERRED = (".png", ".svg", ".gif", ".jpg", ".jpeg", ".webp", ".pdf")  # the format of a figure that is shown
GENERATOR = '<meta name="generator" content="experiments figures">'  # marks a page that may be replaced


@dataclass
class Figure:
    """A figure with its provenance.

    path        the file that is shown
    metadata    its own metadata; without any, what the record of its run has
    is_stamped  whether the metadata is its own
    formats     all files of the figure, `path` first
    """

    path: Path
    metadata: dict[str, str]
    is_stamped: bool
    experiment: str
    point: str
    made: datetime
    size: int
    marks: list[Mark] = field(default_factory=list)
    formats: list[Path] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.metadata.get("Title") or self.path.stem

    @property
    def group(self) -> tuple[str, ...]:
        """The experiment, configuration and point, without empty ones."""
        return tuple(filter(None, (self.experiment, self.metadata.get("Configuration"), self.point)))


@dataclass
class Recorded:
    """What the records of experiments have: by the path of a figure, and by a run's folder."""

    figures: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # experiment and record
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, experiments: Sequence[Experiment]) -> "Recorded":
        recorded = cls()
        for experiment in experiments:
            for record in find_records(runs_folder(experiment)):
                found, folder = load_record(record), os.path.dirname(record)
                recorded.runs[folder] = found | {"folder": folder}
                for path in texts_of(found.get("figures")):
                    recorded.figures[path] = experiment.path.name, recorded.runs[folder]
        return recorded


@dataclass(frozen=True)
class Options:
    """Where to write the page, and how."""

    output: str | None = None
    open_it: bool = False
    markdown: bool = False


def show_figures(path: str | None, options: Options) -> int:
    """Write the page of the figures of an experiment, or of all, and print its path."""
    experiments = [Experiment.open(path)] if path else find_all()
    figures = find_figures(experiments, only_these=bool(path))
    if options.markdown:
        return write_markdown(figures, images_folder(experiments[0]), options.output)
    from experiments.figures_page import render_page

    page = Path(options.output).resolve() if options.output else default_page(experiments, bool(path))
    write_page(page, render_page(figures, page).encode())
    print(f"page: {page} ({describe(figures)})")
    if options.open_it and not webbrowser.open(page.as_uri()):
        raise Problem("no browser is available", f"Open the page yourself: {page}")
    return 0


def default_page(experiments: Sequence[Experiment], is_one: bool) -> Path:
    """Return where the page is written by default: beside the folders of the runs, so never in git."""
    folder = runs_folder(experiments[0]).parent
    return (folder if is_one else folder.parent) / "figures.html"


def write_page(page: Path, content: bytes) -> None:
    before = read_now(page)
    if before is not None and GENERATOR.encode() not in before[:2000]:
        raise Problem(f"{page} was not written by this command", "Move it, or choose another --output.")
    write_all([Write(page, before, content)])


def describe(figures: Sequence[Figure]) -> str:
    """Return `12 figures, 3 stale, 1 dirty`."""
    words = [f"{len(figures)} figure{'s' if len(figures) != 1 else ''}"]
    for name in ("stale", "dirty", "unknown"):
        count = sum(any(mark.name == name for mark in figure.marks) for figure in figures)
        words += [f"{count} {name}"] if count else []
    return ", ".join(words)


# Find -----------------------------------------------------------------------------------------------------------------


def find_figures(experiments: Sequence[Experiment], only_these: bool) -> list[Figure]:
    """Return the figures in the experiments' folders of images and in their records, the newest first.

    `only_these` leaves out figures that no name and no metadata connects with one of the experiments.
    """
    recorded = Recorded.read(experiments)
    folders = dict.fromkeys(images_folder(experiment) for experiment in experiments)
    paths = {str(path): None for folder in folders for path in images_in(folder)}
    paths |= {path: None for path in recorded.figures if os.path.isfile(path)}
    found = filter(None, (read_figure(Path(path), recorded, experiments) for path in paths))
    names = {experiment.path.name for experiment in experiments}
    figures = join_formats([figure for figure in found if not only_these or figure.experiment in names])
    state = CodeState(experiments[0].repository)
    state.prepare(figure.metadata for figure in figures)
    for figure in figures:
        figure.marks = state.marks(figure.metadata if figure.is_stamped else {})
    return sorted(figures, key=lambda figure: (figure.made, str(figure.path)), reverse=True)


def images_folder(experiment: Experiment) -> Path:
    """Return the ASSET_IMAGES_DIR that the scripts of an experiment find."""
    env = find_env(experiment)
    folder = load_env(env).get("ASSET_IMAGES_DIR")
    if not folder:
        raise Problem(f"ASSET_IMAGES_DIR is not set in {env}", "Set it: scripts save their figures there.")
    return Path(folder)


def images_in(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, of the formats with readable metadata. Hidden folders are skipped."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if os.path.splitext(name)[1].lower() in READERS)


def read_figure(path: Path, recorded: Recorded, experiments: Sequence[Experiment]) -> Figure | None:
    """Return a figure with the facts in its metadata, record and name; None if it cannot be read."""
    try:
        metadata, stat = read_metadata(path), path.stat()
    except OSError:  # removed at this moment, a dangling link, or another user's
        return None
    is_stamped = "Script" in metadata and "Commit" in metadata
    owner, record = recorded.figures.get(str(path), ("", {}))
    if is_stamped:
        script = SCRIPT.fullmatch(metadata["Script"])
        owner = script[1] if script else ""
        record = recorded.runs.get(metadata.get("Run", ""), {})
    elif record:
        metadata = metadata_of(record)
    else:
        owner = next((each.path.name for each in experiments if has_prefix(path, each.prefix)), "")
    made = datetime.fromtimestamp(stat.st_mtime).astimezone()
    with suppress(ValueError):
        made = datetime.fromisoformat(text_of(record.get("started"))).astimezone()
    return Figure(path, metadata, is_stamped, owner, text_of(record.get("point")), made, stat.st_size)


def has_prefix(path: Path, prefix: str) -> bool:
    """Return whether the name of a file or of its folder begins with an experiment's number."""
    return any(name.startswith(f"{prefix}-") for name in path.parts[-2:])


def metadata_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what a record has about a figure without metadata."""
    names = {"Script": "script", "Configuration": "config", "Commit": "commit", "Job": "job", "Run": "folder"}
    facts = {title: text_of(record.get(name)) for title, name in names.items()}
    facts["Overrides"] = " ".join(texts_of(record.get("overrides")))
    return {title: text for title, text in facts.items() if text}


def join_formats(figures: Sequence[Figure]) -> list[Figure]:
    """Return one figure for all files of the same stem and run."""
    joined: dict[tuple[str, ...], Figure] = {}
    for figure in sorted(figures, key=rank):
        origin = figure.metadata if figure.is_stamped else {"Script": str(figure.path)}
        key = (str(figure.path.with_suffix("")), *(origin.get(name, "") for name in ("Script", "Commit", "Run")))
        joined.setdefault(key, figure).formats.append(figure.path)
    return list(joined.values())


def rank(figure: Figure) -> int:
    """Return the place of a figure's format in PREFERRED. Records also name figures of other formats."""
    ending = figure.path.suffix.lower()
    return PREFERRED.index(ending) if ending in PREFERRED else len(PREFERRED)


# Markdown -------------------------------------------------------------------------------------------------------------


def write_markdown(figures: Sequence[Figure], images: Path, output: str | None) -> int:
    """Print the figures as Markdown for a Dendron note, or write it to a new file."""
    note = Path(output).resolve() if output else None
    if note and note.exists():
        raise Problem(f"{note} exists", "Remove --output, and append the printed text to the note.")
    text = "\n".join(markdown_lines(figures, note.parent if note else notes_folder(images)))
    if note:
        write_all([Write(note, None, text.encode())])
    else:
        sys.stdout.write(text)
    return 0


def notes_folder(images: Path) -> Path:
    """Return the folder of the notes that embed ./assets/images/NAME; the current one if the images are elsewhere."""
    return images.parent.parent if images.parts[-2:] == ("assets", "images") else Path.cwd()


def markdown_lines(figures: Sequence[Figure], folder: Path) -> Iterator[str]:
    """Yield the lines: a heading for each configuration and point, then each figure with a caption."""
    group: tuple[str, ...] | None = None
    for figure in group_figures(figures):
        if figure.group != group:
            group = figure.group
            yield f"## {plain_markdown(' '.join(group) or 'Unknown')}\n"
        yield f"![{plain_markdown(figure.title)}]({relative_link(figure.path, folder)})\n"
        yield f"{caption(figure)}\n"


def caption(figure: Figure) -> str:
    """Return how a figure was made, in one line. The script is a link to its Dendron note."""
    facts = figure.metadata
    script = os.path.splitext(facts.get("Script", ""))[0].replace("/", ".")
    words = [f"[[{plain_markdown(script)}]]"] if script else []
    words += [f"`{one_line(facts[name])}`" for name in ("Configuration", "Overrides", "Command") if facts.get(name)]
    words += [f"commit {plain_markdown(facts['Commit'])}"] if facts.get("Commit") else []
    words += [f"**{mark.name}** ({plain_markdown(mark.reason)})" for mark in figure.marks]
    return f"*{plain_markdown(figure.title)}*: {', '.join(words)}"


def group_figures(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures by group: the group with the newest figure first, and in it the newest first."""
    groups: dict[tuple[str, ...], list[Figure]] = {}
    for figure in figures:
        groups.setdefault(figure.group, []).append(figure)
    return [figure for group in groups.values() for figure in group]


def plain_markdown(text: str) -> str:
    """Return text as one line, with Markdown and HTML markup escaped."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in one_line(text))


def relative_link(path: Path, folder: Path) -> str:
    """Return a link from a folder to a file, which begins with ./ or ../"""
    relative = os.path.relpath(path, folder)
    return quote(os.fsencode(relative if relative.startswith("..") else f"./{relative}"))


# Promote --------------------------------------------------------------------------------------------------------------


def promote(file: str, name: str) -> int:
    """Copy a figure with its metadata to a stable name, in all of its formats. Prints the new paths."""
    figure = Path(file).resolve()
    if not figure.is_file():
        raise Problem(f"{file} is not a file")
    origin = read_metadata(figure)
    if "Script" not in origin:
        raise Problem(f"{file} has no metadata about a script", "Save it with run.save or save_figure.")
    target = target_of(figure, name)
    names = [each for each in sorted(READERS) if is_same_figure(figure.with_suffix(each), origin)]
    writes = [promotion(figure.with_suffix(each), target.with_suffix(each), origin) for each in names]
    write_all(writes)
    for write in writes:
        print(f"figure: {write.path}")
    return 0


def is_same_figure(path: Path, origin: Mapping[str, str]) -> bool:
    own = read_metadata(path) if path.is_file() else {}
    return bool(own) and all(own.get(key) == origin.get(key) for key in ("Script", "Run", "Commit"))


def target_of(figure: Path, name: str) -> Path:
    """Return the stable path. A bare name is in the folder of the figure, and the ending may be left out."""
    path = Path(name) if "/" in name else figure.parent / name
    if path.suffix.lower() in READERS and path.suffix != figure.suffix:
        raise Problem(f"{name} and {figure.name} have different file extensions", f"Write {path.stem}{figure.suffix}.")
    return path if path.suffix == figure.suffix else path.with_name(f"{path.name}{figure.suffix}")


def promotion(figure: Path, target: Path, origin: Mapping[str, str]) -> Write:
    """Return the copy of a file. Raises Problem if another script made the file that it would replace."""
    before = read_now(target)
    if before is not None and read_metadata(target).get("Script") != origin["Script"]:
        move = f"Move it first: mv {shlex.quote(str(target))} {shlex.quote(f'{target}.old')}"
        raise Problem(f"{target} was not made by {origin['Script']}", move)
    try:
        return Write(target, before, figure.read_bytes())
    except OSError as error:
        raise Problem(reason(error)) from None
