# experiments/011-growth/scripts/growth.py
# [[experiments.011-growth.scripts.growth]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/growth.py
# /// script
# requires-python = ">=3.10,<3.16"
# dependencies = [
#   "hydra-core>=1.3,<1.5", "matplotlib>=3.6", "numpy>=1.23", "python-dotenv>=1.0",
# ]
# ///
"""Simulate noisy growth curves of several strains, and estimate their growth rates."""

import os.path as osp
from itertools import cycle

from dotenv import load_dotenv
from runtime import CONF, Run, find_env, require_folders

load_dotenv(find_env())
DATA_ROOT, ASSET_IMAGES_DIR, EXPERIMENT_ROOT = require_folders(
    "DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"
)
import hydra  # noqa: E402

from torchcell.timestamp import timestamp  # noqa: E402

# Colors that color-blind readers can tell apart, and markers for prints without color
LOOKS = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^")]


def grow(cfg):
    """Yield each strain's rates, with hours, densities and the fitted curve."""
    import numpy as np

    hours = np.arange(0, cfg.hours, cfg.interval)
    random = np.random.default_rng(cfg.seed)
    for strain, rate in cfg.strains.items():
        odds = (cfg.capacity / cfg.start - 1) * np.exp(-rate * hours)
        noise = random.lognormal(sigma=cfg.noise, size=hours.size)
        density = cfg.capacity / (1 + odds) * noise
        half = density < 0.5 * cfg.capacity
        log_odds = np.log(density[half] / (cfg.capacity - density[half]))
        slope, offset = np.polyfit(hours[half], log_odds, 1)
        fit = cfg.capacity / (1 + np.exp(-(slope * hours + offset)))
        row = {"strain": strain, "rate": rate, "fitted_rate": slope}
        yield row, hours, density, fit


def plot(title, strains):
    """Draw densities as points and fitted curves as lines, for a column of 88 mm."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 8}):
        figure = Figure(figsize=(88 / 25.4, 60 / 25.4), dpi=300, layout="constrained")
        axes = figure.subplots()
        for (row, hours, density, fit), look in zip(strains, cycle(LOOKS)):
            color, marker = look
            label = f"{row['strain']}: {row['fitted_rate']:.3f} per hour"
            axes.plot(hours, density, marker, color=color, markersize=2, label=label)
            axes.plot(hours, fit, color=color, linewidth=1)
        axes.set(xlabel="Time (hours)", ylabel="Optical density at 600 nm")
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(title, parse_math=False, wrap=True)
        axes.legend(title="Fitted growth rate", markerscale=2, frameon=False)
    return figure


@hydra.main(version_base="1.3", config_path=CONF, config_name="growth_gh_000")
def main(cfg):
    """Save a figure and a table of the fitted rates, and return their mean error."""
    with Run(cfg) as run:
        strains = list(grow(cfg))
        rows = [row for row, *_ in strains]
        image = osp.join(ASSET_IMAGES_DIR, f"{run.stem}_{timestamp()}.png")
        run.save(plot(cfg.title, strains), image)
        run.table(rows)
        errors = [abs(row["fitted_rate"] - row["rate"]) for row in rows]
        error = float(sum(errors) / len(errors))
        run.log(error=error)
    return error


if __name__ == "__main__":
    main()
