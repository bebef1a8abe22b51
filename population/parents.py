"""Parent selection: who breeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np

from population.history import History, Standing
from population.individual import IndividualId

TOURNAMENT = 3
FRESH = 16
"""So many later ones may be scored before a best program no longer counts as new."""
OTHERS = 0.1
"""Share of proposals from others while the best is new: where all of its children exist, no other
would ever be born."""


class Mode(StrEnum):
    """Who breeds. All but the population are for controls."""

    EVOLVE = "evolve"
    """A population: the survivors, and the best of all as soon as it is known."""
    GREEDY = "greedy"
    """A chain: the best one alone, as in autoresearch."""
    BEST_OF = "best-of"
    """Independent samples: the best founder alone, and nothing is known of what came of it."""
    FOUNDER = "founder"
    """The best founder alone, and all is known: for operators that model all results."""


def seen_by(
    mode: Mode, history: History, founders: Sequence[IndividualId], strict: bool = False
) -> History:
    """Return what operators may know and whom they may vary.

    Args:
        mode: of the search.
        history: of the run.
        founders: ids.
        strict: whoever is born breeds when it has survived, and not before.

    Returns:
        The history with those who breed as its survivors, best first; empty where nobody has a
        score yet. Independent samples know the founders alone, no notes and no earlier run.
    """
    among = founders if mode in (Mode.BEST_OF, Mode.FOUNDER) else list(history.standings)
    known = {one: history.standings[one] for one in among}
    best = fittest(known.values())
    survivors = (best.individual.id,) if best else ()
    if mode is Mode.EVOLVE:
        if strict or not history.survivors:
            return history
        others = tuple(one for one in history.survivors if one not in survivors)
        return replace(history, survivors=survivors + others)
    if mode is Mode.BEST_OF:
        return replace(
            history,
            survivors=survivors,
            standings=known,
            notes="",
            tallies={},
            models={},
            earlier=(),
        )
    return replace(history, survivors=survivors)


def some_in_turn(history: History, turn: int, count: int) -> tuple[IndividualId, ...]:
    """Return `count` of those that rank, at least two where there are, others at each turn."""
    ranked = [one for one, standing in history.standings.items() if standing.ranks]
    first = turn % max(len(ranked), 1)
    return tuple((ranked[first:] + ranked[:first])[: max(count, 2)])


def choose_parents(
    standings: Mapping[IndividualId, Standing],
    survivors: Sequence[IndividualId],
    arity: int,
    rng: np.random.Generator,
) -> tuple[IndividualId, ...]:
    """Choose distinct parents: the best as long as it is new, else by tournaments of three.

    A chain climbs faster than a population and stalls sooner. So while the search climbs it is a
    chain from the best, but for a tenth; when nothing better has come for a while, all survivors
    breed.

    From the second parent on, whoever the first has the fewest children with: what a partner can
    give does not depend on its rank. One of a structure that is not yet among the chosen is
    preferred, the fittest of each: two programs that differ in constants alone have little to
    exchange.

    While nobody has a score, all are alike.

    Args:
        standings: of all individuals, by id.
        survivors: the ids that may breed.
        arity: how many parents the variation wants.
        rng: the proposal's own stream.

    Returns:
        Ids of `arity` parents.

    Raises:
        ValueError: fewer survivors than parents.

    Source: tournament selection, Goldberg and Deb, Foundations of Genetic Algorithms 1 (1991).
    """
    if len(survivors) < arity:
        raise ValueError(f"expected at least {arity} survivors to breed from, got {len(survivors)}")
    if not any(standings[one].ranks for one in survivors):
        drawn = rng.choice(len(survivors), arity, replace=False)
        return tuple(survivors[i] for i in drawn)
    chosen: list[IndividualId] = []
    best = max(survivors, key=lambda one: fitness_order(standings[one]))
    if settled_since(standings[best], standings) < FRESH and rng.random() >= OTHERS:
        chosen.append(best)
    if not chosen:
        chosen.append(_tournament(standings, survivors, rng))
    while len(chosen) < arity:
        chosen.append(_partner(standings, survivors, chosen, rng))
    return tuple(chosen)


def _partner(
    standings: Mapping[IndividualId, Standing],
    survivors: Sequence[IndividualId],
    chosen: Sequence[IndividualId],
    rng: np.random.Generator,
) -> IndividualId:
    """Return one that the first of the chosen has had the fewest children with."""
    free = [one for one in survivors if one not in chosen]
    known = {standings[one].individual.structure for one in chosen}
    fittest_of = {}
    for one in sorted(free, key=lambda one: fitness_order(standings[one])):
        fittest_of[standings[one].individual.structure] = one
    others = [one for structure, one in fittest_of.items() if structure not in known] or free
    families = [set(standing.individual.parents) for standing in standings.values()]
    children = {one: sum({chosen[0], one} <= family for family in families) for one in others}
    least = [one for one in others if children[one] == min(children.values())]
    return least[int(rng.integers(len(least)))]


def settled_since(one: Standing, standings: Mapping[IndividualId, Standing]) -> int:
    """Return how many that were born when its score was known have earned one, or come to nothing.

    With many slots, those that were in training when it came say nothing of what it can give.
    """
    first = max(one.individual.id + 1, one.known_to)
    later = (s for s in standings.values() if s.individual.id >= first)
    return sum(s.fitness is not None or s.failures > 0 or s.stopped for s in later)


def _tournament(
    standings: Mapping[IndividualId, Standing],
    entrants: Sequence[IndividualId],
    rng: np.random.Generator,
) -> IndividualId:
    size = min(TOURNAMENT, len(entrants))
    drawn = [entrants[i] for i in rng.choice(len(entrants), size=size, replace=False)]
    fittest: IndividualId = max(drawn, key=lambda one: fitness_order(standings[one]))
    return fittest


def fittest(standings: Iterable[Standing]) -> Standing | None:
    """Return who leads of those that rank, the eldest among equals; None where nobody ranks."""
    return max((s for s in standings if s.ranks), key=fitness_order, default=None)


def fitness_order(standing: Standing) -> tuple[float, int]:
    """Return a sort key: fitter is larger, the unscored come last, the elder wins a tie."""
    fitness = float("-inf") if standing.fitness is None else standing.fitness
    return fitness, -standing.individual.id
