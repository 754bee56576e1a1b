"""Draw the figures of a sweep's report for a column of a journal, which is 88 mm wide."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, combinations
from math import isfinite
from typing import TYPE_CHECKING, Any

import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from runtime.optuna_study import Study

WIDTH = 88  # mm
BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#999999"  # readers with any color vision can tell them apart
STYLE: dict[Any, Any] = dict.fromkeys(["xtick.major.width", "ytick.major.width", "axes.linewidth"], 0.6)
STYLE |= dict.fromkeys(["font.size", "axes.titlesize", "figure.titlesize", "figure.labelsize", "legend.fontsize"], 7)
STYLE |= dict.fromkeys(["axes.spines.top", "axes.spines.right", "legend.frameon"], False)
STYLE |= {"lines.linewidth": 1, "lines.markersize": 3, "legend.borderaxespad": 0, "legend.handlelength": 1.5}
LONGEST_ROW = 18  # letters under a panel; more labels are turned
LONGEST_LABEL = 16  # letters


def draw_figures(study: "Study") -> Iterator[tuple[str, Figure]]:
    """Yield the name of each figure of a study, and the figure. At least two trials must be complete.

    Draw and save the figures within `matplotlib.rc_context(STYLE)`.
    """
    trials, directions = study.trials("COMPLETE"), study.sweep.directions
    if len(directions) > 1:
        yield "pareto_front", draw_front(trials, study.best(), directions)
        for number in range(len(directions)):
            yield f"optimization_history_{number}", draw_history(trials, number, directions)
            if any(trial.params for trial in trials):
                yield f"slice_{number}", draw_slice(trials, number, directions)
        return
    yield "optimization_history", draw_history(trials, 0, directions)
    has_params = any(trial.params for trial in trials)
    if has_params and not study.is_constant():  # no param explains equal values
        yield "param_importances", draw_importances(optuna.importance.get_param_importances(study.study))
    if has_params:
        yield "slice", draw_slice(trials, 0, directions)
    curves = {"pruned": study.trials("PRUNED"), "complete": trials, "best": study.best()[:1]}
    if any(trial.intermediate_values for kind in curves.values() for trial in kind):
        yield "intermediate_values", draw_curves(curves)


def new_figure(height: float) -> Figure:
    """Return an empty figure of a column's width. `height` is in millimeters."""
    return Figure(figsize=(WIDTH / 25.4, height / 25.4), dpi=300, layout="constrained")


def value_label(number: int, directions: Sequence[str]) -> str:
    """Return the title of an axis: the value has the name that the report's table gives it."""
    name = "Objective value" if len(directions) == 1 else f"value_{number}"
    return f"{name} ({directions[number]}d)"


def add_legend(axes: "Axes") -> None:
    """Put a legend above the axes, where it cannot cover data."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1.02), ncols=3)


def set_value_scale(axes: "Axes", values: Sequence[float]) -> None:
    """Choose a logarithmic axis for values that differ by more than a factor of 100."""
    finite = [value for value in values if isfinite(value)]
    if finite and 0 < 100 * min(finite) < max(finite):
        axes.set_yscale("log")


def draw_history(trials: Sequence[FrozenTrial], number: int, directions: Sequence[str]) -> Figure:
    """Draw the value of each trial as a point, and the best value so far as a line."""
    figure = new_figure(55)
    axes = figure.subplots()
    values = [trial.values[number] for trial in trials]
    numbers = [trial.number for trial in trials]
    best = list(accumulate(values, min if directions[number] == "minimize" else max))
    axes.plot(numbers, values, "o", color=BLUE, label="trial")
    axes.step(numbers, best, where="post", color=ORANGE, label="best so far")
    set_value_scale(axes, values)
    axes.set(xlabel="Trial", ylabel=value_label(number, directions))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return figure


def draw_importances(importances: Mapping[str, float]) -> Figure:
    """Draw a bar for each param, the most important one first."""
    figure = new_figure(18 + 5 * len(importances))
    axes = figure.subplots()
    bars = axes.barh(list(importances), list(importances.values()), height=0.7, color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=2)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("Importance (fraction of the sum)")
    return figure


def draw_slice(trials: Sequence[FrozenTrial], number: int, directions: Sequence[str]) -> Figure:
    """Draw a panel for each param: the value of each trial over that of the param. The color is the trial's number."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    columns, rows = min(2, len(names)), (len(names) + 1) // 2
    figure = new_figure(12 + 34 * rows)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        own = [trial for trial in trials if name in trial.params]
        places = param_places(panel, [trial.params[name] for trial in own], own[-1].distributions[name])
        values, numbers = [trial.values[number] for trial in own], [trial.number for trial in own]
        edges = {"edgecolors": "black", "linewidths": 0.3}
        points = panel.scatter(places, values, 8, numbers, vmin=trials[0].number, vmax=trials[-1].number, **edges)
        panel.set_xlabel(name)
    for panel in panels.flat[len(names) :]:
        panel.remove()
    set_value_scale(panels[0, 0], [trial.values[number] for trial in trials])
    figure.supylabel(value_label(number, directions))
    bar = figure.colorbar(points, ax=figure.axes, label="Trial", aspect=40, ticks=MaxNLocator(5, integer=True))
    bar.outline.set_linewidth(0)
    return figure


def param_places(panel: "Axes", values: Sequence[Any], distribution: Any) -> list[Any]:
    """Return where a panel has the values of a param, and set the scale and the labels of its axis."""
    if isinstance(distribution, CategoricalDistribution):
        labels = [shorten(str(choice)) for choice in distribution.choices]
        panel.set_xticks(range(len(labels)), labels, parse_math=False)
        panel.set_xlim(-0.5, len(labels) - 0.5)
        if sum(map(len, labels)) > LONGEST_ROW:
            panel.tick_params(axis="x", labelrotation=90)
        return [distribution.choices.index(value) for value in values]
    if getattr(distribution, "log", False):
        panel.set_xscale("log")
        if max(values) < 10 * min(values):  # an axis without a power of ten
            panel.xaxis.set_major_locator(MaxNLocator(3))
            panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
    return list(values)


def shorten(label: str) -> str:
    """Return a label without its middle if it is long."""
    return label if len(label) <= LONGEST_LABEL else f"{label[:9]}…{label[-6:]}"


def draw_curves(curves: Mapping[str, Sequence[FrozenTrial]]) -> Figure:
    """Draw the intermediate values of each trial as a line. Later kinds are drawn above earlier ones."""
    figure = new_figure(55)
    axes = figure.subplots()
    for (kind, trials), color in zip(curves.items(), (GRAY, BLUE, ORANGE), strict=True):
        width = 1.5 if kind == "best" else 0.6
        for number, trial in enumerate(trials):
            steps, values = list(trial.intermediate_values), list(trial.intermediate_values.values())
            axes.plot(steps, values, ".-", ms=2 * width, color=color, lw=width, label="" if number else kind)
    axes.set(xlabel="Step", ylabel="Reported value")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return figure


def draw_front(trials: Sequence[FrozenTrial], front: Sequence[FrozenTrial], directions: Sequence[str]) -> Figure:
    """Draw a panel for each pair of values, with the Pareto front in a color of its own."""
    pairs = list(combinations(range(len(directions)), 2))
    columns, rows = min(2, len(pairs)), (len(pairs) + 1) // 2
    figure = new_figure(60 if len(pairs) == 1 else 12 + 40 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    best = [trial.number for trial in front]
    others = [trial for trial in trials if trial.number not in best]
    for panel, (x, y) in zip(panels.flat, pairs, strict=False):
        for label, color, shown in (("other trials", GRAY, others), ("Pareto front", ORANGE, front)):
            places = [[trial.values[axis] for trial in shown] for axis in (x, y)]
            panel.plot(*places, "o", color=color, label=label)
        panel.set(xlabel=value_label(x, directions), ylabel=value_label(y, directions))
    for panel in panels.flat[len(pairs) :]:
        panel.remove()
    add_legend(panels[0, -1])
    return figure
