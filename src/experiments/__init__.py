"""Manage many experiments: update them, add and change runs, list what ran, and check them.

In Python, `from experiments import runs` reads the records of runs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.api import runs as runs


def __getattr__(name: str) -> Any:
    """Import `runs` when it is used: the commands start faster without it."""
    if name == "runs":
        from experiments.api import runs

        return runs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
