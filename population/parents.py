"""Parent selection: who breeds."""

from collections.abc import Mapping, Sequence

import numpy as np

from population.individual import IndividualId
from population.ports import Standing

TOURNAMENT = 3


def choose_parents(
    standings: Mapping[IndividualId, Standing],
    survivors: Sequence[IndividualId],
    arity: int,
    rng: np.random.Generator,
) -> tuple[IndividualId, ...]:
    """Choose distinct parents by tournaments of three among the survivors.

    From the second parent on, one of a structure that is not yet among the chosen is preferred:
    two programs that differ in constants alone have little to exchange.

    Args:
        standings: of all individuals, by id.
        survivors: the ids that may breed.
        arity: how many parents the variation wants.
        rng: the proposal's own stream.

    Returns:
        Ids of `arity` parents, the first one the fittest of its tournament.

    Raises:
        ValueError: fewer survivors than parents.

    Source: tournament selection, Goldberg and Deb, Foundations of Genetic Algorithms 1 (1991).
    """
    if len(survivors) < arity:
        raise ValueError(f"expected at least {arity} survivors to breed from, got {len(survivors)}")
    chosen: list[IndividualId] = []
    for _ in range(arity):
        structures = {standings[one].individual.structure for one in chosen}
        free = [one for one in survivors if one not in chosen]
        other = [one for one in free if standings[one].individual.structure not in structures]
        chosen.append(_tournament(standings, other or free, rng))
    return tuple(chosen)


def _tournament(
    standings: Mapping[IndividualId, Standing],
    entrants: Sequence[IndividualId],
    rng: np.random.Generator,
) -> IndividualId:
    size = min(TOURNAMENT, len(entrants))
    drawn = [entrants[i] for i in rng.choice(len(entrants), size=size, replace=False)]
    fittest: IndividualId = max(drawn, key=lambda one: fitness_order(standings[one]))
    return fittest


def fitness_order(standing: Standing) -> tuple[float, int]:
    """Return a sort key: fitter is larger, the unscored come last, the elder wins a tie."""
    fitness = float("-inf") if standing.fitness is None else standing.fitness
    return fitness, -standing.individual.id
