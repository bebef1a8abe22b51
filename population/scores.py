"""Scores by comparability key: only those of one key rank together."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from statistics import fmean

from population.individual import IndividualId
from population.statistics import Estimate, Noise, estimate_noise, estimates
from population.task import Direction

Ranks = tuple[dict[IndividualId, Estimate], Noise | None]


class Scores:
    """The values of the metric that one shard gave, and what they say of each individual."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._count: Counter[str] = Counter()
        self._values: dict[str, dict[IndividualId, list[float]]] = defaultdict(dict)
        self._ranks: dict[frozenset[IndividualId], Ranks] = {}

    def add(self, key: str, individual: IndividualId, value: float) -> None:
        """Take one more value into account, finite and scored under this comparability key."""
        self._count[key] += 1
        self._values[key].setdefault(individual, []).append(value)
        self._ranks.clear()

    @property
    def usual_key(self) -> str:
        """The key of most values, the earliest among equals; empty where there is none."""
        return max(self._count, key=self._count.__getitem__, default="")

    def of(self, key: str) -> Mapping[IndividualId, list[float]]:
        """Return the values under a key, by individual."""
        return self._values.get(key, {})

    def ranked(self, doubted: Set[IndividualId] = frozenset()) -> Ranks:
        """Return shrunken means as fitnesses, and the noise; of the values under the usual key.

        The noise is None while too few genomes were repeated.

        Args:
            doubted: whose values are not believed: they say nothing of where the others lie.
        """
        key = frozenset(doubted)
        if key not in self._ranks:
            self._ranks = {key: self._rank(key)}
        return self._ranks[key]

    def _rank(self, doubted: Set[IndividualId]) -> Ranks:
        values = self.of(self.usual_key)
        noise = estimate_noise(values)
        sigmas = [noise.of(one) for one in values] if noise else None
        means = [self._direction.fitness(fmean(own)) for own in values.values()]
        counts = [len(own) for own in values.values()]
        believed = [one not in doubted for one in values]
        found = estimates(means, counts, sigmas, believed)
        return dict(zip(values, found, strict=True)), noise
