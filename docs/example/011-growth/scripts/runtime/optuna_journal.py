"""An Optuna journal that survives full disks and killed workers."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock
from runtime.files import FileError
from runtime.sharing import owner, permission_hint, share_with_group


class Lock(JournalFileOpenLock):
    """The lock file of a journal. The members of a group may share it. Raises FileError if it cannot be used."""

    def __init__(self, path: str, grace_period: int = 30) -> None:
        super().__init__(path, grace_period)
        self.path = self._lock_file

    def acquire(self) -> bool:
        """Wait for the lock. A lock that a killed process left is removed after the grace period."""
        try:
            return super().acquire()
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}. {permission_hint(self.path)}") from None

    def release(self) -> None:
        """Remove the lock. Raises FileError if that is not permitted, where Optuna would retry forever."""
        try:
            super().release()
        except RuntimeError as error:
            if not isinstance(error.__context__, PermissionError):
                raise
            hint = f"Ask {owner(self.path)} to run: rm {self.path}"
            raise FileError(f"{self.path}: another worker left this lock. {hint}") from None


class Journal(BaseJournalBackend):
    """A file of JSON lines that many processes append to. A failed append leaves no partial line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = Lock(path)
        self.offsets = [0]  # offsets in bytes of the lines that were read, and of the next line
        self.line = 0  # the number of the last line that was read
        self.syncs = True  # whether each append waits for the disk

    def storage(self) -> JournalStorage:
        """Return the journal's storage. Raises ValueError if a line is not a record of Optuna."""
        try:
            return JournalStorage(self)
        except (AssertionError, AttributeError, LookupError, TypeError, ValueError):
            raise self.damage() from None

    def damage(self) -> ValueError:
        advice = "Restore a copy of the file, or move it away to start a new study"
        return ValueError(f"{self.path}: line {self.line} is damaged. {advice}.")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records after the first `log_number_from`. Raises ValueError at a line that is not JSON."""
        with open(self.path, "rb") as file:
            file.seek(self.offsets[log_number_from])
            lines = finished_lines(file.read())
        for number, line in enumerate(lines, log_number_from + 1):
            self.line = number
            if number == len(self.offsets):
                self.offsets.append(self.offsets[-1] + len(line))
            try:
                record = json.loads(line)
            except ValueError:
                raise self.damage() from None
            yield record

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append all records or none. Raises OSError if a write fails."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with held(self.lock), open(self.path, "r+b", buffering=0, opener=append_opener) as file:
            end = truncate_partial(file)
            try:
                write_all(file, lines.encode())
                if self.syncs:
                    os.fsync(file.fileno())
            except OSError as error:
                file.truncate(end)
                raise OSError(error.errno, error.strerror, self.path) from None

    @contextmanager
    def synced_once(self) -> Iterator[None]:
        """Wait for the disk at the end of this block, instead of at each append. Raises OSError if the disk fails."""
        self.syncs = False
        try:
            yield
        finally:
            self.syncs = True
        with open(self.path, "rb") as file:
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise OSError(error.errno, error.strerror, self.path) from None

    def begin(self) -> None:
        """Make the file, or remove a partial line that a crash left in it. A new file is shared with the group.

        Raises FileError if another user owns the file and does not share it.
        """
        with held(self.lock):
            is_new = not os.path.exists(self.path)
            try:
                with open(self.path, "a+b", buffering=0) as file:
                    truncate_partial(file)
            except PermissionError as error:
                raise FileError(f"{self.path}: {error.strerror}. {permission_hint(self.path)}") from None
            if is_new:
                share_with_group(self.path)


@contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Hold a lock in this block, after waiting for it."""
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def append_opener(path: str, flags: int) -> int:
    """Open an existing file to append. Even processes that removed each other's lock then overwrite nothing."""
    return os.open(path, flags | os.O_APPEND)


def truncate_partial(file: BinaryIO) -> int:
    """Remove what a crash left after a journal's last complete line, and print that. Return the size in bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2))
    if not size or not is_unfinished(file.read()):
        return size
    file.seek(0)
    sound = sum(map(len, finished_lines(file.read())))
    file.truncate(sound)
    print(f"{file.name}: removed {size - sound} bytes after the last complete line, left by a crash", file=sys.stderr)
    return sound


def is_unfinished(end: bytes) -> bool:
    """Return whether the last two bytes of a journal are not the end of a record."""
    return not end.endswith(b"\n") or is_blank(end)


def is_blank(line: bytes) -> bool:
    return not line.strip(b"\0 \t\r\n")


def finished_lines(content: bytes) -> list[bytes]:
    """Return the lines of a journal without what a crash can leave at its end: a partial line, blank lines, NULs."""
    lines = content.splitlines(keepends=True)
    while lines and (not lines[-1].endswith(b"\n") or is_blank(lines[-1])):
        lines.pop()
    return lines


def write_all(file: BinaryIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) :]
