# experiments/011-growth/scripts/runtime.py
# [[experiments.011-growth.scripts.runtime]]
# https://github.com/Mjvolk3/torchcell/tree/main/experiments/011-growth/scripts/runtime.py
"""What the scripts of this experiment share. The template owns this file and improves it in updates."""

import cProfile
import json
import os
import os.path as osp
import platform
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import datetime

EXPERIMENT = "011-growth"
HERE = osp.dirname(osp.realpath(__file__))
SLURM_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_PARTITION",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
)
PARTS = set()  # the files that replace() is writing


def require(*names):
    """The values of these environment variables. Exits unless each is set and not empty."""
    for name in names:
        if not os.environ.get(name):
            stop(f"{name} is {'empty' if name in os.environ else 'not set'}.", name)
    return [os.environ[name] for name in names]


def require_folders(*names):
    """The folders that these environment variables name. Exits unless each is set, exists and can be written."""
    folders = require(*names)
    for name, folder in zip(names, folders, strict=True):
        probe = osp.join(folder, f".{platform.node()}.{os.getpid()}")
        try:
            open(probe, "wb").close()
            os.unlink(probe)
        except OSError as error:
            stop(f"{name} names a folder that cannot be written: {folder}: {error.strerror}.", name)
        if name == "EXPERIMENT_ROOT" and osp.realpath(osp.join(folder, EXPERIMENT)) != osp.dirname(HERE):
            stop(f"{name} names a folder that does not hold this experiment, {osp.dirname(HERE)}: {folder}.", name)
    return folders


def stop(problem, name):
    from dotenv import find_dotenv

    env = find_dotenv() or osp.join(osp.dirname(osp.dirname(osp.dirname(HERE))), ".env")
    sys.exit(f"{problem}\nSet {name} in {env}, or in the environment, which wins over that file.")


@contextmanager
def create(name):
    """A new file at the path `name()`, open for bytes. Nothing is ever overwritten.

    Where another run has just taken that path, `name()` is asked again a second later; the same answer stops the run.
    """
    path = name()
    while True:
        try:
            file = open(path, "xb")
            break
        except FileExistsError:
            time.sleep(1)
            taken, path = path, name()
            if path == taken:
                sys.exit(f"{path} exists already and was not overwritten: move it away, or change the name.")
    try:
        with file:
            yield file
    except BaseException:
        os.unlink(path)
        raise


@contextmanager
def replace(path):
    """The file at `path`, open for text, replaced as a whole when it is complete. Its folder is made."""
    os.makedirs(osp.dirname(path), exist_ok=True)
    part = f"{path}.{platform.node()}.{os.getpid()}.part"
    PARTS.add(part)
    try:
        with open(part, "w", encoding="utf-8") as file:
            yield file
        os.replace(part, path)
    finally:
        remove_parts(part)


def remove_parts(*parts):
    for part in parts:
        with suppress(FileNotFoundError):
            os.unlink(part)
        PARTS.discard(part)


def end_at_signals(message):
    """At SIGINT or SIGTERM say so, and end at once with no half file left.

    A KeyboardInterrupt in a driver of Neo4j may become another exception, or wait for the server forever.
    """

    bar_end = "\n" if os.isatty(2) else ""

    def end(*_):
        remove_parts(*PARTS)
        os.write(2, f"{bar_end}{message}\n".encode())
        os._exit(1)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def git(*arguments):
    """What git prints of the repository that holds this experiment."""
    command = ["git", "--no-optional-locks", "-C", osp.dirname(HERE), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit():
    """The commit, and whether a tracked file or a new one of this experiment differs from it."""
    try:
        tracked = git("status", "--porcelain", "--untracked-files=no")
        new = git("ls-files", "--others", "--exclude-standard")
        return git("rev-parse", "HEAD"), bool(tracked or new)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "").strip().split("\n")[0] or error
        print(f"No commit in this run's provenance: {reason}", file=sys.stderr)
        return None, None


def now():
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions():
    """Of Python and of each package that is imported."""
    modules = {name: getattr(module, "__version__", None) for name, module in sorted(sys.modules.items())}
    foreign = {name for name in modules if "." not in name and name not in sys.stdlib_module_names}
    packages = {name: version for name, version in modules.items() if name in foreign and isinstance(version, str)}
    return {"python": platform.python_version()} | packages


def write_json(path, value):
    with replace(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def provenance():
    """What made a result: the command, its commit, its host and job, and when it started."""
    head, dirty = commit()
    return {
        "script": f"experiments/{EXPERIMENT}/scripts/{osp.basename(sys.argv[0])}",
        "command": shlex.join([sys.executable, *sys.argv]),
        "commit": head,
        "dirty": dirty,
        "host": platform.node(),
        "slurm": {name: value for name, value in os.environ.items() if name in SLURM_VARIABLES},
        "started": now(),
    }


class Run:
    """One run of a script, which keeps its provenance.json in the run's folder from its start to its end.

    name      for tables: the configuration's name, and in a job array the task's id
    title     for images: the experiment's number and the configuration's name, in a job also its id and the task's
    metadata  for a PNG: the script, configuration, commit and job that made it

    A trial of a sweep by Optuna has the study's name and its own number as its name and its title.
    """

    def __init__(self, cfg):
        """`cfg.config` names the configuration, `cfg.folder` the run's folder."""
        if cfg.wandb.mode not in ("disabled", "offline", "online"):
            sys.exit(f"wandb.mode is {cfg.wandb.mode}: set it to disabled, offline or online.")
        self.cfg, self.wandb = cfg, None
        job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        self.name = cfg.trial or "_".join(filter(None, [cfg.config, task]))
        self.title = cfg.trial or "_".join(filter(None, [f"{EXPERIMENT.split('-')[0]}-{cfg.config}", job, task]))
        self.path = osp.join(cfg.folder, "provenance.json")
        self.profiler = cProfile.Profile() if cfg.profiler.enabled else None
        self.provenance = {"status": "running", "config": cfg.config} | provenance()
        self.metadata = {
            "Script": self.provenance["script"],
            "Configuration": cfg.config,
            "Commit": f"{self.provenance['commit']}{'-dirty' if self.provenance['dirty'] else ''}",
            "Job": "_".join(filter(None, [job, task])) or "none",
        } | ({"Trial": cfg.trial} if cfg.trial else {})

    def __enter__(self):
        self.write()
        if self.cfg.wandb.mode != "disabled":
            self.start_wandb()
        if self.profiler:
            self.profiler.enable()
        return self

    def start_wandb(self):
        import wandb
        from omegaconf import OmegaConf

        for variable, value in os.environ.items():
            if variable.startswith("WANDB_") and not value:
                sys.exit(f"{variable} is empty: unset it.")
        options = {"name": self.title, "dir": self.cfg.folder, "config": OmegaConf.to_container(self.cfg, resolve=True)}
        self.wandb = wandb.init(**self.cfg.wandb, **options)

    def log(self, **metrics):
        """Record results, as numbers, in provenance.json, and in Weights & Biases where `cfg.wandb.mode` says so."""
        self.provenance["metrics"] = self.provenance.get("metrics", {}) | metrics
        self.write()
        if self.wandb:
            self.wandb.log(metrics)

    def __exit__(self, kind, error, traceback):
        if self.profiler:
            self.profiler.disable()
            file = f"{self.title}_{datetime.now():%Y-%m-%d-%H-%M-%S-%f}.prof"
            self.profiler.dump_stats(osp.join(osp.dirname(HERE), "profiling_results", file))
        self.provenance["status"] = "failed" if kind else "finished"
        self.provenance["error"] = repr(error) if kind else None
        self.provenance["finished"] = now()
        self.write()
        if self.wandb:
            self.wandb.finish(exit_code=int(bool(kind)))

    def write(self):
        self.provenance["versions"] = versions()
        write_json(self.path, self.provenance)
