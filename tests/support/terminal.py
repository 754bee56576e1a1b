"""Run a command in a terminal."""

import contextlib
import os

import pexpect
import pyte
from support.process import wait_until


class Terminal:
    """A terminal with a running command: its screen and its keyboard."""

    def __init__(self, *command, cwd, width=92, height=60):
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.Stream(self.screen)
        self.child = pexpect.spawn(
            command[0],
            list(map(str, command[1:])),
            cwd=str(cwd),
            env=os.environ | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color"},
            encoding="utf-8",
            dimensions=(height, width),
        )

    def read(self, seconds=0.05):
        with contextlib.suppress(pexpect.TIMEOUT):
            self.stream.feed(self.child.read_nonblocking(10_000, seconds))

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def expect(self, text):
        """Wait until the screen shows a text."""

        def shown():
            self.read()
            return text in self.text()

        wait_until(shown, state=self.text)

    def type(self, keys):
        self.child.send(keys)

    def end(self):
        """Wait until the command ends, and return its exit code."""
        with contextlib.suppress(pexpect.EOF):
            while True:
                self.read(60)
        self.child.close()
        return self.child.exitstatus
