"""provenance.json: what made a result, and how that went."""

import json
import os
import os.path as osp
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from runtime.files import write_json
from runtime.paths import EXPERIMENT, FOLDER, SCRIPTS, SUBMITTED, package_folder

SLURM_VARIABLES = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_PARTITION",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
)


def commit(own_inputs: Sequence[str] = ()) -> tuple[str | None, bool | None]:
    """Return the commit, and whether this experiment or the package differs from it, by a changed or a new file.

    What runs write, results/ and slurm/, is left out, but not the declared inputs of the experiment, whose paths are
    relative to its folder: these are read from the live tree, also by pinned code. Without them pinned code calls no
    git, and other code calls it once, for these two folders alone.
    """
    try:
        head, dirty = (SUBMITTED["commit"], SUBMITTED["dirty"]) if SUBMITTED else tree_state()
        return head, dirty or is_uncommitted(head, own_inputs)
    except (OSError, subprocess.CalledProcessError, LookupError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().split("\n")[0]
        if SUBMITTED:
            print(f"Unknown whether inputs are committed, in this run's provenance: {reason}", file=sys.stderr)
            return SUBMITTED["commit"], None
        print(f"No commit in this run's provenance: {reason}", file=sys.stderr)
        return None, None


def tree_state() -> tuple[str, bool]:
    """Return the commit of the live tree, and whether the experiment or the package differs from it."""
    package = package_folder()
    folders = [".", ":(exclude)results", ":(exclude)slurm", *([package] if package else [])]
    lines = git_lines("status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *folders)
    head = lines[0].removeprefix("# branch.oid ")
    if head == "(initial)":
        raise LookupError("the repository has none")
    return head, any(not line.startswith("# ") for line in lines)


def is_uncommitted(head: str, paths: Sequence[str]) -> bool:
    """Whether files of the experiment differ from a commit, or are not in it; git may ignore them."""
    if not paths:
        return False
    files = [f":(literal){path}" for path in paths]
    return bool(git_lines("diff", "--name-only", head, "--", *files) or git_lines("ls-files", "--others", "--", *files))


def git_lines(*words: str) -> list[str]:
    """Return what git prints in the experiment's folder. It takes no lock."""
    command = ["git", "--no-optional-locks", "-C", FOLDER, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
    return done.stdout.splitlines()


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of Python and of each package that is imported."""
    found = {"python": platform.python_version()}
    for name, module in sorted(sys.modules.items()):
        if "." not in name and name not in sys.stdlib_module_names:
            with suppress(Exception):  # a module may run code to say it
                version = module.__version__
                found |= {name: version} if isinstance(version, str) else {}
    return found


def script_name(path: str) -> str:
    """A script's path from the repository's root, or its whole path where it is not one of this experiment."""
    inside = osp.relpath(osp.realpath(path), SCRIPTS)
    return path if inside.startswith(osp.pardir) else f"experiments/{EXPERIMENT}/scripts/{inside}"


def provenance() -> dict[str, Any]:
    """What made a result: the script, its command, its commit, its host and job, and when it started."""
    head, dirty = commit()
    return run_facts(sys.argv[0]) | {"commit": head, "dirty": dirty}


def run_facts(script: str) -> dict[str, Any]:
    """All of that but the commit, which takes long on a slow disk."""
    return {
        "script": script_name(script),
        "command": shlex.join([sys.executable, *sys.orig_argv[1:]]),
        "commit": None,
        "dirty": None,
        "host": platform.node(),
        "slurm": {name: os.environ[name] for name in SLURM_VARIABLES if name in os.environ},
        "submission": osp.basename(os.environ.get("EXPERIMENT_SUBMISSION", "")) or None,
        "started": now(),
    }


class Record:
    """The provenance.json of a run's folder. Of a run that was requeued, it keeps each attempt."""

    def __init__(self, folder: str) -> None:
        self.path = osp.join(folder, "provenance.json")
        self.facts: dict[str, Any] = {}
        self.written = 0.0  # seconds of the monotonic clock

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Write that the run is running, after the attempts, numbers, figures and tables of an earlier start."""
        earlier: dict[str, Any] = {}
        if osp.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                earlier = json.load(file)
        attempts = earlier.get("attempts", [])
        if attempts and attempts[-1]["status"] == "running":
            attempts[-1] |= {"status": "terminated", "error": "killed before it could say so"}
        attempt = {name: facts[name] for name in ("started", "host", "job")}
        attempt["restart"] = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        self.facts = {"status": "running", "error": None, "finished": None, "metrics": {}} | dict(facts)
        self.facts["metrics"] = earlier.get("metrics", {})
        self.facts["figures"] = earlier.get("figures", [])
        self.facts["tables"] = earlier.get("tables", [])
        self.facts["attempts"] = [*attempts, attempt]
        self.write()

    def identify(self, own_inputs: Sequence[str]) -> None:
        """Add the commit, which the declared inputs of the experiment must be part of, or the run is dirty."""
        self.facts["commit"], self.facts["dirty"] = commit(own_inputs)
        self.write()

    def add(self, kind: str, path: str) -> None:
        """Name one of the run's `figures` or `tables`."""
        paths = self.facts[kind]
        if path not in paths:
            paths.append(path)
        self.write()

    def measure(self, metrics: Mapping[str, int | float | str]) -> None:
        """Keep numbers, written once a second at most: a script may log them at each of a million steps."""
        self.facts["metrics"] |= metrics
        if time.monotonic() >= self.written + 1:
            self.write()

    def end(self, status: str, error: str | None) -> None:
        """Write how the run ended. Raises OSError on a full disk, where the record may still say that it failed.

        What has not begun has no record.
        """
        if not self.facts:
            return
        self.facts |= {"status": status, "error": error, "finished": now(), "versions": versions()}
        try:
            self.write()
        except OSError:
            self.write_over()
            raise

    def write(self) -> None:
        for name in ("status", "error", "finished"):
            self.facts["attempts"][-1][name] = self.facts[name]
        write_json(self.path, self.facts)
        self.written = time.monotonic()

    def write_over(self) -> None:
        """Write the record into the bytes that it has, since a full disk gives it no others: densely, and with less."""
        if not osp.exists(self.path):
            return
        room = osp.getsize(self.path)
        content = self.compact()
        if len(content) > room:
            self.facts["attempts"][-1]["error"] = None
            del self.facts["versions"]
            content = self.compact()
        while self.facts["error"] and len(content) > room:
            self.facts["error"] = self.facts["error"][: len(self.facts["error"]) // 2]
            content = self.compact()
        if len(content) <= room:
            with suppress(OSError), open(self.path, "r+b") as file:
                file.write(content)
                file.truncate()

    def compact(self) -> bytes:
        return json.dumps(self.facts, separators=(",", ":"), allow_nan=False).encode()
