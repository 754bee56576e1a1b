"""Record the metrics of run.log in metrics.jsonl."""

import json
import math
import os
import os.path as osp
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

Number = int | float | str  # NaN and infinity, which JSON lacks, are text

PAUSE = 1.0  # seconds between two writes, at least: a script may log at a million steps


class History:
    """The file metrics.jsonl in a run's folder. A requeued run appends to it.

    Each line is {"step": STEP, "time": SECONDS, "values": {NAME: NUMBER}}. STEP is null if the script gave none, and
    SECONDS are those since 1970.
    """

    def __init__(self, folder: str) -> None:
        self.path = osp.join(folder, "metrics.jsonl")
        self.lines: list[str] = []
        self.flushed = 0.0  # seconds of the monotonic clock; 0 before the first time

    def add(self, step: Number | None, values: Mapping[str, Number]) -> None:
        """Add a line. It is written at once if the last write was a second ago."""
        self.lines.append(json.dumps({"step": step, "time": round(time.time(), 3), "values": values}))
        if time.monotonic() >= self.flushed + PAUSE:
            self.flush()

    def flush(self) -> None:
        """Write what was added. Raises OSError if the disk is full; the file then has what it had before."""
        if not self.lines:
            return
        content = ("\n".join(self.lines) + "\n").encode()
        if not self.flushed and is_torn(self.path):
            content = b"\n" + content
        with open(self.path, "ab", buffering=0) as file:
            size, rest = file.tell(), memoryview(content)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                file.truncate(size)
                raise OSError(error.errno, error.strerror, self.path) from None
        self.lines.clear()
        self.flushed = time.monotonic()


def is_torn(path: str) -> bool:
    """Return whether a file's last line is not whole: its node may have crashed."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    return False


def number(name: str, value: Any) -> int | float:
    """Return a scalar of Python, numpy or torch as a Python number. Raises TypeError for any other value."""
    found = value
    if hasattr(value, "item"):
        with suppress(ValueError, RuntimeError):  # the value has several elements
            found = value.item()
    if not isinstance(found, int | float):
        raise TypeError(f"run.log: {name} is {value!r}, which is not a number.")
    return found


def plain(value: int | float) -> Number:
    """Return a number as a JSON value: NaN and infinity become text."""
    return value if isinstance(value, int) or math.isfinite(value) else str(value)
