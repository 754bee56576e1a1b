"""Update: after a stop, a kill or a concurrent update, no experiment is half updated."""

import os
import resource
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.process import git, run, wait_until
from support.updating import RUNS, TOOL, WITH_TOOL, contents, is_new, skipped, tool

from experiments import files, update
from experiments import git as repository
from experiments.errors import Problem
from experiments.experiment import Experiment, Templates
from experiments.update import Options, Row
from experiments.workers import InlineExecutor

# Step by step ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: all later calls fail too."""


class Steps:
    """Stop an update at a step. Each step is right before or after a call that writes or commits."""

    def __init__(self, stop, lasting):
        self.stop = stop
        self.lasting = lasting  # true like a kill, or once like Ctrl-C
        self.taken = 0

    def count(self):
        self.taken += 1
        if self.taken == self.stop or (self.lasting and self.taken > self.stop):
            raise Killed

    def watch(self, patch):
        for name in ("replace", "unlink", "chmod"):
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        patch.setattr(Path, "write_bytes", self.wrap(Path.write_bytes))
        patch.setattr(repository, "run_limited", self.wrap(repository.run_limited, changes_the_repository))

    def wrap(self, function, is_step=lambda *words: True):
        def call(*words, **options):
            if not is_step(*words):
                return function(*words, **options)
            self.count()
            result = function(*words, **options)
            self.count()
            return result

        return call


def changes_the_repository(command):
    return "add" in command or "commit" in command


def prepare(lab, folder):
    """Return a function that applies the update of 011-x as `update --commit` does, and returns its outcome."""
    experiment, options = Experiment.open(lab.path / "experiments/011-x"), Options(commit=True)
    pending = update.prepare(experiment, Row("011-x"), Templates(folder), options, InlineExecutor())
    return lambda: str(update.apply_update(pending, options))


def files_of(folder):
    """Return the content of every file, and whether it is executable."""
    return {name: (content, os.access(folder / name, os.X_OK)) for name, content in contents(folder).items()}


@pytest.mark.parametrize("lasting", [True, False], ids=["killed", "interrupted"])
def test_update_stopped_at_any_step_can_be_repeated(own_old, tmp_path, lasting):
    experiment, scripts = own_old.path / "experiments/011-x", own_old.template.path / "template/scripts"
    (scripts / "tools").mkdir()
    (scripts / "tools/helper.sh").write_text("new\n")
    next(scripts.glob("*query.py*")).unlink()
    next(scripts.glob("submit.sh*")).chmod(0o755)
    own_old.template.release("v1.2.0")
    start, before = git(own_old.path, "rev-parse", "HEAD").strip(), files_of(experiment)
    apply = prepare(own_old, tmp_path)
    assert apply() == "updated"
    after = files_of(experiment)
    assert before.keys() ^ after.keys() == {"scripts/tools/helper.sh", "scripts/query.py"}
    for step in range(1, 200):
        git(own_old.path, "reset", "--quiet", "--hard", start)
        git(own_old.path, "clean", "--quiet", "--force", "-d")
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(step, lasting)
            steps.watch(patch)
            try:
                apply()
                break
            except Killed:
                pass
        found = {name: content for name, content in files_of(experiment).items() if not name.endswith(".part")}
        is_committed = git(own_old.path, "rev-parse", "HEAD").strip() != start
        for name in found.keys() | before.keys() | after.keys():
            assert found.get(name) in (before.get(name), after.get(name)), f"step {step} cut {name} short"
        if found[".copier-answers.yml"] != before[".copier-answers.yml"]:
            assert found == after, f"step {step}: the answers were not last"
        else:
            assert not is_committed and (lasting or found == before), f"step {step} was not taken back"
            assert lasting or not (experiment / "scripts/tools").exists(), f"step {step} left a folder"
        assert is_committed or apply() == "updated"
        assert files_of(experiment) == after, f"step {step} left something behind"
        assert git(own_old.path, "status", "--porcelain") == ""
        assert git(own_old.path, "rev-list", "--count", f"{start}..") == "1\n"
    assert steps.taken >= 30, "the steps are not seen"


def test_update_writes_the_answers_last(own_old, monkeypatch):
    experiment = own_old.path / "experiments/011-x"
    scripts = own_old.template.path / "template/scripts"
    (scripts / "submit.sh.jinja").rename(scripts / "Submit.sh.jinja")
    own_old.template.release("v1.2.0")
    order = []

    def write_all(writes):
        order.extend((write.path.relative_to(experiment).as_posix(), write.content is None) for write in writes)
        files.write_all(writes)

    monkeypatch.setattr(update, "write_all", write_all)
    assert tool(own_old, "update").returncode == 0
    removed = [is_removed for _, is_removed in order]
    assert order[0] == ("scripts/submit.sh", True) and ("scripts/Submit.sh", False) in order
    assert removed == sorted(removed, reverse=True) and order[-1][0] == ".copier-answers.yml"


def test_edit_during_an_update_is_kept(tmp_path):
    before = {"a": b"old a\n", "b": b"old b\n", "d": b"old d\n"}
    after = {"a": b"new a\n", "b": b"new b\n", "c": b"new c\n"}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    writes = [files.Write(tmp_path / name, before.get(name), after.get(name)) for name in ("d", "a", "b", "c")]
    (tmp_path / "b").write_bytes(b"saved just now\n")
    with pytest.raises(Problem, match="b was changed by another program at the same time"):
        files.write_all(writes)
    assert contents(tmp_path) == before | {"b": b"saved just now\n"}


def test_edit_of_a_new_file_is_not_rolled_back(tmp_path, monkeypatch):
    names = ("changed", "new", "last")
    before = {"changed": b"old\n"}
    put = files.commit

    def commit(write):
        if write.path.name == "last":
            for name in ("changed", "new"):
                (tmp_path / name).write_bytes(b"saved just now\n")
            raise OSError("the disk is gone")
        put(write)

    (tmp_path / "changed").write_bytes(b"old\n")
    monkeypatch.setattr(files, "commit", commit)
    with pytest.raises(OSError, match="the disk is gone"):
        files.write_all([files.Write(tmp_path / name, before.get(name), b"new\n") for name in names])
    assert contents(tmp_path) == {"changed": b"saved just now\n", "new": b"saved just now\n"}


def test_merge_started_during_an_update_is_not_committed(old, experiment, tmp_path):
    apply, before = prepare(old, tmp_path), contents(experiment)
    (old.path / ".git/MERGE_HEAD").write_text(git(old.path, "rev-parse", "HEAD"))
    with pytest.raises(Problem, match="a merge is in progress"):
        apply()
    assert contents(experiment) == before


# Disks that refuse writes ---------------------------------------------------------------------------------------------


@contextmanager
def full_disk(experiment):
    """Limit all files to 1 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def read_only(experiment):
    """Make all folders of the experiment read-only. Root could still write, so root becomes another user."""
    folders = [experiment, *(path for path in experiment.rglob("*") if path.is_dir())]
    user = os.geteuid()
    for folder in folders:
        folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize(("fault", "reason"), [(full_disk, "File too large"), (read_only, "Permission denied")])
def test_unwritable_disk_leaves_the_experiment_unchanged(old, experiment, monkeypatch, fault, reason):
    def write_all(writes):
        with fault(experiment):
            files.write_all(writes)

    monkeypatch.setattr(update, "write_all", write_all)
    before = contents(old.path)
    assert skipped(tool(old, "update"), experiment, reason)
    assert contents(old.path) == before and git(old.path, "status", "--porcelain") == ""


# The whole command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def both(old, experiment):
    """Return two experiments, so workers render them."""
    return [experiment, old.render("012-y", runs=RUNS)]


def start_update(lab, temporary):
    """Start an update in its own process group, and wait until a worker begins."""
    temporary.mkdir()
    process = subprocess.Popen(
        [*TOOL, "update", "--commit", "--jobs=2"],
        cwd=lab.path,
        env=os.environ | WITH_TOOL | {"TMPDIR": str(temporary)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nohup ignores it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: any("spawn_main" in line for line in at_work(process.pid)), state=process.poll)
    return process


def at_work(group):
    """Return the running processes of a group, without zombies."""
    lines = run("ps", "-A", "-ww", "-o", "pgid=,stat=,args=", check=True).stdout.splitlines()
    return [line for line in lines if line.split()[0] == str(group) and not line.split()[1].startswith("Z")]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_command_ends_its_workers(old, both, tmp_path, stop):
    process = start_update(old, tmp_path / "temporary")
    if stop is signal.SIGINT:
        os.killpg(process.pid, stop)  # like a terminal
    else:
        process.send_signal(stop)
    output, errors = process.communicate(timeout=60)
    # Python itself ends by SIGINT, as a shell reports by 130, if the signal came while it compiled a dataclass.
    code = 128 - process.returncode if process.returncode < 0 else process.returncode
    assert (code, output, errors) == (128 + stop, b"", b"")
    wait_until(lambda: not at_work(process.pid), state=lambda: at_work(process.pid))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert git(old.path, "status", "--porcelain") == ""
    assert tool(old, "update", "--commit", "--jobs=1").returncode == 0
    assert all(map(is_new, both)) and git(old.path, "status", "--porcelain") == ""


def test_killed_command_ends_its_workers(old, both, tmp_path):
    (both[0] / "conf/default.yaml").write_text("mine: not committed\n")
    process = start_update(old, tmp_path / "temporary")
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not at_work(process.pid), state=lambda: at_work(process.pid))
    (old.path / ".git/index.lock").unlink(missing_ok=True)  # as git recommends after a killed git
    assert tool(old, "update", "--commit", "--jobs=1").returncode == 0
    assert all(map(is_new, both)) and (both[0] / "conf/default.yaml").read_text() == "mine: not committed\n"
    assert git(old.path, "status", "--porcelain").split() == ["M", "experiments/011-x/conf/default.yaml"]


def test_two_commands_at_once_commit_each_experiment_once(old, both):
    command = [*TOOL, "update", "--commit", "--jobs=1"]
    environment = os.environ | WITH_TOOL
    started = [
        subprocess.Popen(command, cwd=old.path, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    rows = [row.rstrip() for process in started for row in process.communicate(timeout=120)[0].splitlines()]
    ends = ("result", " updated", " up to date", " skipped: it got a new commit in the meantime. Run it again.")
    assert len(rows) == 6 and all(row.endswith(ends) for row in rows), rows
    assert all(map(is_new, both)) and git(old.path, "status", "--porcelain") == ""
    subjects = git(old.path, "log", "--format=%s", "--grep=^Update ").splitlines()
    assert sorted(subject.split()[1] for subject in subjects) == [f"experiments/{each.name}" for each in both]
