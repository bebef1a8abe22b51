"""Slots that stay empty for a while, since what was put there last was lost by our side.

Nobody chooses where an evaluation runs: the next one lands where there is room, and a device that
fails at once always has some. While others train it gets nothing, each time for twice as long.
Where none trains it is not one device that fails but all of them, a disk or a network: then the
next attempt waits a little, each time for twice as long, if anything has come back before.
"""

import math
from dataclasses import dataclass, field

from population.individual import Result
from population.jobs import is_infrastructure

REST_S = 30.0
LONGEST_REST_S = 600.0
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(slots=True)
class Rests:
    """The rests of a run's slots. Times are seconds of a clock that does not go back."""

    _failures: dict[tuple[str, str], int] = field(default_factory=dict)
    _until: list[float] = field(default_factory=list)
    _worked: bool = False
    _in_a_row: int = 0
    _paused_until: float = -math.inf

    def note(self, result: Result, now: float) -> None:
        """Take a result into account: a loss begins a rest, anything else ends its place's series.

        Args:
            result: of an evaluation that has just left its slot.
            now: the time.
        """
        place = result.host, result.device
        if not is_infrastructure(result):
            self._failures.pop(place, None)
            self._worked, self._in_a_row, self._paused_until = True, 0, -math.inf
            return
        if self._worked and now >= self._paused_until:  # what is lost together counts once
            pause_s = min(PAUSE_S * 2 ** min(self._in_a_row, 10), LONGEST_PAUSE_S)
            self._paused_until = now + pause_s
            self._in_a_row += 1
        before = self._failures.get(place, 0)
        self._failures[place] = before + 1
        self._until.append(now + min(REST_S * 2**before, LONGEST_REST_S))

    def usable(self, slots: int, busy: int, now: float) -> int:
        """Return how many of `slots` may be in use while `busy` are; none in a pause of all."""
        if not busy:
            self._until = []
            return slots if now >= self._paused_until else 0
        self._until = [until for until in self._until if until > now]
        return slots - len(self._until)
