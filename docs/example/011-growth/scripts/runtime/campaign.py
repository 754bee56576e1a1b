"""Read the grid of a configuration, and give a script the overrides of its point.

A script gets its point by the words `--config-name CONFIG point=NAME`. `expand_arguments` replaces them by those that
Hydra composes: `--config-name CONFIG ++config=CAMPAIGN ++point=NAME OVERRIDE...`.
"""

import os.path as osp
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.grid import UNHASHED, Grid, GridError, Point, nearest, override_text
from runtime.hydra_yaml import load_grid
from runtime.paths import CONF, receipt_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

TYPED, EXPANDED = "point=", "++point="
CONFIG_OPTIONS = ("--config-name", "-cn")
WORD = re.compile(r"[A-Za-z0-9_-]+")

UNHASHED_OVERRIDE = re.compile(rf"[+~]*({'|'.join(UNHASHED)})([.@=].*)?", re.DOTALL)


# The grid -------------------------------------------------------------------------------------------------------------


def read_grid(config: str) -> Grid | None:
    """Return the grid in a file of conf/, or None if there is none or it is null. Raises GridError."""
    try:
        with open(osp.join(CONF, f"{config}.yaml"), encoding="utf-8") as file:
            value = load_grid(file.read())
        return None if value is None else Grid.parse(value)
    except FileNotFoundError:
        raise GridError(f"conf/{config}.yaml: this file does not exist.") from None
    except (OSError, ValueError, GridError) as error:
        raise GridError(f"conf/{config}.yaml: {' '.join(str(error).split())}") from None


def configuration_hash(cfg: "DictConfig") -> str:
    """Return the hash of a composed configuration."""
    from omegaconf import OmegaConf

    values: Any = OmegaConf.to_container(cfg, resolve=False)
    return hash_values(values)


def hash_values(values: Mapping[str, Any]) -> str:
    """Return a hash of an unresolved configuration, without the keys that change nothing of what a run computes."""
    import json
    from hashlib import sha256

    kept = {key: value for key, value in values.items() if key not in UNHASHED}
    return sha256(json.dumps(with_text_keys(kept), sort_keys=True, default=str).encode()).hexdigest()[:16]


def with_text_keys(value: Any) -> Any:
    """Return a value with text as the keys of all mappings, because JSON cannot sort keys of different types."""
    if isinstance(value, dict):
        return {repr(key): with_text_keys(item) for key, item in value.items()}
    return [with_text_keys(item) for item in value] if isinstance(value, list) else value


# The point of this process --------------------------------------------------------------------------------------------


class ChosenPoint(NamedTuple):
    """The point that this process computes.

    config    the configuration that has the grid
    campaign  the name of its folder: CONFIG, or CONFIG.NAME with other overrides
    """

    config: str
    campaign: str
    point: Point

    @property
    def overrides(self) -> list[str]:
        """What a script with conf/runtime.yaml is given for this point."""
        point = override_text(self.point.name)
        return [f"++config={override_text(self.campaign)}", f"{EXPANDED}{point}", *self.point.overrides]

    @property
    def facts(self) -> dict[str, Any]:
        """What the record of a run has about its point."""
        point = self.point
        return {"campaign": self.campaign, "point": point.name, "arm": point.arm, "axes": point.values}


CHOSEN: list[ChosenPoint] = []  # at most one


def chosen_point() -> ChosenPoint | None:
    """Return the point of this process, or None if it computes none."""
    return CHOSEN[0] if CHOSEN else None


def expand_arguments() -> None:
    """Replace `point=NAME` in sys.argv by the point's overrides. Exits if the point or the grid is wrong."""
    words = list.copy(sys.argv)  # a method of `list`, because the preflight records if a script reads its arguments
    try:
        words, chosen = expand(words)
    except GridError as error:
        sys.exit(str(error))
    if chosen:
        sys.argv[:] = words
        CHOSEN.append(chosen)


def expand(words: list[str], has_runtime: bool = True) -> tuple[list[str], ChosenPoint | None]:
    """Return the words of a script with the overrides of its point, and that point. Raises GridError.

    A script without conf/runtime.yaml gets only the overrides of the grid.
    """
    chosen = [word for word in words[1:] if word.startswith((TYPED, EXPANDED))]
    if not chosen:
        return words, None
    if len(chosen) > 1:
        raise GridError(f"{' '.join(chosen)}: a run computes one point. Remove one of them.")
    if chosen[0].startswith(EXPANDED):
        return words, expanded_point(words, chosen[0])
    return expand_point(words, chosen[0], has_runtime)


def expand_point(words: list[str], word: str, has_runtime: bool) -> tuple[list[str], ChosenPoint]:
    """Replace a word `point=NAME`."""
    config = typed_config(words)
    if not config:
        raise GridError(f"{word}: it needs a configuration. Write --config-name CONFIG {word}")
    chosen = ChosenPoint(config, campaign_of(config, words), find_point(config, word.removeprefix(TYPED)))
    words = [*words]
    words[config_place(words)] = ["--config-name", chosen.point.config or config]
    typed = [each for each in words if each not in (word, f"config={chosen.campaign}")]
    refuse_overrides(config, chosen.campaign, typed, word)
    return with_overrides(typed, chosen.overrides if has_runtime else chosen.point.overrides), chosen


def expanded_point(words: Sequence[str], word: str) -> ChosenPoint:
    """Return the point of words that another process has expanded: PyTorch Lightning starts its ranks with them."""
    [campaign] = [each.partition("=")[2].strip("'") for each in words if each.startswith("++config=")] or [""]
    if not campaign:
        raise GridError(f"{word}: write it without ++.")
    config = campaign if osp.exists(osp.join(CONF, f"{campaign}.yaml")) else campaign.rpartition(".")[0]
    return ChosenPoint(config, campaign, find_point(config, word.removeprefix(EXPANDED).strip("'")))


def config_place(words: Sequence[str]) -> slice:
    """Return the place of `--config-name CONFIG` among words. It is empty if there is none."""
    for number, word in enumerate(words[1:], 1):
        if word in CONFIG_OPTIONS:
            return slice(number, number + 2)
        if word.startswith(tuple(f"{option}=" for option in CONFIG_OPTIONS)):
            return slice(number, number + 1)
    return slice(len(words), len(words))


def typed_config(words: Sequence[str]) -> str:
    """Return the configuration that words name, or an empty text."""
    place = words[config_place(words)]
    return place[-1].rpartition("=")[2] if place and place[-1] not in CONFIG_OPTIONS else ""


def find_point(config: str, name: str) -> Point:
    """Return a point of a configuration's grid. Raises GridError with the nearest names if there is none."""
    grid = read_grid(config)
    if grid is None:
        raise GridError(f"point={name}: conf/{config}.yaml has no grid. Remove point=.")
    for point in grid.points:
        if point.name == name:
            return point
    names = [point.name for point in grid.points]
    close = ", ".join(nearest(name, names))
    raise GridError(f'unknown point "{name}" of {config}; the nearest of its {len(names)} points: {close}')


def campaign_of(config: str, words: Sequence[str] = ()) -> str:
    """Return CONFIG, or CONFIG.NAME if the submission or a word `config=CONFIG.NAME` has a name. Raises GridError."""
    if name := submission_name():
        return f"{config}.{name}"
    for word in words:
        campaign = word.partition("=")[2] if word.startswith("config=") else config
        if campaign != config:
            if not campaign.startswith(f"{config}.") or not WORD.fullmatch(campaign[len(config) + 1 :]):
                raise GridError(f"{word}: it must be config={config}.NAME, with a NAME of letters, digits, - and _.")
            return campaign
    return config


def submission_name() -> str:
    """Return the NAME of `submit.sh --name NAME`, which the receipt has; else an empty text."""
    path = receipt_file("name")
    if not osp.isfile(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def with_overrides(words: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the words of a script with further overrides before the others, because Hydra takes all in one place."""
    first = next((number for number, each in enumerate(words) if number and is_override(each)), len(words))
    return [*words[:first], *overrides, *words[first:]]


def refuse_overrides(config: str, campaign: str, words: Sequence[str], point: str) -> None:
    """Raise GridError if typed overrides would change what a point computes, unless the campaign has its own name."""
    overrides = [word for word in words[1:] if is_override(word)]
    changes = [word for word in overrides if not UNHASHED_OVERRIDE.fullmatch(word)]
    if changes and campaign == config:
        raise GridError(
            f"{point} {' '.join(changes)}: other overrides need their own folder. "
            f"Add config={config}.NAME, or remove them."
        )


def is_override(word: str) -> bool:
    """Return whether a word is a Hydra override."""
    return not word.startswith("-") and ("=" in word or word.startswith("~"))
