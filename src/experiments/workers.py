"""Processes that render, since Copier is busy with one thing at a time."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process


@contextmanager
def start_workers(number: int) -> Iterator[ProcessPoolExecutor]:
    """So many workers. However this process ends, they end too."""
    workers = ProcessPoolExecutor(max(number, 1), get_context("spawn"), initializer=begin)
    try:
        yield workers
    finally:
        workers.shutdown(wait=True, cancel_futures=True)  # a render is short, and what is left would speak at the exit


def begin() -> None:
    """In a worker: Ctrl-C is for the parent, and its end is the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent = parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
