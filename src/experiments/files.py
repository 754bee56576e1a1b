"""Write files without losing work: replace each as a whole, and only if it has not changed since it was read."""

import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import Problem
from experiments.sharing import make_shared_folder, permission_hint, share_with_group

LOCK_SECONDS = 30  # how long to wait for another command that works on the same experiment
NOT_REGULAR = "is a symlink, lies below one, or is not a regular file"


@dataclass(frozen=True)
class Write:
    """A file to write, or to delete if `content` is None."""

    path: Path
    before: bytes | None  # its present content; None if there is no file
    content: bytes | None
    executable: bool | None = None  # True or False sets the executable bit, None keeps it

    @property
    def temporary(self) -> Path:
        """The file beside it that is written first."""
        return self.path.with_name(f".{self.path.name}.part")


def read_now(path: Path) -> bytes | None:
    """Return the content of a file, or None if there is none. Raises Problem if it is not a regular file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise Problem(f"{path.name} {NOT_REGULAR}")
    return path.read_bytes()


def write_temporary(write: Write) -> None:
    """Write a file's new content beside it, with the mode of the file, or of new files if it is new."""
    write.temporary.write_bytes(write.content or b"")
    mode = write.temporary.stat().st_mode
    if write.path.exists():
        mode = write.path.stat().st_mode
    if write.executable is not None:
        readers = (mode & 0o444) >> 2  # whoever may read a script may run it
        mode = mode | readers if write.executable else mode & ~0o111
    write.temporary.chmod(stat.S_IMODE(mode))


def commit(write: Write) -> None:
    """Replace or delete a file. Raises Problem if its content has changed since it was read."""
    if read_now(write.path) != write.before:
        raise Problem(f"{write.path.name} was changed by another program at the same time", "Run it again.")
    if write.content is None:
        if write.before is not None:
            write.path.unlink()
    else:
        os.replace(write.temporary, write.path)


def rollback(write: Write) -> None:
    """Undo `commit`, if the file still has its new content."""
    if write.before == write.content or read_now(write.path) != write.content:
        return
    if write.before is None:
        write.path.unlink()
        return
    executable = None if write.executable is None else not write.executable
    back = Write(write.path, write.content, write.before, executable)
    write_temporary(back)
    commit(back)


def missing_folders(writes: Sequence[Write]) -> list[Path]:
    """Return the folders to make, outer ones first."""
    parents = {parent for write in writes if write.content is not None for parent in write.path.parents}
    return sorted(parent for parent in parents if not parent.exists())


def write_all(writes: Sequence[Write]) -> None:
    """Write files in this order, or none of them: an error or a signal rolls back what was written.

    SIGKILL may leave some of the first files. The last one should be the one that makes the others count.
    """
    folders = missing_folders(writes)
    done: list[Write] = []
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
        for write in writes:
            if write.content is not None:
                write_temporary(write)
        for write in writes:
            done.append(write)
            commit(write)
    except BaseException:
        for write in reversed(done):
            with suppress(Exception):
                rollback(write)
        for write in writes:
            with suppress(OSError):
                write.temporary.unlink()
        for folder in reversed(folders):
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock, which ends with this process. Raises Problem if it cannot be had within LOCK_SECONDS."""
    try:
        make_shared_folder(file.parent)
    except OSError as error:
        raise Problem(f"{file.parent}: {error.strerror}", permission_hint(file.parent)) from None
    descriptor = open_lock(file)
    try:
        wait_for_lock(descriptor, file)
        yield
    finally:
        os.close(descriptor)


def open_lock(file: Path) -> int:
    """Open a lock file, or make one that the group may use.

    An existing file is opened without O_CREAT, which Linux may refuse for another user's file in a sticky folder.
    A file that this user may not write to can be locked too, except on NFS.
    """
    while True:
        try:
            if file.exists():
                return os.open(file, os.O_RDWR if os.access(file, os.W_OK) else os.O_RDONLY)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # another process was faster
            continue
        except OSError as error:
            raise Problem(f"{file}: {error.strerror}", permission_hint(file)) from None
        share_with_group(file)
        return descriptor


def wait_for_lock(descriptor: int, file: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise Problem("another command is working on it", "Wait for it to end, and run again.") from None
            time.sleep(0.05)
        except OSError as error:
            if not os.access(file, os.W_OK):  # NFS requires write permission
                raise Problem(f"{file}: {error.strerror}", permission_hint(file)) from None
            advice = "Ask its administrator to enable them (Lustre: mount -o flock), or use a clone on another disk."
            raise Problem(f"{file}: this disk does not support file locks: {error.strerror}", advice) from None
