"""The template as it is being edited, a laboratory's repository to render it into, and the way to do so."""

import contextlib
import importlib.util
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import copier
import neo4j
import pexpect
import pyte
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


class Loader(yaml.SafeLoader):
    """Reads copier.yml, whose !include is left as a file name."""


Loader.add_constructor("!include", lambda loader, node: node.value)

CONFIG = yaml.load((ROOT / "copier.yml").read_text(), Loader)
QUESTIONS = {
    name: details for name, details in CONFIG.items() if not name.startswith("_") and details.get("when", True)
}
MACHINES = yaml.safe_load((ROOT / "machines.yml").read_text())


def pytest_configure():
    """Temporary files are many and small: they are kept in memory where there is room."""
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > 2**30:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share what takes long to start run in one process, by pytest's --dist=loadgroup, and begin first."""
    for item in items:
        for slow in {"slurm", "bolt", "three"} & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(slow))


@pytest.fixture(scope="session", autouse=True)
def hermetic(tmp_path_factory):
    """No setting of the person who runs the tests reaches git, Copier, a starter or a job."""
    home = tmp_path_factory.mktemp("home")
    git = home / "gitconfig"
    git.write_text("[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n")
    settings = home / "settings.yml"
    settings.write_text("{}\n")
    with pytest.MonkeyPatch.context() as patch:
        foreign = ("SLURM", "SBATCH", "SRUN", "SALLOC", "GIT_", "NEO4J", "WANDB", "HYDRA", "PYTHON")
        for name in list(os.environ):
            if name.startswith(foreign) or name in ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"):
                patch.delenv(name)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("GIT_CONFIG_GLOBAL", str(git))
        patch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
        patch.setenv("GIT_TEMPLATE_DIR", "")
        patch.setenv("COPIER_SETTINGS_PATH", str(settings))
        patch.setenv("OPENBLAS_NUM_THREADS", "1")  # more runs than cores are at work
        # Without a cache of its fonts matplotlib says that it makes one; jobs have another HOME.
        patch.setenv("MPLCONFIGDIR", f"{sys.prefix}/matplotlib")
        run(sys.executable, "-c", "import matplotlib.font_manager", check=True)
        yield


def run(*command, cwd=None, **kwargs):
    """The completed process, with its output as text."""
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, **kwargs)


def git(cwd, *arguments):
    return run("git", *arguments, cwd=cwd, check=True).stdout


def commit(repository, message="Work"):
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", message)


@dataclass
class Template:
    """A copy of the template, with its uncommitted changes, in a repository of its own."""

    path: Path
    version: str | None
    renders: dict = field(default_factory=dict)  # folders of what it gives, by name and answers

    def copy(self, path):
        """A template like this one, which its holder may change and release."""
        return Template(shutil.copytree(self.path, path), self.version)

    def release(self, version, changes=()):
        """Commit and tag. Each change is (file, old text, new text)."""
        for name, old, new in changes:
            file = self.path / name
            text = file.read_text()
            assert old in text, f"{old!r} is not in {name}"
            file.write_text(text.replace(old, new))
        commit(self.path, version)
        git(self.path, "tag", "--annotate", version, "--message", version)
        git(self.path, "repack", "--quiet", "-a", "-d")  # as in a clone: Copier makes several of it at each update


def copy_template(path, version="v1.0.0"):
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    git(path, "init", "--quiet")
    template = Template(path, version)
    template.release(version)
    return template


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """The template at v1.0.0, to be read only."""
    return copy_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def plain_template(template, tmp_path_factory):
    """The template's files with no repository: to clone one is nearly all of the time of a refusal."""
    path = tmp_path_factory.mktemp("plain") / "template"
    return Template(shutil.copytree(template.path, path, ignore=shutil.ignore_patterns(".git")), None)


@pytest.fixture
def own_template(template, tmp_path):
    """The template at v1.0.0, which the test may change and release."""
    return template.copy(tmp_path / "template")


def render(template, destination, **answers):
    """`copier copy --defaults` into a folder, with no trust. Refuses answers to questions that do not exist."""
    unknown = answers.keys() - QUESTIONS.keys()
    assert not unknown, f"no such questions: {unknown}"
    copier.run_copy(
        str(template.path), destination, data=answers, defaults=True, quiet=True, unsafe=False, vcs_ref=template.version
    )
    return Path(destination)


@dataclass
class Lab:
    """A laboratory's repository: experiments/, torchcell/timestamp.py, an .env, data and images outside git."""

    path: Path
    template: Template

    @property
    def data(self):
        return self.path / "data"

    @property
    def images(self):
        return self.path / "images"

    def render(self, name="011-x", **answers):
        """An experiment, committed. What a version of the template gives is rendered once, and then copied."""
        experiment, rendered, key = self.path / "experiments" / name, self.template.renders, (name, repr(answers))
        if key not in rendered:
            folder = Path(tempfile.mkdtemp(dir=self.template.path.parent))
            rendered[key] = render(self.template, folder / name, **answers)
        shutil.copytree(rendered[key], experiment, dirs_exist_ok=True)
        commit(self.path, f"Add {name}")
        return experiment

    def python(self, *arguments, env=None, **kwargs):
        """Run Python at the repository's root, as the lab does."""
        return run(
            sys.executable,
            *arguments,
            cwd=self.path,
            env=os.environ | {"PYTHONPATH": str(self.path)} | (env or {}),
            **kwargs,
        )

    def start(self, config="x_gh_000", *overrides, name="011-x", script="x", **kwargs):
        """Run a starter."""
        return self.python(f"experiments/{name}/scripts/{script}.py", "--config-name", config, *overrides, **kwargs)


def make_lab(path, template):
    for folder in ("data", "images", "experiments", "torchcell"):
        (path / folder).mkdir(parents=True)
    (path / "torchcell/__init__.py").touch()
    (path / "torchcell/timestamp.py").write_text(
        'from datetime import datetime\n\n\ndef timestamp():\n    return datetime.now().strftime("%Y-%m-%d-%H-%M-%S")\n'
    )
    (path / ".gitignore").write_text("/.env\n/data\n/images\n__pycache__/\n")
    (path / ".env").write_text(
        f'DATA_ROOT="{path}/data"\nASSET_IMAGES_DIR="{path}/images"\nEXPERIMENT_ROOT="{path}/experiments"\n'
    )
    git(path, "init", "--quiet")
    commit(path, "Start")
    return Lab(path, template)


class Terminal:
    """A terminal in which a command runs: what a person sees in it, and types."""

    def __init__(self, *command, cwd, width=92, height=60):
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.Stream(self.screen)
        self.child = pexpect.spawn(
            command[0],
            list(map(str, command[1:])),
            cwd=str(cwd),
            env=os.environ | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm-256color"},
            encoding="utf-8",
            dimensions=(height, width),
        )

    def read(self, seconds=0.05):
        with contextlib.suppress(pexpect.TIMEOUT):
            self.stream.feed(self.child.read_nonblocking(10_000, seconds))

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def expect(self, text):
        """Wait until it shows a text."""

        def shown():
            self.read()
            return text in self.text()

        wait_until(shown, 20, self.text)

    def type(self, keys):
        self.child.send(keys)

    def end(self):
        """The exit code of the command, once it has ended."""
        with contextlib.suppress(pexpect.EOF):
            while True:
                self.read(20)
        self.child.close()
        return self.child.exitstatus


@pytest.fixture
def lab(tmp_path, template):
    return make_lab(tmp_path / "lab", template)


def stand_ins(home):
    """The environment of a job on a lab's machine: a HOME with what such a machine has and this one lacks.

    The environment's python, `singularity exec` and `module load` call through to the Python that runs the tests.
    """
    commands = {
        "miniconda3/envs/torchcell/bin/python": f'exec {shlex.quote(sys.executable)} "$@"',
        "bin/singularity": '[ "$1 $2 ${3##*/}" = "exec --nv rockylinux_9.sif" ] || exit 255; shift 3; exec "$@"',
        "bin/module": '[ "$1" = load ]',
    }
    for name, body in commands.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"#!/bin/bash\n{body}\n")
        (home / name).chmod(0o755)
    return {"HOME": str(home), "PATH": f"{home}/bin{os.pathsep}{os.environ['PATH']}"}


class Slurm:
    """A Slurm of one node with 64 CPUs, 520 GB and 4 GPUs, with the partitions and accounts of machines.yml."""

    def __init__(self, folder):
        self.folder = folder
        host = socket.gethostname().split(".")[0]
        user = pwd.getpwuid(os.getuid()).pw_name
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        partitions = sorted({entry["partition"] for entry in MACHINES.values() if "partition" in entry})
        settings = {
            "ClusterName": "lab",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/none",
            "CredType": "cred/none",
            "SlurmctldPort": free_port(),
            "SlurmdPort": free_port(),
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmdPidFile": folder / "slurmd.pid",
            "SlurmctldLogFile": folder / "slurmctld.log",
            "SlurmdLogFile": folder / "slurmd.log",
            "MailProg": "/bin/true",
            "MpiDefault": "none",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "JobSubmitPlugins": "lua",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,bf_interval=1",
            "MinJobAge": 3600,
            "KillWait": 2,
            "ReturnToService": 2,
            "EnforcePartLimits": "ALL",
            "DefMemPerCPU": 1000,
            "SlurmdParameters": "config_overrides",
            "GresTypes": "gpu",
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines.append(f"NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=520000 Gres=gpu:4 State=UNKNOWN")
        lines.append(f"PartitionName=DEFAULT Nodes={host} State=UP MaxTime=INFINITE")
        lines += [f"PartitionName={name}{' Default=YES' if name == 'main' else ''}" for name in partitions]
        files = {
            "slurm.conf": "\n".join(lines),
            # Four devices that everybody has stand for the GPUs.
            "gres.conf": "\n".join(f"Name=gpu File=/dev/{name}" for name in ("null", "zero", "full", "random")),
            "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint=/nonexistent",
            "job_submit.lua": ACCOUNTS.format(
                accounts=", ".join(f'["{entry["account"]}"]=true' for entry in MACHINES.values() if "account" in entry),
                partitions=", ".join(
                    f'["{entry["partition"]}"]=true' for entry in MACHINES.values() if "account" in entry
                ),
            ),
        }
        for name, text in files.items():
            (folder / name).write_text(text + "\n")
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons = [
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                env=os.environ | self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in (["slurmctld", "-D", "-c", "-i"], ["slurmd", "-D"])
        ]
        wait_until(lambda: self("sinfo", "--noheader", "--format=%T", check=False).split()[:1] == ["idle"])

    def __call__(self, *command, check=True):
        """What a Slurm command prints."""
        return run(*command, env=os.environ | self.environment, check=check).stdout

    def job(self, number):
        """The fields of a job, or of a task such as 686_3."""
        return dict(word.split("=", 1) for word in self("scontrol", "-o", "show", "job", number).split() if "=" in word)

    def queue(self):
        return self("squeue", "--noheader", "--format=%i").split()

    def wait(self, number, state=None, seconds=60):
        """The fields of a job once it is in a state, or has ended."""
        ends = [state] if state else ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"]
        wait_until(lambda: self.job(number)["JobState"] in ends, seconds, lambda: self.job(number), every=0.2)
        return self.job(number)

    def stop(self):
        self("scancel", "--user", pwd.getpwuid(os.getuid()).pw_name, check=False)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.queue(), 10)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(10)


ACCOUNTS = """\
local accounts = {{{accounts}}}
local partitions = {{{partitions}}}
function slurm_job_submit(job, parts, uid)
  if job.account and not accounts[job.account] then return 2045 end
  if not job.account and partitions[job.partition] then return 2045 end
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, parts, uid) return slurm.SUCCESS end
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready, seconds=20, state=lambda: "", every=0.05):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s: {state()}")
        time.sleep(every)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A real Slurm. Skips where there is none, but never in continuous integration."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing:
        assert not os.environ.get("CI"), f"{missing} are not installed"
        pytest.skip("No Slurm here: apt-get install --no-install-recommends slurmctld slurmd slurm-client")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        yield cluster
    cluster.stop()


class Submitter:
    """A lab whose jobs find its machines' Python, and the ways to submit."""

    def __init__(self, lab, slurm, name="011-x", **answers):
        self.lab, self.slurm = lab, slurm
        self.experiment = lab.render(name, **{"package": "", "runs": {"x": ["gh_000"]}} | answers)
        self.logs = self.experiment / "slurm/output"
        self.environment = os.environ | stand_ins(lab.path / "home")
        with (lab.path / ".gitignore").open("a") as file:
            file.write("/home\n")
        commit(lab.path)

    def submit(self, *arguments, cwd=None, env=None, script=None):
        script = script or self.experiment / "scripts/submit.sh"
        return run("bash", script, *arguments, cwd=cwd or self.lab.path, env=self.environment | (env or {}))

    def sbatch(self, *arguments, cwd=None):
        done = run("sbatch", "--parsable", *arguments, cwd=cwd or self.lab.path, env=self.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def refused(self, *arguments, **kwargs):
        """The one line with which submit.sh refuses; nothing new is in the queue."""
        before = self.slurm.queue()
        done = self.submit(*arguments, **kwargs)
        assert done.returncode == 1, done.stdout
        assert self.slurm.queue() == before
        [line] = done.stderr.splitlines()
        return line

    def edit(self, name, old, new):
        file = self.experiment / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def records(self):
        return [json.loads(path.read_text()) for path in sorted(self.lab.data.rglob("provenance.json"))]


def submitted(done):
    """The ids of the jobs that submit.sh reports."""
    assert done.returncode == 0, done.stderr
    return re.findall(r": job (\d+)$", done.stdout, flags=re.MULTILINE)


BOLT = """\
import os, sys
import arcadedb_embedded as arcadedb
root, http, bolt, password = sys.argv[1:]
os.chdir(root)
plugin = "Bolt:com.arcadedb.bolt.BoltProtocolPlugin"
settings = {"http_port": int(http), "bolt_port": int(bolt), "server_plugins": plugin}
server = arcadedb.create_server(os.path.join(root, "server"), password, settings)
server.start()
server.create_database("neo4j")
print("ready", flush=True)
sys.stdin.read()
"""


class Bolt:
    """A real Bolt server with authentication, in a process of its own."""

    user, password, database = "root", "correct-horse-battery", "neo4j"

    def __init__(self, folder):
        port = free_port()
        self.uri = f"bolt://127.0.0.1:{port}"
        self.log = (folder / "log.txt").open("w+")
        command = [sys.executable, "-c", BOLT, folder, free_port(), port, self.password]
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=self.log, stderr=subprocess.STDOUT
        )
        wait_until(lambda: "ready" in (folder / "log.txt").read_text(), 60, (folder / "log.txt").read_text)
        self.environment = {
            "NEO4J_URI": self.uri,
            "NEO4J_USERNAME": self.user,
            "NEO4J_PASSWORD": self.password,
            "NEO4J_DATABASE": self.database,
        }

    def __call__(self, query, **parameters):
        """The rows of a query, committed."""
        with (
            neo4j.GraphDatabase.driver(self.uri, auth=(self.user, self.password)) as driver,
            driver.session(database=self.database) as session,
        ):
            return session.run(query, parameters).data()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="session")
def bolt(tmp_path_factory):
    """A Bolt server. Skips where there is no package of it, but never in continuous integration."""
    if not importlib.util.find_spec("arcadedb_embedded"):
        assert not os.environ.get("CI"), "arcadedb-embedded is not installed"
        pytest.skip("No Bolt server here: arcadedb-embedded has no package for this machine")
    server = Bolt(tmp_path_factory.mktemp("bolt"))
    yield server
    server.stop()
