"""Compare submit.sh with bare sbatch on a real Slurm, and pinning with `git worktree add`.

Pinning is measured as a submission with --dry-run on a machine that forbids Python on login nodes, in repositories
with other text. The megabytes of that text are arguments (default: 0 200 1000).
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from render import ROOT, quiet_git, table

sys.path.insert(0, str(ROOT / "tests"))
from support.lab import make_lab
from support.process import commit
from support.slurm import Slurm, Submitter
from support.template import copy_template

LAUNCHERS = 40
ROUNDS = 3


def seconds(command, rounds=ROUNDS, **options):
    """Return the least wall time of a command in seconds, since other programs may slow it down."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(list(map(str, command)), check=True, capture_output=True, **options)
        times.append(time.perf_counter() - start)
    return min(times)


def submissions(jobs, slurm):
    """Return the seconds to submit one and many launchers: by bare sbatch, with pinned code, and with a preflight."""
    rows = {}
    for count in (1, LAUNCHERS):
        names = [f"{{}}_x_{number:03}" for number in range(count)]
        scripts = jobs.experiment / "scripts"
        bare = " && ".join(f"sbatch --hold {scripts}/gh_{name[3:]}.slurm" for name in names)
        options = {"cwd": jobs.lab.path, "env": jobs.environment, "rounds": ROUNDS if count == 1 else 1}
        rows[f"{count} by bare sbatch"] = seconds(["bash", "-c", bare], **options)
        for label, machine, more in (
            ("submit.sh --live, no preflight", "igb_cabbi", ["--live"]),
            ("submit.sh, no preflight", "igb_cabbi", []),
            ("submit.sh", "gh", []),
        ):
            command = ["bash", scripts / "submit.sh", *(name.format(machine) for name in names), *more, "--", "--hold"]
            rows[f"{count} by {label}"] = seconds(command, **options)
        slurm("scancel", "--user", str(os.getuid()))
    return rows


# The check line of launchers for a machine that forbids Python on login nodes.
CHECK_WITHOUT_PYTHON = """if [[ ${1-} == --check ]]; then printf '%s\\0' '' 0 "${#run[@]}" "${run[@]}" && exit; fi"""


def write_text(folder, megabytes):
    """Write text in files of 100 kB with different content."""
    folder.mkdir()
    words = random.Random(megabytes)
    for number in range(megabytes * 10):
        file = folder / f"{number % 100:02}/{number:05}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{words.random()} some text\n" * 3400)


def pins(jobs, sizes, folder):
    """Return the seconds to pin a changed experiment and to add a worktree, for each size of other text in MB."""
    rows = {}
    command = ["bash", jobs.experiment / "scripts/submit.sh", "igb_cabbi_x_000", "--dry-run"]
    for size in sizes:
        write_text(jobs.lab.path / f"text{size}", size)
        commit(jobs.lab.path)
        with (jobs.experiment / "conf/default.yaml").open("a") as file:
            file.write(f"size{size}: {size}\n")
        rows[f"pin beside {size} MB"] = seconds(command, cwd=jobs.lab.path, env=jobs.environment)
        add = f"git worktree add --force --detach {folder}/worktree && git worktree remove --force {folder}/worktree"
        rows[f"git worktree add beside {size} MB"] = seconds(["bash", "-c", add], cwd=jobs.lab.path)
        shutil.rmtree(jobs.lab.path / f"text{size}")
    return rows


def main():
    sizes = list(map(int, sys.argv[1:])) or [0, 200, 1000]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        quiet_git(folder)
        (folder / "slurm").mkdir()
        slurm = Slurm(folder / "slurm")
        os.environ |= slurm.environment
        try:
            lab = make_lab(folder / "lab", copy_template(folder / "template"))
            runs = [f"{machine}_{number:03}" for machine in ("gh",) for number in range(LAUNCHERS)]
            jobs = Submitter(lab, slurm, runs={"x": runs}, package="torchcell")
            for number in range(LAUNCHERS):  # the same launchers for a machine that forbids Python on login nodes
                text = (jobs.experiment / f"scripts/gh_x_{number:03}.slurm").read_text()
                text = re.sub(r"^if .* == --check .*$", lambda _: CHECK_WITHOUT_PYTHON, text, flags=re.MULTILINE)
                (jobs.experiment / f"scripts/igb_cabbi_x_{number:03}.slurm").write_text(text)
            commit(lab.path)
            table(f"Submission (least of {ROUNDS})", submissions(jobs, slurm), "1 by bare sbatch")
            rows = pins(jobs, sizes, folder)
            table(f"Pinning (least of {ROUNDS})", rows, next(iter(rows)))
        finally:
            slurm.stop()


if __name__ == "__main__":
    main()
