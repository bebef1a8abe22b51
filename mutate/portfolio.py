"""Which operator next: fixed doses for now, kept close to by looking at what was bred so far."""

from collections.abc import Sequence

import numpy as np

from population.individual import Individual
from population.ports import History, Variation

CROSSOVER_SHARE = 0.5
"""While several structures survive: combining them is the only structural step without an LLM."""
CROSSOVER_SHARE_WITHIN_STRUCTURE = 0.1


class Portfolio:
    """Chooses between a mutation and a crossover.

    Args:
        mutation, crossover: used in doses that depend on how diverse the survivors are.
    """

    def __init__(self, mutation: Variation, crossover: Variation) -> None:
        self._mutation = mutation
        self._crossover = crossover

    @property
    def operators(self) -> Sequence[Variation]:
        """All operators, for messages."""
        return (self._mutation, self._crossover)

    def choose(self, history: History, rng: np.random.Generator) -> Variation:
        """Return the operator of the next proposal; a function of its arguments.

        Dice alone would leave a short run with two crossovers or ten: an operator that is behind
        its share is drawn with twice the probability, one that is ahead with half of it.
        """
        share = crossover_share(history)
        bred = [s.individual.operator for s in history.standings.values() if s.individual.parents]
        lead = bred.count(self._crossover.name) - share * len(bred)
        chance = share if lead == 0 else share / 2 if lead > 0 else min(0.9, 2 * share)
        return self._crossover if rng.random() < chance else self._mutation


def crossover_share(history: History) -> float:
    """Return how often two parents are combined, given who survives; the scored, before that."""
    breeders = [history.standings[one].individual for one in history.survivors] or [
        s.individual for s in history.standings.values() if s.fitness is not None
    ]
    if len(breeders) < 2:
        return 0.0
    if len({one.structure for one in breeders}) > 1:
        return CROSSOVER_SHARE
    return CROSSOVER_SHARE_WITHIN_STRUCTURE if _differ(breeders) else 0.0


def _differ(breeders: Sequence[Individual]) -> bool:
    return any(one.constants != breeders[0].constants for one in breeders)
