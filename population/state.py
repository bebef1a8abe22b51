"""The state of a search as a fold over the records of its lineage.

The running loop and a resumed run build it in the same way, record by record: what is not in a
record is not state.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace

from population.blocks import Block
from population.contention import Contention
from population.history import Earlier, History, Report, Standing
from population.individual import (
    Comparability,
    EvaluationId,
    Failed,
    Individual,
    IndividualId,
    Pace,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
    checked,
)
from population.jobs import RANKING, Jobs, is_infrastructure
from population.offers import Offers
from population.ports import (
    Abandoned,
    Brought,
    Cleared,
    Ended,
    Founded,
    Pinned,
    Proposed,
    Quarantined,
    Record,
    Selected,
    Started,
)
from population.rungs import Rungs
from population.scores import Scores
from population.statistics import Estimate, Noise, count_of
from population.task import Direction

LOG_CHARACTERS = 6_000
"""So much of the end of a failure's log stays in memory, for whoever may repair it."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What the confirmation shard has said of one individual, as fitnesses.

    Attributes:
        tries: trainings asked for, failed and running ones included.
        running: some of them are not settled.
    """

    values: tuple[float, ...] = ()
    tries: int = 0
    running: bool = False


class State:
    """Everything that a search knows; changed by `apply` alone.

    Only results of one comparability key rank together: the most frequent one of the run, the
    earliest among equals.

    Attributes:
        jobs: evaluations under way; what follows speaks of settled ones.
        rung: what a short training counts, as a share of one in full.
        full: settled evaluations of purpose screen and race, crashes included; reruns of
            contended trials and infrastructure failures are not among them. short: at the rung.
        raced: evaluations of purpose race, unsettled ones included.
        births: settled newcomers since the last survivor selection; founders are none.
        unborn: newcomers that have neither a settled evaluation nor been stopped at the rung.
        failures: every settled failure with the id of its individual, ours included.
        quarantine: whose scores are held back until the confirmation shard agrees.
        refused: whom it has refused, for good.
        pinned: whom somebody wants among the survivors.
        confirmation_reads, exam_reads: evaluations that were started on those shards.
        exam_blocks: pairs of all exams by seed, in the order in which they were begun.
        reports: what the latest settled evaluation of each individual showed.
        offers: what proposals have told.
        earlier: what the run was born from.
        paces: how far the latest scored training of each individual came.
        rungs: what short trainings gave, and whom they let through.
    """

    def __init__(
        self,
        direction: Direction,
        contended_retries: int = 2,
        infrastructure_retries: int = 2,
        rung: float | None = None,
    ) -> None:
        self.direction = direction
        self.jobs = Jobs(contended_retries, infrastructure_retries)
        self.rung = rung or 0.0
        self.individuals: dict[IndividualId, Individual] = {}
        self.founders: list[IndividualId] = []
        self.fingerprints: dict[str, IndividualId] = {}
        self.failures: list[tuple[IndividualId, Failed]] = []
        self.contention = Contention()
        self.unscreened: dict[IndividualId, None] = {}
        self.unborn: set[IndividualId] = set()
        self.survivors: tuple[IndividualId, ...] = ()
        self.selections = 0
        self.births = 0
        self.full = 0
        self.short = 0
        self.raced = 0
        self.settled_since_selection = 0
        self.quarantine: dict[IndividualId, Quarantined] = {}
        self.refused: set[IndividualId] = set()
        self.pinned: set[IndividualId] = set()
        self.confirmation_reads = 0
        self.exam_reads = 0
        self.exam_blocks: dict[int, Block] = {}
        self.reports: dict[IndividualId, Report] = {}
        self.offers = Offers()
        self.paces: dict[IndividualId, Pace] = {}
        self.rungs = Rungs(direction)
        self.earlier: tuple[Earlier, ...] = ()
        self._begun: Counter[IndividualId] = Counter()
        self._confirmations: Counter[IndividualId] = Counter()
        self._scores = Scores(direction)
        self._confirmed = Scores(direction)
        self._failed: Counter[IndividualId] = Counter()
        self._lost: Counter[IndividualId] = Counter()
        self._known_to: dict[IndividualId, IndividualId] = {}
        self._last_individual = 0
        self._last_proposal = 0
        self._last_evaluation = 0
        self._history: History | None = None

    def apply(self, record: Record) -> None:
        """Take one record into account.

        Raises:
            LineageError: an evaluation ends that never started: the records are not of one run
                or not in order.
        """
        self._history = None
        match record:
            case Brought(earlier):
                self.earlier = earlier
            case Founded(individual):
                self._enter(individual)
            case Proposed(proposal_id, proposal, individual):
                self._last_proposal = max(self._last_proposal, proposal_id)
                self.offers.note(proposal, individual)
                if individual is not None:
                    self._enter(individual)
            case Started(request):
                self._start(request)
            case Ended(result):
                self._end(result)
            case Abandoned(request_id):
                self.jobs.abandon(request_id)
            case Selected(_, _, members):
                self.survivors = tuple(member for member, _, _ in members)
                self.selections += 1
                self.births = 0
                self.settled_since_selection = 0
            case Quarantined(individual):
                self.quarantine[individual] = record
                self.survivors = tuple(one for one in self.survivors if one != individual)
            case Cleared(individual, agrees, _):
                self._clear(individual, agrees)
            case Pinned(individual, pinned):
                (self.pinned.add if pinned else self.pinned.discard)(individual)

    def _enter(self, individual: Individual) -> None:
        self.individuals[individual.id] = individual
        self._last_individual = max(self._last_individual, individual.id)
        self.fingerprints.setdefault(individual.fingerprint, individual.id)
        self.unscreened[individual.id] = None
        if individual.operator == "founder":
            self.founders.append(individual.id)
        else:
            self.unborn.add(individual.id)

    def _start(self, request: Request) -> None:
        begins = self.jobs.start(request)
        self._last_evaluation = max(self._last_evaluation, request.id)
        self.exam_reads += request.purpose is Purpose.EXAM
        self.confirmation_reads += request.purpose is Purpose.CONFIRM
        if request.purpose is Purpose.EXAM:
            block = self.exam_blocks.setdefault(request.seed, Block(request.seed))
            block.results[request.individual] = None
        if not begins:
            return
        if request.purpose is Purpose.CONFIRM:
            self._confirmations[request.individual] += 1
            return
        self.unscreened.pop(request.individual, None)
        self._begun[request.individual] += 1
        self.raced += request.purpose is Purpose.RACE

    def _end(self, result: Result) -> None:
        request = self.jobs.take(result.request)
        result = replace(result, outcome=checked(result.outcome))
        self.contention.note(request, result)
        if request.purpose is Purpose.EXAM:
            self.exam_blocks[request.seed].results[request.individual] = result
        settled = self.jobs.end(request, result)
        if settled is not None:
            self._settle(request, settled)

    def _settle(self, request: Request, result: Result) -> None:
        if request.purpose is Purpose.CONFIRM:
            self._confirm(request.individual, result)
            return
        if not is_infrastructure(result):
            self.full += request.purpose in RANKING
            self.short += request.purpose is Purpose.RUNG
        if request.purpose is Purpose.RUNG and self.rungs.judge(
            request.individual, self._kind(request.individual), result
        ):
            self.unscreened[request.individual] = None
            return
        self.settled_since_selection += 1
        if request.individual in self.unborn:
            self.unborn.remove(request.individual)
            self.births += 1
        if request.individual not in self.rungs.stopped:
            self._remember(request.individual, result)

    def _kind(self, who: IndividualId) -> str:
        """Return whom a short training is compared with.

        Constants are compared with those of their structure, new structures with one another:
        against what was tuned for long they would have no chance.
        """
        own = self.individuals[who]
        same = self.individuals[own.parents[0]].structure == own.structure
        return own.structure if same else ""

    def _remember(self, individual: IndividualId, result: Result) -> None:
        outcome = result.outcome
        failure = outcome if isinstance(outcome, Failed) else None
        log = result.log[-LOG_CHARACTERS:] if failure else ""
        self.reports[individual] = Report(failure, log, result.measurements, result.curve)
        if isinstance(outcome, Scored):
            made = result.comparability
            self._scores.add(made, individual, outcome.value, count_of(result))
            self._known_to.setdefault(individual, self.next_individual)
            steps, tokens = result.measured("steps"), result.measured("tokens")
            if steps is not None and tokens is not None:
                self.paces[individual] = Pace(steps, tokens, made.key)
            return
        (self._lost if is_infrastructure(result) else self._failed)[individual] += 1
        self.failures.append((individual, outcome))

    def _confirm(self, individual: IndividualId, result: Result) -> None:
        if isinstance(result.outcome, Scored):
            self._confirmed.add(result.comparability, individual, result.outcome.value)

    def _clear(self, individual: IndividualId, agrees: bool) -> None:
        del self.quarantine[individual]
        self.settled_since_selection += 1
        if not agrees:
            self.refused.add(individual)
        else:
            self._known_to[individual] = self.next_individual

    @property
    def next_individual(self) -> IndividualId:
        """The id of the next individual."""
        return IndividualId(self._last_individual + 1)

    @property
    def next_proposal(self) -> ProposalId:
        """The id of the next proposal, as far as proposals are recorded."""
        return ProposalId(self._last_proposal + 1)

    @property
    def next_evaluation(self) -> EvaluationId:
        """The id of the next request."""
        return EvaluationId(self._last_evaluation + 1)

    @property
    def anything_scored(self) -> bool:
        """Whether any individual has a score that ranks."""
        return self._scores.usual is not None

    @property
    def usual_machine(self) -> Comparability | None:
        """What most scores have in common, those that rank; None while nothing is scored."""
        return self._scores.usual

    def evaluations_of(self, individual: IndividualId) -> int:
        """How many evaluations it was given, in flight and failed ones included."""
        return self._begun[individual]

    def lost_of(self, individual: IndividualId) -> int:
        """How many of them our side has lost for good."""
        return self._lost[individual]

    def replicates_of(self, individual: IndividualId) -> int:
        """How many of its evaluations tell of it, failures and those under way included.

        Scores that do not rank, since most of the run's have another key, are not among them, nor
        is what our side has lost.
        """
        running = self.jobs.by_individual(RANKING)[individual]
        return len(self.ranking_values(individual)) + self._failed[individual] + running

    @property
    def counted(self) -> float:
        """How many evaluations count: those in full, one at the rung as its share of the budget."""
        return round(self.full + self.rung * self.short, 9) if self.short else self.full

    @property
    def pending(self) -> float:
        """How many evaluations that count are asked for; one in full may follow one at the rung."""
        purposes = self.jobs.by_purpose()
        short = purposes[Purpose.RUNG]
        return sum(purposes[one] for one in RANKING) + (short * (1 + self.rung) if short else 0)

    def ranking_values(self, individual: IndividualId) -> tuple[float, ...]:
        """Return the metric values of an individual that rank it."""
        return tuple(self._scores.of(self._scores.usual).get(individual, ()))

    def confirmations(self, individual: IndividualId) -> Readings:
        """Return what the confirmation shard has said of an individual so far."""
        values = self._confirmed.of(self._scores.usual).get(individual, [])
        return Readings(
            values=tuple(self.direction.fitness(value) for value in values),
            tries=self._confirmations[individual],
            running=individual in self.jobs.by_individual({Purpose.CONFIRM}),
        )

    def owed(self, at_once: bool = False) -> Request | None:
        """Return the first evaluation that has to be asked for again, None if there is none.

        Args:
            at_once: also one that was lost when nothing else has come back since.
        """
        return self.jobs.owed(self.next_evaluation, at_once)

    def noise(self) -> Noise | None:
        """Return the noise of one evaluation, None while too few genomes were repeated."""
        return self._scores.noise

    def history(self) -> History:
        """Return an immutable snapshot of all that operators and selections may know.

        `sigma` is 0.0 while the noise is unknown; standard errors are infinite then.
        """
        if self._history is None:
            noise = self.noise()
            self._history = History(
                standings=self._standings(),
                survivors=self.survivors,
                fingerprints=dict(self.fingerprints),
                sigma=noise.sigma if noise else 0.0,
                tallies=dict(self.offers.tallies),
                models=dict(self.offers.models),
                notes=self.offers.notes,
                tried=self.offers.tried,
                earlier=self.earlier,
            )
        return self._history

    def ranks(self) -> dict[IndividualId, Estimate]:
        """Return the shrunken mean of each scored individual, in units of the metric."""
        return {
            one: Estimate(self.direction.fitness(standing.fitness), standing.standard_error)
            for one, standing in self.history().standings.items()
            if standing.fitness is not None
        }

    def _standings(self) -> dict[IndividualId, Standing]:
        doubted = self.refused | set(self.quarantine)
        ranks, values = self._scores.ranked(doubted), self._scores.of(self._scores.usual)
        believed = {one: rank.mean for one, rank in ranks.items() if one not in doubted}
        expected = self.rungs.expected(believed)
        running = self.jobs.by_individual()
        unknown, later = Estimate(math.nan, math.inf), self.next_individual
        return {
            one: Standing(
                individual=individual,
                fitness=ranks[one].mean if one in ranks else None,
                standard_error=ranks.get(one, unknown).standard_error,
                evaluations=len(values.get(one, ())),
                failures=self._failed[one],
                lost=self._lost[one],
                in_flight=running[one],
                held=one in doubted,
                report=self.reports.get(one),
                model=self.offers.model_of.get(one, ""),
                known_to=self._known_to.get(one, later),
                stopped=one in self.rungs.stopped,
                expected=expected.get(one),
                pinned=one in self.pinned,
            )
            for one, individual in self.individuals.items()
        }
