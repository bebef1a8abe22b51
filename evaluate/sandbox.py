"""What a candidate process may see and do: layers, each probed, each reported.

What is covered on Linux: no network (network namespace), no other process in sight (pid
namespace), nothing to read outside the interpreter, the libraries and the own directory and
nothing to write outside the latter (`landlock.py`), no call that undoes the clock, inspects others
or widens the world (`seccomp.py`), an unprivileged uid where the harness runs as root, cores,
memory, processes and file size bounded, an environment built from an allow-list, and the death of
the whole tree (`guard.py`). Bounds of the whole tree are kept from outside (`bounds.py`).
On a GPU there are its device files, sockets within the jail, names of threads to write and a little
shared memory of the jail's own besides; its driver needs a /proc of the pid namespace's own, and
where none can be mounted (in most containers) that namespace is left out: `namespaces` is reported
as missing, `network` holds. Processes of the same user can be probed then and, where Landlock has
no scopes (before Linux 6.12), signalled: a guard that is killed fails its candidate.
What is not covered: faults of the kernel itself; macOS, which has the limits and the environment
only. `evolve doctor` shows what this machine has.

The jail is entered by a forked child of the warm process (`warm.py`), never by `preexec_fn`:
Ray's workers have threads.
"""

import ctypes
import json
import os
import re
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from evaluate import landlock, seccomp
from evaluate.guard import die_with_parent, fork_guarded, unset_signals
from evaluate.namespaces import (
    SHARED_MEMORY,
    become,
    drop_capabilities,
    furnish,
    in_user_namespace,
    proc_can_be_had,
    separate,
)
from population.errors import SandboxError

_PR_SET_NO_NEW_PRIVS = 38
_LINUX = sys.platform == "linux"
UNPRIVILEGED_UID = 61_000
OPEN_FILES = 512
THREADS_PER_CORE = 4
CARD = re.compile(r"nvidia\d+")
PROBE_S = 120.0
NEEDED_BY_DRIVERS = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


SYSTEM_PATHS = """
/usr/bin /usr/sbin /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/include /usr/share
/usr/local/bin /usr/local/lib /usr/local/lib64 /usr/local/include /usr/local/cuda
/usr/local/nvidia /opt/rocm
/lib /lib64 /bin /etc/ld.so.cache /etc/localtime /etc/alternatives
/dev/null /dev/urandom /dev/random /proc/cpuinfo /proc/meminfo /sys/devices/system
"""


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
        cards: names below /dev of the cards of an accelerator that it may use; empty: all.
        shared_bytes: of memory that its processes may share, for their locks; 0: none.
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
    cards: tuple[str, ...] = ()
    shared_bytes: int = 0
    required: tuple[str, ...] = ()


def interpreter_paths() -> tuple[str, ...]:
    """Return what any Python program with torch has to read."""
    names = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    torch = find_spec("torch")  # perhaps among the packages of the user alone
    if torch is not None and torch.origin is not None:
        names.add(str(Path(torch.origin).parents[1]))
    known = [*names, *SYSTEM_PATHS.split()]
    return tuple(path for path in sorted(known) if Path(path).exists())


def exposed(path: Path) -> str:
    """Return the directory of the interpreter or the system below which a path lies, else ''."""
    place = path.resolve()
    roots = (Path(name).resolve() for name in interpreter_paths())
    return next((str(root) for root in roots if place.is_relative_to(root)), "")


def device_paths(device: str, cards: Collection[str] = ()) -> tuple[str, ...]:
    """Return the device files that an accelerator needs; nothing for the processor.

    Args:
        device: as in a task.
        cards: names below /dev of the NVIDIA cards that may be used; empty: all.
    """
    if device == "cpu":
        return ()
    patterns = ("nvidia*", "kfd", "dri", "dxg")
    found = [p for pattern in patterns for p in Path("/dev").glob(pattern)]
    return (
        "/dev/zero",  # a mapping of it is shared memory that nothing counts
        *(str(p) for p in found if not (cards and CARD.fullmatch(p.name) and p.name not in cards)),
        "/proc/driver",
        "/proc/self",
        landlock.THREADS,
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
    die_with_parent()
    held = ["limits", "environment"]
    furnishes = jail.device != "cpu" or jail.shared_bytes > 0
    hidden = _LINUX and (not furnishes or proc_can_be_had(jail.uid, jail.readable))
    separated = _LINUX and separate(jail.uid, jail.readable, processes=hidden)
    if separated:
        held += ["network", "namespaces"] if hidden else ["network"]
    fork_guarded()
    if jail.cores and hasattr(os, "sched_setaffinity"):  # its guard has to be quick, on any core
        os.sched_setaffinity(0, jail.cores)
    shares = furnishes and separated and furnish(jail.shared_bytes, processes=hidden)
    _limit(jail)
    held += _confine(jail, shares and jail.shared_bytes > 0)
    os.environ.clear()
    os.environ.update(dict(jail.environment))
    os.chdir(jail.workdir or "/")
    if missing := sorted(set(jail.required) - set(held)):
        raise SandboxError(
            f"the sandbox lacks {', '.join(missing)}: see `evolve doctor`, or leave "
            "--require-sandbox out"
        )
    return tuple(held)


def _limit(jail: Jail) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (jail.file_bytes, jail.file_bytes))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if _LINUX and (os.geteuid() == 0 or in_user_namespace()):
        tasks = max(jail.processes, THREADS_PER_CORE * len(jail.cores))  # threads count, too
        resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))
    if jail.memory_bytes is not None and _LINUX:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + jail.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _confine(jail: Jail, shares: bool) -> Iterator[str]:
    """Give up every right that the jail does not need; yield the name of each layer entered."""
    devices = device_paths(jail.device, jail.cards)
    readable = (*interpreter_paths(), *devices, *jail.readable)
    writable = [jail.workdir] if jail.workdir else []
    writable += [SHARED_MEMORY] if shares else []
    if _LINUX and os.geteuid() == 0:
        become(jail.uid, keep_reading=landlock.available() > 0)
    elif _LINUX:
        drop_capabilities()
    if os.geteuid() != 0:
        yield "unprivileged"
    if not _LINUX:
        return
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if landlock.restrict(readable, writable, jail.device):
        yield "landlock"
    driver = jail.device != "cpu"
    if seccomp.install(sockets=driver, memfd=jail.memfd, shared=driver):
        yield "seccomp"


def owner(jail: Jail) -> tuple[int, int] | None:
    """Return the uid and gid that must own the working directory, None for the present user."""
    return (jail.uid, jail.uid) if os.geteuid() == 0 else None


def probe(
    device: str = "cpu", readable: Sequence[str] = (), *, computes: bool = False
) -> tuple[Layer, ...]:
    """Return every layer with its state on this machine: what a real jail entered just now.

    Args:
        device: that the jail is for.
        readable: what candidates read besides; where others cannot, some layers cannot be had.
        computes: try an accelerator from inside the jail, too: seconds, and a moment of the card.

    Raises:
        SandboxError: no jail can be entered at all, or an accelerator cannot be used in one.
    """
    how = "computes" if computes else "looks"
    passed = {name: os.environ[name] for name in NEEDED_BY_DRIVERS if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "evaluate.layers", device, how, *readable],
        capture_output=True,
        text=True,
        timeout=PROBE_S,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "", **passed},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SandboxError(f"no candidate can be jailed on this machine: {last}")
    return tuple(Layer(**row) for row in json.loads(done.stdout))


def require_all(device: str, readable: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of all layers, for trials on this device to insist on; as for `probe`.

    Raises:
        SandboxError: this machine lacks some; the message says which and what to do.
    """
    layers = probe(device, readable)
    missing = [f"{layer.name} ({layer.remedy})" for layer in layers if not layer.active]
    if missing:
        raise SandboxError(
            f"--require-sandbox: this machine lacks {'; '.join(missing)}; or leave the option out"
        )
    return tuple(layer.name for layer in layers)


def protects_data(layers: Collection[str]) -> bool:
    """Whether validation data is out of a candidate's reach, by the names of what holds it.

    Only Landlock says so whatever the files' permissions and whoever runs the harness.
    """
    return "landlock" in layers
