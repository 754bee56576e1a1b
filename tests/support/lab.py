"""A lab's repository, and stand-ins for the programs of its machines."""

import os
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.process import commit, git, run
from support.template import Template, render

TIMESTAMP = """\
from datetime import datetime


def timestamp():
    return datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
"""

LIGHT = """\
import os
import os.path as osp
import sys
import time
from dotenv import load_dotenv
from runtime import CONF, Run, find_env
load_dotenv(find_env())
import hydra

@hydra.main(version_base="1.3", config_path=CONF, config_name="x_gh_000")
def main(cfg):
    with Run(cfg) as run:
        BODY

if __name__ == "__main__":
    main()
"""


@dataclass
class Lab:
    """A lab's repository: experiments/, torchcell/timestamp.py, an .env, data and images outside git."""

    path: Path
    template: Template

    @property
    def data(self):
        return self.path / "data"

    @property
    def images(self):
        return self.path / "images"

    def render(self, name="011-x", **answers):
        """Render and commit an experiment. Equal renders are made once and then copied."""
        experiment, rendered = self.path / "experiments" / name, self.template.renders
        package = (self.path / "torchcell/timestamp.py").exists()  # the default of `package` depends on it
        key = (name, package, self.template.version, repr(answers))
        if key not in rendered:
            like = Path(tempfile.mkdtemp(dir=self.template.shelf))
            if package:
                (like / "torchcell").mkdir()
                (like / "torchcell/timestamp.py").touch()
                (like / ".env").touch()
            rendered[key] = render(self.template, like / "experiments" / name, **answers), self.template.path
        like, source = rendered[key]
        shutil.copytree(like, experiment, dirs_exist_ok=True)
        for file in (experiment / ".copier-answers.yml", experiment / "README.md"):  # both name their template
            file.write_text(file.read_text().replace(str(source), str(self.template.path)))
        commit(self.path, f"Add {name}")
        return experiment

    def write_light(self, body="pass", script="light", name="011-x"):
        """Write a script with this body in its run. It starts in a third of a starter's time."""
        path = self.path / f"experiments/{name}/scripts/{script}.py"
        path.write_text(LIGHT.replace("BODY", body.replace("\n", "\n        ")))
        return path

    def python(self, *arguments, env=None, **kwargs):
        """Run Python at the repository's root, as the lab does."""
        return run(
            sys.executable,
            *arguments,
            cwd=self.path,
            env=os.environ | (env or {}),
            **kwargs,
        )

    def start(self, config="x_gh_000", *overrides, name="011-x", script="x", **kwargs):
        """Run a starter."""
        return self.python(f"experiments/{name}/scripts/{script}.py", "--config-name", config, *overrides, **kwargs)


def make_lab(path, template):
    for folder in ("data", "images", "experiments", "torchcell"):
        (path / folder).mkdir(parents=True)
    (path / "torchcell/__init__.py").touch()
    (path / "torchcell/timestamp.py").write_text(TIMESTAMP)
    (path / ".gitignore").write_text("/.env\n/data\n/images\n__pycache__/\n")
    (path / ".env").write_text(
        f'DATA_ROOT="{path}/data"\nASSET_IMAGES_DIR="{path}/images"\nEXPERIMENT_ROOT="{path}/experiments"\n'
    )
    git(path, "init", "--quiet")
    commit(path, "Start")
    return Lab(path, template)


def write_program(path, body):
    """Write an executable bash script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def fake_programs(home, idle=False):
    """Return the environment of a job on a lab's machine, with a HOME that has its programs.

    The environment's python, `singularity exec` and `module load` call through to the Python that runs the tests.
    With `idle`, Python ends at once in a job, for tests that only submit.
    """
    python = f'exec {shlex.quote(sys.executable)} "$@"'
    if idle:
        python = f'if [ "${{ENVIRONMENT-}}" = BATCH ]; then exit; fi; {python}'
        write_program(home / "bin/python3", python)
    commands = {
        "miniconda3/envs/torchcell/bin/python": python,
        "bin/singularity": '[ "$1 $2 ${3##*/}" = "exec --nv rockylinux_9.sif" ] || exit 255; shift 3; exec "$@"',
        "bin/module": '[ "$1" = load ]',
    }
    for name, body in commands.items():
        write_program(home / name, body)
    return {"HOME": str(home), "PATH": f"{home}/bin{os.pathsep}{os.environ['PATH']}"}
