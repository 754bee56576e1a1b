"""Run checks in child processes, and leave no process behind."""

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

Send = Callable[[Any], None]
PROCESSES = min(4, len(os.sched_getaffinity(0)))  # at a time
LEAST = 8  # configurations of a process that shares the work with other processes


@contextmanager
def forked(work: Callable[[Send], None], limit: float, own_group: bool = True) -> Iterator[Callable[[], Any]]:
    """Run a function in a child process, and yield a function that returns the next value that the child sends.

    `limit` is in seconds, for each value. `own_group` is false for a child of a child: it ends with that child's group.
    At the end of the values, or at the limit, the function returns text: how the child ended. It raises RuntimeError if
    `work` itself has failed.
    Every process that the child has started ends with this block.
    """
    signal.signal(signal.SIGTERM, stop)
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        os.close(reader)
        run_child(work, writer, own_group)
    os.close(writer)
    received = bytearray()
    try:
        yield lambda: next_value(reader, received, process, limit)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.kill(process, signal.SIGKILL)  # the child may not have made its group yet
        os.waitpid(process, 0)


def stop(*_: object) -> NoReturn:
    sys.exit("ended by SIGTERM")


def run_child(work: Callable[[Send], None], writer: int, own_group: bool) -> NoReturn:
    """Run a function without standard input or output, and end without exit handlers."""
    if own_group:
        os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, mode), number)

    def send(value: Any) -> None:
        os.write(writer, json.dumps(value).encode() + b"\n")

    try:
        work(send)
    except BaseException:
        send({"failed": traceback.format_exc()})
    finally:
        os._exit(0)


def next_value(reader: int, received: bytearray, process: int, limit: float) -> Any:
    """Return the next value that a child sends, or how it ended. `received` has what was read beyond earlier values."""
    end = time.monotonic() + limit
    while b"\n" not in received:
        if time.monotonic() > end:
            return f"did not end within {limit} seconds"
        is_dead = has_ended(process)  # checked before the read, because output may arrive in between
        block = b""
        if select.select([reader], [], [], 0 if is_dead else 0.2)[0]:
            block = os.read(reader, 2**16)
            received += block
            time.sleep(0 if block else 0.05)  # a child that has closed its end may live on
        if is_dead and not block:
            return how_it_ended(process)
    line, _, received[:] = received.partition(b"\n")
    value = json.loads(line)
    if isinstance(value, dict) and "failed" in value:
        raise RuntimeError(value["failed"])
    return value


def has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def how_it_ended(process: int) -> str:
    ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert ended
    if ended.si_code == os.CLD_EXITED:
        return f"ended the process with exit code {ended.si_status}"
    return f"ended by {signal.Signals(ended.si_status).name}"
