"""Compare query.py with a bare loop that writes JSON lines: rows of 200 bytes from a real server.

Both run with the driver neo4j alone and with neo4j-rust-ext, and take turns. The peak memory of 100,000 rows and of
1,000,000 rows is equal if memory does not grow with the rows. The numbers of rows are arguments.
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
# Prints the CPU time in seconds and the peak memory of a command.
MEASURE = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime, used.ru_maxrss)"
)
DRIVERS = {"neo4j": ["neo4j"], "neo4j-rust-ext": ["neo4j-rust-ext"]}
PACKAGES = ["python-dotenv", "tqdm", "pyarrow"]


def measure(command, lab, environment):
    """Return a command's wall time and CPU time in seconds, and its peak memory in MB."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, command)],
        cwd=lab, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    cpu, peak = done.stdout.split()
    return time.perf_counter() - start, float(cpu), int(peak) / (1024 if sys.platform == "linux" else 1024**2)


def make_pythons(folder):
    """Return a Python for each driver."""
    pythons = {}
    for name, driver in DRIVERS.items():
        pythons[name] = folder / name / "bin/python"
        subprocess.run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder / name], check=True)
        install = [BIN / "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", pythons[name]]
        subprocess.run([*install, *driver, *PACKAGES], check=True)
    return pythons


def commands(pythons, rows):
    """Return the commands that take turns, by driver and name."""
    text = "x" * (200 - len(json.dumps({"id": rows, "gene": "YAL001C", "fitness": 0.5, "text": ""})))
    ours = ["experiments/011-x/scripts/query.py", "rows", "--overwrite"]
    ours += ["--param", f"rows={rows}", "--param", f'text="{text}"']
    every = {
        "bare loop": ["bare.py", QUERY, rows, text],
        "query.py": ours,
        "query.py, Parquet": [*ours, "--format=parquet"],
    }
    return {(driver, name): [python, *words] for driver, python in pythons.items() for name, words in every.items()}


def show(rows, results):
    """Print the medians of each command. Ratios are medians of those of each round."""
    print(f"\n{rows:,} rows of 200 bytes (median of {ROUNDS})\n")
    for (driver, name), rounds in results.items():
        seconds, _, memory = map(statistics.median, zip(*rounds, strict=True))
        bare = results[driver, "bare loop"]
        wall, cpu = (
            statistics.median(other[column] / own[column] for own, other in zip(rounds, bare, strict=True))
            for column in (0, 1)
        )
        line = f"  {name + ', ' + driver:<34} {rows / seconds:9,.0f} rows/s   {memory:5.0f} MB"
        print(f"{line}   {wall:5.2f} of the bare loop; by CPU time {cpu:5.2f}")


def main():
    sizes = [int(word) for word in sys.argv[1:]] or [100_000, 1_000_000]
    with tempfile.TemporaryDirectory() as folder:
        quiet_git(folder)
        lab = Path(folder, "lab")
        copy = [BIN / "copier", "copy", "--quiet", "--defaults", "--vcs-ref=HEAD", "--data", "queries=yes"]
        subprocess.run([*copy, ROOT, lab / "experiments/011-x"], check=True, capture_output=True)
        (lab / "data").mkdir()
        repository(lab, {"experiments/011-x/queries/rows.cql": QUERY, "bare.py": BARE, ".gitignore": "/data\n"})
        pythons = make_pythons(Path(folder))
        Path(folder, "bolt").mkdir()
        server = Bolt(Path(folder, "bolt"))
        environment = os.environ | server.environment | {"DATA_ROOT": str(lab / "data")}
        try:
            for rows in sizes:
                turns = commands(pythons, rows)
                rounds = [[measure(command, lab, environment) for command in turns.values()] for _ in range(ROUNDS)]
                show(rows, dict(zip(turns, zip(*rounds, strict=True), strict=True)))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
