"""What a person sees: tables and progress. Text of others is never markup."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from experiments.errors import one_line

WIDE = 1_000_000  # columns where the output is no terminal: a line is never broken there

Item = TypeVar("Item")


@dataclass
class Row:
    """Of the table of an update."""

    name: str
    old: str = ""
    new: str = ""
    result: str = ""
    failed: bool = False


class PlainConsole(Console):
    """Leaves a pipe that was closed to who runs the command: rich would end the process with 1."""

    def on_broken_pipe(self) -> None:
        raise  # the error that rich has caught


def make_console() -> Console:
    return PlainConsole(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def show_progress(title: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items, with a bar in a terminal."""
    console = Console(stderr=True)
    yield from track(items, title, console=console, disable=not console.is_terminal, transient=True)


def show_table(titles: Sequence[str], rows: Sequence[Row]) -> None:
    """The rows of an update."""
    cells = [(row.name, row.old, row.new, row.result) for row in rows]
    styles = ["" if not row.failed else "yellow" for row in rows]
    show_cells(titles, cells, styles)


def show_cells(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """A table of text. In a terminal a long last column is folded; elsewhere no line ends in blanks."""
    table = Table(*titles, box=None, pad_edge=False)
    for number, row in enumerate(rows):
        style = styles[number] if styles else ""
        table.add_row(*(Text(one_line(cell), style=style, overflow="fold") for cell in row))
    console = make_console()
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    print("\n".join(lines if console.is_terminal else map(str.rstrip, lines)))
