"""The search: a steady state with generations, told as records.

    found -> screen founders
    -> [ propose -> (rung) -> screen -> (race) -> select survivors ] -> select

Whatever happens becomes a record, is stored and then folded into the state; a resumed run folds
the stored records and goes on from there.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from population.errors import EvaluatorError, PoolError, RunError, TaskError
from population.history import Program, Standing
from population.individual import (
    Individual,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
)
from population.jobs import evaluators_fault, is_infrastructure
from population.limits import SearchConfig, evaluations_left, founder_due, may_race
from population.nursery import Nursery
from population.orders import Steering, carry_out
from population.ports import (
    INJECT,
    Abandoned,
    Ended,
    Evaluation,
    Founded,
    Injections,
    Lineage,
    Quarantined,
    Record,
    Selected,
    Started,
)
from population.proposals import Portfolio
from population.quarantine import endings, jumps
from population.requests import confirmation_request, first_purpose, selection_request
from population.rests import Rests
from population.state import State
from population.survivors import choose_contender, choose_survivors
from population.task import Direction

__all__ = ["Search", "SearchConfig"]

WAIT_S = 0.5
"""How long the driver listens for results before it looks whether it should stop."""
WAIT_BESIDE_PROPOSALS_S = 0.02
INFRASTRUCTURE_FAILURES_IN_A_ROW, FAILURES_A_SLOT = 30, 3
"""So many losses without any other result end a call; a host that dies takes its slots' at once."""
NO_SLOTS_S = 300.0
"""How long a cluster may be without any slot."""
STRANGERS, STRANGERS_A_SLOT = 8, 4
"""So many scores that do not rank with the run's, and none that does, end a call at its beginning:
a cluster with two kinds of machine hardly ever begins so by chance."""


@dataclass
class Search:
    """One run of the search. `run` is called once, from the thread that owns the lineage.

    Attributes:
        founders: individuals with structure, fingerprint and constants; their ids are given here.
        shards: names of the selection, confirmation and exam shards.
        observer: called after each new record, with the state that holds it.
        program: returns program.md as it reads now; its digest is kept with each child.
        on_end: called once when nothing more is to be bred, with how many slow proposals are being
            made: they begin nothing new.
        on_stop: called once after `should_stop()`: they give up what they wait for.
        injections: programs from outside; None where nobody can put one in.
        steering: what is asked of the search from outside; None where nobody can, and it is never
            paused.
    """

    config: SearchConfig
    direction: Direction
    lineage: Lineage
    evaluation: Evaluation
    portfolio: Portfolio
    founders: Sequence[Individual]
    shards: tuple[str, str, str]
    observer: Callable[[Record, State], None]
    program: Callable[[], Program] = Program
    on_end: Callable[[int], None] = lambda awaited: None
    on_stop: Callable[[], None] = lambda: None
    injections: Injections | None = None
    steering: Steering | None = None

    def run(self, should_stop: Callable[[], bool]) -> State:
        """Search until a limit is reached or `should_stop()`.

        At a limit the evaluations in flight are awaited. On a stop they are left: the next run
        finds them unended, records them as abandoned and asks for them anew.

        Returns:
            The state after the last record.

        Raises:
            TaskError: no founder earned a score.
            RunError: the operators offer nothing acceptable any more; what they offered before
                is trained, recorded and selected from first. Or the scores of this call do not
                compare with those of the run.
            PoolError: the infrastructure fails again and again.
            LineageError: from the lineage.
        """
        config = self.config
        retries = config.contended_retries, config.infrastructure_retries
        self._state = State(self.direction, *retries, rung=config.rung)
        self._deadline = time.monotonic() + 3600 * (config.max_hours or math.inf)
        self._paused, self._heeded_at = False, time.monotonic()
        self._infrastructure_failures = 0
        self._rests = Rests()
        self._had_slots_at = time.monotonic()
        self._strangers: int | None = 0  # None once a score of this call ranks
        self._resume()
        self._found()
        self._nursery = Nursery(
            config,
            self._state,
            self.portfolio,
            program=self.program,
            injections=self.injections,
            slots=lambda: self.evaluation.slots,
            record=self._record,
            is_over=self._is_over,
        )
        try:
            self._loop(should_stop)
            self.on_end(self._nursery.awaited)
            self._nursery.record_leftovers(should_stop, self.on_stop)
        except (PoolError, RunError):
            self._nursery.record_leftovers(lambda: True, self.on_stop)
            raise
        finally:
            self._nursery.close()
        self._finish(stopped=should_stop())
        return self._state

    def _loop(self, should_stop: Callable[[], bool]) -> None:
        while not should_stop():
            if self._generation_is_complete():
                self._select_survivors()
            self._heed()
            if not self._paused:
                self._nursery.take_injections()
                self._nursery.prepare_ahead()
            self._nursery.keep_answers()
            if not self._paused:
                self._fill_slots()
            self._check_that_a_founder_works()
            if not self._state.jobs.unsettled and not self._state.quarantine and self._is_over():
                return
            self._collect(WAIT_S)
        self._collect(0.0)

    def _heed(self) -> None:
        """Carry out what is asked from outside; the time of a pause does not bring the end nearer.

        Whoever is killed here is recorded before the next look at whether to stop.
        """
        now = time.monotonic()
        if self._paused:
            self._deadline += now - self._heeded_at
        self._heeded_at = now
        if self.steering is None:
            return
        self._paused = self.steering.paused
        while (order := self.steering.order()) is not None:
            reply = carry_out(order, self._state, self.evaluation, self._record)
            self.steering.reply(order, reply)

    def _record(self, record: Record) -> None:
        self.lineage.record(record)
        self._state.apply(record)
        self.observer(record, self._state)

    # Beginning and end

    def _resume(self) -> None:
        state, latest = self._state, None
        knew = known = False  # the noise, before and after the latest evaluation
        for record in self.lineage.replay():
            if isinstance(record, Ended):
                latest, knew = state.jobs.in_flight[record.result.request], known
            elif not isinstance(record, Quarantined):
                latest = None
            state.apply(record)
            known = known or state.noise() is not None
        if latest is not None:
            self._hold_back(latest, knew)
        self._end_quarantines()
        for request_id in list(self._state.jobs.in_flight):
            self._record(Abandoned(request_id))

    def _found(self) -> None:
        for founder in self.founders:
            if founder.fingerprint not in self._state.fingerprints:
                self._record(Founded(replace(founder, id=self._state.next_individual)))

    def _check_that_a_founder_works(self) -> None:
        state = self._state
        founding = founder_due(self.config, state) is not None
        if state.anything_scored or state.jobs.unsettled or founding:
            return
        reasons = "; ".join(
            f"{state.individuals[who].name or who}: {failed}"
            for who, failed in dict(state.failures).items()  # of each its last
        )
        raise TaskError(
            f"no founder earned a score, so there is nothing to breed from ({reasons or 'none'}). "
            "`evolve show ID` prints the log of each, `evolve try FILE` runs one alone"
        )

    def _is_over(self) -> bool:
        """Whether nothing new is to be trained."""
        late = time.monotonic() >= self._deadline
        exhausted = self._nursery.is_exhausted
        return late or exhausted or evaluations_left(self.config, self._state) <= 0

    def _finish(self, stopped: bool) -> None:
        """Select once more; what a stop has cut short goes on instead."""
        if self._state.settled_since_selection and not stopped:
            self._select_survivors()
        if self._nursery.is_exhausted:
            raise RunError(
                f"the search has ended: {len(self._nursery.refusals)} proposals in a row were "
                f"refused, the last because {self._nursery.refusals[-1]}. All results are kept. "
                "Widen the ranges of the constants, add a seed or another operator, and run it "
                "again"
            )

    # Evaluations

    def _fill_slots(self) -> None:
        while self._has_room():
            request = self._next_request()
            if request is None:
                return
            self._record(Started(request))
            self.evaluation.submit(request)

    def _has_room(self) -> bool:
        slots, busy = self.evaluation.slots, len(self._state.jobs.in_flight)
        return busy < self._rests.usable(slots, busy, time.monotonic())

    def _next_request(self) -> Request | None:
        """Return the most urgent request.

        In this order: a rerun, a confirmation, whoever was let through at the rung, a founder,
        whoever was put in, a contender, one newly bred; a rerun of what was lost while nothing else
        came back.
        """
        owed = self._state.owed() or confirmation_request(self.config, self._state, self.shards[1])
        if owed is not None:
            return owed
        waiting = self._state.unscreened
        let_through = next((one for one in waiting if one in self._state.rungs.passed), None)
        if let_through is not None:
            return self._request(let_through, Purpose.SCREEN)
        if self._is_over():
            return self._state.owed(at_once=True)
        founder = founder_due(self.config, self._state)
        if founder is not None:
            return self._request(founder, Purpose.SCREEN)
        put_in = (one for one in waiting if self._state.individuals[one].operator == INJECT)
        first = next(put_in, None)
        contender = self._contender() if first is None else None
        if contender is not None:
            return self._request(contender, Purpose.RACE)
        newcomer = first or next(iter(waiting), None) or self._nursery.breed()
        if newcomer is None:
            return self._state.owed(at_once=True)
        return self._request(newcomer, first_purpose(self.config, self._state, newcomer))

    def _request(self, individual: IndividualId, purpose: Purpose) -> Request:
        return selection_request(self.config, self._state, individual, self.shards[0], purpose)

    def _contender(self) -> IndividualId | None:
        if not may_race(self.config, self._state):
            return None
        return choose_contender(self._state.history().standings, self._state.survivors)

    def _collect(self, timeout_s: float) -> None:
        """Record what has ended, listening at most `timeout_s` for results and proposals."""
        in_flight = len(self._state.jobs.in_flight)
        beside_answers = self._nursery.awaited and not self._paused
        if beside_answers and in_flight < self.evaluation.slots:
            if not in_flight:
                self._nursery.wait(timeout_s)
                return
            timeout_s = min(timeout_s, WAIT_BESIDE_PROPOSALS_S)
        self._await_slots(timeout_s)
        results = self.evaluation.wait(timeout_s)
        for result in results:
            self._rests.note(result, time.monotonic())
            request = self._state.jobs.in_flight[result.request]
            knew = self._state.noise() is not None
            self._record(Ended(self._state.contention.marked(result)))
            self._hold_back(request, knew)
        self._end_quarantines()
        self._check_infrastructure(results)
        self._check_comparability(results)

    def _await_slots(self, timeout_s: float) -> None:
        """Wait where there is nowhere to train and nothing to listen for."""
        now = time.monotonic()
        idle = not self._state.jobs.in_flight
        if not idle or self._paused or self.evaluation.slots:
            self._had_slots_at = now
            if idle and (self._paused or not self._has_room()):
                time.sleep(timeout_s)
            return
        if now - self._had_slots_at > NO_SLOTS_S:
            raise PoolError(
                f"no machine has had room for a training for {NO_SLOTS_S:.0f} s. All results are "
                "kept: `evolve doctor` and `ray status` tell what there is, `evolve run` goes on "
                "afterwards"
            )
        time.sleep(timeout_s)

    # What results tell

    def _hold_back(self, ended: Request, knew: bool) -> None:
        for held in jumps(self._state, ended, knew, self.config.quarantine_sigmas):
            self._record(held)

    def _end_quarantines(self) -> None:
        for cleared in endings(self._state):
            self._record(cleared)

    def _check_infrastructure(self, results: Sequence[Result]) -> None:
        """Raise where results fail again and again, or the evaluator has never worked."""
        for result in results:
            failed = is_infrastructure(result)
            self._infrastructure_failures = self._infrastructure_failures + 1 if failed else 0
            fault = evaluators_fault(result)
            if fault and not self._state.anything_scored:
                raise EvaluatorError(
                    f"{fault}. Mend it, try it with `evolve doctor`, begin another run: "
                    "this one belongs to the evaluator as it was"
                )
        most = max(INFRASTRUCTURE_FAILURES_IN_A_ROW, FAILURES_A_SLOT * self.evaluation.slots)
        if self._infrastructure_failures >= most:
            raise PoolError(
                f"{self._infrastructure_failures} evaluations in a row failed for reasons that "
                f"are not the candidates', the last: {results[-1].outcome}. All results are kept: "
                "`evolve doctor` checks this machine, `evolve run` goes on afterwards"
            )

    def _check_comparability(self, results: Sequence[Result]) -> None:
        """Raise RunError where nothing that this call has scored ranks with the run's scores."""
        usual = self._state.usual_machine
        for result in results:
            if self._strangers is None or usual is None or not isinstance(result.outcome, Scored):
                continue
            here = result.comparability
            self._strangers = None if here.key == usual.key else self._strangers + 1
            most = min(STRANGERS, STRANGERS_A_SLOT * self.evaluation.slots)
            if self._strangers is not None and self._strangers >= most:
                raise RunError(
                    f"scores from here do not rank with this run's: {here.differences(usual)}. "
                    "All results are kept: go on where the run was, or begin a new one with "
                    "`evolve run --from` and this run's name"
                )

    # Selection

    def _generation_is_complete(self) -> bool:
        state = self._state
        if state.selections:
            return state.births >= self.config.lambda_
        training = {job.request.individual for job in state.jobs.unsettled.values()}
        due = founder_due(self.config, state)
        founding = due is not None or training & set(state.founders)
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
