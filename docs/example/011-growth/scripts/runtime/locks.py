"""Lock files that the members of a group share."""

import fcntl
import os

from runtime.files import FileError
from runtime.sharing import permission_hint, share_with_group


def open_lock(path: str) -> int:
    """Open a lock file, or make one that the group can write to. Raises FileError if it may not be opened.

    An existing file is opened without O_CREAT: in a sticky folder, Linux may refuse O_CREAT for another user's file.
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
    """Open another user's lock file read-only. Most disks can lock it anyway."""
    try:
        return os.open(path, os.O_RDONLY)
    except PermissionError as error:
        raise FileError(f"{path}: {error.strerror}. {permission_hint(path)}") from None


def wait_for_lock(descriptor: int, path: str) -> None:
    """Lock an open file, and wait until it is free. Raises FileError if its disk cannot lock it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:  # NFS locks only writable files
            raise FileError(f"{path}: {error.strerror}. {permission_hint(path)}") from None
        advice = "Ask its administrator to enable them (Lustre: mount -o flock), or use another disk"
        raise FileError(f"{path}: this disk does not support file locks: {error.strerror}. {advice}.") from None
