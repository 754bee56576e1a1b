# experiments/011-growth/scripts/query.py
# [[experiments.011-growth.scripts.query]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/query.py
# /// script
# requires-python = ">=3.10,<3.14"
# dependencies = ["neo4j>=4.4.11", "python-dotenv>=1.0", "tqdm>=4.64"]
# ///
"""Run queries/NAME.cql and stream its rows to DATA_ROOT, a JSON object a line. Queries only read.

Nodes keep their id, labels and properties, relationships their id, type, properties and ends, paths both of them.
Times and durations are text by ISO 8601, points {"srid": ..., "coordinates": [...]}.
"""

import argparse
import fcntl
import json
import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from dotenv import load_dotenv
from runtime import EXPERIMENT, SCRIPTS, end_at_signals, find_env, provenance, require, require_folders
from runtime.environment import SERVER
from runtime.files import part_of
from runtime.signals import ENDS

try:
    from neo4j import READ_ACCESS, GraphDatabase
    from neo4j.exceptions import DriverError, Neo4jError
    from neo4j.graph import Node, Relationship
    from neo4j.graph import Path as GraphPath
    from neo4j.spatial import Point
    from neo4j.time import Date, DateTime, Duration, Time
    from tqdm import tqdm
except ModuleNotFoundError as error:
    sys.exit(f"query.py: {error}, which is no part of {sys.executable}: pip install neo4j tqdm")

QUERIES = Path(SCRIPTS).parent / "queries"  # of this very code, which may be what was submitted

# What Cypher may hold that only looks like code: comments, text, and names between backticks.
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


# The query and its parameters -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """The text of queries/NAME.cql, and the values of its parameters."""

    name: str
    text: str
    parameters: dict[str, Any]


def names() -> list[str]:
    return sorted(path.stem for path in QUERIES.glob("*.cql"))


def find(name: str) -> str:
    """The one query that has this name, or whose name begins with this number."""
    found = [name] if name in names() else [each for each in names() if each.partition("_")[0] == name]
    if not found:
        raise ValueError(f"no such query; there are {', '.join(names()) or 'none'}")
    if len(found) > 1:
        raise ValueError(f"several queries have this number: {', '.join(found)}")
    return found[0]


def read(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from None
    if text.startswith("\ufeff"):
        raise ValueError(f"{path} begins with a byte order mark: save it as UTF-8 without one")
    return text


def read_query(name: str) -> str:
    path = QUERIES / f"{name}.cql"
    if path.is_symlink():
        raise ValueError(f"{path} is a link, whose query would not be part of this experiment: copy it here")
    return read(path)


def code(query: str) -> str:
    """A query without its comments and texts."""
    return NO_CODE.sub(" ", query)


def parameters_of(query: str) -> list[str]:
    """The names of the parameters that a query takes, in its order."""
    found = (quoted.replace("``", "`") or plain for quoted, plain in PARAMETER.findall(code(query)))
    return list(dict.fromkeys(found))


def commits_itself(query: str) -> str | None:
    """What in a query would not be rolled back with its transaction. From inside out, braces lose what they hold."""
    rest, text = "", PARAMETER.sub(" ", code(query))  # whose names may hold a brace
    while rest != text:
        for what, pattern in COMMITS_ITSELF.items():
            if re.search(pattern, text, re.IGNORECASE):
                return what
        rest, text = text, re.sub(r"\{[^{}]*\}", "", text)
    return None


def parse(text: str, source: str) -> Any:
    """The value of a text of JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} cannot be read as JSON: {error}") from None


def load_parameters(name: str, options: Sequence[str]) -> dict[str, Any]:
    """The parameters of queries/NAME.json, where it exists, and over them those of --param."""
    file = QUERIES / f"{name}.json"
    parameters = parse(read(file), str(file)) if file.exists() else {}
    if not isinstance(parameters, dict):
        raise ValueError(f"{file} holds no mapping of parameters to values, like {{}}")
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise ValueError(f"the parameter {option} must be KEY=JSON or KEY=@FILE")
        try:
            text = read(Path(value[1:])) if value.startswith("@") else value
        except OSError as error:
            raise ValueError(f"the parameter {option} cannot be read as JSON: {error}") from None
        parameters[key] = parse(text, f"the parameter {option}")
    for key, value in parameters.items():
        check_parameter(key, value)
    return parameters


def check_parameter(name: str, value: Any) -> None:
    """Raises ValueError where Bolt cannot carry a value of JSON, or JSON not write it again."""
    if isinstance(value, dict):
        for key, inner in value.items():
            check_parameter(f"{name}, in a key,", key)
            check_parameter(f"{name}.{key}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            check_parameter(f"{name}[{index}]", inner)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"the parameter {name} is a whole number beyond 64 bits: {value}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"the parameter {name} is {value}, which JSON does not have")
    elif isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise ValueError(f"the parameter {name} has half a character, {ascii(value)}")


def listed(parameters: Sequence[str]) -> str:
    """Parameters as Cypher has them."""
    return ", ".join(f"${name}" for name in parameters)


def prepare(name: str, options: Sequence[str]) -> Query:
    """A query and its parameters. Raises ValueError for what is wrong with them before any server is asked."""
    text = read_query(name)
    taken = parameters_of(text)
    parameters = load_parameters(name, options)
    if missing := [each for each in taken if each not in parameters]:
        raise ValueError(f"it lacks {listed(missing)}: give --param {missing[0]}=JSON, or write queries/{name}.json")
    given = [option.partition("=")[0] for option in options]
    if unknown := [each for each in given if each not in taken]:
        raise ValueError(f"it has no {listed(unknown[:1])}; its parameters are: {listed(taken) or 'none'}")
    if what := commits_itself(text):
        raise ValueError(f"it was not run: {what} cannot be rolled back, and a query here only reads")
    return Query(name, text, parameters)


# Values as JSON -------------------------------------------------------------------------------------------------------


def as_json(value: Any, place: str) -> Any:
    """A value of the database as JSON has it. Raises ValueError, with its place, where it cannot be kept whole."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which JSON does not have")
        return value
    if isinstance(value, Node):
        return {"id": id_of(value), "labels": sorted(value.labels), "properties": properties(value, place)}
    if isinstance(value, Relationship):
        ends = {"start": id_of(value.start_node), "end": id_of(value.end_node)}
        return {"id": id_of(value), "type": value.type, **ends, "properties": properties(value, place)}
    if isinstance(value, GraphPath):
        nodes, relationships = list(value.nodes), list(value.relationships)
        return {"nodes": as_json(nodes, place), "relationships": as_json(relationships, place)}
    if isinstance(value, Date | Time | DateTime | Duration):
        return value.iso_format()
    if isinstance(value, Point):
        return {"srid": value.srid, "coordinates": as_json(list(value), place)}
    if type(value) is list:
        return [as_json(each, f"{place}[{index}]") for index, each in enumerate(value)]
    if type(value) is dict:
        return {key: as_json(each, f"{place}.{key}") for key, each in value.items()}
    raise ValueError(f"{place} is of type {type(value).__name__}, which has no form in JSON: return parts of it")


def id_of(entity: Any) -> str:
    """The driver of Neo4j 4 has no `element_id`."""
    return str(entity.element_id if hasattr(entity, "element_id") else entity.id)


def properties(entity: Node | Relationship, place: str) -> dict[str, Any]:
    return {key: as_json(value, f"{place}.{key}") for key, value in entity.items()}


# The rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """The database, as .env names it."""

    uri: str
    user: str
    password: str
    database: str


def required_server() -> Server:
    server = Server(*require(*SERVER))
    if not ADDRESS.fullmatch(server.uri):
        raise ValueError("NEO4J_URI must be bolt://HOST:PORT or neo4j://HOST:PORT, without a user or password in it")
    return server


def fetch(server: Server, query: Query, limit: int | None, path: str) -> tuple[int, str]:
    """Write a query's rows to a file. Returns their number, and the server's name and version."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    count = 0
    driver = GraphDatabase.driver(server.uri, auth=(server.user, server.password), connection_timeout=2)
    with (
        open(path, "x", encoding="utf-8") as file,
        driver,
        driver.session(database=server.database, default_access_mode=READ_ACCESS) as session,
        closing(session.begin_transaction()) as transaction,  # rolled back; `with` without closing() would commit
    ):
        result = transaction.run(query.text, query.parameters)
        for row in tqdm(islice(result, limit), unit=" rows", disable=None):
            file.write(encode({key: as_json(value, f"the column {key}") for key, value in row.items()}) + "\n")
            count += 1
        summary = result.consume()
    if summary.counters.contains_updates:
        raise ValueError("it writes, and was rolled back; a query here only reads")
    return count, str(summary.server.agent)


# The result -----------------------------------------------------------------------------------------------------------


@contextmanager
def signals_held() -> Iterator[None]:
    """What ends a process waits until this is over. (A mask would not do: another thread may take a signal.)"""
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDS)}
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
def alone(path: Path) -> Iterator[None]:
    """One process at a time is here, and no signal ends it. A lock that a killed one left counts for nothing."""
    while True:
        with signals_held(), open(path, "ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            if not is_at(path, file):  # the one before has removed it
                continue
            try:
                yield
            finally:
                os.unlink(path)
        return


def is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class Result:
    """The files of a query's rows and of what they came from: never of one query's run and of another's."""

    rows: Path
    record: Path
    lock: Path
    overwrite: bool

    def refuse_existing(self) -> None:
        if not self.overwrite and os.path.lexists(self.rows):
            raise ValueError(f"{self.rows} exists; --overwrite replaces it")

    def prepare(self) -> None:
        """Refuse at once, before any server is asked, what `publish` would refuse; also a disk without locks."""
        self.rows.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.lock):
            self.refuse_existing()

    def publish(self, rows_part: str, record_part: str) -> None:
        """Give both files their names. A kill between the two leaves rows without a record."""
        with alone(self.lock):
            self.refuse_existing()
            self.record.unlink(missing_ok=True)
            os.replace(rows_part, self.rows)
            os.replace(record_part, self.record)


def result_of(name: str, overwrite: bool) -> Result:
    [data] = require_folders("DATA_ROOT")
    rows = Path(data, "experiments", EXPERIMENT, "queries", f"{name}.jsonl")
    return Result(rows, rows.with_suffix(".provenance.json"), rows.with_suffix(".lock"), overwrite)


def run(name: str, options: argparse.Namespace) -> None:
    """Write a query's rows, and beside them what they came from. A failure leaves an earlier result."""
    result = result_of(name, options.overwrite)
    server = required_server()
    query = prepare(name, options.param)
    made = provenance()
    result.prepare()
    with part_of(str(result.rows)) as rows_part:
        start = time.perf_counter()
        count, agent = fetch(server, query, options.limit, rows_part)
        made |= {"uri": server.uri, "server": agent, "parameters": query.parameters, "query": query.text}
        made |= {"sha256": sha256(query.text.encode()).hexdigest(), "rows": count}
        made["seconds"] = time.perf_counter() - start
        with part_of(str(result.record)) as record_part:
            Path(record_part).write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", "utf-8")
            result.publish(rows_part, record_part)
    print(f"{count} rows: {result.rows}")


# The command ----------------------------------------------------------------------------------------------------------


def show_names() -> None:
    for name in names():
        print(name, *(f"${parameter}" for parameter in parameters_of(read_query(name))))


def show(name: str, options: argparse.Namespace) -> None:
    """Print what would be asked, and where its rows would go. What `run` would refuse of these is refused here."""
    query = prepare(name, options.param)
    result = result_of(name, options.overwrite)
    result.refuse_existing()
    print(query.text.rstrip("\n"))
    for key, value in query.parameters.items():
        print(f"${key} = {json.dumps(value, ensure_ascii=False)}")
    print(f"rows: {result.rows}")


def whole_number(text: str) -> int:
    """For argparse, whose message has this function's name."""
    if not text.isdecimal() or int(text) > sys.maxsize:
        raise ValueError
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a file of queries/, without .cql, or its number")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=JSON", help="a parameter, or KEY=@FILE")
    parser.add_argument("--limit", type=whole_number, metavar="N", help="stop after N rows")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result")
    parser.add_argument("--dry-run", action="store_true", help="show what would be asked, and ask no server")
    options = parser.parse_args()
    load_dotenv(find_env())
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)
    end_at_signals(f"query.py: {options.name}: interrupted")
    try:
        if options.name is None:
            show_names()
        elif options.dry_run:
            show(find(options.name), options)
        else:
            run(find(options.name), options)
    except (DriverError, Neo4jError, OSError, RecursionError, ValueError) as error:
        reason = getattr(error, "message", None) or str(error)
        parser.exit(1, f"query.py: {options.name or 'queries'}: {' '.join(reason.split())}\n")


if __name__ == "__main__":
    main()
