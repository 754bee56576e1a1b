"""submit.sh beside bare sbatch, on a real Slurm of this machine; and pinning beside 0, 200 MB and 1 GB of other text.

Pinning is a submission with --dry-run that may not run Python, and `git worktree add` what people do instead. Megabytes
of other text are arguments (default: 0 200 1000).
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
    """The least wall time of a command, in seconds: others use this machine, too."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(list(map(str, command)), check=True, capture_output=True, **options)
        times.append(time.perf_counter() - start)
    return min(times)


def submissions(jobs, slurm):
    """Seconds of one launcher and of many: bare, with pinned code, and with a preflight too."""
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


# The line of a launcher whose machine allows no Python on its login nodes.
CHECK_WITHOUT_PYTHON = """if [[ ${1-} == --check ]]; then printf '%s\\0' '' 0 "${#run[@]}" "${run[@]}" && exit; fi"""


def write_text(folder, megabytes):
    """Text in files of 100 kB, none like another."""
    folder.mkdir()
    words = random.Random(megabytes)
    for number in range(megabytes * 10):
        file = folder / f"{number % 100:02}/{number:05}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{words.random()} some text\n" * 3400)


def pins(jobs, sizes, folder):
    """Seconds to pin a changed experiment beside so many megabytes of text, and to add a worktree."""
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
            for number in range(LAUNCHERS):  # the same launchers, where Python may not run
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
