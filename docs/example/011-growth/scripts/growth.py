# experiments/011-growth/scripts/growth.py
# [[experiments.011-growth.scripts.growth]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/growth.py
# /// script
# requires-python = ">=3.10,<3.14"
# dependencies = ["hydra-core>=1.3", "matplotlib>=3.6", "numpy>=1.23", "python-dotenv>=1.0"]
# ///
"""Simulate the growth of a wild type and its mutants with noise, and fit lines to the log odds of its first half."""

import os.path as osp
from types import SimpleNamespace

from dotenv import load_dotenv
from runtime import CONF, Run, find_env, require_folders

load_dotenv(find_env())
DATA_ROOT, ASSET_IMAGES_DIR, EXPERIMENT_ROOT = require_folders("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")
import hydra  # noqa: E402
from torchcell.timestamp import timestamp  # noqa: E402


def grow(cfg):
    import numpy as np

    hours, random = np.arange(0, cfg.hours, cfg.interval), np.random.default_rng(cfg.seed)
    for strain, rate in cfg.strains.items():
        exact = cfg.capacity / (1 + (cfg.capacity / cfg.start - 1) * np.exp(-rate * hours))
        density = exact * random.lognormal(sigma=cfg.noise, size=hours.size)
        half = density < 0.5 * cfg.capacity
        slope, offset = np.polyfit(hours[half], np.log(density[half] / (cfg.capacity - density[half])), 1)
        fit = cfg.capacity / (1 + np.exp(-(slope * hours + offset)))
        yield SimpleNamespace(strain=strain, rate=rate, fitted_rate=slope, hours=hours, density=density, fit=fit)


def plot(title, strains):
    from matplotlib.figure import Figure

    axes = Figure(figsize=(6.4, 4), layout="constrained").subplots()
    for number, each in enumerate(strains):
        axes.plot(each.hours, each.density, f"C{number}o", markersize=3)
        axes.plot(each.hours, each.fit, f"C{number}", label=f"{each.strain}: {each.fitted_rate:.3f} per hour")
    axes.set(xlabel="Time (hours)", ylabel="Optical density (600 nm)", yscale="log")
    axes.set_title(title, parse_math=False, wrap=True)
    axes.legend(title="Fitted growth rate", frameon=False)
    return axes.figure


@hydra.main(version_base="1.3", config_path=CONF, config_name="growth_gh_000")
def main(cfg):
    with Run(cfg) as run:
        strains = list(grow(cfg))
        run.save(plot(cfg.title, strains), osp.join(ASSET_IMAGES_DIR, f"{run.stem}_{timestamp()}.png"))
        run.table({"strain": each.strain, "rate": each.rate, "fitted_rate": each.fitted_rate} for each in strains)
        error = float(sum(abs(each.fitted_rate - each.rate) for each in strains) / len(strains))
        run.log(error=error)
    return error


if __name__ == "__main__":
    main()
