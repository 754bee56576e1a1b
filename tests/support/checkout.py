"""Prepare a checkout of the template for `make`."""

import sys
from pathlib import Path


def reuse_venv(checkout):
    """Give a checkout the environment that runs the tests. Otherwise `make` would install one."""
    (checkout / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (checkout / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    for step in ("demo", "installed"):
        (checkout / ".venv" / step).touch()
