"""Compare submit.sh with bare sbatch and with an earlier version of itself on a real Slurm, and pinning with
`git worktree add`.

The earlier version is the commit EARLIER of this repository. A shallow clone may lack it, and then the comparison is
skipped. Pinning is measured as a submission with --dry-run on a machine that forbids Python on login nodes, in
repositories with other text. The megabytes of that text are arguments (default: 0 200 1000).
"""

import os
import random
import re
import resource
import shutil
import statistics
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
from support.template import Template, copy_template

EARLIER = "45bbab5"
LAUNCHERS = 40
ROUNDS = 5
KINDS = ("wall time", "CPU time")


def seconds(command, **options):
    """Return the wall time and the CPU time of a command in seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True, **options)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def median_seconds(command, **options):
    return statistics.median(seconds(command, **options)[0] for _ in range(ROUNDS))


def interleaved(commands, slurm):
    """Return the median wall times and CPU times of commands, {name: (submitter, command, is_changed)}.

    The commands take turns, because other programs of this machine slow some rounds. `is_changed` means that a
    configuration is edited before each round, so the code is pinned again.
    """
    times = {name: [] for name in commands}
    for number in range(-1, ROUNDS):  # the first round warms the caches
        for name, (submitter, command, is_changed) in commands.items():
            if is_changed:
                with (submitter.experiment / "conf/default.yaml").open("a") as file:
                    file.write(f"# {name} {number}\n")
            taken = seconds(command, cwd=submitter.lab.path, env=submitter.environment)
            if number >= 0:
                times[name].append(taken)
            slurm("scancel", "--user", str(os.getuid()))
    columns = {name: list(zip(*values, strict=True)) for name, values in times.items()}
    return [{name: statistics.median(values[column]) for name, values in columns.items()} for column in (0, 1)]


def earlier_template(path):
    """Return the template of the commit EARLIER with its own lab of the tests, or None if git lacks that commit."""
    archive = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True)
    if archive.returncode:
        return None
    path.mkdir()
    subprocess.run(["tar", "--extract"], cwd=path, input=archive.stdout, check=True)
    shutil.copy(path / "tests/lab.yml", path / "lab.yml")
    subprocess.run(["git", "init", "--quiet"], cwd=path, check=True)
    template = Template(path, "v1.0.0")
    template.release("v1.0.0")
    return template


def submissions(count, jobs, earlier, slurm):
    """Return the median times to submit launchers: by bare sbatch, with pinned code, and with a preflight."""
    names = [f"{{}}_x_{number:03}" for number in range(count)]
    bare = " && ".join(f"sbatch --hold {jobs.experiment}/scripts/{name.format('gh')}.slurm" for name in names)
    commands = {f"{count} by bare sbatch": (jobs, ["bash", "-c", bare], False)}
    for label, submitter, machine, more in (
        ("submit.sh --live, no preflight", jobs, "igb_cabbi", ["--live"]),
        ("submit.sh, no preflight", jobs, "igb_cabbi", []),
        ("submit.sh", jobs, "gh", []),
        (f"submit.sh of {EARLIER}", earlier, "gh", []),
        ("submit.sh, changed code", jobs, "gh", []),
        (f"submit.sh of {EARLIER}, changed code", earlier, "gh", []),
    ):
        if submitter:
            launchers = [name.format(machine) for name in names]
            command = ["bash", submitter.experiment / "scripts/submit.sh", *launchers, *more, "--", "--hold"]
            commands[f"{count} by {label}"] = submitter, command, label.endswith("changed code")
    return interleaved(commands, slurm)


def parts(count, rows):
    """Return the parts of a submission's time. They are differences between the kinds of submission in `rows`."""
    kinds = ("submit.sh --live, no preflight", "submit.sh, no preflight", "submit.sh")
    live, pinned, whole = (rows[f"{count} by {kind}"] for kind in kinds)
    return {
        "texts, options, receipts, sbatch": live,
        "pinning": pinned - live,
        "preflight": whole - pinned,
        "all": whole,
    }


def python_steps(jobs, slurm):
    """Return the median times to start Python, to import Hydra as well, and to compose a configuration as well."""
    script = [jobs.experiment / "scripts/x.py", "--config-name", "x_gh_000", "--cfg", "job"]
    words = {
        "Python starts": ["-c", "pass"],
        "and imports Hydra": ["-c", "import hydra"],
        "and the script composes a configuration": script,
    }
    return interleaved({name: (jobs, [sys.executable, *each], False) for name, each in words.items()}, slurm)


def campaigns(jobs, slurm):
    """Return the median times to submit a run, and a campaign of 8 arms and 12 seeds.

    The preflight composes each arm and each seed once. An axis of config groups makes it compose all 96 points.
    """
    conf = jobs.experiment / "conf"
    arms = "".join(f"    arm{number}: [hours={number + 12}]\n" for number in range(8))
    seeds = f"[{', '.join(map(str, range(12)))}]"
    (conf / "size").mkdir()
    for number in range(12):
        (conf / f"size/s{number}.yaml").write_text(f"# @package _global_\nseed: {number}\n")
    sizes = f"[{', '.join(f's{number}' for number in range(12))}]"
    for number, axis, values in (("001", "seed", seeds), ("002", "size", sizes)):
        text = (conf / f"x_gh_{number}.yaml").read_text()
        if axis == "size":
            text = text.replace("_self_]", "_self_, size: s0]")
        grid = f"grid:\n  arms:\n{arms}  axes: {{{axis}: {values}}}\n"
        (conf / f"x_gh_{number}.yaml").write_text(text + grid)
    commit(jobs.lab.path)
    commands = {}
    for label, launcher in (
        ("one run", "gh_x_000"),
        ("96 points", "gh_x_001"),
        ("96 points with a config group", "gh_x_002"),
    ):
        commands[label] = jobs, ["bash", jobs.experiment / "scripts/submit.sh", launcher, "--", "--hold"], False
    return interleaved(commands, slurm)


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
    """Return the median seconds to pin a changed experiment and to add a worktree, per size of other text in MB."""
    rows = {}
    command = ["bash", jobs.experiment / "scripts/submit.sh", "igb_cabbi_x_000", "--dry-run"]
    for size in sizes:
        write_text(jobs.lab.path / f"text{size}", size)
        commit(jobs.lab.path)
        with (jobs.experiment / "conf/default.yaml").open("a") as file:
            file.write(f"size{size}: {size}\n")
        repository = {"cwd": jobs.lab.path, "env": jobs.environment}
        rows[f"pin beside {size} MB"] = median_seconds(command, **repository)
        add = f"git worktree add --force --detach {folder}/worktree && git worktree remove --force {folder}/worktree"
        rows[f"git worktree add beside {size} MB"] = median_seconds(["bash", "-c", add], **repository)
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
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # both versions keep Python's bytecode, as for most users
        try:
            answers = {"runs": {"x": [f"gh_{number:03}" for number in range(LAUNCHERS)]}, "package": "torchcell"}
            jobs = Submitter(make_lab(folder / "lab", copy_template(folder / "template")), slurm, draws=True, **answers)
            for number in range(LAUNCHERS):  # the same launchers for a machine that forbids Python on login nodes
                text = (jobs.experiment / f"scripts/gh_x_{number:03}.slurm").read_text()
                text = re.sub(r"^if .* == --check .*$", lambda _: CHECK_WITHOUT_PYTHON, text, flags=re.MULTILINE)
                (jobs.experiment / f"scripts/igb_cabbi_x_{number:03}.slurm").write_text(text)
            commit(jobs.lab.path)
            template = earlier_template(folder / "earlier")
            earlier = template and Submitter(make_lab(folder / "earlier-lab", template), slurm, draws=True, **answers)
            for count in (1, LAUNCHERS):
                for kind, rows in zip(KINDS, submissions(count, jobs, earlier, slurm), strict=True):
                    table(f"Submission ({kind}, median of {ROUNDS})", rows, f"{count} by submit.sh")
                table(f"Parts of a submission of {count} (CPU time)", parts(count, rows), "all")
            for kind, rows in zip(KINDS, python_steps(jobs, slurm), strict=True):
                table(f"Steps of Python ({kind}, median of {ROUNDS})", rows, "Python starts")
            for kind, rows in zip(KINDS, campaigns(jobs, slurm), strict=True):
                table(f"Campaigns ({kind}, median of {ROUNDS})", rows, "one run")
            if not earlier:
                print(f"\nNot compared with {EARLIER}, which this clone lacks. Fetch it: git fetch --unshallow")
            rows = pins(jobs, sizes, folder)
            table(f"Pinning (median of {ROUNDS})", rows, next(iter(rows)))
        finally:
            slurm.stop()


if __name__ == "__main__":
    main()
