"""Make Hydra 1.3 work on Python 3.14. Remove this module when Hydra 1.3 is not supported any more.

Since Python 3.14, argparse searches each help text for "%". One help text of Hydra 1.3 is not a string, and without
this patch every script with hydra.main fails when it starts.
"""

import argparse
import re
import sys

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
