"""What people outside ask of a search while it goes on, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from population.individual import IndividualId, Purpose
from population.ports import Evaluation, Pinned
from population.state import State


@dataclass(frozen=True, slots=True)
class Kill:
    """The wish to end what of an individual is in flight.

    Raises:
        ValueError: it names no id.
    """

    individual: IndividualId

    def __post_init__(self) -> None:
        _require_id(self.individual)


@dataclass(frozen=True, slots=True)
class Pin:
    """The wish to keep an individual among the survivors or, where not `pinned`, no longer.

    Raises:
        ValueError: it names no id, or `pinned` is not a truth value.
    """

    individual: IndividualId
    pinned: bool = True

    def __post_init__(self) -> None:
        _require_id(self.individual)
        if type(self.pinned) is not bool:
            raise ValueError(f"pinned must be true or false; got {self.pinned!r}")


def _require_id(individual: object) -> None:
    if type(individual) is not int or individual < 1:
        raise ValueError(f"an individual's id is a whole number from 1; got {individual!r}")


Order = Kill | Pin


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a wish: whether it is fulfilled, and how things stand, in a sentence."""

    done: bool
    says: str


class Steering(Protocol):
    """What waits outside to be done to a search. Used from the thread that owns the lineage.

    Nothing here raises for what lies outside. A pin is carried out at least once: whoever is killed
    between recording it and `reply` is given it again. A kill is carried out at most once.
    """

    @property
    def paused(self) -> bool:
        """Whether nothing new is to begin now."""
        ...

    def order(self) -> Order | None:
        """Return the longest waiting order, None while none waits; returns at once."""
        ...

    def reply(self, order: Order, reply: Reply) -> None:
        """Forget the order that was given last, and pass on what came of it."""
        ...


def carry_out(
    order: Order, state: State, evaluation: Evaluation, record: Callable[[Pinned], None]
) -> Reply:
    """Do what an order asks for, and return what came of it.

    Args:
        order: to carry out.
        state: of the run.
        evaluation: whose evaluations a kill ends; they come back from it as any others do.
        record: stores a record and folds it into the state.
    """
    who = order.individual
    if who not in state.individuals:
        return Reply(
            False, f"individual {who} does not exist; ids go from 1 to {state.next_individual - 1}"
        )
    if isinstance(order, Kill):
        return _kill(who, state, evaluation)
    if (who in state.pinned) == order.pinned:
        return Reply(True, f"#{who} is {'pinned already' if order.pinned else 'not pinned'}")
    record(Pinned(who, order.pinned))
    kept = "pinned: it stays among the survivors as soon as it has a score that is believed"
    return Reply(True, f"#{who} is {kept if order.pinned else 'pinned no longer'}")


def _kill(who: IndividualId, state: State, evaluation: Evaluation) -> Reply:
    flying = {own: one for own, one in state.jobs.in_flight.items() if one.individual == who}
    requests = [own for own, one in flying.items() if one.purpose is not Purpose.CONFIRM]
    if flying and not requests:
        confirmed = "is being confirmed, on whose outcome another one may wait: let it end"
        return Reply(False, f"#{who} {confirmed}")
    if not requests:
        return Reply(False, f"nothing of #{who} is in flight")
    evaluation.kill(*requests)
    ended = "evaluation" if len(requests) == 1 else f"{len(requests)} evaluations"
    return Reply(True, f"#{who} is killed: its {ended} in flight failed and will not be made again")
