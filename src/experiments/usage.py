"""`experiments usage`: compare what launchers request with what their jobs used. Nothing is changed."""

import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from experiments.edit_runs import find_request
from experiments.errors import Problem
from experiments.experiment import Answers, Experiment, Templates
from experiments.history import History, read_histories
from experiments.launcher import Launcher
from experiments.listing import readable_size
from experiments.records import RunInfo, mapping_of, readable_seconds, text_of
from experiments.screen import show_fitted
from experiments.slurm import Key, Queue, Used, read_used
from experiments.template import Run
from experiments.widths import Fit

KEEP = ("attempts",)  # of a record
MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")  # options of one group: Slurm takes one of them
GIB, MIB = 2**30, 2**20
STEP_SECONDS = 60  # a proposed time is a multiple


@dataclass
class LauncherUse:
    """What the jobs of a launcher used."""

    name: str
    jobs: int = 0
    seconds: float = 0  # of the longest job
    peak: int = 0  # bytes of the largest job
    exceeded: int = 0  # bytes that were requested for a job that ran out of memory
    is_partial: bool = False  # whether other processes of the runs used memory that was not measured
    options: Mapping[str, str | bool] = field(default_factory=dict)  # in its #SBATCH lines
    run: Run | None = None  # as the answers record it

    @property
    def asked_memory(self) -> str:
        return " ".join(
            f"{self.options[name]}{name.removeprefix('mem').replace('-', ' ')}"
            for name in MEMORY
            if name in self.options
        )

    @property
    def cells(self) -> list[str]:
        """Return its row."""
        peak = readable_size(self.peak) if self.peak else ""
        asked = str(self.options.get("time", ""))
        memory = "out of memory" if self.exceeded else f"> {peak}" if self.is_partial and peak else peak
        return [self.name, str(self.jobs), self.asked_memory, memory, asked, readable_seconds(self.seconds)]


def show_usage(path: str) -> int:
    """Print a row per launcher, and the commands that request twice its peak memory and 1.3 times its longest time."""
    experiment = Experiment.open(path)
    queue = Queue.read()
    [history] = read_histories([experiment], queue, KEEP)
    runs, answers = read_answers(experiment)
    uses = measure(history, queue, runs)
    if not uses:
        print(f"{experiment.name}: no job has ended")
        return 0
    titles = ("launcher", "jobs", "memory", "used", "time", "longest")
    show_fitted(titles, [use.cells for use in uses], (), Fit(names=("launcher",)))
    if answers:
        commands = [command for use in uses if (command := proposal(experiment, answers, use))]
        print("".join(f"\n{command}" for command in commands))
    return 0


def read_answers(experiment: Experiment) -> tuple[list[Run], Answers | None]:
    """Return the runs that the answers record. Without its template, print why no command is proposed."""
    try:
        with Templates.temporary() as templates:
            answers = experiment.answers()
            return templates.recorded(answers).parse_runs(answers.values, answers.values["runs"]), answers
    except Problem as problem:
        print(f"no command is proposed: {problem}", file=sys.stderr)
        return [], None


# Measurements ---------------------------------------------------------------------------------------------------------


def measure(history: History, queue: Queue, runs: Sequence[Run]) -> list[LauncherUse]:
    """Return what the ended jobs of each launcher used, by their records and by sacct."""
    jobs: dict[Key, list[RunInfo]] = {}  # the runs of a pack share a job
    for run in history.runs:
        if run.entry and not run.is_live:
            jobs.setdefault(run.key, []).append(run)
    accounted = read_used({key for members in jobs.values() for key in keys_of(members)}, queue.cluster)
    launchers = {run.config: run.launcher for run in runs}
    by_name = {run.launcher: run for run in runs}
    uses: dict[str, LauncherUse] = {}
    for members in jobs.values():
        receipt = history.receipts.get(members[0].submission)
        name = receipt.text("launcher") if receipt else launchers.get(members[0].config, "")
        if name:
            use = uses.setdefault(name, LauncherUse(name, run=by_name.get(name)))
            add_job(use, members, [accounted[each] for each in keys_of(members) if each in accounted])
    for use in uses.values():
        path = history.experiment.path / f"scripts/{use.name}.slurm"
        use.options = Launcher.read(path).options if path.is_file() else {}
    return [uses[name] for name in sorted(uses)]


def keys_of(members: Sequence[RunInfo]) -> set[Key]:
    """Return the jobs of runs, with those of their earlier attempts."""
    return {
        Key(run.cluster, run.entry if job == run.job else job) for run in members for job in (run.job, *run.jobs) if job
    }


def add_job(use: LauncherUse, members: Sequence[RunInfo], accounted: Sequence[Used]) -> None:
    """Add a job to what its launcher used. `accounted` is what sacct has of it and of earlier attempts."""
    attempts = [attempt for run in members for attempt in attempts_of(run)]
    seconds = [seconds_of(attempt) for attempt in attempts]
    peaks = [[memory_of(attempt) for attempt in attempts_of(run)] for run in members]
    in_cgroup = max((mapping_of(attempt.get("usage")).get("job_bytes") or 0 for attempt in attempts), default=0)
    recorded = sum(max(each, default=0) for each in peaks)
    use.jobs += 1
    use.seconds = max(use.seconds, *seconds, *(each.seconds for each in accounted))
    use.peak = max(use.peak, in_cgroup, recorded, *(each.peak for each in accounted))
    use.exceeded = max(use.exceeded, *(each.exceeded for each in accounted), 0)
    has_ranks = use.run is not None and use.run.token.partition("_")[0].endswith(("-ddp", "-srun"))
    use.is_partial = use.is_partial or (has_ranks and not in_cgroup and not any(each.peak for each in accounted))


def attempts_of(run: RunInfo) -> list[dict[str, Any]]:
    found = run.record.get("attempts")
    return [mapping_of(each) for each in found] if isinstance(found, list) else []


def seconds_of(attempt: Mapping[str, Any]) -> float:
    """Return the wall time of an attempt: to its end, or to the last time that its record was written."""
    try:
        ends = [datetime.fromisoformat(text_of(attempt.get(name))) for name in ("started", "finished")]
        return (ends[1] - ends[0]).total_seconds()
    except (ValueError, TypeError):
        return float(mapping_of(attempt.get("usage")).get("seconds") or 0)


def memory_of(attempt: Mapping[str, Any]) -> int:
    """Return the peak memory of an attempt's process and its largest child."""
    usage = mapping_of(attempt.get("usage"))
    return sum(int(usage.get(name) or 0) for name in ("process_bytes", "child_bytes"))


# Proposals ------------------------------------------------------------------------------------------------------------


def proposal(experiment: Experiment, answers: Answers, use: LauncherUse) -> str:
    """Return the command that requests what the jobs of a launcher need; empty if there is nothing to request."""
    if not use.run:
        return f"# {use.name}.slurm is not a launcher of the template: edit its #SBATCH lines"
    words = [*proposed_memory(experiment, answers, use), *proposed_time(use)]
    command = ["experiments", "set-run", experiment.name, use.run.script, use.run.token, *words]
    return shlex.join(command) if words else ""


def proposed_memory(experiment: Experiment, answers: Answers, use: LauncherUse) -> Iterator[str]:
    """Yield the words that request twice the peak, or twice what was too little, in place of what is requested now."""
    if not use.run or not (use.exceeded or (use.peak and not use.is_partial)):
        return
    yield f"mem={slurm_memory(2 * max(use.peak, use.exceeded))}"
    request = find_request(answers.values["runs"], use.run.script, use.run.token, experiment)
    yield from (f"{name}=" for name in MEMORY[1:] if name in request)


def proposed_time(use: LauncherUse) -> Iterator[str]:
    if use.seconds:
        yield f"time={slurm_time(1.3 * use.seconds)}"


def slurm_memory(size: int) -> str:
    """Return a size as sbatch takes it, rounded up to whole gigabytes, or to 100 MB below one."""
    return f"{math.ceil(size / GIB)}g" if size > 1000 * MIB else f"{100 * math.ceil(size / MIB / 100)}m"


def slurm_time(seconds: float) -> str:
    """Return a duration as sbatch takes it, rounded up to whole minutes."""
    minutes = math.ceil(seconds / STEP_SECONDS)
    return f"{minutes // 1440}-{minutes % 1440 // 60:02}:{minutes % 60:02}:00"
