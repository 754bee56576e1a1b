"""Write provenance.json, the record of how a result was made."""

import json
import math
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
from typing import TYPE_CHECKING, Any

from runtime.changes import keep_changes, reason_of, run_git
from runtime.files import write_json
from runtime.metrics import History, Number
from runtime.paths import EXPERIMENT, SCRIPTS, SUBMITTED, package_folder
from runtime.process import earlier_legs, queue_id, submission
from runtime.usage import peak_memory

if TYPE_CHECKING:
    from omegaconf import DictConfig

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
    """Return the commit, and whether a file of this experiment or of the package is new or changed since then.

    Runs write to results/ and slurm/, so these are skipped. The declared inputs of the experiment are checked
    everywhere, also for pinned code, which reads them from the live tree. `own_inputs` are relative to the
    experiment's folder. Git is slow on some disks: it runs once for live code, and not at all for pinned code
    without inputs of its own. Prints a warning and returns None for a value that git cannot give.
    """
    try:
        head, dirty = (SUBMITTED["commit"], SUBMITTED["dirty"]) if SUBMITTED else tree_state()
        return head, dirty or is_uncommitted(head, own_inputs)
    except (OSError, subprocess.CalledProcessError, LookupError) as error:
        reason = reason_of(error)
        if SUBMITTED:
            print(f"provenance: it is unknown whether the inputs are committed: {reason}", file=sys.stderr)
            return SUBMITTED["commit"], None
        print(f"provenance: no commit is recorded: {reason}", file=sys.stderr)
        return None, None


def tree_state() -> tuple[str, bool]:
    """Return the commit of the live tree, and whether the experiment or the package differs from it."""
    package = package_folder()
    folders = [".", ":(exclude)results", ":(exclude)slurm", *([package] if package else [])]
    lines = git_lines("status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *folders)
    head = lines[0].removeprefix("# branch.oid ")
    if head == "(initial)":
        raise LookupError("the repository has no commit")
    return head, any(not line.startswith("# ") for line in lines)


def commit_text(head: str | None, is_dirty: bool | None) -> str:
    """Return a commit as the metadata of figures has it: with -dirty if the code differs from it."""
    return f"{head}{'-dirty' if is_dirty else ''}"


def is_uncommitted(head: str, paths: Sequence[str]) -> bool:
    """Return whether files of the experiment differ from a commit or are missing there, even if git ignores them."""
    if not paths:
        return False
    files = [f":(literal){path}" for path in paths]
    return bool(git_lines("diff", "--name-only", head, "--", *files) or git_lines("ls-files", "--others", "--", *files))


def git_lines(*words: str) -> list[str]:
    """Return the lines that git prints in the experiment's folder. Git takes no lock there."""
    return run_git(*words).decode(errors="replace").splitlines()


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python and of each imported package, by name."""
    found = {"python": platform.python_version()}
    for name, module in sorted(sys.modules.items()):
        if "." not in name and name not in sys.stdlib_module_names:
            with suppress(Exception):  # `__version__` may run code of the module
                version = module.__version__
                found |= {name: version} if isinstance(version, str) else {}
    return found


def script_name(path: str) -> str:
    """Return a script's path relative to the repository's root. Return other paths than the experiment's unchanged."""
    inside = osp.relpath(osp.realpath(path), SCRIPTS)
    return path if inside.startswith(osp.pardir) else f"experiments/{EXPERIMENT}/scripts/{inside}"


def provenance() -> dict[str, Any]:
    """Return how a result is made: script, command, commit, host, job and start time."""
    head, dirty = commit()
    script = vars(sys.modules["__main__"]).get("__file__") or sys.argv[0]  # sys.argv may have a relative path
    return run_facts(script) | {"commit": head, "dirty": dirty}


def run_facts(script: str) -> dict[str, Any]:
    """Return the facts of `provenance` without the commit, which takes long on a slow disk."""
    return {
        "script": script_name(script),
        "command": shlex.join([sys.executable, *sys.orig_argv[1:]]),
        "commit": None,
        "dirty": None,
        "host": platform.node(),
        "slurm": {name: os.environ[name] for name in SLURM_VARIABLES if name in os.environ},
        "submission": submission(),
        "started": now(),
    }


def plain_configuration(cfg: "DictConfig") -> dict[str, Any]:
    """Return a configuration as JSON values. Interpolations are not resolved: they may be secrets.

    Only `task` is resolved, because values that depend on it would look alike in the runs of an array.
    """
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    found: dict[str, Any] = plain_value(values)
    return found | {"task": cfg.task}


def plain_value(value: Any) -> Any:
    """Return a JSON value. NaN, infinity and values of other types become strings."""
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


class Record:
    """The provenance.json in a run's folder. It lists every attempt of a requeued run and each leg.

    Next to it, metrics.jsonl has the history of the metrics.
    """

    def __init__(self, folder: str) -> None:
        self.path = osp.join(folder, "provenance.json")
        self.facts: dict[str, Any] = {}
        self.history = History(folder)
        self.begun = 0.0  # seconds of the monotonic clock
        self.written = 0.0

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Record that the run has started. What earlier attempts have recorded is kept."""
        self.begun = time.monotonic()
        earlier: dict[str, Any] = {}
        if osp.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                earlier = json.load(file)
        attempts = earlier.get("attempts", [])
        if attempts and attempts[-1]["status"] == "running":
            attempts[-1] |= {"status": "terminated", "error": "killed before it could record its end"}
        attempt = {name: facts[name] for name in ("started", "host", "job")}
        if earlier_legs():
            attempt["job"] = queue_id()
        attempt["restart"] = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        kept: dict[str, Any] = {"metrics": {}, "figures": [], "tables": [], "wandb_id": None}
        self.facts = {"status": "running", "error": None, "finished": None} | dict(facts)
        self.facts |= {name: earlier.get(name, empty) for name, empty in kept.items()}
        self.facts["attempts"] = [*attempts, attempt]
        self.write()

    def identify(self, own_inputs: Sequence[str], with_changes: bool = True) -> None:
        """Record the commit. The run is dirty if a declared input of the experiment is not part of it.

        with_changes  whether the uncommitted changes of a run by hand are kept beside the record
        """
        self.facts["commit"], self.facts["dirty"] = commit(own_inputs)
        if with_changes and self.facts["dirty"] and not SUBMITTED:
            self.facts["changes"] = keep_changes(osp.dirname(self.path))
        self.write()

    def add(self, kind: str, path: str) -> None:
        """Record the path of a figure or a table. `kind` is "figures" or "tables"."""
        paths = self.facts[kind]
        if path not in paths:
            paths.append(path)
        self.write()

    def measure(self, metrics: Mapping[str, Number], step: Number | None) -> None:
        """Record metrics. The files are written at most once a second, because a script may log at a million steps."""
        self.facts["metrics"] |= metrics
        self.history.add(step, metrics)
        if time.monotonic() >= self.written + 1:
            self.write()

    def end(self, status: str, error: str | None) -> None:
        """Record how the run ended, if it has begun.

        Raises OSError if the disk is full. Even then the old file is overwritten in place, if the record fits.
        """
        if not self.facts:
            return
        self.facts |= {"status": status, "error": error, "finished": now(), "versions": versions()}
        try:
            try:
                self.history.flush()
            finally:
                self.write()
        except OSError:
            self.write_over()
            raise

    def write(self) -> None:
        self.facts["usage"] = {"seconds": round(time.monotonic() - self.begun, 3)} | peak_memory()
        for name in ("status", "error", "finished", "usage"):
            self.facts["attempts"][-1][name] = self.facts[name]
        write_json(self.path, self.facts)
        self.written = time.monotonic()

    def write_over(self) -> None:
        """Overwrite the file in place, because a full disk has no room for a new one.

        The record is made to fit into the old size: without indentation, then without versions, then with a shortened
        error.
        """
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
