"""Fixtures: the template as it is being edited, a laboratory to render it into, and the servers that it talks to."""

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import jinja2
import pytest
import yaml
from support import skips
from support.bolt import Bolt
from support.lab import make_lab
from support.process import run
from support.slurm import Slurm
from support.template import ROOT, Template, copy_template
from support.updating import ACCOUNT, RUNS, SUBMIT


def pytest_configure():
    """Keep temporary files in memory where there is room: they are many and small."""
    skips.check_words()
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > 2**30:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The tests of the Bolt server, which takes long to start, run in one process by --dist=loadgroup, and begin first.

    A Slurm takes two seconds, and each process has its own: most of its tests wait, and they wait side by side.
    """
    for item in items:
        if "bolt" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("bolt"))
        skips.mark(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """End the output with what was skipped, after pytest's own last line."""
    yield
    skips.report(session.config)


@pytest.fixture(scope="session", autouse=True)
def hermetic(tmp_path_factory):
    """No setting of the person who runs the tests reaches git, Copier, a starter or a job."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and what nohup starts, this one
    home = tmp_path_factory.mktemp("home")
    git = home / "gitconfig"
    git.write_text("[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n")
    with git.open("a") as file:  # of somebody else in a container of continuous integration
        file.write(f"[safe]\ndirectory = {ROOT}\n[gc]\nauto = 0\n[maintenance]\nauto = false\n")
    settings = home / "settings.yml"
    settings.write_text("{}\n")
    with pytest.MonkeyPatch.context() as patch:
        foreign = ("SLURM", "SBATCH", "SRUN", "SALLOC", "GIT_", "NEO4J", "WANDB", "HYDRA", "PYTHON")
        for name in list(os.environ):
            if name.startswith(foreign) or name in ("DATA_ROOT", "ASSET_IMAGES_DIR", "EXPERIMENT_ROOT"):
                patch.delenv(name)
        path = [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]  # where Debian has slurmctld
        patch.setenv("PATH", os.pathsep.join(path))
        patch.setenv("GIT_CONFIG_GLOBAL", str(git))
        patch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
        patch.setenv("GIT_TEMPLATE_DIR", "")
        patch.setenv("COPIER_SETTINGS_PATH", str(settings))
        patch.setenv("UV_HTTP_RETRIES", "10")  # an index of packages may be away for a moment
        patch.setenv("PIP_RETRIES", "10")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")  # more runs than cores are at work
        # Without a cache of its fonts matplotlib says that it makes one; jobs have another HOME.
        patch.setenv("MPLCONFIGDIR", f"{sys.prefix}/matplotlib")
        run(sys.executable, "-c", "import matplotlib.font_manager", check=True)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once():
    """Copier makes an environment of Jinja for each render, which compiles all texts anew: half of a render's time."""
    compile_anew, compiled = jinja2.Environment.compile, {}

    def compile_once(environment, source, name=None, filename=None, *options):
        if "{% yield" in source:  # of which Copier's extension takes note
            return compile_anew(environment, source, name, filename, *options)
        key = (type(environment), environment.keep_trailing_newline, source, name, options)
        if key in compiled:
            environment.preprocess(source, name, filename)  # in which that extension begins anew
        else:
            compiled[key] = compile_anew(environment, source, name, filename, *options)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", compile_once)
        yield


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
def copie(copie):
    """pytest-copie's fixture, without the `!include` that it gives to yaml.SafeLoader for the whole process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml.SafeLoader, "yaml_constructors", dict(yaml.SafeLoader.yaml_constructors))
        yield copie
    assert "!include" not in yaml.SafeLoader.yaml_constructors, "the next test would read files by a tag"


@pytest.fixture
def own_template(template, tmp_path):
    """The template at v1.0.0, which the test may change and release."""
    return template.copy(tmp_path / "template")


@pytest.fixture
def lab(tmp_path, template):
    return make_lab(tmp_path / "lab", template)


@pytest.fixture(scope="session")
def newer(template, tmp_path_factory):
    """The template with v1.1.0, which has a renamed account and a better submit.sh. To be read only."""
    newer = template.copy(tmp_path_factory.mktemp("newer") / "template")
    newer.release("v1.1.0", [ACCOUNT, SUBMIT])
    return newer


@pytest.fixture
def old(lab, newer):
    """A lab with 011-x rendered at v1.0.0, while the template has v1.1.0."""
    lab.template = newer
    lab.render(runs=RUNS)
    return lab


@pytest.fixture
def own_old(lab, newer, tmp_path):
    """The same with a template that the test may change and release."""
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
    """A real Slurm."""
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def bolt(tmp_path_factory):
    """A Bolt server."""
    if not importlib.util.find_spec("arcadedb_embedded"):
        pytest.fail("not installed: arcadedb-embedded. Some machines have no package of it: make test SKIP=bolt")
    server = Bolt(tmp_path_factory.mktemp("bolt"))
    yield server
    server.stop()
