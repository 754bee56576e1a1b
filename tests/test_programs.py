"""Programs for `make test`: when they are installed, when this is refused, and what SKIP skips."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import skips
from support.lab import write_program
from support.process import run, wait_until
from support.template import ROOT

SCRIPT = ROOT / "scripts/install-programs"
WANTS = "etc/systemd/system/multi-user.target.wants"
TOOLS = ("bash", "cat", "chmod", "dirname", "env", "grep", "paste", "rm", "sed", "sleep", "touch", "true")
# Install each package as a program of its name. Record what policy-rc.d answers before a service would start.
APT_GET = """\
echo "$*" >> {machine}/apt
if [[ $* == *" install "* ]]; then
  {machine}/usr/sbin/policy-rc.d; echo $? > {machine}/policy
  touch {machine}/{{lib/systemd/system,etc/systemd/system/multi-user.target.wants}}/slurmctld.service
  for package in slurmctld sbatch; do echo "#!/bin/bash" > {bin}/$package; chmod 755 {bin}/$package; done
  {then}
fi
"""


class Machine:
    """A Debian machine without Slurm, with the few programs that the script calls."""

    def __init__(self, folder):
        self.path, self.bin = folder / "root", folder / "bin"
        for name in (WANTS, "usr/sbin", "lib/systemd/system"):
            (self.path / name).mkdir(parents=True)
        (self.path / "etc/debian_version").touch()
        self.bin.mkdir()
        for name in TOOLS:
            (self.bin / name).symlink_to(shutil.which(name))
        self.user(0)
        self.apt_get()
        self.environment = {"PATH": str(self.bin), "MACHINE_ROOT": str(self.path)}

    @property
    def policy(self):
        return self.path / "usr/sbin/policy-rc.d"

    def write(self, name, text=""):
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)

    def user(self, number):
        write_program(self.bin / "id", f"echo {number}")

    def apt_get(self, then=""):
        write_program(self.bin / "apt-get", APT_GET.format(machine=self.path, bin=self.bin, then=then))

    def installed(self):
        """Return the packages requested from apt-get."""
        file = self.path / "apt"
        return file.read_text().split("no-install-recommends ")[1].split() if file.exists() else []

    def enabled(self):
        return sorted(path.name for path in (self.path / WANTS).iterdir())

    def __call__(self, *programs, **environment):
        return run("bash", SCRIPT, *programs, env=self.environment | environment)

    def refused(self, *programs, **environment):
        """Return the one line of a refusal, and check that nothing was installed."""
        done = self(*programs, **environment)
        assert (done.returncode, done.stdout, self.installed()) == (1, "", [])
        [line] = done.stderr.splitlines()
        return line


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


ALLOWED = {"CI": "true", "INSTALL": "1"}

# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["etc/slurm/slurm.conf", "etc/slurm-llnl/slurm.conf", "run/slurm/conf/slurm.conf"])
def test_site_slurm_conf_is_refused(machine, file):
    machine.write(file)
    line = machine.refused("git", "slurmctld", **ALLOWED)
    assert f"a Slurm in operation (/{file} exists)" in line and line.endswith("type: make test SKIP=slurm")


def test_slurm_conf_of_the_environment_is_refused(machine):
    machine.write("opt/slurm.conf")
    line = machine.refused("sbatch", **ALLOWED, SLURM_CONF=str(machine.path / "opt/slurm.conf"))
    assert f"SLURM_CONF names {machine.path}/opt/slurm.conf" in line


@pytest.mark.parametrize("daemon", ["slurmctld", "slurmd", "slurmdbd"])
def test_site_daemon_is_refused(machine, daemon):
    machine.write("proc/77/comm", f"{daemon}\n")
    machine.write("proc/77/environ", "HOME=/root\0SLURM_CONF=/etc/own/slurm.conf\0")
    assert f"{daemon} runs as process 77" in machine.refused("slurmctld", **ALLOWED)


def test_site_daemons_exclude_those_of_running_tests(machine):
    machine.write("proc/77/comm", "slurmctld\n")
    machine.write("proc/77/environ", "HOME=/root\0SLURM_CONF=/dev/shm/pytest/slurm.conf\0")
    assert machine("slurmctld", **ALLOWED).returncode == 0


def test_site_slurm_is_accepted_without_slurm_tests(machine):
    machine.write("etc/slurm/slurm.conf")
    write_program(machine.bin / "git", "true")
    done = machine("git")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_programs_are_listed_without_apt(machine):
    (machine.path / "etc/debian_version").unlink()
    line = machine.refused("git", "slurmctld", "sbatch", **ALLOWED)
    assert "not installed: git, slurmctld, sbatch. Install them" in line and "SKIP=slurm" in line
    assert "SKIP" not in machine.refused("git", **ALLOWED)
    assert machine.refused("chromium", **ALLOWED).endswith("tests that need a browser: make test SKIP=browser")


@pytest.mark.parametrize("sudo", ["", "exit 1"], ids=["none", "asks for a password"])
def test_missing_programs_are_listed_without_root(machine, sudo):
    machine.user(1000)
    if sudo:
        write_program(machine.bin / "sudo", sudo)
    line = machine.refused("git", "exiftool", "slurmctld", "sbatch", "mariadbd", **ALLOWED)
    packages = "git libimage-exiftool-perl slurmctld slurm-client mariadb-server"
    assert f"Type: sudo apt-get install --no-install-recommends {packages}." in line


def test_install_must_be_allowed(machine):
    line = machine.refused("slurmctld", "sbatch", GOALS="lint test", CI="false")
    assert line.startswith("make lint test: not installed: slurmctld, sbatch. Type: make lint test INSTALL=1, which")


def test_python_that_cannot_be_used_is_refused(machine):
    line = machine.refused("python", **ALLOWED, PYTHON="/opt/python")
    assert "PYTHON=/opt/python is not a Python 3.10 to 3.15" in line


# Installing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["INSTALL", "CI", ".dockerenv", "run/.containerenv", "run/systemd/container"])
def test_install_does_not_start_services(machine, place):
    environment = {"INSTALL": {"INSTALL": "1"}, "CI": {"CI": "true"}}.get(place, {})
    if not environment:
        machine.write(place)
    for name in (f"{WANTS}/munge.service", "lib/systemd/system/munge.service"):  # a user may need it
        machine.write(name)
    done = machine("slurmctld", "sbatch", **environment)
    assert done.returncode == 0, done.stderr
    assert machine.installed() == ["slurmctld", "slurm-client"]
    assert (machine.path / "policy").read_text() == "101\n" and not machine.policy.exists()
    assert machine.enabled() == ["munge.service"]


def test_install_disables_services_with_systemd(machine):
    write_program(machine.bin / "systemctl", f'echo "$*" >> {machine.path}/systemctl')
    assert machine("slurmctld", INSTALL="1").returncode == 0
    assert (machine.path / "systemctl").read_text() == "--quiet disable slurmctld\n"
    (machine.path / "systemctl").unlink()
    (machine.path / "lib/systemd/system/slurmctld.service").unlink()
    (machine.path / "run/systemd/system").mkdir(parents=True)
    (machine.bin / "slurmctld").unlink()
    assert machine("slurmctld", INSTALL="1").returncode == 0
    assert (machine.path / "systemctl").read_text() == "--quiet disable slurmctld\n--quiet stop slurmctld\n"


def test_install_uses_sudo(machine):
    machine.user(1000)
    write_program(machine.bin / "sudo", '[[ "$1 $2" == "-n --" ]] || exit 1; shift 2; exec "$@"')
    done = machine("slurmctld", "sbatch", INSTALL="1")
    assert done.returncode == 0 and machine.installed() == ["slurmctld", "slurm-client"], done.stderr


def test_install_keeps_an_existing_policy(machine):
    write_program(machine.policy, "exit 7")
    assert machine("slurmctld", INSTALL="1").returncode == 0
    assert machine.policy.read_text().endswith("exit 7\n") and (machine.path / "policy").read_text() == "7\n"


def test_install_that_fails_leaves_nothing(machine):
    machine.apt_get(then="exit 100")
    done = machine("slurmctld", INSTALL="1")
    assert done.returncode == 1 and not machine.policy.exists()
    assert done.stderr == "make test: apt-get could not install slurmctld.\n"


def test_install_that_is_incomplete_is_reported(machine):
    done = machine("slurmctld", "slurmd", INSTALL="1")
    assert done.returncode == 1
    assert done.stderr == "make test: apt-get installed slurmctld slurmd, and yet these are not installed: slurmd.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_install_interrupted_leaves_nothing(machine, number):
    machine.apt_get(then="sleep 30")
    process = subprocess.Popen(
        ["bash", SCRIPT, "slurmctld"],
        env=machine.environment | {"INSTALL": "1"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # nohup ignores it
    )
    wait_until((machine.path / "policy").exists, 20)
    os.killpg(process.pid, number)
    assert process.wait(20) != 0
    wait_until(lambda: not machine.policy.exists(), 10)


# SKIP -----------------------------------------------------------------------------------------------------------------


def typed(*command, **environment):
    """Run a command in this checkout, without the variables of the running `make test`."""
    ours = ("CI", "GOALS", "INSTALL", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTEST_ADDOPTS", "SKIP")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return run(*command, cwd=ROOT, env=kept | environment)


PYTEST = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider"]


def test_make_test_requires_slurm_unless_skipped():
    command = ("make", "--dry-run", "test")
    asked = typed(*command).stdout
    assert all(
        f" {name}" in asked for name in ("git", "exiftool", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd")
    )
    for done in (typed(*command, SKIP="slurm"), typed(*command, "SKIP=slurm"), typed(*command, "SKIP=index,slurm")):
        assert done.returncode == 0 and "slurmctld" not in done.stdout
    assert "slurmctld" not in typed("make", "--dry-run", "demo").stdout
    assert "chromium" in asked and "chromium" not in typed(*command, SKIP="browser").stdout


def test_skip_is_reported_last():
    done = typed(*PYTEST, "tests/test_pin.py", SKIP="slurm")
    assert done.returncode == 0, done.stdout
    *_, count, report = done.stdout.splitlines()
    number = re.search(r"(\d+) skipped", count)[1]
    assert int(number) > 10 and report == f"skipped {number} tests: SKIP=slurm"


def test_skip_with_an_unknown_word_is_refused(monkeypatch):
    monkeypatch.setenv("SKIP", "slurm,slrum")
    with pytest.raises(
        pytest.UsageError, match='SKIP: unknown word "slrum"; expected some of: slurm, bolt, index, browser'
    ):
        skips.check_words()


def test_missing_slurm_fails_its_tests(tmp_path):
    for name in ("git", "bash", "env"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = typed(*PYTEST, "tests/test_pin.py", "-k", "worktree_submits", PATH=str(tmp_path))
    assert done.returncode == 1 and "1 error" in done.stdout and "skipped" not in done.stdout
    assert "not installed: sbatch" in done.stdout.replace("slurmctld, slurmd, ", "")


def test_root_runs_tests_without_its_capabilities():
    command = typed("make", "--dry-run", "test").stdout.splitlines()[-1]
    limited = command.startswith("setpriv --bounding-set=-dac_override,-dac_read_search ")
    assert limited == (os.getuid() == 0 and Path("/proc").exists())
