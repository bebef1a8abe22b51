"""Bounds of a candidate that no limit of a single process can keep: looked at while it runs."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from evaluate import directory
from evaluate.tree import Tree, deleted_bytes
from population.task import Limits

MEMORY_EVERY_S = 0.2
DISK_EVERY_S = 1.0
LONGEST_S = 2.0
WORTH = 200.0
"""A look is repeated after this many times what it took: watching costs half a percent."""
CPU_MARGIN, CPU_SLACK_S = 1.2, 1.0


@dataclass(slots=True)
class Turn:
    """When the next look of one kind is due."""

    every_s: float
    due: float = 0.0

    def rest(self, began: float) -> None:
        """Note that a look that began then has ended now."""
        now = time.monotonic()
        self.due = now + min(max(self.every_s, WORTH * (now - began)), LONGEST_S)


@dataclass(slots=True)
class Bounds:
    """What one candidate may use in all. `tree` is None until its guard is known.

    `passed` and `left` return (reason, detail) of a failure, None while all holds.
    """

    limits: Limits
    workdir: Path
    tree: Tree | None = None
    memory: Turn = field(default_factory=lambda: Turn(MEMORY_EVERY_S))
    disk: Turn = field(default_factory=lambda: Turn(DISK_EVERY_S, time.monotonic() + DISK_EVERY_S))

    def passed(self) -> tuple[str, str] | None:
        """Look at what is due and return the first bound that is passed."""
        began = time.monotonic()
        found = None
        if self.tree is not None and began >= self.memory.due:
            found = self._processes(self.tree)
            self.memory.rest(began)
        if found is None and began >= self.disk.due:
            found = self.left()
            self.disk.rest(began)
        return found

    def _processes(self, tree: Tree) -> tuple[str, str] | None:
        pids = tree.processes()
        tree.count_cpu(pids)
        if len(pids) > self.limits.processes:
            return "process_limit", f"runs more than {self.limits.processes} processes"
        limit = self.limits.memory_bytes
        if tree.memory_bytes(pids, limit) > limit:
            return "out_of_memory", f"its {len(pids)} processes need more than {limit} bytes in all"
        return None

    def left(self) -> tuple[str, str] | None:
        """Look at its directory, while it lives or afterwards."""
        pids = [] if self.tree is None else self.tree.processes()
        try:
            deleted = deleted_bytes(pids, str(self.workdir))
            directory.check(self.workdir, self.limits.disk_bytes, deleted)
        except directory.TooLargeError as error:
            return "disk_limit", f"its directory holds too much: {error}"
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            return "disk_limit", f"its directory is gone or closed: {error.strerror}"
        return None

    def cpu_s(self, counted_s: float) -> float:
        """Return processor seconds: those counted leave out whoever was never waited for."""
        return max(counted_s, 0.0 if self.tree is None else sum(self.tree.cpu_s.values()))

    def cpu(self, used_s: float, cores: int, wall_s: float) -> tuple[str, str] | None:
        """Compare processor time with what its cores had to give, once it has ended.

        Args:
            used_s: as the system counted it.
            cores: how many it was given.
            wall_s: for how long.
        """
        used_s = self.cpu_s(used_s)
        if used_s <= CPU_MARGIN * cores * wall_s + CPU_SLACK_S:
            return None
        return "cpu_limit", (
            f"used {used_s:.1f} s of processor time within {wall_s:.1f} s on {cores} cores: it "
            "works on more cores than it was given"
        )
