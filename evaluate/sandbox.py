"""What a candidate process may see and do: layers, each probed, each reported.

What is covered on Linux: no network (network namespace), no other process in sight (pid
namespace), nothing to read outside the interpreter, the libraries and the own directory and
nothing to write outside the latter (Landlock), no call that undoes the clock or inspects others
(seccomp), an unprivileged uid where the harness runs as root, cores, memory, processes and file
size bounded, an environment built from an allow-list, and the death of the whole tree.
What is not covered: faults of the kernel itself; macOS, which has the limits and the environment
only. `evolve doctor` shows what this machine has.

The jail is entered by a forked child of the warm process (`warm.py`), never by `preexec_fn`:
Ray's workers have threads. `guard` stays outside as the parent that sees the tree die.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_NEW_USER, _NEW_NET, _NEW_PID, _NEW_IPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_SET_SUBREAPER = 1, 8, 38, 36
_PR_SET_SECCOMP, _PR_CAP_AMBIENT = 22, 47
_CAP_DAC_READ_SEARCH = 2
_LINUX = sys.platform == "linux"
UNPRIVILEGED_UID = 61_000


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
        workdir: the only directory that it may write, its home and its temporary directory.
        readable: further files and directories that it may read.
        cores: processor cores that it is pinned to.
        memory_bytes: address space that it may add to what it starts with; None: no limit (CUDA
            reserves more address space than any limit allows).
        environment: everything that it finds there.
    """

    workdir: str
    readable: tuple[str, ...] = ()
    cores: tuple[int, ...] = ()
    memory_bytes: int | None = None
    processes: int = 64
    file_bytes: int = 256 << 20
    environment: tuple[tuple[str, str], ...] = ()
    device: str = "cpu"


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


def enter(jail: Jail) -> None:
    """Jail the calling process, which must have one thread; return inside the jail.

    Where pid namespaces exist a second process is forked, and the caller becomes its guard: it
    never returns from here. The guard ends when the jailed process has ended, with its status;
    on SIGTERM it kills the whole tree first.
    """
    os.setsid()
    _unset_signals()
    if jail.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, jail.cores)
    if _LINUX:
        _die_with_parent()
    root = os.geteuid() == 0
    if _LINUX and root:
        _unshare(_NEW_NET | _NEW_PID | _NEW_IPC)
    elif _LINUX:
        _unshare_as_user()
    _guard_fork()
    _limit(jail)
    if _LINUX:
        landlocked = _landlock_available()
        if root:
            _drop_uid(jail, keep_reading=landlocked > 0)
        _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if landlocked:
            readable = (*interpreter_paths(), *device_paths(jail.device), *jail.readable)
            _landlock(readable, (jail.workdir,), jail.device)
        _seccomp(sockets=jail.device != "cpu")
    os.environ.clear()
    os.environ.update(dict(jail.environment))
    os.chdir(jail.workdir)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


def _die_with_parent() -> None:
    parent = os.getppid()
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _unshare(flags: int) -> bool:
    return bool(_libc().unshare(flags) == 0)


def _unshare_as_user() -> bool:
    uid, gid = os.getuid(), os.getgid()
    if not _unshare(_NEW_USER | _NEW_NET | _NEW_PID | _NEW_IPC):
        return False
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _guard_fork() -> None:
    """Fork; the parent guards, the child returns and goes on into the jail."""
    if _LINUX:
        _libc().prctl(_PR_SET_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    child = os.fork()
    if child:
        _guard(child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGCHLD})
    if _LINUX:
        _die_with_parent()
    else:
        os.setpgid(0, 0)


def _guard(child: int) -> None:
    """Wait for the child or for SIGTERM, kill whatever is left of its tree, exit as it did."""
    status = None
    while status is None:
        received = signal.sigwait({signal.SIGTERM, signal.SIGCHLD})
        if received == signal.SIGTERM:
            break
        while status is None:
            pid, found = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                status = found
    if status is None:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    _sweep(child)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _sweep(child: int) -> None:
    """Kill every descendant that is left; in a pid namespace there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> Iterable[int]:
    with contextlib.suppress(OSError):
        listing = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        return [int(pid) for pid in listing.split()]
    return []


def _limit(jail: Jail) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (jail.file_bytes, jail.file_bytes))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), min(1024, hard)))
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


def _drop_uid(jail: Jail, *, keep_reading: bool) -> None:
    """Become an unprivileged user of this slot's own.

    The interpreter may lie below a directory that only root can enter. Where Landlock bounds what
    can be read anyway, the capability to read past permissions is kept for that.
    """
    uid = UNPRIVILEGED_UID + (jail.cores[0] if jail.cores else 0)
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
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def owner(jail: Jail) -> tuple[int, int] | None:
    """Return the uid and gid that must own the working directory, None for the present user."""
    if os.geteuid() != 0:
        return None
    uid = UNPRIVILEGED_UID + (jail.cores[0] if jail.cores else 0)
    return uid, uid


_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = 0b1101  # execute, read file, read directory
_ALL_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_FILE_ONLY = 0b110 | 1 | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl


def _landlock_available() -> int:
    """Return the Landlock version of this kernel, 0 without."""
    return max(0, int(_libc().syscall(_LANDLOCK_CREATE, None, 0, 1))) if _LINUX else 0


def _landlock(readable: Iterable[str], writable: Iterable[str], device: str) -> None:
    """Forbid every path but these, TCP, and signals to processes outside."""
    abi = _landlock_available()
    handled = _ALL_BY_ABI[max(known for known in _ALL_BY_ABI if known <= abi)]
    network = 0b11 if abi >= 4 else 0
    scoped = 0b11 if abi >= 6 else 0
    attributes = struct.pack("=QQQ", handled, network, scoped)
    attributes = attributes[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    libc = _libc()
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset failed")
    for paths, access in ((readable, _READ), (writable, handled)):
        for path in paths:
            rights = access
            if path.startswith(("/dev/null", "/dev/zero")) or (device != "cpu" and "/dev/" in path):
                rights |= 0b10 | 1 << 15
            _landlock_path(libc, ruleset, path, rights & handled)
    if libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self failed")
    os.close(ruleset)


def _landlock_path(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):  # noqa: PTH112 - a string, on the way into the jail
        rights &= _FILE_ONLY
    rule = struct.pack("=Qi", rights, descriptor)
    if libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0):
        raise OSError(ctypes.get_errno(), f"landlock_add_rule failed for {path}")
    os.close(descriptor)


_SYSCALLS = {
    "x86_64": (0xC000003E, {
        "socket": 41,
        "sched_setaffinity": 203, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "perf_event_open": 298, "bpf": 321, "mount": 165, "umount2": 166, "unshare": 272,
        "setns": 308, "keyctl": 250, "add_key": 248, "request_key": 249, "kexec_load": 246,
        "open_by_handle_at": 304, "userfaultfd": 323, "io_uring_setup": 425, "shmget": 29,
        "msgget": 68, "semget": 64, "sched_setscheduler": 144, "pidfd_getfd": 438,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198,
        "sched_setaffinity": 122, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "perf_event_open": 241, "bpf": 280, "mount": 40, "umount2": 39, "unshare": 97,
        "setns": 268, "keyctl": 219, "add_key": 217, "request_key": 218, "kexec_load": 104,
        "open_by_handle_at": 265, "userfaultfd": 282, "io_uring_setup": 425, "shmget": 194,
        "msgget": 186, "semget": 190, "sched_setscheduler": 119, "pidfd_getfd": 438,
    }),
}  # fmt: skip


def _seccomp(*, sockets: bool) -> bool:
    """Refuse (EPERM) the calls that undo the clock, inspect others or widen the world.

    Args:
        sockets: leave `socket` alone: an accelerator's driver may need it. Elsewhere no socket
            can be made, so that those of other programs with a path cannot be reached either;
            `socketpair` and inherited ones work.
    """
    machine = os.uname().machine
    if machine not in _SYSCALLS:
        return False
    architecture, known = _SYSCALLS[machine]
    numbers = {name: number for name, number in known.items() if name != "socket" or not sockets}
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 1, 0x80000000
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    program.append((at_least, len(numbers) + 1, 0, 0x40000000))  # x32 calls of x86-64
    for position, number in enumerate(sorted(numbers.values())):
        program.append((equal, len(numbers) - position, 0, number))
    program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    return bool(_libc().prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)


def probe() -> tuple[Layer, ...]:
    """Return every layer with its state on this machine, each tried for real in a process."""
    done = subprocess.run(
        [sys.executable, "-m", "evaluate.sandbox"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": os.environ.get("PATH", "")},
    )
    return tuple(Layer(**row) for row in json.loads(done.stdout))


def _in_child(attempt: Callable[[], bool]) -> bool:
    """Whether `attempt` succeeds in a forked child, so that nothing of it stays."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if attempt() else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _try_namespaces() -> bool:
    root = os.geteuid() == 0
    return _unshare(_NEW_NET | _NEW_PID | _NEW_IPC) if root else _unshare_as_user()


def _try_landlock() -> bool:
    _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _landlock(interpreter_paths(), (), "cpu")
    return not _readable("/etc/passwd")


def _readable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True


def _try_uid() -> bool:
    os.setresuid(UNPRIVILEGED_UID, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    return os.geteuid() == UNPRIVILEGED_UID


def _try_seccomp() -> bool:
    _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not _seccomp(sockets=False):
        return False
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except PermissionError:
        return True
    return False


def _layers() -> list[Layer]:
    unprivileged = os.geteuid() != 0 or _in_child(_try_uid)
    return [
        Layer("limits", True, "memory, processes, file size and log size are bounded"),
        Layer("environment", True, "no variable of yours reaches a candidate"),
        Layer(
            "namespaces",
            _LINUX and _in_child(_try_namespaces),
            "no network, no other process in sight, the whole tree dies together",
            "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or an AppArmor "
            "profile), or start the container with the right to create them",
        ),
        Layer(
            "landlock",
            _LINUX and _landlock_available() > 0 and _in_child(_try_landlock),
            "validation data, home and other candidates cannot be read, nothing else written",
            "use Linux 5.13 or later with Landlock enabled (lsm=landlock,...)",
        ),
        Layer(
            "seccomp",
            _LINUX and _in_child(_try_seccomp),
            "core affinity, tracing and mounting are out of reach",
            "use Linux on x86-64 or aarch64 with seccomp filters",
        ),
        Layer(
            "unprivileged",
            unprivileged,
            "candidates run as an ordinary user",
            "start the harness as an ordinary user",
        ),
    ]


if __name__ == "__main__":
    print(json.dumps([asdict(layer) for layer in _layers()]))
