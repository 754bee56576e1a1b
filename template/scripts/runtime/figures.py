"""Figures that record how they were made, and never overwrite those of others."""

import os
import os.path as osp
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

from runtime.figure_metadata import read_metadata
from runtime.files import FileError, explain, link_new, temporary
from runtime.paths import PACKAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
ORIGIN = ("Script", "Configuration")  # what may replace a figure whose name has no stamp


def save_figure(figure: "Figure", path: str | os.PathLike[str], metadata: Mapping[str, str], **options: Any) -> str:
    """Write a figure of matplotlib whole, as PNG, SVG or PDF by the path's ending, and return its path.

    A name that has a stamp, or whose folder has one, is always a new file: if it is taken, _2 follows it. Any other
    is replaced, but only if the figure there has the same Script and Configuration in its metadata. The folder is
    made. `options` are of matplotlib's savefig, except `format` and `metadata`. A PNG has 150 dots per inch, or the
    figure's own if these are more. Exits if the figure cannot be written at the path.
    """
    try:
        return write_figure(figure, path, metadata, options)
    except (FileError, OSError) as error:
        sys.exit(explain(error, path))


def write_figure(
    figure: "Figure", path: str | os.PathLike[str], metadata: Mapping[str, str], options: Mapping[str, Any]
) -> str:
    """Do what `save_figure` does. Raises FileError, OSError, or what matplotlib raises."""
    path = osp.abspath(os.fspath(path))
    ending = osp.splitext(path)[1]
    if ending not in ENDINGS:
        raise FileError(f"a figure's name ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}. Give it such an ending.")
    refuse_missing_root(path)
    is_new = has_stamp(path)
    if not is_new and osp.lexists(path) and not has_origin(path, metadata):
        raise FileError("another script or configuration made this file. Move it, or save under another name.")
    with temporary(path) as part:
        with open(part, "xb") as file:
            draw(figure, file, ending[1:], metadata, options)
        if is_new:
            return link_new(part, path)
        os.replace(part, path)
        return path


def refuse_missing_root(path: str) -> None:
    """Raise FileError if the folder of all images is gone: a new one might be on the disk below its mount point."""
    root = osp.abspath(os.environ.get("ASSET_IMAGES_DIR", os.sep))
    if osp.commonpath([root, path]) == root and not osp.isdir(root):
        raise FileError(f"there is no folder {root}. Make it again, or mount its disk.")


def keep_figure(
    figure: "Figure", folder: str, path: object, metadata: Mapping[str, str], options: Mapping[str, Any]
) -> str:
    """Write a figure to a folder under the name that `path` has, or with _2 and so on, and return its path.

    If it cannot be drawn as it is, its texts are drawn as they are written, and no options are used.
    """
    root, ending = osp.splitext(file_name(path))
    target = osp.join(folder, root + (ending if ending in ENDINGS else ".png"))
    with temporary(target) as part:
        with open(part, "xb") as file:
            draw_somehow(figure, file, osp.splitext(target)[1][1:], metadata, options)
        return link_new(part, target)


def draw_somehow(
    figure: "Figure", file: BinaryIO, kind: str, metadata: Mapping[str, str], options: Mapping[str, Any]
) -> None:
    """Draw a figure as it is, else with simple texts and without options. Raises what the second try raises."""
    import matplotlib

    try:
        draw(figure, file, kind, metadata, options)
    except OSError:  # of the disk
        raise
    except Exception:
        file.seek(0)
        file.truncate()
        simplify_texts(figure)
        with matplotlib.rc_context({"text.usetex": False}):
            draw(figure, file, kind, metadata, {})


def file_name(path: object) -> str:
    """Return the last part of a path if it can name a file, else "figure"."""
    name = osp.basename(osp.normpath(os.fsdecode(path))) if isinstance(path, str | bytes | os.PathLike) else ""
    is_name = name not in ("", ".", "..") and "\0" not in name and len(os.fsencode(name)) <= 200
    return name if is_name else "figure"


def simplify_texts(figure: "Figure") -> None:
    """Turn off TeX in a figure, and mathematics in those of its texts that matplotlib cannot read."""
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser: Any = MathTextParser("path")
    for text in figure.findobj(Text):
        text.set_usetex(False)
        text.set_text(printable(text.get_text()))
        try:
            parser.parse(text.get_text())
        except ValueError:
            text.set_parse_math(False)


def printable(text: str) -> str:
    """Return a text in which a byte that is not UTF-8 is \\udc80."""
    return text.encode(errors="backslashreplace").decode()


def draw(figure: "Figure", file: BinaryIO, kind: str, metadata: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Write a figure to a file. The format is given, since `savefig.format` of a matplotlibrc would win over a name.

    Raises FileError if it needs LaTeX, which is missing.
    """
    import matplotlib

    if matplotlib.rcParams["text.usetex"] and not shutil.which("latex"):
        raise FileError(
            f"text.usetex is on, but there is no latex. Install it, or see {matplotlib.matplotlib_fname()}."
        )
    told = {key: printable(value) for key, value in metadata.items()}
    if kind == "svg":  # which has no keys of one's own
        told = {"Description": "\n".join(f"{key}: {' '.join(value.split())}" for key, value in told.items())}
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
    """Return whether the file at a path is a figure of the same script and configuration."""
    try:
        found = read_metadata(path)
    except OSError:
        return False
    return all(found.get(key) == metadata.get(key) for key in ORIGIN)
