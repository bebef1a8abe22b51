"""What a tree of processes uses together: memory and processor time, read from /proc.

Limits of a process count for each one alone; a tree of N has N times as much. Elsewhere than on
Linux nothing is seen here.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

_KIB = 1024
_DELETED = " (deleted)"


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
    cpu_s: dict[tuple[int, str], float] = field(default_factory=dict)

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
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self.cpu_s[pid, fields[19]] = (int(fields[11]) + int(fields[12])) / ticks
        return sum(self.cpu_s.values())


def deleted_bytes(pids: list[int], folder: str) -> int:
    """Return the size of files that were deleted below a folder and are still open or mapped.

    They lie on the disk and in no directory.
    """
    sizes: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            _add_open(pid, folder, sizes)
        with contextlib.suppress(OSError):
            _add_mapped(pid, folder, sizes)
    return sum(sizes.values())


def _add_open(pid: int, folder: str, sizes: dict[int, int]) -> None:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            name = str(descriptor.readlink())
            if name.startswith(f"{folder}/") and name.endswith(_DELETED):
                found = descriptor.stat()
                sizes[found.st_ino] = max(found.st_size, found.st_blocks * 512)


def _add_mapped(pid: int, folder: str, sizes: dict[int, int]) -> None:
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        if line.endswith(_DELETED) and f" {folder}/" in line:
            span, _, _, _, inode, *_ = line.split()
            first, last = (int(end, 16) for end in span.split("-"))
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
    """Return the lines that hold a size, in bytes; empty where the process is gone."""
    try:
        text = path.read_text()
    except PermissionError:
        return None
    except OSError:
        return {}
    rows = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {row[0].rstrip(":"): int(row[-2]) * _KIB for row in rows}
