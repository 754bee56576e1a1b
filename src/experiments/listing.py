"""`experiments list`: list experiments, their runs and their states. Nothing is changed."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from experiments.errors import Problem, one_line
from experiments.experiment import Experiment, Templates, find_all
from experiments.figure_metadata import read_metadata
from experiments.records import RunInfo, figures_of, find_records, load_record, read_run, text_of
from experiments.screen import show_cells
from experiments.slurm import Job, read_queue

FACTS = ("Script", "Configuration", "Overrides", "Commit", "Job", "Run", "Trial")  # of a figure's metadata
STATES = ("queued", "running", "finished", "pruned", "failed", "terminated", "lost")


@dataclass
class ExperimentInfo:
    """An experiment with its runs."""

    name: str
    version: str = ""
    newest: str = ""  # the newest release, if the experiment does not have it
    problem: str = ""  # why its versions are not known
    runs: list[RunInfo] = field(default_factory=list)
    runs_bytes: int = 0
    code_bytes: int = 0

    def counts(self) -> dict[str, int]:
        """Return the number of runs in each state."""
        found: dict[str, int] = {}
        for run in self.runs:
            found[run.state] = found.get(run.state, 0) + 1
        return found


def list_experiments(path: str | None, as_json: bool, figure: str | None) -> int:
    """Print experiments, or the runs of one, or the run that made a figure."""
    if figure:
        return show_figure(path, figure, as_json)
    experiments = find(path)
    jobs = read_queue()
    with Templates.temporary() as templates:
        listed = [read_experiment(experiment, jobs, templates) for experiment in experiments]
    if as_json:
        print(json.dumps([asdict(each) | {"counts": each.counts()} for each in listed], indent=2))
    elif path:
        show_runs(listed[0])
    else:
        show_experiments(listed)
    return 0


def find(path: str | None) -> list[Experiment]:
    return [Experiment.open(path)] if path else find_all()


def runs_folder(experiment: Experiment) -> Path:
    """Return the folder of its runs. DATA_ROOT is found as the runs find it: in the environment, else in .env."""
    scripts = experiment.path / "scripts"
    files = [folder / ".env" for folder in (scripts, *scripts.parents)]
    env = next((file for file in files if file.is_file()), experiment.repository.root / ".env")
    data = (dict(dotenv_values(env)) | dict(os.environ)).get("DATA_ROOT")
    if not data:
        raise Problem(f"DATA_ROOT is not set in {env}", "Set it: the runs' folders are below it.")
    return Path(data, "experiments", experiment.path.name, "runs")


def read_experiment(experiment: Experiment, jobs: Mapping[str, Job] | None, templates: Templates) -> ExperimentInfo:
    """Return an experiment with its runs, also if its answers or its template have a problem."""
    listed = ExperimentInfo(experiment.name)
    try:
        answers = experiment.answers()
        listed.version = answers.version
        template = templates.get(answers.source)
        listed.newest = template.newer_than(answers.version, template.find_recorded(answers.version, answers.commit))
    except Problem as problem:
        listed.problem = str(problem)
    folder = runs_folder(experiment)
    listed.runs = [read_run(record, folder, jobs) for record in find_records(folder)]
    listed.runs += waiting(experiment, listed.runs, jobs or {})
    listed.runs.sort(key=lambda run: (run.started or "9", run.config, run.name))
    listed.runs_bytes = size_of(folder)
    listed.code_bytes = size_of(experiment.path / "slurm/code")
    return listed


def waiting(experiment: Experiment, runs: list[RunInfo], jobs: Mapping[str, Job]) -> list[RunInfo]:
    """Return the jobs of this experiment, by their name and folder, that have no record yet."""
    known = {run.entry for run in runs}
    number = experiment.path.name.partition("-")[0]
    root = str(experiment.repository.root)
    found = []
    for job in jobs.values():
        is_ours = job.folder == root or job.folder.startswith(f"{root}/")
        if is_ours and job.name.startswith(f"{number}-") and job.id not in known:
            config = job.name.removeprefix(f"{number}-")
            if (experiment.path / f"conf/{config}.yaml").exists() or is_query_job(experiment, config):
                found.append(RunInfo(config, "", job.label, job.id, job.id))
    return found


def is_query_job(experiment: Experiment, config: str) -> bool:
    return config.startswith("query_") and (experiment.path / "scripts/query.py").exists()


def size_of(folder: str | Path) -> int:
    """Return the bytes of the files below a folder. Symlinks are not followed, except the folder itself."""
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
    """Return a number of bytes in a readable unit: 0 B, 12 kB, 3.4 GB."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.1f} {unit}" if size < 10 and unit != "B" else f"{size:.0f} {unit}"
        size /= 1000
    return ""


def show_experiments(listed: list[ExperimentInfo]) -> None:
    """Print a row for each experiment."""
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


def show_runs(listed: ExperimentInfo) -> None:
    """Print a row for each run of an experiment."""
    version = f"{listed.version}, but the newest release is {listed.newest}" if listed.newest else listed.version
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
    """Print which run made a figure, by its metadata, else by the records of the experiment at `path` or of all."""
    file = Path(figure).resolve()
    if not file.is_file():
        raise Problem(f"{figure} is not a file")
    facts = read_facts(file) or find_in_records(find(path), file)
    if not facts:
        raise Problem(f"{figure} has no metadata of a run, and no run's record names it")
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        show_cells(("figure", one_line(str(figure))), list(facts.items()))
    return 0


def read_facts(figure: Path) -> dict[str, str]:
    """Return the metadata of a figure about its run, in the order of FACTS; nothing if it names no run."""
    found = read_metadata(figure)
    return {name: found[name] for name in FACTS if name in found} if "Run" in found else {}


def find_in_records(experiments: list[Experiment], figure: Path) -> dict[str, str]:
    """Return the facts of the run whose record lists a figure."""
    names = {"Script": "script", "Configuration": "config", "Commit": "commit", "Job": "job"}
    for experiment in experiments:
        for record in find_records(runs_folder(experiment)):
            found = load_record(record)
            if str(figure) in figures_of(found):
                facts = {title: text_of(found.get(name)) for title, name in names.items()}
                return {title: text for title, text in facts.items() if text} | {"Run": str(record.parent)}
    return {}
