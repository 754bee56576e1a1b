"""How a run ends at a signal: its record says so, and then the signal has its usual effect."""

import os
import signal
import sys
import threading
from types import FrameType

# What Slurm, a terminal or a person ends a run by. SIGINT is Python's KeyboardInterrupt already.
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


# Of these, those that a run takes note of. The other two are a script's, or its library's: PyTorch Lightning saves and
# requeues at SIGUSR1, but only where nobody has a handler for it.
WATCHED = (signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """Raised in a run by a signal. Like KeyboardInterrupt it is no Exception, so that no script catches it."""


class Signals:
    """Signals that would end this process at once become an exception in its main thread.

    A signal that is ignored, or that a script handles by itself, is left alone.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.came: signal.Signals | None = None
        self.held = False

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in WATCHED:
                if signal.getsignal(number) == signal.SIG_DFL:
                    signal.signal(number, self.handle)

    def handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self.pid:  # a process that this one forked
            die(number)
        self.came = signal.Signals(number)
        if not self.held:
            raise Terminated(self.came.name)

    def hold(self) -> None:
        """From here on a signal waits for `release`."""
        self.held = True

    def release(self) -> None:
        """Give the signals their usual effect again, and die of the one that came."""
        if threading.current_thread() is threading.main_thread():
            for number in WATCHED:
                if signal.getsignal(number) == self.handle:
                    signal.signal(number, signal.SIG_DFL)
        if self.came:
            print(f"The run was ended by {self.came.name}.", file=sys.stderr)
            die(self.came)


def die(number: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
