"""The ladder: newcomers train for a part of the budget first, the best of them for all of it.

A shorter schedule tells something of what the whole one would; how much depends on the task, and
`bench/ladder.py` measures it. Its scores decide who is trained in full, and rank nobody.

Source: asynchronous successive halving, Li et al., A System for Massively Parallel Hyperparameter
Tuning, MLSys 2020, section 3; here against the latest newcomers, since a search's get better.
"""

from collections.abc import Mapping, Sequence
from statistics import correlation, fmean, median, stdev

from population.individual import Comparability, IndividualId
from population.task import Direction

LET_THROUGH = 0.25
"""Share of the newcomers that is trained in full."""
LATEST = 16
"""So many before it a newcomer is compared with."""
FEW = 4
"""While there are fewer, everybody is let through."""


def is_let_through(fitness: float, before: Sequence[float]) -> bool:
    """Tell whether a newcomer is among the best quarter, rounded up, of the latest and itself.

    Args:
        fitness: by its short training; larger is better.
        before: those of the others, in order.
    """
    latest = before[-LATEST:]
    better = sum(one > fitness for one in latest)
    return len(latest) < FEW or better < LET_THROUGH * (len(latest) + 1)


class Rungs:
    """What the short trainings of a run gave, and whom they have stopped.

    Attributes:
        passed: whom they let through.
    """

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._fitness: dict[Comparability, dict[IndividualId, float]] = {}
        self._stopped: dict[IndividualId, Comparability] = {}
        self.passed: set[IndividualId] = set()

    def judge(self, made: Comparability, individual: IndividualId, value: float) -> bool:
        """Keep the finite value of a short training; return whether it lets this one through."""
        known = self._fitness.setdefault(made, {})
        fitness = self._direction.fitness(value)
        passes = is_let_through(fitness, list(known.values()))
        known[individual] = fitness
        if passes:
            self.passed.add(individual)
        else:
            self._stopped[individual] = made
        return passes

    @property
    def judged(self) -> int:
        """How many were let through or stopped."""
        return len(self.passed) + len(self._stopped)

    def has_stopped(self, individual: IndividualId) -> bool:
        """Whether it is not trained in full."""
        return individual in self._stopped

    def expected(self, whole: Mapping[IndividualId, float]) -> dict[IndividualId, float]:
        """Return the fitness that those who were stopped would probably have had.

        It is read off a line through those who were let through, and is at most their median.

        Args:
            whole: fitnesses of those who were trained in full.

        Returns:
            By id; empty while fewer than four were trained both ways.
        """
        found: dict[IndividualId, float] = {}
        for made, known in self._fitness.items():
            both = [one for one in known if one in whole]
            if len(both) < FEW:
                continue
            short, full = [known[one] for one in both], [whole[one] for one in both]
            slope = _slope(short, full)
            middle, most = fmean(short), median(full)
            for one, own in self._stopped.items():
                if own == made:
                    found[one] = min(fmean(full) + slope * (known[one] - middle), most)
        return found


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of the least-squares line, 0 where it would fall or is not defined."""
    if min(x) == max(x) or min(y) == max(y):
        return 0.0
    return max(0.0, correlation(x, y) * stdev(y) / stdev(x))
