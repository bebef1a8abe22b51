"""The overviews of runs, made seldom enough that a page disturbs no training."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evolve.live import is_running, read_live
from evolve.reading import Reading
from evolve.web import page
from evolve.web.rendering import state_of
from population.publishing import PUBLISHED

REST_PER_WORK = 30.0
"""Rests this many times as long as it worked: it takes 3% of a core at most."""


@dataclass(slots=True)
class Made:
    """An overview, of which publication it is, and when a newer one may be made."""

    found: dict[str, Any]
    of: int
    number: int
    due_at: float


@dataclass(slots=True)
class Overviews:
    """Overviews by run, for several threads."""

    _made: dict[Path, Made] = field(default_factory=dict)
    _making: threading.Lock = field(default_factory=threading.Lock)

    def of(self, folder: Path) -> tuple[dict[str, Any], str]:
        """Return the overview of a run with what trains now, and a word that changes with both.

        Raises:
            LineageError: the publication cannot be read.
        """
        with self._making:
            made = self._made.get(folder)
            published = (folder / PUBLISHED).stat().st_mtime_ns
            if made is None or (made.of != published and time.monotonic() >= made.due_at):
                made = self._made[folder] = _make(folder, published, made)
        live = read_live(folder / "live.json")
        running = is_running(live)
        now = {
            "live": live if running else None,
            "running": running,
            "published_s_ago": max(0.0, time.time() - made.of / 1e9),
            "now": time.time(),
        }
        found = made.found | now
        moment = live["updated_at"] if live else 0
        return found | {"state": state_of(found)}, f"{made.number}-{moment}-{running}"


def _make(folder: Path, published: int, before: Made | None) -> Made:
    begun = time.monotonic()
    with Reading(folder) as reading:
        found = page.overview(reading)
    took_s = time.monotonic() - begun
    number = 1 if before is None else before.number + 1
    return Made(found, published, number, time.monotonic() + REST_PER_WORK * took_s)
