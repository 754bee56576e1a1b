"""Check the points of a grid: compose each arm once and each value of an axis once, and find what is finished."""

import copy
import json
import math
import os.path as osp
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Any, NamedTuple

from runtime.campaign import hash_values
from runtime.grid import Axis, Grid, Point
from runtime.paths import CONF, SUBMITTED
from runtime.point_claims import ClaimError, newest_claim
from runtime.preflight.children import LEAST, PROCESSES, Send, forked
from runtime.preflight.findings import Findings, one_line

Values = dict[str, Any]  # a composed configuration: unresolved, without `hydra`
# Takes what a finding is about, a point, and where to add findings. Returns None if there is a problem.
Compose = Callable[[str, Point, Findings], Values | None]

OTHER = "finished with another configuration"


class Sample(NamedTuple):
    """A point that is composed.

    label    what a finding is about
    arm      the points of its arm, if their configurations differ from this one by values of axes alone
    axes     the number of axes
    """

    label: str
    point: Point
    arm: Sequence[Point] = ()
    axes: int = 0


def samples_of(grid: Grid) -> Iterator[Sample]:
    """Yield the first point of each arm, and each further value of an axis in the first arm."""
    is_derivable = not any(is_group(axis) for axis in grid.axes)
    size = math.prod(len(axis.values) for axis in grid.axes)
    for number, arm in enumerate(grid.arms):
        points = grid.points[number * size : (number + 1) * size]
        label = f"arm {arm.name}" if arm.name else f"point {points[0].name}"
        yield Sample(label, points[0], points if is_derivable else [], len(grid.axes))
    for axis in grid.axes:
        size //= len(axis.values)
        for position in range(1, len(axis.values)):
            yield Sample(f"axis {axis.key}, value {position}", grid.points[position * size])


def check_points(grid: Grid, compose: Compose, runs: str, found: Findings) -> None:
    """Compose what represents a grid, and record the name, the hash and the state of each point.

    `runs` is the folder of the points' runs.

    Points are not composed one by one: the values of axes are set in the composed arm. If that gives another
    configuration than Hydra does, as for an axis that is a config group, each point is composed.
    """
    hashes, derived = compose_all(list(samples_of(grid)), compose, found)
    if hashes.items() <= derived.items():
        hashes = derived
    elif not found.problems:
        rest = [Sample(f"point {point.name}", point) for point in grid.points if point.name not in hashes]
        hashes |= compose_all(rest, compose, found)[0]
    if found.problems:
        return
    for point in grid.points:
        try:
            state = state_of(osp.join(runs, point.name), hashes[point.name])
        except ClaimError as error:
            found.add(one_line(error))
            return
        found.points.append((point.name, hashes[point.name], state))
    report_others(found, runs)


# Composition ----------------------------------------------------------------------------------------------------------


def compose_all(samples: Sequence[Sample], compose: Compose, found: Findings) -> tuple[dict[str, str], dict[str, str]]:
    """Return the hashes of composed points, and those that follow from them, by the names of the points.

    Many samples are shared among several processes.
    """
    hashes: dict[str, str] = {}
    derived: dict[str, str] = {}
    problems: dict[tuple[str, str], list[str]] = {}
    count = max(1, min(PROCESSES, len(samples) // LEAST))
    with ExitStack() as processes:
        answers: Iterable[Any]
        if count == 1:
            answers = map(partial(answer_of, compose), samples)
        else:
            shares = [partial(send_answers, compose, samples[first::count]) for first in range(count)]
            receive = [processes.enter_context(forked(share, math.inf, own_group=False)) for share in shares]
            answers = (receive[number % count]() for number in range(len(samples)))
        for sample, answer in zip(samples, answers, strict=True):
            if isinstance(answer, str):
                found.add(f"{sample.label}: {answer} when it was composed")
                continue
            composed = Findings(**answer["findings"])
            for line in composed.problems:
                before, label, reason = line.partition(f"{sample.label}: ")
                problems.setdefault((before, reason), []).extend([sample.label] if label else [])
            composed.problems = []
            found.extend(composed)
            hashes |= answer["hashes"]
            derived |= answer["derived"]
    for (before, reason), labels in problems.items():
        found.add(f"{before}{subject(labels, len(samples))}{reason}")
    return hashes, derived


def subject(labels: Sequence[str], count: int) -> str:
    """Return what a problem is about. It is about the whole file if all of several samples have it."""
    if not labels or len(labels) == count > 1:
        return ""
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return f"{', '.join(labels[:3])}{more}: "


def send_answers(compose: Compose, samples: Sequence[Sample], send: Send) -> None:
    """Compose samples in a child process, and send the answers."""
    for sample in samples:
        send(answer_of(compose, sample))


def answer_of(compose: Compose, sample: Sample) -> dict[str, Any]:
    """Compose a sample, and return its findings and hashes."""
    found = Findings()
    values = compose(sample.label, sample.point, found)
    hashes = {sample.point.name: hash_values(values)} if values is not None else {}
    derived = derived_hashes(values, sample) if values is not None else {}
    return {"findings": vars(found), "hashes": hashes, "derived": derived}


def derived_hashes(values: Values, sample: Sample) -> dict[str, str]:
    """Return the hash of each point of a sample's arm, by the values of its axes."""
    words = {point.name: point.overrides[len(point.overrides) - sample.axes :] for point in sample.arm}
    return {name: hash_values(with_values(values, axes)) for name, axes in words.items()}


def is_group(axis: Axis) -> bool:
    """Return whether an axis chooses among files of conf/, or names a package."""
    return "@" in axis.key or "/" in axis.key or osp.isdir(osp.join(CONF, axis.key))


def with_values(base: Values, overrides: list[str]) -> Values:
    """Return a configuration with the values that overrides set."""
    values = copy.copy(base)
    for word in overrides:
        path, value = parsed(word)
        node: Any = values
        for key in path[:-1]:
            node[key] = copy.copy(node.get(key) or {})
            node = node[key]
        node[path[-1]] = value
    return values


@cache
def parsed(word: str) -> tuple[list[str], Any]:
    """Return the keys and the value of an override."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    override = OverridesParser.create().parse_override(word)
    value = OmegaConf.to_container(OmegaConf.create({"value": override.value()}), resolve=False)
    assert isinstance(value, dict)
    return override.key_or_group.split("."), value["value"]


# States ---------------------------------------------------------------------------------------------------------------


def state_of(folder: str, expected: str) -> str:
    """Return the state of a point.

    It is finished, finished elsewhere (from another commit), OTHER, missing, or the job that has claimed the point.
    """
    try:
        with open(osp.join(folder, "provenance.json"), encoding="utf-8") as file:
            record = json.load(file)
    except (FileNotFoundError, ValueError):
        record = {}
    if record.get("status") == "finished":
        if record.get("configuration_hash") not in (expected, None):
            return OTHER
        is_same = not SUBMITTED or record.get("commit") == SUBMITTED["commit"]
        return "finished" if is_same else "finished elsewhere"
    _, holder = newest_claim(folder)
    return holder.job_id if holder and holder.job else "missing"


def report_others(found: Findings, runs: str) -> None:
    """Report finished points that had another configuration."""
    names = [name for name, _, state in found.points if state == OTHER]
    if names:
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        found.add(
            f"{osp.basename(runs)}: finished with another configuration: {shown}. "
            f"Move them away from {runs} to compute them again, or submit with --name NAME."
        )
