"""Scores by machine and setup: only those of one comparability rank together."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from functools import cached_property
from statistics import fmean

from population.individual import Comparability, IndividualId
from population.statistics import Count, Estimate, Noise, estimate_noise, estimates, pooled
from population.task import Direction

Ranks = dict[IndividualId, Estimate]
Counts = dict[IndividualId, list[Count | None]]


class Scores:
    """The values of the metric that one shard gave, and what they say of each individual."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._count: Counter[Comparability] = Counter()
        self._values: dict[Comparability, dict[IndividualId, list[float]]] = defaultdict(dict)
        self._counted: dict[Comparability, Counts] = defaultdict(dict)
        self._ranks: dict[frozenset[IndividualId], Ranks] = {}

    def add(
        self,
        made: Comparability,
        individual: IndividualId,
        value: float,
        count: Count | None = None,
    ) -> None:
        """Take one more value into account.

        Args:
            made: the comparability that it was scored under.
            individual: whose it is.
            value: of the metric, finite.
            count: what it was counted from, where it was.
        """
        self._counted[made].setdefault(individual, []).append(count)
        self._count[made] += 1
        self._values[made].setdefault(individual, []).append(value)
        self._ranks.clear()
        self.__dict__.pop("noise", None)

    @property
    def usual(self) -> Comparability | None:
        """That of most values, the earliest among equals; None where there is none."""
        return max(self._count, key=self._count.__getitem__, default=None)

    def of(self, made: Comparability | None) -> Mapping[IndividualId, list[float]]:
        """Return the values of one comparability, by individual."""
        return self._values.get(made, {}) if made else {}

    @cached_property
    def noise(self) -> Noise | None:
        """Of one evaluation, by the usual values; None while too few genomes were repeated."""
        counts = self._counted.get(self.usual, {}) if self.usual else {}
        known = {one: [count for count in own if count] for one, own in counts.items()}
        sampling = {
            one: math.sqrt(fmean(count.error**2 for count in own))
            for one, own in known.items()
            if own
        }
        return estimate_noise(self.of(self.usual), sampling)

    def ranked(self, doubted: Set[IndividualId] = frozenset()) -> Ranks:
        """Return shrunken means as fitnesses, of the usual values.

        Args:
            doubted: whose values are not believed: they say nothing of where the others lie.
        """
        key = frozenset(doubted)
        if key not in self._ranks:
            self._ranks = {key: self._rank(key)}
        return self._ranks[key]

    def _rank(self, doubted: Set[IndividualId]) -> Ranks:
        values, noise = self.of(self.usual), self.noise
        counts = self._counted.get(self.usual, {}) if self.usual else {}
        found = [
            pooled(own, counts[one], noise.of(one) if noise else 0.0) for one, own in values.items()
        ]
        means = [self._direction.fitness(mean) for mean, _ in found]
        sigmas = [sigma for _, sigma in found] if noise else None
        numbers = [len(own) for own in values.values()]
        believed = [one not in doubted for one in values]
        return dict(zip(values, estimates(means, numbers, sigmas, believed), strict=True))
