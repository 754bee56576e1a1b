"""Compare `experiments update` with a loop of `copier update`, for ten experiments in repositories of growing size.

The megabytes of other tracked text are arguments (default: 0 200 1000). Peak memory is that of the largest process.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from render import BIN, ROOT, as_installed, quiet_git, repository, template

EXPERIMENTS = [f"0{number}-x" for number in range(10, 20)]
TOOL = [sys.executable, "-m", "experiments", "update"]
COPIER = [BIN / "copier", "update", "--quiet", "--defaults"]
ROUNDS = 3


def git(cwd, *arguments):
    subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True)


def monorepo(folder, source, experiments, megabytes):
    text = "".join(f"{number:>15} " for number in range(62_500)) + "\n"  # a megabyte
    repository(
        folder,
        {f"text/{number // 100}/{number}.txt": f"{number}\n{text}" for number in range(megabytes)} | {"a": "a\n"},
    )
    for name in experiments:
        subprocess.run(
            [
                BIN / "copier",
                "copy",
                "--quiet",
                "--defaults",
                "--data",
                "runs={x: [gh_000, delta_001]}",
                source,
                folder / "experiments" / name,
            ],
            check=True,
            capture_output=True,
        )
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Experiments")


def release(source):
    for name, old, new in (
        ("lab.yml", "bfjt-delta-gpu", "new-account"),
        ("template/scripts/submit.sh.jinja", "set -euo pipefail\n", "set -euo pipefail\nshopt -s failglob\n"),
    ):
        (source / name).write_text((source / name).read_text().replace(old, new))
    git(source, "commit", "--quiet", "--all", "--message", "v1.1.0")
    git(source, "tag", "v1.1.0")


def measure(commands, cwd):
    """Return the wall time in seconds and the peak memory in MB of the largest process. Changes are reverted."""
    program = (
        "import resource, subprocess, sys\n"
        "for command in eval(sys.argv[1]): subprocess.run(command, check=True, capture_output=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    start = time.perf_counter()
    printed = subprocess.run(
        [sys.executable, "-c", program, repr([[str(word) for word in command] for command in commands])],
        cwd=cwd,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    seconds = time.perf_counter() - start
    git(cwd, "checkout", "--", "experiments")
    return seconds, int(printed) / (1024 if sys.platform == "linux" else 1024**2)


def main():
    os.environ["PYTHONPATH"] = str(ROOT / "src")
    sizes = [int(word) for word in sys.argv[1:]] or [0, 200, 1000]
    with tempfile.TemporaryDirectory() as folder:
        quiet_git(folder)
        as_installed(folder)
        source = template(Path(folder, "template"))
        git(source, "tag", "v1.0.0")
        labs = {size: Path(folder, f"lab-{size}") for size in sizes}
        for size, lab in labs.items():
            monorepo(lab, source, EXPERIMENTS, size)
        forty = Path(folder, "forty")
        names = [f"{number:03}-x" for number in range(40)]
        monorepo(forty, source, names, 0)
        release(source)
        print(f"\nUpdate of ten experiments (median of {ROUNDS})\n")
        print(f"  {'other text':>10}   {'copier update, looped':>24}   {'experiments update':>24}   {'faster':>7}")
        loop = [[*COPIER, f"experiments/{name}"] for name in EXPERIMENTS]
        for size, lab in labs.items():
            pairs = [(measure(loop, lab), measure([TOOL], lab)) for _ in range(ROUNDS if size < 500 else 1)]
            plain, ours = (
                [statistics.median(column) for column in zip(*side, strict=True)] for side in zip(*pairs, strict=True)
            )
            cells = [f"{seconds:9.1f} s {memory:7.0f} MB" for seconds, memory in (plain, ours)]
            print(f"  {size:>7} MB   {cells[0]:>24}   {cells[1]:>24}   {plain[0] / ours[0]:6.1f} x", flush=True)
        seconds, memory = measure([[*TOOL, "--jobs=2"]], forty)
        print(f"\n  forty experiments with --jobs 2: {seconds:.1f} s, {memory:.0f} MB")
        seconds, memory = measure([[*COPIER, f"experiments/{name}"] for name in names], forty)
        print(f"  forty experiments, copier update looped: {seconds:.1f} s, {memory:.0f} MB\n")


if __name__ == "__main__":
    main()
