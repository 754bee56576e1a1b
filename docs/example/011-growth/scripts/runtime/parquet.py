"""Convert JSON Lines to a Parquet table. pyarrow is imported only here, when a table is written.

JSON lines have no schema, and Parquet needs one before its first row. So the lines are read twice: first for the type
of each column over all rows, then to write them in batches. Memory does not grow with the number of rows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ROWS = 50_000  # of a batch, at most
CHARACTERS = 16_000_000  # of a batch's lines, about
EXACT = 2**53  # beyond it, a float cannot represent each whole number
ADVICE = "Return other values, or use --format jsonl."
MIXED = f"Parquet cannot mix. {ADVICE}"

NAMES = {
    bool: "booleans",
    int: "integers",
    float: "floats",
    str: "strings",
    list: "lists",
    dict: "maps",
}


@dataclass
class Column:
    """The type of a column, of the items of its lists, or of a key of its maps, as far as it was read."""

    name: str  # for messages
    kind: type | None = None  # one of NAMES; None: only null so far
    is_exact: bool = True  # whether each whole number can be a float
    items: "Column | None" = None
    keys: dict[str, "Column"] = field(default_factory=dict)

    def add(self, value: Any) -> None:
        """Widen the type so that it has room for a value. Raises ValueError if Parquet has no such type."""
        if value is None:
            return
        kind = type(value)
        if kind is int and not -EXACT <= value <= EXACT:
            self.is_exact = False
        if self.kind is not kind:
            self.kind = self.common(kind)
        if self.kind is float and not self.is_exact:
            raise ValueError(f"{self.name} has floats and integers beyond 2^53, which {MIXED}")
        for key, inner in value.items() if kind is dict else ():
            self.key(key).add(inner)
        for item in value if kind is list else ():
            self.items = self.items or Column(f"{self.name}[]")
            self.items.add(item)

    def key(self, name: str) -> "Column":
        """Return the column of a key of its maps."""
        if name not in self.keys:
            self.keys[name] = Column(f"{self.name}.{name}")
        return self.keys[name]

    def common(self, kind: type) -> type:
        """Return the type that has room for the values so far and for those of another type."""
        if self.kind is None:
            return kind
        if {self.kind, kind} == {int, float}:
            return float
        kinds = " and ".join(name for each, name in NAMES.items() if each in (self.kind, kind))
        raise ValueError(f"{self.name} has {kinds}, which {MIXED}")

    def arrow_type(self) -> Any:
        """Return the type of pyarrow."""
        import pyarrow

        if self.kind is None:
            return pyarrow.null()
        if self.kind is list:
            return pyarrow.list_(self.items.arrow_type() if self.items else pyarrow.null())
        if self.kind is dict:
            if not self.keys:
                raise ValueError(f"{self.name} has only empty maps, which Parquet cannot store. {ADVICE}")
            return pyarrow.struct([(key, column.arrow_type()) for key, column in self.keys.items()])
        simple = {bool: pyarrow.bool_, int: pyarrow.int64, float: pyarrow.float64, str: pyarrow.string}
        return simple[self.kind]()


def write_parquet(lines: str, table: str, names: Sequence[str]) -> None:
    """Write the rows of a file of JSON lines to a new Parquet file.

    names  the columns, also of a file without rows

    Raises ValueError, with the column's name, for values that Parquet cannot store.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    columns = {name: Column(f"the column {name}") for name in names}
    for rows in read_batches(lines):
        for row in rows:
            for name, value in row.items():
                columns[name].add(value)
    schema = pyarrow.schema([(name, column.arrow_type()) for name, column in columns.items()])
    with open(table, "xb") as file, ParquetWriter(file, schema) as writer:
        for rows in read_batches(lines):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))


def read_batches(lines: str) -> Iterator[list[Mapping[str, Any]]]:
    """Yield the rows of a file of JSON lines, in lists of limited size."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    with open(lines, encoding="utf-8", newline="\n") as file:
        for line in file:
            batch.append(json.loads(line))
            size += len(line)
            if len(batch) >= ROWS or size >= CHARACTERS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
