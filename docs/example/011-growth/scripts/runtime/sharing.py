"""Share files and folders with the members of a group. The command `experiments` uses this module, too."""

import os
import os.path as osp
import shlex
import stat
from contextlib import suppress


def make_shared_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder and its parents. The group can write to them if it can write to the existing parent."""
    if osp.isdir(folder):
        return
    make_shared_folder(osp.dirname(osp.abspath(folder)))
    with suppress(FileExistsError):  # another process was faster
        os.mkdir(folder)
        share_with_group(folder)


def share_with_group(path: str | os.PathLike[str]) -> None:
    """Make a new file or folder group-writable if its parent folder is, whatever the umask is."""
    if os.stat(osp.dirname(osp.abspath(path))).st_mode & stat.S_IWGRP:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, mode | (mode & stat.S_IRWXU) >> 3)


def permission_hint(path: str | os.PathLike[str]) -> str:
    """Return the remedy for a path that another user owns. If it is missing, name its nearest existing parent."""
    path = os.fspath(path)
    while not osp.lexists(path):
        path = osp.dirname(osp.abspath(path))
    return f"Ask {owner(path)} to run: chmod g+w {shlex.quote(path)}"


def owner(path: str) -> str:
    """Return the name of the user who owns a path."""
    import pwd

    number = os.lstat(path).st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container may lack the accounts of its host
        return f"user {number}"
