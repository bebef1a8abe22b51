"""The seams between the search and the world, each with its contract."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

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
    """One try inside a proposal: an LLM call, a sampled point. Costs are in USD, times in s."""

    what: str
    outcome: str
    duration_s: float = 0.0
    cost_usd: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    prompt: str = ""
    answer: str = ""


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


@dataclass(frozen=True, slots=True)
class Standing:
    """How one individual stands when parents or survivors are selected.

    Attributes:
        fitness: shrunken mean, larger is better; None while nothing of it is scored.
        standard_error: of that mean, in units of the metric.
        evaluations: scored evaluations that count. failures: failed ones.
        in_flight: evaluations that run now.
        held: in quarantine, or refused by it: it neither breeds nor leads.
    """

    individual: Individual
    fitness: float | None
    standard_error: float
    evaluations: int
    failures: int
    in_flight: int
    held: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """All that is known when a proposal is made. Operators read it and change nothing.

    Attributes:
        standings: every individual of the run, by id, founders first.
        survivors: ids of the present survivor set, best first.
        fingerprints: normalised syntax trees that exist already, as digests, with their owner.
        sigma: standard deviation of one evaluation, in units of the metric.
    """

    standings: dict[IndividualId, Standing]
    survivors: tuple[IndividualId, ...]
    fingerprints: dict[str, IndividualId]
    sigma: float


class Variation(Protocol):
    """A mutation (arity 1) or crossover (arity 2 or more)."""

    name: str
    arity: int

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return one checked proposal made from `parents` (as many as `arity`).

        Called from several threads at once; keeps no state of its own, so that a proposal is a
        function of its arguments. A proposal that fails a check is returned with `refusal`, not
        raised; an exception means that the operator is broken.
        """
        ...


class Evaluation(Protocol):
    """Trains and scores candidates, several at a time."""

    @property
    def slots(self) -> int:
        """How many evaluations run at once now; changes when nodes come and go."""
        ...

    def submit(self, request: Request) -> None:
        """Start an evaluation; returns at once. Each request id is submitted once."""
        ...

    def wait(self, timeout_s: float) -> list[Result]:
        """Return the evaluations that have ended, waiting at most `timeout_s` for the first.

        Every submitted request comes back exactly once; a lost worker comes back as `Failed` with
        stage `infrastructure`. Raises PoolError when nothing can run any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal that became an individual (`individual`) or was refused (None)."""

    id: ProposalId
    proposal: Proposal
    individual: Individual | None


@dataclass(frozen=True, slots=True)
class Founded:
    """A founder, before anything is scored, or an individual that the user injected."""

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


Record = Founded | Proposed | Started | Ended | Abandoned | Selected | Quarantined | Cleared


class Lineage(Protocol):
    """The memory of a run. The search's state is a function of its records, in order."""

    def record(self, record: Record) -> None:
        """Store one finished thing durably in one commit. Raises LineageError."""
        ...

    def replay(self) -> Iterator[Record]:
        """Yield every record of the run so far, in the order in which they were made."""
        ...
