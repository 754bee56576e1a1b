#!/usr/bin/env bash
# ArcadeDB 26.10.2.post1 over Bolt: a rollback does not undo CALL { ... } IN TRANSACTIONS.
#
# Guess: in an explicit transaction the statement is refused, as Neo4j refuses it, or it is undone by the rollback.
# Seen:  it is accepted, and its writes are there after the rollback. A plain CREATE in the same transaction is undone.
# Here:  query.py only reads. It refuses such a query by its text before any server is asked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  arcadedb-embedded==26.10.2.post1 neo4j==6.4.1 2> /dev/null
cd "$folder"
cat > server.py << 'END'
import os
import sys

import arcadedb_embedded as arcadedb

plugin = "Bolt:com.arcadedb.bolt.BoltProtocolPlugin"
settings = {"http_port": int(sys.argv[1]), "bolt_port": int(sys.argv[2]), "server_plugins": plugin}
server = arcadedb.create_server(os.path.abspath("server"), "correct-horse-battery", settings)
server.start()
server.create_database("neo4j")
print("ready", flush=True)
sys.stdin.read()
END
env/bin/python - << 'END'
import socket
import subprocess
import sys

import neo4j

ports = []
for _ in range(2):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ports.append(probe.getsockname()[1])
server = subprocess.Popen(
    [sys.executable, "server.py", *map(str, ports)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
)
try:
    while "ready" not in (line := server.stdout.readline()):
        assert line, "the server did not start"
    address, person = f"bolt://127.0.0.1:{ports[1]}", ("root", "correct-horse-battery")
    with neo4j.GraphDatabase.driver(address, auth=person) as driver, driver.session(database="neo4j") as session:
        counts = {}
        for label, query in {
            "Plain": "UNWIND range(1, 5) AS n CREATE (:Plain {n: n})",
            "Batched": "UNWIND range(1, 5) AS n CALL { WITH n CREATE (:Batched {n: n}) } IN TRANSACTIONS OF 2 ROWS",
        }.items():
            transaction = session.begin_transaction()
            transaction.run(query).consume()
            transaction.rollback()
            counts[label] = session.run(f"MATCH (n:{label}) RETURN count(n) AS n").single()["n"]
        print(f"neo4j {neo4j.__version__}, ArcadeDB 26.10.2.post1, nodes after a rollback: {counts}")
        assert counts == {"Plain": 0, "Batched": 5}, "this has changed"
finally:
    server.kill()
END
