"""Evaluations under way: each over all its attempts, until it is settled."""

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field, replace

from population.errors import LineageError
from population.individual import (
    EVALUATOR,
    EvaluationId,
    Failed,
    IndividualId,
    Purpose,
    Request,
    Result,
    Stage,
)

RANKING = frozenset({Purpose.SCREEN, Purpose.RACE})
"""Purposes whose evaluations rank individuals."""
RETRIED = RANKING | {Purpose.RUNG, Purpose.CONFIRM}
"""Purposes whose evaluations are run again when they are disturbed or lost."""

MOST_LOSSES = 30
"""Attempts of one evaluation that our side may lose, whatever else came back meanwhile."""

JobKey = tuple[IndividualId, int, str, Purpose]


@dataclass(slots=True)
class Job:
    """One evaluation over all its attempts.

    Attributes:
        request: the latest attempt. running: whether it is in flight; if not, it is owed.
        contended, lost: attempts that others disturbed, and that our side lost.
        suspect: lost ones since whose predecessor something else has come back.
        sound: how many had come back when it was lost last.
        spare: the latest contended result, used when no clean one can be had.
    """

    request: Request
    running: bool = True
    contended: int = 0
    lost: int = 0
    suspect: int = 0
    sound: int = -1
    spare: Result | None = None


@dataclass(slots=True)
class Jobs:
    """All evaluations under way. Those of an exam have one attempt each and are nobody's job.

    A job is settled by its first clean result. A contended one is run again up to
    `contended_retries` times and then taken as it is; an infrastructure failure up to
    `infrastructure_retries` times and then given up. One that somebody has killed is not run again:
    a contended result from before stands.

    Where everything is lost, nobody is given up for it: a loss counts against a job once something
    else has come back since its last one. Until then it lets others go first.

    Attributes:
        in_flight: attempts that run now. unsettled: by what all attempts of a job share.
        sound: attempts that our side did not lose.
    """

    contended_retries: int
    infrastructure_retries: int
    in_flight: dict[EvaluationId, Request] = field(default_factory=dict)
    unsettled: dict[JobKey, Job] = field(default_factory=dict)
    sound: int = 0

    def start(self, request: Request) -> bool:
        """Take an attempt up; return whether a job begins with it."""
        self.in_flight[request.id] = request
        if request.purpose not in RETRIED:
            return False
        job = self.unsettled.get(job_key(request))
        if job is None:
            self.unsettled[job_key(request)] = Job(request)
            return True
        job.request, job.running = request, True
        return False

    def end(self, request: Request, result: Result) -> Result | None:
        """Take the result of an attempt; return what its job has come to.

        None: another attempt is owed, or it is nobody's job.
        """
        self.sound += not is_infrastructure(result)
        if request.purpose not in RETRIED:
            return None
        job = self.unsettled[job_key(request)]
        job.running = False
        if is_infrastructure(result):
            job.lost += 1
            job.suspect += self.sound > job.sound
            job.sound = self.sound
            if job.suspect <= self.infrastructure_retries and job.lost < MOST_LOSSES:
                return None
            result = job.spare or result
        elif is_by_hand(result):
            result = job.spare or result
        elif result.contended:
            job.contended += 1
            job.spare = result
            if job.contended <= self.contended_retries:
                return None
        del self.unsettled[job_key(request)]
        return result

    def abandon(self, request_id: EvaluationId) -> None:
        """Take an attempt as cut off: its job is owed another one."""
        request = self.take(request_id)
        if request.purpose in RETRIED:
            self.unsettled[job_key(request)].running = False

    def take(self, request_id: EvaluationId) -> Request:
        """Return an attempt that is in flight no longer. Raises LineageError where it never was."""
        try:
            return self.in_flight.pop(request_id)
        except KeyError:
            raise LineageError(
                f"evaluation {request_id} ends without having started: the lineage is damaged "
                "or holds records of another run; restore it or begin a new run"
            ) from None

    def owed(self, number: EvaluationId, at_once: bool = False) -> Request | None:
        """Return the first attempt that has to be made again; None: there is none.

        Args:
            number: of the new one.
            at_once: also what was lost and would let others go first.
        """
        for job in self.unsettled.values():
            if not job.running and (at_once or job.sound < self.sound):
                return replace(job.request, id=number, attempt=job.request.attempt + 1)
        return None

    def by_individual(self, purposes: Set[Purpose] = RETRIED) -> Counter[IndividualId]:
        """Return how many jobs of these purposes each individual has."""
        requests = (job.request for job in self.unsettled.values())
        return Counter(one.individual for one in requests if one.purpose in purposes)

    def by_purpose(self) -> Counter[Purpose]:
        """Return how many jobs there are of each purpose."""
        return Counter(job.request.purpose for job in self.unsettled.values())


def is_infrastructure(result: Result) -> bool:
    """Tell whether our side failed, so that nothing is known about the candidate."""
    outcome = result.outcome
    return isinstance(outcome, Failed) and outcome.stage is Stage.INFRASTRUCTURE


def evaluators_fault(result: Result) -> str:
    """Return what the task's evaluator did wrong, empty where it is not at fault."""
    outcome = result.outcome
    if isinstance(outcome, Failed) and is_infrastructure(result) and outcome.reason == EVALUATOR:
        return outcome.detail
    return ""


def is_by_hand(result: Result) -> bool:
    """Tell whether somebody killed it, so that nothing is known about the candidate either."""
    return isinstance(result.outcome, Failed) and result.outcome.by_hand


def job_key(request: Request) -> JobKey:
    """Return what all attempts of one evaluation share."""
    return request.individual, request.seed, request.shard, request.purpose
