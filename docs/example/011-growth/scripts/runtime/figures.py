"""Figures that say what made them, and that overwrite nothing of others."""

import codecs
import os
import os.path as osp
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.etree import ElementTree

from runtime.files import link_new, part_of
from runtime.paths import PACKAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
ESCAPED = {b"n": b"\n", b"r": b"\r"}  # in a string of PDF
ORIGIN = ("Script", "Configuration")  # what may replace a figure whose name has no stamp


def save_figure(figure: "Figure", path: str | os.PathLike[str], metadata: Mapping[str, str], **options: Any) -> str:
    """Write a figure of matplotlib whole, as PNG, SVG or PDF by the path's ending, and return its path.

    A name that has a stamp, or whose folder has one, is always a new file: where it is taken, _2 follows it. Any other
    is replaced, but only where the figure there has the same Script and Configuration in its metadata. The folder is
    made. `options` are of matplotlib's savefig, but for `format` and `metadata`. A PNG has 150 dots per inch, or the
    figure's own where these are more. Exits where the path cannot be had.
    """
    path = osp.abspath(path)
    ending = osp.splitext(path)[1]
    if ending not in ENDINGS:
        sys.exit(f"{path} is no name of a figure: let it end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    is_new = has_stamp(path)
    if not is_new and osp.lexists(path) and not has_origin(path, metadata):
        sys.exit(f"{path} is not by this script and configuration, and stays: move it away, or choose another name.")
    with part_of(path) as part:
        with open(part, "xb") as file:
            draw(figure, file, ending[1:], metadata, options)
        if is_new:
            return link_new(part, path)
        os.replace(part, path)
        return path


def draw(figure: "Figure", file: BinaryIO, kind: str, metadata: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Write a figure to a file. The format is said, since `savefig.format` of a matplotlibrc would win over a name."""
    import matplotlib

    if matplotlib.rcParams["text.usetex"] and not shutil.which("latex"):
        sys.exit(f"text.usetex is on, but there is no latex: install it, or see {matplotlib.matplotlib_fname()}.")
    told = dict(metadata)
    if kind == "svg":  # which has no keys of one's own
        told = {"Description": "\n".join(f"{key}: {' '.join(value.split())}" for key, value in metadata.items())}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown infodict keyword")  # of PDF, where they are kept
        figure.savefig(file, **({"dpi": resolution(figure)} | dict(options)), format=kind, metadata=told)


def resolution(figure: "Figure") -> float:
    """Dots per inch: those of a matplotlibrc's `savefig.dpi`, or of the figure, but 150 at least."""
    import matplotlib

    asked = matplotlib.rcParams["savefig.dpi"]
    return max(150, figure.dpi) if asked == "figure" else float(asked)


def stamp_pattern() -> str:
    """A pattern of what the package's timestamp() gives, anywhere in a name: its digits are any digits."""
    module = import_module(f"{PACKAGE}.timestamp" if PACKAGE else "timestamp")
    return re.sub(r"\d", r"\\d", re.escape(module.timestamp()))


def has_stamp(path: str) -> bool:
    """Whether a file's name or its folder's has a stamp."""
    return any(re.search(stamp_pattern(), name) for name in path.split(osp.sep)[-2:])


def has_origin(path: str, metadata: Mapping[str, str]) -> bool:
    try:
        made = READERS[osp.splitext(path)[1]](path)
    except (OSError, SyntaxError):  # no such image, or no such XML
        return False
    return all(made.get(key) == metadata.get(key) for key in ORIGIN)


def read_png(path: str) -> dict[str, str]:
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(path) as image:  # of any size: nothing but the texts before its pixels is read
        return {str(key): value for key, value in image.info.items() if isinstance(value, str)}


def read_svg(path: str) -> dict[str, str]:
    found = ElementTree.parse(path).find(".//{http://purl.org/dc/elements/1.1/}description")
    lines = (found.text or "").splitlines() if found is not None else []
    return {key: value for key, _, value in (line.partition(": ") for line in lines)}


def read_pdf(path: str) -> dict[str, str]:
    with open(path, "rb") as file:
        found = re.findall(rb"/(\w+) \(((?:\\.|[^\\)])*)\)", file.read(), flags=re.DOTALL)
    return {key.decode(): pdf_text(value) for key, value in found}


def pdf_text(value: bytes) -> str:
    """A string of PDF, in UTF-16 if it begins with a mark of that."""
    plain = re.sub(rb"\\(.)", lambda found: ESCAPED.get(found[1], found[1]), value, flags=re.DOTALL)
    return plain.decode("utf-16" if plain.startswith(codecs.BOM_UTF16_BE) else "latin-1", errors="replace")


READERS = {".png": read_png, ".svg": read_svg, ".pdf": read_pdf}
