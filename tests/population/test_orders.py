"""What people ask of a search while it goes on: a pause, the end of a training, a kept place."""

import threading
from dataclasses import replace

import pytest
from fakes import (
    Always,
    FakeEvaluation,
    MemoryLineage,
    Nudge,
    Orders,
    folded,
    founders,
    never,
    program,
    request,
    search,
)
from journal import IDENTITY

from population import search as search_module
from population.individual import KILLED, Failed, IndividualId, Purpose, Stage
from population.lineage import DuckLineage
from population.orders import Kill, Pin, carry_out
from population.ports import Ended, Founded, Pinned, Proposed, Selected, Started
from population.search import SearchConfig

SMALL = SearchConfig(mu=4, lambda_=4, max_evaluations=16)
ALIKE = (program(2.0), program(9.0))
"""Two founders of one structure: nothing but a pin keeps the second one among two survivors."""


class Pauses(Orders):
    """Paused from the `first` look on, for `length` looks; keeps what is recorded meanwhile."""

    def __init__(self, first, length):
        super().__init__()
        self.begin, self.end = first, first + length
        self.looks = 0
        self.meanwhile = []

    @property
    def now(self):
        return self.begin <= self.looks < self.end

    @property
    def paused(self):
        self.looks += 1
        return self.now

    def observe(self, record, state):
        if self.now:
            self.meanwhile.append(record)


class At(Orders):
    """Gives each order as soon as a record is made for which `when` says so."""

    def __init__(self, *orders, when):
        super().__init__()
        self.later, self.when = list(orders), when

    def observe(self, record, state):
        if self.later and self.when(record, state):
            self.orders.append(self.later.pop(0))


def run(steering, config=SMALL, evaluation=None, lineage=None, **world):
    lineage = lineage or MemoryLineage()
    world = {"observer": getattr(steering, "observe", lambda record, state: None)} | world
    evaluation = evaluation or FakeEvaluation()
    state = search(config, lineage, evaluation, steering=steering, **world).run(never)
    return state, list(lineage.replay())


def begun(individual, purpose=Purpose.SCREEN, nth=1):
    """Return whether a record is the n-th that trains the individual for this purpose."""
    seen = []

    def when(record, state):
        if isinstance(record, Started) and record.request.individual == individual:
            seen.extend([record.request.purpose] * (record.request.purpose is purpose))
            return len(seen) == nth
        return False

    return when


def kinds(records, kind):
    return [record for record in records if isinstance(record, kind)]


def trained(records, individual):
    return [r.request for r in kinds(records, Started) if r.request.individual == individual]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(search_module, "WAIT_S", 0.0)


@pytest.mark.parametrize("first", [1, 2, 4, 9, 15])
@pytest.mark.parametrize("slots", [1, 3])
def test_while_a_search_is_paused_nothing_begins_and_what_is_in_flight_is_recorded(first, slots):
    steering = Pauses(first, 12)
    state, records = run(steering, evaluation=FakeEvaluation(slots))
    assert not kinds(steering.meanwhile, Started)
    assert not kinds(steering.meanwhile, Proposed)
    in_flight = first > 1 and slots > 1  # a single training ends within one look
    assert len(kinds(steering.meanwhile, Ended)) == (slots - 1 if in_flight else 0)
    assert state.counted == 16
    assert len(kinds(records, Started)) == len(kinds(records, Ended)) == 16


def test_a_search_that_was_paused_finds_what_it_would_have_found():
    assert run(Pauses(5, 9))[1] == run(None)[1]


def test_nobody_is_asked_for_a_program_in_a_pause():
    steering = Pauses(6, 12)

    class Noting(Always):
        def choose(self, history, rng, quick=False):
            asked.append(steering.now)
            return super().choose(history, rng, quick)

    asked = []
    run(steering, portfolio=Noting())
    assert asked
    assert not any(asked)


def test_an_answer_that_comes_in_a_pause_is_recorded_and_waits_to_be_trained():
    paused, answered = threading.Event(), threading.Event()

    class UntilAnswered(Pauses):
        @property
        def paused(self):
            scored = super().paused and not answered.is_set()
            (paused.set if scored else lambda: None)()
            return scored

        def observe(self, record, state):
            super().observe(record, state)
            if paused.is_set() and isinstance(record, Proposed):
                answered.set()

    steering = UntilAnswered(12, 10**6)
    slow = Nudge(slow=True, before=lambda: paused.wait(60))
    state, records = run(steering, variation=slow, evaluation=FakeEvaluation(2))
    first = kinds(records, Proposed)[0]
    assert first in steering.meanwhile
    assert trained(records, first.individual.id)
    assert state.counted == 16


def test_the_time_of_a_pause_does_not_count(monkeypatch):
    hours = [0.0]
    monkeypatch.setattr(search_module.time, "monotonic", lambda: 3600 * hours[0])
    monkeypatch.setattr(search_module.time, "sleep", lambda _: hours.append(hours.pop() + 1))
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=16, max_hours=2)
    state, _ = run(Pauses(6, 12), config)
    assert hours[0] > config.max_hours
    assert state.counted == 16


def test_a_pause_may_last_where_there_is_no_machine(monkeypatch):
    monkeypatch.setattr(search_module, "NO_SLOTS_S", 0.0)
    evaluation = FakeEvaluation()

    class Shrunk(Pauses):
        @property
        def paused(self):
            found = super().paused
            evaluation.slots = 0 if found and not evaluation.running else 1
            return found

    assert run(Shrunk(6, 12), evaluation=evaluation)[0].counted == 16


@pytest.mark.parametrize("slots", [2, 3])
def test_whoever_is_killed_has_failed_is_not_trained_again_and_gives_its_slot_back(slots):
    steering = At(Kill(IndividualId(5)), when=begun(5))
    evaluation = FakeEvaluation(slots)
    state, records = run(steering, evaluation=evaluation)
    (request,) = trained(records, 5)
    outcomes = {r.result.request: r.result.outcome for r in kinds(records, Ended)}
    failed = outcomes[request.id]
    assert isinstance(failed, Failed)
    assert failed.by_hand
    assert failed.stage is not Stage.INFRASTRUCTURE
    assert sum(isinstance(one, Failed) for one in outcomes.values()) == 1
    standing = state.history().standings[5]
    assert (standing.fitness, standing.failures, standing.lost) == (None, 1, 0)
    assert state.counted == 16  # it counts, as any failure does
    assert evaluation.most_running == slots
    assert steering.replies[0].done
    assert folded(records).history() == state.history()


def test_many_kills_end_no_run_and_let_no_slot_rest(monkeypatch):
    monkeypatch.setattr(search_module, "INFRASTRUCTURE_FAILURES_IN_A_ROW", 2)
    monkeypatch.setattr(search_module, "FAILURES_A_SLOT", 0)
    busy = []

    class All(Orders):
        def observe(self, record, state):
            busy.append(len(state.jobs.in_flight))
            if isinstance(record, Started) and record.request.individual > 2:
                self.orders.append(Kill(record.request.individual))

    config = SearchConfig(mu=4, lambda_=4, max_evaluations=30)
    state, records = run(All(), config, FakeEvaluation(3))
    assert state.counted == 30
    assert all(
        request.attempt == 1 and len(trained(records, request.individual)) == 1
        for request in (record.request for record in kinds(records, Started))
        if request.individual > 2
    )
    assert max(busy[-20:]) == 3


def test_whoever_is_killed_keeps_the_scores_that_it_has():
    steering = At(Kill(IndividualId(1)), when=begun(1, nth=2))
    state, records = run(steering, evaluation=FakeEvaluation(2))
    standing = state.history().standings[1]
    assert (len(state.ranking_values(1)), standing.failures) == (1, 1)
    assert standing.ranks
    assert [one.purpose for one in trained(records, 1)].count(Purpose.SCREEN) == 2


def test_a_kill_of_what_is_not_in_flight_or_not_there_changes_nothing():
    steering = At(
        *(Kill(IndividualId(1)), Kill(IndividualId(99)), Pin(IndividualId(99))),
        when=lambda record, state: isinstance(record, Selected),
    )
    state, records = run(steering)
    assert not any(reply.done for reply in steering.replies)
    first, second, third = (reply.says for reply in steering.replies)
    assert first == "nothing of #1 is in flight"
    assert second.startswith("individual 99 does not exist; ids go from 1 to ")
    assert third.startswith("individual 99 does not exist; ids go from 1 to ")
    assert not state.failures
    assert records == run(None)[1]


def test_a_confirmation_is_left_alone_since_another_one_may_wait_for_it():
    one, _ = founded = founders(program(2.0), program(1.0))
    confirmation = replace(request(2, one), purpose=Purpose.CONFIRM)
    evaluation = FakeEvaluation(2)
    evaluation.submit(confirmation)
    state = folded([*map(Founded, founded), Started(confirmation)])
    reply = carry_out(Kill(one.id), state, evaluation, lambda _: None)
    assert (reply.done, reply.says.startswith("#1 is being confirmed")) == (False, True)
    assert not evaluation.killed
    state.apply(Started(request(3, one)))
    evaluation.submit(request(3, one))
    assert carry_out(Kill(one.id), state, evaluation, lambda _: None).done
    assert [killed.id for killed in evaluation.killed] == [3]


@pytest.mark.parametrize("backend", ["memory", "database"])
def test_whoever_is_pinned_stays_at_each_selection_also_when_the_run_goes_on(backend, tmp_path):
    def lineage():
        if backend == "memory":
            return memory
        return DuckLineage.open(tmp_path, IDENTITY)

    memory = MemoryLineage()
    config = SearchConfig(mu=2, lambda_=4, max_evaluations=24)
    steering = At(Pin(IndividualId(2)), when=lambda record, state: isinstance(record, Selected))
    opened = lineage()
    state, records = run(steering, config, lineage=opened, sources=ALIKE)
    pinned = records.index(Pinned(IndividualId(2), True))
    after = kinds(records[pinned:], Selected)
    assert after
    assert all(2 in [who for who, _, _ in one.members] for one in after)
    assert 2 in state.survivors
    assert folded(records).history() == state.history()
    if backend == "database":
        opened.close()
        opened = lineage()
    longer = SearchConfig(mu=2, lambda_=4, max_evaluations=40)
    state, _ = run(None, longer, lineage=opened, sources=ALIKE)
    assert (state.counted, 2 in state.survivors, state.pinned) == (40, True, {2})


def test_without_a_pin_it_would_not_have_stayed_and_without_it_any_more_it_goes():
    config = SearchConfig(mu=2, lambda_=4, max_evaluations=40)
    assert 2 not in run(None, config, sources=ALIKE)[0].survivors
    who = IndividualId(2)
    on_and_off = At(
        *(Pin(who), Pin(who), Pin(who, False), Pin(who, False)),
        when=lambda record, state: isinstance(record, Selected),
    )
    state, records = run(on_and_off, config, sources=ALIKE)
    assert kinds(records, Pinned) == [Pinned(who, True), Pinned(who, False)]
    assert [reply.done for reply in on_and_off.replies] == [True] * 4
    assert [reply.says for reply in on_and_off.replies[1::2]] == [
        "#2 is pinned already",
        "#2 is not pinned",
    ]
    assert 2 not in state.survivors


def test_a_pin_takes_hold_when_its_individual_is_scored():
    config = SearchConfig(mu=1, lambda_=4, max_evaluations=12)
    state, _ = run(Orders([Pin(IndividualId(2))]), config, sources=ALIKE)
    assert state.survivors == (2,)


@pytest.mark.parametrize("individual", [0, -1, "7", 1.0, True, None])
def test_an_order_names_an_id(individual):
    for order in (Kill, Pin):
        with pytest.raises(ValueError, match="from 1"):
            order(individual)


def test_a_reason_of_ones_own_is_not_that_of_a_kill():
    assert Failed(Stage.TRAINING, KILLED, "").by_hand
    assert not Failed(Stage.TRAINING, "crash", "").by_hand
