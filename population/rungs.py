"""The ladder: newcomers train for a part of the budget first, the best of them for all of it.

A shorter schedule tells something of what the whole one would; how much depends on the task, and
`bench/ladder.py` measures it. Its scores decide who is trained in full, and rank nobody.

Source: asynchronous successive halving, Li et al., A System for Massively Parallel Hyperparameter
Tuning, MLSys 2020, section 3; here against the latest of a kind, since a search's get better.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from population.individual import Comparability, Failed, IndividualId, Result, Stage
from population.task import Direction

LET_THROUGH = 0.25
"""Share of the newcomers that is trained in full."""
LATEST = 16
"""So many before it a newcomer is compared with."""
FEW = 4
"""While there are fewer, everybody is let through."""
FOR_WANT_OF_TIME = frozenset({"late", "too_slow", "timeout", "protocol"})
"""Failures in training that the whole budget may not bring; a first batch beyond it is the last."""


def is_let_through(fitness: float, before: Sequence[float]) -> bool:
    """Tell whether a newcomer is among the best quarter, rounded up, of the latest and itself.

    Args:
        fitness: by its short training; larger is better.
        before: those of the others, in order.
    """
    latest = before[-LATEST:]
    better = sum(one > fitness for one in latest)
    return len(latest) < FEW or better < LET_THROUGH * (len(latest) + 1)


def wants_time(failed: Failed) -> bool:
    """Tell whether a short training failed for a reason that a whole one may not have."""
    return failed.stage is Stage.TRAINING and failed.reason in FOR_WANT_OF_TIME


@dataclass
class Rungs:
    """What the short trainings of a run gave, and whom they have stopped.

    Attributes:
        direction: of the metric.
        passed: whom they let through.
        stopped: whom they did not, with the machine on which that was.
    """

    direction: Direction
    passed: set[IndividualId] = field(default_factory=set)
    stopped: dict[IndividualId, Comparability] = field(default_factory=dict)
    _fitness: dict[Comparability, dict[IndividualId, float]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _kinds: dict[tuple[Comparability, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def judge(self, individual: IndividualId, kind: str, result: Result) -> bool:
        """Take a short training into account; return whether one in full follows.

        Args:
            individual: whose it is. Where it has failed for good it is neither let through nor
                stopped.
            kind: whoever has another one is not compared with it.
            result: settled.
        """
        outcome = result.outcome
        if isinstance(outcome, Failed):
            passes = wants_time(outcome)
        else:
            passes = self._is_among_the_best(individual, kind, result.comparability, outcome.value)
        if passes:
            self.passed.add(individual)
        return passes

    def _is_among_the_best(
        self, individual: IndividualId, kind: str, made: Comparability, value: float
    ) -> bool:
        fitness, before = self.direction.fitness(value), self._kinds[made, kind]
        passes = is_let_through(fitness, before)
        before.append(fitness)
        self._fitness[made][individual] = fitness
        if not passes:
            self.stopped[individual] = made
        return passes

    def expected(self, whole: Mapping[IndividualId, float]) -> dict[IndividualId, float]:
        """Return the fitness that those who were stopped would probably have had.

        It is read off a line through those who were let through, and is at most their median.

        Args:
            whole: fitnesses of those who were trained in full and are believed.

        Returns:
            By id; without those on whose machine fewer than four were trained both ways.
        """
        lines = {}
        for made, known in self._fitness.items():
            both = [(known[one], whole[one]) for one in known if one in whole]
            if len(both) >= FEW:
                lines[made] = _line(both)
        found = {}
        for one, made in self.stopped.items():
            if made in lines:
                slope, at, level, most = lines[made]
                found[one] = min(level + slope * (self._fitness[made][one] - at), most)
        return found


def _line(both: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Return slope, a point (x, y) of the least-squares line that does not fall, and the median y.

    Args:
        both: (x, y), at least one.
    """
    xs, ys = zip(*both, strict=True)
    x, y = fmean(xs), fmean(ys)
    spread = sum((one - x) ** 2 for one in xs)
    slope = sum((a - x) * (b - y) for a, b in both) / spread if spread else 0.0
    return max(0.0, slope), x, y, median(ys)
