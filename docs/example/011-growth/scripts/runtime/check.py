"""Check launchers before they are submitted, or a job before it computes.

submit.sh starts `check.py FOLDER GROUP` once per Python command and environment. The group is a number. All files hold
words that end in NUL.

FOLDER/GROUP.requests  for each launcher: its name; a count and that many NAME=VALUE of its own environment; a count and
                       that many words of its command (the script and its arguments)
FOLDER/GROUP.problems  written: pairs of a launcher and a line
FOLDER/GROUP.notes     written: pairs of a launcher and a line
FOLDER/inputs/LAUNCHER  written: pairs of a declared input and its checksum
FOLDER/points/LAUNCHER  written if its configuration has a grid: for each point its name, hash and state
FOLDER/unrecorded/LAUNCHER  written if the script does not record its runs

The exit code is 0 if all checks ran, whatever they found.

Where login nodes forbid Python, the launcher starts `check.py --job WORD...` in the job, with the words of its command.
That prints the findings, and its exit code is 1 if there is a problem. It writes the file `unrecorded` to the receipt.

Required packages: python-dotenv, and hydra-core with omegaconf if the script uses them.
"""

import gc
import importlib.util
import os
import os.path as osp
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

gc.disable()  # Hydra makes so many objects that their collection takes a tenth of the time
SCRIPTS = osp.dirname(osp.dirname(osp.realpath(__file__)))
PATH = sys.path[1:]  # without the first entry, which is the folder of the started script
sys.path[:] = [SCRIPTS, *PATH]

OF_JOB = ("EXPERIMENT_JOB", "EXPERIMENT_MODE", "EXPERIMENT_SUBMISSION", "SLURM_JOB_ID")
# submit.sh sets these variables when it starts this program. If one is missing, Python would lack it in a job, too.
PROBES = (
    *OF_JOB,
    "EXPERIMENT_END",
    "EXPERIMENT_LEGS",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_PER_TASK",
    "SLURM_LOCALID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "SLURM_STEP_ID",
)
# Seconds for the import of a script, and for each of its configurations. In a job, a slow disk must not end the job.
LIMIT, LIMIT_IN_JOB = 120, 1800

Request = tuple[str, dict[str, str], list[str]]  # a launcher, its own environment, and the words of its command


class Found(NamedTuple):
    """The findings of a launcher, explained in preflight/findings.py."""

    problems: list[str]
    notes: list[str]
    inputs: Mapping[str, str]
    points: list[tuple[str, str, str]]
    is_unrecorded: bool


def main() -> None:
    if sys.argv[1] == "--job":
        sys.exit(check_job(sys.argv[2:]))
    folder, group = sys.argv[1:]
    requests = read_requests(osp.join(folder, f"{group}.requests"))
    with suppress(OSError):  # without bytecode, Python compiles the modules in memory
        store_bytecode(folder)
    lost = lost_variables(PROBES)
    for name in PROBES:
        os.environ.pop(name, None)
    found = find(requests, dict(os.environ), lost, LIMIT)
    write_findings(folder, group, {request[0]: each for request, each in zip(requests, found, strict=True)})
    gc.freeze()  # else Python would look for garbage once more when it exits


def check_job(words: list[str]) -> int:
    """Check the command of this job and print the findings. Return the exit code.

    The configuration may have a grid. Then only the point of this task is checked, and the first point of a pack.
    """
    environment, lost = dict(os.environ), lost_variables(OF_JOB)  # the import of `runtime` changes os.environ
    if not lost and environment["EXPERIMENT_MODE"] != "plain":
        from runtime.point import point_of_task

        words = [*words, *point_of_task(words)]
    [found] = find([("", {}, words)], environment, lost, LIMIT_IN_JOB)
    for line in found.notes:
        print(f"note: {line}", file=sys.stderr)
    for line in found.problems:
        print(line, file=sys.stderr)
    if found.is_unrecorded:
        write_pairs(osp.join(environment["EXPERIMENT_SUBMISSION"], "unrecorded"), [])
    return 1 if found.problems else 0


def find(requests: Sequence[Request], environment: dict[str, str], lost: list[str], limit: int) -> list[Found]:
    """Return the findings of each request. Scripts start with `environment`."""
    try:
        from runtime.preflight import check
    except SystemExit as error:  # `runtime` exits if Python was started with unsuitable options
        return [Found([*lost, str(error)], [], {}, [], False) for _ in requests]
    found = check(requests, environment, PATH, limit)
    return [Found(lost + each.problems, each.notes, each.inputs, each.points, each.is_unrecorded) for each in found]


def lost_variables(expected: Iterable[str]) -> list[str]:
    """Return a problem if Python did not get all of these variables."""
    lost = ", ".join(sorted(name for name in expected if name not in os.environ))
    return (
        [f"python: Python did not get {lost}. The `python:` command in lab.yml must pass the environment."]
        if lost
        else []
    )


def read_requests(path: str) -> list[Request]:
    """Return each launcher's name, own environment, and words of its command."""
    with open(path, "rb") as file:
        words = iter([os.fsdecode(word) for word in file.read().split(b"\0")[:-1]])
    requests = []
    for launcher in words:
        variables = [next(words) for _ in range(int(next(words)))]
        command = [next(words) for _ in range(int(next(words)))]
        requests.append((launcher, dict(variable.split("=", 1) for variable in variables), command))
    return requests


def write_findings(folder: str, group: str, findings: Mapping[str, Found]) -> None:
    for kind in ("problems", "notes"):
        lines = [(launcher, line) for launcher, found in findings.items() for line in getattr(found, kind)]
        write_pairs(osp.join(folder, f"{group}.{kind}"), lines)
    for kind in ("inputs", "points", "unrecorded"):
        os.makedirs(osp.join(folder, kind), exist_ok=True)
    for launcher, found in findings.items():
        write_pairs(osp.join(folder, "inputs", launcher), found.inputs.items())
        if found.points:
            write_pairs(osp.join(folder, "points", launcher), found.points)
        if found.is_unrecorded:
            write_pairs(osp.join(folder, "unrecorded", launcher), [])


def write_pairs(path: str, pairs: Iterable[Iterable[str]]) -> None:
    with open(path, "wb") as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for pair in pairs for word in pair))


# Bytecode -------------------------------------------------------------------------------------------------------------

CHECKED_HASH = (3).to_bytes(4, "little")  # in bytecode: Python compares the hash of the text, not its time and size


def store_bytecode(work: str) -> None:
    """Store the bytecode of `runtime` in a new copy of the code, where the checks and the jobs find it.

    `work` is the temporary folder in slurm/code in which submit.sh makes the copy. The bytecode of an earlier copy is
    reused if its source is equal. Edits are safe, because Python compares the hash of the source at each import.
    """
    if not SCRIPTS.startswith(osp.join(work, "top", "")) or sys.pycache_prefix:
        return
    earlier = osp.join(newest_copy(osp.dirname(work)), *SCRIPTS.split(os.sep)[-3:])  # experiments/NAME/scripts
    for package in ("runtime", osp.join("runtime", "preflight")):
        os.makedirs(osp.join(SCRIPTS, package, "__pycache__"), exist_ok=True)
        for name in os.listdir(osp.join(SCRIPTS, package)):
            if name.endswith(".py"):
                store_module(osp.join(SCRIPTS, package, name), osp.join(earlier, package, name))


def newest_copy(code: str) -> str:
    """Return the newest copy of the code that this user has made, or an empty text."""
    with os.scandir(code) as entries:
        copies = [(entry.stat(), entry.path) for entry in entries if not entry.name.startswith(".")]
    own = [(stat.st_mtime_ns, path) for stat, path in copies if stat.st_uid == os.getuid()]
    return max(own, default=(0, ""))[1]


def store_module(path: str, earlier: str) -> None:
    """Store the bytecode of a module. `earlier` is the path of this module in an earlier copy."""
    with open(path, "rb") as file:
        header = importlib.util.MAGIC_NUMBER + CHECKED_HASH + importlib.util.source_hash(file.read())
    with suppress(OSError), open(importlib.util.cache_from_source(earlier), "rb") as file:
        code = file.read()
        if code.startswith(header):
            write_complete(importlib.util.cache_from_source(path), code)
            return
    import py_compile

    py_compile.compile(path, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH, quiet=2)


def write_complete(path: str, content: bytes) -> None:
    """Write a file at once, because the check of another Python environment may read it at this moment.

    This is not `runtime.files.atomic_write`: `runtime` is imported once its bytecode is stored.
    """
    part = f"{path}.{os.getpid()}"
    try:
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise


if __name__ == "__main__":
    main()
