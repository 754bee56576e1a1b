"""`experiments check --figures`: find the images that notes and papers embed, and check how each was made."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from experiments.code_state import CodeState
from experiments.errors import Problem, one_line, reason
from experiments.figure_metadata import READERS, read_metadata
from experiments.git import Repository
from experiments.history import load_env

IMAGES = (".pdf", ".png", ".jpg", ".jpeg", ".svg", ".gif", ".eps", ".webp")  # LaTeX looks for endings in this order
LARGEST_TEXT = 10_000_000  # bytes
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:|//", re.IGNORECASE)
STAMP = re.compile(r"\d{4}([-_]?)\d{2}\1\d{2}[-_T]?\d{2}([-_]?)\d{2}\2\d{2}(?:[-_.]\d{6})?")
COPY = re.compile(r"(?<=\d)_\d+$")  # what is added if the name of a stamped figure is taken

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
MARKDOWN = (
    re.compile(r"!\[[^\]]*\]\(\s*(?:<([^>\n]+)>|((?:[^\s()]|\([^\s()]*\))+))[^)]*\)"),
    re.compile(r"!\[\[([^\]|#\n]+)[^\]\n]*\]\]"),
    re.compile(r"<img\b[^>]*?\bsrc\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE),
)
REFERENCE = re.compile(r"!\[([^\]]*)\](?:\[([^\]]*)\])?(?![(\[])")
DEFINITION = re.compile(r"^ {0,3}\[([^\]]+)\]:\s*(?:<([^>\n]+)>|(\S+))", re.MULTILINE)
COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*")
GRAPHICS = re.compile(r"\\include(?:graphics|svg)\*?\s*(?:\[[^\]]*\]\s*)?\{\s*([^}]+?)\s*\}")
GRAPHICSPATH = re.compile(r"\\graphicspath\s*\{((?:\s*\{[^}]*\})+)\s*\}")
BRACED = re.compile(r"\{\s*([^}]*?)\s*\}")


@dataclass(frozen=True)
class Embed:
    """An image in a text file, as it is written there."""

    file: Path
    line: int
    target: str
    is_wiki: bool = False  # ![[NAME]], with or without its folder


@dataclass
class Places:
    """Where the images of a folder's files may be."""

    folder: Path
    images: Path | None  # ASSET_IMAGES_DIR
    root: Path  # of the repository
    graphics: dict[Path, list[str]] = field(default_factory=dict)  # \graphicspath by LaTeX file

    def find(self, embed: Embed) -> Path | None:
        """Return the file of an embedded image; None if there is none."""
        places = self.latex_places(embed) if embed.file.suffix == ".tex" else self.markdown_places(embed)
        for place in places:
            path = Path(os.path.normpath(place / embed.target.lstrip("/" if place == self.folder else "")))
            for candidate in (path, *([] if path.suffix.lower() in IMAGES else with_endings(path))):
                if candidate.suffix.lower() in IMAGES and candidate.is_file():
                    return candidate
        return self.find_by_name(embed) if embed.is_wiki else None

    def markdown_places(self, embed: Embed) -> Iterator[Path]:
        yield embed.file.parent
        yield self.folder  # Dendron writes /assets/images/NAME
        yield self.root
        if self.images and embed.is_wiki:
            yield self.images

    def latex_places(self, embed: Embed) -> Iterator[Path]:
        """Yield the folders where LaTeX looks. It runs in the folder of the main file, above the included ones."""
        parents = [embed.file.parent]
        while parents[-1] != self.folder and self.folder in parents[-1].parents:
            parents.append(parents[-1].parent)
        yield from parents
        for names in self.graphics.values():
            yield from (parent / name for parent in parents for name in names)

    def find_by_name(self, embed: Embed) -> Path | None:
        """Return the image with the name of an Obsidian embed, in any folder of the notes or of the images."""
        folders = [self.folder, *([self.images] if self.images else [])]
        found = (paths.get(Path(embed.target).name) for paths in map(images_by_name, folders))
        return next(filter(None, found), None)


@cache
def images_by_name(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in files_in(folder, IMAGES)}


def with_endings(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{ending}") for ending in IMAGES]


def check_embedded(folders: Sequence[str]) -> int:
    """Print a line for each embedded image with a problem. Returns 1 if there is one, else 0."""
    repository = Repository.find(Path("."))
    state, found = CodeState(repository), False
    for name in folders:
        folder = Path(name).resolve()
        if not folder.is_dir():
            raise Problem(f"{name} is not a folder")
        places = Places(folder, configured_images(repository.root), repository.root)
        texts = {path: read_text(path) for path in files_in(folder, (".md", ".tex"))}
        places.graphics = {path: graphics_paths(text) for path, text in texts.items() if path.suffix == ".tex"}
        for embed in (embed for path, text in texts.items() for embed in embeds_of(path, text)):
            if problem := problem_of(embed, places, state):
                found = True
                print(f"{os.path.relpath(embed.file)}:{embed.line}: {one_line(embed.target)} {problem}")
    return int(found)


def configured_images(root: Path) -> Path | None:
    """Return the ASSET_IMAGES_DIR of the environment or of the repository's .env."""
    folder = load_env(root / ".env").get("ASSET_IMAGES_DIR")
    return Path(folder) if folder else None


def files_in(folder: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Yield the files below a folder with these endings, sorted. Hidden folders are skipped."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "node_modules")
        yield from (Path(parent, name) for name in sorted(names) if name.lower().endswith(tuple(endings)))


def read_text(path: Path) -> str:
    """Return the text of a file; of a link that leads nowhere or a huge file nothing."""
    with suppress(FileNotFoundError):
        if path.stat().st_size <= LARGEST_TEXT:
            return path.read_text(encoding="utf-8", errors="surrogateescape")
    return ""


# What is embedded -----------------------------------------------------------------------------------------------------


def embeds_of(path: Path, text: str) -> list[Embed]:
    """Return the images that a file embeds, each once, in the order of the lines."""
    find = find_latex if path.suffix == ".tex" else find_markdown
    first: dict[str, Embed] = {}
    for start, target, is_wiki in sorted(find(text)):
        first.setdefault(target, Embed(path, text.count("\n", 0, start) + 1, target, is_wiki))
    return list(first.values())


def find_markdown(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield the position and the target of each image in Markdown, and whether it is a wiki link."""
    plain = blank(CODE, blank(FENCE, text))
    for pattern in MARKDOWN:
        for found in pattern.finditer(plain):
            target = next(filter(None, found.groups()))
            is_wiki = found[0].startswith("![[")
            yield from markdown_image(found.start(), target if is_wiki else unquote(target), is_wiki)
    definitions = {found[1].lower(): found[2] or found[3] for found in DEFINITION.finditer(plain)}
    for found in REFERENCE.finditer(plain):
        target = definitions.get((found[2] or found[1]).lower())
        if target:
            yield from markdown_image(found.start(), unquote(target), False)


def markdown_image(start: int, target: str, is_wiki: bool) -> Iterator[tuple[int, str, bool]]:
    """Yield an image of this machine. A note may embed other notes, and images of the network."""
    target = target.strip()
    if os.path.splitext(target)[1].lower() in IMAGES and not ADDRESS.match(target):
        yield start, target, is_wiki


def find_latex(text: str) -> Iterator[tuple[int, str, bool]]:
    for found in GRAPHICS.finditer(blank(COMMENT, text)):
        yield found.start(), found[1], False


def graphics_paths(text: str) -> list[str]:
    """Return the folders of \\graphicspath."""
    return [name for found in GRAPHICSPATH.findall(blank(COMMENT, text)) for name in BRACED.findall(found)]


def blank(pattern: re.Pattern[str], text: str) -> str:
    """Return a text with spaces in place of what matches, so that the lines and positions stay."""
    replace: Callable[[re.Match[str]], str] = lambda found: re.sub(r"[^\n]", " ", found[0])  # noqa: E731
    return pattern.sub(replace, text)


# What is wrong with it ------------------------------------------------------------------------------------------------


def problem_of(embed: Embed, places: Places, state: CodeState) -> str:
    """Return what is wrong with an embedded image, in one line; empty if nothing is."""
    if "\\" in embed.target or "#" in embed.target:
        return "cannot be checked, because the path contains a macro. Write the path in full."
    path = places.find(embed)
    if not path:
        return "is missing"
    try:
        metadata: Mapping[str, str] = read_metadata(path)
    except OSError as error:
        return f"cannot be read: {reason(error)}"
    words = [f"{mark.name}, because {mark.reason}" for mark in state.marks(metadata)]
    if newer := newest_of(path):
        words.append(f"older than {newer}")
    return f"is {', and '.join(words)}" if words else ""


def newest_of(path: Path) -> str:
    """Return the newest figure of the same stem, from the image's folder; empty if it is this one.

    The stamp that is compared is part of the file's name or of its folder's.
    """
    key, stamp = split_stamp(path.stem)
    if stamp:
        names = {each.stem: each.name for each in images_beside(path.parent) if each.suffix == path.suffix}
    else:
        key, stamp = split_stamp(path.parent.name)
        others = path.parent.parent.iterdir() if stamp else ()
        names = {each.name: f"{each.name}/{path.name}" for each in others if (each / path.name).is_file()}
    newer = [(own, names[name]) for name in names if (own := newer_stamp(name, key, stamp))]
    return max(newer, default=("", ""))[1]


@cache
def images_beside(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix.lower() in READERS]


def newer_stamp(name: str, key: str, stamp: str) -> str:
    """Return the stamp of a name with this key if it is newer, else an empty text."""
    own_key, own = split_stamp(name)
    return own if own_key == key and own > stamp else ""


def split_stamp(name: str) -> tuple[str, str]:
    """Return a name without its last time stamp and that stamp; an empty stamp if it has none."""
    found = list(STAMP.finditer(name))
    if not found:
        return name, ""
    last = found[-1]
    copy = COPY.search(name)
    end = copy.start() if copy and copy.start() >= last.end() else len(name)
    return f"{name[: last.start()]}*{name[last.end() : end]}", last[0]
