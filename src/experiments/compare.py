"""`experiments compare`: print how runs differ in their configurations and numbers. Nothing is changed."""

import csv
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

from experiments.errors import Problem, one_line, reason
from experiments.experiment import Experiment, find_configurations
from experiments.git import ask_git, run_git
from experiments.grid import UNHASHED, nearest
from experiments.history import History, read_campaign, read_histories
from experiments.points import read_grid, unknown_configuration
from experiments.records import (
    FAULTS,
    RunInfo,
    count_states,
    describe_changes,
    describe_counts,
    mapping_of,
    short_number,
    text_of,
)
from experiments.screen import show_blocks, show_cells
from experiments.slurm import Queue

KEEP = ("configuration", "arm", "host", "changes")  # of a record
LABELS = ("from", "config", "run", "arm", "state")  # of a row
MISSING = object()


@dataclass(frozen=True)
class Options:
    """What to compare, and how to print it.

    runs     names of runs; empty for all
    configs  only these configurations; empty for all
    by       a label or a key of the configuration: print means of the runs that share its value
    sort     the title of a column
    form     screen, csv, markdown or json
    files    outputs of `experiments compare PATH --json`, of other clusters
    """

    runs: Sequence[str] = ()
    configs: Sequence[str] = ()
    by: str = ""
    sort: str = ""
    form: str = "screen"
    files: Sequence[str] = ()


@dataclass
class Row:
    """A run and its value in each column."""

    labels: dict[str, str]
    values: dict[str, Any]  # what it computes with, by the path of a key: model.hidden
    numbers: dict[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)  # all, for JSON

    @classmethod
    def parse(cls, facts: Mapping[str, Any], source: str = "") -> "Row":
        """Return the row of a run in JSON."""
        labels = {"from": source} | {name: text_of(facts.get(name)) for name in LABELS[1:]}
        return cls(labels, mapping_of(facts.get("configuration")), mapping_of(facts.get("metrics")), facts)

    def get(self, key: str) -> Any:
        """Return the row's value in a column, or MISSING."""
        for part in (self.labels, self.values, self.numbers):
            if key in part:
                return part[key]
        return MISSING

    @property
    def title(self) -> str:
        """The name of the run, unique among the rows."""
        name = f"{self.labels['config']}/{self.labels['run']}"
        return f"{self.labels['from']}: {name}" if self.labels["from"] else name


@dataclass(frozen=True)
class Mean:
    """The mean of a number over runs, and its standard deviation, which needs two of them."""

    n: int
    mean: float
    sd: float | None

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Mean":
        mean = sum(numbers) / len(numbers)
        squares = sum((number - mean) ** 2 for number in numbers)
        return cls(len(numbers), mean, sqrt(squares / (len(numbers) - 1)) if len(numbers) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.4g}" if self.sd is None else f"{self.mean:.4g} ± {self.sd:.2g}"


@dataclass
class Table:
    """Rows of values under titles. The first columns tell the rows apart."""

    titles: list[str]
    rows: list[list[Any]]
    labels: int = 1
    styles: list[str] = field(default_factory=list)


def compare(path: str, options: Options) -> int:
    """Print a table of runs, or of means over runs."""
    experiment = Experiment.open(path)
    rows = unique([*read_rows(experiment, options), *(row for file in options.files for row in load_rows(file))])
    if not rows:
        hint = f"`experiments list {experiment.name}` prints its runs."
        raise Problem(f"{experiment.name} has no run with a recorded configuration", hint)
    if options.form == "json" and not options.by:
        print("[" + ",\n".join(json.dumps(row.facts) for row in rows) + "]")
    elif options.by:
        print_table(means_table(rows, options), options.form)
    else:
        table = runs_table(rows, options.sort)
        if options.form == "screen" and len(rows) == 2:
            show_two(experiment, rows)
        else:
            print_table(table, options.form)
    return 0


# The rows -------------------------------------------------------------------------------------------------------------


def read_rows(experiment: Experiment, options: Options) -> Iterator[Row]:
    """Yield the requested runs, in grid order or else sorted by name."""
    histories = read_chosen(experiment, options.configs)
    runs = [run for history in histories for run in history.runs]
    if options.runs:
        history = History(experiment, histories[0].folder, runs, {})
        runs = [history.find_run(name) for name in options.runs]
        for name, run in zip(options.runs, runs, strict=True):
            if "configuration" not in run.record:
                raise Problem(f"{name}: its record has no configuration, so it cannot be compared")
    else:
        runs.sort(key=order_of(experiment, {run.config for run in runs}))
    for run in runs:
        if "configuration" in run.record:
            yield Row.parse(facts_of(run))


def read_chosen(experiment: Experiment, configs: Sequence[str]) -> list[History]:
    """Return the runs of configurations, or all. Raises Problem if there is no such configuration."""
    queue = Queue.read()
    if not configs:
        return read_histories([experiment], queue, KEEP)
    histories = [read_campaign(experiment, config, queue, KEEP) for config in configs]
    known = find_configurations(experiment.path)
    for config, history in zip(configs, histories, strict=True):
        if not history.runs and config not in known:
            raise Problem(unknown_configuration(config, known))
    return histories


def facts_of(run: RunInfo) -> dict[str, Any]:
    """Return the facts of a run for JSON output."""
    names = ("config", "state", "job", "cluster", "started", "finished", "commit", "dirty", "submission", "folder")
    facts = {name: getattr(run, name) for name in names}
    configuration = mapping_of(run.record.pop("configuration"))
    for key in UNHASHED:
        configuration.pop(key, None)
    facts |= run.record | {"overrides": run.overrides, "metrics": run.metrics}
    return {"run": run.name} | facts | {"configuration": flatten(configuration)}


def order_of(experiment: Experiment, configs: Iterable[str]) -> Callable[[RunInfo], tuple[Any, ...]]:
    """Return a function that sorts runs: the points of a campaign as its grid has them, other runs by their names."""
    places: dict[tuple[str, str], int] = {}
    for config in configs:
        try:
            grid = read_grid(experiment.path, config.partition(".")[0])
        except Problem:  # the configuration is gone, or its grid is wrong
            continue
        places |= {(config, point.name): number for number, point in enumerate(grid.points if grid else ())}

    def order(run: RunInfo) -> tuple[Any, ...]:
        return (run.config, places.get((run.config, run.name), len(places)), natural(run.name))

    return order


def natural(text: str) -> list[tuple[int, str]]:
    """Return a key that sorts x_2 before x_10."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]


def load_rows(file: str) -> Iterator[Row]:
    """Yield the runs in the JSON of another cluster. The name of its file tells them apart."""
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise Problem(f"{file}: {reason(error)}") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) and "configuration" in each for each in found):
        raise Problem(f"{file} has no runs", "Write it with `experiments compare PATH --json > FILE`.")
    yield from (Row.parse(each, Path(file).stem) for each in found)


def unique(rows: Iterable[Row]) -> list[Row]:
    """Return the rows without those of a run that an earlier one has."""
    found: dict[Any, Row] = {}
    for row in rows:
        found.setdefault((row.facts.get("host"), row.facts.get("folder"), row.facts.get("started")), row)
    return [*found.values()]


def finished_only(rows: Sequence[Row]) -> list[Row]:
    """Return the finished runs. The numbers of others may be those of an early step, and are left out of means."""
    finished = [row for row in rows if row.labels["state"] == "finished"]
    if others := count_states(row.labels["state"] for row in rows if row.labels["state"] != "finished"):
        print(f"left out of the means: {describe_counts(others)}", file=sys.stderr)
    if not finished:
        raise Problem("no run has finished, so no mean can be computed")
    return finished


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of nested mappings by the path of their keys, like model.hidden."""
    found: dict[str, Any] = {}
    add_flat(found, values, "")
    return found


def add_flat(found: dict[str, Any], values: Mapping[str, Any], prefix: str) -> None:
    for key, value in values.items():
        path = sys.intern(prefix + key)  # thousands of runs have the same keys
        if isinstance(value, dict) and value:
            add_flat(found, value, f"{path}.")
        else:
            found[path] = value


# The tables -----------------------------------------------------------------------------------------------------------


def runs_table(rows: list[Row], sort: str) -> Table:
    """Return a row per run, with the labels, keys and numbers that differ."""
    labels = [name for name in LABELS if name == "run" or differs([row.labels[name] for row in rows])]
    keys = differing([row.values for row in rows])
    numbers = differing([row.numbers for row in rows])
    titles = [*labels, *keys, *(name for name in numbers if name not in keys)]
    if sort:
        refuse_unknown(sort, titles, "column")
        rows.sort(key=lambda row: sort_key(row.get(sort)))
    cells = [[row.get(title) for title in titles] for row in rows]
    styles = ["yellow" if row.labels["state"] in FAULTS else "" for row in rows]
    return Table(titles, cells, labels.index("run") + 1, styles)


def means_table(rows: list[Row], options: Options) -> Table:
    """Return a row per value of a label or key, with the mean of each number over the finished runs of this value."""
    by = options.by
    if not any(by in row.values for row in rows):
        refuse_unknown(by, [*LABELS, *dict.fromkeys(key for row in rows for key in row.values)], "key")
    rows = finished_only(rows)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(cell_text(row.get(by)), []).append(row)
    keys = [key for key in differing([row.values for row in rows]) if key != by]
    keys = [key for key in keys if not any(differs([row.get(key) for row in group]) for group in groups.values())]
    names = differing([row.numbers for row in rows])
    cells = [
        [value, len(group), *(group[0].get(key) for key in keys), *(mean_of(group, name) for name in names)]
        for value, group in groups.items()
    ]
    titles = [by, "n", *keys, *names]
    if options.sort:
        refuse_unknown(options.sort, titles, "column")
        place = titles.index(options.sort)
        cells.sort(key=lambda cell: sort_key(cell[place].mean if isinstance(cell[place], Mean) else cell[place]))
    return Table(titles, cells)


def mean_of(rows: Sequence[Row], name: str) -> Any:
    numbers = [float(row.numbers[name]) for row in rows if name in row.numbers]  # "nan" and "inf" are numbers too
    return Mean.of(numbers) if numbers else MISSING


def differing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that differ between rows or are missing in some."""
    alike: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}  # rows by their keys: most have the same
    for row in rows:
        alike.setdefault(tuple(row), []).append(row)
    found: set[str] = set()
    for keys, members in alike.items():
        columns = zip(*(row.values() for row in members), strict=True)
        found |= {key for key, values in zip(keys, columns, strict=True) if differs(values)}
    firsts = [members[0] for members in alike.values()]
    every = dict.fromkeys(key for keys in alike for key in keys)
    return [key for key in every if key in found or differs([row.get(key, MISSING) for row in firsts])]


def differs(values: Sequence[Any]) -> bool:
    return bool(values) and values.count(values[0]) < len(values)


def refuse_unknown(name: str, known: Sequence[str], kind: str) -> None:
    if name not in known:
        close = ", ".join(nearest(name, known))
        raise Problem(f'unknown {kind} "{name}"; the nearest of {len(known)}: {close}')


def sort_key(value: Any) -> tuple[int, Any]:
    """Return a key that sorts numbers first, then text, then what is missing."""
    if value is MISSING or value is None:
        return 2, 0
    is_number = isinstance(value, int | float)
    return (0, value) if is_number else (1, natural(cell_text(value)))


def cell_text(value: Any) -> str:
    """Return a value in YAML notation. Numbers are not rounded."""
    if value is MISSING:
        return ""
    return value if isinstance(value, str) else str(value) if isinstance(value, Mean) else json.dumps(value)


def shown_text(value: Any) -> str:
    """Return a value for people: numbers with four digits."""
    return short_number(value) if isinstance(value, float) else cell_text(value)


# The output -----------------------------------------------------------------------------------------------------------


def print_table(table: Table, form: str) -> None:
    if form == "json":
        rows = [dict(zip(table.titles, row, strict=True)) for row in table.rows]
        print(json.dumps([{name: json_value(value) for name, value in row.items()} for row in rows], indent=2))
    elif form == "csv":
        print_csv(table)
    elif form == "markdown":
        lines = [table.titles, ["---"] * len(table.titles), *(map(shown_text, row) for row in table.rows)]
        for line in lines:
            print(f"| {' | '.join(one_line(text).replace('|', chr(92) + '|') for text in line)} |")
    else:
        show_blocks(table.titles, [[*map(shown_text, row)] for row in table.rows], table.styles, table.labels)


def json_value(value: Any) -> Any:
    return None if value is MISSING else vars(value) if isinstance(value, Mean) else value


def print_csv(table: Table) -> None:
    """Print comma-separated values. A mean has two columns, and a third if it is not over all runs of its row."""
    means = [any(isinstance(row[number], Mean) for row in table.rows) for number in range(len(table.titles))]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    titles = zip(table.titles, means, strict=True)
    writer.writerow([name for title, is_mean in titles for name in (spread(title) if is_mean else [title])])
    for row in table.rows:
        cells: list[str] = []
        for value, is_mean in zip(row, means, strict=True):
            if isinstance(value, Mean):
                cells += [cell_text(value.mean), "" if value.sd is None else cell_text(value.sd), str(value.n)]
            else:
                cells += ["", "", "0"] if is_mean else [cell_text(value)]
        writer.writerow(cells)


def spread(title: str) -> list[str]:
    return [f"{title}_mean", f"{title}_sd", f"{title}_n"]


# Two runs -------------------------------------------------------------------------------------------------------------


def show_two(experiment: Experiment, rows: Sequence[Row]) -> None:
    """Print how two runs differ: a line per key and number, then their code."""
    first, second = rows
    keys = differing([row.values for row in rows])
    numbers = [name for name in differing([row.numbers for row in rows]) if name not in keys]
    labels = ["state"] if first.labels["state"] != second.labels["state"] else []
    lines = [[key, *(shown_text(row.get(key)) for row in rows)] for key in (*labels, *keys, *numbers)]
    if lines:
        show_cells(("", first.title, second.title), lines)
    else:
        print(f"{first.title} and {second.title} have equal configurations and metrics")
    print(code_difference(experiment, *(text_of(row.facts.get("commit")) for row in rows)))
    for row in rows:
        if row.facts.get("dirty") and not row.facts.get("submission"):
            print(f"{row.title} had {describe_changes(text_of(row.facts.get('folder')), row.facts)}")


def code_difference(experiment: Experiment, first: str, second: str) -> str:
    """Return the command that shows how the code of two commits differs, or that it does not."""
    if not first or not second:
        return "code: one of the runs has no commit in its record"
    if first == second:
        return f"code: both {first[:10]}"
    root = experiment.repository.root
    for commit in (first, second):
        if not has_commit(root, commit):
            return f"code: {first[:10]} and {second[:10]}, but this repository does not have {commit[:10]}"
    paths = [path for path in code_paths(experiment) if in_commits(root, path, (first, second))]
    names = ask_git(root, "diff", "--name-only", first, second, "--", *paths).splitlines()
    if not names:
        return f"code: the same in {first[:10]} and {second[:10]}"
    here = [os.path.relpath(root / path) for path in paths]
    command = shlex.join(["git", "diff", first[:10], second[:10], "--", *here])
    return f"code: {len(names)} {'files differ' if len(names) > 1 else 'file differs'}: {command}"


def has_commit(root: Path, commit: str) -> bool:
    return bool(run_git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", accept=(0, 1, 128)))


def code_paths(experiment: Experiment) -> list[str]:
    """Return the paths of the code that a run uses: the scripts, and the lab's package."""
    package = str(experiment.answers().values.get("package") or "").partition(".")[0]
    return [experiment.tracked("scripts"), *([package, f"src/{package}"] if package else [])]


def in_commits(root: Path, path: str, commits: Iterable[str]) -> bool:
    """Return whether a path is in any of these commits."""
    return any(run_git(root, "ls-tree", "--name-only", commit, "--", path) for commit in commits)
