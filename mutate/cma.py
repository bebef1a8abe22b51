"""Constants by CMA-ES, as a control: the strategy's state is a function of who was bred by it.

Source: Hansen, The CMA Evolution Strategy: A Tutorial (2016), through the package cmaes; first step
size of a sixth of each range as in Optuna's CmaEsSampler.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mutate.cube import shares
from mutate.genome import Constant
from mutate.told import Point, Told

STEP = 1 / 6
PATIENCE = 20


def cma_es(
    declared: Sequence[Constant],
    parent: Point,
    told: Sequence[Told],
    own: str,
    rng: np.random.Generator,
) -> Iterator[Point]:
    """Yield draws from the strategy's present distribution; a choice is its place in the list.

    The strategy starts at the parent. It is told its own offspring in order of birth, a whole
    population at a time; those of a population that still trains do not count yet.

    Args:
        declared: constants.
        parent: their values in the founder that is varied.
        told: of all that was bred.
        own: the operator's name.
        rng: of this proposal.
    """
    from cmaes import CMA  # it imports the whole of scipy, which few searches need

    start = shares(declared, parent)
    width = max(len(declared), 2)  # one dimension has no covariance
    strategy = CMA(
        mean=np.resize(start, width),
        sigma=STEP,
        bounds=np.tile([0.0, 1.0], (width, 1)),
        seed=int(rng.integers(2**31)),
    )
    size = strategy.population_size
    bred = [one for one in told if one.operator == own and not one.void]
    for first in range(0, len(bred) - size + 1, size):
        population = bred[first : first + size]
        if any(one.value is None for one in population):
            break
        strategy.tell(
            [
                (np.resize(shares(declared, one.point), width), -one.value)
                for one in population
                if one.value is not None
            ]
        )
    for _ in range(PATIENCE):
        drawn = strategy.ask()
        yield {c.name: c.range.at(float(u)) for c, u in zip(declared, drawn, strict=False)}
