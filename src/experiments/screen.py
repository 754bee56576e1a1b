"""Print tables and progress. Foreign text is never read as markup."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console

from experiments.errors import one_line
from experiments.widths import GAP, Column, Fit, cell_len, column_width, total

WIDE = 1_000_000  # columns if the output is not a terminal: lines are never broken there
WIDEST = 24  # columns that a cell gets in a table of many columns, if it needs them

BOLD, YELLOW, RESET = "\x1b[1m", "\x1b[33m", "\x1b[0m"

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
    from rich.progress import track  # a table alone does not need it, and it takes a moment to load

    console = Console(stderr=True)
    yield from track(items, title, console=console, disable=not console.is_terminal, transient=True)


def show_cells(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table of text. A terminal folds long cells; elsewhere each row is one line without trailing blanks."""
    columns = columns_of(titles, rows)
    print_table(make_console(), columns, [None] * len(columns), styles)


def show_fitted(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str], fit: Fit) -> None:
    """Print a table of text that fits the terminal, or COLUMNS in a pipe. Columns without any text are left out."""
    console = make_console(piped_width())
    columns = [column for column in columns_of(titles, rows) if any(column[1:])]
    kept = fit.choose(columns, console.width)
    widths = fit.widths(kept, console.width)
    print_table(console, [fit.cells(column, width) for column, width in zip(kept, widths, strict=True)], widths, styles)
    if len(kept) < len(columns):
        left_out = ", ".join(column[0] for column in columns if column not in kept)
        print(f"left out: {left_out} (use {fit.needed(columns)} columns, or | less -S)")


def show_blocks(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str], labels: int) -> None:
    """Print a table with any number of columns. One that is wider than the terminal is printed in several blocks.

    Each block has the first `labels` columns, which tell the rows apart.
    """
    width = make_console(piped_width()).width
    wanted = [min(column_width(column), WIDEST) for column in columns_of(titles, rows)]
    rest = [*range(labels, len(titles))]
    is_first = True
    while rest or is_first:
        block = [*range(labels)]
        while rest and (len(block) == labels or total([wanted[each] for each in (*block, rest[0])]) <= width):
            block.append(rest.pop(0))
        if not is_first:
            print()
        is_first = False
        names = [titles[each] for each in block]
        fit = Fit(texts=names[labels:], typed=("run",), names=names[:labels])
        show_fitted(names, [[row[each] for each in block] for row in rows], styles, fit)


def columns_of(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the columns of a table: each title with its cells. Foreign text becomes one line."""
    cells = zip(*rows, strict=True) if rows else [()] * len(titles)
    return [[one_line(title), *map(one_line, column)] for title, column in zip(titles, cells, strict=True)]


def piped_width() -> int:
    """Return the columns of an output that is not a terminal: COLUMNS, else any number."""
    typed = os.environ.get("COLUMNS", "")
    return int(typed) if typed.isdecimal() else WIDE


def print_table(
    console: Console, columns: Sequence[Column], widths: Sequence[int | None], styles: Sequence[str]
) -> None:
    """Print the columns of a table. Cells that do not fit the terminal are folded."""
    if total([*map(column_width, columns)]) <= console.width:
        print_plain(console, columns, styles)
        return
    from rich import table as rich_table  # most tables are not folded, and these take a moment to load
    from rich.text import Text

    headers = [rich_table.Column(column[0], width=width) for column, width in zip(columns, widths, strict=True)]
    table = rich_table.Table(*headers, box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for number, row in enumerate(zip(*(column[1:] for column in columns), strict=True)):
        style = styles[number] if styles else ""
        table.add_row(*(Text(cell, style=style, overflow="fold") for cell in row))
    with console.capture() as capture:
        console.print(table)
    lines = capture.get().splitlines()
    print("\n".join(lines if console.is_terminal else map(str.rstrip, lines)))


def print_plain(console: Console, columns: Sequence[Column], styles: Sequence[str]) -> None:
    """Print a table without folded cells. Rich takes ten times as long for it."""
    title, *lines = map("".join, zip(*map(padded, columns), strict=True))
    if console.color_system:
        title = f"{BOLD}{title.rstrip()}{RESET}"
    if console.color_system and not console.no_color:
        lines = [
            f"{YELLOW}{line.rstrip()}{RESET}" if style else line
            for line, style in zip(lines, styles or [""] * len(lines), strict=True)
        ]
    print("\n".join(map(str.rstrip, [title, *lines])))


def padded(column: Column) -> list[str]:
    """Return the cells of a column, all equally wide, and the gap after it."""
    width = column_width(column) + GAP
    if "".join(column).isascii():
        return [cell.ljust(width) for cell in column]
    return [cell + " " * (width - cell_len(cell)) for cell in column]
