"""Support Hydra 1.3 and 1.4. Delete this module together with the support of Hydra 1.3.

Since Python 3.14, argparse searches each help text for "%". One help text of Hydra 1.3 is not a string, and without
this patch every script with hydra.main fails when it starts.

Hydra 1.4 warns about what Hydra 1.3 requires: `version_base`, and callbacks that no execution whitelist names.
"""

import argparse
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

AFFECTED = (3, 14)
UNCHANGED = argparse.HelpFormatter._get_help_string


def patch_argparse() -> None:
    if sys.version_info[:2] == AFFECTED and has_hydra_1_3():
        setattr(argparse.HelpFormatter, "_get_help_string", text_of_help)  # noqa: B010


def restore_argparse() -> None:
    setattr(argparse.HelpFormatter, "_get_help_string", UNCHANGED)  # noqa: B010


def has_hydra_1_3() -> bool:
    """Return whether the installed Hydra is older than 1.4."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        numbers = re.findall(r"\d+", version("hydra-core"))
    except PackageNotFoundError:
        return False
    return [int(number) for number in numbers[:2]] < [1, 4]


def text_of_help(formatter: argparse.HelpFormatter, action: argparse.Action) -> str | None:
    """Return an option's help as a string. It is never printed: Hydra prints a help of its own."""
    return UNCHANGED(formatter, action) if isinstance(action.help, str) else ""


def ignore_warnings_of_1_4() -> None:
    """Ignore its warnings about what only Hydra 1.4 can omit, and no others."""
    warnings.filterwarnings("ignore", "The version_base parameter is deprecated")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"hydra\._internal\.callbacks")


def instantiate_trusted(config: Mapping[str, Any], **arguments: Any) -> Any:
    """Instantiate a configuration of the experiment. Hydra 1.4 demands the names of the classes that it may use."""
    from hydra.utils import instantiate

    if not has_hydra_1_3():
        arguments["_execution_whitelist_"] = list(targets(config))
    return instantiate(config, **arguments)


def targets(value: Any) -> Iterator[str]:
    """Yield the classes that a configuration names, with those of its parts."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield str(value["_target_"])
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from targets(part)
