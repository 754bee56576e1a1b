"""Measure the trials per second of 1, 2 and 8 workers with a trivial objective, and count lost and repeated trials.

optuna_worker.py is compared with itself at an earlier commit, which composed a configuration for each trial, and
with bare loops of ask and tell over a journal, SQLite and PostgreSQL (Debian's postgresql). Times are from a study's
first trial to its last, without the start of Python. The number of trials is an argument (default: 64).
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from render import BIN, ROOT, quiet_git, repository

sys.path.insert(0, str(ROOT / "tests"))
from support.process import free_port

WORKERS = (1, 2, 8)
EARLIER = "45bbab5"
SCRIPT = """\
import hydra
from runtime import Run

@hydra.main(version_base="1.3", config_path="../conf", config_name="default")
def main(cfg):
    with Run(cfg):
        return cfg.start
"""


def storage(url):
    return RDBStorage(url) if "://" in url else JournalStorage(JournalFileBackend(url))


def work(url):
    """Run a worker of a bare loop. The wanted trials are in the queue; the worker ends at the first other trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="bare", storage=storage(url))
    while "index" in (trial := study.ask()).user_attrs:
        print(trial.user_attrs["index"], flush=True)
        study.tell(trial, trial.suggest_float("x", 0, 1))
    study.tell(trial, state=TrialState.FAIL)


@contextlib.contextmanager
def postgresql(folder):
    """Start a PostgreSQL server and yield its URL. It refuses to run as root, so root starts it as user postgres."""
    tools = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not tools:
        sys.exit("PostgreSQL is not installed. Install it: apt-get install --no-install-recommends postgresql")
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    folder.mkdir()
    folder.parent.chmod(0o755)
    if user:
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    start = {"check": True, "stdout": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*user, tools[-1] / "initdb", "--username=bench", "--auth=trust", folder / "data"], **start)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    control = [*user, tools[-1] / "pg_ctl", "--pgdata", folder / "data", "--wait"]
    subprocess.run([*control, "--log", folder / "log", "--options", options, "start"], **start)
    try:
        yield f"postgresql+psycopg://bench@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "--mode", "fast", "stop"], **start)


def together(workers, command, **options):
    """Run a command in several processes. Return the lines that they print, and the number that crashed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    processes = [subprocess.Popen(list(map(str, command)), **pipes, **options) for _ in range(workers)]
    lines = [line for process in processes for line in process.communicate()[0].splitlines()]
    return lines, sum(process.returncode != 0 for process in processes)


def measure(name, url, lines, crashed, wanted):
    """Return trials per second, and the numbers of lost trials, repeated trials and crashed workers."""
    study = optuna.load_study(study_name=name, storage=storage(url))
    complete = study.get_trials(states=[TrialState.COMPLETE])
    span = max(x.datetime_complete for x in complete) - min(x.datetime_start for x in complete)
    twice = sum(count > 1 for count in Counter(lines).values())
    return len(complete) / span.total_seconds(), wanted - len(complete), twice, crashed


def bare(url, workers, wanted):
    with contextlib.suppress(KeyError):
        optuna.delete_study(study_name="bare", storage=storage(url))
    study = optuna.create_study(study_name="bare", storage=storage(url))
    for index in range(wanted):
        study.enqueue_trial({}, user_attrs={"index": index})
    command = [sys.executable, "-c", "import sys, sweeps; sweeps.work(sys.argv[1])", url]
    return measure("bare", url, *together(workers, command, cwd=Path(__file__).parent), wanted)


def ours(lab, workers, wanted):
    shutil.rmtree(lab / "data", ignore_errors=True)
    (lab / "data").mkdir()
    environment = os.environ | {"DATA_ROOT": str(lab / "data"), "ASSET_IMAGES_DIR": str(lab / "data")}
    environment["EXPERIMENT_ROOT"] = str(lab / "experiments")
    command = [sys.executable, "experiments/011-x/scripts/optuna_worker.py", "--config-name", "x_gh_optuna"]
    _, crashed = together(workers, command, cwd=lab, env=environment)
    folders = [path.parent.name for path in lab.glob("data/experiments/011-x/runs/x_gh_optuna/*/provenance.json")]
    journal = lab / "data/experiments/011-x/studies/011-x_gh_optuna.journal"
    return measure("011-x_gh_optuna", str(journal), folders, crashed, wanted)


def make_lab(lab, version, wanted):
    """Render an experiment with a sweep of a trivial objective, at a commit of the template."""
    answers = ["--data", "runs={x: [gh_optuna]}", "--data", "package="]
    copy = [BIN / "copier", "copy", "--quiet", "--defaults", f"--vcs-ref={version}", *answers, ROOT]
    subprocess.run([*copy, lab / "experiments/011-x"], check=True, capture_output=True)
    conf = (lab / "experiments/011-x/conf/x_gh_optuna.yaml").read_text()
    files = {
        "experiments/011-x/scripts/x.py": SCRIPT,
        "experiments/011-x/conf/x_gh_optuna.yaml": conf.replace("n_trials: 64", f"n_trials: {wanted}"),
        ".gitignore": "/data\n",
    }
    return repository(lab, files)


def has_commit(name):
    found = subprocess.run(["git", "cat-file", "-e", f"{name}^{{commit}}"], cwd=ROOT, capture_output=True)
    return found.returncode == 0


def main():
    wanted = int(sys.argv[1]) if sys.argv[1:] else 64
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, postgresql(Path(folder, "postgresql")) as server:
        quiet_git(folder)
        labs = {"optuna_worker.py": make_lab(Path(folder, "lab"), "HEAD", wanted)}
        if has_commit(EARLIER):
            labs[f"at {EARLIER}"] = make_lab(Path(folder, "earlier"), EARLIER, wanted)
        else:
            print(f"This clone lacks commit {EARLIER}, so it is not measured. Run: git fetch --unshallow")
        storages = {"journal": f"{folder}/journal.log", "SQLite": f"sqlite:///{folder}/sqlite.db", "PostgreSQL": server}
        print(f"\n{wanted} trials of a trivial objective\n")
        for workers in WORKERS:
            rows = {name: ours(lab, workers, wanted) for name, lab in labs.items()}
            rows |= {f"bare loop, {name}": bare(url, workers, wanted) for name, url in storages.items()}
            for name, (rate, lost, twice, crashed) in rows.items():
                print(
                    f"  {workers} workers  {name:<22} {rate:6.1f} trials/s  {1000 * workers / rate:6.0f} ms each"
                    f"   {lost:3} lost   {twice:3} run twice   {crashed} workers crashed"
                )


if __name__ == "__main__":
    main()
