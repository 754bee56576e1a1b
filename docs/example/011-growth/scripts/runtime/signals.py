"""End a run cleanly when a signal arrives: record the signal, then apply its usual effect."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# The signals with which Slurm, a terminal or a user ends a process. Python turns SIGINT into KeyboardInterrupt itself.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


# The signals that a run handles, with Python's default handlers. SIGUSR1 and SIGUSR2 are left to the script and its
# libraries: PyTorch Lightning saves and requeues at SIGUSR1, but only if that signal has no other handler.
WATCHED: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


class Terminated(BaseException):
    """Raised in a run by a signal. Like KeyboardInterrupt, it is not an Exception, so `except Exception` ignores it."""


class Signals:
    """Handlers for the signals that would end this process.

    The first signal raises an exception in the main thread. Later ones wait until the run has ended, and a `finally:`
    of the script can save its work: Slurm sends SIGTERM twice when it preempts a job. In a run by hand, a second
    Ctrl-C still interrupts, because the script may hang. Signals that are ignored or that the script handles are left
    alone.
    """

    def __init__(self, by_hand: bool) -> None:
        self.pid = os.getpid()
        self.by_hand = by_hand
        self.first: signal.Signals | None = None
        self.last: signal.Signals | None = None  # the latest signal that waits
        self.held = False

    @property
    def fatal(self) -> signal.Signals | None:
        """The signal that must end this process, even if the script has caught its exception."""
        return next((each for each in (self.first, self.last) if each not in (None, signal.SIGINT)), None)

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, usual in WATCHED.items():
                if signal.getsignal(number) == usual:
                    signal.signal(number, self.handle)

    def handle(self, number: int, _: FrameType | None) -> None:
        came = signal.Signals(number)
        if os.getpid() != self.pid:  # a forked process inherits this handler
            reset_handlers()
            signal.raise_signal(number)
            return
        is_forced = self.by_hand and came == signal.SIGINT
        if self.held or (self.first and not is_forced):
            self.last = came
            return
        self.first = self.first or came
        raise KeyboardInterrupt if came == signal.SIGINT else Terminated(came.name)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Defer each signal in this block, also Ctrl-C."""
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def hold(self) -> None:
        """Defer each signal until `release`."""
        self.held = True

    def release(self, announce: bool) -> None:
        """Restore the usual effect of the signals, and end this process if one arrived."""
        reset_handlers()
        if self.fatal:
            if announce:
                with suppress(OSError):  # the terminal may have been closed
                    print(f"{self.fatal.name} ended the run.", file=sys.stderr)
            die(self.fatal)
        if self.last == signal.SIGINT and self.first is None:  # it was deferred while the record was written
            signal.raise_signal(signal.SIGINT)


def reset_handlers() -> None:
    """Restore the handlers that this process had before a run watched its signals."""
    if threading.current_thread() is threading.main_thread():
        for number, usual in WATCHED.items():
            if isinstance(getattr(signal.getsignal(number), "__self__", None), Signals):
                signal.signal(number, usual)


# A signal ends a forked process, such as a data loader's worker, at once, also during a long call of C code.
os.register_at_fork(after_in_child=reset_handlers)


def die(number: int) -> None:
    """End this process by a signal. Its daemonic processes end first: Python ends them only at a normal exit."""
    if multiprocessing := sys.modules.get("multiprocessing"):
        for child in multiprocessing.active_children():
            if child.daemon:
                child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader may be gone
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
