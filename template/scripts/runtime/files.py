"""Files that are whole or not there."""

import errno
import json
import os
import os.path as osp
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Any, NoReturn, TextIO

from runtime.signals import ENDS

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what a disk says of a write, without its file
PARTS: set[str] = set()  # the files being written, for end_at_signals, which ends where no `finally` is reached


@contextmanager
def part_of(path: str) -> Iterator[str]:
    """The path of a file to write first, in the folder of `path`, which is made. What is left of it is removed.

    Raises OSError, with `path`, where the disk does not take what is written.
    """
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    part = f"{path}.{token_hex(4)}.part"
    PARTS.add(part)
    try:
        yield part
    except OSError as error:
        if error.filename or error.errno not in NO_ROOM:
            raise
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        remove_part(part)


def remove_part(part: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(part)
    PARTS.discard(part)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """The file at `path`, open for text in UTF-8, replaced as a whole when it is complete. Its folder is made.

    A byte of a file's name that is no UTF-8 is written as \\udc80, as JSON has it.
    """
    path = os.fspath(path)
    with part_of(path) as part:
        with open(part, "x", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        os.replace(part, path)


def try_to_write(folder: str) -> None:
    """Make a file in a folder and remove it. Raises OSError where that cannot be done. No planted link is followed."""
    probe = osp.join(folder, f".{token_hex(8)}")
    open(probe, "xb").close()
    os.unlink(probe)


def link_new(part: str, path: str) -> str:
    """Give a finished file its name, or the name with _2, _3 and so on where that is taken; its path is returned."""
    root, ending = osp.splitext(path)
    count = 1
    while True:
        try:
            os.link(part, path)  # which, unlike a rename, never overwrites
            return path
        except FileExistsError:
            count += 1
            path = f"{root}_{count}{ending}"


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON at `path`, replaced as a whole. Raises ValueError for NaN and infinity."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def end_at_signals(message: str) -> None:
    """At a signal that ends a process say so, and end at once with no half file left.

    A KeyboardInterrupt in a driver of Neo4j may become another exception, or wait for the server forever.
    """
    bar_end = "\n" if os.isatty(2) else ""

    def end(*_: object) -> NoReturn:
        for part in list(PARTS):
            remove_part(part)
        os.write(2, f"{bar_end}{message}\n".encode())
        os._exit(1)

    for number in (signal.SIGINT, *ENDS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
