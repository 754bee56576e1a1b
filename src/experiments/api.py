"""Read runs in Python, for example in a notebook."""

from pathlib import Path
from typing import Any

from experiments.compare import flatten
from experiments.errors import Problem
from experiments.experiment import Experiment
from experiments.history import read_histories
from experiments.records import EVERYTHING, mapping_of
from experiments.slurm import Queue


def runs(path: str | Path, frame: bool = False) -> Any:
    """Return the records of an experiment's runs, oldest first: a list of dicts, or a pandas DataFrame.

    A record is the content of provenance.json, with `state` (what `experiments list` prints), `run` and `folder`. The
    columns of a frame are its facts; `configuration.KEY` and `metrics.NAME` are the values. Jobs without a record are
    left out.

    path   the folder, the name or the number of an experiment
    frame  return a pandas.DataFrame. Raises Problem if pandas is not installed
    """
    [history] = read_histories([Experiment.open(path)], Queue.read(), EVERYTHING)
    found = [
        each.record | {"config": each.config, "run": each.name, "state": each.state, "folder": each.folder}
        for each in history.runs
        if each.record
    ]
    return as_frame(found) if frame else found


def as_frame(records: list[dict[str, Any]]) -> Any:
    try:
        import pandas
    except ImportError:
        raise Problem("pandas is not installed for this Python", "Install it: pip install pandas") from None
    first = ("config", "run", "state")
    last = ("configuration", "axes", "metrics", "usage", "slurm", "versions", "attempts")
    rows = []
    for record in records:
        facts = {name: record[name] for name in (*first, *(key for key in record if key not in (*first, *last)))}
        nested = {name: mapping_of(record.get(name)) for name in last[:4]}
        rows.append(facts | flatten({name: value for name, value in nested.items() if value}))
    return pandas.DataFrame(rows)
