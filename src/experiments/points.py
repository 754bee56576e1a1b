"""`experiments points`: print the points of a campaign with their states. Nothing is changed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.errors import Problem, reason
from experiments.experiment import Experiment, find_configurations
from experiments.grid import Grid, GridError, Point, nearest
from experiments.history import read_campaign
from experiments.hydra_yaml import load_grid
from experiments.receipts import Receipt
from experiments.records import (
    EVERYTHING,
    FAULTS,
    RunInfo,
    count_states,
    describe_counts,
    readable_seconds,
    refuse_unknown_states,
)
from experiments.screen import show_fitted
from experiments.slurm import Queue
from experiments.widths import Fit


@dataclass
class PointInfo:
    """A point of a campaign with its state.

    number    its position in the grid, which is the task of an array; None if the grid no longer has it
    is_older  whether it was finished at another commit than that of the campaign's newest run
    """

    name: str
    number: int | None
    arm: str | None
    config: str | None
    overrides: list[str]
    axes: dict[str, Any]
    state: str = "missing"
    is_live: bool = False
    is_older: bool = False
    run: RunInfo | None = None

    @classmethod
    def of(cls, point: Point, number: int) -> "PointInfo":
        return cls(point.name, number, point.arm, point.config, point.overrides, point.values)

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | {"run": self.run and vars(self.run)}

    @property
    def is_open(self) -> bool:
        """Whether it can be submitted again: it is not finished, and no job computes it."""
        return self.state != "finished" and not self.is_live


@dataclass
class Campaign:
    """The points of a configuration, in the order of its grid."""

    name: str  # CONFIG, or CONFIG.NAME
    points: list[PointInfo]
    others: list[RunInfo]  # runs in its folder, and jobs, that compute no point
    commit: str = ""  # of the newest run
    problem: str = ""  # of the grid

    @property
    def summary(self) -> str:
        """Its points by state, like `80 finished (3 at another commit), 1 failed`."""
        if self.problem:
            return self.problem
        older = sum(point.is_older for point in self.points)
        gone = len(self.points) - len(self.grid_points)
        text = describe_counts(self.counts | ({"not in the grid": gone} if gone else {}))
        return text.replace(" finished", f" finished ({older} at another commit)") if older else text

    @property
    def grid_points(self) -> list[PointInfo]:
        """The points that the grid has now."""
        return [point for point in self.points if point.number is not None]

    def as_dict(self) -> dict[str, Any]:
        """Return its points with all fields, for JSON."""
        points = [point.as_dict() for point in self.points]
        own = {"campaign": self.name, "commit": self.commit, "problem": self.problem}
        return own | {"counts": self.counts, "points": points}

    @property
    def counts(self) -> dict[str, int]:
        return count_states(point.state for point in self.grid_points)


def list_points(path: str, config: str, name: str | None, states: Sequence[str], as_json: bool) -> int:
    """Print the points of a campaign, and the array that submits those that are not finished."""
    experiment = Experiment.open(path)
    grid = require_grid(experiment, config)
    campaign_name = f"{config}.{name}" if name else config
    history = read_campaign(experiment, campaign_name, Queue.read(), keep=EVERYTHING if as_json else ())
    campaign = make_campaign(campaign_name, grid, history.runs, history.receipts)
    refuse_unknown_states(states, campaign.counts)
    points = [point for point in campaign.points if not states or point.state in states]
    newest = max(history.receipts.values(), key=lambda receipt: receipt.folder.name, default=None)
    array = unfinished_array(points, newest.points_per_task if newest else 1)
    if as_json:
        facts = {"experiment": experiment.name, "array": array, "points": [point.as_dict() for point in points]}
        print(json.dumps(campaign.as_dict() | facts, indent=2))
    else:
        show_points(campaign, points)
        if array:
            launcher = newest.text("launcher") if newest else "LAUNCHER"
            words = f"{config} --name {name}" if name else config
            print(f"unfinished: submit.sh {launcher} {words} -- --array={array}")
    return 0


def show_points(campaign: Campaign, points: Sequence[PointInfo]) -> None:
    """Print a row for each point."""
    print(f"{campaign.name}: {len(campaign.grid_points)} points")
    print(campaign.summary)
    if points:
        titles = ("number", "point", "state", "job", "time", "overrides", "result")
        styles = ["yellow" if point.state in FAULTS else "" for point in points]
        rows = [cells_of(point) for point in points]
        fit = Fit(optional=("job", "time"), texts=("result",), distinct=("overrides",), names=("point",))
        show_fitted(titles, rows, styles, fit)
    if any(point.is_older for point in points):
        print(f"* finished at another commit than the newest run, {campaign.commit[:10]}")
    if any(point.number is None for point in points):
        print(f"- no longer in the grid of {campaign.name}")


def cells_of(point: PointInfo) -> list[str]:
    """Return the row of a point."""
    number = "-" if point.number is None else str(point.number)
    words = [*([f"config={point.config}"] if point.config else []), *point.overrides]
    state = f"{point.state}*" if point.is_older else point.state
    if not point.run:
        return [number, point.name, state, "", "", " ".join(words), ""]
    seconds = readable_seconds(point.run.seconds(datetime.now().astimezone()))
    return [number, point.name, state, point.run.job or "", seconds, " ".join(words), point.run.result]


# The grid -------------------------------------------------------------------------------------------------------------


def read_grid(experiment: Path, config: str) -> Grid | None:
    """Return the grid of a configuration, or None without one. Raises Problem."""
    path, name = experiment / f"conf/{config}.yaml", f"conf/{config}.yaml"
    try:
        value = load_grid(path.read_text(encoding="utf-8"))
        return None if value is None else Grid.parse(value)
    except (OSError, ValueError, GridError) as error:
        raise Problem(f"{name}: {reason(error)}") from None


def unknown_configuration(name: str, names: Sequence[str]) -> str:
    return f'unknown configuration "{name}"; the nearest of {len(names)}: {", ".join(nearest(name, names))}'


def require_grid(experiment: Experiment, config: str) -> Grid:
    """Return the grid of a configuration. Raises Problem if there is no such configuration, or if it has no grid."""
    names = find_configurations(experiment.path)
    if config not in names:
        raise Problem(unknown_configuration(config, names))
    grid = read_grid(experiment.path, config)
    if grid is None:
        hint = f"`experiments list {experiment.name} --config {config}` prints its runs."
        raise Problem(f"conf/{config}.yaml has no grid", hint)
    return grid


# The states -----------------------------------------------------------------------------------------------------------


def make_campaign(name: str, grid: Grid, runs: Iterable[RunInfo], receipts: Mapping[str, Receipt]) -> Campaign:
    """Return a campaign with the states of its points. `runs` are all in its folder, and its jobs without a record."""
    names = [point.name for point in grid.points]
    points = {point.name: PointInfo.of(point, number) for number, point in enumerate(grid.points)}
    others = []
    for run in sorted(runs, key=lambda run: not run.name):  # records before jobs without one
        if run.point and run.name not in points:
            points[run.name] = PointInfo(run.name, None, None, None, run.own_overrides, {})
        found = [point for point in points_of(run, receipts, names) if point in points]
        for point in found:
            add_run(points[point], run)
        if not found:
            others.append(run)
    campaign = Campaign(name, list(points.values()), others)
    newest = max((point.run for point in campaign.points if point.run), key=lambda run: run.started, default=None)
    campaign.commit = newest.commit if newest else ""
    for info in campaign.points:
        info.is_older = info.state == "finished" and info.run is not None and info.run.commit != campaign.commit
    return campaign


def points_of(run: RunInfo, receipts: Mapping[str, Receipt], names: Sequence[str]) -> Sequence[str]:
    """Return the points that a run computes: that of its folder, or those of a job without a record."""
    receipt = receipts.get(run.submission)
    if run.name or not receipt or run.task is None:
        return [run.name]
    return receipt.points(names, run.task)


def add_run(point: PointInfo, run: RunInfo) -> None:
    """Give a point the state of its record. A job without a record counts if it is about to compute the point."""
    if run.name:
        point.run = run
    elif not point.is_open or not (run.is_live or (point.run is None and run.state in FAULTS)):
        return
    point.state, point.is_live = run.state, run.is_live


def unfinished_array(points: Iterable[PointInfo], points_per_task: int) -> str:
    """Return the tasks of the points that can be submitted again, as sbatch takes them."""
    return array_of({point.number // points_per_task for point in points if point.is_open and point.number is not None})


def array_of(numbers: Iterable[int]) -> str:
    """Return numbers as sbatch takes them: 3,7,9-12."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" if first != last else f"{first}" for first, last in parts)
