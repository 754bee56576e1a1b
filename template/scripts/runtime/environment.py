"""The variables and folders that a script requires, of .env or of its environment."""

import os
import os.path as osp
import sys
from importlib.machinery import PathFinder
from typing import NoReturn

from runtime.files import try_to_write
from runtime.paths import EXPERIMENT, FOLDER, ROOT, SCRIPTS, location_error, package_error

SERVER = ("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE")  # of the database that queries read


def find_env() -> str:
    """The path of the .env that is nearest above this script, whatever folder it is started from.

    Exits where the caller is a script of another experiment.
    """
    refuse_other_experiment(sys._getframe(1).f_globals.get("__file__"))
    folder = SCRIPTS
    while not osp.isfile(osp.join(folder, ".env")):
        if folder == osp.dirname(folder):
            return osp.join(ROOT, ".env")  # where it belongs
        folder = osp.dirname(folder)
    return osp.join(folder, ".env")


def require(*names: str) -> list[str]:
    """The values of these environment variables. Exits unless each is set and not empty."""
    for name in names:
        if not os.environ.get(name):
            stop(f"{name} is {'empty' if name in os.environ else 'not set'}.", name)
    return [os.environ[name] for name in names]


def require_folders(*names: str) -> list[str]:
    """The folders that these environment variables name.

    Exits unless each is set, exists and can be written, and the caller is a script of this experiment.
    """
    refuse_other_experiment(sys._getframe(1).f_globals.get("__file__"))
    folders = require(*names)
    for name, folder in zip(names, folders, strict=True):
        try:
            try_to_write(folder)
        except OSError as error:
            stop(f"{name} names a folder that cannot be written: {folder}: {error.strerror}.", name)
        if name == "EXPERIMENT_ROOT" and osp.realpath(osp.join(folder, EXPERIMENT)) != FOLDER:
            stop(f"{name} names a folder that does not hold this experiment, {FOLDER}: {folder}.", name)
    return folders


def interpreter_error() -> str | None:
    """Return what is wrong with how Python was started: without the script's folder, or without PYTHONPATH."""
    if sys.flags.isolated:
        option = "python -I"
    elif getattr(sys.flags, "safe_path", False):  # since Python 3.11
        option = "PYTHONSAFEPATH" if os.environ.get("PYTHONSAFEPATH") else "python -P"
    elif sys.flags.ignore_environment:
        option = "python -E"
    else:
        return None
    remedy = "Unset it" if option == "PYTHONSAFEPATH" else "Leave the option out"
    return f"{option}: Python cannot find the modules of this experiment and of this tree. {remedy}."


def refuse_other_package() -> None:
    """Exit if the lab's package was imported from another place than the tree whose commit is recorded."""
    if problem := package_error():
        sys.exit(problem)


def refuse_other_experiment(script: str | None) -> None:
    """Exit where this folder was moved, or where a script got the `runtime` that another experiment had imported.

    Python imports a name once a process, so that the script's own `runtime` is never asked. A notebook has no file:
    there it is the one that would be imported now.
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
        sys.exit(f"This process has the runtime of {FOLDER}: {script or scripts} needs a process of its own.")


def stop(problem: str, name: str) -> NoReturn:
    sys.exit(f"{problem}\nSet {name} in {find_env()}, or in the environment, which wins over that file.")
