"""Newcomers: structures whose constants are tried before they are judged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from population.history import History, Standing
from population.individual import IndividualId
from population.parents import fitness_order, fittest, settled_since

TRIALS = 8
"""Programs that a newcomer's constants are tried with, at most."""
STALLED = 12
"""So many programs after the best one have been scored in vain before newcomers get trials."""
REACH = 0.2
"""Share of the steps between structures that have lost no more than what is within reach."""
LEAST_STEPS = 5
"""Steps between structures from which that share is known."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure that was born in this run.

    Attributes:
        best: its fittest program. size: how many programs have it, the unscored included.
    """

    best: Standing
    size: int


def has_stalled(history: History) -> bool:
    """Tell whether nothing better than the best program has come for a while."""
    best = fittest(history.standings.values())
    return best is not None and settled_since(best, history.standings) >= STALLED


def owed_trials(history: History) -> IndividualId | None:
    """Return the program whose constants are to be tried next; None where nobody is owed a trial.

    A structure is born with constants that were tuned for its parent's, so that its first score
    tells little of what it is worth. As long as the search climbs, better ones come anyway. Where
    it has stalled, what is better is hidden by constants that do not fit. Then the latest newcomer
    within reach gets its trials, each from the best program that it has, and the next one after
    it. Most newcomers are worse for good: only those within reach, as little below the best as
    the best fifth of all steps between structures have come out, are worth a trial.

    Args:
        history: of the run.

    Returns:
        An id, never of the best program's structure, a founder's or one without constants.
    """
    standings, best = history.standings, fittest(history.standings.values())
    if best is None or not has_stalled(history):
        return None
    losses = list(_losses(standings))
    if len(losses) < LEAST_STEPS:
        return None
    reach = max(0.0, float(np.quantile(losses, REACH)))
    for name, own in reversed(_newcomers(standings).items()):
        within = _fitness(best) - _fitness(own.best) <= reach
        if within and own.size <= TRIALS and name != best.individual.structure:
            return own.best.individual.id
    return None


def _losses(standings: Mapping[IndividualId, Standing]) -> Iterator[float]:
    """Yield what each step to another structure has lost against the first parent."""
    for standing in (s for s in standings.values() if s.ranks):
        parents = standing.individual.parents
        parent = standings.get(parents[0]) if parents else None
        if parent is None or not parent.ranks:
            continue
        if parent.individual.structure != standing.individual.structure:
            yield _fitness(parent) - _fitness(standing)


def _newcomers(standings: Mapping[IndividualId, Standing]) -> dict[str, Structure]:
    """Return what was born in this run and has a score and constants, in order of birth."""
    groups: dict[str, list[Standing]] = {}
    for standing in standings.values():
        groups.setdefault(standing.individual.structure, []).append(standing)
    found: dict[str, Structure] = {}
    for name, own in groups.items():
        first, best = own[0].individual, fittest(own)
        if best is not None and first.parents and first.constants:
            found[name] = Structure(best, len(own))
    return found


def _fitness(standing: Standing) -> float:
    return fitness_order(standing)[0]
