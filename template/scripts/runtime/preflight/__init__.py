"""The check of launchers' scripts and configurations. Each script is imported in a process of its own.

A script is never run as __main__. What it prints reaches nobody.
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

with suppress(ImportError):  # before any fork, since they take most of the time of a check
    import hydra  # noqa: F401
    import omegaconf  # noqa: F401

Request = tuple[str, dict[str, str], list[str]]  # a launcher, its own environment, and its words
FOLDERS = ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")


def check(requests: Sequence[Request], environment: dict[str, str], path: list[str]) -> list[Findings]:
    """Return what is wrong with each launcher. `environment` and `path` are those with which a script starts."""
    surroundings = Surroundings(environment, path, list(environment_problems()))
    groups: dict[str, list[int]] = {}  # of launchers with one script, which starts with one environment
    for number, (_, own, words) in enumerate(requests):
        groups.setdefault(repr((words[0], sorted(own.items()))), []).append(number)
    found: dict[int, Findings] = {}
    for numbers in groups.values():
        found |= zip(numbers, check_script([requests[number] for number in numbers], surroundings), strict=True)
    return [found[number] for number in range(len(requests))]


# The environment ------------------------------------------------------------------------------------------------------


def environment_problems() -> Iterator[str]:
    """Yield what is wrong with .env, which is loaded, and with the folders that it names."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        yield f"python-dotenv is not installed for {sys.executable}"
        return
    if problem := location_error():
        yield one_line(problem)
        return
    load_dotenv(find_env())
    for name in FOLDERS:
        folder = os.environ.get(name)
        if not folder:
            yield unset(name)
        elif not can_write(folder):
            yield f"{name} cannot be written: {folder}"
        elif name == "EXPERIMENT_ROOT" and osp.realpath(osp.join(folder, EXPERIMENT)) != osp.realpath(FOLDER):
            yield f"EXPERIMENT_ROOT does not hold {FOLDER}: {folder}"


def unset(name: str) -> str:
    return f"{name} is not set; set it in {osp.realpath(find_env())}"


def can_write(folder: str) -> bool:
    try:
        try_to_write(folder)
    except OSError:
        return False
    return True


# One script -----------------------------------------------------------------------------------------------------------


def check_script(requests: Sequence[Request], surroundings: Surroundings) -> list[Findings]:
    """Check launchers of one script in one process, or in several if the script reads its arguments when imported."""
    found: list[Findings] = []
    while len(found) < len(requests):
        found += check_some(requests[len(found) :], surroundings)
    return found


def check_some(requests: Sequence[Request], surroundings: Surroundings) -> list[Findings]:
    """Check the first of these launchers, or more, in a process of its own."""
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
    """Check commands of one script, in its process. Sends how many it checks, and then the findings of each."""
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
            found.extend(ask_program(words, script) if program else script.compose(words[1:]))
        send(vars(found))


# The template's own programs ------------------------------------------------------------------------------------------


def ask_program(words: list[str], script: Script) -> Findings:
    """Run query.py or optuna_worker.py with --dry-run, and return what it reports."""
    program = osp.basename(words[0])
    # The database is not asked: a compute node may reach it where this one does not.
    missing = [name for name in SERVER if not script.known.get(name)] if program == "query.py" else []
    if missing:
        return Findings([unset(name) for name in missing])
    done = subprocess.run([sys.executable, *words, "--dry-run"], env=script.environment, capture_output=True, text=True)
    if not done.returncode:
        inputs = [line.removeprefix("input: ") for line in done.stdout.splitlines() if line.startswith("input: ")]
        return Findings(inputs=dict(line.rsplit(" ", 1) for line in inputs))
    lines = done.stderr.splitlines()
    reported = [line for line in lines if line.startswith(f"{program}: ")] or lines[-1:]
    problems = reported or [f"{words[0]} --dry-run ended with exit code {done.returncode}"]
    return Findings([one_line(line) for line in problems])
