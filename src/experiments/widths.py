"""Share the width of a terminal among the columns of a table. A column is its title, followed by its cells."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich import cells as rich_cells

GAP = 2  # columns of the terminal between two of a table
FOLDED = 24  # columns of the terminal for a folded cell, at least
ROOMY = 32  # the same for a text, before the names of runs are cut
READABLE = 16  # the same for a text or a name, before columns are left out
NARROWEST = 6  # the same in a terminal that is too narrow for the rest

Column = Sequence[str]
Leasts = dict[int, int]  # least widths, by the position of a column


@dataclass(frozen=True)
class Fit:
    """How the columns of a table give way, by their titles, if it is wider than the terminal.

    optional  left out in this order, until the other columns can be read
    folded    broken into several lines
    texts     cut after a word
    distinct  shortened in the middle. Different cells still look different
    typed     names that are cut at the end. What remains stands for one name, and commands take it for the name
    names     other names, which are shortened last of all. Different cells still look different
    """

    optional: Sequence[str] = ()
    folded: Collection[str] = ()
    texts: Collection[str] = ()
    distinct: Collection[str] = ()
    typed: Collection[str] = ()
    names: Collection[str] = ()

    def choose(self, columns: Sequence[Column], width: int) -> list[Column]:
        """Return the columns that a terminal has room for."""
        kept = list(columns)
        for title in self.optional:
            if self.needed(kept) <= width:
                break
            kept = [column for column in kept if column[0] != title]
        return kept

    def needed(self, columns: Sequence[Column]) -> int:
        """Return the width of the narrowest terminal in which these columns can be read."""
        widths = [*map(column_width, columns)]
        for leasts in self.steps(columns):
            narrow(widths, leasts, sum(widths))
        return total(widths)

    def widths(self, columns: Sequence[Column], width: int) -> list[int]:
        """Return the widths of columns in a terminal."""
        widths = [*map(column_width, columns)]
        for leasts in (*self.steps(columns), *self.last_steps(columns)):
            narrow(widths, leasts, total(widths) - width)
        return widths

    def steps(self, columns: Sequence[Column]) -> Iterator[Leasts]:
        """Yield the columns that become narrower, first to last, with the widths at which they can still be read."""
        yield at_least(FOLDED, columns, self.folded)
        yield at_least(ROOMY, columns, (*self.texts, *self.distinct))
        yield {number: prefix_width(column[1:]) for number, column in enumerate(columns) if column[0] in self.typed}
        yield at_least(READABLE, columns, (*self.texts, *self.distinct))

    def last_steps(self, columns: Sequence[Column]) -> Iterator[Leasts]:
        yield at_least(NARROWEST, columns, (*self.texts, *self.distinct))
        yield at_least(NARROWEST, columns, (*self.typed, *self.names))

    def cells(self, column: Column, width: int) -> Column:
        """Return a column with shortened cells."""
        if column_width(column) <= width:
            return column
        if column[0] in self.texts:
            return [cut_words(cell, width) for cell in column]
        if column[0] in self.typed and width >= prefix_width(column[1:]):
            return [cut(cell, width) for cell in column]
        is_shortened = column[0] in (*self.distinct, *self.typed, *self.names)
        return shorten_all(column, width) if is_shortened else column


def at_least(width: int, columns: Sequence[Column], titles: Collection[str]) -> Leasts:
    """Return the least widths of the columns with these titles, which are not shortened themselves."""
    return {number: max(width, cell_len(each[0])) for number, each in enumerate(columns) if each[0] in titles}


def narrow(widths: list[int], leasts: Leasts, excess: int) -> None:
    """Reduce the largest width by one until the excess is gone, or until all columns have their least width."""
    for _ in range(excess):
        wider = [number for number, least in leasts.items() if widths[number] > least]
        if not wider:
            return
        widths[max(wider, key=widths.__getitem__)] -= 1


def total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def column_width(column: Column) -> int:
    """Return the width of the widest cell."""
    return max(map(len, column)) if "".join(column).isascii() else max(map(cell_len, column))


def cell_len(text: str) -> int:
    """Return the columns that a text takes in a terminal."""
    return len(text) if text.isascii() else rich_cells.cell_len(text)


def prefix_width(names: Collection[str]) -> int:
    """Return the least width at which names that are cut at the end still differ, and can be read."""
    shared = (shared_length(*pair) for pair in pairwise(sorted(set(names))))
    return max(READABLE, max(shared, default=0) + 2)  # a character that differs, and the ellipsis


def shared_length(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginnings."""
    different = (number for number, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(different, min(len(one), len(other)))


# Cells ----------------------------------------------------------------------------------------------------------------


def cut(text: str, width: int) -> str:
    """Return a text with its end replaced by an ellipsis, if it is too wide."""
    if cell_len(text) <= width:
        return text
    kept = text[: max(width - 1, 0)]
    while cell_len(kept) >= width > 0:
        kept = kept[:-1]
    return f"{kept}…"


def cut_words(text: str, width: int) -> str:
    """Return a text that is cut after a word, if that leaves half of the width: `rate=0…` could be any number."""
    short = cut(text, width)
    words = short.rpartition(" ")[0]
    return f"{words} …" if short != text and 2 * cell_len(words) >= width else short


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
