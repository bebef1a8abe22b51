"""Evaluations as they are asked for: for whom, why, on which shard and under which seed."""

import numpy as np

from population.individual import IndividualId, Pace, Purpose, Request
from population.limits import SearchConfig
from population.ports import INJECT
from population.quarantine import next_reading
from population.state import State

CONFIRMATION_STREAM = 0xC0F1
"""Keeps the seeds of confirmations apart from those of the search."""


def training_seed(*entropy: int) -> int:
    """Return a seed in 0..2**31 - 1 that is a function of whole numbers of 0 or more."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) & 0x7FFFFFFF


def selection_request(
    config: SearchConfig, state: State, who: IndividualId, shard: str, purpose: Purpose
) -> Request:
    """Return the next training on the selection shard: each has a seed of its own."""
    return Request(
        id=state.next_evaluation,
        individual=who,
        genome=state.individuals[who].genome,
        seed=training_seed(config.seed, who, state.evaluations_of(who)),
        shard=shard,
        purpose=purpose,
        pace=pace_of_parents(state, who) if purpose is Purpose.SCREEN else None,
    )


def first_purpose(config: SearchConfig, state: State, who: IndividualId) -> Purpose:
    """Return why a newcomer is trained next: to be scored, or to see whether it is worth that."""
    bred = state.individuals[who].parents and state.individuals[who].operator != INJECT
    if config.rung is None or not bred or who in state.rungs.passed:
        return Purpose.SCREEN
    return Purpose.RUNG


def pace_of_parents(state: State, who: IndividualId) -> Pace | None:
    """Return the pace that an individual must not fall far behind, None where there is none.

    It is the slowest of its parents, as far as they are scored and on one kind of device. Founders
    have none, and whoever was put in from outside owes nothing to the parent that it names.
    """
    individual = state.individuals[who]
    paces = [state.paces[parent] for parent in individual.parents if parent in state.paces]
    if individual.operator == INJECT or len({pace.comparability for pace in paces}) != 1:
        return None
    return Pace(
        steps=min(pace.steps for pace in paces),
        tokens=min(pace.tokens for pace in paces),
        comparability=paces[0].comparability,
    )


def confirmation_request(config: SearchConfig, state: State, shard: str) -> Request | None:
    """Return the next training that a quarantine waits for, None where none does."""
    who = next_reading(state)
    if who is None:
        return None
    return Request(
        id=state.next_evaluation,
        individual=who,
        genome=state.individuals[who].genome,
        seed=training_seed(config.seed, CONFIRMATION_STREAM, who, state.confirmations(who).tries),
        shard=shard,
        purpose=Purpose.CONFIRM,
    )
