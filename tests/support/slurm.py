"""A real Slurm on this machine, and a lab that submits to it."""

import contextlib
import json
import os
import pwd
import re
import socket
import subprocess

from support.lab import fake_programs
from support.process import commit, edit, free_port, run, wait_until
from support.template import MACHINES


class Slurm:
    """A Slurm of one node with 64 CPUs, 520 GB and 4 GPUs, with the partitions and accounts of lab.yml."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons = []
        host = socket.gethostname().split(".")[0]
        user = pwd.getpwuid(os.getuid()).pw_name
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        requests = [entry["sbatch"] for entry in MACHINES.values() if entry.get("slurm", True)]
        partitions = sorted({request["partition"] for request in requests if "partition" in request})
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
        } | self.accounting()
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines.append(f"NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=520000 Gres=gpu:4 State=UNKNOWN")
        lines.append(f"PartitionName=DEFAULT Nodes={host} State=UP MaxTime=INFINITE")
        lines += [f"PartitionName={name}{' Default=YES' if name == 'main' else ''}" for name in partitions]
        files = {
            "slurm.conf": "\n".join(lines),
            # Four devices of any machine stand for the GPUs.
            "gres.conf": "\n".join(f"Name=gpu File=/dev/{name}" for name in ("null", "zero", "full", "random")),
            "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nCgroupMountpoint=/nonexistent",
            "job_submit.lua": ACCOUNTS.format(
                accounts=", ".join(f'["{each["account"]}"]=true' for each in requests if "account" in each),
                partitions=", ".join(f'["{each["partition"]}"]=true' for each in requests if "account" in each),
            ),
        }
        for name, text in files.items():
            (folder / name).write_text(text + "\n")
        self.start("slurmctld", "-D", "-c", "-i")
        self.start("slurmd", "-D")
        wait_until(lambda: self("sinfo", "--noheader", "--format=%T", check=False).split()[:1] == ["idle"])

    def accounting(self):
        """Return the settings of slurm.conf for accounting, after what they need is started."""
        return {"AccountingStorageType": "accounting_storage/none"}

    def start(self, *command):
        """Start a daemon, which ends with this process."""
        options = {"env": os.environ | self.environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.daemons.append(subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], **options))

    def __call__(self, *command, check=True):
        """Run a Slurm command and return its output."""
        return run(*command, env=os.environ | self.environment, check=check).stdout

    def job(self, number):
        """Return the fields of a job, or of a task such as 686_3."""
        return dict(word.split("=", 1) for word in self("scontrol", "-o", "show", "job", number).split() if "=" in word)

    def queue(self):
        return self("squeue", "--noheader", "--format=%i").split()

    def wait(self, number, state=None, seconds=120):
        """Wait until a job is in a state, or has ended, and return its fields."""
        ends = [state] if state else ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"]
        wait_until(lambda: self.job(number)["JobState"] in ends, seconds, lambda: self.job(number))
        return self.job(number)

    def stop(self):
        self("scancel", "--user", pwd.getpwuid(os.getuid()).pw_name, check=False)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.queue(), 10)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(60)


class SlurmWithAccounting(Slurm):
    """The same Slurm with a database of jobs, which sacct reads. It starts in four seconds."""

    def accounting(self):
        user, port = pwd.getpwuid(os.getuid()).pw_name, free_port()
        self.socket = self.folder / "db.sock"
        self.environment |= {"MYSQL_UNIX_PORT": str(self.socket)}
        self.start_database(user)
        settings = {
            "AuthType": "auth/none",
            "DbdHost": "localhost",
            "DbdAddr": "127.0.0.1",
            "DbdPort": port,
            "SlurmUser": user,
            "PidFile": self.folder / "slurmdbd.pid",
            "LogFile": self.folder / "slurmdbd.log",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageLoc": "slurm_acct_db",
            "StorageUser": user,
        }
        file = self.folder / "slurmdbd.conf"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        file.chmod(0o600)  # slurmdbd refuses any other mode
        own = {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "127.0.0.1",
            "AccountingStoragePort": port,
        }
        # sacctmgr needs these before the rest of the file is known.
        first = {"ClusterName": "lab", "SlurmctldHost": "localhost", "AuthType": "auth/none"} | own
        (self.folder / "slurm.conf").write_text("".join(f"{name}={value}\n" for name, value in first.items()))
        self.start("slurmdbd", "-D")
        wait_until(lambda: self.try_to("sacctmgr", "--immediate", "add", "cluster", "lab"))
        return own

    def start_database(self, user):
        """Start MariaDB without a network, with a socket in the folder."""
        data = self.folder / "db"
        data.mkdir(mode=0o700)
        common = ["--no-defaults", f"--datadir={data}", f"--user={user}"]
        authentication = ["--auth-root-authentication-method=socket", f"--auth-root-socket-user={user}"]
        run("mariadb-install-db", *common, *authentication, "--skip-test-db", check=True)
        own = [f"--socket={self.socket}", f"--pid-file={self.folder}/db.pid", f"--log-error={self.folder}/db.log"]
        limits = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=48M", "--innodb-lock-wait-timeout=900"]
        speed = ["--innodb-flush-log-at-trx-commit=0", "--performance-schema=OFF", "--loose-innodb-use-native-aio=0"]
        self.start("mariadbd", *common, *own, "--skip-networking", "--skip-log-bin", *limits, *speed)
        wait_until(lambda: self.try_to("mariadb-admin", "--no-defaults", f"--socket={self.socket}", "ping"))

    def try_to(self, *command):
        return run(*command, env=os.environ | self.environment).returncode == 0

    def set_end(self, number, state):
        """Change the end of a job in the database. This machine cannot enforce a limit of memory."""
        words = "PENDING RUNNING SUSPENDED COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE"
        states = [*words.split(), "OUT_OF_MEMORY"]
        query = f"update lab_job_table set state={states.index(state)} where id_job={number}"
        run("mariadb", "--no-defaults", f"--socket={self.socket}", "slurm_acct_db", "--execute", query, check=True)


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


IN_RUN = "    with Run(cfg) as run:\n"
WATCH = "  watch  tail -F experiments/011-x/slurm/output/"  # as submit.sh prints it at the root, before a log's name
DRAW = "run.save(plot(cfg.title, strains), image)"


class Submitter:
    """Submit jobs of a lab. They find stand-ins for the programs of its machines.

    The starter only prints the path of its figure unless `draws`, since matplotlib takes most of its time.
    """

    def __init__(self, lab, slurm, name="011-x", draws=False, **answers):
        self.lab, self.slurm = lab, slurm
        self.experiment = lab.render(name, **{"package": "", "runs": {"x": ["gh_000"]}} | answers)
        if not draws and (self.experiment / "scripts/x.py").exists():
            self.edit("scripts/x.py", DRAW, 'print("figure:", image)')
        self.logs = self.experiment / "slurm/output"
        self.environment = os.environ | fake_programs(lab.path / "home")
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
        """Return the one line of a refusal, and check that it queued and pinned nothing."""
        before = self.slurm.queue()
        code = self.experiment / "slurm/code"
        pinned = sorted(code.glob("*")) if code.exists() else []
        done = self.submit(*arguments, **kwargs)
        assert done.returncode == 1, done.stdout
        assert self.slurm.queue() == before
        assert (sorted(code.glob("*")) if code.exists() else []) == pinned, "a refused submission left something"
        [line] = done.stderr.splitlines()
        return line

    def receipt(self, number):
        """Return the receipt of a job: the first line of each file by name."""
        [job] = [path for path in self.experiment.glob("slurm/submitted/*/job") if path.read_text() == f"{number}\n"]
        return {path.name: path.read_text().partition("\n")[0] for path in job.parent.iterdir() if path.is_file()}

    def hold(self, *arguments, **kwargs):
        """Submit a held job and return its ID."""
        [number] = submitted(self.submit(*arguments, "--", "--hold", **kwargs))
        return number

    def finish(self, number):
        """Release a held job, wait until it ends, and return its fields."""
        self.slurm("scontrol", "release", number)
        return self.slurm.wait(number)

    def in_run(self, *lines):
        """Insert lines at the start of the script's run."""
        self.edit("scripts/x.py", IN_RUN, "\n        ".join([IN_RUN.rstrip(), *lines]) + "\n")

    def edit(self, name, old, new):
        edit(self.experiment / name, old, new)

    def records(self):
        return [json.loads(path.read_text()) for path in sorted(self.lab.data.rglob("provenance.json"))]


def submitted(done):
    """Return the job IDs that submit.sh reports."""
    assert done.returncode == 0, done.stderr
    return re.findall(r": job (\d+)$", done.stdout, flags=re.MULTILINE)
