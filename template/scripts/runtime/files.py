"""Files that are whole or not there."""

import errno
import json
import os
import os.path as osp
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Any, NoReturn, TextIO

from runtime.signals import ENDS

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # errors of a write, which do not name the file
TEMPORARY: set[str] = set()  # the files being written, for end_at_signals, which ends where no `finally` is reached
BLOCK = b"\0" * 4096  # a full disk may still have room for a file without content


class FileError(Exception):
    """Why a file is not written at its path, and what to do."""


def explain(error: Exception, path: object) -> str:
    """Return in one line why a file is not at a path, and what to do."""
    if isinstance(error, FileError):
        reason = str(error)
    elif isinstance(error, OSError) and error.strerror:
        reason = f"{error.strerror}. Make it writable, or choose another."
    else:
        reason = f"{type(error).__name__}: {error}."
    return " ".join(f"{path}: {reason}".split())


@contextmanager
def temporary(path: str) -> Iterator[str]:
    """Yield the path of a file to write first, in the folder of `path`, which is made. It is removed at the end.

    Raises OSError, with `path`, if the disk does not take what is written.
    """
    os.makedirs(osp.dirname(osp.abspath(path)), exist_ok=True)
    part = f"{path}.{token_hex(4)}.part"
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
def atomic_write(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """The file at `path`, open for text in UTF-8, replaced as a whole when it is complete. Its folder is made.

    A byte of a file's name that is not UTF-8 is written as \\udc80, as JSON has it.
    """
    path = os.fspath(path)
    with temporary(path) as part:
        with open(part, "x", encoding="utf-8", errors="backslashreplace") as file:
            yield file
        os.replace(part, path)


def try_to_write(folder: str) -> None:
    """Do in a folder what a run does there: write a file, name it, replace it and remove it.

    Raises OSError if any of these fails. Nothing is left, and no planted link is followed.
    """
    name = osp.join(folder, f".{token_hex(8)}")
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
    """Give a finished file its name, or the name with _2, _3 and so on if that is taken. Return its path."""
    root, ending = osp.splitext(path)
    count = 1
    while True:
        try:
            commit_new(part, path)
            return path
        except FileExistsError:
            count += 1
            path = f"{root}_{count}{ending}"


def commit_new(part: str, path: str) -> None:
    """Give a finished file a name. Raises FileExistsError if the name is taken: unlike a rename, it never overwrites.

    A disk without hard links may refuse them with any error number. There the name is reserved by an empty file,
    which only a kill at this moment would leave behind.
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
        if osp.lexists(part):  # else a signal came after the rename, and the file is in its place
            os.unlink(path)
        raise


def make_shared_folder(folder: str) -> None:
    """Make a folder and those around it, for the group too if it may write to the folder that they are in."""
    if osp.isdir(folder):
        return
    make_shared_folder(osp.dirname(osp.abspath(folder)))
    with suppress(FileExistsError):  # another process was faster
        os.mkdir(folder)
        share_with_group(folder)


def share_with_group(path: str) -> None:
    """Let the group write to a new file or folder if it may write to the folder around it, whatever the umask is."""
    if os.stat(osp.dirname(osp.abspath(path))).st_mode & stat.S_IWGRP:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, mode | (mode & stat.S_IRWXU) >> 3)


def permission_hint(path: str) -> str:
    """Return what to do about a path, or its folder, that belongs to somebody else."""
    while not osp.lexists(path):
        path = osp.dirname(osp.abspath(path))
    return f"Ask {owner(path)} to run: chmod g+w {path}"


def owner(path: str) -> str:
    import pwd

    number = os.lstat(path).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container may lack the accounts of its host
        return f"user {number}"


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON at `path`, replaced as a whole. Raises ValueError for NaN and infinity."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def end_at_signals(message: str) -> None:
    """At a signal that ends a process print a message, and end at once without leaving a half-written file.

    A KeyboardInterrupt in a driver of Neo4j may become another exception, or wait for the server forever.
    """
    bar_end = "\n" if os.isatty(2) else ""

    def end(*_: object) -> NoReturn:
        for part in list(TEMPORARY):
            remove_temporary(part)
        os.write(2, f"{bar_end}{message}\n".encode())
        os._exit(1)

    for number in (signal.SIGINT, *ENDS):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
