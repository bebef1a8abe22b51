"""Scores by machine and setup: only those of one comparability rank together."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from functools import cached_property
from statistics import fmean

from population.individual import Comparability, IndividualId
from population.statistics import Estimate, Noise, estimate_noise, estimates
from population.task import Direction

Ranks = dict[IndividualId, Estimate]


class Scores:
    """The values of the metric that one shard gave, and what they say of each individual."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._count: Counter[Comparability] = Counter()
        self._values: dict[Comparability, dict[IndividualId, list[float]]] = defaultdict(dict)
        self._errors: dict[Comparability, dict[IndividualId, list[float]]] = defaultdict(dict)
        self._ranks: dict[frozenset[IndividualId], Ranks] = {}

    def add(
        self,
        made: Comparability,
        individual: IndividualId,
        value: float,
        sampling: float | None = None,
    ) -> None:
        """Take one more value into account.

        Args:
            made: the comparability that it was scored under.
            individual: whose it is.
            value: of the metric, finite.
            sampling: its standard error, where it was counted.
        """
        if sampling is not None:
            self._errors[made].setdefault(individual, []).append(sampling)
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
        errors = self._errors.get(self.usual, {}) if self.usual else {}
        sampling = {one: math.sqrt(fmean(e**2 for e in own)) for one, own in errors.items()}
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
        sigmas = [noise.of(one) for one in values] if noise else None
        means = [self._direction.fitness(fmean(own)) for own in values.values()]
        counts = [len(own) for own in values.values()]
        believed = [one not in doubted for one in values]
        return dict(zip(values, estimates(means, counts, sigmas, believed), strict=True))
