"""Who a jailed process is and what it shares with others: namespaces, uid, capabilities."""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from evaluate.guard import die_with_parent

_NEW_USER = 0x10000000
_NEW_NET_IPC = 0x40000000 | 0x08000000
_NEW_PID = 0x20000000
_NEW_MOUNTS = 0x00020000
_MS_PRIVATE_ALL, _MS_NOSUID_NODEV_NOEXEC = 1 << 18 | 1 << 14, 0b1110
SHARED_MEMORY = "/dev/shm"
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT = 4, 8, 47
_CAP_DAC_READ_SEARCH = 2


def _unshare(flags: int) -> bool:
    return bool(_libc().unshare(flags) == 0)


def _unshare_as_user(flags: int) -> bool:
    uid, gid = os.getuid(), os.getgid()
    if not _unshare(_NEW_USER | flags):
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def separate(uid: int, needed: Sequence[str], *, processes: bool = True) -> bool:
    """Enter namespaces of network, messages and processes; return whether there are any.

    Root without the capability for them (in a container, say) can have them inside a user
    namespace, as an ordinary user and so only where that one can read what is needed.

    Args:
        uid: whom root becomes for that.
        needed: paths that are read afterwards, besides the interpreter's.
        processes: also one of processes, whose first one is the next child.
    """
    flags = _NEW_NET_IPC | (_NEW_PID if processes else 0)
    if os.geteuid() != 0:
        return _unshare_as_user(flags)
    if _unshare(flags):
        return True

    def as_user() -> bool:
        become(uid, keep_reading=False)
        return _unshare_as_user(flags)

    return _open_to_others(needed) and _in_child(as_user) and as_user()


def proc_can_be_had(uid: int, needed: Sequence[str]) -> bool:
    """Whether a jail with a namespace of processes could have a /proc of its own; tried in a child.

    A container that masks parts of /proc takes that from every user namespace inside it.

    Args:
        uid: as in `separate`.
        needed: as there.
    """
    return _in_child(lambda: separate(uid, needed) and _in_child(lambda: furnish(0)))


def furnish(shared_bytes: int, *, processes: bool = True) -> bool:
    """Lay file systems of this tree's own over /proc and /dev/shm; return whether they were had.

    An accelerator's driver looks for itself in /proc, by the number that it has in its namespace;
    compilers that work side by side share locks in /dev/shm.

    Args:
        shared_bytes: of /dev/shm, at most; 0: it stays as it is.
        processes: the caller is the first one in a namespace of processes, which /proc shall show.
    """
    if not _unshare(_NEW_MOUNTS):
        return False
    mount = _libc().mount
    if mount(None, b"/", None, _MS_PRIVATE_ALL, None):
        return False
    options = f"size={shared_bytes},mode=1777,nr_inodes=1024".encode()
    flags, place = _MS_NOSUID_NODEV_NOEXEC, SHARED_MEMORY.encode()
    if processes and mount(b"proc", b"/proc", b"proc", flags, None):
        return False
    return shared_bytes == 0 or not mount(b"tmpfs", place, b"tmpfs", flags, options)


def _open_to_others(needed: Sequence[str]) -> bool:
    """Whether a user without rights can reach the interpreter and these paths."""
    for name in (sys.prefix, sys.base_prefix, *needed):
        path = Path(name).resolve()
        if not all(folder.stat().st_mode & 0o001 for folder in path.parents):
            return False
        if not path.stat().st_mode & 0o004:
            return False
    return True


def _in_child(attempt: Callable[[], bool]) -> bool:
    """Whether `attempt` succeeds in a forked child, so that nothing of it stays."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if attempt() else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def in_user_namespace() -> bool:
    """Whether this process lives in a user namespace: one that maps fewer than all users."""
    with contextlib.suppress(OSError):
        return "4294967295" not in Path("/proc/self/uid_map").read_text()
    return False


def become(uid: int, *, keep_reading: bool) -> None:
    """Become an unprivileged user.

    The interpreter may lie below a directory that only root can enter. Where Landlock bounds what
    can be read anyway, the capability to read past permissions is kept for that.
    """
    libc = _libc()
    if keep_reading:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if keep_reading:
        header = struct.pack("=Ii", 0x20080522, 0)
        bit = 1 << _CAP_DAC_READ_SEARCH
        libc.capset(header, struct.pack("=6I", bit, bit, bit, 0, 0, 0))
        libc.prctl(_PR_CAP_AMBIENT, 2, _CAP_DAC_READ_SEARCH, 0, 0)
    else:
        libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # else its own /proc files stay root's
    die_with_parent()


def drop_capabilities() -> None:
    """Give up the rights that whoever made a user namespace has in it."""
    header = struct.pack("=Ii", 0x20080522, 0)
    _libc().capset(header, bytes(24))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
