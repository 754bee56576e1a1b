"""Find .env, and require variables and folders."""

import os
import os.path as osp
import sys
from importlib.machinery import PathFinder
from typing import NoReturn

from runtime.files import try_to_write
from runtime.paths import EXPERIMENT, FOLDER, ROOT, SCRIPTS, location_error, package_error

SERVER = ("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE")  # the database for query.py


def find_env() -> str:
    """Return the path of the nearest .env in or above scripts/, whatever the working directory is.

    Without one, return the path where it belongs: in the repository's root. Exits if the caller is a script of
    another experiment.
    """
    refuse_other_experiment(sys._getframe(1).f_globals.get("__file__"))
    folder = SCRIPTS
    while not osp.isfile(osp.join(folder, ".env")):
        if folder == osp.dirname(folder):
            return osp.join(ROOT, ".env")
        folder = osp.dirname(folder)
    return osp.join(folder, ".env")


def require(*names: str) -> list[str]:
    """Return the values of these environment variables. Exits if some are unset or empty, and names them all."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        lines = [f"{name} is {'empty' if name in os.environ else 'not set'}." for name in missing]
        exit_with_hint("\n".join(lines), *missing)
    return [os.environ[name] for name in names]


def require_folders(*names: str) -> list[str]:
    """Return the folders that these environment variables name.

    Exits if a variable is unset, a path is relative, a folder is missing or not writable, or the caller is a script of
    another experiment.
    """
    refuse_other_experiment(sys._getframe(1).f_globals.get("__file__"))
    folders = require(*names)
    for name, folder in zip(names, folders, strict=True):
        if not osp.isabs(folder):
            exit_with_hint(f"{name} names a relative path: {folder}. Write an absolute path.", name)
        try:
            try_to_write(folder)
        except OSError as error:
            exit_with_hint(f"{name}: cannot write to {folder}: {error.strerror}.", name)
        if name == "EXPERIMENT_ROOT" and osp.realpath(osp.join(folder, EXPERIMENT)) != FOLDER:
            exit_with_hint(f"{name} is a folder that does not contain this experiment, {FOLDER}: {folder}.", name)
    return folders


def interpreter_error() -> str | None:
    """Return a problem if Python's options hide the script's folder or PYTHONPATH, else None."""
    if sys.flags.isolated:
        option = "python -I"
    elif getattr(sys.flags, "safe_path", False):  # since Python 3.11
        option = "PYTHONSAFEPATH" if os.environ.get("PYTHONSAFEPATH") else "python -P"
    elif sys.flags.ignore_environment:
        option = "python -E"
    else:
        return None
    remedy = "Unset it" if option == "PYTHONSAFEPATH" else "Leave the option out"
    return f"{option}: with it, Python cannot find the modules of this experiment and of this repository. {remedy}."


def refuse_other_package() -> None:
    """Exit if the lab's package was imported from elsewhere than the tree with the recorded commit."""
    if problem := package_error():
        sys.exit(problem)


def refuse_other_experiment(script: str | None) -> None:
    """Exit if this folder was moved, or if `script` belongs to another experiment.

    Python imports `runtime` once per process, so a second experiment in the same process would get this one. A
    notebook has no file (`script` is None): the `runtime` that Python would import now counts as its own.
    """
    if problem := location_error():
        sys.exit(problem)
    if script:
        own = osp.join(osp.dirname(osp.realpath(script)), "runtime", "paths.py")
    else:
        spec = PathFinder.find_spec("runtime")
        own = osp.join(osp.dirname(spec.origin), "paths.py") if spec and spec.origin else ""
    scripts = osp.dirname(osp.dirname(osp.realpath(own)))
    if scripts != SCRIPTS and osp.exists(own):
        sys.exit(f"This process already uses the runtime of {FOLDER}. Start {script or scripts} in a new process.")


def exit_with_hint(problem: str, *names: str) -> NoReturn:
    if is_dotenv_disabled():
        sys.exit(f"{problem}\n{DOTENV_DISABLED}")
    subject = names[0] if len(names) == 1 else "them"
    sys.exit(f"{problem}\nSet {subject} in {find_env()}, or in the environment, which overrides that file.")


DOTENV_DISABLED = "PYTHON_DOTENV_DISABLED is set, so .env is not read. Unset it."


def is_dotenv_disabled() -> bool:
    """Return whether python-dotenv 1.1.1 or newer would load nothing."""
    return os.environ.get("PYTHON_DOTENV_DISABLED", "").casefold() in ("1", "true", "t", "yes", "y")
