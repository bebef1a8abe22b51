"""One evaluation over all its attempts, as the state keeps it until it is settled."""

from dataclasses import dataclass

from population.individual import Failed, IndividualId, Purpose, Request, Result, Stage

RANKING = frozenset({Purpose.SCREEN, Purpose.RACE})
"""Purposes whose evaluations rank individuals."""
JOBS = RANKING | {Purpose.RUNG, Purpose.CONFIRM}
"""Purposes whose evaluations are run again when they are disturbed or lost."""

JobKey = tuple[IndividualId, int, str, Purpose]


@dataclass(slots=True)
class Job:
    """One evaluation over all its attempts.

    Attributes:
        request: the latest attempt. running: whether it is in flight; if not, it is owed.
        contended, infrastructure: attempts that ended so.
        spare: the latest contended result, used when no clean one can be had.
    """

    request: Request
    running: bool = True
    contended: int = 0
    infrastructure: int = 0
    spare: Result | None = None


def is_infrastructure(result: Result) -> bool:
    """Tell whether our side failed, so that nothing is known about the candidate."""
    outcome = result.outcome
    return isinstance(outcome, Failed) and outcome.stage is Stage.INFRASTRUCTURE


def job_key(request: Request) -> JobKey:
    """Return what all attempts of one evaluation share."""
    return request.individual, request.seed, request.shard, request.purpose
