"""Slots that stay empty for a while, since what was put there last was lost by our side.

Nobody chooses where an evaluation runs: the next one lands where there is room, and a device that
fails at once always has some. While others train it gets nothing, each time for twice as long.
"""

from dataclasses import dataclass, field

from population.individual import Result
from population.jobs import is_infrastructure

REST_S = 30.0
LONGEST_REST_S = 600.0


@dataclass(slots=True)
class Rests:
    """The rests of a run's slots. Times are seconds of a clock that does not go back."""

    _failures: dict[tuple[str, str], int] = field(default_factory=dict)
    _until: list[float] = field(default_factory=list)

    def note(self, result: Result, now: float) -> None:
        """Take a result into account: a loss begins a rest, anything else ends its place's series.

        Args:
            result: of an evaluation that has just left its slot.
            now: the time.
        """
        place = result.host, result.device
        if not is_infrastructure(result):
            self._failures.pop(place, None)
            return
        before = self._failures.get(place, 0)
        self._failures[place] = before + 1
        self._until.append(now + min(REST_S * 2**before, LONGEST_REST_S))

    def usable(self, slots: int, busy: int, now: float) -> int:
        """Return how many of `slots` may be in use while `busy` are.

        Where nothing trains nobody rests: then it is not one device that fails.
        """
        self._until = [until for until in self._until if until > now] if busy else []
        return slots - len(self._until)
