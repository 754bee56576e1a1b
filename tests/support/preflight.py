"""Run the preflight as submit.sh does: write a folder of requests, and read the answers of check.py."""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.process import run

# submit.sh sets these to find out whether Python receives a job's variables.
PROBES = {
    "EXPERIMENT_END": "",
    "EXPERIMENT_JOB": "0",
    "EXPERIMENT_LEGS": "",
    "EXPERIMENT_MODE": "one",
    "EXPERIMENT_SUBMISSION": "/nowhere",
    "SLURM_ARRAY_JOB_ID": "0",
    "SLURM_ARRAY_TASK_ID": "0",
    "SLURM_CLUSTER_NAME": "lab",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_JOB_ID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_RESTART_COUNT": "0",
    "SLURM_STEP_ID": "0",
}
OWN = {"EXPERIMENT_MODE": "one", "SLURM_CPUS_PER_TASK": "4", "SLURM_NTASKS": "1"}


@dataclass
class Answer:
    """The output of check.py: pairs of a launcher and a line, and the inputs of each launcher."""

    problems: list
    notes: list
    inputs: dict

    def lines(self, launcher="a"):
        return [line for name, line in self.problems if name == launcher]


def pairs(path):
    words = path.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    return list(zip(words[::2], words[1::2], strict=True))


def words_of(launcher, command, own=OWN):
    variables = [f"{name}={value}" for name, value in own.items()]
    return [launcher, str(len(variables)), *variables, str(len(command)), *map(str, command)]


def ask(root, check, commands, env=None, python=(sys.executable,), probes=PROBES, own=OWN):
    """Run check.py on {launcher: command}. Return the completed process and the folder."""
    folder = Path(tempfile.mkdtemp())
    words = [word for launcher, command in commands.items() for word in words_of(launcher, command, own)]
    (folder / "0.requests").write_bytes(b"".join(os.fsencode(word) + b"\0" for word in words))
    return run(*python, check, folder, "0", cwd=root, env=os.environ | probes | (env or {})), folder


def preflight(lab, *commands, name="011-x", **kwargs):
    """Return the answer of check.py. The commands belong to launchers a, b, c and so on."""
    check = f"experiments/{name}/scripts/runtime/check.py"
    done, folder = ask(lab.path, check, dict(zip("abcdefghijklmnop", commands, strict=False)), **kwargs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr
    inputs = {path.name: dict(pairs(path)) for path in (folder / "inputs").iterdir()}
    return Answer(pairs(folder / "0.problems"), pairs(folder / "0.notes"), inputs)
