"""Locks on files that several people of a group share."""

import fcntl
import os

from runtime.files import FileError, permission_hint, share_with_group


def open_lock(path: str) -> int:
    """Open a lock file, or make one that the group may use. Raises FileError if it belongs to somebody else.

    An existing one is opened without O_CREAT, which Linux may refuse for another person's file in a sticky folder.
    """
    while True:
        try:
            return os.open(path, os.O_RDWR)
        except FileNotFoundError:
            pass
        except PermissionError:
            return open_foreign(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        except PermissionError as error:
            raise FileError(f"{path}: {error.strerror}. {permission_hint(path)}") from None
        share_with_group(path)
        return descriptor


def open_foreign(path: str) -> int:
    """Open a lock file that only somebody else may write to. Most disks lock it all the same."""
    try:
        return os.open(path, os.O_RDONLY)
    except PermissionError as error:
        raise FileError(f"{path}: {error.strerror}. {permission_hint(path)}") from None


def wait_for_lock(descriptor: int, path: str) -> None:
    """Lock an open file as soon as nobody else does. Raises FileError if its disk cannot lock it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:  # NFS asks for the right to write
            raise FileError(f"{path}: {error.strerror}. {permission_hint(path)}") from None
        advice = "Ask for locks on this disk (Lustre: mount -o flock), or use another one"
        raise FileError(f"{path}: this disk does not lock files: {error.strerror}. {advice}.") from None
