# experiments/011-growth/scripts/growth.py
# [[experiments.011-growth.scripts.growth]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/growth.py
# /// script
# requires-python = ">=3.10,<3.14"
# dependencies = ["hydra-core>=1.3", "matplotlib>=3.6", "numpy>=1.23", "python-dotenv>=1.0", "tqdm>=4.64"]
# ///
"""Simulate the growth of a wild type and its mutants, and fit their growth rates."""

import csv
import os.path as osp

from dotenv import load_dotenv
from runtime import Run, create, replace, require_folders

load_dotenv()
DATA_ROOT, ASSET_IMAGES_DIR, EXPERIMENT_ROOT = require_folders("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT")

import hydra  # noqa: E402
from torchcell.timestamp import timestamp  # noqa: E402


def simulate(cfg):
    """Hours, and of each strain its rate, fitted rate (per hour), measured and fitted optical density at each hour."""
    import numpy as np
    from tqdm import tqdm

    np.seterr(divide="raise", invalid="raise")
    random = np.random.default_rng(cfg.seed)
    hours = np.arange(0, cfg.hours, cfg.interval)
    strains = {}
    for strain, rate in tqdm(cfg.strains.items(), disable=None):
        density = cfg.capacity / (1 + (cfg.capacity / cfg.start - 1) * np.exp(-rate * hours))
        density *= random.lognormal(sigma=cfg.noise, size=hours.size)
        growing = density < 0.5 * cfg.capacity
        log_odds = np.log(density[growing] / (cfg.capacity - density[growing]))
        line = np.polyfit(hours[growing], log_odds, 1)
        strains[strain] = rate, line[0], density, cfg.capacity / (1 + np.exp(-np.polyval(line, hours)))
    return hours, strains


def plot(title, hours, strains):
    """Measured densities as points and fitted logistic growth as lines, one colour a strain."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for strain, (_, rate, measured, fitted) in strains.items():
        (points,) = axes.plot(hours, measured, "o", markersize=3)
        axes.plot(hours, fitted, color=points.get_color(), label=f"{strain}: {rate:.3f} per hour")
    axes.set(xlabel="Time (hours)", ylabel="Optical density (600 nm)", yscale="log")
    axes.set_title(title, parse_math=False, wrap=True)
    axes.legend(title="Fitted growth rate", frameon=False)
    return figure


@hydra.main(version_base="1.3", config_path="../conf", config_name="default")
def main(cfg):
    """One run. Returns the mean absolute error of the fitted rates, per hour."""
    with Run(cfg) as run:
        hours, strains = simulate(cfg)
        figure = plot(cfg.title, hours, strains)
        with create(lambda: osp.join(ASSET_IMAGES_DIR, f"{run.title}_{timestamp()}.png")) as image:
            figure.savefig(image, dpi=150, metadata=run.metadata)
        with replace(osp.join(EXPERIMENT_ROOT, "011-growth", "results", f"{run.name}.csv")) as table:
            rows = csv.writer(table, lineterminator="\n")
            rows.writerow(["strain", "rate", "fitted_rate"])
            rows.writerows([strain, rate, f"{fitted:.4f}"] for strain, (rate, fitted, *_) in strains.items())
        error = sum(abs(fitted - rate) for rate, fitted, *_ in strains.values()) / len(strains)
        run.log(error=error)
        print(f"figure: {image.name}\nfolder: {cfg.folder}")
    return error


if __name__ == "__main__":
    main()
