"""Check the scripts and configurations of launchers. Each script is imported in separate processes.

A script never runs as __main__, and its output is discarded. Most of the time is Hydra's: it composes a configuration
in 0.05 to 0.1 s. So many launchers of one script are shared among several processes, and each imports the script.
"""

import os
import os.path as osp
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from runtime.environment import DOTENV_DISABLED, SERVER, find_env, is_dotenv_disabled
from runtime.files import try_to_write
from runtime.paths import EXPERIMENT, FOLDER, location_error
from runtime.preflight.children import LEAST, PROCESSES, Send, forked
from runtime.preflight.configs import read_once
from runtime.preflight.findings import Findings, one_line
from runtime.preflight.script import Script, Surroundings

Request = tuple[str, dict[str, str], list[str]]  # a launcher, its own environment, and the words of its command
FOLDERS = ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")


def check(requests: Sequence[Request], environment: dict[str, str], path: list[str], limit: int) -> list[Findings]:
    """Return the findings of each launcher. A script starts with `environment`, and with `path` in sys.path.

    `limit` is in seconds, for the import of a script and for each of its configurations.
    """
    surroundings = Surroundings(environment, path, limit, list(environment_problems()))
    found: dict[int, Findings] = {}
    while waiting := [number for number in range(len(requests)) if number not in found]:
        parts = split(waiting, requests)
        if len(parts) > 1:
            import_hydra()
        for first in range(0, len(parts), PROCESSES):
            found |= check_parts(parts[first : first + PROCESSES], requests, surroundings)
    return [found[number] for number in range(len(requests))]


def import_hydra() -> None:
    """Import Hydra once for several processes. One process imports it faster by itself than it copies the memory."""
    with suppress(ImportError):
        import hydra  # noqa: F401
        import omegaconf  # noqa: F401


def split(numbers: Sequence[int], requests: Sequence[Request]) -> list[list[int]]:
    """Return the numbers of requests in parts. Those of a part have one script and environment."""
    groups: dict[str, list[int]] = {}
    for number in numbers:
        _, own, words = requests[number]
        groups.setdefault(repr((words[0], sorted(own.items()))), []).append(number)
    parts = []
    for group in groups.values():
        size = max(LEAST, -(-len(group) // PROCESSES))
        parts += [group[first : first + size] for first in range(0, len(group), size)]
    return parts


def check_parts(
    parts: Sequence[list[int]], requests: Sequence[Request], surroundings: Surroundings
) -> dict[int, Findings]:
    """Check each part in a new process, all at once. Return the findings by the number of the request.

    Only the first request of a part is checked if the import of its script depends on the arguments.
    """
    found: dict[int, Findings] = {}
    with ExitStack() as processes:
        started = [processes.enter_context(start(part, requests, surroundings)) for part in parts]
        for part, receive in zip(parts, started, strict=True):
            found |= zip(part, receive_findings(requests[part[0]][2][0], len(part), receive), strict=False)
    return found


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
        elif not osp.isabs(folder):
            yield f"{name} names a relative path: {folder}. Write an absolute path."
        elif not can_write(folder):
            yield f"{name}: cannot write to {folder}"
        elif name == "EXPERIMENT_ROOT" and osp.realpath(osp.join(folder, EXPERIMENT)) != osp.realpath(FOLDER):
            yield f"EXPERIMENT_ROOT is a folder that does not contain {FOLDER}: {folder}"


def unset_variable(name: str) -> str:
    return f"{name} is not set. {DOTENV_DISABLED if is_dotenv_disabled() else f'Set it in {osp.realpath(find_env())}'}"


def can_write(folder: str) -> bool:
    try:
        try_to_write(folder)
    except OSError:
        return False
    return True


# One script -----------------------------------------------------------------------------------------------------------


def start(part: Sequence[int], requests: Sequence[Request], surroundings: Surroundings) -> Any:
    """Start a process that checks requests of one script. Return a context, which yields the function `receive`."""
    commands, own = [requests[number][2] for number in part], requests[part[0]][1]
    return forked(lambda send: examine(commands, own, surroundings, send), surroundings.limit)


def receive_findings(script: str, size: int, receive: Callable[[], Any]) -> list[Findings]:
    """Return the findings of the first requests of a part with `size` requests."""
    count = receive()
    if isinstance(count, str):
        return [Findings([f"{script}: {count} when it was imported"])] * size
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
    with read_once():
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
