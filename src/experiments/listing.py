"""`experiments list`: list experiments, their runs and their states. Nothing is changed."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

from experiments.errors import Problem, one_line
from experiments.experiment import Experiment, Templates, find_all, find_configurations
from experiments.figure_metadata import PROVENANCE, read_metadata
from experiments.git import GitError, Repository
from experiments.history import History, read_histories, runs_folder
from experiments.points import Campaign, make_campaign, read_grid, unknown_configuration
from experiments.records import (
    FAULTS,
    VALIDATED,
    RunInfo,
    count_states,
    describe_counts,
    figures_of,
    find_records,
    load_record,
    readable_seconds,
    record_text,
    refuse_unknown_states,
    text_of,
)
from experiments.screen import show_cells, show_fitted
from experiments.slurm import Queue
from experiments.widths import Fit

RUN_FACTS = [each.name for each in fields(RunInfo) if each.name not in ("record", "has_record")]
SWEEP = re.compile(r"_(optuna|wandb)(_|$)")  # in the name of a sweep's configuration


@dataclass(frozen=True)
class Filter:
    """Which runs to list."""

    states: Sequence[str] = ()
    configs: Sequence[str] = ()
    last: int | None = None
    each_point: bool = False  # also points and trials, one row each

    @property
    def chooses_runs(self) -> bool:
        """Whether single runs were requested. Campaigns and sweeps are then listed run by run."""
        return self.each_point or bool(self.states) or self.last is not None

    def apply(self, runs: Iterable[RunInfo]) -> list[RunInfo]:
        """Return the runs that pass, the oldest first."""
        passed = [run for run in runs if self.has_config(run.config) and (not self.states or run.state in self.states)]
        return passed[-self.last :] if self.last else passed

    def has_config(self, name: str) -> bool:
        return not self.configs or name in self.configs


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
        return count_states(run.state for run in self.runs)

    def as_dict(self) -> dict[str, object]:
        """Return all fields except its runs, for JSON."""
        own = {name: value for name, value in vars(self).items() if name != "runs"}
        return own | {"counts": self.counts()}


@dataclass(frozen=True)
class Group:
    """Runs that are listed as one row: a campaign or a sweep."""

    name: str
    size: str  # like 96 points
    summary: str
    is_faulty: bool


def list_experiments(path: str | None, chosen: Filter, as_json: bool) -> int:
    """Print experiments, or the runs of one."""
    experiments = [Experiment.open(path)] if path else find_all()
    histories = read_histories(experiments, Queue.read(), VALIDATED if as_json else ())
    with Templates.temporary() as templates:
        listed = [read_experiment(history, templates) for history in histories]
    if path:
        campaigns = list(read_campaigns(histories[0], chosen))
        refuse_unknown_config(histories[0], chosen)
        refuse_unknown_states(chosen.states, {run.state for run in histories[0].runs})
    if as_json:
        print_json(listed, chosen, campaigns if path else None)
    elif path:
        show_experiment(listed[0], campaigns, chosen)
    else:
        show_experiments(listed)
    return 0


def read_experiment(history: History, templates: Templates) -> ExperimentInfo:
    """Return an experiment with its runs, even if its answers or its template have a problem."""
    experiment = history.experiment
    listed = ExperimentInfo(experiment.name, runs=history.runs)
    try:
        answers = experiment.answers()
        listed.version = answers.version
        template = templates.get(answers.source)
        listed.newest = template.newer_than(answers.version, template.find_recorded(answers.version, answers.commit))
    except Problem as problem:
        listed.problem = str(problem)
    listed.runs_bytes = size_of(history.folder)
    listed.code_bytes = size_of(experiment.path / "slurm/code")
    return listed


def read_campaigns(history: History, chosen: Filter) -> Iterator[Campaign]:
    """Yield the campaigns: each configuration with a grid, and each folder CONFIG.NAME of its runs."""
    folder = history.experiment.path
    names = {run.config for run in history.runs}
    for config in find_configurations(folder):
        try:
            grid = read_grid(folder, config)
        except Problem as problem:
            if chosen.has_config(config):
                yield Campaign(config, [], [run for run in history.runs if run.config == config], problem=str(problem))
            continue
        for name in sorted({config, *(name for name in names if name.startswith(f"{config}."))}):
            if grid and chosen.has_config(name):
                runs = [run for run in history.runs if run.config == name]
                yield make_campaign(name, grid, runs, history.receipts)


def refuse_unknown_config(history: History, chosen: Filter) -> None:
    names = {run.config for run in history.runs} | {*find_configurations(history.experiment.path)}
    for name in chosen.configs:
        if name not in names:
            raise Problem(unknown_configuration(name, sorted(names)))


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


def print_json(listed: Sequence[ExperimentInfo], chosen: Filter, campaigns: Sequence[Campaign] | None) -> None:
    """Print one run per line. `campaigns` are those of a single experiment.

    Records may need more memory than everything else, so they are read again, one by one.
    """
    print("[", end="")
    for number, each in enumerate(listed):
        facts = each.as_dict()
        if campaigns is not None:
            facts["campaigns"] = [campaign.as_dict() for campaign in campaigns]
        print(",\n" if number else "", json.dumps(facts)[:-1], ', "runs": [', sep="", end="")
        for place, run in enumerate(chosen.apply(each.runs)):
            own = json.dumps({name: getattr(run, name) for name in RUN_FACTS})  # vars() would double the memory
            print(",\n" if place else "\n", own[:-1], ', "record": ', record_text(run), "}", sep="", end="")
        print("]}", end="")
    print("]")


def show_experiments(listed: list[ExperimentInfo]) -> None:
    """Print a row for each experiment."""
    rows, styles = [], []
    for each in listed:
        version = f"{each.version}, newest {each.newest}" if each.newest else each.version
        counts = each.counts()
        newest = max((run.started for run in each.runs), default="")[:16].replace("T", " ")
        sizes = (readable_size(each.runs_bytes), readable_size(each.code_bytes))
        rows.append((each.name, version or each.problem, describe_counts(counts) or "no runs", newest, *sizes))
        styles.append(style_of(counts))
    titles = ("experiment", "version", "runs", "newest", "runs' folders", "slurm/code")
    optional = ("slurm/code", "runs' folders")
    fit = Fit(optional, folded=("runs",), texts=("version",), names=("experiment",))
    show_fitted(titles, rows, styles, fit)


def style_of(states: Collection[str]) -> str:
    return "yellow" if any(state in FAULTS for state in states) else ""


def show_experiment(listed: ExperimentInfo, campaigns: Sequence[Campaign], chosen: Filter) -> None:
    """Print a row for each campaign and sweep of an experiment, and for each other run."""
    version = f"{listed.version}, but the newest release is {listed.newest}" if listed.newest else listed.version
    print(f"{listed.name}: {version or one_line(listed.problem)}")
    print(f"runs' folders {readable_size(listed.runs_bytes)}, slurm/code {readable_size(listed.code_bytes)}")
    runs, groups = chosen.apply(listed.runs), list[Group]()
    if not chosen.chooses_runs:
        groups, runs = group_runs(runs, campaigns)
    elif chosen.each_point or "missing" in chosen.states:
        runs = sorted([*runs, *missing_points(campaigns, chosen)], key=lambda run: run.config)
    if groups:
        print()
        rows = [(group.name, group.size, group.summary) for group in groups]
        styles = ["yellow" if group.is_faulty else "" for group in groups]
        show_fitted(("config", "size", "states"), rows, styles, Fit(folded=("states",), names=("config",)))
    if runs:
        print()
        show_runs(runs)
    elif not groups:
        print("no runs")


def group_runs(runs: Sequence[RunInfo], campaigns: Sequence[Campaign]) -> tuple[list[Group], list[RunInfo]]:
    """Return the campaigns and sweeps, and the runs that belong to none."""
    groups = [
        Group(each.name, f"{len(each.grid_points)} points", each.summary, bool(each.problem or style_of(each.counts)))
        for each in campaigns
    ]
    single = [run for run in runs if run.config not in {each.name for each in campaigns}]
    single += [run for campaign in campaigns for run in campaign.others]
    sweeps: dict[str, list[RunInfo]] = {}
    for run in single:
        if is_trial(run):
            sweeps.setdefault(run.config, []).append(run)
    for name, trials in sweeps.items():
        counts = count_states(run.state for run in trials)
        groups.append(Group(name, f"{len(trials)} runs", describe_counts(counts), bool(style_of(counts))))
    return groups, [run for run in single if not is_trial(run)]


def is_trial(run: RunInfo) -> bool:
    """Return whether a run belongs to an Optuna or W&B sweep, or has a number in a multirun of Hydra."""
    return bool(run.name) and (bool(SWEEP.search(run.config)) or "/" in run.name)


def missing_points(campaigns: Sequence[Campaign], chosen: Filter) -> list[RunInfo]:
    """Return the points without a run, as runs."""
    missing = (
        RunInfo(campaign.name, point.name, point.state, overrides=point.overrides)
        for campaign in campaigns
        for point in campaign.points
        if not point.run and point.state == "missing"
    )
    return [run for run in missing if not chosen.states or run.state in chosen.states]


def show_runs(runs: Sequence[RunInfo]) -> None:
    """Print a row for each run."""
    now = datetime.now().astimezone()
    words = order_overrides(runs)
    figures = states_of_figures([run.figure for run in runs])
    figure = ("figure",) if any(figures) else ()
    rows = [
        (
            run.config,
            run.name or run.job or "-",
            run.state,
            short_time(run.started or run.submitted, now),
            readable_seconds(run.seconds(now)),
            run.commit[:8] + ("+" if run.dirty else ""),  # with uncommitted changes
            *([state] if figure else []),
            text,
            run.result,
        )
        for run, state, text in zip(runs, figures, words, strict=True)
    ]
    titles = ("config", "run", "state", "started", "time", "commit", *figure, "overrides", "result")
    styles = [style_of([run.state]) for run in runs]
    optional = ("commit", "started", "figure", "time")
    fit = Fit(optional, texts=("result",), distinct=("overrides",), typed=("run",), names=("config",))
    show_fitted(titles, rows, styles, fit)


def states_of_figures(figures: Sequence[str]) -> list[str]:
    """Return stale, dirty or unknown for each existing figure, by its metadata; empty if it is current or missing."""
    existing = {figure for figure in figures if figure and os.path.isfile(figure)}
    if not existing:
        return [""] * len(figures)
    from experiments.code_state import CodeState  # it takes long to import, and most lists have no figure

    metadata = {figure: read_metadata(figure) for figure in existing}
    state = CodeState(Repository.find(Path(".")))
    state.prepare(metadata.values())
    return [" ".join(mark.name for mark in state.marks(metadata[each])) if each in existing else "" for each in figures]


def order_overrides(runs: Sequence[RunInfo]) -> list[str]:
    """Return the overrides of each run, last those that not all runs of its configuration have.

    A cell that is shortened in the middle has these.
    """
    sizes = Counter(run.config for run in runs)
    used = Counter((run.config, word) for run in runs for word in set(run.own_overrides))
    return [
        " ".join(sorted(run.own_overrides, key=lambda word: used[run.config, word] < sizes[run.config])) for run in runs
    ]


def short_time(text: str, now: datetime) -> str:
    """Return the minute of a time of this year, and the day of an earlier one."""
    return text[5:16].replace("T", " ") if text[:4] == str(now.year) else text[:10]


def show_figure(path: str | None, figure: str, as_json: bool) -> int:
    """Print which run made a figure.

    In a repository, `State` states whether its code is stale, dirty or unknown.
    """
    figure = locate_figure(path, figure)
    facts = facts_of_figure(path, figure)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        show_cells(("figure", one_line(str(figure))), list(facts.items()))
    return 0


def locate_figure(path: str | None, figure: str) -> str:
    """Return the path of a figure. A note names it by the end of its path in ASSET_IMAGES_DIR, or by its file name."""
    if os.path.isfile(figure):
        return figure
    from experiments.figures import images_folder, images_in

    end = Path(figure).parts
    folders: set[Path] = set()
    with suppress(Problem):  # without an experiment or its .env, no folder is known
        folders = {images_folder(each) for each in ([Experiment.open(path)] if path else find_all())}
    found = sorted(str(image) for folder in folders for image in images_in(folder) if image.parts[-len(end) :] == end)
    if not found:
        raise Problem(f"{figure} is neither a file nor the name of a figure in ASSET_IMAGES_DIR")
    if len(found) > 1:
        raise Problem(f"{figure} is the name of {len(found)} figures", f"Use one of the paths: {', '.join(found)}")
    return os.path.relpath(found[0])


def facts_of_figure(path: str | None, figure: str) -> dict[str, str]:
    """Return the facts of a figure's run: its metadata, else the record in the experiment at `path`, or in any."""
    file = Path(figure).resolve()
    facts = read_facts(file) or find_in_records([Experiment.open(path)] if path else find_all(), file)
    if not facts:
        raise Problem(f"{figure} has no metadata about a run, and no record contains it")
    if marks := marks_of(file):
        facts["State"] = "; ".join(marks)
    return facts


def read_facts(figure: Path) -> dict[str, str]:
    """Return the metadata of a figure about its run, in the order of PROVENANCE; nothing if it names no script."""
    found = read_metadata(figure)
    return {name: found[name] for name in PROVENANCE if name in found} if "Script" in found else {}


def marks_of(figure: Path) -> list[str]:
    """Return what is wrong with the code of a figure. Outside a repository, there is nothing to compare it with."""
    from experiments.code_state import CodeState

    try:
        state = CodeState(Repository.find(Path(".")))
    except GitError:
        return []
    return [str(mark) for mark in state.marks(read_metadata(figure))]


def is_same_file(recorded: str, figure: Path) -> bool:
    """Return whether a recorded path leads to a figure, also through a link to the folder of images."""
    return os.path.basename(recorded) == figure.name and os.path.realpath(recorded) == str(figure)


def find_in_records(experiments: list[Experiment], figure: Path) -> dict[str, str]:
    """Return the facts of the run that has a figure in its record."""
    names = {"Script": "script", "Configuration": "config", "Commit": "commit", "Job": "job"}
    for experiment in experiments:
        for record in find_records(runs_folder(experiment)):
            found = load_record(record)
            if any(is_same_file(each, figure) for each in figures_of(found)):
                facts = {title: text_of(found.get(name)) for title, name in names.items()}
                return {title: text for title, text in facts.items() if text} | {"Run": os.path.dirname(record)}
    return {}
