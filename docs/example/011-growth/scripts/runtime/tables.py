"""Write tables as CSV."""

import csv
import os.path as osp
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.files import link_new, temporary, text_file

Row = dict[str, Any]


def plain_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return rows with plain cells. Raises ValueError if there are no rows, or if one is not a mapping."""
    try:
        plain = [{key: plain_cell(value) for key, value in dict(row).items()} for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{EXPECTED}: {error}") from None
    if not plain:
        raise ValueError(EXPECTED)
    return plain


EXPECTED = "run.table takes at least one row, and mappings with the same keys, like df.to_dict('records')"


def plain_cell(value: Any) -> Any:
    """Return a scalar of torch as a Python number, because its text has four digits. Return other values unchanged."""
    return value.item() if hasattr(value, "detach") and not value.shape else value


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return the keys of all rows, in order of appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))


def is_regular(rows: Sequence[Row]) -> bool:
    """Return whether all rows have the same keys."""
    return all(row.keys() == rows[0].keys() for row in rows)


def write_table(path: str, rows: Sequence[Row]) -> None:
    """Write rows to a file, or replace it atomically. Missing cells are empty."""
    with text_file(path) as file:
        table = csv.DictWriter(file, columns_of(rows), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def keep_table(folder: str, name: str, rows: Sequence[Row]) -> str:
    """Write rows to a new file NAME_kept.csv, or NAME_kept_2.csv and so on, and return its path."""
    path = osp.join(folder, f"{name}_kept.csv")
    with temporary(path) as part:
        write_table(part, rows)
        return link_new(part, path)
