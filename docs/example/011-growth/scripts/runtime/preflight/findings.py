"""Collect the findings of the preflight, and format errors as single lines without secrets."""

import os
import os.path as osp
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType

from runtime.paths import ROOT

SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)
SHORTEST_SECRET = 6
# Variables and hardware that a job has, and a login node may lack.
OF_A_JOB = re.compile(
    r"'(SLURM\w*|(LOCAL_|GROUP_)?RANK|(LOCAL_)?WORLD_SIZE|MASTER_\w+|CUDA_\w+)'|\bCUDA\b|NVIDIA|\bGPUs?\b"
)
HYDRAS_OWN = ("full_key:", "object_type=", "reference_type=")  # OmegaConf appends such lines to its errors
LIBRARIES = ("antlr4", "hydra", "omegaconf")


@dataclass
class Findings:
    """Problems (they stop a submission), notes (they do not), and what else a submission records.

    inputs  the checksums of declared inputs
    points  for each point of a grid, its name, the hash of its configuration, and its state
    is_unrecorded  whether the script does not record its runs: its configuration lacks conf/runtime.yaml
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    points: list[tuple[str, str, str]] = field(default_factory=list)
    is_unrecorded: bool = False

    def add(self, line: str, is_note: bool = False) -> None:
        lines = self.notes if is_note else self.problems
        if line not in lines:
            lines.append(line)

    def copy(self) -> "Findings":
        return replace(
            self,
            problems=list(self.problems),
            notes=list(self.notes),
            inputs=dict(self.inputs),
            points=list(self.points),
        )

    def extend(self, other: "Findings") -> None:
        """Add other findings, but no line twice."""
        for line in other.problems:
            self.add(line)
        for line in other.notes:
            self.add(line, is_note=True)
        self.inputs |= other.inputs
        self.points = self.points or other.points
        self.is_unrecorded |= other.is_unrecorded


def one_line(error: object) -> str:
    """Return an exception's text in one line, with paths relative to the root and without Hydra's search path."""
    cause = getattr(error, "__cause__", None) if type(error).__module__.startswith("hydra") else None
    if "is not in struct" in str(cause):  # Hydra's own message is clearer
        cause = None
    text = f"{error}\n{cause or ''}".partition("Config search path")[0].replace(f"{ROOT}/", "")
    text = text.replace("To sweep over it, add --multirun to your command line", "Submit one job per value")
    lines = [line.strip() for line in text.splitlines()]
    return without_secrets(" ".join(line for line in lines if line and not line.startswith(HYDRAS_OWN)))


def without_secrets(text: str, variables: Mapping[str, str] = os.environ) -> str:
    """Return a text in which the value of each variable like NEO4J_PASSWORD is replaced by the variable's name."""
    for name, value in variables.items():
        if SECRET.search(name) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, f"${name}")
    return text


def import_error(error: BaseException, script: str) -> str:
    """Return the exception of an import in one line, with the script's line that led to it."""
    if isinstance(error, SystemExit):
        return one_line(error) if isinstance(error.code, str) else f"it exits with code {error.code} when imported"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if osp.realpath(frame.filename) == osp.realpath(script)]
    line = f"line {lines[-1]}: " if lines else ""
    return f"{line}{type(error).__name__}: {one_line(error)}"


def is_job_error(error: BaseException) -> bool:
    """Return whether an error may be absent in a job, which has GPUs and the variables of Slurm."""
    return bool(OF_A_JOB.search(str(error)))


def is_resolver_error(error: BaseException) -> bool:
    """Return whether a user's resolver raised an error, or is not registered yet."""
    from omegaconf.errors import UnsupportedInterpolationType

    return isinstance(error, UnsupportedInterpolationType) or not is_library(innermost(error.__traceback__))


def innermost(trace: TracebackType | None) -> str:
    """Return the file of the frame that raised an exception."""
    frames = list(traceback.walk_tb(trace))
    return frames[-1][0].f_code.co_filename if frames else ""


def is_library(file: str) -> bool:
    """Return whether a file belongs to Hydra, OmegaConf or their parser."""
    folders = [osp.dirname(sys.modules[name].__file__ or "") for name in LIBRARIES if name in sys.modules]
    return any(file.startswith(osp.join(folder, "")) for folder in folders)
