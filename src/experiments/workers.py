"""Worker processes, which render in parallel."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")
STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class InlineExecutor(Executor):
    """Run each task at once in this process: starting a single worker would take longer."""

    def submit(self, work: Callable[Given, Result], /, *words: Given.args, **options: Given.kwargs) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            future.set_result(work(*words, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Workers(ProcessPoolExecutor):
    """Processes that Ctrl-C never reaches: they inherit a blocked SIGINT.

    This process cannot be stopped while it starts one: the worker would print that its first data is missing.
    """

    def submit(self, work: Callable[Given, Result], /, *words: Given.args, **options: Given.kwargs) -> Future[Result]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            return super().submit(work, *words, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def start_workers(number: int) -> Iterator[Executor]:
    """Start a number of workers. They end with this process, however it ends."""
    if number < 2:
        yield InlineExecutor()
        return
    workers = Workers(number, get_context("spawn"), initializer=watch_parent)
    try:
        yield workers
    finally:
        workers.shutdown(wait=True, cancel_futures=True)  # a remaining worker would print errors at exit


def watch_parent() -> None:
    """End this worker when its parent ends, or when a signal other than that of Ctrl-C ends it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS - {signal.SIGINT})
    threading.Thread(target=wait_for_parent, daemon=True).start()


def wait_for_parent() -> None:
    parent = parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
