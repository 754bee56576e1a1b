"""Processes of the tests: git among them, and the waiting for what they do."""

import socket
import subprocess
import time


def run(*command, cwd=None, **kwargs):
    """The completed process, with its output as text."""
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, **kwargs)


def git(cwd, *arguments):
    return run("git", *arguments, cwd=cwd, check=True).stdout


def commit(repository, message="Work"):
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", message)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready, seconds=20, state=lambda: "", every=0.05):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s: {state()}")
        time.sleep(every)
