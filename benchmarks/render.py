"""Measure a render and a first run: interleaved medians of ten, and ratios to a floor.

The floor of a render is `copier copy` of a template of one file; in one process, of the rendered files without Jinja.
Set CCDS to a clone of a cookiecutter template to compare it too (cookiecutter must be on PATH).
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import copier

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
ROUNDS = 10


def quiet_git(folder):
    """Give git settings of its own: its maintenance in the background would still work in a folder that is removed."""
    settings = Path(folder, "gitconfig")
    settings.write_text(
        "[user]\nname = bench\nemail = bench@example.org\n[init]\ndefaultBranch = main\n"
        "[gc]\nauto = 0\n[maintenance]\nauto = false\n"
    )
    os.environ["GIT_CONFIG_GLOBAL"] = str(settings)


def as_installed(folder):
    """Let Python store compiled modules, as for an installed command, and buffer its output."""
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        os.environ.pop(name, None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(folder, "pycache"))


def repository(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Bench"]):
        subprocess.run(["git", *command], cwd=path, check=True)
    return path


def template(path):
    """A repository with the template's files as they are, but with the lab of the tests, and without its history."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = {name: (ROOT / name).read_bytes() for name in names.splitlines()}
    return repository(path, files | {"lab.yml": (ROOT / "tests/lab.yml").read_bytes()})


def medians(commands, cwd, environment=None):
    """Median wall time of each command in seconds. `{n}` in an argument is replaced by the round."""
    times = {name: [] for name in commands}
    for number in range(-1, ROUNDS):  # the first round warms the caches
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(
                [str(part).replace("{n}", str(number + 1)) for part in command],
                cwd=cwd,
                env=environment,
                check=True,
                capture_output=True,
            )
            if number >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def medians_in_process(templates, folder):
    """Median CPU time in seconds of a render by each template in this process: {name: (template, answers)}."""
    warnings.simplefilter("ignore")
    times = {name: [] for name in templates}
    for number in range(-1, ROUNDS):  # the first round warms the caches
        for name, (path, answers) in templates.items():
            destination = folder / f"{name}-{number + 1}" / "011-x"
            start = time.process_time()
            copier.run_copy(str(path), destination, data=answers, defaults=True, quiet=True, vcs_ref="HEAD")
            if number >= 0:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def table(title, rows, floor):
    print(f"\n{title}\n")
    for name, seconds in rows.items():
        print(f"  {name:<44} {seconds:7.3f} s   {seconds / rows[floor]:5.2f} x")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        quiet_git(folder)
        one = repository(folder / "one", {"copier.yml": "_subdirectory: template\n", "template/a.txt": "a\n"})
        ours = template(folder / "ours")
        copy = [BIN / "copier", "copy", "--quiet", "--defaults"]
        commands = {
            "floor: copier copy of one file": [*copy, one, folder / "floor-{n}"],
            "copier copy of an experiment": [*copy, "--data", "experiment=011-x", ours, folder / "ours-{n}"],
        }
        if os.environ.get("CCDS"):
            cookiecutter = shutil.which("cookiecutter") or sys.exit("CCDS is set, and cookiecutter is not on PATH")
            commands["cookiecutter " + Path(os.environ["CCDS"]).name] = [
                cookiecutter,
                "--no-input",
                "--output-dir",
                folder / "ccds-{n}",
                os.environ["CCDS"],
            ]
        table("Render (median of 10)", medians(commands, folder), "floor: copier copy of one file")

        files = folder / "rendered"
        copier.run_copy(str(ours), files, data={"experiment": "011-x"}, defaults=True, quiet=True, vcs_ref="HEAD")
        plain = {
            f"template/{path.relative_to(files)}": path.read_bytes() for path in files.rglob("*") if path.is_file()
        }
        plain = repository(folder / "plain", {"copier.yml": "_subdirectory: template\n"} | plain)
        many = {f"script_{number}": [f"gh_{run:03}" for run in range(10)] for number in range(4)}
        templates = {
            "floor: the same files without Jinja": (plain, {}),
            "an experiment": (ours, {}),
            "an experiment with 40 runs": (ours, {"runs": many}),
        }
        rows = medians_in_process(templates, folder)
        table("Render in one process (CPU time, median of 10)", rows, "floor: the same files without Jinja")

        lab = folder / "lab"
        subprocess.run([*copy, "--data", "package=", ours, lab / "experiments/011-x"], check=True, capture_output=True)
        (lab / "data").mkdir()
        repository(lab, {".gitignore": "/data\n"})
        environment = os.environ | {
            "DATA_ROOT": str(lab / "data"),
            "ASSET_IMAGES_DIR": str(lab / "data"),
            "EXPERIMENT_ROOT": str(lab / "experiments"),
        }
        starter = [sys.executable, "experiments/011-x/scripts/x.py"]
        commands = {
            "bare python": [sys.executable, "-c", ""],
            "import hydra, numpy, matplotlib.figure": [sys.executable, "-c", "import hydra, numpy, matplotlib.figure"],
            "starter --help": [*starter, "--help"],
            "starter, a whole run": [*starter, "--config-name", "x_gh_000"],
        }
        imports = "import hydra, numpy, matplotlib.figure"
        table("Starter (median of 10)", medians(commands, lab, environment), imports)


if __name__ == "__main__":
    main()
