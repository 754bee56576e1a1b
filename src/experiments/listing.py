"""`experiments list`: which experiments there are, what ran, and in which state it is. Looking changes nothing."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from experiments.errors import Problem, one_line
from experiments.experiment import Experiment, Templates, find_experiments
from experiments.figures import read_facts
from experiments.git import Repository
from experiments.screen import show_cells

SQUEUE_SECONDS = 20
SEPARATOR = "\x1f"  # which no name of a job has
QUEUED = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
STATES = ("queued", "running", "finished", "failed", "terminated", "lost")
LARGEST_RECORD = 10_000_000  # bytes


@dataclass(frozen=True)
class Job:
    """A job, or a task of an array, as squeue has it."""

    id: str  # 686 or 687_3
    state: str  # Slurm's own, like PENDING
    name: str
    folder: str

    @property
    def said(self) -> str:
        """Queued, running, or Slurm's own word for what is neither, like configuring or completing."""
        return "queued" if self.state in QUEUED else self.state.lower()


@dataclass
class Attempted:
    """A run that ran, or that waits to."""

    config: str
    name: str
    state: str
    job: str | None = None
    started: str = ""
    commit: str = ""
    dirty: bool = False
    error: str | None = None
    figure: str = ""  # the newest
    folder: str = ""


@dataclass
class Listed:
    """An experiment with its runs."""

    name: str
    version: str = ""
    newest: str = ""  # the newest version of its template, if that is another
    problem: str = ""  # why that is not known
    runs: list[Attempted] = field(default_factory=list)
    runs_bytes: int = 0
    code_bytes: int = 0

    def counts(self) -> dict[str, int]:
        """How many runs are in each state."""
        found: dict[str, int] = {}
        for run in self.runs:
            found[run.state] = found.get(run.state, 0) + 1
        return found


def list_experiments(path: str | None, as_json: bool, figure: str | None) -> int:
    """Print experiments, or the runs of one, or the run that made a figure."""
    experiments = find_experiments([path] if path else [])
    data = find_data(experiments[0].repository)
    if figure:
        return show_figure(experiments, data, figure, as_json)
    jobs = read_queue()
    with Templates.kept() as templates:
        listed = [look_at(experiment, data, jobs, templates) for experiment in experiments]
    if as_json:
        print(json.dumps([asdict(each) | {"counts": each.counts()} for each in listed], indent=2))
    elif path:
        show_runs(listed[0])
    else:
        show_experiments(listed)
    return 0


def find_data(repository: Repository) -> Path:
    """DATA_ROOT, of the environment or of the repository's .env, as the runs read it."""
    values = dict(dotenv_values(repository.root / ".env")) | dict(os.environ)
    folder = values.get("DATA_ROOT")
    if not folder:
        raise Problem(f"DATA_ROOT is not set in {repository.root}/.env", "set it: the runs' folders are below it")
    return Path(folder)


def look_at(experiment: Experiment, data: Path, jobs: Mapping[str, Job] | None, templates: Templates) -> Listed:
    """One experiment. What is wrong with its answers or its template is said, and the rest is listed."""
    listed = Listed(experiment.name)
    try:
        answers = experiment.answers()
        listed.version = answers.version
        template = templates.get(answers.source)
        listed.newest = template.newer_than(answers.version, template.find_recorded(answers.version, answers.commit))
    except Problem as problem:
        listed.problem = str(problem)
    folder = data / "experiments" / experiment.path.name / "runs"
    listed.runs = [read_run(record, jobs) for record in find_records(folder)]
    listed.runs += waiting(experiment, listed.runs, jobs or {})
    listed.runs.sort(key=lambda run: (run.started or "9", run.config, run.name))
    listed.runs_bytes = size_of(folder)
    listed.code_bytes = size_of(experiment.path / "slurm/code")
    return listed


def find_records(folder: Path) -> Iterator[Path]:
    """provenance.json of each run."""
    for config in folders_in(folder):
        for run in folders_in(config):
            record = Path(run, "provenance.json")
            if record.is_file():
                yield record


def folders_in(folder: str | Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir())
    return []


def read_run(record: Path, jobs: Mapping[str, Job] | None) -> Attempted:
    """A run by its record, which anybody may have broken."""
    run = Attempted(record.parent.parent.name, record.parent.name, "unreadable", folder=str(record.parent))
    found = None
    with suppress(OSError, ValueError, RecursionError):
        if record.stat().st_size < LARGEST_RECORD:
            found = json.loads(record.read_bytes())
    if not isinstance(found, dict):
        return run
    run.job = text_of(found.get("job")) or None
    run.started = text_of(found.get("started"))
    run.commit = text_of(found.get("commit"))
    run.dirty = found.get("dirty") is True
    run.error = text_of(found.get("error")) or None
    figures = found.get("figures")
    run.figure = text_of(figures[-1]) if isinstance(figures, list) and figures else ""
    run.state = state_of(text_of(found.get("status")), run.job, found, jobs)
    return run


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def state_of(status: str, job: str | None, record: Mapping[str, Any], jobs: Mapping[str, Job] | None) -> str:
    """A run's state: of Slurm where its job is in the queue, else of its record.

    A job that is in no queue of this cluster is lost; without squeue, and by hand on another host, nobody knows.
    """
    if job and jobs is not None and job in jobs:
        return jobs[job].said if status in ("running", "") or jobs[job].state in QUEUED else status
    if status == "running" and job and jobs is not None and is_here(record):
        return "lost"
    return status or "unreadable"


def is_here(record: Mapping[str, Any]) -> bool:
    """Whether a job was one of this cluster: its record names none, or ours."""
    slurm = record.get("slurm")
    cluster = slurm.get("SLURM_CLUSTER_NAME") if isinstance(slurm, dict) else None
    return not cluster or cluster == own_cluster()


@cache
def own_cluster() -> str:
    """The name of the cluster that squeue asks; nothing where there is none."""
    said = ask_slurm("scontrol", "show", "config") or ""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", said, re.MULTILINE)
    return found[1] if found else ""


def waiting(experiment: Experiment, runs: list[Attempted], jobs: Mapping[str, Job]) -> list[Attempted]:
    """Jobs of this experiment's folder, or of code pinned below it, that have no record yet."""
    known = {run.job for run in runs}
    number = experiment.path.name.partition("-")[0]
    root = str(experiment.repository.root)
    found = []
    for job in jobs.values():
        is_ours = job.folder == root or job.folder.startswith(f"{root}/")
        if is_ours and job.name.startswith(f"{number}-") and job.id not in known:
            config = job.name.removeprefix(f"{number}-")
            if (experiment.path / f"conf/{config}.yaml").exists() or is_query(experiment, config):
                found.append(Attempted(config, "", job.said, job.id))
    return found


def is_query(experiment: Experiment, config: str) -> bool:
    return config.startswith("query_") and (experiment.path / "scripts/query.py").exists()


def read_queue() -> dict[str, Job] | None:
    """The jobs of everybody, each task of an array alone, by their ids; None where no Slurm can be asked.

    `--array` writes tasks alone, and not 687_[3-7%4]. Everybody's, since a run may be a colleague's, and since there
    are accounts without a name.
    """
    fields = SEPARATOR.join(("%i", "%T", "%j", "%Z"))
    said = ask_slurm("squeue", "--noheader", "--array", f"--format={fields}")
    if said is None:
        return None
    jobs = {}
    for line in said.splitlines():
        parts = line.strip().split(SEPARATOR)
        if len(parts) == 4:
            jobs[parts[0]] = Job(*parts)
    return jobs


def ask_slurm(*command: str) -> str | None:
    """What a command of Slurm prints; None where it is not there, fails or hangs."""
    if not shutil.which(command[0]):
        return None
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SQUEUE_SECONDS, env=clean, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def size_of(folder: str | Path) -> int:
    """The bytes of the files below a folder; links are not followed, but for the folder itself."""
    total, folders = 0, [str(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def readable_size(number: int) -> str:
    """Bytes for people: 0, 12 kB, 3.4 GB."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.1f} {unit}" if size < 10 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return ""


def show_experiments(listed: list[Listed]) -> None:
    """A row for each experiment."""
    rows, styles = [], []
    for each in listed:
        version = f"{each.version}, newest {each.newest}" if each.newest else each.version
        counts = each.counts()
        order = [*STATES, *sorted(counts.keys() - set(STATES))]
        states = ", ".join(f"{counts[state]} {state}" for state in order if state in counts)
        newest = max((run.started for run in each.runs), default="")[:16].replace("T", " ")
        sizes = (readable_size(each.runs_bytes), readable_size(each.code_bytes))
        rows.append((each.name, version or each.problem, states or "no runs", newest, *sizes))
        styles.append("yellow" if counts.keys() & {"failed", "lost", "unreadable"} else "")
    show_cells(("experiment", "version", "runs", "newest", "runs' folders", "slurm/code"), rows, styles)


def show_runs(listed: Listed) -> None:
    """A row for each run of an experiment."""
    version = f"{listed.version}, and the newest release is {listed.newest}" if listed.newest else listed.version
    print(f"{listed.name}: {version or one_line(listed.problem)}")
    print(f"runs' folders {readable_size(listed.runs_bytes)}, slurm/code {readable_size(listed.code_bytes)}")
    rows, styles = [], []
    for run in listed.runs:
        state = f"{run.state}: {run.error}" if run.error else run.state
        commit = run.commit[:10] + ("+" if run.dirty else "")  # with uncommitted changes
        started = run.started[:19].replace("T", " ")
        rows.append((run.config, run.name or "-", run.job or "-", started, commit, run.figure, state))
        styles.append("yellow" if run.state in ("failed", "lost", "unreadable") else "")
    if rows:
        show_cells(("configuration", "run", "job", "started", "commit", "newest figure", "state"), rows, styles)
    else:
        print("no runs")


def show_figure(experiments: list[Experiment], data: Path, figure: str, as_json: bool) -> int:
    """Print which run made a figure: by the figure's own metadata, else by the records."""
    path = Path(figure).resolve()
    if not path.is_file():
        raise Problem(f"{figure} is no file")
    facts = read_facts(path) or find_in_records(experiments, data, path)
    if not facts:
        raise Problem(f"{figure} does not say which run made it, and no run's record names it")
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        show_cells(("figure", one_line(str(figure))), list(facts.items()))
    return 0


def find_in_records(experiments: list[Experiment], data: Path, figure: Path) -> dict[str, str]:
    """The facts of the run whose record lists a figure."""
    for experiment in experiments:
        for record in find_records(data / "experiments" / experiment.path.name / "runs"):
            found = None
            with suppress(OSError, ValueError, RecursionError):
                found = json.loads(record.read_bytes())
            figures = found.get("figures") if isinstance(found, dict) else None
            if isinstance(found, dict) and isinstance(figures, list) and str(figure) in map(str, figures):
                names = {"Script": "script", "Configuration": "config", "Commit": "commit", "Job": "job"}
                facts = {title: text_of(found.get(name)) for title, name in names.items()}
                return {title: text for title, text in facts.items() if text} | {"Run": str(record.parent)}
    return {}
