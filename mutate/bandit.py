"""A bandit over operators and over language models: shares that move with what children are worth.

Every child costs the same training, so what is counted is wins for each proposal; what a model asks
for its answers is weighed by whoever gives it its weight, and bounded by the purse.

Source: probability matching for adaptive operators, Thierens, GECCO 2005, section 2; here with
unequal prior shares and a bound on how far credit moves them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist

from population.history import History, Standing, Tally

PRIOR_WINS, PRIOR_LOSSES = 2.0, 6.0
"""What each is believed to be worth before it has bred: a quarter of its proposals."""
REFUSED_LOSS = 0.25
"""A refused proposal has cost money or time, though no device."""
USUAL = PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES)
MOST_CREDIT = 3.0
"""How far credit moves a share from its prior, up or down."""


def credited(priors: Sequence[float], worths: Sequence[float]) -> list[float]:
    """Return shares in proportion to prior and worth, none moved by more than `MOST_CREDIT`.

    The bounds leave a sum that grows with the factor common to all, from below 1 to above it.
    """

    def bounded(factor: float) -> list[float]:
        moves = [min(max(factor * own, 1 / MOST_CREDIT), MOST_CREDIT) for own in worths]
        return [prior * move for prior, move in zip(priors, moves, strict=True)]

    low, high = 1 / (MOST_CREDIT * max(worths)), MOST_CREDIT / min(worths)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(bounded(middle)) < 1 else (low, middle)
    return bounded(high)


def credits(
    history: History, of: Callable[[Standing], str], tallies: Mapping[str, Tally]
) -> dict[str, float]:
    """Return for each that has bred the share of its proposals that won, shrunken.

    A child wins by the probability that it is better than its first parent by more than the noise
    of one score; while the noise is unknown, if it scored better at all.

    Args:
        history: of the run.
        of: tells whose child somebody is; empty: nobody's.
        tallies: of each, its refused proposals included.
    """
    won: dict[str, float] = defaultdict(float)
    lost: dict[str, float] = defaultdict(float)
    for standing in history.standings.values():
        name, chance = of(standing), _win(standing, history)
        if name and chance is not None:
            won[name] += chance
            lost[name] += 1 - chance
    for name, tally in tallies.items():
        lost[name] += REFUSED_LOSS * tally.refused
    known = PRIOR_WINS + PRIOR_LOSSES
    return {
        name: (PRIOR_WINS + won[name]) / (known + won[name] + lost[name]) for name in {*won, *lost}
    }


def operator_of(standing: Standing) -> str:
    """Return the operator that made it."""
    return standing.individual.operator


def model_of(standing: Standing) -> str:
    """Return the language model that wrote it, empty where none did."""
    return standing.model


def _win(standing: Standing, history: History) -> float | None:
    parents = standing.individual.parents
    parent = history.standings.get(parents[0]) if parents else None
    if parent is None or parent.fitness is None or parent.held or standing.in_flight:
        return None
    if standing.fitness is None or standing.held:
        return 0.0 if standing.held or standing.stopped or broke(standing) else None
    gain = standing.fitness - parent.fitness - history.sigma
    error = math.hypot(standing.standard_error, parent.standard_error)
    if not 0 < error < math.inf:
        return float(gain > 0)
    return NormalDist().cdf(gain / error)


def broke(standing: Standing) -> bool:
    """Whether a program earned no score, by its own fault and not by hand."""
    failed = standing.fitness is None and not standing.in_flight and standing.failures > 0
    return failed and not was_killed(standing)


def was_killed(standing: Standing) -> bool:
    """Whether somebody ended its latest training by hand, so that nothing is known of it."""
    failure = standing.report.failure if standing.report else None
    return failure is not None and failure.by_hand
