"""Tables as CSV: whole, and with plain numbers."""

import csv
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.files import atomic_write, link_new, temporary

Row = dict[str, Any]


def plain_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return rows with plain cells. Raises ValueError unless each is a mapping, and there is at least one."""
    try:
        plain = [{key: plain_cell(value) for key, value in dict(row).items()} for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{EXPECTED}: {error}") from None
    if not plain:
        raise ValueError(EXPECTED)
    return plain


EXPECTED = "run.table takes rows, at least one, all with the same keys, as df.to_dict('records')"


def plain_cell(value: Any) -> Any:
    """A number of torch, whose text has four digits, as Python's own; anything else as it is."""
    return value.item() if hasattr(value, "detach") and not value.shape else value


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return all keys of rows, in their order."""
    return list(dict.fromkeys(key for row in rows for key in row))


def is_regular(rows: Sequence[Row]) -> bool:
    """Whether all rows have the same keys."""
    return all(row.keys() == rows[0].keys() for row in rows)


def write_table(path: str, rows: Sequence[Row]) -> None:
    """Write rows to a file, which is replaced as a whole. A row that lacks a column has an empty cell."""
    with atomic_write(path) as file:
        table = csv.DictWriter(file, columns_of(rows), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def keep_table(folder: str, name: str, rows: Sequence[Row]) -> str:
    """Write rows to a new file beside a run's table, NAME_kept.csv, or with _2 and so on, and return its path."""
    path = osp.join(folder, f"{name}_kept.csv")
    with temporary(path) as part:
        write_table(part, rows)
        return link_new(part, path)
