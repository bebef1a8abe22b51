"""What a tree of processes uses together: memory and processor time, read from /proc.

Limits of a process count for each one alone; a tree of N has N times as much. Elsewhere than on
Linux nothing is seen here.
"""

import contextlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from evaluate.directory import TooLargeError

_KIB = 1024
_DELETED = b" (deleted)"
_WANTED = (b"RssAnon", b"RssShmem", b"VmSwap", b"Pss_Anon", b"Pss_Shmem", b"SwapPss")
MAPS_BYTES = 4 << 20
"""Longest list of mappings that is read: a thousand mappings of long names take a tenth of it."""


@dataclass(slots=True)
class Tree:
    """The descendants of a guard, looked at now and then.

    Attributes:
        guard: the process that they descend from; it is ours and does not count.
        shared_bytes: memory that each of them shares with the warm process it was forked from.
        cpu_s: processor seconds of each process that was seen, by pid and start.
    """

    guard: int
    shared_bytes: int = 0
    cpu_s: dict[tuple[int, bytes], float] = field(default_factory=dict)

    def processes(self) -> list[int]:
        """Return the pids of all descendants; one that is just being forked may be missing."""
        found: list[int] = []
        waiting = [self.guard]
        while waiting:
            children = _children(waiting.pop())
            found += children
            waiting += children
        return found

    def memory_bytes(self, pids: list[int], enough: int) -> int:
        """Return anonymous and shared memory of these processes, what they share counted once.

        Args:
            pids: of `processes`.
            enough: below this a bound from above will do, which is cheap. Only above it each
                process's pages are counted, which takes it some milliseconds per GiB.
        """
        bounds = [_memory_bytes(pid) for pid in pids]
        if sum(bounds) - self.shared_bytes <= enough:
            return max(0, sum(bounds) - self.shared_bytes)
        shares = [_share_bytes(pid) for pid in pids]
        if any(share is None for share in shares):  # whoever hides its pages pays for all of them
            return sum(max(0, bound - self.shared_bytes) for bound in bounds)
        return max(0, sum(share or 0 for share in shares) - self.shared_bytes)

    def count_cpu(self, pids: list[int]) -> float:
        """Return the processor seconds of all processes seen so far, as of their last look."""
        ticks = os.sysconf("SC_CLK_TCK")
        for pid in pids:
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                self.cpu_s[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / ticks
        return sum(self.cpu_s.values())


def deleted_bytes(pids: list[int], folder: str) -> int:
    """Return the size of files that were deleted and are still open, or mapped below a folder.

    They lie on the disk and in no directory.

    Raises:
        TooLargeError: a process has more mappings than can be looked through.
    """
    sizes: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            _add_open(pid, sizes)
        with contextlib.suppress(OSError):
            _add_mapped(pid, folder, sizes)
    return sum(sizes.values())


def _add_open(pid: int, sizes: dict[int, int]) -> None:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = descriptor.stat()
            if stat.S_ISREG(found.st_mode) and not found.st_nlink and not _lent(descriptor):
                sizes[found.st_ino] = max(found.st_size, found.st_blocks * 512)


def _lent(descriptor: Path) -> bool:
    """Whether a file is memory: that of the hand-in. A name too long to be told is no memory's."""
    try:
        return str(descriptor.readlink()).startswith("/memfd:")
    except OSError:
        return False


def _add_mapped(pid: int, folder: str, sizes: dict[int, int]) -> None:
    with Path(f"/proc/{pid}/maps").open("rb") as file:
        content = file.read(MAPS_BYTES + 1)
    if len(content) > MAPS_BYTES:
        raise TooLargeError("more memory mappings than can be looked through")
    below = f" {folder}/".encode()
    for line in content.split(b"\n"):
        if line.endswith(_DELETED) and below in line:
            span, _, _, _, inode, *_ = line.split()
            first, last = (int(end, 16) for end in span.split(b"-"))
            sizes[int(inode)] = max(sizes.get(int(inode), 0), last - first)


def anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory of one process, 0 where it is gone or nothing is told."""
    return _status(pid).get("RssAnon", 0)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found


def _memory_bytes(pid: int) -> int:
    found = _status(pid)
    return found.get("RssAnon", 0) + found.get("RssShmem", 0) + found.get("VmSwap", 0)


def _status(pid: int) -> dict[str, int]:
    return _sizes(Path(f"/proc/{pid}/status")) or {}


def _share_bytes(pid: int) -> int | None:
    """Return a process's share of its pages, each divided by those who have it; None: hidden."""
    found = _sizes(Path(f"/proc/{pid}/smaps_rollup"))
    if found is None:
        return None
    return found.get("Pss_Anon", 0) + found.get("Pss_Shmem", 0) + found.get("SwapPss", 0)


def _sizes(path: Path) -> dict[str, int] | None:
    """Return the sizes that are wanted, in bytes; empty where the process is gone.

    The other lines hold text that the process may choose, its name.
    """
    try:
        content = path.read_bytes()
    except PermissionError:
        return None
    except OSError:
        return {}
    rows = (line.partition(b":") for line in content.split(b"\n"))
    return {name.decode(): int(size.split()[0]) * _KIB for name, _, size in rows if name in _WANTED}
