"""Collect the runs of experiments from their records, from the receipts of submit.sh and from Slurm."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dotenv import load_dotenv

from experiments.errors import Problem
from experiments.experiment import Experiment
from experiments.receipts import Receipt, read_receipts
from experiments.records import (
    RECORD,
    RunInfo,
    fill_run,
    find_records,
    find_records_of,
    needs_end,
    read_run,
    resolve_states,
)
from experiments.slurm import Ended, Job, Key, Queue, read_ends


@dataclass
class History:
    """The runs of an experiment, and its jobs without a record."""

    experiment: Experiment
    folder: Path  # of all runs
    runs: list[RunInfo]
    receipts: dict[str, Receipt]  # by the name of their folder

    def find_run(self, name: str) -> RunInfo:
        """Return the newest run of a name: RUN, CONFIG/RUN, a job, or the beginning of one. Raises Problem."""
        names = [
            (run, (run.name, f"{run.config}/{run.name}", run.job or "", run.entry, *run.jobs)) for run in self.runs
        ]
        found = [run for run, each in names if name in each]
        found = found or [run for run, each in names if any(text.startswith(name) for text in each)]
        if not found:
            hint = f"`experiments list {self.experiment.name}` prints its runs."
            raise Problem(f'unknown run "{name}" of {self.experiment.name}', hint)
        return found[-1]


def runs_folder(experiment: Experiment) -> Path:
    """Return the folder of its runs, in the DATA_ROOT that its scripts find."""
    env = find_env(experiment)
    data = load_env(env).get("DATA_ROOT")
    if not data:
        raise Problem(f"DATA_ROOT is not set in {env}", "Set it: the runs' folders are below it.")
    return Path(data, "experiments", experiment.path.name, "runs")


def find_env(experiment: Experiment) -> Path:
    """Return the path of the .env that scripts load, by the rule of `find_env` in runtime/environment.py."""
    scripts = (experiment.path / "scripts").resolve()
    files = [folder / ".env" for folder in (scripts, *scripts.parents)]
    return next((file for file in files if file.is_file()), scripts.parents[2] / ".env")


def load_env(env: Path) -> dict[str, str]:
    """Return the environment of a script that has loaded `env`.

    `dotenv_values` would not do: inside ${} the file's values win there, and the environment's in `load_dotenv`.
    """
    before = dict(os.environ)
    try:
        load_dotenv(env)
        return dict(os.environ)
    finally:
        os.environ.clear()
        os.environ.update(before)


def read_histories(experiments: Sequence[Experiment], queue: Queue, keep: Collection[str] = ()) -> list[History]:
    """Return the runs of experiments. sacct is asked once for all. `keep` names the facts of records to keep."""
    histories = [read_history(experiment, keep) for experiment in experiments]
    resolve_histories(histories, queue)
    return histories


def read_campaign(experiment: Experiment, name: str, queue: Queue, keep: Collection[str] = ()) -> History:
    """Return the runs of a campaign: CONFIG, or CONFIG.NAME."""
    folder = runs_folder(experiment)
    runs = [read_run(record, folder, keep) for record in find_records_of(folder / name)]
    receipts = {each.folder.name: each for each in read_receipts(experiment.path) if each.campaign == name}
    history = History(experiment, folder, runs, receipts)
    resolve_histories([history], queue)
    return history


def read_history(experiment: Experiment, keep: Collection[str]) -> History:
    folder = runs_folder(experiment)
    runs = [read_run(record, folder, keep) for record in find_records(folder)]
    receipts = {receipt.folder.name: receipt for receipt in read_receipts(experiment.path)}
    runs += runs_elsewhere(runs, receipts.values(), keep)
    return History(experiment, folder, runs, receipts)


def resolve_histories(histories: Collection[History], queue: Queue) -> None:
    """Complete runs by what Slurm knows: their states, and the jobs that have no record."""
    wanted = {run.key for history in histories for run in history.runs if needs_end(run, queue)}
    for history in histories:
        wanted |= {Key("", receipt.job) for receipt in unexplained(history)}
    ends = read_ends(wanted, queue.cluster) if wanted else {}
    for history in histories:
        history.runs += find_unrecorded(history, queue, ends)
        resolve_states(history.runs, queue, ends)
        history.runs.sort(key=lambda run: (run.started or run.submitted or "9", run.config, run.name, run.entry))


def runs_elsewhere(runs: Sequence[RunInfo], receipts: Collection[Receipt], keep: Collection[str]) -> Iterator[RunInfo]:
    """Yield the submitted runs with a folder elsewhere, set by an override."""
    known = {run.folder for run in runs}
    for receipt in receipts:
        folder = receipt.run_folder
        if folder and str(folder) not in known and (folder / RECORD).is_file():
            run = RunInfo(receipt.campaign, folder.name, "unreadable", folder=str(folder))
            if fill_run(run, keep).submission == receipt.folder.name:
                yield run


# Jobs without a record ------------------------------------------------------------------------------------------------


def unexplained(history: History) -> Iterator[Receipt]:
    """Yield the receipts of jobs that may lack a record. Of an array, one record says nothing about other tasks."""
    entries = known_jobs(history.runs)
    yield from (receipt for receipt in history.receipts.values() if receipt.job not in entries)


def known_jobs(runs: Collection[RunInfo]) -> set[str]:
    """Return the jobs that have records. A run may have several: legs, or a point that a later job took over."""
    return {job for run in runs for job in (run.entry, run.job, *run.jobs) if job}


def find_unrecorded(history: History, queue: Queue, ends: Mapping[Key, Ended]) -> Iterator[RunInfo]:
    """Yield the jobs that have no record: they wait, they died before `Run` began, or their script has no `Run`."""
    known = known_jobs(history.runs)
    numbers = {entry.partition("_")[0] for entry in known}
    is_ours = own_jobs(history.experiment)
    jobs = group_by_number(filter(is_ours, [*ends_here(ends), *(queue.jobs or {}).values()]))
    for receipt in history.receipts.values():
        found = jobs.pop(receipt.job, {})
        for leg in receipt.later_legs:  # they continue the same run
            jobs.pop(leg, None)
        for job in found.values():
            if job.id not in known and not found_nothing(receipt, job):
                yield unrecorded_run(receipt, job.id)
        if not found and receipt.job not in numbers:
            yield unrecorded_run(receipt, receipt.job)
    for job in (job for group in jobs.values() for job in group.values()):
        config = config_of_name(history.experiment, job)
        if config and job.id not in known and not isinstance(job, Ended):
            yield RunInfo(config, "", "", job.id, entry=job.id)


def found_nothing(receipt: Receipt, job: Job) -> bool:
    """Return whether a task of a campaign ended at once, because another job computes its point or has computed it."""
    return bool(receipt.text("points")) and isinstance(job, Ended) and job.state == "COMPLETED"


def ends_here(ends: Mapping[Key, Ended]) -> Iterator[Ended]:
    yield from (ended for key, ended in ends.items() if not key.cluster)


def own_jobs(experiment: Experiment) -> Callable[[Job], bool]:
    """Return a function that tests whether a job runs in this repository. Its number alone may be another cluster's."""
    root = str(experiment.repository.root)
    return lambda job: job.folder == root or job.folder.startswith(f"{root}/")


def group_by_number(jobs: Iterator[Job]) -> dict[str, dict[str, Job]]:
    """Return jobs by the number of the job or array, and then by id. The last of equal ids wins."""
    groups: dict[str, dict[str, Job]] = {}
    for job in jobs:
        groups.setdefault(job.number, {})[job.id] = job
    return groups


def unrecorded_run(receipt: Receipt, job: str) -> RunInfo:
    return RunInfo(
        receipt.campaign,
        "",
        "",
        job,
        entry=job,
        commit=receipt.commit,
        dirty=receipt.is_dirty,
        overrides=receipt.words,
        submission=receipt.folder.name,
        submitted=receipt.submitted,
    )


def config_of_name(experiment: Experiment, job: Job) -> str:
    """Return the configuration of a job without a receipt, from its name. Empty if it is not of this experiment."""
    config = job.name.removeprefix(f"{experiment.prefix}-")
    is_query = config.startswith("query_") and (experiment.path / "scripts/query.py").exists()
    if config == job.name:
        return ""
    return config if is_query or (experiment.path / f"conf/{config}.yaml").exists() else ""
