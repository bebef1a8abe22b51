"""The seams between the search and the world, each with its contract."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from population.history import Earlier, History
from population.individual import (
    Change,
    EvaluationId,
    Genome,
    Individual,
    IndividualId,
    ProposalId,
    Request,
    Result,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try inside a proposal: an LLM call, a sampled point.

    Attributes:
        what: the step, such as `edit`, `mend`, `tpe`. outcome: `accepted`, or why not.
        cost_usd: in USD; 0 where the price is unknown.
        tokens_in: all that the model read. tokens_cached: of these, from its cache.
        tokens_written: of these, put into its cache. tokens_out: what it wrote.
        model, effort, stop_reason: of an LLM call, else empty.
        prompt_sha256: of the whole prompt; `prompt` and `answer` are bounded.
    """

    what: str
    outcome: str
    duration_s: float = 0.0
    cost_usd: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_written: int = 0
    model: str = ""
    effort: str = ""
    stop_reason: str = ""
    prompt_sha256: str = ""
    prompt: str = ""
    answer: str = ""


NOTES = "notes"
"""`Attempt.what` of a call that distils what the lineage teaches: where its outcome is `ACCEPTED`,
its answer becomes `History.notes`."""
ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an operator offers. `genome` is None exactly when `refusal` says why there is none.

    Attributes:
        parents: ids in the order in which the operator used them.
        structure, fingerprint, constants: as in `Individual`.
        refusal: empty, or the check that it did not pass, in a sentence.
    """

    operator: str
    parents: tuple[IndividualId, ...]
    genome: Genome | None
    structure: str = ""
    fingerprint: str = ""
    constants: dict[str, bool | int | float | str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    refusal: str = ""
    attempts: tuple[Attempt, ...] = ()

    @property
    def model(self) -> str:
        """The language model that answered last, empty where none did."""
        answered = (one for one in reversed(self.attempts) if one.what != NOTES)
        return next((one.model for one in answered if one.model and one.stop_reason), "")


class Variation(Protocol):
    """A mutation (arity 1) or crossover (arity 2 or more).

    `slow` tells that a proposal takes a second or more, such as an answer from elsewhere: it is
    then made ahead, in a thread, while others serve the free slots. Others are made by the driver,
    for a slot that waits.
    """

    name: str
    arity: int
    slow: bool

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return one checked proposal made from `parents` (as many as `arity`).

        Called from several threads at once if it is slow. Keeps no state of its own, so that a
        proposal is a function of its arguments. One that fails a check is returned with `refusal`,
        not raised; an exception means that the operator is broken.
        """
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A variation, and whom it is to vary: `parents` empty leaves that to parent selection."""

    variation: Variation
    parents: tuple[IndividualId, ...] = ()


class Evaluation(Protocol):
    """Trains and scores candidates, several at a time."""

    @property
    def slots(self) -> int:
        """How many submissions run at once now; changes when nodes come and go."""
        ...

    def submit(self, *requests: Request) -> None:
        """Start evaluations; returns at once. Each request id is submitted once.

        What is submitted together takes one slot and runs one after another, in this order, on one
        device that nobody else gets in between.
        """
        ...

    def wait(self, timeout_s: float) -> list[Result]:
        """Return the evaluations that have ended, waiting at most `timeout_s` for the first.

        Every submitted request comes back exactly once; a lost worker comes back as `Failed` with
        stage `infrastructure`. Raises PoolError when nothing can run any more.
        """
        ...

    def kill(self, *requests: EvaluationId) -> None:
        """End evaluations by hand; returns when they have ended, within seconds.

        Each that `wait` has not returned comes back from it as `Failed` with reason `KILLED` and a
        stage other than `infrastructure`, also where it had just ended; its processes are dead and
        its slot is free. One that is not in flight is passed over. What was submitted together with
        one of them ends with it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal that became an individual (`individual`) or was refused (None)."""

    id: ProposalId
    proposal: Proposal
    individual: Individual | None


@dataclass(frozen=True, slots=True)
class Brought:
    """What earlier runs left: the first record of a run that was born from some."""

    earlier: tuple[Earlier, ...]


@dataclass(frozen=True, slots=True)
class Founded:
    """A founder, before anything is scored."""

    individual: Individual


@dataclass(frozen=True, slots=True)
class Started:
    """An evaluation that was submitted. Without its `Ended` it was in flight at a crash."""

    request: Request


@dataclass(frozen=True, slots=True)
class Ended:
    """An evaluation that came back."""

    result: Result


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An evaluation that was in flight when its driver died; its request is asked for anew."""

    request: EvaluationId


@dataclass(frozen=True, slots=True)
class Selected:
    """The g-th survivor selection: each member's rank, shrunken mean and standard error."""

    generation: int
    sigma: float
    members: tuple[tuple[IndividualId, float, float], ...]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An individual whose first score is better than its fittest parent's by more than `bound`.

    `gain` and `bound` are differences of fitness, in units of the metric.
    """

    individual: IndividualId
    parent: IndividualId
    gain: float
    bound: float


@dataclass(frozen=True, slots=True)
class Cleared:
    """The end of a quarantine: whether the confirmation shard agrees, and the gain that it saw.

    `gain` is None where one of the two programs earned no score there.
    """

    individual: IndividualId
    agrees: bool
    gain: float | None


@dataclass(frozen=True, slots=True)
class Pinned:
    """Somebody wants an individual among the survivors, whatever its rank, or no longer."""

    individual: IndividualId
    pinned: bool


Record = (
    Brought
    | Founded
    | Proposed
    | Started
    | Ended
    | Abandoned
    | Selected
    | Quarantined
    | Cleared
    | Pinned
)


class Lineage(Protocol):
    """The memory of a run. The search's state is a function of its records, in order."""

    def record(self, record: Record) -> None:
        """Store one finished thing durably in one commit. Raises LineageError."""
        ...

    def replay(self) -> Iterator[Record]:
        """Yield every record of the run so far, in the order in which they were made."""
        ...


@dataclass(frozen=True, slots=True)
class Injection:
    """A program that somebody put into the run from outside, and what asked for it.

    Attributes:
        command: names the wish, for whoever fulfils `Injections`.
        proposal: of operator `inject`, checked against the history that was given.
    """

    command: str
    proposal: Proposal


INJECT = "inject"
"""The operator of individuals that came from outside."""


class Injections(Protocol):
    """Programs that wait outside. Used from the thread that owns the lineage.

    A wish is fulfilled at least once: whoever is killed between recording it and `done` is given
    it again, and by then its proposal is refused as the twin of the individual that it became.
    """

    def first(self, history: History) -> Injection | None:
        """Return the longest waiting, checked; None while none waits. Returns at once.

        The same one again until it is `done`. Never raises for what lies outside.
        """
        ...

    def done(self, injection: Injection) -> None:
        """Forget it: it is recorded, as an individual or as a refusal."""
        ...
