"""Scores that are too good to be taken at once: what is held back, and what lets it go.

A gain of many sigmas in one step is a discovery or a fault of the measurement. So who jumps
further than a stated bound over its fittest parent neither breeds nor leads until child and parent
were trained again on fresh seeds and scored on the confirmation shard, and at least half of the
gain is there, too. Every reading of that shard is counted.
"""

from collections.abc import Iterator, Mapping
from statistics import fmean

from population.history import Standing
from population.individual import Individual, IndividualId, Request
from population.jobs import RANKING
from population.ports import Cleared, Quarantined
from population.state import Readings, State
from population.statistics import EXACT

CONFIRMED_SHARE = 0.5
"""Share of the gain that the confirmation shard must see."""
MOST_TRIES = 3
"""Trainings for the confirmation shard, failed ones included, before it is given up."""


def jumps(state: State, ended: Request, knew: bool, sigmas: float | None) -> Iterator[Quarantined]:
    """Yield whose first score is a jump, or has become one by what is known now.

    Each is to be recorded before the next is asked for: who is held vouches for no child.

    Args:
        state: of the run.
        ended: the latest evaluation.
        knew: whether the noise was known before it.
        sigmas: how many make a jump; None: none is one.
    """
    if sigmas is None or ended.purpose not in RANKING:
        return
    weighed: tuple[IndividualId, ...] = ()
    if not knew and state.noise() is not None:
        weighed = tuple(state.individuals)
    elif len(state.ranking_values(ended.individual)) == 1:
        weighed = (ended.individual, *_blind_children(state, ended.individual))
    for one in weighed:
        held = held_back(state, one, sigmas)
        if held is not None:
            yield held


def _blind_children(state: State, individual: IndividualId) -> Iterator[IndividualId]:
    """Yield the children of a founder: they may have been scored before it."""
    if individual in state.founders:
        for one in state.individuals.values():
            if individual in one.parents:
                yield one.id


def held_back(state: State, individual: IndividualId, sigmas: float) -> Quarantined | None:
    """Return the quarantine of an individual whose score is a jump, None where it is none.

    Args:
        state: of the run.
        individual: whose score, or mean of several, is weighed for the first time.
        sigmas: how many make a jump.
    """
    values, sigma = state.ranking_values(individual), state.history().sigma
    known = individual in state.quarantine or individual in state.refused
    known = known or state.confirmations(individual).tries > 0
    if not values or known or sigma <= EXACT * abs(fmean(values)):
        return None
    fitness = state.direction.fitness(fmean(values))
    standings = state.history().standings
    return jump(state.individuals[individual], fitness, standings, sigmas * sigma)


def next_reading(state: State) -> IndividualId | None:
    """Return who is to be trained for the confirmation shard next, None while nobody is."""
    found = (due(held, *_parties(state, held)) for held in state.quarantine.values())
    return next((who for who in found if who is not None), None)


def endings(state: State) -> list[Cleared]:
    """Return the quarantines that can end now."""
    found = [verdict(held, *_parties(state, held)) for held in state.quarantine.values()]
    return [cleared for cleared in found if cleared is not None]


def jump(
    child: Individual,
    fitness: float,
    standings: Mapping[IndividualId, Standing],
    bound: float,
) -> Quarantined | None:
    """Return the quarantine of a child whose score exceeds its fittest parent's by `bound`.

    In place of a parent that is held itself stand its own parents.

    Args:
        child: whose score is weighed.
        fitness: of that score, larger is better.
        standings: of all individuals.
        bound: in units of the metric, above 0.
    """
    known = [
        (parent_fitness, parent)
        for parent in _believed(child, standings)
        if (parent_fitness := standings[parent].fitness) is not None
    ]
    if not known:
        return None
    best, parent = max(known)
    gain = fitness - best
    return Quarantined(child.id, parent, gain, bound) if gain > bound else None


def _believed(
    child: Individual, standings: Mapping[IndividualId, Standing]
) -> Iterator[IndividualId]:
    waiting = dict.fromkeys(child.parents)
    while waiting:
        one = next(iter(waiting))
        del waiting[one]
        if standings[one].held:
            waiting |= dict.fromkeys(standings[one].individual.parents)
        else:
            yield one


def due(held: Quarantined, child: Readings, parent: Readings) -> IndividualId | None:
    """Return which of the two is to be trained for the confirmation shard, None: neither now."""
    for who, readings in ((held.parent, parent), (held.individual, child)):
        waiting = not readings.values and not readings.running
        if waiting and readings.tries < MOST_TRIES:
            return who
    return None


def verdict(held: Quarantined, child: Readings, parent: Readings) -> Cleared | None:
    """Return how a quarantine ends, None while it goes on.

    A program of which the confirmation shard learns nothing in `MOST_TRIES` trainings is refused.
    """
    if child.values and parent.values:
        gain = fmean(child.values) - fmean(parent.values)
        return Cleared(held.individual, gain >= CONFIRMED_SHARE * held.gain, gain)
    if any(_given_up(readings) for readings in (child, parent)):
        return Cleared(held.individual, False, None)
    return None


def _parties(state: State, held: Quarantined) -> tuple[Readings, Readings]:
    return state.confirmations(held.individual), state.confirmations(held.parent)


def _given_up(readings: Readings) -> bool:
    return not readings.values and not readings.running and readings.tries >= MOST_TRIES
