"""Run a program with failing system calls: refusal.py link=EPERM,flock=ENOSYS PROGRAM ...

A real disk without hard links or locks needs a mount. A seccomp filter gives the same errors without root.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {"link": (86, 265), "flock": (73,), "rename": (82, 264, 316)},
    "aarch64": {"link": (37,), "flock": (32,), "rename": (38, 276)},
}[platform.machine()]
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000


def refuse(calls):
    """Make system calls of this process and its children fail: {name: error}."""
    lines = [(LOAD, 0, 0, 0)]  # the number of the call
    for name, code in calls.items():
        for number in NUMBERS[name]:
            lines += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ERROR | getattr(errno, code))]
    lines.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse(dict(call.split("=") for call in sys.argv[1].split(",")))
    os.execvp(sys.argv[2], sys.argv[2:])
