"""Check launchers before they are submitted: check.py FOLDER, as submit.sh starts it, once per Python and environment.

FOLDER/requests holds words that end in NUL. For each launcher: its name; a count, and that many NAME=VALUE of its own
environment; a count, and that many words of its command: the script, and its arguments. Written are FOLDER/problems
and FOLDER/notes, pairs of a launcher and a line, and FOLDER/inputs/LAUNCHER, pairs of a declared input and its
checksum. The exit code is 0 if all checks ran, whatever they found.

It needs the standard library, dotenv, and of what the run itself uses hydra and omegaconf.
"""

import os
import os.path as osp
import sys
from collections.abc import Iterable, Mapping

SCRIPTS = osp.dirname(osp.dirname(osp.realpath(__file__)))
PATH = sys.path[1:]  # as a script has it, but for its own folder
sys.path[:] = [SCRIPTS, *PATH]

# What submit.sh sets for the start of this program, to see whether Python gets what a job has.
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
ENVIRONMENT = dict(os.environ)  # which the import of `runtime` changes


def main() -> None:
    if sys.argv[1:] == ["--folder"]:  # which a launcher asks for
        from runtime.paths import FOLDER

        print(FOLDER)
        return
    [folder] = sys.argv[1:]
    requests = read_requests(folder)
    problems = [lost_variables()] if LOST else []
    try:
        from runtime.preflight import check
    except SystemExit as error:  # how `runtime` refuses this Python
        write_findings(folder, {launcher: ([*problems, str(error)], [], {}) for launcher, _, _ in requests})
        return
    found = check(requests, ENVIRONMENT, PATH)
    write_findings(
        folder,
        {
            launcher: (problems + each.problems, each.notes, each.inputs)
            for (launcher, _, _), each in zip(requests, found, strict=True)
        },
    )


def lost_variables() -> str:
    return f"python: Python did not get {', '.join(LOST)}. Let the `python:` command of lab.yml pass the environment."


def read_requests(folder: str) -> list[tuple[str, dict[str, str], list[str]]]:
    """Return the launchers, each with its own environment and its words."""
    with open(osp.join(folder, "requests"), "rb") as file:
        words = iter([os.fsdecode(word) for word in file.read().split(b"\0")[:-1]])
    requests = []
    for launcher in words:
        variables = [next(words) for _ in range(int(next(words)))]
        command = [next(words) for _ in range(int(next(words)))]
        requests.append((launcher, dict(variable.split("=", 1) for variable in variables), command))
    return requests


def write_findings(folder: str, findings: Mapping[str, tuple[list[str], list[str], Mapping[str, str]]]) -> None:
    problems = [(launcher, line) for launcher, found in findings.items() for line in found[0]]
    notes = [(launcher, line) for launcher, found in findings.items() for line in found[1]]
    write_pairs(osp.join(folder, "problems"), problems)
    write_pairs(osp.join(folder, "notes"), notes)
    os.makedirs(osp.join(folder, "inputs"), exist_ok=True)
    for launcher, (_, _, inputs) in findings.items():
        write_pairs(osp.join(folder, "inputs", launcher), inputs.items())


def write_pairs(path: str, pairs: Iterable[tuple[str, str]]) -> None:
    with open(path, "wb") as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for pair in pairs for word in pair))


if __name__ == "__main__":
    main()
