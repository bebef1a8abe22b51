"""The search: a steady state with generations, told as records.

    found -> screen founders -> [ propose -> screen -> (race) -> select survivors ] -> select

Whatever happens becomes a record, is stored and then folded into the state; a resumed run folds
the stored records and goes on from there.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from population.errors import PoolError, RunError, TaskError
from population.individual import (
    Individual,
    IndividualId,
    ProposalId,
    Purpose,
    Request,
    Result,
)
from population.limits import SearchConfig, evaluations_left, may_race, places_left
from population.ports import (
    Abandoned,
    Ended,
    Evaluation,
    Founded,
    Lineage,
    Proposal,
    Proposed,
    Record,
    Selected,
    Standing,
    Started,
)
from population.proposals import Portfolio, Proposals
from population.quarantine import endings, held_back, next_reading
from population.state import State, is_infrastructure
from population.survivors import choose_contender, choose_survivors
from population.task import Direction

__all__ = ["Search", "SearchConfig", "training_seed"]

WAIT_S = 0.5
"""How long the driver listens for results before it looks whether it should stop."""
WAIT_BESIDE_PROPOSALS_S = 0.02
CONFIRMATION_STREAM = 0xC0F1
"""Keeps the seeds of confirmations apart from those of the search."""
REFUSALS_IN_A_ROW = 200
INFRASTRUCTURE_FAILURES_IN_A_ROW = 30


@dataclass
class Search:
    """One run of the search. `run` is called once, from the thread that owns the lineage.

    Attributes:
        founders: individuals with structure, fingerprint and constants; their ids are given here.
        shards: names of the selection, confirmation and exam shards.
        observer: called after each new record, with the state that holds it.
        program_sha256: returns the digest of program.md as it reads now; kept with each child.
    """

    config: SearchConfig
    direction: Direction
    lineage: Lineage
    evaluation: Evaluation
    portfolio: Portfolio
    founders: Sequence[Individual]
    shards: tuple[str, str, str]
    observer: Callable[[Record, State], None]
    program_sha256: Callable[[], str] = str

    def run(self, should_stop: Callable[[], bool]) -> State:
        """Search until a limit is reached or `should_stop()`.

        At a limit the evaluations in flight are awaited. On a stop they are left: the next run
        finds them unended, records them as abandoned and asks for them anew.

        Returns:
            The state after the last record.

        Raises:
            TaskError: no founder earned a score.
            RunError: the operators offer nothing acceptable any more; what they offered before
                is trained, recorded and selected from first.
            PoolError: the infrastructure fails again and again.
            LineageError: from the lineage.
        """
        config = self.config
        retries = config.contended_retries, config.infrastructure_retries
        self._state = State(self.direction, *retries)
        self._deadline = time.monotonic() + 3600 * (config.max_hours or math.inf)
        self._refusals: list[str] = []
        self._infrastructure_failures = 0
        self._resume()
        self._found()
        self._proposals = Proposals(self.portfolio, config.seed, self._state.next_proposal)
        try:
            self._loop(should_stop)
            self._record_leftovers(should_stop)
        finally:
            self._proposals.close()
        self._finish(stopped=should_stop())
        return self._state

    def _loop(self, should_stop: Callable[[], bool]) -> None:
        while not should_stop():
            if self._generation_is_complete():
                self._select_survivors()
            self._prepare_ahead()
            self._fill_slots()
            self._check_that_a_founder_works()
            if not self._state.unsettled and not self._state.quarantine and self._is_over():
                return
            self._collect(WAIT_S)
        self._collect(0.0)

    def _record(self, record: Record) -> None:
        self.lineage.record(record)
        self._state.apply(record)
        self.observer(record, self._state)

    # Beginning and end

    def _resume(self) -> None:
        latest: IndividualId | None = None
        for record in self.lineage.replay():
            latest = None
            if isinstance(record, Ended):
                latest = self._state.in_flight[record.result.request].individual
            self._state.apply(record)
        if latest is not None:
            self._hold_back(latest)
        for request_id in list(self._state.in_flight):
            self._record(Abandoned(request_id))

    def _found(self) -> None:
        for founder in self.founders:
            if founder.fingerprint not in self._state.fingerprints:
                self._record(Founded(replace(founder, id=self._state.next_individual)))

    def _check_that_a_founder_works(self) -> None:
        state = self._state
        if state.anything_scored or state.unsettled or self._founder_to_screen() is not None:
            return
        reasons = "; ".join(
            f"{state.individuals[who].name or who}: {failed.stage} {failed.reason}, {failed.detail}"
            for who, failed in state.failures
        )
        raise TaskError(
            f"no founder earned a score, so there is nothing to breed from ({reasons or 'none'}). "
            "`evolve show ID` prints the log of each, `evolve try FILE` runs one alone"
        )

    def _record_leftovers(self, should_stop: Callable[[], bool]) -> None:
        """Record what was prepared for slots that never came free: it has cost something."""
        while len(self._proposals):
            taken = self._proposals.take(in_order=self.config.sync)
            if taken is not None:
                self._refuse(*taken, taken[1].refusal or "the run ended before it could be trained")
            elif should_stop():
                return
            else:
                self._proposals.wait(WAIT_S, in_order=self.config.sync)

    def _is_over(self) -> bool:
        """Whether nothing new is to be trained."""
        late = time.monotonic() >= self._deadline
        return late or self._is_exhausted() or evaluations_left(self.config, self._state) <= 0

    def _is_exhausted(self) -> bool:
        return len(self._refusals) >= REFUSALS_IN_A_ROW

    def _finish(self, stopped: bool) -> None:
        """Select once more, except where a stop has cut the founders' phase short."""
        if self._state.settled_since_selection and (self._state.selections or not stopped):
            self._select_survivors()
        if self._is_exhausted():
            raise RunError(
                f"the search has ended: {len(self._refusals)} proposals in a row were refused, "
                f"the last because {self._refusals[-1]}. All results are kept. Widen the ranges "
                "of the constants, add a seed or another operator, and run it again"
            )

    # Evaluations

    def _fill_slots(self) -> None:
        while len(self._state.in_flight) < self.evaluation.slots:
            request = self._next_request()
            if request is None:
                return
            self._record(Started(request))
            self.evaluation.submit(request)

    def _next_request(self) -> Request | None:
        """Return the most urgent request.

        In this order: a rerun, a confirmation, a founder, a contender, a newcomer.
        """
        owed = self._state.owed() or self._confirmation()
        if owed is not None or self._is_over():
            return owed
        founder = self._founder_to_screen()
        if founder is not None:
            return self._request(founder, Purpose.SCREEN)
        contender = self._contender()
        if contender is not None:
            return self._request(contender, Purpose.RACE)
        newcomer = next(iter(self._state.unscreened), None) or self._breed()
        return None if newcomer is None else self._request(newcomer, Purpose.SCREEN)

    def _request(self, individual: IndividualId, purpose: Purpose) -> Request:
        state = self._state
        return Request(
            id=state.next_evaluation,
            individual=individual,
            genome=state.individuals[individual].genome,
            seed=training_seed(self.config.seed, individual, state.evaluations_of(individual)),
            shard=self.shards[0],
            purpose=purpose,
        )

    def _founder_to_screen(self) -> IndividualId | None:
        count = self._state.evaluations_of
        due = [one for one in self._state.founders if count(one) < self.config.founder_replicates]
        return min(due, key=lambda one: (count(one), one), default=None)

    def _contender(self) -> IndividualId | None:
        if not may_race(self.config, self._state):
            return None
        return choose_contender(self._state.history().standings, self._state.survivors)

    def _collect(self, timeout_s: float) -> None:
        """Record what has ended, listening at most `timeout_s` for results and proposals."""
        in_flight = len(self._state.in_flight)
        if len(self._proposals) and in_flight < self.evaluation.slots:
            if not in_flight:
                self._proposals.wait(timeout_s, in_order=self.config.sync)
                return
            timeout_s = min(timeout_s, WAIT_BESIDE_PROPOSALS_S)
        results = self.evaluation.wait(timeout_s)
        for result in results:
            individual = self._state.in_flight[result.request].individual
            self._record(Ended(self._state.marked(result)))
            self._hold_back(individual)
        for cleared in endings(self._state):
            self._record(cleared)
        self._check_infrastructure(results)

    # Quarantine

    def _hold_back(self, individual: IndividualId) -> None:
        sigmas = self.config.quarantine_sigmas
        held = held_back(self._state, individual, sigmas) if sigmas else None
        if held is not None:
            self._record(held)

    def _confirmation(self) -> Request | None:
        """Return the next training that a quarantine waits for."""
        who = next_reading(self._state)
        if who is None:
            return None
        tries = self._state.confirmations(who).tries
        return Request(
            id=self._state.next_evaluation,
            individual=who,
            genome=self._state.individuals[who].genome,
            seed=training_seed(self.config.seed, CONFIRMATION_STREAM, who, tries),
            shard=self.shards[1],
            purpose=Purpose.CONFIRM,
        )

    def _check_infrastructure(self, results: Sequence[Result]) -> None:
        for result in results:
            failed = is_infrastructure(result)
            self._infrastructure_failures = self._infrastructure_failures + 1 if failed else 0
        if self._infrastructure_failures >= INFRASTRUCTURE_FAILURES_IN_A_ROW:
            raise PoolError(
                f"{self._infrastructure_failures} evaluations in a row failed for reasons that "
                f"are not the candidates', the last: {results[-1].outcome}. All results are kept: "
                "`evolve doctor` checks this machine, `evolve run` goes on afterwards"
            )

    # Breeding

    def _prepare_ahead(self) -> None:
        """Keep as many proposals in preparation as there are slots, at least two."""
        founding = not self._state.anything_scored or self._founder_to_screen() is not None
        if founding or self._is_over():
            return
        wanted = min(max(self.evaluation.slots, 2), places_left(self.config, self._state))
        while len(self._proposals) < wanted:
            self._proposals.prepare(self._state.history())

    def _breed(self) -> IndividualId | None:
        """Make an individual of the first acceptable proposal that is ready."""
        while not self._is_over() and places_left(self.config, self._state) > 0:
            taken = self._proposals.take(in_order=self.config.sync)
            if taken is None:
                return None
            individual = self._judge(*taken)
            self._prepare_ahead()
            if individual is not None:
                return individual
        return None

    def _judge(self, proposal_id: ProposalId, proposal: Proposal) -> IndividualId | None:
        twin = self._state.fingerprints.get(proposal.fingerprint)
        if proposal.genome is None or twin is not None:
            reason = proposal.refusal or f"it equals individual {twin}"
            self._refusals.append(reason)
            self._refuse(proposal_id, proposal, reason)
            return None
        individual = Individual(
            id=self._state.next_individual,
            genome=proposal.genome,
            parents=proposal.parents,
            operator=proposal.operator,
            structure=proposal.structure,
            fingerprint=proposal.fingerprint,
            constants=proposal.constants,
            changes=proposal.changes,
            proposal=proposal_id,
            program_sha256=self.program_sha256(),
        )
        self._refusals.clear()
        self._record(Proposed(proposal_id, proposal, individual))
        return individual.id

    def _refuse(self, proposal_id: ProposalId, proposal: Proposal, reason: str) -> None:
        refused = replace(proposal, genome=None, refusal=reason)
        self._record(Proposed(proposal_id, refused, None))

    # Selection

    def _generation_is_complete(self) -> bool:
        state = self._state
        if state.selections:
            return state.births >= self.config.lambda_
        training = {job.request.individual for job in state.unsettled.values()}
        founding = self._founder_to_screen() is not None or training & set(state.founders)
        return state.anything_scored and not founding

    def _select_survivors(self) -> None:
        history = self._state.history()
        members = choose_survivors(history.standings, self.config.mu)
        generation = self._state.selections
        rows = tuple(self._member(history.standings[member]) for member in members)
        self._record(Selected(generation, history.sigma, rows))

    def _member(self, standing: Standing) -> tuple[IndividualId, float, float]:
        if standing.fitness is None:
            raise ValueError(f"individual {standing.individual.id} has no score and was selected")
        # A direction undoes itself: the fitness of a fitness is the metric again.
        value = self.direction.fitness(standing.fitness)
        return standing.individual.id, value, standing.standard_error


def training_seed(*entropy: int) -> int:
    """Return a seed in 0..2**31 - 1 that is a function of whole numbers of 0 or more."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) & 0x7FFFFFFF
