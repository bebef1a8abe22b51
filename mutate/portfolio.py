"""Which operator next: fixed doses for now, small ones of crossover."""

from collections.abc import Sequence

import numpy as np

from mutate.constants import ConstantsMutation
from mutate.recombination import Recombination
from population.ports import History, Variation

CROSSOVER_SHARE = 0.35
"""While several structures survive: combining them is the only structural step without an LLM."""
CROSSOVER_SHARE_WITHIN_STRUCTURE = 0.1


class Portfolio:
    """Chooses between the keyless operators.

    Args:
        mutation, crossover: used in doses that depend on how diverse the survivors are.
    """

    def __init__(self, mutation: ConstantsMutation, crossover: Recombination) -> None:
        self._mutation = mutation
        self._crossover = crossover

    @property
    def operators(self) -> Sequence[Variation]:
        """All operators, for messages."""
        return (self._mutation, self._crossover)

    def choose(self, history: History, rng: np.random.Generator) -> Variation:
        """Return the operator of the next proposal; a function of its arguments."""
        return self._crossover if rng.random() < crossover_share(history) else self._mutation


def crossover_share(history: History) -> float:
    """Return how often two parents are combined, given who survives."""
    survivors = [history.standings[one].individual for one in history.survivors]
    if not survivors:
        scored = [s.individual for s in history.standings.values() if s.fitness is not None]
        survivors = scored
    if len(survivors) < 2:
        return 0.0
    if len({one.structure for one in survivors}) > 1:
        return CROSSOVER_SHARE
    return CROSSOVER_SHARE_WITHIN_STRUCTURE
