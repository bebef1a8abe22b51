"""Which files a jailed process may open: Landlock, which its children inherit."""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_READ = 0b1101  # execute, read file, read directory
_WRITE_DEVICE = 0b10 | 1 << 15  # write, ioctl
_TRUNCATE = 1 << 14  # what is opened to be written anew
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_WRITABLE = "/dev/null"
THREADS = "/proc/self/task"
"""Where a driver of an accelerator writes the names of its threads: written to, and no more."""
_FILE_ONLY = 0b110 | 1 | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl


def available() -> int:
    """Return the Landlock version of this kernel, 0 without."""
    return max(0, int(_libc().syscall(_CREATE, None, 0, 1))) if sys.platform == "linux" else 0


def restrict(readable: Iterable[str], writable: Iterable[str], device: str) -> bool:
    """Forbid every path but these, TCP, and signals to processes outside.

    Paths that do not exist are passed over. Returns False where the kernel has no Landlock.

    Raises:
        OSError: it has, and refuses.
    """
    abi = available()
    if abi == 0:
        return False
    libc = _libc()
    ruleset, handled = _ruleset(libc, abi)
    for paths, access in ((readable, _READ), (writable, handled)):
        for path in paths:
            rights = access
            if path == _WRITABLE or (device != "cpu" and path.startswith(("/dev/", THREADS))):
                rights |= _WRITE_DEVICE
            if path == THREADS:
                rights |= _TRUNCATE
            _allow(libc, ruleset, path, rights & handled)
    if libc.syscall(_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self failed")
    os.close(ruleset)
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _ruleset(libc: ctypes.CDLL, abi: int) -> tuple[int, int]:
    """Return a new rule set and the rights that it takes away."""
    handled = _ALL_BY_ABI[max(known for known in _ALL_BY_ABI if known <= abi)]
    network = 0b11 if abi >= 4 else 0
    scoped = 0b11 if abi >= 6 else 0
    attributes = struct.pack("=QQQ", handled, network, scoped)
    attributes = attributes[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = libc.syscall(_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset failed")
    return ruleset, handled


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= _FILE_ONLY
    rule = struct.pack("=Qi", rights, descriptor)
    if libc.syscall(_ADD, ruleset, 1, rule, 0):
        raise OSError(ctypes.get_errno(), f"landlock_add_rule failed for {path}")
    os.close(descriptor)
