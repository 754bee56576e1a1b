"""A remedy for Hydra 1.3 on Python 3.14, where no script with hydra.main starts. Remove it with Hydra 1.3.

argparse looks for "%" in each help text there, and one of Hydra 1.3's is an object that is no text.
"""

import argparse
import re
import sys

AFFECTED = (3, 14)
UNCHANGED = argparse.HelpFormatter._get_help_string


def mend() -> None:
    if sys.version_info[:2] == AFFECTED and has_hydra_1_3():
        setattr(argparse.HelpFormatter, "_get_help_string", text_of_help)  # noqa: B010


def undo() -> None:
    setattr(argparse.HelpFormatter, "_get_help_string", UNCHANGED)  # noqa: B010


def has_hydra_1_3() -> bool:
    """Whether Hydra is installed in a version before 1.4."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        numbers = re.findall(r"\d+", version("hydra-core"))
    except PackageNotFoundError:
        return False
    return [int(number) for number in numbers[:2]] < [1, 4]


def text_of_help(formatter: argparse.HelpFormatter, action: argparse.Action) -> str | None:
    """Return an option's help as argparse takes it. Hydra prints its own help, and not argparse's."""
    return UNCHANGED(formatter, action) if isinstance(action.help, str) else ""
