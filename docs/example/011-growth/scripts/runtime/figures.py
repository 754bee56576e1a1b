"""Save figures that record how they were made, and never overwrite another script's figure."""

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
ORIGIN = ("Script", "Configuration")  # a figure without a timestamp is replaced only if these are equal


def save_figure(figure: "Figure", path: str | os.PathLike[str], metadata: Mapping[str, str], **options: Any) -> str:
    """Write a matplotlib figure as PNG, SVG or PDF, according to the path's ending, and return its path.

    If the file's or the folder's name has a timestamp, the figure is a new file: _2 is added if the name is taken.
    Another figure is replaced, but only if it has the same Script and Configuration in its metadata. The folder is
    made. `options` are those of matplotlib's savefig, except `format` and `metadata`. A PNG has at least 150 dots per
    inch. Exits if the figure cannot be written.
    """
    try:
        return write_figure(figure, path, metadata, options)
    except (FileError, OSError) as error:
        sys.exit(explain(error, path))


def write_figure(
    figure: "Figure", path: str | os.PathLike[str], metadata: Mapping[str, str], options: Mapping[str, Any]
) -> str:
    """Write a figure like `save_figure`, but raise FileError, OSError, or an error of matplotlib."""
    path = osp.abspath(os.fspath(path))
    ending = osp.splitext(path)[1]
    if ending not in ENDINGS:
        raise FileError(f'unknown ending "{ending}"; expected one of: {", ".join(ENDINGS)}.')
    refuse_missing_root(path)
    is_new = has_stamp(path)
    if not is_new and osp.lexists(path) and not has_origin(path, metadata):
        raise FileError("another script or configuration made this file. Move it, or choose another name.")
    with temporary(path) as part:
        with open(part, "xb") as file:
            draw(figure, file, ending[1:], metadata, options)
        if is_new:
            return link_new(part, path)
        os.replace(part, path)
        return path


def refuse_missing_root(path: str) -> None:
    """Raise FileError if ASSET_IMAGES_DIR is missing. Its disk may not be mounted, so the folder must not be made."""
    root = osp.abspath(os.environ.get("ASSET_IMAGES_DIR", os.sep))
    if osp.commonpath([root, path]) == root and not osp.isdir(root):
        raise FileError(f"the folder {root} is missing. Make it, or mount its disk.")


def keep_figure(
    figure: "Figure", folder: str, path: object, metadata: Mapping[str, str], options: Mapping[str, Any]
) -> str:
    """Write a figure to a folder under the file name of `path`, with _2 and so on if taken, and return its path.

    A figure that cannot be drawn is drawn again with its texts as they are written, and without options.
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
    """Draw a figure. If that fails, draw it with plain texts and without options, and raise the error of that."""
    import matplotlib

    try:
        draw(figure, file, kind, metadata, options)
    except OSError:  # the disk failed, so a second attempt would fail too
        raise
    except Exception:
        file.seek(0)
        file.truncate()
        simplify_texts(figure)
        with matplotlib.rc_context({"text.usetex": False}):
            draw(figure, file, kind, metadata, {})


def file_name(path: object) -> str:
    """Return the last part of a path if it is a valid file name, else "figure"."""
    name = osp.basename(osp.normpath(os.fsdecode(path))) if isinstance(path, str | bytes | os.PathLike) else ""
    is_name = name not in ("", ".", "..") and "\0" not in name and len(os.fsencode(name)) <= 200
    return name if is_name else "figure"


def simplify_texts(figure: "Figure") -> None:
    """Turn off TeX in a figure, and mathematics in each text that matplotlib cannot parse."""
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
    """Return a text in which each byte that is not UTF-8 is written like \\udc80."""
    return text.encode(errors="backslashreplace").decode()


def draw(figure: "Figure", file: BinaryIO, kind: str, metadata: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Write a figure to a file in the format `kind`. Raises FileError if it needs LaTeX, and that is missing."""
    import matplotlib

    if matplotlib.rcParams["text.usetex"] and not shutil.which("latex"):
        raise FileError(
            "text.usetex is on, but latex is missing. "
            f"Install it, or turn text.usetex off, for example in {matplotlib.matplotlib_fname()}."
        )
    entries = {key: printable(value) for key, value in metadata.items()}
    if kind == "svg":  # SVG has a fixed set of keys
        entries = {"Description": "\n".join(f"{key}: {' '.join(value.split())}" for key, value in entries.items())}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown infodict keyword")  # matplotlib writes unknown keys to a PDF anyway
        figure.savefig(file, **({"dpi": resolution(figure)} | dict(options)), format=kind, metadata=entries)


def resolution(figure: "Figure") -> float:
    """Return the dots per inch: a matplotlibrc's `savefig.dpi`, or those of the figure, but at least 150."""
    import matplotlib

    asked = matplotlib.rcParams["savefig.dpi"]
    return max(150, figure.dpi) if asked == "figure" else float(asked)


def stamp_pattern() -> str:
    """Return a pattern that matches any value of the package's timestamp(): the current one with all digits free."""
    module = import_module(f"{PACKAGE}.timestamp" if PACKAGE else "timestamp")
    return re.sub(r"\d", r"\\d", re.escape(module.timestamp()))


def has_stamp(path: str) -> bool:
    """Return whether the name of a file or of its folder has a timestamp."""
    return any(re.search(stamp_pattern(), name) for name in path.split(osp.sep)[-2:])


def has_origin(path: str, metadata: Mapping[str, str]) -> bool:
    """Return whether the file at a path is a figure of the same script and configuration."""
    try:
        found = read_metadata(path)
    except OSError:
        return False
    return all(found.get(key) == metadata.get(key) for key in ORIGIN)
