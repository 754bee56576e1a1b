"""Compare query.py with a bare loop that writes JSON lines: rows of 200 bytes from a real server, medians of three.

Both run with the driver neo4j alone and with neo4j-rust-ext. The number of rows is an argument (default: 1000000).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from render import BIN, ROOT, quiet_git, repository

sys.path.insert(0, str(ROOT / "tests"))
from support.bolt import Bolt

ROUNDS = 3
QUERY = "UNWIND range(1, $rows) AS n RETURN n AS id, 'YAL001C' AS gene, 0.5 AS fitness, $text AS text"
BARE = r"""
import json, os, sys, neo4j
auth = os.environ["NEO4J_USERNAME"], os.environ["NEO4J_PASSWORD"]
driver = neo4j.GraphDatabase.driver(os.environ["NEO4J_URI"], auth=auth)
with driver, driver.session(database="neo4j") as session:
    with open(os.path.join(os.environ["DATA_ROOT"], "bare.jsonl"), "w") as file:
        for row in session.begin_transaction().run(sys.argv[1], rows=int(sys.argv[2]), text=sys.argv[3]):
            file.write(json.dumps(dict(row)) + "\n")
"""
MEASURE = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def measure(command, lab, environment):
    """Return a command's wall time in seconds and its peak memory in MB."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, command)],
        cwd=lab, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return time.perf_counter() - start, int(done.stdout) / (1024 if sys.platform == "linux" else 1024**2)


def main():
    rows = int(sys.argv[1]) if sys.argv[1:] else 1_000_000
    text = "x" * (200 - len(json.dumps({"id": rows, "gene": "YAL001C", "fitness": 0.5, "text": ""})))
    with tempfile.TemporaryDirectory() as folder:
        quiet_git(folder)
        lab = Path(folder, "lab")
        copy = [BIN / "copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", ROOT, lab / "experiments/011-x"]
        subprocess.run(copy, check=True, capture_output=True)
        (lab / "data").mkdir()
        repository(lab, {"experiments/011-x/queries/rows.cql": QUERY, "bare.py": BARE, ".gitignore": "/data\n"})
        Path(folder, "bolt").mkdir()
        server = Bolt(Path(folder, "bolt"))
        environment = os.environ | server.environment | {"DATA_ROOT": str(lab / "data")}
        ours = ["experiments/011-x/scripts/query.py", "rows", "--overwrite"]
        ours += ["--param", f"rows={rows}", "--param", f'text="{text}"']
        packages = ("neo4j-rust-ext", "python-dotenv", "tqdm")
        rust = [BIN / "uv", "run", "--quiet", "--no-project", *(f"--with={name}" for name in packages), "python"]
        commands = {
            "bare loop, neo4j": [sys.executable, "bare.py", QUERY, rows, text],
            "query.py, neo4j": [sys.executable, *ours],
            "bare loop, neo4j-rust-ext": [*rust, "bare.py", QUERY, rows, text],
            "query.py, neo4j-rust-ext": [*rust, *ours],
        }
        try:
            results = {name: [] for name in commands}
            for _ in range(ROUNDS):
                for name, command in commands.items():
                    results[name].append(measure(command, lab, environment))
        finally:
            server.stop()
        size = (lab / "data/experiments/011-x/queries/rows.jsonl").stat().st_size / rows
        print(f"\n{rows:,} rows of {size:.0f} bytes (median of {ROUNDS})\n")
        medians = {name: list(map(statistics.median, zip(*runs, strict=True))) for name, runs in results.items()}
        for name, (seconds, memory) in medians.items():
            share = medians[name.replace("query.py", "bare loop")][0] / seconds
            print(f"  {name:<28} {rows / seconds:9,.0f} rows/s   {share:5.2f} of the bare loop   {memory:5.0f} MB")


if __name__ == "__main__":
    main()
