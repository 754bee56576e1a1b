"""Check the points of a grid: compose each arm once and each value of an axis once, and find what is finished."""

import copy
import json
import math
import os.path as osp
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from runtime.campaign import hash_values
from runtime.grid import Arm, Axis, Grid, Point
from runtime.paths import CONF, SUBMITTED
from runtime.point_claims import ClaimError, newest_claim
from runtime.preflight.findings import Findings, one_line

Values = dict[str, Any]  # a composed configuration: unresolved, without `hydra`
# Takes what a finding is about, and a point. Returns None if there is a problem.
Compose = Callable[[str, Point], Values | None]

OTHER = "finished with another configuration"


def representatives(grid: Grid) -> Iterator[tuple[str, Point]]:
    """Yield the first point of each arm, and each further value of an axis in the first arm."""
    for arm, points in by_arm(grid):
        yield f"arm {arm.name}" if arm.name else f"point {points[0].name}", points[0]
    stride = len(grid.points) // len(grid.arms)
    for axis in grid.axes:
        stride //= len(axis.values)
        for position in range(1, len(axis.values)):
            yield f"axis {axis.key}, value {position}", grid.points[position * stride]


def by_arm(grid: Grid) -> Iterator[tuple[Arm, list[Point]]]:
    """Yield each arm with its points."""
    size = math.prod(len(axis.values) for axis in grid.axes)
    for number, arm in enumerate(grid.arms):
        yield arm, grid.points[number * size : (number + 1) * size]


def check_points(grid: Grid, compose: Compose, runs: str, found: Findings) -> None:
    """Compose what represents a grid, and record the name, the hash and the state of each point.

    `runs` is the folder of the points' runs.

    Points are not composed one by one: the values of axes are set in the composed arm. If that gives another
    configuration than Hydra does, as for an axis that is a config group, each point is composed.
    """
    composed = {point.name: compose(label, point) for label, point in representatives(grid)}
    if found.problems:
        return
    hashes = derived_hashes(grid, composed)
    if hashes is None:
        composed |= {
            point.name: compose(f"point {point.name}", point) for point in grid.points if point.name not in composed
        }
        hashes = {name: hash_values(values) for name, values in composed.items() if values is not None}
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


def derived_hashes(grid: Grid, composed: dict[str, Values | None]) -> dict[str, str] | None:
    """Return the hash of each point by name, or None if a point must be composed to know it."""
    if any(is_group(axis) for axis in grid.axes):
        return None
    hashes = {}
    for arm, points in by_arm(grid):
        base = composed[points[0].name]
        assert base is not None
        for point in points:
            hashes[point.name] = hash_values(with_values(base, point.overrides[len(arm.overrides) :]))
    known = {name: hash_values(values) for name, values in composed.items() if values is not None}
    return hashes if known.items() <= hashes.items() else None


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
