"""Survivor selection: who stays, and who of them is evaluated again."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from population.history import Standing
from population.individual import IndividualId
from population.parents import fitness_order, settled_since
from population.statistics import EXACT

LEADER_EVALUATIONS = 3
LEADS_FOR = 6
"""So many later ones are settled before whoever leads is evaluated again."""


def choose_survivors(
    standings: Mapping[IndividualId, Standing], mu: int
) -> tuple[IndividualId, ...]:
    """Choose the fittest by shrunken mean, with room for more than one structure.

    While scored individuals of other structures exist, one structure holds at most half of the
    places, rounded up; places that only it could fill then stay empty.

    Whoever is pinned has one of the places first, whatever its rank and its structure: the fittest
    of them, where more are pinned than there are places. Whom the quarantine holds does not take
    part.

    Args:
        standings: of all individuals, by id.
        mu: places, at least 1.

    Returns:
        Ids, best first; empty only while nothing is scored.
    """
    scored = [s for s in standings.values() if s.ranks]
    scored.sort(key=fitness_order, reverse=True)
    structures = {standing.individual.structure for standing in scored}
    cap = mu if len(structures) < 2 else (mu + 1) // 2
    pinned = [standing for standing in scored if standing.pinned][:mu]
    held = Counter(standing.individual.structure for standing in pinned)
    survivors = {standing.individual.id for standing in pinned}
    for standing in scored:
        own, structure = standing.individual.id, standing.individual.structure
        if len(survivors) < mu and held[structure] < cap and own not in survivors:
            held[structure] += 1
            survivors.add(own)
    return tuple(one.individual.id for one in scored if one.individual.id in survivors)


def choose_contender(
    standings: Mapping[IndividualId, Standing], survivors: Sequence[IndividualId]
) -> IndividualId | None:
    """Choose who earns the next evaluation on a fresh seed.

    Nobody, while the best survivor is that young that a better one may come before it is known, nor
    where scores repeat exactly: who ties then stays tied. The best then comes first until it was
    evaluated three times: the luckiest of many leads, and where it was very lucky, it has no rival
    within noise. Then contenders are the best and those within one standard error of the difference
    from it; of these the least evaluated is chosen, the fitter one where they are even. It
    allocates effort and claims nothing.

    Returns:
        An id, or None where the best is new or exact, or is known and has no rival within noise.

    Source: racing, Maron and Moore, Hoeffding Races, NIPS 6 (1994), without its error bound.
    """
    scored = [standings[one] for one in survivors if standings[one].ranks]
    if not scored:
        return None
    best = max(scored, key=fitness_order)
    if _is_exact(best) or settled_since(best, standings) < LEADS_FOR:
        return None
    if _effort(best) < LEADER_EVALUATIONS:
        return best.individual.id
    contenders = [standing for standing in scored if _within_noise(standing, best)]
    if len(contenders) < 2:
        return None
    return max(contenders, key=lambda one: (-_effort(one), fitness_order(one))).individual.id


def _within_noise(standing: Standing, best: Standing) -> bool:
    if standing.fitness is None or best.fitness is None:
        return False
    error = math.hypot(standing.standard_error, best.standard_error)
    return best.fitness - standing.fitness <= error


def _is_exact(standing: Standing) -> bool:
    return standing.standard_error <= EXACT * abs(standing.fitness or 0.0)


def _effort(standing: Standing) -> int:
    return standing.evaluations + standing.failures + standing.lost + standing.in_flight
