"""Fixtures: the template with its uncommitted changes, labs to render it into, a Slurm and a Bolt server."""

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from support import skips
from support.bolt import Bolt
from support.browser import Browser
from support.lab import make_lab
from support.process import run
from support.slurm import Slurm, SlurmWithAccounting
from support.template import ROOT, Template, copy_template
from support.updating import ACCOUNT, RUNS, SUBMIT

from experiments.template import compile_once


def pytest_configure():
    """Keep temporary files in memory if there is room. They are many and small."""
    skips.check_words()
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > 2**30:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Run all tests of a server that starts slowly in one process (--dist=loadgroup): Bolt, or Slurm with a database.

    Each process has its own Slurm. It starts in two seconds, and most of its tests wait for jobs.
    """
    for item in items:
        for name in ("bolt", "accounting"):
            if name in item.fixturenames:
                item.add_marker(pytest.mark.xdist_group(name))
        skips.mark(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """Print the skipped tests after pytest's own last line."""
    yield
    skips.report(session.config)


@pytest.fixture(scope="session", autouse=True)
def hermetic(tmp_path_factory):
    """Hide the user's settings from git, Copier, starters and jobs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell inherit an ignored SIGINT
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores SIGHUP
    home = tmp_path_factory.mktemp("home")
    git = home / "gitconfig"
    git.write_text("[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n")
    with git.open("a") as file:  # in a CI container, another user owns the checkout
        file.write(f"[safe]\ndirectory = {ROOT}\n[gc]\nauto = 0\n[maintenance]\nauto = false\n")
    settings = home / "settings.yml"
    settings.write_text("{}\n")
    with pytest.MonkeyPatch.context() as patch:
        foreign = ("SLURM", "SBATCH", "SRUN", "SALLOC", "GIT_", "NEO4J", "WANDB", "HYDRA", "PYTHON")
        for name in list(os.environ):
            if name.startswith(foreign) or name in ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT", "COLUMNS"):
                patch.delenv(name)
        path = [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]  # Debian installs slurmctld there
        patch.setenv("PATH", os.pathsep.join(path))
        patch.setenv("GIT_CONFIG_GLOBAL", str(git))
        patch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
        patch.setenv("GIT_TEMPLATE_DIR", "")
        patch.setenv("COPIER_SETTINGS_PATH", str(settings))
        patch.setenv("UV_HTTP_RETRIES", "10")  # a package index may fail for a moment
        patch.setenv("PIP_RETRIES", "10")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")  # there are more runs than cores
        # Without a font cache, matplotlib prints a line when it builds one. Jobs have another HOME.
        patch.setenv("MPLCONFIGDIR", f"{sys.prefix}/matplotlib")
        run(sys.executable, "-c", "import matplotlib.font_manager", check=True)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once():
    """Compile each Jinja text once, as `experiments` does: for every render, that takes half of Copier's time."""
    with compile_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def no_index_of_modes():
    """Let Copier ask git nothing about each file, which takes 40% of a render. It only matters on Windows."""
    with pytest.MonkeyPatch.context() as patch:
        name = "copier._main.Worker._sync_git_index_executable_bit"
        patch.setattr(name, lambda worker, path, mode: None, raising=False)  # the oldest version does not have it
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Return the template at v1.0.0, without many files that every clone would check out. Do not change it."""
    return copy_template(tmp_path_factory.mktemp("template"), without=("docs/example/", "tests/test_"))


@pytest.fixture(scope="session")
def plain_template(template, tmp_path_factory):
    """Return the template's files without git, because most of the time of a refusal is the clone."""
    path = tmp_path_factory.mktemp("plain") / "template"
    return Template(shutil.copytree(template.path, path, ignore=shutil.ignore_patterns(".git")), None)


@pytest.fixture
def copie(copie):
    """Undo the `!include` that pytest-copie adds to yaml.SafeLoader for the whole process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml.SafeLoader, "yaml_constructors", dict(yaml.SafeLoader.yaml_constructors))
        yield copie
    assert "!include" not in yaml.SafeLoader.yaml_constructors, "the next test would read files by a tag"


@pytest.fixture
def own_template(template, tmp_path):
    """Return a template at v1.0.0 that the test may change and release."""
    return template.copy(tmp_path / "template")


@pytest.fixture
def lab(tmp_path, template):
    return make_lab(tmp_path / "lab", template)


@pytest.fixture(scope="session")
def newer(template, tmp_path_factory):
    """Return the template with v1.1.0: a renamed account and a better submit.sh. Do not change it."""
    newer = template.copy(tmp_path_factory.mktemp("newer") / "template")
    newer.release("v1.1.0", [ACCOUNT, SUBMIT])
    return newer


@pytest.fixture
def old(lab, newer):
    """Return a lab with 011-x rendered at v1.0.0. Its template has v1.1.0."""
    lab.template = newer
    lab.render(runs=RUNS)
    return lab


@pytest.fixture
def own_old(lab, newer, tmp_path):
    """Return the same lab with a template that the test may change and release."""
    lab.template = newer.copy(tmp_path / "template")
    lab.render(runs=RUNS)
    return lab


@pytest.fixture
def experiment(old):
    return old.path / "experiments/011-x"


@pytest.fixture(scope="session")
def needs_slurm():
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}. Type: make programs, or skip: make test SKIP=slurm")


@pytest.fixture(scope="session")
def slurm(needs_slurm, tmp_path_factory):
    """Start a real Slurm."""
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def accounting_cluster(needs_slurm, tmp_path_factory):
    missing = [name for name in ("slurmdbd", "mariadbd", "sacct") if not shutil.which(name)]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)}. Type: make programs, or skip: make test SKIP=slurm")
    cluster = SlurmWithAccounting(tmp_path_factory.mktemp("accounting"))
    yield cluster
    cluster.stop()


@pytest.fixture
def accounting(accounting_cluster, monkeypatch):
    """Use a real Slurm with accounting in this test, even if the process has another one."""
    for name, value in accounting_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return accounting_cluster


@pytest.fixture(scope="session")
def bolt(tmp_path_factory):
    """Start a Bolt server."""
    if not importlib.util.find_spec("arcadedb_embedded"):
        pytest.fail("not installed: arcadedb-embedded. Some machines have no package of it: make test SKIP=bolt")
    server = Bolt(tmp_path_factory.mktemp("bolt"))
    yield server
    server.stop()


@pytest.fixture
def browser(tmp_path):
    """Start a headless Chromium."""
    if not shutil.which("chromium"):
        pytest.fail("not installed: chromium. Type: make programs, or skip: make test SKIP=browser")
    browser = Browser(tmp_path / "browser")
    yield browser
    browser.stop()
