"""Processes that render, since Copier is busy with one thing at a time."""

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


class ThisProcess(Executor):
    """Does at once what it is given: to start one other process would take longer than to be that process."""

    def submit(self, work: Callable[Given, Result], /, *words: Given.args, **options: Given.kwargs) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            future.set_result(work(*words, **options))
        except Exception as error:
            future.set_exception(error)
        return future


class Workers(ProcessPoolExecutor):
    """Processes that Ctrl-C does not reach, from their first moment: they inherit what is blocked where they start."""

    def submit(self, work: Callable[Given, Result], /, *words: Given.args, **options: Given.kwargs) -> Future[Result]:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(work, *words, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def start_workers(number: int) -> Iterator[Executor]:
    """So many workers. However this process ends, they end too."""
    if number < 2:
        yield ThisProcess()
        return
    workers = Workers(number, get_context("spawn"), initializer=begin)
    try:
        yield workers
    finally:
        workers.shutdown(wait=True, cancel_futures=True)  # a render is short, and what is left would speak at the exit


def begin() -> None:
    """In a worker: the end of its parent is its own."""
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent = parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
