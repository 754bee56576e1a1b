"""Expand the `grid:` of a configuration into points: each arm with one value of each axis.

    grid:
      arms:
        reference: []
        wide: [model.hidden=256, lr=6e-4]
        masked: {config: cgt_mask_007, overrides: [lr=3e-4]}
      axes:
        seed: [0, 1, 2]

An arm is a list of Hydra overrides, or a mapping of `config` and `overrides`. Without arms, there is one unnamed arm.
This module needs the standard library alone.
"""

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

NAME_LIMIT = 150  # characters; a point's name is part of the names of folders, tables and images
OWN_KEYS = ("config", "folder", "grid", "point", "hydra.run.dir", "hydra.sweep.dir", "hydra.output_subdir")
# Keys of a configuration that change nothing of what a run computes. The hash of a configuration is without them.
UNHASHED = ("hydra", "grid", "point", "config", "folder", "title", "trial", "wandb")

ARM_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-_]*")
PLAIN_VALUE = re.compile(r"[+-]?[A-Za-z0-9_]([A-Za-z0-9_.+-]*[A-Za-z0-9_])?")  # may be part of a point's name
OVERRIDE = re.compile(r"(?P<prefix>\+\+?|~)?(?P<key>[^\s=+~,'\"]+)(?P<value>=.*)?", re.DOTALL)
AXIS_KEY = re.compile(r"(?P<prefix>\+\+?)?(?P<key>[A-Za-z_$][\w.$/@:-]*)")
UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:[/.][A-Za-z0-9_-]+)*")  # text that Hydra reads as itself
OTHER_TYPES = ("null", "true", "false", "inf", "nan")  # Hydra reads these words as other types, ignoring case


class GridError(Exception):
    """An invalid grid. The message is one line, with the name of the arm or the axis."""


class Arm(NamedTuple):
    """A named list of overrides. `config` is the configuration that it changes, or None for the grid's own."""

    name: str | None
    config: str | None
    overrides: list[str]


class Axis(NamedTuple):
    """A key of the configuration and its values. `key` is without the + or ++ of `prefix`."""

    key: str
    prefix: str
    values: list[Any]

    def label(self, position: int) -> str:
        """Return what the value at a position adds to a point's name: itself if plain, else p and the position."""
        text = plain_text(self.values[position])
        return text if text and PLAIN_VALUE.fullmatch(text) else f"p{position}"

    def override(self, position: int) -> str:
        return f"{self.prefix}{self.key}={override_text(self.values[position])}"


class Point(NamedTuple):
    """One run of a campaign.

    arm        the arm's name; None if the grid has no arms
    config     the configuration that is composed, if it is not the grid's own
    overrides  those of the arm, then those of the axes
    values     the value of each axis, by key
    """

    name: str
    arm: str | None
    config: str | None
    overrides: list[str]
    values: dict[str, Any]

    def tags(self) -> list[str]:
        """Return the arm and KEY=VALUE of each axis."""
        axes = [f"{key}={plain_text(value) or override_text(value)}" for key, value in self.values.items()]
        return [*([self.arm] if self.arm else []), *axes]


class Grid(NamedTuple):
    """The arms and axes of a campaign, and their points: arms as written, then axes, the last varying fastest."""

    arms: list[Arm]
    axes: list[Axis]
    points: list[Point]

    @classmethod
    def parse(cls, value: object) -> "Grid":
        """Return the grid of a loaded `grid:`. Raises GridError."""
        if not isinstance(value, Mapping):
            raise GridError("grid: must be a mapping with arms, axes or both.")
        for key in value:
            if key not in ("arms", "axes"):
                raise GridError(f"grid: unknown key {quoted(key)}; expected one of: arms, axes.")
        arms, axes = parse_arms(value.get("arms")), parse_axes(value.get("axes"))
        if not arms and not axes:
            raise GridError("grid: no arms and no axes. Write at least one of them.")
        arms = arms or [Arm(None, None, [])]
        for arm in arms:
            refuse_shared_keys(arm, axes)
        points = list(expand(arms, axes))
        refuse_equal_names(points)
        return cls(arms, axes, points)


def expand(arms: list[Arm], axes: list[Axis]) -> Iterator[Point]:
    for arm in arms:
        for positions in itertools.product(*(range(len(axis.values)) for axis in axes)):
            chosen = list(zip(axes, positions, strict=True))
            labels = [axis.label(position) for axis, position in chosen]
            yield Point(
                "_".join([*([arm.name] if arm.name else []), *labels]),
                arm.name,
                arm.config,
                [*arm.overrides, *(axis.override(position) for axis, position in chosen)],
                {axis.key: axis.values[position] for axis, position in chosen},
            )


# Arms and axes --------------------------------------------------------------------------------------------------------


def parse_arms(value: object) -> list[Arm]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise GridError("grid: arms must be a mapping of names to lists of overrides, like {wide: [lr=6e-4]}.")
    return [parse_arm(name, content) for name, content in value.items()]


def parse_arm(name: object, value: object) -> Arm:
    if not isinstance(name, str) or not ARM_NAME.fullmatch(name):
        raise GridError(f"arm {quoted(name)}: the name must be a letter, then letters, digits, - or _.")
    content: Mapping[Any, Any] = value if isinstance(value, Mapping) else {"overrides": value}
    for key in content:
        if key not in ("config", "overrides"):
            raise GridError(f"arm {name}: unknown key {quoted(key)}; expected one of: config, overrides.")
    overrides, config = content.get("overrides", []), content.get("config")
    if not isinstance(overrides, list):
        raise GridError(f"arm {name}: it must be a list of overrides, or a mapping of config and overrides.")
    if "config" in content and not is_config_name(config):
        raise GridError(f"arm {name}: config must be the name of a file in conf/, without .yaml.")
    keys = [override_key(override, name) for override in overrides]
    for key in keys:
        if keys.count(key) > 1:
            raise GridError(f"arm {name}: it sets {key} twice. Remove one.")
    return Arm(name, config, overrides)


def is_config_name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and not value.endswith(".yaml")


def override_key(override: object, arm: str) -> str:
    """Return the key of an override, without +, ++ or ~."""
    match = OVERRIDE.fullmatch(override) if isinstance(override, str) else None
    if not match or match["key"].startswith("-") or not (match["value"] or match["prefix"] == "~"):
        raise GridError(f"arm {arm}: {quoted(override)} is not an override. Write KEY=VALUE.")
    refuse_own_key(match["key"], f"arm {arm}")
    return match["key"]


def parse_axes(value: object) -> list[Axis]:
    if value is None:
        return []
    if not isinstance(value, Mapping):
        raise GridError("grid: axes must be a mapping of keys to lists of values, like {seed: [0, 1, 2]}.")
    axes = [parse_axis(name, values) for name, values in value.items()]
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise GridError(f"axis {key}: it is given twice. Remove one.")
    return axes


def parse_axis(name: object, values: object) -> Axis:
    match = AXIS_KEY.fullmatch(name) if isinstance(name, str) else None
    if not match:
        raise GridError(f"axis {quoted(name)}: the name must be a key of the configuration, like model.hidden.")
    if not isinstance(values, list) or not values:
        raise GridError(f"axis {name}: it must be a list of at least one value.")
    refuse_own_key(match["key"], f"axis {name}")
    axis = Axis(match["key"], match["prefix"] or "", values)
    for position in range(len(values)):
        try:
            axis.override(position)
        except ValueError as error:
            raise GridError(f"axis {name}: value {position}: {error}") from None
    return axis


def refuse_own_key(key: str, subject: str) -> None:
    if key in OWN_KEYS:
        raise GridError(f"{subject}: {key} cannot be set, because the point determines it. Remove it.")


def refuse_shared_keys(arm: Arm, axes: list[Axis]) -> None:
    keys = [override_key(override, arm.name or "") for override in arm.overrides]
    for axis in axes:
        if axis.key in keys:
            raise GridError(f"arm {arm.name}: it sets {axis.key}, which is an axis. Remove one of them.")


def refuse_equal_names(points: list[Point]) -> None:
    """Refuse points of one name. File systems may ignore case, and so does this comparison."""
    used: dict[str, Point] = {}
    for point in points:
        if len(point.name) > NAME_LIMIT:
            raise GridError(f"point {point.name}: the name has more than {NAME_LIMIT} characters. Shorten the arm.")
        other = used.setdefault(point.name.lower(), point)
        if other is not point:
            pair = point.name if point.name == other.name else f"{other.name} and {point.name}"
            raise GridError(f"point {pair}: two points have this name ({described(other)}; {described(point)}).")


def described(point: Point) -> str:
    return " ".join(point.tags())


def nearest(name: str, names: Collection[str]) -> list[str]:
    """Return at most three names that are most like a name, best first."""
    from difflib import get_close_matches

    return get_close_matches(name, names, 3, 0.0)


def quoted(value: object) -> str:
    """Return a value of YAML on one line, text in double quotes."""
    return '"' + " ".join(value.split()) + '"' if isinstance(value, str) else " ".join(repr(value).split())


# Values as Hydra writes them ------------------------------------------------------------------------------------------


def plain_text(value: Any) -> str:
    """Return a scalar as text, or an empty text for other values."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value) if isinstance(value, int | float | str) else ""


def override_text(value: Any) -> str:
    """Return the text that Hydra's grammar of overrides reads as a value. Raises ValueError if there is none."""
    if isinstance(value, str):
        return value if is_unquoted(value) else quote(value)
    if isinstance(value, list):
        return f"[{','.join(map(override_text, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key_text(key)}:{override_text(item)}" for key, item in value.items()) + "}"
    if value is None or isinstance(value, bool | int | float):
        return plain_text(value)
    raise ValueError(f"a value of type {type(value).__name__} cannot be an override. Write text in quotes.")


def key_text(key: Any) -> str:
    """Return a key of a mapping as text. Hydra's grammar has no quoted keys."""
    if isinstance(key, str) and (not is_unquoted(key) or "." in key):
        raise ValueError(f"the key {quoted(key)} cannot be in an override. Use letters, digits, - and _.")
    if isinstance(key, str | bool | int) or (isinstance(key, float) and math.isfinite(key)):
        return plain_text(key)
    raise ValueError(f"the key {quoted(key)} cannot be in an override. Use text or a number.")


def is_unquoted(text: str) -> bool:
    return bool(UNQUOTED.fullmatch(text)) and text.lower() not in OTHER_TYPES


def quote(text: str) -> str:
    """Quote text for Hydra: in quotes, only a quote, and backslashes right before one, are escaped."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda each: 2 * each[1] + (each[2] and "\\'"), text) + "'"
