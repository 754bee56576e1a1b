# experiments/011-growth/scripts/query.py
# [[experiments.011-growth.scripts.query]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/query.py
# /// script
# requires-python = ">=3.10,<3.14"
# dependencies = ["neo4j>=4.4.11", "python-dotenv>=1.0", "tqdm>=4.64"]
# ///
"""Run queries/NAME.cql and stream its rows to DATA_ROOT, a JSON object a line. Queries only read."""

import argparse
import json
import logging
import time
from hashlib import sha256
from itertools import islice
from pathlib import Path

from dotenv import load_dotenv
from neo4j import READ_ACCESS, GraphDatabase
from neo4j.exceptions import DriverError, Neo4jError
from runtime import EXPERIMENT, HERE, end_at_signals, provenance, replace, require, require_folders, write_json
from tqdm import tqdm


def run(name, options):
    """Write a query's rows, and beside them what they came from. A failure leaves an earlier result."""
    rows = Path(*require_folders("DATA_ROOT"), "experiments", EXPERIMENT, "queries", f"{name}.jsonl")
    uri, user, password, database = require("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE")
    queries, parameters, record = Path(HERE).parent / "queries", {}, provenance()
    if not (queries / f"{name}.cql").is_file():
        raise ValueError(f"no such query; there are {', '.join(sorted(path.stem for path in queries.glob('*.cql')))}")
    if rows.exists() and not options.overwrite:
        raise ValueError(f"{rows} exists; --overwrite replaces it")
    if "@" in uri or not uri.startswith(("bolt", "neo4j")):
        raise ValueError("NEO4J_URI must be bolt://HOST:PORT or neo4j://HOST:PORT, without a user or password in it")
    query = (queries / f"{name}.cql").read_text("utf-8")
    for param in [*(f"=@{path}" for path in queries.glob(f"{name}.json")), *options.param]:
        key, _, value = param.partition("=")
        try:
            value = json.loads(Path(value[1:]).read_text("utf-8") if value.startswith("@") else value)
        except (OSError, ValueError) as error:
            raise ValueError(f"the parameter {param} cannot be read as JSON: {error}") from None
        parameters |= {key: value} if key else value
    encode = json.JSONEncoder(ensure_ascii=False, default=lambda x: dict(x) if hasattr(x, "keys") else str(x)).encode
    start, count = time.perf_counter(), 0
    driver = GraphDatabase.driver(uri, auth=(user, password), connection_timeout=2)
    with driver, driver.session(database=database, default_access_mode=READ_ACCESS) as session, replace(rows) as file:
        result = session.begin_transaction().run(query, parameters)  # the session rolls it back at its end
        for row in tqdm(islice(result, options.limit), unit=" rows", disable=None):
            file.write(encode(dict(row.items())) + "\n")
            count += 1
        summary = result.consume()
        if summary.counters.contains_updates:
            raise ValueError("it writes, and was rolled back; a query here only reads")
    record |= {"uri": uri, "server": summary.server.agent, "parameters": parameters, "query": query}
    record |= {"sha256": sha256(query.encode()).hexdigest(), "rows": count, "seconds": time.perf_counter() - start}
    write_json(rows.with_suffix(".provenance.json"), record)
    print(f"{count} rows: {rows}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME", help="a file of queries/, without .cql")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=JSON", help="a parameter, or KEY=@FILE")
    parser.add_argument("--limit", type=int, metavar="N", help="stop after N rows")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result")
    options = parser.parse_args()
    load_dotenv()
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)
    end_at_signals(f"query.py: {options.name}: interrupted")
    try:
        run(options.name, options)
    except (DriverError, Neo4jError, OSError, ValueError) as error:
        reason = getattr(error, "message", None) or str(error)
        parser.exit(1, f"query.py: {options.name}: {' '.join(reason.split())}\n")


if __name__ == "__main__":
    main()
