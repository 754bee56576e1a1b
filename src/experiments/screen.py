"""Print tables and progress. Foreign text is never read as markup."""

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table
from rich.text import Text

from experiments.errors import one_line

WIDE = 1_000_000  # columns if the output is not a terminal: lines are never broken there
GAP = 2  # columns between cells
NARROWEST = 6  # columns of a shortened cell

Item = TypeVar("Item")


class PlainConsole(Console):
    """A console that raises BrokenPipeError to its caller, where rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise  # the error that rich is handling


def make_console(width: int = WIDE) -> Console:
    """Return a console as wide as the terminal. `width` is for other outputs."""
    return PlainConsole(width=None if sys.stdout.isatty() else width, highlight=False)


def show_progress(title: str, items: Sequence[Item]) -> Iterator[Item]:
    """Yield the items, with a progress bar in a terminal."""
    console = Console(stderr=True)
    yield from track(items, title, console=console, disable=not console.is_terminal, transient=True)


def show_cells(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table of text. A terminal folds long cells; elsewhere each row is one line without trailing blanks."""
    print_table(make_console(), [Column(title) for title in titles], rows, styles)


def show_fitted(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str] = (),
    flexible: Collection[str] = (),
    optional: Collection[str] = (),
    distinct: Collection[str] = (),
) -> None:
    """Print a table of text with one line per row.

    If it is too wide for the terminal, or for COLUMNS in a pipe, the `optional` columns are left out, and then cells of
    the `flexible` ones are shortened in the middle. Different cells of the `distinct` ones still look different.
    Columns without any text are left out too.
    """
    typed = os.environ.get("COLUMNS", "")
    console = make_console(int(typed) if typed.isdecimal() else WIDE)
    columns = [[title, *(one_line(row[number]) for row in rows)] for number, title in enumerate(titles)]
    columns = [column for column in columns if any(column[1:])]
    if total_width(columns) > console.width:
        columns = [column for column in columns if column[0] not in optional]
    shrink(columns, flexible, distinct, console.width)
    headers = [Column(column[0], width=natural_width(column)) for column in columns]
    print_table(console, headers, list(zip(*(column[1:] for column in columns), strict=True)), styles)


def print_table(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], styles: Sequence[str]
) -> None:
    if not console.is_terminal:  # the same text, which rich takes ten times as long for
        cells = [[str(column.header) for column in columns], *([one_line(cell) for cell in row] for row in rows)]
        if total_width([*zip(*cells, strict=True)]) <= console.width:
            print_plain(cells)
            return
    table = Table(*columns, box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for number, row in enumerate(rows):
        style = styles[number] if styles else ""
        table.add_row(*(Text(one_line(cell), style=style, overflow="fold") for cell in row))
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    print("\n".join(lines if console.is_terminal else map(str.rstrip, lines)))


def print_plain(rows: Sequence[Sequence[str]]) -> None:
    """Print lines with aligned cells, without blanks at their ends."""
    widths = [natural_width(column) for column in zip(*rows, strict=True)]
    for row in rows:
        gaps = (" " * (width - cell_len(cell) + GAP) for cell, width in zip(row, widths, strict=True))
        print("".join(cell + gap for cell, gap in zip(row, gaps, strict=True)).rstrip())


def natural_width(column: Sequence[str]) -> int:
    return max(map(cell_len, column))


def total_width(columns: Sequence[Sequence[str]]) -> int:
    return sum(map(natural_width, columns)) + GAP * (len(columns) - 1)


def shrink(columns: list[list[str]], flexible: Collection[str], distinct: Collection[str], width: int) -> None:
    """Shorten cells in place, always those of the widest flexible column, until the table fits."""
    widths = {number: natural_width(column) for number, column in enumerate(columns) if column[0] in flexible}
    least = {number: max(NARROWEST, cell_len(columns[number][0])) for number in widths}
    for _ in range(total_width(columns) - width):
        wide = [number for number in widths if widths[number] > least[number]]
        if wide:
            widths[max(wide, key=lambda number: widths[number])] -= 1
    for number, limit in widths.items():
        column = columns[number]
        is_distinct = column[0] in distinct
        columns[number] = shorten_all(column, limit) if is_distinct else [shorten(cell, limit) for cell in column]


def shorten_all(cells: Sequence[str], width: int) -> list[str]:
    """Return cells that fit into a width. Different cells stay different: those that would look alike get a number."""
    short = {cell: shorten(cell, width) for cell in cells}
    alike = Counter(short.values())
    numbers: Counter[str] = Counter()
    for cell, text in short.items():
        if alike[text] > 1:
            numbers[text] += 1
            mark = f"#{numbers[text]}"
            short[cell] = shorten(cell, width - len(mark) - 1) + f" {mark}"
    return [short[cell] for cell in cells]


def shorten(text: str, width: int) -> str:
    """Return a text with its middle replaced by an ellipsis, if it is too wide."""
    if cell_len(text) <= width:
        return text
    kept = max(width - 1, 0)
    while True:
        head, tail = text[: kept - kept // 2], text[len(text) - kept // 2 :]
        if kept <= 0 or cell_len(head) + cell_len(tail) < width:
            return f"{head}…{tail}"
        kept -= 1
