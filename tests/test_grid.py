"""Grids: arms and axes become named points. Hydra reads their overrides back to the same values."""

import math

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from support.template import ROOT

from experiments.grid import Grid, GridError, Point, nearest, override_text

RUNTIME = ROOT / "template/scripts/runtime"


def parsed(text):
    return Grid.parse(yaml.safe_load(text))


def names(text):
    return [point.name for point in parsed(text).points]


def test_grid_order_and_names():
    grid = parsed("""
arms:
  reference: []
  wide-2_x: [model.hidden=256, +lr=6e-4]
  masked: {config: cgt_mask_007, overrides: [lr=3e-4]}
axes:
  seed: [0, 1]
  +trainer.rate: [0.5, big model, null]
""")
    assert [point.name for point in grid.points] == [
        f"{arm}_{seed}_{rate}"
        for arm in ("reference", "wide-2_x", "masked")
        for seed in (0, 1)
        for rate in ("0.5", "p1", "null")
    ]
    assert grid.points[7] == Point(
        name="wide-2_x_0_p1",
        arm="wide-2_x",
        config=None,
        overrides=["model.hidden=256", "+lr=6e-4", "seed=0", "+trainer.rate='big model'"],
        values={"seed": 0, "trainer.rate": "big model"},
    )
    last = grid.points[-1]
    assert (last.config, last.overrides) == ("cgt_mask_007", ["lr=3e-4", "seed=1", "+trainer.rate=null"])
    assert last.tags() == ["masked", "seed=1", "trainer.rate=null"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{arms: {a: [], b: [~x, ++y=1, z@q=w]}}", ["a", "b"]),
        ("{axes: {lr: [1.0e-05, -1, true, v1.2, ../x, '', [1], {a: 1}, a b]}}", "1e-05 -1 true v1.2 p4 p5 p6 p7 p8"),
        ("{arms: {a: {config: other}, A-: {overrides: []}}, axes: null}", ["a", "A-"]),
        ("{arms: {a: [model=big]}, axes: {model.hidden: [1], db@x: [y]}}", ["a_1_y"]),
    ],
)
def test_grid_point_names(text, expected):
    assert names(text) == (expected.split() if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", "grid: must be a mapping with arms, axes or both."),
        ("{arms: {a: []}, seeds: [1]}", 'grid: unknown key "seeds"; expected one of: arms, axes.'),
        ("{}", "grid: no arms and no axes. Write at least one of them."),
        ("{arms: {}, axes: {}}", "grid: no arms and no axes. Write at least one of them."),
        ("{arms: [a]}", "grid: arms must be a mapping of names to lists of overrides, like {wide: [lr=6e-4]}."),
        ("{axes: [a]}", "grid: axes must be a mapping of keys to lists of values, like {seed: [0, 1, 2]}."),
        ("{arms: {a.b: []}}", 'arm "a.b": the name must be a letter, then letters, digits, - or _.'),
        ("{arms: {1: []}}", "arm 1: the name must be a letter, then letters, digits, - or _."),
        ("{arms: {a: x=1}}", "arm a: it must be a list of overrides, or a mapping of config and overrides."),
        ("{arms: {a: }}", "arm a: it must be a list of overrides, or a mapping of config and overrides."),
        ("{arms: {a: {confg: x}}}", 'arm a: unknown key "confg"; expected one of: config, overrides.'),
        ("{arms: {a: {config: x.yaml}}}", "arm a: config must be the name of a file in conf/, without .yaml."),
        ("{arms: {a: {config: }}}", "arm a: config must be the name of a file in conf/, without .yaml."),
        ("{arms: {a: [lr: 1]}}", "arm a: {'lr': 1} is not an override. Write KEY=VALUE."),
        ("{arms: {a: [lr]}}", 'arm a: "lr" is not an override. Write KEY=VALUE.'),
        ("{arms: {a: [--cfg=job]}}", 'arm a: "--cfg=job" is not an override. Write KEY=VALUE.'),
        ("{arms: {a: [lr=1, +lr=2]}}", "arm a: it sets lr twice. Remove one."),
        ("{arms: {a: [point=b]}}", "arm a: point cannot be set, because the point determines it. Remove it."),
        (
            "{axes: {hydra.run.dir: [b]}}",
            "axis hydra.run.dir: hydra.run.dir cannot be set, because",
        ),
        ("{axes: {seed: 3}}", "axis seed: it must be a list of at least one value."),
        ("{axes: {seed: []}}", "axis seed: it must be a list of at least one value."),
        ("{axes: {1: [1]}}", "axis 1: the name must be a key of the configuration, like model.hidden."),
        ("{axes: {seed: [1], +seed: [2]}}", "axis seed: it is given twice. Remove one."),
        ("{axes: {day: [0, 2020-01-01]}}", "axis day: value 1: a value of type date cannot be an override."),
        ("{axes: {d: [{'a b': 1}]}}", 'axis d: value 0: the key "a b" cannot be in an override.'),
        ("{arms: {a: [], b: [++seed=1]}, axes: {seed: [1]}}", "arm b: it sets seed, which is an axis."),
        ("{arms: {b: ['~m@p']}, axes: {m@p: [1]}}", "arm b: it sets m@p, which is an axis."),
        ("{arms: {a: [], A: []}}", "point a and A: two points have this name (a; A)."),
        ("{axes: {x: [1, '1']}}", "point 1: two points have this name (x=1; x=1)."),
        ("{arms: {a: [], a_b: []}, axes: {x: [b_c, c]}}", "point a_b_c: two points have this name (a x=b_c; a_b x=c)."),
        ("{axes: {x: [%s]}}" % ("y" * 151), "has more than 150 characters. Shorten the arm."),
    ],
)
def test_grid_wrong_is_refused_by_name(text, message):
    with pytest.raises(GridError) as error:
        parsed(text)
    [line] = str(error.value).splitlines()
    assert message in line


def test_nearest_names_come_best_first():
    assert nearest("wid_0", ["reference_0", "wide_1", "wide_0"])[:2] == ["wide_0", "wide_1"]


KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
SYNTAX = st.text(st.sampled_from("\\'\"${}[]():=,. \t\n~+-@x1"))
VALUES = st.recursive(
    SCALARS | SYNTAX, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


@given(VALUES)
def test_grid_value_is_what_hydra_reads(value):
    try:
        text = override_text(value)
    except ValueError as error:
        assert "the key" in str(error)
        return
    override = OverridesParser.create().parse_override(f"key={text}")
    assert not override.is_sweep_override()
    found = override.value()
    assert same(found, value), text


def same(found, value):
    """Compare values with their types: 1, 1.0 and True are equal in Python."""
    if isinstance(value, str):
        return str(found) == value and not isinstance(found, bool | int | float)
    if isinstance(value, list):
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, dict):
        return list(map(str, found)) == list(value) and all(map(same, found.values(), value.values()))
    return type(found) is type(value) and (found == value or math.isnan(value))
