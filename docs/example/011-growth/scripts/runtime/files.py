"""Write files completely or not at all."""

import errno
import json
import os
import os.path as osp
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, NoReturn, TextIO

from runtime.signals import ENDING_SIGNALS

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # a failed write does not name the file
TEMPORARY: set[str] = set()  # unfinished files: end_at_signals removes them, because it skips every `finally`
BLOCK = b"\0" * 4096  # an empty file would fit even on a full disk


class FileError(Exception):
    """A file that cannot be written. The message has the reason and the remedy, without the path."""


def explain(error: Exception, path: object) -> str:
    """Return in one line why a file could not be written, and what to do."""
    if isinstance(error, FileError):
        reason = str(error)
    elif isinstance(error, OSError) and error.strerror:
        reason = f"{error.strerror}. Make it writable, or choose another path."
    else:
        reason = f"{type(error).__name__}: {error}."
    return " ".join(f"{path}: {reason}".split())


@contextmanager
def temporary(path: str, ending: str = "") -> Iterator[str]:
    """Yield the path of a temporary file in the folder of `path`, which is made. Remove that file at the end.

    Its name ends with `.part` and `ending`. Raises OSError with `path` as its file name if a write fails.
    """
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    part = f"{path}.{os.urandom(4).hex()}.part{ending}"
    TEMPORARY.add(part)
    try:
        yield part
    except OSError as error:
        if error.filename or error.errno not in NO_ROOM:
            raise
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        remove_temporary(part)


def remove_temporary(part: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(part)
    TEMPORARY.discard(part)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the path of a new file, to write a checkpoint to. It replaces the file at `path` once the block has ended.

        with atomic_write("checkpoint.pt") as part:
            torch.save(state, part)

    The folder of `path` is made. The new file has the same ending: some libraries choose a format by it, or add it.
    """
    path = os.fspath(path)
    with temporary(path, osp.splitext(path)[1]) as part:
        yield part
        os.replace(part, path)


@contextmanager
def text_file(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Yield a text file in UTF-8 that replaces the file at `path` once it is complete. Its folder is made.

    A byte that is not UTF-8, as a file name may have, is written like \\udc80, as in JSON.
    """
    path = os.fspath(path)
    with temporary(path) as part:
        with open(part, "x", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        os.replace(part, path)


def try_to_write(folder: str) -> None:
    """Write, link, replace and remove a file in a folder, as a run does there.

    Raises OSError if a step fails. No file remains. The names are random, so a symlink cannot be planted there.
    """
    name = osp.join(folder, f".{os.urandom(8).hex()}")
    parts = [f"{name}.1.part", f"{name}.2.part"]
    try:
        for part in parts:
            with open(part, "xb") as file:
                file.write(BLOCK)
        commit_new(parts[0], name)
        os.replace(parts[1], name)
    finally:
        for path in (*parts, name):
            with suppress(FileNotFoundError):
                os.unlink(path)


def link_new(part: str, path: str) -> str:
    """Move a finished file to `path`, or to a path with _2, _3 and so on if that exists. Return the new path."""
    root, ending = osp.splitext(path)
    [new] = link_all_new({ending: part}, root)
    return new


def link_all_new(parts: Mapping[str, str], root: str) -> list[str]:
    """Move finished files to `root` with their endings, or with _2, _3 and so on if one of the names is taken."""
    for number in count(1):
        stem = root if number == 1 else f"{root}_{number}"
        done: list[str] = []
        try:
            for ending, part in parts.items():
                commit_new(part, stem + ending)
                done.append(stem + ending)
            return done
        except FileExistsError:
            for path, part in zip(done, parts.values(), strict=False):
                if osp.lexists(part):
                    os.unlink(path)
                else:  # a disk without hard links
                    os.replace(path, part)
    raise AssertionError


def commit_new(part: str, path: str) -> None:
    """Move a finished file to `path`. Raises FileExistsError if that exists: unlike a rename, this never overwrites.

    A disk without hard links may refuse them with any error number. An empty file then reserves the name. It remains
    only if the process is killed at this moment.
    """
    try:
        os.link(part, path)
        return
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.replace(part, path)
    except BaseException:
        if osp.lexists(part):  # otherwise a signal arrived after the rename, and the file is complete
            os.unlink(path)
        raise


def mkdir_exclusive(folder: str) -> bool:
    """Make a folder. Return False if it exists already."""
    os.makedirs(osp.dirname(folder), exist_ok=True)
    try:
        os.mkdir(folder)
    except FileExistsError:
        return False
    return True


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON to `path`, or replace that file atomically. Raises ValueError for NaN and infinity."""
    with text_file(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def end_at_signals(message: str) -> None:
    """On each ending signal, remove unfinished files, print a message, and end the process at once.

    An exception is not enough: in a driver of Neo4j, a KeyboardInterrupt may become another exception or wait for the
    server forever.
    """
    bar_end = "\n" if os.isatty(2) else ""

    def end(*_: object) -> NoReturn:
        for part in list(TEMPORARY):
            remove_temporary(part)
        os.write(2, f"{bar_end}{message}\n".encode())
        os._exit(1)

    for number in (signal.SIGINT, *ENDING_SIGNALS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
