"""Check the scripts and configurations of launchers. Each script is imported in a process of its own.

A script never runs as __main__, and its output is discarded.
"""

import os
import os.path as osp
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from runtime.environment import SERVER, find_env
from runtime.files import try_to_write
from runtime.paths import EXPERIMENT, FOLDER, location_error
from runtime.preflight.children import Send, forked
from runtime.preflight.findings import Findings, one_line
from runtime.preflight.script import Script, Surroundings

with suppress(ImportError):  # imported once, before any fork: this takes most of a check's time
    import hydra  # noqa: F401
    import omegaconf  # noqa: F401

Request = tuple[str, dict[str, str], list[str]]  # a launcher, its own environment, and the words of its command
FOLDERS = ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")


def check(requests: Sequence[Request], environment: dict[str, str], path: list[str]) -> list[Findings]:
    """Return the findings of each launcher. A script starts with `environment`, and with `path` in sys.path."""
    surroundings = Surroundings(environment, path, list(environment_problems()))
    groups: dict[str, list[int]] = {}  # the numbers of requests with the same script and environment
    for number, (_, own, words) in enumerate(requests):
        groups.setdefault(repr((words[0], sorted(own.items()))), []).append(number)
    found: dict[int, Findings] = {}
    for numbers in groups.values():
        found |= zip(numbers, check_script([requests[number] for number in numbers], surroundings), strict=True)
    return [found[number] for number in range(len(requests))]


# The environment ------------------------------------------------------------------------------------------------------


def environment_problems() -> Iterator[str]:
    """Load .env, and yield the problems of it and of the folders that it names."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        yield f"python-dotenv is not installed for {sys.executable}. Install it."
        return
    if problem := location_error():
        yield one_line(problem)
        return
    load_dotenv(find_env())
    for name in FOLDERS:
        folder = os.environ.get(name)
        if not folder:
            yield unset_variable(name)
        elif not can_write(folder):
            yield f"{name} names a folder that cannot be written: {folder}"
        elif name == "EXPERIMENT_ROOT" and osp.realpath(osp.join(folder, EXPERIMENT)) != osp.realpath(FOLDER):
            yield f"EXPERIMENT_ROOT names a folder that does not hold {FOLDER}: {folder}"


def unset_variable(name: str) -> str:
    return f"{name} is not set. Set it in {osp.realpath(find_env())}"


def can_write(folder: str) -> bool:
    try:
        try_to_write(folder)
    except OSError:
        return False
    return True


# One script -----------------------------------------------------------------------------------------------------------


def check_script(requests: Sequence[Request], surroundings: Surroundings) -> list[Findings]:
    """Check launchers of one script in one process, or each in its own if the import reads the arguments."""
    found: list[Findings] = []
    while len(found) < len(requests):
        found += check_some(requests[len(found) :], surroundings)
    return found


def check_some(requests: Sequence[Request], surroundings: Surroundings) -> list[Findings]:
    """Check these launchers, or only the first of them, in a new process."""
    script = requests[0][2][0]
    commands, own = [words for _, _, words in requests], requests[0][1]
    with forked(lambda send: examine(commands, own, surroundings, send)) as receive:
        count = receive()
        if isinstance(count, str):
            return [Findings([f"{script}: {count} when it was imported"]) for _ in requests]
        found: list[Findings] = []
        for _ in range(count):
            answer = receive()
            if isinstance(answer, str):
                return [*found, Findings([f"{script}: {answer} when its configuration was composed"])]
            found.append(Findings(**answer))
    return found


def examine(commands: list[list[str]], own: dict[str, str], surroundings: Surroundings, send: Send) -> None:
    """Check commands of one script in this process. Send how many are checked, and then the findings of each."""
    script = Script(commands[0], own, surroundings)
    program = script.source and script.source.answers_dry_run
    if script.is_sound and not program:
        script.load()
    if script.needs_own_process:
        del commands[1:]
    send(len(commands))
    for words in commands:
        found = script.findings.copy()
        if script.is_sound:
            found.extend(dry_run(words, script) if program else script.compose(words[1:]))
        send(vars(found))


# The template's own programs ------------------------------------------------------------------------------------------


def dry_run(words: list[str], script: Script) -> Findings:
    """Run query.py or optuna_worker.py with --dry-run, and return its findings."""
    program = osp.basename(words[0])
    # The database is not contacted: perhaps only the compute nodes can reach it.
    missing = [name for name in SERVER if not script.known.get(name)] if program == "query.py" else []
    if missing:
        return Findings([unset_variable(name) for name in missing])
    done = subprocess.run([sys.executable, *words, "--dry-run"], env=script.environment, capture_output=True, text=True)
    if not done.returncode:
        inputs = [line.removeprefix("input: ") for line in done.stdout.splitlines() if line.startswith("input: ")]
        return Findings(inputs=dict(line.rsplit(" ", 1) for line in inputs))
    lines = done.stderr.splitlines()
    reported = [line for line in lines if line.startswith(f"{program}: ")] or lines[-1:]
    problems = reported or [f"{words[0]} --dry-run: it ended with exit code {done.returncode}"]
    return Findings([one_line(line) for line in problems])
