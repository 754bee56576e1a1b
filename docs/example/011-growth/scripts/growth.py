# experiments/011-growth/scripts/growth.py
# [[experiments.011-growth.scripts.growth]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/growth.py
# /// script
# requires-python = ">=3.10,<3.14"
# dependencies = [
#   "hydra-core>=1.3", "matplotlib>=3.6", "numpy>=1.23", "python-dotenv>=1.0",
# ]
# ///
"""Simulate noisy growth curves of several strains, and estimate their growth rates."""

import os.path as osp

from dotenv import load_dotenv
from runtime import CONF, Run, find_env, require_folders

load_dotenv(find_env())
DATA_ROOT, ASSET_IMAGES_DIR, EXPERIMENT_ROOT = require_folders(
    "DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"
)
import hydra  # noqa: E402

from torchcell.timestamp import timestamp  # noqa: E402


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
    """Draw densities as points and fitted curves as lines."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6.4, 4), layout="constrained").subplots()
    for number, (row, hours, density, fit) in enumerate(strains):
        label = f"{row['strain']}: {row['fitted_rate']:.3f} per hour"
        axes.plot(hours, density, f"C{number}o", markersize=3)
        axes.plot(hours, fit, f"C{number}", label=label)
    axes.set(xlabel="Time (hours)", ylabel="Optical density (600 nm)", yscale="log")
    axes.set_title(title, parse_math=False, wrap=True)
    axes.legend(title="Fitted growth rate", frameon=False)
    return axes.figure


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
