"""What a candidate process may see and do: layers, each probed, each reported.

What is covered on Linux: no network (network namespace), no other process in sight (pid
namespace), nothing to read outside the interpreter, the libraries and the own directory and
nothing to write outside the latter (`landlock.py`), no call that undoes the clock, inspects others
or widens the world (`seccomp.py`), an unprivileged uid where the harness runs as root, cores,
memory, processes and file size bounded, an environment built from an allow-list, and the death of
the whole tree (`guard.py`). Bounds of the whole tree are kept from outside (`bounds.py`).
What is not covered: faults of the kernel itself; macOS, which has the limits and the environment
only. `evolve doctor` shows what this machine has.

The jail is entered by a forked child of the warm process (`warm.py`), never by `preexec_fn`:
Ray's workers have threads.
"""

import contextlib
import ctypes
import json
import os
import resource
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluate import landlock, seccomp
from evaluate.guard import die_with_parent, fork_guarded, unset_signals
from population.errors import SandboxError

_NEW_USER = 0x10000000
_NEW_NET_PID_IPC = 0x40000000 | 0x20000000 | 0x08000000
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 8, 38, 47
_CAP_DAC_READ_SEARCH = 2
_LINUX = sys.platform == "linux"
UNPRIVILEGED_UID = 61_000
OPEN_FILES = 512


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the sandbox on this machine."""

    name: str
    active: bool
    explanation: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Jail:
    """Bounds of one process tree.

    Attributes:
        workdir: the only directory that it may write, its home and its temporary directory; empty:
            it writes nowhere.
        readable: further files and directories that it may read.
        cores: processor cores that it is pinned to.
        memory_bytes: address space that each process may add to what it starts with; None: no
            limit (CUDA reserves more address space than any limit allows).
        environment: everything that it finds there.
        uid: whom it runs as where the harness is root.
        memfd: whether it may make memory files, which no limit of a process counts.
        required: names of the layers without which it must not be entered.
    """

    workdir: str
    readable: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    memory_bytes: int | None = None
    processes: int = 64
    file_bytes: int = 256 << 20
    environment: tuple[tuple[str, str], ...] = ()
    device: str = "cpu"
    uid: int = UNPRIVILEGED_UID
    memfd: bool = False
    required: tuple[str, ...] = ()


def interpreter_paths() -> tuple[str, ...]:
    """Return what any Python program with torch has to read."""
    names = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    system = "/usr /lib /lib64 /bin /opt/rocm /etc/ld.so.cache /etc/localtime /etc/alternatives"
    files = "/dev/null /dev/zero /dev/urandom /dev/random /proc/cpuinfo /proc/meminfo"
    known = [*names, *system.split(), *files.split(), "/sys/devices/system"]
    return tuple(path for path in sorted(known) if Path(path).exists())


def device_paths(device: str) -> tuple[str, ...]:
    """Return the device files that an accelerator needs; nothing for the processor."""
    if device == "cpu":
        return ()
    patterns = ("nvidia*", "kfd", "dri")
    found = (str(p) for pattern in patterns for p in Path("/dev").glob(pattern))
    return (
        *found,
        "/proc/driver",
        "/proc/self",
        "/sys/bus",
        "/sys/class",
        "/sys/module",
    )


def enter(jail: Jail) -> tuple[str, ...]:
    """Jail the calling process, which must have one thread; return inside, with what holds it.

    A second process is forked, and the caller becomes its guard: it never returns from here.

    Returns:
        The names of the layers that were entered.

    Raises:
        SandboxError: a required one was not.
    """
    os.setsid()
    unset_signals()
    if jail.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, jail.cores)
    die_with_parent()
    held = ["limits", "environment"]
    if _LINUX and _separate(jail):
        held.append("namespaces")
    fork_guarded()
    _limit(jail)
    held += _confine(jail)
    os.environ.clear()
    os.environ.update(dict(jail.environment))
    os.chdir(jail.workdir or "/")
    if missing := sorted(set(jail.required) - set(held)):
        raise SandboxError(
            f"the sandbox lacks {', '.join(missing)}: see `evolve doctor`, or leave "
            "--require-sandbox out"
        )
    return tuple(held)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unshare(flags: int) -> bool:
    return bool(_libc().unshare(flags) == 0)


def _unshare_as_user() -> bool:
    uid, gid = os.getuid(), os.getgid()
    if not _unshare(_NEW_USER | _NEW_NET_PID_IPC):
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _separate(jail: Jail) -> bool:
    """Enter namespaces of network, processes and messages; return whether there are any.

    Root without the capability for them (in a container, say) can have them inside a user
    namespace, as an ordinary user and so only where that one can read what the jail needs.
    """
    if os.geteuid() != 0:
        return _unshare_as_user()
    if _unshare(_NEW_NET_PID_IPC):
        return True

    def as_user() -> bool:
        _become(jail.uid, keep_reading=False)
        return _unshare_as_user()

    return _open_to_others(jail) and in_child(as_user) and as_user()


def _open_to_others(jail: Jail) -> bool:
    """Whether a user without rights can reach the interpreter and what the jail may read."""
    for needed in (sys.prefix, sys.base_prefix, *jail.readable):
        path = Path(needed).resolve()
        if not all(folder.stat().st_mode & 0o001 for folder in path.parents):
            return False
        if not path.stat().st_mode & 0o004:
            return False
    return True


def in_child(attempt: Callable[[], bool]) -> bool:
    """Whether `attempt` succeeds in a forked child, so that nothing of it stays."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if attempt() else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _limit(jail: Jail) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (jail.file_bytes, jail.file_bytes))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if _LINUX and (os.geteuid() == 0 or _in_user_namespace()):
        resource.setrlimit(resource.RLIMIT_NPROC, (jail.processes, jail.processes))
    if jail.memory_bytes is not None and _LINUX:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + jail.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _in_user_namespace() -> bool:
    with contextlib.suppress(OSError):
        return "4294967295" not in Path("/proc/self/uid_map").read_text()
    return False


def _confine(jail: Jail) -> Iterator[str]:
    """Give up every right that the jail does not need; yield the name of each layer entered."""
    if _LINUX and os.geteuid() == 0:
        _become(jail.uid, keep_reading=landlock.available() > 0)
    if os.geteuid() != 0:
        yield "unprivileged"
    if not _LINUX:
        return
    _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    readable = (*interpreter_paths(), *device_paths(jail.device), *jail.readable)
    writable = (jail.workdir,) if jail.workdir else ()
    if landlock.restrict(readable, writable, jail.device):
        yield "landlock"
    if seccomp.install(sockets=jail.device != "cpu", memfd=jail.memfd):
        yield "seccomp"


def _become(uid: int, *, keep_reading: bool) -> None:
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


def owner(jail: Jail) -> tuple[int, int] | None:
    """Return the uid and gid that must own the working directory, None for the present user."""
    return (jail.uid, jail.uid) if os.geteuid() == 0 else None


def probe() -> tuple[Layer, ...]:
    """Return every layer with its state on this machine: what a real jail entered just now.

    Raises:
        SandboxError: no jail can be entered at all.
    """
    done = subprocess.run(
        [sys.executable, "-m", "evaluate.layers"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": os.environ.get("PATH", "")},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SandboxError(f"no candidate can be jailed on this machine: {last}")
    return tuple(Layer(**row) for row in json.loads(done.stdout))


def protects_data(layers: Collection[str]) -> bool:
    """Whether validation data is out of a candidate's reach, by the names of what holds it.

    Only Landlock says so whatever the files' permissions and whoever runs the harness.
    """
    return "landlock" in layers
