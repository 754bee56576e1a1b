"""Checks of an experiment against its template."""

import re
from collections.abc import Iterator

from experiments.checks.context import Context, Finding, check
from experiments.template import ANSWERS

LARGEST_TEXT = 1_000_000  # bytes: larger files are not searched for conflict markers
MARKER = re.compile(rb"^(?:<{7}|>{7}) ", re.MULTILINE)


@check
def version(context: Context) -> Iterator[Finding]:
    """A version other than the newest release, or an unreadable template."""
    if context.problem:
        yield Finding(ANSWERS, f"cannot be compared with the template: {context.problem}")
    elif context.newest and context.answers:
        yield Finding(ANSWERS, f"is at {context.answers.version}, but the newest release is {context.newest}")


@check
def renamed_folder(context: Context) -> Iterator[Finding]:
    """A copied or renamed folder with the files of another experiment."""
    if context.answers and (problem := context.answers.name_mismatch(context.path)):
        yield Finding(ANSWERS, problem)


@check
def missing_file(context: Context) -> Iterator[Finding]:
    """A missing file of a recorded run or of the template."""
    if not context.answers:
        return
    for run in context.runs:
        for name in (f"scripts/{run.script}.py", *run.files):
            if not (context.path / name).exists():
                yield Finding(name, "is missing, but the answers have its run")
    for name in context.release.fixed_scripts() if context.release else []:
        if not (context.path / name).exists():
            yield Finding(name, "is missing, but the template has it")


@check
def edited_library(context: Context) -> Iterator[Finding]:
    """An edited file in scripts/runtime, which must be the same in every experiment."""
    if not context.answers or not context.release:
        return
    for name, content in context.release.library().items():
        path = context.path / name
        if path.is_file() and path.read_bytes().replace(b"\r\n", b"\n") != content:
            yield Finding(name, "was edited. Undo that, or change the template: later updates may conflict.")


@check
def conflict(context: Context) -> Iterator[Finding]:
    """Conflict markers or .rej files left by an update."""
    for folder in (".", "conf", "queries", "scripts", "scripts/runtime"):
        for file in sorted((context.path / folder).glob("*")):
            name = file.relative_to(context.path).as_posix()
            if not file.is_file() or file.stat().st_size > LARGEST_TEXT:
                continue
            if file.suffix == ".rej":
                yield Finding(name, "is a change that an update could not apply")
            elif MARKER.search(file.read_bytes()):
                yield Finding(name, "has conflict markers")
