"""How far ahead proposals are prepared, and when a free slot is served by a quick operator."""

import time
from collections.abc import Callable

MOST_AHEAD = 4
"""Proposals in preparation per slot, at most."""
LEAST_SLOTS = 2
"""A machine with one slot still has a second proposal on its way."""
FILL_IN_PAUSE_S = 0.25
LONGEST_FILL_IN_PAUSE_S = 30.0
"""After a quick proposal that was refused, the next one waits: twice as long each time."""


class Lookahead:
    """As many proposals in preparation as there are slots, and more where operators are slow.

    One more for each time that a slot found none ready, so that slow operators are asked earlier;
    one fewer for each time that they pile up, since what waits grows stale. Used from one thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._more = 0
        self._in_vain = 0
        self._next_fill_in = float("-inf")

    def wanted(self, slots: int, places: float) -> float:
        """Return how many proposals are to be in preparation.

        Args:
            slots: of the machine.
            places: how many candidates may still be bred now.
        """
        least = max(slots, LEAST_SLOTS)
        ahead = min(least + self._more, MOST_AHEAD * least - 1)  # one place is a quick one's
        return min(ahead, places)

    def fill_in(self, slots: int, places: float, pending: int) -> bool:
        """Tell whether a slot that found only slow proposals pending is to have a quick one.

        Where quick operators have nothing to offer, they are asked ever more rarely.
        """
        least = max(slots, LEAST_SLOTS)
        most = MOST_AHEAD * least
        if not 0 < pending < min(most, places) or self._clock() < self._next_fill_in:
            return False
        if not self._in_vain:  # else the same slot waits still
            self._more = min(self._more + 1, most - least)
        return True

    def pile_up(self) -> None:
        """More are ready than there are slots."""
        self._more = max(self._more - 1, 0)

    def accepted(self) -> None:
        """An individual was born."""
        self._in_vain = 0

    def refused(self, slow: bool) -> None:
        """A proposal offered nothing."""
        if slow:
            self._in_vain = 0
            return
        pause_s = min(FILL_IN_PAUSE_S * 2**self._in_vain, LONGEST_FILL_IN_PAUSE_S)
        self._next_fill_in = self._clock() + pause_s
        self._in_vain = min(self._in_vain + 1, 10)
