"""provenance.json: what made a result, and how that went."""

import json
import os
import os.path as osp
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from runtime.files import write_json
from runtime.paths import EXPERIMENT, FOLDER, PACKAGE, ROOT, SCRIPTS, SUBMITTED

SLURM_VARIABLES = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_PARTITION",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
)


def commit() -> tuple[str | None, bool | None]:
    """The commit, and whether this experiment or the package differs from it, by a changed or a new file.

    Pinned code knows it. Else it is one call of git, which looks at these two folders alone.
    """
    if SUBMITTED:
        return SUBMITTED["commit"], SUBMITTED["dirty"]
    folders = [FOLDER]
    if PACKAGE:
        folders += filter(osp.isdir, (osp.join(ROOT, PACKAGE), osp.join(ROOT, "src", PACKAGE)))
    command = ["git", "--no-optional-locks", "-C", FOLDER]
    command += ["status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *folders]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, errors="replace")
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip().split("\n")[0]
        print(f"No commit in this run's provenance: {reason}", file=sys.stderr)
        return None, None
    lines = done.stdout.splitlines()
    head = lines[0].removeprefix("# branch.oid ")
    if head == "(initial)":
        print("No commit in this run's provenance: the repository has none", file=sys.stderr)
        return None, None
    return head, any(not line.startswith("# ") for line in lines)


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

    def identify(self) -> None:
        """Add the commit."""
        self.facts["commit"], self.facts["dirty"] = commit()
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
