"""Check launchers before they are submitted, or a job before it computes.

submit.sh starts `check.py FOLDER` once per Python command and environment. All files hold words that end in NUL.

FOLDER/requests  for each launcher: its name; a count and that many NAME=VALUE of its own environment; a count and
                 that many words of its command (the script and its arguments)
FOLDER/problems  written: pairs of a launcher and a line
FOLDER/notes     written: pairs of a launcher and a line
FOLDER/inputs/LAUNCHER  written: pairs of a declared input and its checksum
FOLDER/points/LAUNCHER  written if its configuration has a grid: for each point its name, hash and state

The exit code is 0 if all checks ran, whatever they found.

Where login nodes forbid Python, the launcher starts `check.py --job WORD...` in the job, with the words of its command.
That prints the findings, and its exit code is 1 if there is a problem.

Required packages: python-dotenv, and hydra-core with omegaconf if the script uses them.
"""

import gc
import os
import os.path as osp
import sys
from collections.abc import Iterable, Mapping, Sequence

gc.disable()  # Hydra makes so many objects that their collection takes a tenth of the time
SCRIPTS = osp.dirname(osp.dirname(osp.realpath(__file__)))
PATH = sys.path[1:]  # without the first entry, which is the folder of the started script
sys.path[:] = [SCRIPTS, *PATH]

OF_JOB = ("EXPERIMENT_JOB", "EXPERIMENT_MODE", "EXPERIMENT_SUBMISSION", "SLURM_JOB_ID")
# submit.sh sets these variables when it starts this program. If one is missing, Python would lack it in a job, too.
PROBES = (
    *OF_JOB,
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
Found = tuple[list[str], list[str], Mapping[str, str], list[str]]  # problems, notes, checksums of inputs, points


def main() -> None:
    if sys.argv[1] == "--job":
        sys.exit(check_job(sys.argv[2:]))
    [folder] = sys.argv[1:]
    requests = read_requests(folder)
    lost = lost_variables(PROBES)
    for name in PROBES:
        os.environ.pop(name, None)
    found = find(requests, dict(os.environ), lost, LIMIT)
    write_findings(folder, [launcher for launcher, _, _ in requests], found)


def check_job(words: list[str]) -> int:
    """Check the command of this job and print the findings. Return the exit code.

    The configuration may have a grid. Then only the point of this task is checked, and the first point of a pack.
    """
    environment, lost = dict(os.environ), lost_variables(OF_JOB)  # the import of `runtime` changes os.environ
    if not lost:
        from runtime.point import point_of_task

        words = [*words, *point_of_task(words)]
    [(problems, notes, *_)] = find([("", {}, words)], environment, lost, LIMIT_IN_JOB)
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if problems else 0


def find(requests: Sequence[Request], environment: dict[str, str], lost: list[str], limit: int) -> list[Found]:
    """Return the findings of each request. Scripts start with `environment`."""
    try:
        from runtime.preflight import check
    except SystemExit as error:  # `runtime` exits if Python was started with unsuitable options
        return [([*lost, str(error)], [], {}, []) for _ in requests]
    found = check(requests, environment, PATH, limit)
    return [(lost + each.problems, each.notes, each.inputs, each.points) for each in found]


def lost_variables(expected: Iterable[str]) -> list[str]:
    """Return a problem if Python did not get all of these variables."""
    lost = ", ".join(sorted(name for name in expected if name not in os.environ))
    return (
        [f"python: Python did not get {lost}. Let the `python:` command of lab.yml pass the environment."]
        if lost
        else []
    )


def read_requests(folder: str) -> list[Request]:
    """Return each launcher's name, own environment, and words of its command."""
    with open(osp.join(folder, "requests"), "rb") as file:
        words = iter([os.fsdecode(word) for word in file.read().split(b"\0")[:-1]])
    requests = []
    for launcher in words:
        variables = [next(words) for _ in range(int(next(words)))]
        command = [next(words) for _ in range(int(next(words)))]
        requests.append((launcher, dict(variable.split("=", 1) for variable in variables), command))
    return requests


def write_findings(folder: str, launchers: Sequence[str], findings: Sequence[Found]) -> None:
    named = dict(zip(launchers, findings, strict=True))
    problems = [(launcher, line) for launcher, found in named.items() for line in found[0]]
    notes = [(launcher, line) for launcher, found in named.items() for line in found[1]]
    write_pairs(osp.join(folder, "problems"), problems)
    write_pairs(osp.join(folder, "notes"), notes)
    os.makedirs(osp.join(folder, "inputs"), exist_ok=True)
    os.makedirs(osp.join(folder, "points"), exist_ok=True)
    for launcher, (_, _, inputs, points) in named.items():
        write_pairs(osp.join(folder, "inputs", launcher), inputs.items())
        if points:
            write_pairs(osp.join(folder, "points", launcher), [points])


def write_pairs(path: str, pairs: Iterable[Iterable[str]]) -> None:
    with open(path, "wb") as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for pair in pairs for word in pair))


if __name__ == "__main__":
    main()
