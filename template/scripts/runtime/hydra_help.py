"""A remedy for Hydra 1.3 on Python 3.14, where no script with hydra.main starts. Remove it with Hydra 1.3.

argparse looks for "%" in each help text there, and one of Hydra 1.3's is an object that is no text.
"""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version

UNCHANGED = argparse.HelpFormatter._get_help_string


def mend() -> None:
    if is_needed(sys.version_info[:2], hydra_version()):
        setattr(argparse.HelpFormatter, "_get_help_string", text_of_help)  # noqa: B010


def undo() -> None:
    setattr(argparse.HelpFormatter, "_get_help_string", UNCHANGED)  # noqa: B010


def is_needed(python: tuple[int, ...], hydra: tuple[int, ...]) -> bool:
    return python == (3, 14) and (1, 0) <= hydra < (1, 4)


def hydra_version() -> tuple[int, ...]:
    """Return the first two numbers of Hydra's version; none if it is not installed."""
    try:
        return tuple(int(number) for number in version("hydra-core").split(".")[:2])
    except PackageNotFoundError:
        return ()


def text_of_help(formatter: argparse.HelpFormatter, action: argparse.Action) -> str | None:
    """Return an option's help as argparse takes it. Hydra prints its own help, and not argparse's."""
    return UNCHANGED(formatter, action) if isinstance(action.help, str) else ""
