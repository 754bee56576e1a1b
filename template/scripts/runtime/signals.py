"""How a run ends at a signal: its record names the signal, and then the signal has its usual effect."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

# What Slurm, a terminal or a person ends a run by. SIGINT is Python's KeyboardInterrupt already.
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


# What a run watches, with the handler that Python starts with. SIGUSR1 and SIGUSR2 are a script's, or its library's:
# PyTorch Lightning saves and requeues at SIGUSR1, but only if nobody else has a handler for it.
WATCHED: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


class Terminated(BaseException):
    """Raised in a run by a signal. Like KeyboardInterrupt it is not an Exception, so that no script catches it."""


class Signals:
    """The signals that would end this process. The first becomes an exception in the main thread.

    Later ones wait until the run has ended, so that a `finally:` of the script can save its work: Slurm sends SIGTERM
    twice when it preempts a job. By hand, a second Ctrl-C still interrupts: somebody presses it because it hangs.
    A signal that is ignored, or that a script handles by itself, is left alone.
    """

    def __init__(self, by_hand: bool) -> None:
        self.pid = os.getpid()
        self.by_hand = by_hand
        self.first: signal.Signals | None = None
        self.last: signal.Signals | None = None  # of those that wait
        self.held = False

    @property
    def fatal(self) -> signal.Signals | None:
        """The signal that this process ends by, even if the script has caught its exception."""
        return next((each for each in (self.first, self.last) if each not in (None, signal.SIGINT)), None)

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, usual in WATCHED.items():
                if signal.getsignal(number) == usual:
                    signal.signal(number, self.handle)

    def handle(self, number: int, _: FrameType | None) -> None:
        came = signal.Signals(number)
        if os.getpid() != self.pid:  # a process that this one forked
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
        """Let each signal wait, also a Ctrl-C."""
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def hold(self) -> None:
        """Let each signal wait for `release`."""
        self.held = True

    def release(self, announce: bool) -> None:
        """Give the signals their usual effect again, and end by the one that came."""
        reset_handlers()
        if self.fatal:
            if announce:
                with suppress(OSError):  # the terminal may be what is gone
                    print(f"The run was ended by {self.fatal.name}.", file=sys.stderr)
            die(self.fatal)
        if self.last == signal.SIGINT and self.first is None:  # it waited for the record
            signal.raise_signal(signal.SIGINT)


def reset_handlers() -> None:
    """Give this process the handlers that it had before a run watched its signals."""
    if threading.current_thread() is threading.main_thread():
        for number, usual in WATCHED.items():
            if isinstance(getattr(signal.getsignal(number), "__self__", None), Signals):
                signal.signal(number, usual)


# A forked process, such as a data loader's worker, ends by a signal at once, also within a long call of C.
os.register_at_fork(after_in_child=reset_handlers)


def die(number: int) -> None:
    """End this process by a signal, and first its daemonic processes, which Python ends at a normal exit only."""
    if multiprocessing := sys.modules.get("multiprocessing"):
        for child in multiprocessing.active_children():
            if child.daemon:
                child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
