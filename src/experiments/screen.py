"""Print tables and progress. Foreign text is never read as markup."""

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich import cells as rich_cells
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from experiments.errors import one_line

WIDE = 1_000_000  # columns if the output is not a terminal: lines are never broken there
GAP = 2  # columns between cells
NARROWEST = 6  # columns of a shortened cell
FOLDED = 30  # columns of a folded cell, at least
WIDEST = 24  # columns that a cell gets in a table of many columns, if it needs them

Item = TypeVar("Item")


def cell_len(text: str) -> int:
    """Return the columns that a text takes in a terminal."""
    return len(text) if text.isascii() else rich_cells.cell_len(text)


class PlainConsole(Console):
    """A console that raises BrokenPipeError to its caller, where rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise  # the error that rich is handling


def make_console(width: int = WIDE) -> Console:
    """Return a console as wide as the terminal. `width` is for other outputs."""
    return PlainConsole(width=None if sys.stdout.isatty() else width, highlight=False)


def show_progress(title: str, items: Sequence[Item]) -> Iterator[Item]:
    """Yield the items, with a progress bar in a terminal."""
    from rich.progress import track  # a table alone does not need it, and it takes a moment to load

    console = Console(stderr=True)
    yield from track(items, title, console=console, disable=not console.is_terminal, transient=True)


def show_cells(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table of text. A terminal folds long cells; elsewhere each row is one line without trailing blanks."""
    print_table(make_console(), [Column(title) for title in titles], rows, styles)


@dataclass(frozen=True)
class Fit:
    """The columns that give way, by their titles, if a table is wider than the terminal.

    First the optional ones are left out. Then the folded one becomes narrower, and then cells of the others are
    shortened in the middle. Different cells of the distinct columns still look different.
    """

    optional: Collection[str] = ()
    folded: str = ""
    shortened: Collection[str] = ()
    distinct: Collection[str] = ()

    def least(self, title: str) -> int:
        """Return the width below which a column does not give way."""
        if title == self.folded:
            return FOLDED
        return max(NARROWEST, cell_len(title)) if title in (*self.shortened, *self.distinct) else WIDE

    def pressure(self, title: str, width: int) -> float:
        """Return which column gives way next: the one with the highest value. Distinct ones need more space."""
        if title == self.folded:
            return WIDE
        return width / 2 if title in self.distinct else width

    def widths(self, columns: Sequence[Sequence[str]], width: int) -> list[int]:
        """Return the widths of columns in a terminal."""
        widths = [max(map(cell_len, column)) for column in columns]
        for _ in range(table_width(columns) - width):
            yielding = [number for number, column in enumerate(columns) if widths[number] > self.least(column[0])]
            if yielding:
                widths[max(yielding, key=lambda number: self.pressure(columns[number][0], widths[number]))] -= 1
        return widths

    def cells(self, column: Sequence[str], width: int) -> Sequence[str]:
        """Return a column with shortened cells."""
        if column[0] in self.distinct:
            return shorten_all(column, width)
        return [shorten(cell, width) for cell in column] if column[0] in self.shortened else column


def show_fitted(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str], fit: Fit) -> None:
    """Print a table of text that fits the terminal, or COLUMNS in a pipe. Columns without any text are left out."""
    console = make_console(piped_width())
    columns = [[title, *(one_line(row[number]) for row in rows)] for number, title in enumerate(titles)]
    columns = [column for column in columns if any(column[1:])]
    if table_width(columns) > console.width:
        columns = [column for column in columns if column[0] not in fit.optional]
    widths = fit.widths(columns, console.width)
    fitted = [fit.cells(column, width) for column, width in zip(columns, widths, strict=True)]
    headers = [Column(column[0], width=width) for column, width in zip(fitted, widths, strict=True)]
    print_table(console, headers, list(zip(*(column[1:] for column in fitted), strict=True)), styles)


def show_blocks(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str], labels: int) -> None:
    """Print a table with any number of columns. One that is wider than the terminal is printed in several blocks.

    Each block has the first `labels` columns, which tell the rows apart.
    """
    width = make_console(piped_width()).width
    wanted = [max(cell_len(one_line(cell)) for cell in (title, *column)) for title, column in columns_of(titles, rows)]
    wanted = [min(each, WIDEST) for each in wanted]
    rest = [*range(labels, len(titles))]
    is_first = True
    while rest or is_first:
        block = [*range(labels)]
        while rest and (len(block) == labels or sum(wanted[each] + GAP for each in (*block, rest[0])) - GAP <= width):
            block.append(rest.pop(0))
        if not is_first:
            print()
        is_first = False
        names = [titles[each] for each in block]
        fit = Fit(shortened=names[labels:], distinct=names[:labels])
        show_fitted(names, [[row[each] for each in block] for row in rows], styles, fit)


def columns_of(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, list[str]]]:
    yield from ((title, [row[number] for row in rows]) for number, title in enumerate(titles))


def piped_width() -> int:
    """Return the columns of an output that is not a terminal: COLUMNS, else any number."""
    typed = os.environ.get("COLUMNS", "")
    return int(typed) if typed.isdecimal() else WIDE


def print_table(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]], styles: Sequence[str]
) -> None:
    if not console.is_terminal:  # the same text, which rich takes ten times as long for
        cells = [[str(column.header) for column in columns], *([one_line(cell) for cell in row] for row in rows)]
        if table_width([*zip(*cells, strict=True)]) <= console.width:
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
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        gaps = (" " * (width - cell_len(cell) + GAP) for cell, width in zip(row, widths, strict=True))
        print("".join(cell + gap for cell, gap in zip(row, gaps, strict=True)).rstrip())


def table_width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(cell_len, column)) for column in columns) + GAP * (len(columns) - 1)


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
