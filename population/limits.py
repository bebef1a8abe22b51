"""How a search is set, and how much it may still do: pure functions of settings and state."""

import math
from dataclasses import dataclass

from population.errors import RunError
from population.individual import IndividualId
from population.parents import Mode
from population.state import State

RACING_SHARE = 0.15
MOST_FOUNDINGS = 3
"""So many times its replicates a founder is trained at most."""
MOST_LOST = 50
"""After so many that our side has lost, it is the founder that does it."""


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """How a search runs. None stands for no limit.

    Attributes:
        seed: of all random streams. mode: who breeds. mu: survivors. lambda_: births per
            generation.
        founder_replicates: evaluations of each founder, on distinct seeds.
        racing_share: largest share of all evaluations that goes to contenders, at most 0.2.
        max_evaluations: counted evaluations of purpose screen and race, crashes included;
            reruns of contended trials and infrastructure failures do not count. Whoever is let
            through at a rung is trained in full, too.
        max_generations: survivor selections after that of the founders.
        max_hours: of this call of `Search.run`; evaluations in flight still end.
        sync: a generation's candidates are bred only after the previous survivor selection, and
            proposals are taken in the order in which they were asked for.
        contended_retries, infrastructure_retries: further attempts for one evaluation.
        quarantine_sigmas: a first score that is better than the fittest parent's by more than
            this many sigmas is held back until the confirmation shard agrees; those from before
            the noise was known, when it is; None: never. The evaluations that this takes do not
            count.
        rung: share of the budget that newcomers are trained with first; a quarter of them is let
            through to the whole of it. Such a training counts as that share of an evaluation.
            Founders and programs from outside begin with the whole of it.
    """

    seed: int = 0
    mode: Mode = Mode.EVOLVE
    mu: int = 8
    lambda_: int = 8
    founder_replicates: int = 2
    racing_share: float = RACING_SHARE
    max_evaluations: int | None = None
    max_generations: int | None = None
    max_hours: float | None = None
    sync: bool = False
    contended_retries: int = 2
    infrastructure_retries: int = 2
    quarantine_sigmas: float | None = None
    rung: float | None = None

    def __post_init__(self) -> None:
        least = {"seed": 0, "mu": 1, "lambda_": 1, "founder_replicates": 1}
        least |= {"contended_retries": 0, "infrastructure_retries": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise RunError(f"{name} must be at least {bound}, got {getattr(self, name)}")
        if not 0 <= self.racing_share <= 0.2:
            raise RunError(f"racing_share must lie in 0..0.2, got {self.racing_share}")
        if self.rung is not None and not 0 < self.rung < 1:
            raise RunError(f"rung must lie between 0 and 1, got {self.rung}; leave it out for none")
        for name in ("max_evaluations", "max_generations", "max_hours", "quarantine_sigmas"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise RunError(f"{name} must be above 0, got {limit}; leave it out for no limit")


def evaluations_left(config: SearchConfig, state: State) -> float:
    """Return how many more evaluations may be asked for; reruns are always allowed."""
    if _births_left(config, state) <= 0:
        return 0
    limit = math.inf if config.max_evaluations is None else config.max_evaluations
    return limit - state.counted - state.pending


def founder_due(config: SearchConfig, state: State) -> IndividualId | None:
    """Return the founder that is to be trained next, None where none is.

    Founders are what all else is compared with: where most scores come to be of another machine,
    they are trained there, too. What our side has lost is made up for, within reason.
    """
    count, lost, wanted = state.evaluations_of, state.lost_of, config.founder_replicates
    due = [
        one
        for one in state.founders
        if state.replicates_of(one) < wanted
        and count(one) - lost(one) < MOST_FOUNDINGS * wanted
        and lost(one) < MOST_LOST
    ]
    return min(due, key=lambda one: (count(one), one), default=None)


def places_left(config: SearchConfig, state: State) -> float:
    """Return how many more candidates may be bred now."""
    unborn = len(state.unborn)
    places = min(
        evaluations_left(config, state) - len(state.unscreened),
        _births_left(config, state) - unborn,
    )
    if config.sync:
        generation = config.lambda_ - state.births - unborn
        places = min(places, generation if state.selections else 0)
    return places


def promised(config: SearchConfig, state: State, pending: int) -> int:
    """Return how many places no program from outside may take.

    Founders are owed their replicates. A strict generation keeps the places that the `pending`
    proposals are prepared for: what were left over of those would be bred into the next one.
    """
    due = (config.founder_replicates - max(1, state.evaluations_of(one)) for one in state.founders)
    return sum(max(0, one) for one in due) + config.sync * pending


def may_race(config: SearchConfig, state: State) -> bool:
    """Return whether one more evaluation of a contender stays within the racing share."""
    total = state.counted + state.pending
    return state.raced + 1 <= config.racing_share * (total + 1)


def _births_left(config: SearchConfig, state: State) -> float:
    if config.max_generations is None:
        return math.inf
    generations = config.max_generations - max(state.selections - 1, 0)
    return generations * config.lambda_ - state.births
