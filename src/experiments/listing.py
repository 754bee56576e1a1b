"""`experiments list`: which experiments there are, what ran, and in which state it is. Looking changes nothing."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from experiments.errors import Problem, one_line
from experiments.experiment import Experiment, Templates, find_experiments
from experiments.figures import read_facts
from experiments.git import Repository
from experiments.records import Attempted, figures_of, find_records, load, read_run, text_of
from experiments.screen import show_cells
from experiments.slurm import Job, read_queue

STATES = ("queued", "running", "finished", "failed", "terminated", "lost")


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
    if figure:
        return show_figure(path, figure, as_json)
    experiments = find_experiments([path] if path else [])
    data = find_data(experiments[0].repository)
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


def runs_folder(data: Path, experiment: Experiment) -> Path:
    return data / "experiments" / experiment.path.name / "runs"


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
    folder = runs_folder(data, experiment)
    listed.runs = [read_run(record, folder, jobs) for record in find_records(folder)]
    listed.runs += waiting(experiment, listed.runs, jobs or {})
    listed.runs.sort(key=lambda run: (run.started or "9", run.config, run.name))
    listed.runs_bytes = size_of(folder)
    listed.code_bytes = size_of(experiment.path / "slurm/code")
    return listed


def waiting(experiment: Experiment, runs: list[Attempted], jobs: Mapping[str, Job]) -> list[Attempted]:
    """Jobs of this experiment's folder, or of code pinned below it, that have no record yet."""
    known = {run.entry for run in runs}
    number = experiment.path.name.partition("-")[0]
    root = str(experiment.repository.root)
    found = []
    for job in jobs.values():
        is_ours = job.folder == root or job.folder.startswith(f"{root}/")
        if is_ours and job.name.startswith(f"{number}-") and job.id not in known:
            config = job.name.removeprefix(f"{number}-")
            if (experiment.path / f"conf/{config}.yaml").exists() or is_query(experiment, config):
                found.append(Attempted(config, "", job.said, job.id, job.id))
    return found


def is_query(experiment: Experiment, config: str) -> bool:
    return config.startswith("query_") and (experiment.path / "scripts/query.py").exists()


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


def show_figure(path: str | None, figure: str, as_json: bool) -> int:
    """Print which run made a figure: by the figure's own metadata, else by the records of an experiment, or of all."""
    file = Path(figure).resolve()
    if not file.is_file():
        raise Problem(f"{figure} is no file")
    facts = read_facts(file) or find_in_records(find_experiments([path] if path else []), file)
    if not facts:
        raise Problem(f"{figure} does not say which run made it, and no run's record names it")
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        show_cells(("figure", one_line(str(figure))), list(facts.items()))
    return 0


def find_in_records(experiments: list[Experiment], figure: Path) -> dict[str, str]:
    """The facts of the run whose record lists a figure."""
    data = find_data(experiments[0].repository)
    names = {"Script": "script", "Configuration": "config", "Commit": "commit", "Job": "job"}
    for experiment in experiments:
        for record in find_records(runs_folder(data, experiment)):
            found = load(record)
            if str(figure) in figures_of(found):
                facts = {title: text_of(found.get(name)) for title, name in names.items()}
                return {title: text for title, text in facts.items() if text} | {"Run": str(record.parent)}
    return {}
