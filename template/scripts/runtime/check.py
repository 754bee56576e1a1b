"""Check launchers before they are submitted.

submit.sh starts `check.py FOLDER` once per Python command and environment. All files hold words that end in NUL.

FOLDER/requests  for each launcher: its name; a count and that many NAME=VALUE of its own environment; a count and
                 that many words of its command (the script and its arguments)
FOLDER/problems  written: pairs of a launcher and a line
FOLDER/notes     written: pairs of a launcher and a line
FOLDER/inputs/LAUNCHER  written: pairs of a declared input and its checksum
FOLDER/points/LAUNCHER  written if its configuration has a grid: for each point its name, hash and state

The exit code is 0 if all checks ran, whatever they found. Required packages: python-dotenv, and hydra-core with
omegaconf if the script uses them.
"""

import os
import os.path as osp
import sys
from collections.abc import Iterable, Mapping

SCRIPTS = osp.dirname(osp.dirname(osp.realpath(__file__)))
PATH = sys.path[1:]  # without the first entry, which is the folder of the started script
sys.path[:] = [SCRIPTS, *PATH]

# submit.sh sets these variables when it starts this program. If one is missing, Python would lack it in a job, too.
PROBES = (
    "EXPERIMENT_JOB",
    "EXPERIMENT_MODE",
    "EXPERIMENT_SUBMISSION",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_ID",
    "SLURM_LOCALID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "SLURM_STEP_ID",
)
LOST = [name for name in PROBES if name not in os.environ]
for name in PROBES:
    os.environ.pop(name, None)
ENVIRONMENT = dict(os.environ)  # a copy, since the import of `runtime` changes os.environ


def main() -> None:
    [folder] = sys.argv[1:]
    requests = read_requests(folder)
    problems = [lost_variables()] if LOST else []
    try:
        from runtime.preflight import check
    except SystemExit as error:  # `runtime` exits if Python was started with unsuitable options
        write_findings(folder, {launcher: ([*problems, str(error)], [], {}, []) for launcher, _, _ in requests})
        return
    found = check(requests, ENVIRONMENT, PATH)
    write_findings(
        folder,
        {
            launcher: (problems + each.problems, each.notes, each.inputs, each.points)
            for (launcher, _, _), each in zip(requests, found, strict=True)
        },
    )


def lost_variables() -> str:
    return f"python: Python did not get {', '.join(LOST)}. Let the `python:` command of lab.yml pass the environment."


def read_requests(folder: str) -> list[tuple[str, dict[str, str], list[str]]]:
    """Return each launcher's name, own environment, and words of its command."""
    with open(osp.join(folder, "requests"), "rb") as file:
        words = iter([os.fsdecode(word) for word in file.read().split(b"\0")[:-1]])
    requests = []
    for launcher in words:
        variables = [next(words) for _ in range(int(next(words)))]
        command = [next(words) for _ in range(int(next(words)))]
        requests.append((launcher, dict(variable.split("=", 1) for variable in variables), command))
    return requests


def write_findings(folder: str, findings: Mapping[str, tuple[list[str], list[str], Mapping[str, str], list[str]]]) -> None:
    problems = [(launcher, line) for launcher, found in findings.items() for line in found[0]]
    notes = [(launcher, line) for launcher, found in findings.items() for line in found[1]]
    write_pairs(osp.join(folder, "problems"), problems)
    write_pairs(osp.join(folder, "notes"), notes)
    os.makedirs(osp.join(folder, "inputs"), exist_ok=True)
    os.makedirs(osp.join(folder, "points"), exist_ok=True)
    for launcher, (_, _, inputs, points) in findings.items():
        write_pairs(osp.join(folder, "inputs", launcher), inputs.items())
        if points:
            write_pairs(osp.join(folder, "points", launcher), [points])


def write_pairs(path: str, pairs: Iterable[Iterable[str]]) -> None:
    with open(path, "wb") as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for pair in pairs for word in pair))


if __name__ == "__main__":
    main()
