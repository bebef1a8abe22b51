"""What a record means to a person, in one line."""

from population.contention import BUSY_SHARE, BUSY_WINDOW
from population.individual import Failed, Individual, Purpose, Request, Result, Scored
from population.ports import (
    INJECT,
    Abandoned,
    Cleared,
    Ended,
    Founded,
    Proposed,
    Quarantined,
    Record,
    Selected,
)
from population.state import State


def describe(record: Record, state: State, request: Request | None) -> str | None:
    """Return one line about a record, None where it is not worth one.

    Args:
        record: the latest.
        state: holds it already.
        request: of the evaluation that ended, for an `Ended` record.
    """
    match record:
        case Founded(individual):
            return f"founder #{individual.id} {individual.name}"
        case Proposed(_, proposal, None):
            return f"refused a proposal of {proposal.operator}: {proposal.refusal}"
        case Proposed(_, _, Individual(operator=operator) as individual) if operator == INJECT:
            why = "; ".join(change.hypothesis for change in individual.changes)
            return f"{title(individual)} was put in: {why}"
        case Ended(result) if request is not None:
            return _ended(result, request, state)
        case Abandoned(evaluation):
            return f"evaluation {evaluation} was cut off by the last stop; it is asked for again"
        case Selected(generation, _, members) if members:
            return f"generation {generation}: {len(members)} survivors, best #{members[0][0]}"
        case Quarantined(individual, parent, gain, bound):
            return (
                f"#{individual} is better than #{parent} by {gain:.4f}, more than {bound:.4f}: "
                "held back until the confirmation shard agrees"
            )
        case Cleared(individual, agrees, gain):
            seen = "no score" if gain is None else f"a gain of {gain:.4f}"
            return (
                f"the confirmation shard saw {seen}: #{individual} is "
                f"{'confirmed' if agrees else 'refused'}"
            )
    return None


def busy_line(is_busy: bool) -> str:
    """Return that the guard against disturbed scores has been lowered, or raised again."""
    if is_busy:
        return (
            f"machine busy: others disturbed {BUSY_SHARE:.0%} of the latest {BUSY_WINDOW} "
            "trainings: disturbed scores are taken as they are from now on, not made again"
        )
    return "machine quieter: what others disturb is made again from now on"


EXACT_LINE = (
    "scores that were made again came out the same to the last digit: none depends on who else "
    "uses the machine, so no more are made again"
)


def title(individual: Individual) -> str:
    """Return `#7 constants of #3`, `#1 transformer` or `#9 inject`."""
    parents = ", ".join(f"#{parent}" for parent in individual.parents)
    origin = (
        f"{individual.operator} of {parents}" if parents else individual.name or individual.operator
    )
    return f"#{individual.id} {origin}"


def _ended(result: Result, request: Request, state: State) -> str:
    individual = state.individuals[request.individual]
    busy = ", but the machine was busy" if result.contended else ""
    match result.outcome:
        case Scored(value) if request.purpose is Purpose.RUNG:
            return f"{title(individual)}: {value:.4f} at the rung{_fate(individual, state)}{busy}"
        case Scored(value):
            return f"{title(individual)}: {value:.4f}{_gain(value, individual, state)}{busy}"
        case Failed(stage, reason, detail):
            where = " at the rung" if request.purpose is Purpose.RUNG else ""
            return f"{title(individual)}: failed in {stage}{where}{busy}, {reason}: {detail}"


def _fate(individual: Individual, state: State) -> str:
    if individual.id in state.rungs.stopped:
        return ", others did better: stopped"
    return ", goes on" if individual.id in state.rungs.passed else ""


def _gain(value: float, individual: Individual, state: State) -> str:
    """Return how a value compares with the parent's mean, signed so that + is better."""
    if not individual.parents:
        return ""
    parent = state.history().standings[individual.parents[0]].fitness
    if parent is None:
        return ""
    return f" ({state.direction.fitness(value) - parent:+.4f} on its parent)"
