"""Print tables and progress. Foreign text is never read as markup."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from experiments.errors import one_line

WIDE = 1_000_000  # columns if the output is not a terminal: lines are never broken there

Item = TypeVar("Item")


class PlainConsole(Console):
    """A console that raises BrokenPipeError to its caller, where rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise  # the error that rich is handling


def make_console() -> Console:
    return PlainConsole(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def show_progress(title: str, items: Sequence[Item]) -> Iterator[Item]:
    """Yield the items, with a progress bar in a terminal."""
    console = Console(stderr=True)
    yield from track(items, title, console=console, disable=not console.is_terminal, transient=True)


def show_cells(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table of text. A terminal folds long cells; elsewhere each row is one line without trailing blanks."""
    table = Table(*titles, box=None, pad_edge=False)
    for number, row in enumerate(rows):
        style = styles[number] if styles else ""
        table.add_row(*(Text(one_line(cell), style=style, overflow="fold") for cell in row))
    console = make_console()
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    print("\n".join(lines if console.is_terminal else map(str.rstrip, lines)))
