# experiments/011-growth/scripts/query.py
# [[experiments.011-growth.scripts.query]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/query.py
# The template updates this file, so linters and formatters skip it.
# ruff: noqa
# fmt: off
# /// script
# requires-python = ">=3.10,<3.16"
# dependencies = ["neo4j>=4.4.11", "python-dotenv>=1.0", "tqdm>=4.64"]
# ///
"""Run queries/NAME.cql and write its rows to DATA_ROOT, as JSON Lines or as a Parquet table. Queries can only read.

A node is written with its id, labels and properties, a relationship with its id, type, start, end and properties, and
a path with its nodes and relationships. Times and durations are ISO 8601 strings. Points are
{"srid": ..., "coordinates": [...]}.
"""

import argparse
import json
import logging
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import load_dotenv
from runtime import EXPERIMENT, SCRIPTS, end_at_signals, find_env, provenance, require, require_folders
from runtime.environment import SERVER
from runtime.files import FileError, temporary
from runtime.locks import open_lock, wait_for_lock
from runtime.parquet import write_parquet
from runtime.sharing import permission_hint
from runtime.signals import ENDING_SIGNALS

if TYPE_CHECKING:  # imported only when a query runs: --help, the list and --dry-run do not need it
    from neo4j import Record
    from neo4j.graph import Node, Relationship
    from neo4j.graph import Path as GraphPath

QUERIES = Path(SCRIPTS).parent / "queries"  # in a job, the queries that were submitted

# Parts of a query that only look like code: comments, strings, and names between backticks.
NO_CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?<!\$)`(?:``|[^`])*`""", re.DOTALL)
PARAMETER = re.compile(r"\$(?:`((?:``|[^`])+)`|(\w+))")
COMMITS_ITSELF = {
    "CALL { ... } IN TRANSACTIONS": r"\bCALL\s*(?:\([^(){}]*\)\s*)?\{[^{}]*\}\s*IN\b",
    "PERIODIC COMMIT": r"\bUSING\s+PERIODIC\s+COMMIT\b",
    "apoc.periodic": r"\bapoc\s*\.\s*periodic\s*\.",
    "CREATE or DROP of an index or a constraint": r"\b(?:CREATE|DROP)\s+(?:\w+\s+){0,3}?(?:INDEX|CONSTRAINT)\b",
    "a change of a user, role or database": r"\b(?:CREATE|DROP|ALTER)\s+(?:\w+\s+){0,3}?(?:USER|ROLE|DATABASE|ALIAS)\b",
}

ADDRESS = re.compile(r"(?:bolt|neo4j)(?:\+s|\+ssc)?://[^\s@]+")

DRIVER = ("neo4j", "tqdm")
PACKAGES = {"jsonl": (), "parquet": ("pyarrow",)}  # what each format of the rows needs
SCALARS = frozenset({str, int, float, bool, type(None)})


# The query and its parameters -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """The text of queries/NAME.cql, and the values of its parameters."""

    name: str
    text: str
    parameters: dict[str, Any]


def query_names() -> list[str]:
    return sorted(path.stem for path in QUERIES.glob("*.cql"))


def find_query(name: str) -> str:
    """Return the name of the query with this name or number. Raises ValueError unless there is exactly one."""
    names = query_names()
    found = [name] if name in names else [each for each in names if each.partition("_")[0] == name]
    if not found:
        raise ValueError(f"unknown query; expected one of: {', '.join(names) or '(queries/ is empty)'}")
    if len(found) > 1:
        raise ValueError(f"several queries have this number. Use one of the names: {', '.join(found)}")
    return found[0]


def read(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from None
    if text.startswith("\ufeff"):
        raise ValueError(f"{path} begins with a byte order mark. Save it as UTF-8 without one.")
    return text


def read_query(name: str) -> str:
    path = QUERIES / f"{name}.cql"
    if path.is_symlink():
        raise ValueError(f"{path} is a symlink, so the query is not part of this experiment. Copy the file here.")
    return read(path)


def code(query: str) -> str:
    """Return a query without its comments, strings and quoted names."""
    return NO_CODE.sub(" ", query)


def parameters_of(query: str) -> list[str]:
    """Return the names of a query's parameters, in order of appearance."""
    found = (quoted.replace("``", "`") or plain for quoted, plain in PARAMETER.findall(code(query)))
    return list(dict.fromkeys(found))


def commits_itself(query: str) -> str | None:
    """Return which part of a query a rollback of its transaction would not undo, else None.

    Braced blocks are removed from the innermost outwards, so each pattern sees one nesting level.
    """
    previous, text = "", PARAMETER.sub(" ", code(query))  # without parameters, because their names may have braces
    while previous != text:
        for description, pattern in COMMITS_ITSELF.items():
            if re.search(pattern, text, re.IGNORECASE):
                return description
        previous, text = text, re.sub(r"\{[^{}]*\}", "", text)
    return None


def parse(text: str, source: str) -> Any:
    """Return the value of a JSON text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not valid JSON: {error}") from None


def load_parameters(name: str, options: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of queries/NAME.json, if it exists, overridden by those of --param."""
    file = QUERIES / f"{name}.json"
    parameters = parse(read(file), str(file)) if file.exists() else {}
    if not isinstance(parameters, dict):
        raise ValueError(f"{file} is not a mapping of parameters to values, such as {{}}")
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise ValueError(f"the parameter {option} must be KEY=JSON or KEY=@FILE")
        try:
            text = read(Path(value[1:])) if value.startswith("@") else value
        except OSError as error:
            raise ValueError(f"the file of the parameter {option} cannot be read: {error}") from None
        parameters[key] = parse(text, f"the parameter {option}")
    for key, value in parameters.items():
        check_parameter(key, value)
    return parameters


def check_parameter(name: str, value: Any) -> None:
    """Raise ValueError if Bolt cannot carry a JSON value, or if JSON cannot represent it again."""
    if isinstance(value, dict):
        for key, inner in value.items():
            check_parameter(f"{name}, in a key,", key)
            check_parameter(f"{name}.{key}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_parameter(f"{name}[{index}]", inner)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"the parameter {name} is an integer beyond 64 bits: {value}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the parameter {name} is {value}, which JSON cannot represent")
    elif isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise ValueError(f"the parameter {name} has an incomplete character (a lone surrogate): {value!a}")


def as_cypher(parameters: Sequence[str]) -> str:
    """Return parameters as Cypher writes them, like "$a, $b"."""
    return ", ".join(f"${name}" for name in parameters)


def prepare(name: str, options: Sequence[str]) -> Query:
    """Return a query with its parameters. Raises ValueError for every problem that needs no server to find."""
    text = read_query(name)
    expected = parameters_of(text)
    parameters = load_parameters(name, options)
    if missing := [each for each in expected if each not in parameters]:
        hint = f"Use --param {missing[0]}=JSON, or write queries/{name}.json."
        raise ValueError(f"no value for {as_cypher(missing)}. {hint}")
    given = [option.partition("=")[0] for option in options]
    if unknown := [each for each in given if each not in expected]:
        names = as_cypher(expected) or "(the query has no parameters)"
        raise ValueError(f"unknown parameter {as_cypher(unknown[:1])}; expected one of: {names}")
    if part := commits_itself(text):
        raise ValueError(f"it was not run, because {part} cannot be rolled back. Write a query that only reads.")
    return Query(name, text, parameters)


# Values as JSON -------------------------------------------------------------------------------------------------------


def as_json(value: Any, location: str) -> Any:
    """Return a value of the database as a JSON value. Raises ValueError, with its location, if information is lost."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{location} is {value}, which JSON cannot represent")
        return value
    if type(value) is list:
        return [as_json(each, f"{location}[{index}]") for index, each in enumerate(value)]
    if type(value) is dict:
        return {key: as_json(each, f"{location}.{key}") for key, each in value.items()}
    return driver_type_as_json(value, location)


def driver_type_as_json(value: Any, location: str) -> Any:
    """Return a value of one of the driver's own types as a JSON value."""
    from neo4j.graph import Node, Path, Relationship
    from neo4j.spatial import Point
    from neo4j.time import Date, DateTime, Duration, Time

    if isinstance(value, Node | Relationship | Path):
        return graph_as_json(value, location)
    if isinstance(value, Date | Time | DateTime | Duration):
        return value.iso_format()
    if isinstance(value, Point):
        return {"srid": value.srid, "coordinates": as_json(list(value), location)}
    raise ValueError(f"{location} is of type {type(value).__name__}, which JSON cannot represent. Return parts of it.")


def graph_as_json(value: "Node | Relationship | GraphPath", location: str) -> dict[str, Any]:
    from neo4j.graph import Node, Relationship

    if isinstance(value, Node):
        return {"id": id_of(value), "labels": sorted(value.labels), "properties": properties(value, location)}
    if isinstance(value, Relationship):
        ends = {"start": id_of(value.start_node), "end": id_of(value.end_node)}
        return {"id": id_of(value), "type": value.type, **ends, "properties": properties(value, location)}
    nodes, relationships = list(value.nodes), list(value.relationships)
    return {"nodes": as_json(nodes, location), "relationships": as_json(relationships, location)}


def id_of(entity: Any) -> str:
    """Return the id of a node or relationship. The driver of Neo4j 4 lacks `element_id`."""
    return str(entity.element_id if hasattr(entity, "element_id") else entity.id)


def properties(entity: "Node | Relationship", location: str) -> dict[str, Any]:
    return {key: as_json(value, f"{location}.{key}") for key, value in entity.items()}


encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def encode_row(names: Sequence[str], row: "Record") -> str:
    """Return a row as one line of JSON. Raises ValueError, with the column's name, if information is lost."""
    values = list(tuple.__iter__(row))  # the methods of a record take longer than all else here
    if all(type(value) in SCALARS or is_plain_list(value) for value in values):
        with suppress(ValueError):  # NaN: its column is found below
            return encode(dict(zip(names, values, strict=True)))
    return encode({key: as_json(value, f"the column {key}") for key, value in zip(names, values, strict=True)})


def is_plain_list(value: Any) -> bool:
    """Return whether a value is a list of values that JSON has too."""
    return type(value) is list and SCALARS.issuperset(map(type, value))


# The rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """The database that .env or the environment names."""

    uri: str
    user: str
    password: str
    database: str


def required_server() -> Server:
    server = Server(*require(*SERVER))
    if not ADDRESS.fullmatch(server.uri):
        raise ValueError("NEO4J_URI must be bolt://HOST:PORT or neo4j://HOST:PORT, without a user or a password")
    return server


@dataclass(frozen=True)
class Fetched:
    """What is known of the rows that were written."""

    count: int
    columns: Sequence[str]
    agent: str  # the server's name and version


def fetch(server: Server, query: Query, limit: int | None, path: str) -> Fetched:
    """Write a query's rows to a file, as JSON lines. Raises ValueError with the message of the driver or the server."""
    from neo4j.exceptions import DriverError, Neo4jError

    try:
        return fetch_rows(server, query, limit, path)
    except (DriverError, Neo4jError) as error:
        raise ValueError(getattr(error, "message", None) or str(error)) from None


def fetch_rows(server: Server, query: Query, limit: int | None, path: str) -> Fetched:
    from neo4j import READ_ACCESS, GraphDatabase
    from tqdm import tqdm

    count = 0
    driver = GraphDatabase.driver(server.uri, auth=(server.user, server.password), connection_timeout=2)
    with (
        open(path, "x", encoding="utf-8") as file,
        driver,
        driver.session(database=server.database, default_access_mode=READ_ACCESS) as session,
        closing(session.begin_transaction()) as transaction,  # closing() rolls back; a bare `with` would commit
    ):
        result = transaction.run(query.text, query.parameters)
        columns = result.keys()
        tqdm.set_lock(threading.RLock())  # its own lock is a semaphore, which an interrupted process would leak
        for row in tqdm(islice(result, limit), unit=" rows", disable=None):
            file.write(encode_row(columns, row) + "\n")
            count += 1
        summary = result.consume()
    if summary.counters.contains_updates:
        raise ValueError("it writes to the database, so it was rolled back. Write a query that only reads.")
    return Fetched(count, columns, str(summary.server.agent))


# The result -----------------------------------------------------------------------------------------------------------


@contextmanager
def signals_held() -> Iterator[None]:
    """Defer ending signals until the end of this block. A signal mask is not enough: another thread could get them."""
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING_SIGNALS)}
    for number in handlers:
        signal.signal(number, lambda came, _: held.append(came))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for came in held:
            signal.raise_signal(came)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Admit one process at a time to this block, and defer signals. A lock file of a killed process does not block.

    Raises FileError if the file cannot be locked.
    """
    while True:
        with signals_held(), closing_descriptor(open_lock(str(path))) as lock:
            wait_for_lock(lock, str(path))
            if not is_at(path, lock):  # the previous process has removed the file while this one waited
                continue
            try:
                yield
            finally:
                with suppress(PermissionError):  # a colleague owns the file, and only owners can remove files here
                    os.unlink(path)
        return


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class Result:
    """The two files of a query's result: its rows, and the record of how they were made."""

    rows: Path
    record: Path
    lock: Path
    format: str
    overwrite: bool

    def refuse_existing(self) -> None:
        if not self.overwrite and os.path.lexists(self.rows):
            raise ValueError(f"{self.rows} exists. Use --overwrite to replace it.")

    def prepare(self) -> None:
        """Raise what `publish` would raise, before the server is contacted. This also checks file locks."""
        self.rows.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self.lock):
            self.refuse_existing()

    def publish(self, rows_part: str, record_part: str) -> None:
        """Move both files to their names. If the process is killed in between, the rows have no record."""
        with exclusive(self.lock):
            self.refuse_existing()
            self.record.unlink(missing_ok=True)
            os.replace(rows_part, self.rows)
            os.replace(record_part, self.record)


def result_of(name: str, options: argparse.Namespace) -> Result:
    """Return the files of a result. Those of each format are a pair of their own."""
    [data] = require_folders("DATA_ROOT")
    rows = Path(data, "experiments", EXPERIMENT, "queries", f"{name}.{options.format}")
    stem = rows.with_suffix("") if options.format == "jsonl" else rows
    record, lock = Path(f"{stem}.provenance.json"), Path(f"{stem}.lock")
    return Result(rows, record, lock, options.format, options.overwrite)


def require_packages(names: Sequence[str]) -> None:
    """Raise ValueError if a package is missing."""
    if missing := [name for name in names if not find_spec(name)]:
        lacks = f"not installed for {sys.executable}: {', '.join(missing)}"
        raise ValueError(f"{lacks}. Install: pip install {' '.join(missing)}")


def run_query(name: str, options: argparse.Namespace) -> None:
    """Write a query's rows and their record. If that fails, an earlier result remains."""
    require_packages((*DRIVER, *PACKAGES[options.format]))
    result = result_of(name, options)
    server = required_server()
    query = prepare(name, options.param)
    record = provenance()
    result.prepare()
    with temporary(str(result.rows)) as rows_part:
        start = time.perf_counter()
        fetched = fetch(server, query, options.limit, rows_part)
        record |= {"uri": server.uri, "server": fetched.agent, "parameters": query.parameters, "query": query.text}
        record |= {"sha256": sha256(query.text.encode()).hexdigest(), "rows": fetched.count}
        record["seconds"] = time.perf_counter() - start
        with formatted(result, rows_part, fetched) as finished, temporary(str(result.record)) as record_part:
            Path(record_part).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
            result.publish(finished, record_part)
    print(f"{fetched.count} rows: {result.rows}")


@contextmanager
def formatted(result: Result, lines: str, fetched: Fetched) -> Iterator[str]:
    """Yield the path of a file with the rows in the result's format, made of their JSON lines."""
    if result.format == "jsonl":
        yield lines
        return
    with temporary(str(result.rows)) as table:
        write_parquet(lines, table, fetched.columns)
        yield table


# The command ----------------------------------------------------------------------------------------------------------


def print_names() -> None:
    for name in query_names():
        print(name, *(f"${parameter}" for parameter in parameters_of(read_query(name))))


def dry_run(name: str, options: argparse.Namespace) -> None:
    """Print a query, its parameters and the path of its rows. Raises what `run_query` raises for these."""
    query = prepare(name, options.param)
    require_packages(PACKAGES[options.format])
    result = result_of(name, options)
    result.refuse_existing()
    print(query.text.rstrip("\n"))
    for key, value in query.parameters.items():
        print(f"${key} = {json.dumps(value, ensure_ascii=False)}")
    print(f"rows: {result.rows}")


def whole_number(text: str) -> int:
    """Return the number of a text. argparse's message contains this function's name."""
    if not text.isdecimal() or int(text) > sys.maxsize:
        raise ValueError
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", metavar="NAME", help="name or number of a query in queries/")
    parser.add_argument(
        "--param", action="append", default=[], metavar="KEY=JSON", help="set a parameter; KEY=@FILE reads a file"
    )
    parser.add_argument("--format", choices=PACKAGES, default="jsonl", help="output format; default: jsonl")
    parser.add_argument("--limit", type=whole_number, metavar="N", help="stop after N rows")
    parser.add_argument("--overwrite", action="store_true", help="replace existing rows")
    parser.add_argument("--dry-run", action="store_true", help="print the query without contacting the server")
    options = parser.parse_args()
    load_dotenv(find_env())
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)
    end_at_signals(f"query.py: {options.name}: interrupted")
    try:
        if options.name is None:
            print_names()
        elif options.dry_run:
            dry_run(find_query(options.name), options)
        else:
            run_query(find_query(options.name), options)
    except (FileError, OSError, RecursionError, ValueError) as error:
        reason = str(error)
        if isinstance(error, PermissionError) and isinstance(error.filename, str):
            reason = f"{error.filename}: {error.strerror}. {permission_hint(error.filename)}"
        parser.exit(1, f"query.py: {options.name or 'queries'}: {' '.join(reason.split())}\n")


if __name__ == "__main__":
    main()
