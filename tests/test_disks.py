"""Disks: results survive missing hard links, full and read-only disks. Locks work in a group."""

import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from support.lab import make_lab
from support.process import edit, free_port, run
from support.template import ROOT

REFUSE = [sys.executable, Path(__file__).parent / "support/refusal.py"]
FIGURE = """\
from matplotlib.figure import Figure
from torchcell.timestamp import timestamp
figure = Figure(figsize=(2, 2))
figure.subplots().plot([1, 2])
images = os.environ["ASSET_IMAGES_DIR"]
"""
NAMES = """\
stamp = timestamp()
for name in (f"{stamp}.png", f"{stamp}.png", "a.svg", "a.svg", f"{stamp}/a.pdf"):
    run.save(figure, osp.join(images, name))
print(stamp)"""


def start(lab, body, *overrides, refuse=None, **kwargs):
    script = lab.write_light(FIGURE + body)
    refusal = [*REFUSE, refuse] if refuse else []
    env = os.environ | kwargs.pop("env", {})
    return run(*refusal, sys.executable, script, *overrides, cwd=lab.path, env=env, **kwargs)


def the_run(lab):
    [path] = lab.data.rglob("provenance.json")
    return path.parent, json.loads(path.read_text())


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Without hard links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS", "EOPNOTSUPP"])
def test_disk_without_hard_links_gets_all_figures(lab, error):
    lab.render()
    done = start(lab, NAMES, refuse=f"link={error}")
    assert (done.returncode, done.stderr) == (0, "")
    stamp = done.stdout.splitlines()[-1]
    assert files(lab.images) == sorted([f"{stamp}.png", f"{stamp}_2.png", "a.svg", f"{stamp}/a.pdf"])
    assert all(path.stat().st_size > 1000 for path in lab.images.rglob("*.*"))


def test_folder_is_checked_as_a_run_uses_it(lab):
    script = lab.render() / "scripts/x.py"
    done = run(*REFUSE, "rename=EPERM", sys.executable, script, cwd=lab.path)
    assert done.returncode == 1 and done.stderr.startswith("DATA_ROOT: cannot write to ")
    limit = "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); runpy.run_path(sys.argv[1], None, '__main__')"
    done = lab.python("-B", "-c", limit, script, env={"PYTHONPATH": str(script.parent)})
    assert done.returncode == 1 and "cannot write to " in done.stderr and "File too large" in done.stderr
    assert list(lab.data.iterdir()) == list(lab.images.iterdir()) == []


# Files that cannot be written where requested -------------------------------------------------------------------------

UNWRITABLE = {
    "another's": ("'other.png'", "another script or configuration made this file", "other.png"),
    "a folder": ("'folder.png'", "another script or configuration made this file", "folder.png"),
    "unreadable": ("'broken.png'", "another script or configuration made this file", "broken.png"),
    "wrong ending": ("'a.jpg'", 'unknown file extension ".jpg"; expected one of: .png, .svg, .pdf, .gif.', "a.png"),
    "no ending": ("''", 'unknown file extension ""; expected one of: .png, .svg, .pdf, .gif.', "images.png"),
    "read-only": ("'/proc/own/a.svg'", "No such file or directory", "a.svg"),
    "too long": ("'n' * 300 + '.pdf'", "File name too long", "figure.png"),
    "no text": ("'a\\0.png'", "ValueError: embedded null byte", "figure.png"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_figure_is_kept_if_it_cannot_be_written(lab, case):
    lab.render()
    (lab.images / "other.png").write_bytes(b"a colleague's")
    (lab.images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1")
    (lab.images / "folder.png").mkdir()
    before = files(lab.images)
    name, problem, kept = UNWRITABLE[case]
    done = start(lab, f"run.save(figure, osp.join(images, {name}))\nrun.table([{{'a': 1}}])\nprint('went on')")
    folder, record = the_run(lab)
    assert (done.returncode, done.stdout) == (1, "went on\n")
    first, last = done.stderr.splitlines()
    assert problem in first and first.endswith(f" It is saved as: {folder}/{kept}")
    assert last == f"{folder}: the run failed, because the files listed above could not be written."
    assert (record["status"], record["error"]) == ("failed", first)
    assert record["figures"] == [f"{folder}/{kept}"] and (folder / kept).stat().st_size > 1000
    assert len(record["tables"]) == 2, "what comes after it is written too"
    assert files(lab.images) == before


def test_figure_is_kept_if_the_images_folder_is_gone(lab):
    """After an unmount, a folder of that name must not appear on the disk below."""
    lab.render()
    done = start(lab, "os.rmdir(images)\nrun.save(figure, osp.join(images, '2026', 'a.png'))")
    folder, _ = the_run(lab)
    assert f"a.png: the folder {lab.images} does not exist. " in done.stderr and f"{folder}/a.png" in done.stderr
    assert done.returncode == 1 and not lab.images.exists() and (folder / "a.png").exists()


@pytest.mark.parametrize(
    ("text", "options"), [(r"$\frac{$ 100", {}), ("caf\udce9 \udce9", {}), ("fine", {"bbox_inches": 5})]
)
def test_figure_that_cannot_be_drawn_is_kept_without_options(lab, text, options):
    lab.render()
    done = start(lab, f"figure.suptitle({text!r})\nrun.save(figure, osp.join(images, 'a.svg'), **{options!r})")
    folder, record = the_run(lab)
    assert done.returncode == 1 and done.stderr.splitlines()[0].startswith(f"{lab.images}/a.svg: ")
    assert record["figures"] == [f"{folder}/a.svg"] and "</svg>" in (folder / "a.svg").read_text()
    assert files(lab.images) == []


def test_figure_that_no_disk_accepts_is_reported(lab):
    lab.render()
    body = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    body += "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\nrun.save(figure, osp.join(images, 'a.png'))"
    done = start(lab, body)
    [line] = [line for line in done.stderr.splitlines() if line.startswith(str(lab.images))]
    assert "a.png: File too large. " in line and "It is lost, because the run folder fails too: " in line
    _, record = the_run(lab)
    assert done.returncode == 1 and record["status"] == "failed"
    assert list(lab.path.rglob("*.part")) == []


def test_table_is_kept_in_the_other_folder(lab):
    experiment = lab.render()
    shutil.rmtree(experiment / "results")
    (experiment / "results").touch()
    done = start(lab, "run.table([{'a': 1}])")
    folder, record = the_run(lab)
    table = folder / "x_gh_000.csv"
    assert (
        done.stderr.startswith(f"{experiment}/results/x_gh_000.csv: ") and f" It is saved as: {table}\n" in done.stderr
    )
    assert (done.returncode, record["tables"], table.read_text()) == (1, [str(table)], "a\n1\n")
    (experiment / "results").unlink()
    lab.data.joinpath("experiments").rename(lab.data / "before")
    done = start(lab, "os.mkdir(osp.join(run.folder, 'x_gh_000.csv'))\nrun.table([{'a': 2}])")
    table = experiment / "results/x_gh_000.csv"
    assert "/x_gh_000.csv: Is a directory. " in done.stderr and f" It is saved as: {table}\n" in done.stderr
    assert (done.returncode, table.read_text()) == (1, "a\n2\n")


def test_table_with_other_columns_is_kept_separately(lab):
    lab.render()
    body = "run.table([{'a': 1}])\nrun.table([{'b': 2}])\nrun.table([{'a': 1}, {'b': 2}])\nrun.table([{'a': 3}])"
    done = start(lab, body)
    folder, record = the_run(lab)
    kept = {"x_gh_000.csv": "a\n3\n", "x_gh_000_kept.csv": "b\n2\n", "x_gh_000_kept_2.csv": "a,b\n1,\n,2\n"}
    assert {path.name: path.read_text() for path in folder.glob("*.csv")} == kept
    assert done.returncode == 1 and len(record["tables"]) == 4
    assert [str(folder / name) in done.stderr for name in kept] == [False, True, True]


def test_figure_is_kept_only_by_rank_zero(lab):
    lab.render()
    ranks = [{"RANK": rank, "TORCHELASTIC_RUN_ID": "4a1e"} for rank in ("0", "1")]
    done = [start(lab, "run.save(figure, osp.join(images, 'a.jpg'))", env=env) for env in ranks]
    assert [each.returncode for each in done] == [1, 0] and done[1].stderr == ""
    assert [path.name for path in lab.data.rglob("*.png")] == ["a.png"]


def test_multirun_continues_after_a_kept_figure(lab):
    lab.render()
    done = start(lab, "run.save(figure, osp.join(images, f'a.{cfg.seed}'))", "--multirun", "seed=png,jpg,svg")
    assert done.returncode == 1 and files(lab.images) == ["a.png", "a.svg"]
    assert [path.parent.name for path in lab.data.rglob("a.png")] == ["1"]


# Locks ----------------------------------------------------------------------------------------------------------------

NO_LOCKS = {"ENOSYS": "Function not implemented", "ENOLCK": "No locks available", "EOPNOTSUPP": "not supported"}
ADVICE = "(Lustre: mount -o flock), or use "
HOLD = "import sys; from pathlib import Path; from experiments.git import Repository\n"
HOLD += "from experiments.errors import Problem\n"
HOLD += "try:\n    with Repository(Path.cwd()).lock(sys.argv[-1]):\n        print('held')\n"
HOLD += "except Problem as problem:\n    print(problem, file=sys.stderr)\n"


def write_query(lab):
    experiment = lab.render(queries=True)
    (experiment / "queries/n.cql").write_text("RETURN 1 AS one")
    server = {"URI": f"bolt://127.0.0.1:{free_port()}", "USERNAME": "u", "PASSWORD": "p", "DATABASE": "d"}
    with (lab.path / ".env").open("a") as file:
        file.writelines(f"NEO4J_{name}={value}\n" for name, value in server.items())
    return [sys.executable, experiment / "scripts/query.py", "n"]


@pytest.mark.parametrize("error", NO_LOCKS)
def test_disk_without_locks_is_refused_in_one_line(lab, error):
    query = write_query(lab)
    lock = lab.data / "experiments/011-x/queries/n.lock"
    done = run(*REFUSE, f"flock={error}", *query, cwd=lab.path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"query.py: n: {lock}: this disk does not support file locks: ")
    assert NO_LOCKS[error] in done.stderr and ADVICE in done.stderr
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = run(*REFUSE, f"flock={error}", sys.executable, "-c", HOLD, "a", cwd=lab.path, env=env)
    lock = lab.path / ".git/experiments/a.lock"
    assert done.stderr.startswith(f"{lock}: this disk does not support file locks: ") and ADVICE in done.stderr
    assert done.stdout == ""


def as_member(number):
    """Return the words before a command of a group member."""
    return ["setpriv", f"--reuid=200{number}", "--regid=3000", "--clear-groups"]


class Group:
    """A repository of two group members without accounts. Their commands run with a umask."""

    def __init__(self, folder, template):
        self.lab = make_lab(folder / "lab", template)
        (folder / "gitconfig").write_text("[safe]\ndirectory = *\n[user]\nname = Ada\nemail = a@example.org\n")
        self.environment = {"GIT_CONFIG_GLOBAL": str(folder / "gitconfig"), "HOME": str(folder)}
        self.environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self.folder = folder

    def share(self):
        """Give all files to the first member and to the group, like `git init --shared`."""
        run("chmod", "-R", "g+rwX,o=", self.folder, check=True)
        run("find", self.folder, "-type", "d", "-exec", "chmod", "g+s", "{}", "+", check=True)
        run("chown", "-R", "2001:3000", self.folder, check=True)

    def member(self, number, *command, umask="022", env=None):
        words = ["bash", "-c", f'umask {umask}; exec "$@"', "-", *command]
        return run(*as_member(number), *words, cwd=self.lab.path, env=os.environ | self.environment | (env or {}))


@pytest.fixture
def group(template):
    if os.geteuid():
        pytest.skip("Only root can run commands as two users")
    if run(*as_member(1), sys.executable, "-c", "").returncode:
        pytest.skip("The Python of .venv is in a folder that other users cannot enter")
    folder = Path(tempfile.mkdtemp(prefix="group"))
    groups = os.getgroups()
    os.setgroups([*groups, 3000])  # so that root without its capabilities can read the group's files
    yield Group(folder, template)
    run("chown", "-R", "0:0", folder, check=True)
    shutil.rmtree(folder)
    os.setgroups(groups)


@pytest.mark.parametrize("umask", ["022", "002"])
def test_group_members_lock_the_same_repository(group, umask):
    group.share()
    env = {"PYTHONPATH": str(ROOT / "src")}
    for number in (1, 2):
        done = group.member(number, sys.executable, "-c", HOLD, "a", umask=umask, env=env)
        assert (done.stdout, done.stderr) == ("held\n", "")
    done = group.member(2, sys.executable, "-c", HOLD, "b", umask=umask, env=env)
    assert (done.stdout, done.stderr) == ("held\n", ""), "the folder of locks is the group's too"
    # Older versions left locks that only their owner can write. They can still be locked.
    lock = group.lab.path / ".git/experiments/a.lock"
    lock.chmod(0o640)
    assert group.member(2, sys.executable, "-c", HOLD, "a", env=env).stdout == "held\n"
    lock.chmod(0o600)
    done = group.member(2, sys.executable, "-c", HOLD, "a", env=env)
    assert done.stderr == f"{lock}: Permission denied. Ask user 2001 to run: chmod g+w {lock}\n"
    lock.unlink()
    lock.parent.chmod(0o750)
    done = group.member(2, sys.executable, "-c", HOLD, "a", env=env)
    advice = f"chmod g+w {lock.parent}"
    assert done.stderr == f"{lock}: Permission denied. Ask user 2001 to run: {advice}\n"
    run(*shlex.split(advice), check=True)
    assert group.member(2, sys.executable, "-c", HOLD, "a", env=env).stdout == "held\n"


def test_group_members_use_the_same_queries(group):
    query = write_query(group.lab)
    lock = group.lab.data / "experiments/011-x/queries/n.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    group.share()
    asked = "query.py: n: Couldn't connect to 127.0.0.1:"
    for mode in (0o640, 0o660):
        lock.touch()
        os.chown(lock, 2001, 3000)
        lock.chmod(mode)
        done = group.member(2, *query)
        assert done.stderr.startswith(asked), "the lock that a killed query left is not in the way"
        assert not lock.exists()
    lock.parent.chmod(0o750)
    done = group.member(2, *query)
    assert done.stderr == f"query.py: n: {lock}: Permission denied. Ask user 2001 to run: chmod g+w {lock.parent}\n"


def test_group_members_share_a_study(group):
    experiment = group.lab.render(runs={"x": ["slurm_optuna", "gh_000"]})
    (experiment / "scripts/x.py").write_text(TRIAL)
    edit(experiment / "conf/x_slurm_optuna.yaml", "n_trials: 64", "n_trials: 1")
    group.share()
    worker = [sys.executable, experiment / "scripts/optuna_worker.py", "--config-name", "x_slurm_optuna"]
    done = group.member(1, *worker)
    assert done.returncode == 0 and "is finished: 1 of 1 trials complete" in done.stdout, done.stderr
    edit(experiment / "conf/x_slurm_optuna.yaml", "n_trials: 1", "n_trials: 2")
    done = group.member(2, *worker)
    assert done.returncode == 0 and "is finished: 2 of 2 trials complete" in done.stdout, done.stderr
    # The study of a user who does not share it.
    journal = group.lab.data / "experiments/011-x/studies/011-x_slurm_optuna.journal"
    journal.chmod(0o640)
    done = group.member(2, *worker)
    hint = "Ask user 2001 to run: chmod g+w"
    assert done.stderr == f"optuna_worker.py: x_slurm_optuna: {journal}: Permission denied. {hint} {journal}\n"
    journal.parent.chmod(0o750)
    done = group.member(2, *worker)
    folder = journal.parent
    assert done.stderr == f"optuna_worker.py: x_slurm_optuna: {folder}: Permission denied. {hint} {folder}\n"


TRIAL = """\
import hydra
from dotenv import load_dotenv
from runtime import Run
load_dotenv()

@hydra.main(version_base="1.3", config_path="../conf", config_name="default")
def main(cfg):
    with Run(cfg):
        return cfg.start
"""


def test_lock_that_only_its_owner_can_remove_is_reported(group):
    """Without this check, Optuna would wait for the lock forever."""
    experiment = group.lab.render(runs={"x": ["slurm_optuna", "gh_000"]})
    edit(experiment / "scripts/runtime/optuna_study.py", "grace_period=120", "grace_period=3")
    lock = group.lab.data / "experiments/011-x/studies/011-x_slurm_optuna.journal.turn.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    group.share()
    lock.parent.chmod(0o3770)
    worker = [sys.executable, experiment / "scripts/optuna_worker.py", "--config-name", "x_slurm_optuna"]
    done = group.member(2, *worker)
    assert done.returncode == 1
    line = f"{lock}: another worker left this lock. Ask user 2001 to run: rm {lock}"
    assert done.stderr.splitlines()[-1] == f"optuna_worker.py: x_slurm_optuna: {line}"
