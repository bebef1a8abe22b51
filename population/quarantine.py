"""Scores that are too good to be taken at once: what is held back, and what lets it go.

A gain of many sigmas in one step is a discovery or a fault of the measurement. So who jumps
further than a stated bound over its fittest parent neither breeds nor leads until child and parent
were trained again on fresh seeds and scored on the confirmation shard, and at least half of the
gain is there, too. Every reading of that shard is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from population.individual import Individual, IndividualId
from population.ports import Cleared, Quarantined, Standing

CONFIRMED_SHARE = 0.5
"""Share of the gain that the confirmation shard must see."""
MOST_TRIES = 3
"""Trainings for the confirmation shard, failed ones included, before it is given up."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What the confirmation shard has said of one individual, as fitnesses.

    Attributes:
        tries: trainings asked for, failed and running ones included.
        running: some of them are not settled.
    """

    values: tuple[float, ...] = ()
    tries: int = 0
    running: bool = False


def jump(
    child: Individual,
    fitness: float,
    standings: Mapping[IndividualId, Standing],
    bound: float,
) -> Quarantined | None:
    """Return the quarantine of a child whose first score exceeds its fittest parent's by `bound`.

    Args:
        child: scored for the first time.
        fitness: of that score, larger is better.
        standings: of all individuals.
        bound: in units of the metric, above 0.
    """
    known = [
        (parent_fitness, parent)
        for parent in child.parents
        if (parent_fitness := standings[parent].fitness) is not None
    ]
    if not known:
        return None
    best, parent = max(known)
    gain = fitness - best
    return Quarantined(child.id, parent, gain, bound) if gain > bound else None


def due(held: Quarantined, child: Readings, parent: Readings) -> IndividualId | None:
    """Return who is to be trained for the confirmation shard next, None while nobody is."""
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


def _given_up(readings: Readings) -> bool:
    return not readings.values and not readings.running and readings.tries >= MOST_TRIES


def first_score(values: Sequence[float]) -> float | None:
    """Return the only value of an individual that has exactly one, else None."""
    return values[0] if len(values) == 1 else None
