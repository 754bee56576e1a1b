"""Run processes, git among them, and wait for their effects."""

import contextlib
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path


def run(*command, cwd=None, **kwargs):
    """Return the completed process, with its output as text."""
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, **kwargs)


def git(cwd, *arguments):
    return run("git", *arguments, cwd=cwd, check=True).stdout


def commit(repository, message="Work"):
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", message)


def edit(path, old, new):
    """Replace a text of a file. The file must have it."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))


def remove(folder):
    """Remove a folder with its read-only parts, such as pinned code."""
    for path in (Path(folder), *Path(folder).rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def free_port():
    """Return a free port below the range of outgoing connections, which could take it."""
    ports = random.SystemRandom()  # `random` has the same seed in each test process
    while True:
        port = ports.randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(ready, seconds=60, state=lambda: "", every=0.25):
    """Wait for a condition. Check it often at first, and later every so many seconds: each check takes CPU time."""
    end, pause = time.monotonic() + seconds, 0.02
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s: {state()}")
        time.sleep(pause)
        pause = min(pause * 1.3, every)
