"""Records of small runs, for tests of the lineage."""

from collections.abc import Iterator

from population.identity import RunIdentity
from population.individual import (
    Change,
    Comparability,
    EvaluationId,
    Failed,
    Genome,
    Individual,
    IndividualId,
    Measurement,
    Outcome,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.ports import Attempt, Ended, Founded, Proposal, Proposed, Record, Selected, Started
from population.task import Direction

IDENTITY = RunIdentity(
    task="toy",
    artifact="train.py",
    metric="loss",
    direction=Direction.MINIMIZE,
    evaluator_sha256="e" * 64,
    data_sha256="d" * 64,
    program_sha256="p" * 64,
    seed=7,
    created_at=1.5,
    configuration='{"mu": 4}',
)
MACHINE = Comparability("cpu", "", "2.13", 2, "e" * 64, "d" * 64)
OTHER_MACHINE = Comparability("gpu", "580", "2.13", 1, "e" * 64, "d" * 64)
CRASH = Failed(Stage.TRAINING, "crash", "it divides by zero: do not")


def founded(number: int, name: str = "") -> Founded:
    genome = Genome(f"FOUNDER = {number}\n")
    return Founded(Individual(IndividualId(number), genome, name=name))


def bred(number: int, *parents: int, operator: str = "nudge", cost_usd: float = 0.0) -> Proposed:
    """Return the proposal `number` that became the individual `number`."""
    genome = Genome(f"CHILD = {number}\n")
    lineage = tuple(IndividualId(parent) for parent in parents)
    changes = (Change(f"+CHILD = {number}\n", "a larger child", "constant"),)
    attempts = (
        Attempt(
            "call",
            "ok",
            1.0,
            cost_usd,
            10,
            20,
            5,
            3,
            "m",
            "low",
            "end_turn",
            "f" * 64,
            f"breed {number}",
            "done",
        ),
    )
    proposal = Proposal(operator, lineage, genome, changes=changes, attempts=attempts)
    child = Individual(
        id=IndividualId(number),
        genome=genome,
        parents=lineage,
        operator=operator,
        changes=changes,
        proposal=ProposalId(number),
    )
    return Proposed(ProposalId(number), proposal, child)


def refused(number: int, operator: str = "nudge", cost_usd: float = 0.0) -> Proposed:
    attempts = (Attempt("call", "refusal", cost_usd=cost_usd),)
    proposal = Proposal(operator, (), None, refusal="it does not parse", attempts=attempts)
    return Proposed(ProposalId(number), proposal, None)


def trial(  # noqa: PLR0913 -- each test varies another one
    evaluation: int,
    individual: int,
    outcome: float | Failed,
    *,
    purpose: Purpose = Purpose.SCREEN,
    shard: str = "selection",
    contended: bool = False,
    machine: Comparability = MACHINE,
    seed: int | None = None,
    attempt: int = 1,
) -> Iterator[Record]:
    """Yield the two records of an evaluation that ends `evaluation` seconds after the epoch.

    Each has a seed of its own; with that of another it is an attempt of the same.
    """
    own = EvaluationId(evaluation)
    ended: Outcome = outcome if isinstance(outcome, Failed) else Scored(outcome)
    genome = Genome(f"TRIED = {individual}\n")
    seed = evaluation if seed is None else seed
    yield Started(
        Request(own, IndividualId(individual), genome, seed, shard, purpose, attempt=attempt)
    )
    yield Ended(
        Result(
            request=own,
            outcome=ended,
            comparability=machine,
            measurements=(Measurement("steps", 100.0, "1"),),
            log=f"log of {evaluation}",
            curve=((0.5, 3.0), (1.0, 2.0)),
            contended=contended,
            ended_at=float(evaluation),
        )
    )


def selected(generation: int, *members: tuple[int, float, float], sigma: float = 0.1) -> Selected:
    rows = tuple((IndividualId(who), mean, error) for who, mean, error in members)
    return Selected(generation, sigma, rows)


def family() -> Iterator[Record]:
    """Two founders, a child of both that is better, a grandchild that fails, two selections."""
    yield founded(1, "first")
    yield founded(2, "second")
    yield from trial(1, 1, 3.0)
    yield from trial(2, 2, 4.0)
    yield selected(0, (1, 3.1, 0.2), (2, 3.9, 0.2))
    yield bred(3, 1, 2, cost_usd=0.25)
    yield refused(4, cost_usd=0.5)
    yield from trial(3, 3, 2.0)
    yield selected(1, (3, 2.2, 0.1), (1, 3.0, 0.1))
    yield bred(5, 3, operator="leap")
    yield from trial(4, 5, CRASH)
