"""Save figures that record how they were made, and never overwrite another script's figure."""

import io
import os
import os.path as osp
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

from runtime.figure_metadata import INTERACTIVE, add_gif_comment, join_lines, read_metadata
from runtime.files import FileError, explain, link_all_new, link_new, temporary
from runtime.paths import PACKAGE, ROOT, is_below
from runtime.process import queue_id
from runtime.record import commit, commit_text, script_name

if TYPE_CHECKING:
    from matplotlib.animation import Animation
    from matplotlib.figure import Figure

    Drawing = Figure | Animation

ENDINGS = (".png", ".svg", ".pdf", ".gif")
ORIGIN = ("Script", "Configuration")  # a figure without a timestamp is replaced only if these are equal,
ARGUMENTS = ("Overrides", "Command")  # and these too, unless `experiments figures --promote` accepts others


class Refused(FileError):
    """A figure without a timestamp that must not replace the file at its path."""


class OtherArguments(Refused):
    """A figure that differs from the file at its path only in the overrides or the command line."""


def save_figure(figure: "Drawing", path: str | os.PathLike[str], *, also: Sequence[str] = (), **options: Any) -> str:
    """Write a matplotlib figure from any script, with its script, command line and commit, and return its path.

    The path's ending selects the format: PNG, SVG, PDF or GIF. An animation is a GIF. `also=["svg", "pdf"]` writes
    further formats under the same stem. `options` are those of matplotlib's savefig, except `format` and `metadata`,
    or of an animation's `save`. A PNG has at least 150 dots per inch. The folder is made.

    If the file's or the folder's name has a timestamp, the figure is a new file: _2 is added if the name is taken.
    Another name is replaced only by the same script with the same arguments. Otherwise the figure is kept under a name
    with a timestamp. Exits if the figure cannot be written where it was asked.
    """
    metadata = script_metadata()
    try:
        return write_figure(figure, path, also, metadata, options)[0]
    except Refused as error:
        root, ending = osp.splitext(osp.abspath(os.fspath(path)))
        kept = write_figure(figure, f"{root}_{timestamp()}{ending}", also, metadata, options)
        sys.exit(f"{explain(error, path)}{promotion_hint(error, kept[0], path)} It is saved as: {', '.join(kept)}")
    except (FileError, OSError) as error:
        sys.exit(explain(error, path))


def promotion_hint(error: Exception, kept: str, path: object) -> str:
    """Return how to accept a figure that was made with other arguments; empty for any other error."""
    if not isinstance(error, OtherArguments):
        return ""
    return f" To accept it: {shlex.join(['experiments', 'figures', '--promote', kept, osp.abspath(str(path))])}"


def script_metadata() -> dict[str, str]:
    """Return the metadata of a figure that no Run has made: script, command line, commit and job."""
    main = vars(sys.modules["__main__"])
    notebook = main.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    script = main.get("__file__") or notebook
    name = script_name(script) if script and not script.startswith("<") else INTERACTIVE  # like <stdin>
    if osp.isabs(name) and is_below(name, ROOT):
        name = osp.relpath(osp.realpath(name), osp.realpath(ROOT))
    arguments = sys.argv[1:] if main.get("__file__") else []
    return {
        "Script": name,
        "Command": shlex.join([name, *arguments]),
        "Commit": script_commit(),
        "Job": queue_id() or "none",
    }


@cache
def script_commit() -> str:
    """Return the commit of this process's code. Git is asked once, because it is slow on some disks."""
    return commit_text(*commit())


def write_figure(
    figure: "Drawing",
    path: str | os.PathLike[str],
    also: Sequence[str],
    metadata: Mapping[str, str],
    options: Mapping[str, Any],
) -> list[str]:
    """Write a figure like `save_figure`, and return the paths of its formats.

    Raises FileError, OSError, or an error of matplotlib. Then no file has changed.
    """
    path = osp.abspath(os.fspath(path))
    root, ending = osp.splitext(path)
    endings = check_endings(figure, ending, also)
    refuse_missing_root(path)
    metadata = {**metadata, **title_of(figure)}
    is_new = has_stamp(path)
    for each in () if is_new else endings:
        refuse_foreign(root + each, metadata)
    with ExitStack() as stack:
        parts = {each: stack.enter_context(temporary(root + each)) for each in endings}
        for each, part in parts.items():
            with open(part, "xb") as file:
                draw(figure, file, each[1:], metadata, options)
        if is_new:
            return link_all_new(parts, root)
        for each, part in parts.items():
            os.replace(part, root + each)
    return [root + each for each in endings]


def all_endings(ending: str, also: Sequence[str]) -> list[str]:
    """Return the endings of a figure's formats, each once. An entry of `also` may lack its dot."""
    return list(dict.fromkeys([ending, *(f".{each.lstrip('.')}" for each in also)]))


def check_endings(figure: "Drawing", ending: str, also: Sequence[str]) -> list[str]:
    """Return the endings of a figure's formats. Raises FileError for an unknown one."""
    endings = all_endings(ending, also)
    for each in endings:
        if each not in ENDINGS:
            raise FileError(f'unknown file extension "{each}"; expected one of: {", ".join(ENDINGS)}.')
        if is_animation(figure) and each != ".gif":
            raise FileError(f'an animation cannot be written as "{each}". Use the extension .gif.')
    return endings


def title_of(figure: "Drawing") -> dict[str, str]:
    """Return the title of a figure, or of the first of its axes with one, as metadata."""
    still: Any = figure_of(figure)
    texts = [still._suptitle.get_text()] if getattr(still, "_suptitle", None) else []
    texts += [axes.get_title(loc) for axes in still.axes for loc in ("center", "left", "right")]
    title = next((" ".join(text.split()) for text in texts if text.strip()), "")
    return {"Title": title} if title else {}


def is_animation(figure: "Drawing") -> bool:
    """Return whether this is an animation. matplotlib.animation is imported only by scripts that use it."""
    module = sys.modules.get("matplotlib.animation")
    return module is not None and isinstance(figure, module.Animation)


def figure_of(figure: "Drawing") -> "Figure":
    """Return the figure of an animation, or the figure itself."""
    drawing: Any = figure
    still: Figure = drawing._fig if is_animation(figure) else drawing
    return still


def refuse_foreign(path: str, metadata: Mapping[str, str]) -> None:
    """Raise Refused if the file at a path is not a figure of the same script, configuration and arguments."""
    if not osp.lexists(path):
        return
    try:
        found = read_metadata(path)
    except OSError:
        found = {}
    if any(plain(found.get(key)) != plain(metadata.get(key)) for key in ORIGIN):
        raise Refused("another script or configuration made this file. Move it, or choose another name.")
    for key in ARGUMENTS:
        if plain(found.get(key)) != plain(metadata.get(key)):
            raise OtherArguments(f"this file was made with {found.get(key) or 'no overrides'}.")


def plain(text: str | None) -> str | None:
    """Return a text as it is in the metadata of every format."""
    return None if text is None else " ".join(printable(text).split())


def refuse_missing_root(path: str) -> None:
    """Raise FileError if ASSET_IMAGES_DIR is missing. Its disk may not be mounted, so the folder must not be made."""
    root = osp.abspath(os.environ.get("ASSET_IMAGES_DIR", os.sep))
    if osp.commonpath([root, path]) == root and not osp.isdir(root):
        raise FileError(f"the folder {root} does not exist. Create it, or mount its disk.")


def keep_figure(
    figure: "Drawing",
    folder: str,
    path: object,
    also: Sequence[str],
    metadata: Mapping[str, str],
    options: Mapping[str, Any],
) -> list[str]:
    """Write a figure to a folder under the file name of `path`, with _2 and so on if taken, and return its paths.

    A figure that cannot be drawn is drawn again with its texts as they are written, and without options.
    """
    root, ending = osp.splitext(file_name(path))
    possible = (".gif",) if is_animation(figure) else ENDINGS
    wanted = [each for each in all_endings(ending, also) if each in possible]
    return [
        keep_format(figure, osp.join(folder, root + each), {**metadata, **title_of(figure)}, options)
        for each in wanted or possible[:1]
    ]


def keep_format(figure: "Drawing", target: str, metadata: Mapping[str, str], options: Mapping[str, Any]) -> str:
    with temporary(target) as part:
        with open(part, "xb") as file:
            draw_somehow(figure, file, osp.splitext(target)[1][1:], metadata, options)
        return link_new(part, target)


def draw_somehow(
    figure: "Drawing", file: BinaryIO, kind: str, metadata: Mapping[str, str], options: Mapping[str, Any]
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
        simplify_texts(figure_of(figure))
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


def draw(figure: "Drawing", file: BinaryIO, kind: str, metadata: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Write a figure to a file in the format `kind`. Raises FileError if it needs LaTeX, and that is missing."""
    import matplotlib

    if matplotlib.rcParams["text.usetex"] and not shutil.which("latex"):
        raise FileError(
            "text.usetex is on, but latex is missing. "
            f"Install it, or turn text.usetex off, for example in {matplotlib.matplotlib_fname()}."
        )
    entries = {key: printable(value) for key, value in metadata.items()}
    if kind == "gif":
        file.write(add_gif_comment(draw_gif(figure, options), join_lines(entries)))
        return
    if kind == "svg":  # SVG has a fixed set of keys
        entries = {"Description": join_lines(entries)}
    still = figure_of(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown infodict keyword")  # matplotlib writes unknown keys to a PDF anyway
        still.savefig(file, **({"dpi": resolution(still)} | dict(options)), format=kind, metadata=entries)


def draw_gif(figure: "Drawing", options: Mapping[str, Any]) -> bytes:
    """Return an animation as GIF, or a figure as GIF with one frame."""
    drawing: Any = figure
    if is_animation(figure):
        with TemporaryDirectory() as folder:
            path = osp.join(folder, "animation.gif")
            drawing.save(path, **({"writer": "pillow"} | dict(options)))
            with open(path, "rb") as file:
                return file.read()
    from PIL import Image

    picture, content = io.BytesIO(), io.BytesIO()
    drawing.savefig(picture, **({"dpi": resolution(drawing)} | dict(options)), format="png")
    image: Any = Image.open(picture)
    is_opaque = image.mode != "RGBA" or image.getextrema()[3][0] == 255
    (image.convert("RGB") if is_opaque else image).save(content, "GIF")
    return content.getvalue()


def resolution(figure: "Figure") -> float:
    """Return the dots per inch: a matplotlibrc's `savefig.dpi`, or those of the figure, but at least 150."""
    import matplotlib

    asked = matplotlib.rcParams["savefig.dpi"]
    return max(150, figure.dpi) if asked == "figure" else float(asked)


def timestamp() -> str:
    """Return the package's timestamp()."""
    module = import_module(f"{PACKAGE}.timestamp" if PACKAGE else "timestamp")
    return str(module.timestamp())


def stamp_pattern() -> str:
    """Return a pattern that matches any value of the package's timestamp(): the current one with all digits free."""
    return re.sub(r"\d", r"\\d", re.escape(timestamp()))


def has_stamp(path: str) -> bool:
    """Return whether the name of a file or of its folder has a timestamp."""
    return any(re.search(stamp_pattern(), name) for name in path.split(osp.sep)[-2:])
