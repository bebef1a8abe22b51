"""Which processor cores a candidate runs on, and as whom: leases, held across all processes.

Two runs on one machine do not share a core by accident: a lease is an exclusive lock on a file
that the system drops when its holder dies, however that happens.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PATIENCE_S = 60.0


def available() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def busy_s(cores: Sequence[int]) -> float | None:
    """Return how long these cores were at work since the machine's start, in core seconds.

    Time that a hypervisor took away (steal) counts as work, since it was not ours either. None
    where the system does not tell.
    """
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    rows = {line.split()[0]: line.split()[1:9] for line in lines if line.startswith("cpu")}
    total = 0
    for core in cores:
        user, nice, system, _, _, irq, softirq, steal = map(int, rows.get(f"cpu{core}", ["0"] * 8))
        total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def lease(count: int) -> Iterator[tuple[int, ...]]:
    """Hold `count` cores. After a minute without free ones the rest is shared, not waited for."""
    folder = _folder()
    held: dict[int, int] = {}
    deadline = time.monotonic() + PATIENCE_S
    wanted = min(count, len(available()))
    try:
        while len(held) < wanted:
            for core in available():
                if len(held) < wanted and core not in held:
                    descriptor = _locked(folder / str(core))
                    if descriptor is not None:
                        held[core] = descriptor
            if len(held) < wanted:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
        spare = [core for core in available() if core not in held]
        yield tuple(sorted([*held, *spare[: wanted - len(held)]]))
    finally:
        for descriptor in held.values():
            os.close(descriptor)


@contextlib.contextmanager
def place() -> Iterator[int]:
    """Hold the least number that no other trial of this user holds, from 0, whoever shares cores.

    The system counts processes by user: who has the uid of another one fails where that one forks.
    """
    folder, number = _folder(), 0
    while (descriptor := _locked(folder / f"place-{number}")) is None:
        number += 1
    try:
        yield number
    finally:
        os.close(descriptor)


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"evolve-cores-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _locked(path: Path) -> int | None:
    """Return a descriptor that locks a file until it is closed, None where another one does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
