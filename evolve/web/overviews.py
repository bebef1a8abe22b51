"""The overviews of runs, made seldom enough that a page disturbs no training."""

import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evolve.live import is_running, read_live
from evolve.reading import READS, Reading
from evolve.recording import is_recorded, waits
from evolve.web import page
from evolve.web.rendering import state_of
from population.publishing import PUBLISHED

REST_PER_WORK = 30.0
"""Rests this many times as long as it worked: it takes 3% of a core at most."""


@dataclass(slots=True)
class Made:
    """An overview, the moment of its publication's file, and when a newer one may be made."""

    found: dict[str, Any]
    of: int
    number: int
    due_at: float


@dataclass(slots=True)
class Overviews:
    """Overviews by run, for several threads."""

    _made: dict[Path, Made] = field(default_factory=dict)

    def of(self, folder: Path) -> tuple[dict[str, Any], tuple[str, str]]:
        """Return the overview of a run with what trains, or waits for a result, now.

        Returns:
            The overview, and two words: one that changes with all of it but what trains, and one
            that changes with that.

        Raises:
            LineageError: the publication cannot be read.
        """
        made = self._newest(folder)
        live = read_live(folder / "live.json")
        running = is_running(live)
        waiting = waits(folder) if is_recorded(folder) else None
        found = made.found | {
            "live": live if running else None,
            "running": running,
            "waiting": waiting,
        }
        state = state_of(found)
        moment = live["updated_at"] if live else 0.0
        changes = zlib.crc32(repr(waiting).encode())
        return found | {"state": state}, (f"{made.number}.{state[:3]}", f"{moment}.{changes}")

    def _newest(self, folder: Path) -> Made:
        """Return the latest overview, made anew where that is due and nobody reads just now."""
        published = (folder / PUBLISHED).stat().st_mtime_ns
        made = self._made.get(folder)
        if made is not None and (made.of == published or time.monotonic() < made.due_at):
            return made
        if not READS.acquire(blocking=made is None):
            assert made is not None
            return made
        try:
            self._made[folder] = _make(folder, published, made)
        finally:
            READS.release()
        return self._made[folder]


def _make(folder: Path, published: int, before: Made | None) -> Made:
    begun = time.monotonic()
    with Reading(folder) as reading:
        found = page.overview(reading)
    took_s = time.monotonic() - begun
    number = 1 if before is None else before.number + 1
    return Made(found, published, number, time.monotonic() + REST_PER_WORK * took_s)
