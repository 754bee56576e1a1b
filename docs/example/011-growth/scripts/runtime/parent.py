"""Run a script that does not record itself: record its run, and forward signals to it."""

import os
import os.path as osp
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from runtime.campaign import ChosenPoint
from runtime.files import mkdir_exclusive
from runtime.paths import PREFIX
from runtime.point_claims import claim_with_answers, own_campaign_folder
from runtime.process import Process, candidate_names, is_earlier_attempt, link_folder, this_process
from runtime.record import Record, run_facts, script_name, versions

FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class ScriptRun:
    """A run of a script that does not record itself.

    name         the name of the folder of all such runs: a configuration, a campaign, or the name of a plain run
    folder       the run's own folder
    script       the script's path
    command      the words that start it
    overrides    what the user chose: Hydra overrides, or the arguments of a plain script
    chosen       its point, if it has one
    expected     the hash of the point's configuration, if the preflight has composed it
    environment  the variables with which the script starts
    """

    name: str
    folder: str
    script: str
    command: Sequence[str]
    overrides: Sequence[str]
    chosen: ChosenPoint | None
    expected: str | None
    environment: Mapping[str, str]

    @property
    def facts(self) -> dict[str, Any]:
        process = this_process()
        task = [self.chosen.point.name] if self.chosen else [] if process.task is None else [str(process.task)]
        facts = run_facts(self.script) | {"command": shlex.join(self.command), "config": self.name}
        facts |= {"stem": "_".join([f"{PREFIX}-{self.name}", *task]), "folder": self.folder, "job": process.job_id}
        facts |= self.chosen.facts if self.chosen else {}
        return facts | {
            "overrides": list(self.overrides),
            "configuration_hash": self.expected,
            "versions": versions(),
        }


def run_recorded(run: ScriptRun) -> NoReturn:
    """Run a script, record its run, and exit with its exit code. Other processes of a run become the script."""
    if not this_process().is_main:
        os.execve(run.command[0], [*run.command], dict(run.environment))
    link_folder(run.folder)
    record = Record(run.folder)
    record.begin(run.facts)
    record.identify(())
    child = Child()
    child.watch()
    code = child.run(run.command, {**run.environment, "RUN_FOLDER": run.folder})
    record.end(*child.outcome(code))
    sys.exit(code if code >= 0 else 128 - code)  # as bash reports a signal


class Child:
    """The process of a script, to which signals are forwarded."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.received: list[signal.Signals] = []

    def watch(self) -> None:
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.forward)

    def forward(self, number: int, _: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        is_typed = number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty()
        if self.process and not is_typed:  # a terminal sends Ctrl-C to the script as well
            self.process.send_signal(number)

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a command. Return its exit code, or the negative number of the signal that ended it."""
        process = subprocess.Popen(command, env=environment)
        for number in self.received:  # they came before the process existed
            process.send_signal(number)
        self.process = process
        return process.wait()

    def outcome(self, code: int) -> tuple[str, str | None]:
        """Return the status and the error of a run, given the exit code of its script."""
        if code == 0:
            return "finished", None
        if code < 0:
            return "terminated", signal.Signals(-code).name
        ending = [each for each in self.received if each not in (signal.SIGUSR1, signal.SIGUSR2)]
        return ("terminated", ending[0].name) if ending else ("failed", f"exit code {code}")


# Folders --------------------------------------------------------------------------------------------------------------


def claim_folder(runs: str, name: str, chosen: ChosenPoint | None, script: str) -> str:
    """Return the folder of this process's run. Exits if it belongs to another run."""
    process, home = this_process(), osp.join(runs, name)
    if process.is_main and process.job:
        own_campaign_folder(home, script_name(script))
    if chosen:
        folder = osp.join(home, chosen.point.name)
        if process.is_main:
            claim_with_answers(folder)
        return folder
    for candidate in candidate_names(process):
        folder = osp.join(home, candidate)
        if not process.is_main or is_free(folder, process):
            return folder
        if process.job:
            break
    sys.exit(f"{folder} belongs to another run. Move it away.")


def is_free(folder: str, process: Process) -> bool:
    """Return whether this process may use a folder: it has made it, or an earlier attempt of its job has."""
    return bool(process.restart and is_earlier_attempt(folder, process)) or mkdir_exclusive(folder)
