import itertools
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from fakes import (
    MACHINE,
    FakeEvaluation,
    MemoryLineage,
    Mixed,
    Nudge,
    failed,
    folded,
    never,
    program,
    search,
    value_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from journal import IDENTITY

from population import lookahead as lookahead_module
from population import nursery as nursery_module
from population import rests
from population import search as search_module
from population.errors import EvaluatorError, EvolveError, PoolError, RunError, TaskError
from population.history import Program
from population.individual import EVALUATOR, Failed, Genome, Purpose, Scored, Stage
from population.lineage import DuckLineage
from population.lookahead import MOST_AHEAD
from population.parents import Mode
from population.ports import (
    Abandoned,
    Attempt,
    Ended,
    Founded,
    Proposal,
    Proposed,
    Selected,
    Started,
)
from population.search import SearchConfig
from population.task import Direction

SMALL = SearchConfig(mu=4, lambda_=4, max_evaluations=16, sync=True)
WORSE_MACHINE = Failed(Stage.INFRASTRUCTURE, "lost", "the node went away")


def kinds(records, kind):
    return [record for record in records if isinstance(record, kind)]


def requests(records):
    return [record.request for record in kinds(records, Started)]


def ended_jobs(records):
    """The evaluations that have come back, each as (individual, seed, purpose)."""
    asked = {request.id: request for request in requests(records)}
    ended = (asked[record.result.request] for record in kinds(records, Ended))
    return [(request.individual, request.seed, request.purpose) for request in ended]


def run(config=SMALL, evaluation=None, should_stop=never, records=(), **world):
    lineage = MemoryLineage(list(records))
    evaluation = evaluation or FakeEvaluation()
    state = search(config, lineage, evaluation, **world).run(should_stop)
    return state, lineage.records, evaluation


CRASH = Failed(Stage.TRAINING, "crash", "it raised")


class Broken:
    name, arity, slow = "broken", 1, False

    def propose(self, parents, history, rng):
        raise ZeroDivisionError("division by zero")


class Unpaid(Broken):
    def propose(self, parents, history, rng):
        raise EvolveError("the spending cap of 5 USD is reached; raise --max-cost")


class Same(Broken):
    """Offers a child of one text again and again, now and then a new one."""

    def __init__(self):
        self.numbers = itertools.count()

    def propose(self, parents, history, rng):
        source = program(1.0 if next(self.numbers) % 5 else 1.0 + rng.uniform())
        return Proposal("same", (parents[0].id,), Genome(source), fingerprint=source)


class Choosy(Nudge):
    """Refuses two times in five and makes use of the whole history."""

    def propose(self, parents, history, rng):
        self.before()
        if rng.uniform() < 0.4:
            return Proposal(self.name, (parents[0].id,), None, refusal="not today")
        rng.uniform(size=len(history.standings))
        return super().propose(parents, history, rng)


def uneven():
    calls = itertools.count()
    return lambda: time.sleep(0.012 * (next(calls) % 2))


class OneBroken(FakeEvaluation):
    """Four slots; what the fourth one gets is lost at once."""

    def __init__(self):
        super().__init__(slots=4)
        self.broken = None

    def submit(self, *requests):
        super().submit(*requests)
        if self.broken is None and len(self.running) == 4:
            self.broken = self.running.pop()

    def wait(self, timeout_s):
        if self.broken is not None:
            lost, self.broken = failed(self.broken.id, Stage.INFRASTRUCTURE), None
            return [replace(lost, outcome=WORSE_MACHINE, host="here", device="cuda:3")]
        return super().wait(timeout_s)


class Doomed(Broken):
    def propose(self, parents, history, rng):
        source = f"STRUCTURE = a\nimport nothing_{rng.integers(1 << 40)}"
        return Proposal("doomed", (parents[0].id,), Genome(source), fingerprint=source)


def test_a_run_makes_exactly_as_many_evaluations_as_it_was_given():
    for limit, slots, sync in itertools.product((1, 3, 4, 17, 30), (1, 3), (False, True)):
        config = SearchConfig(mu=4, lambda_=4, max_evaluations=limit, sync=sync)
        state, records, _ = run(config, FakeEvaluation(slots))
        assert state.counted == limit
        assert len(kinds(records, Ended)) == limit


def test_a_search_finds_better_programs_than_its_founders_and_keeps_them():
    state, records, _ = run(SearchConfig(max_evaluations=120), FakeEvaluation(2))
    best = kinds(records, Selected)[-1].members[0]
    assert best[0] == state.survivors[0]
    assert best[1] < 1.8


def test_a_larger_metric_wins_where_the_task_maximizes():
    config = SearchConfig(max_evaluations=120)
    _, records, _ = run(config, FakeEvaluation(2), direction=Direction.MAXIMIZE)
    members = kinds(records, Selected)[-1].members
    assert members[0][1] > 2.3
    assert [value for _, value, _ in members] == sorted((m[1] for m in members), reverse=True)


def test_founders_come_first_and_are_each_evaluated_on_distinct_seeds():
    config = SearchConfig(founder_replicates=3, max_evaluations=12)
    _, records, _ = run(config)
    assert len(kinds(records[:2], Founded)) == 2
    first = requests(records)[:6]
    assert Counter(request.individual for request in first) == {1: 3, 2: 3}
    assert [request.individual for request in first[:2]] == [1, 2]
    assert len({request.seed for request in first}) == 6
    assert {request.shard for request in requests(records)} == {"selection"}


def test_founders_that_are_equal_are_founded_once():
    _, records, _ = run(sources=[program(2.0), program(2.0), program(3.0)])
    assert [record.individual.id for record in kinds(records, Founded)] == [1, 2]


def test_equal_seeds_give_equal_records_whichever_proposal_is_ready_first():
    config = SearchConfig(seed=5, mu=4, lambda_=8, max_evaluations=40, sync=True)
    other = SearchConfig(seed=6, mu=4, lambda_=8, max_evaluations=40, sync=True)
    records = run(config, variation=Choosy())[1]
    trains = FakeEvaluation(may_end=lambda: time.sleep(0.003) is None)
    assert records == run(config, trains, variation=Choosy(before=uneven()))[1]
    assert records != run(other, variation=Choosy())[1]


def test_after_a_cut_at_any_record_nothing_finished_is_evaluated_twice():
    _, whole, _ = run()
    for length in range(len(whole) + 1):
        before = whole[:length]
        state, records, evaluation = run(records=before)
        assert records[:length] == before
        assert state.counted == 16
        assert max(Counter(ended_jobs(records)).values()) == 1
        submitted = [(r.individual, r.seed, r.purpose) for r in evaluation.submitted]
        assert not set(submitted) & set(ended_jobs(before))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_run_that_is_cut_again_and_again_still_ends_exactly(cuts):
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=20)
    records = []
    for share in cuts:
        _, records, _ = run(config, FakeEvaluation(3), records=records)
        records = records[: round(share * len(records))]
    state, records, _ = run(config, FakeEvaluation(3), records=records)
    assert state.counted == 20
    assert max(Counter(ended_jobs(records)).values()) == 1
    assert len({request.id for request in requests(records)}) == len(requests(records))


def test_what_was_in_flight_is_recorded_as_abandoned_and_asked_for_anew():
    _, whole, _ = run()
    cut = next(i for i, record in enumerate(whole) if isinstance(record, Started)) + 1
    _, records, evaluation = run(records=whole[:cut])
    lost = whole[cut - 1].request
    assert records[cut] == Abandoned(lost.id)
    again = evaluation.submitted[0]
    assert (again.individual, again.seed, again.purpose) == (
        lost.individual,
        lost.seed,
        lost.purpose,
    )
    assert (again.id, again.attempt) == (lost.id + 1, 2)


def test_a_finished_run_that_is_started_again_does_nothing():
    _, records, _ = run()
    _, again, evaluation = run(records=records)
    assert again == records
    assert evaluation.submitted == []


def test_a_larger_limit_lets_a_finished_run_go_on():
    _, records, _ = run()
    more = SearchConfig(mu=4, lambda_=4, max_evaluations=24, sync=True)
    state, _, evaluation = run(more, records=records)
    assert (state.counted, len(evaluation.submitted)) == (24, 8)


def test_a_stop_request_leaves_evaluations_unended_for_the_next_run():
    evaluation = FakeEvaluation(3)
    seen = []
    state, records, _ = run(
        evaluation=evaluation,
        should_stop=lambda: len(seen) > 30,
        observer=lambda record, state: seen.append(record),
    )
    assert evaluation.running
    assert len(state.jobs.in_flight) == len(evaluation.running)
    resumed, more, _ = run(records=records)
    assert kinds(more, Abandoned)
    assert resumed.counted == 16


def test_what_has_ended_when_a_stop_is_asked_for_is_still_recorded():
    stops = []
    _, records, _ = run(
        evaluation=FakeEvaluation(4),
        should_stop=lambda: bool(stops),
        observer=lambda record, state: len(state.jobs.in_flight) == 4 and stops.append(len(stops)),
    )
    assert len(kinds(records, Started)) == 4
    assert len(kinds(records, Ended)) == 2


def test_a_stop_amid_the_founders_leaves_the_first_selection_to_the_next_run():
    ended = []
    _, records, _ = run(
        should_stop=lambda: bool(ended),
        observer=lambda record, state: isinstance(record, Ended) and ended.append(record),
    )
    assert not kinds(records, Selected)
    _, more, _ = run(records=records)
    assert kinds(more, Selected)[0].members[0][0] in (1, 2)


@pytest.mark.parametrize("sync", [False, True])
def test_no_more_is_bred_than_the_generations_hold(sync):
    config = SearchConfig(mu=4, lambda_=4, max_generations=3, racing_share=0.0, sync=sync)
    polls = itertools.count()
    evaluation = FakeEvaluation(3, may_end=lambda: time.sleep(0.002) or next(polls) % 5 == 4)
    _, records, _ = run(config, evaluation)
    first = next(i for i, record in enumerate(records) if isinstance(record, Selected))
    early = sum(isinstance(record, Ended) for record in records[:first]) - 4
    born = [r for r in kinds(records, Proposed) if r.individual is not None]
    assert len(born) == 12 + early


def test_no_more_is_proposed_than_can_be_trained():
    # with seed 0 the seventh proposal is a twin of the fifth, if the fourth happens to come last
    config = SearchConfig(seed=1, mu=4, lambda_=4, max_evaluations=10, racing_share=0.0)
    _, whole, _ = run(config)
    last = max(i for i, record in enumerate(whole) if isinstance(record, Proposed))
    for length in (last, last + 1, last + 2, len(whole)):
        _, records, _ = run(config, FakeEvaluation(2), records=whole[:length])
        assert len(kinds(records, Proposed)) == 6
        assert all(record.individual for record in kinds(records, Proposed))


def test_a_search_goes_on_from_its_database_with_the_state_that_it_had(tmp_path):
    def outcome(request):
        if request.id % 11 == 0:
            return WORSE_MACHINE
        return CRASH if request.id % 7 == 0 else value_of(request)

    config = SearchConfig(mu=4, lambda_=4, max_evaluations=30)
    for stop_at in (3, 9, 14, 25, 99):
        evaluation = FakeEvaluation(3, outcome, lambda r: 1.5 if r.id % 9 == 0 else 1.0)
        counts = [0]
        with DuckLineage.open(tmp_path, IDENTITY) as lineage:
            state = search(
                config,
                lineage,
                evaluation,
                Choosy(),
                observer=lambda record, state, counts=counts: counts.append(state.counted),
            ).run(lambda counts=counts, stop_at=stop_at: counts[-1] >= stop_at)
            assert folded(lineage.replay()).history() == state.history()
    assert state.counted == 30
    assert not state.jobs.unsettled


def test_generations_are_survivor_selections_after_each_lambda_births():
    config = SearchConfig(mu=4, lambda_=5, max_generations=3, racing_share=0.0, sync=True)
    _, records, _ = run(config)
    selections = kinds(records, Selected)
    assert [selected.generation for selected in selections] == [0, 1, 2, 3]
    positions = [records.index(selected) for selected in selections]
    for start, end in itertools.pairwise(positions):
        assert len(kinds(records[start:end], Ended)) == 5


def test_a_strict_generation_is_bred_from_the_previous_selection_alone():
    config = SearchConfig(mu=4, lambda_=4, max_generations=4, sync=True)
    _, records, _ = run(config, FakeEvaluation(3))
    survivors = ()
    for record in records:
        if isinstance(record, Selected):
            survivors = {member for member, _, _ in record.members}
        elif isinstance(record, Proposed):
            assert set(record.proposal.parents) <= survivors


def test_without_strictness_a_slot_is_filled_while_a_generation_still_trains():
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=40)
    starts = []

    def observe(record, state):
        if isinstance(record, Selected) and record.generation:
            starts.append(len(state.jobs.in_flight))

    run(config, FakeEvaluation(3), observer=observe)
    assert max(starts) > 0


def test_proposals_are_asked_for_before_slots_are_free():
    called = []
    evaluation = FakeEvaluation(2)
    polls = itertools.count()

    def next_one_is_prepared():
        assert next(polls) < 50_000, "no proposal was prepared while all slots trained"
        time.sleep(0)
        bred = {r.individual for r in evaluation.submitted} - {1, 2}
        founding = len(evaluation.submitted) < 5
        return founding or len(called) >= min(len(bred) + 1, 12)

    evaluation.may_end = next_one_is_prepared
    config = SearchConfig(max_evaluations=16, racing_share=0.0)
    state, _, _ = run(
        config, evaluation, variation=Nudge(slow=True, before=lambda: called.append(1))
    )
    assert state.counted == 16


def test_a_slow_operator_does_not_hold_up_the_others():
    ten_are_done = threading.Event()
    calls = itertools.count()

    def third_is_slow():
        if next(calls) == 2:
            assert ten_are_done.wait(60)

    def observe(record, state):
        if state.counted >= 14:
            ten_are_done.set()

    config = SearchConfig(max_evaluations=20)
    state, _, _ = run(
        config,
        FakeEvaluation(2),
        variation=Nudge(slow=True, before=third_is_slow),
        observer=observe,
    )
    assert ten_are_done.is_set()
    assert state.counted == 20


def test_never_more_evaluations_run_than_there_are_slots():
    _, _, evaluation = run(SearchConfig(max_evaluations=40), FakeEvaluation(3))
    assert evaluation.most_running == 3


def test_a_candidate_that_fails_is_a_birth_and_the_run_goes_on():
    state, records, _ = run(variation=Doomed())
    assert state.counted == 16
    assert set(state.survivors) == {1, 2}
    assert sum(isinstance(r.result.outcome, Failed) for r in kinds(records, Ended)) >= 8


def test_programs_that_are_equal_are_never_trained_twice():
    config = SearchConfig(max_evaluations=16, racing_share=0.0)
    _, records, evaluation = run(config, FakeEvaluation(2), variation=Same())
    bred = [r.genome.source for r in evaluation.submitted if r.individual > 2]
    assert len(bred) == len(set(bred))
    refusals = [r for r in kinds(records, Proposed) if r.individual is None]
    assert any("it equals individual" in r.proposal.refusal for r in refusals)
    assert all(r.proposal.genome is None for r in refusals)


def test_an_operator_that_fails_is_recorded_as_refused_and_the_run_ends_with_the_reason():
    lineage = MemoryLineage()
    with pytest.raises(RunError, match=r"200 proposals in a row .* ZeroDivisionError"):
        search(SMALL, lineage, FakeEvaluation(), Broken()).run(never)
    refused = kinds(lineage.records, Proposed)
    assert len(refused) >= 200
    assert len(kinds(lineage.records, Started)) == len(kinds(lineage.records, Ended))
    assert kinds(lineage.records, Selected)


def test_a_fresh_start_is_given_after_a_run_of_refusals():
    lineage = MemoryLineage()
    with pytest.raises(RunError):
        search(SMALL, lineage, FakeEvaluation(), Broken()).run(never)
    state, _, _ = run(records=lineage.records)
    assert state.counted == 16


def test_an_operator_that_names_a_remedy_is_heard():
    with pytest.raises(EvolveError, match="spending cap"):
        run(variation=Unpaid())


def test_a_crossover_without_enough_parents_is_refused_and_not_forced():
    with pytest.raises(RunError, match="it needs 2 scored parents and there are 1"):
        run(variation=Nudge(arity=2), sources=[program(2.0)])


def test_a_crossover_is_told_of_as_many_parents_as_it_wants():
    _, records, _ = run(variation=Nudge(arity=2))
    assert all(len(r.proposal.parents) == 2 for r in kinds(records, Proposed))


def test_when_every_founder_fails_the_error_names_each_reason_and_where_to_look():
    with pytest.raises(TaskError) as error:
        run(sources=["nothing", "nil"])
    for part in ("program-1: training crash", "program-2: training crash", "evolve show"):
        assert str(error.value).count(part) == 1  # each was trained twice


def test_where_every_founder_has_failed_nobody_is_asked_for_children():
    lineage = MemoryLineage()
    broken = FakeEvaluation(4, outcome=lambda _: Failed(Stage.TRAINING, "crash", "it raised"))
    with pytest.raises(TaskError):
        search(replace(SMALL, sync=False), lineage, broken).run(never)
    assert not [r for r in kinds(lineage.records, Proposed) if r.proposal.refusal]


def test_a_mended_founder_saves_a_run_whose_founders_all_failed():
    lineage = MemoryLineage()
    with pytest.raises(TaskError):
        search(SMALL, lineage, FakeEvaluation(), sources=["nothing"]).run(never)
    state, _, _ = run(records=lineage.records, sources=["nothing", program(2.0)])
    assert state.counted == 16
    assert state.survivors


def test_one_founder_that_works_is_enough():
    state, _, _ = run(sources=["nothing", program(2.0)])
    assert state.counted == 16


def test_contenders_earn_replicates_on_fresh_seeds_within_their_share():
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=60, racing_share=0.05, seed=2)
    _, records, _ = run(config, FakeEvaluation(2))
    races = [r for r in requests(records) if r.purpose is Purpose.RACE]
    assert 0 < len(races) <= 3
    seeds = [(r.individual, r.seed) for r in requests(records)]
    assert len(seeds) == len(set(seeds))
    for number, record in enumerate(requests(records), start=1):
        raced = sum(r.purpose is Purpose.RACE for r in requests(records)[:number])
        assert raced <= 0.05 * number, record


def test_a_contended_evaluation_is_marked_and_run_again_on_the_same_seed():
    slow = {9}
    evaluation = FakeEvaluation(
        outcome=lambda r: Scored(99.0) if r.id in slow else value_of(r),
        reference_s=lambda r: 1.5 if r.id in slow else 1.0,
    )
    state, records, _ = run(evaluation=evaluation)
    marked = [r.result.request for r in kinds(records, Ended) if r.result.contended]
    assert marked == [9]
    first, second = (r for r in requests(records) if r.id in (9, 10))
    assert (first.individual, first.seed) == (second.individual, second.seed)
    assert second.attempt == 2
    assert state.counted == 16
    assert len(kinds(records, Ended)) == 17
    assert all(s.fitness is None or s.fitness > -90 for s in state.history().standings.values())


def test_a_lost_node_costs_an_attempt_and_no_evaluation():
    evaluation = FakeEvaluation(2, lambda r: WORSE_MACHINE if r.id % 4 == 0 else value_of(r))
    state, records, _ = run(evaluation=evaluation)
    assert state.counted == 16
    assert len(kinds(records, Ended)) > 16


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(rests, "PAUSE_S", 0.0)


def test_infrastructure_that_fails_all_the_time_ends_the_run_with_its_reason(no_pauses):
    healthy = itertools.count()
    evaluation = FakeEvaluation(
        outcome=lambda r: value_of(r) if next(healthy) < 6 else WORSE_MACHINE
    )
    with pytest.raises(PoolError, match="the node went away"):
        run(evaluation=evaluation)


def test_an_evaluator_that_never_worked_ends_the_run_at_once_and_one_that_did_does_not(no_pauses):
    fault = Failed(Stage.INFRASTRUCTURE, EVALUATOR, "it raised KeyError")
    lineage, ran = MemoryLineage(), itertools.count()
    broken = FakeEvaluation(2, lambda _: next(ran) < 99 and fault)
    with pytest.raises(EvaluatorError, match="it raised KeyError"):
        search(SMALL, lineage, broken).run(never)
    assert next(ran) <= 2
    state, records, _ = run(
        evaluation=FakeEvaluation(2, lambda r: fault if r.id == 7 else value_of(r))
    )
    assert state.counted == 16
    assert [r.result.request for r in kinds(records, Ended) if r.result.outcome == fault] == [7]


def test_an_outage_ends_a_call_and_costs_no_candidate(no_pauses):
    broken = itertools.count()
    outage = FakeEvaluation(outcome=lambda r: value_of(r) if next(broken) < 9 else WORSE_MACHINE)
    lineage = MemoryLineage()
    with pytest.raises(PoolError):
        search(SearchConfig(max_evaluations=30), lineage, outage).run(never)
    state, _, _ = run(SearchConfig(max_evaluations=60), records=lineage.records)
    assert all(one.evaluations and not one.lost for one in state.history().standings.values())


def test_after_a_loss_a_machine_that_worked_is_left_alone_for_longer_each_time(monkeypatch):
    clock, slept = itertools.count(step=1e-6), []
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) + sum(slept))
    monkeypatch.setattr(search_module.time, "sleep", slept.append)
    begun = []

    def outcome(request):
        begun.append(sum(slept))
        return value_of(request) if len(begun) < 9 or len(begun) > 13 else WORSE_MACHINE

    state, _, _ = run(evaluation=FakeEvaluation(outcome=outcome))
    waits = [after - before for before, after in itertools.pairwise(begun)]
    assert [round(wait) for wait in waits[8:13]] == [1, 2, 4, 8, 16]
    assert sum(waits[:8]) == sum(waits[13:]) == 0
    assert not any(one.lost for one in state.history().standings.values())


def test_one_device_that_fails_at_once_costs_no_candidate_and_does_not_end_the_run(monkeypatch):
    monkeypatch.setattr(time, "monotonic", itertools.count().__next__)
    evaluation = OneBroken()
    state, records, _ = run(SearchConfig(max_evaluations=30), evaluation)
    lost = [r for r in kinds(records, Ended) if r.result.outcome == WORSE_MACHINE]
    assert state.counted == 30
    assert 3 <= len(lost) < 30
    assert not any(standing.lost for standing in state.history().standings.values())


def test_a_host_that_dies_with_most_of_the_slots_does_not_end_the_run():
    class HalfDies(FakeEvaluation):
        def wait(self, timeout_s):
            results = super().wait(timeout_s)
            if len(self.submitted) < 64:
                return results
            dying, self.slots = self.slots == 64, 32
            lost = [self.running.pop() for _ in range(32)] if dying else []
            return results + [replace(failed(r.id, Stage.INFRASTRUCTURE), host="b") for r in lost]

    config = SearchConfig(max_evaluations=100, founder_replicates=32)
    state, _, evaluation = run(config, HalfDies(64))
    assert state.counted == 100
    assert evaluation.slots == 32


def test_an_outage_while_the_founders_train_is_not_held_against_them():
    broken = FakeEvaluation(outcome=lambda _: WORSE_MACHINE)
    lineage = MemoryLineage()
    with pytest.raises(PoolError):
        search(SMALL, lineage, broken).run(never)
    state, _, _ = run(records=lineage.records)
    assert [len(state.ranking_values(one)) >= 2 for one in state.founders] == [True, True]


def test_a_run_without_room_anywhere_waits_and_then_says_so(monkeypatch):
    waited = []
    monkeypatch.setattr(search_module.time, "sleep", waited.append)
    monkeypatch.setattr(search_module, "NO_SLOTS_S", 0.05)
    with pytest.raises(PoolError, match="no machine has had room"):
        run(evaluation=FakeEvaluation(slots=0))
    assert waited
    assert set(waited) == {search_module.WAIT_S}


def test_generations_are_whole_however_often_the_run_is_stopped():
    config = SearchConfig(mu=4, lambda_=8, max_generations=4, racing_share=0.0)
    whole = run(config)[0]
    records = []
    for _ in range(100):
        ended = itertools.count()
        state, records, _ = run(config, records=records, should_stop=lambda e=ended: next(e) > 5)
        if state.selections > 4:
            break
    assert len(state.individuals) == len(whole.individuals)


def test_what_was_prepared_is_recorded_where_the_infrastructure_ends_the_run(no_pauses):
    healthy, calls, told_to_stop = itertools.count(), itertools.count(), threading.Event()

    def late_ones_take_their_time():
        if next(calls) >= 2:
            assert told_to_stop.wait(60)

    evaluation = FakeEvaluation(
        outcome=lambda r: value_of(r) if next(healthy) < 4 else WORSE_MACHINE
    )
    lineage = MemoryLineage()
    slow = Nudge(slow=True, before=late_ones_take_their_time)
    config = SearchConfig(max_evaluations=16, infrastructure_retries=100)
    with pytest.raises(PoolError):
        search(config, lineage, evaluation, slow, on_stop=told_to_stop.set).run(never)
    refusals = [one.proposal.refusal for one in kinds(lineage.records, Proposed)]
    assert "the run ended before it could be trained" in refusals


def test_the_observer_sees_each_new_record_with_the_state_that_holds_it():
    seen = []
    _, records, _ = run(observer=lambda record, state: seen.append((record, state.counted)))
    assert [record for record, _ in seen] == records
    assert seen[-1][1] == 16


def test_the_final_state_is_the_fold_of_the_lineage():
    state, records, _ = run(SearchConfig(max_evaluations=30), FakeEvaluation(2))
    assert folded(records).history() == state.history()


def test_hours_end_a_run_after_what_is_in_flight():
    config = SearchConfig(max_hours=1e-9)
    state, records, _ = run(config)
    assert len(kinds(records, Started)) == len(kinds(records, Ended))
    assert not state.jobs.in_flight


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mu", 0),
        ("lambda_", 0),
        ("seed", -1),
        ("founder_replicates", 0),
        ("racing_share", 0.3),
        ("max_evaluations", 0),
        ("max_hours", -1.0),
        ("contended_retries", -1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(RunError, match=field):
        SearchConfig(**{field: value})


# Operators that take their time


@pytest.fixture
def impatient(monkeypatch):
    """Look often whether to stop, and wait briefly for who gives up."""
    monkeypatch.setattr(search_module, "WAIT_S", 0.002)
    monkeypatch.setattr(nursery_module, "WAIT_S", 0.002)
    monkeypatch.setattr(nursery_module, "GIVE_UP_S", 0.1)


class Slow(Nudge):
    """Waits until it may go on, and counts who waits."""

    def __init__(self, may_go_on=None):
        super().__init__("slow", slow=True, before=self.wait)
        self.may_go_on = may_go_on or threading.Event()
        self.waiting = itertools.count()
        self.asked = 0

    def wait(self):
        self.asked = next(self.waiting) + 1
        assert self.may_go_on.wait(60)


class Nothing(Broken):
    """A quick operator that has nothing to offer."""

    def propose(self, parents, history, rng):
        return Proposal("nothing", (parents[0].id,), None, refusal="nothing is left to tune")


def by_operator(records):
    return Counter(r.individual.operator for r in kinds(records, Proposed) if r.individual)


@pytest.mark.parametrize(("slots", "births"), [(1, 30), (10, 120)])
def test_a_free_slot_never_waits_for_a_slow_operator_however_long_that_takes(slots, births):
    slow = Slow()

    def observe(record, state):
        if len(state.individuals) > births:
            slow.may_go_on.set()

    config = SearchConfig(max_evaluations=births + 120, racing_share=0.0)
    mixed = Mixed(slow)
    _, records, _ = run(config, FakeEvaluation(slots), portfolio=mixed, observer=observe)
    assert by_operator(records)["nudge"] >= births - 2
    assert by_operator(records)["slow"] > 0


def test_a_starved_search_looks_further_ahead_up_to_a_bound():
    slow, pending = Slow(), []

    def observe(record, state):
        pending.append(len(made._nursery) if hasattr(made, "_nursery") else 0)
        if len(state.individuals) > 40:
            slow.may_go_on.set()

    config = SearchConfig(max_evaluations=120, racing_share=0.0)
    made = search(
        config, MemoryLineage(), FakeEvaluation(2), portfolio=Mixed(slow), observer=observe
    )
    made.run(never)
    assert MOST_AHEAD * 2 - 1 <= max(pending) <= MOST_AHEAD * 2
    assert slow.asked > 2


def after(looks, event):
    """Return a `should_stop` that never says so and sets an event when it has been asked a while."""
    count = itertools.count(1)
    return lambda: next(count) == looks and event.set()


def test_a_strict_generation_is_not_filled_in(impatient):
    mixed = Mixed(Slow())
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=24, sync=True)
    _, records, _ = run(
        config, FakeEvaluation(3), should_stop=after(40, mixed.slow.may_go_on), portfolio=mixed
    )
    assert mixed.fill_ins == 0
    assert set(by_operator(records)) == {"slow"}


def test_quick_operators_with_nothing_to_offer_end_no_search_that_awaits_an_answer(
    impatient, monkeypatch
):
    monkeypatch.setattr(nursery_module, "REFUSALS_IN_A_ROW", 2)
    monkeypatch.setattr(lookahead_module, "FILL_IN_PAUSE_S", 0.002)
    mixed = Mixed(Slow(), Nothing())
    seen = []

    def observe(record, state):
        if isinstance(record, Proposed):
            seen.append(record.proposal.operator)
            if len(seen) == 4:
                mixed.slow.may_go_on.set()

    config = SearchConfig(max_evaluations=40, racing_share=0.0)
    made = search(config, MemoryLineage(), FakeEvaluation(2), portfolio=mixed, observer=observe)
    assert made.run(never).counted == 40
    assert seen[:4] == ["nothing"] * 4


class OfTheSecond(Nudge):
    """An operator that has used up all programs but the second founder."""

    def propose(self, parents, history, rng):
        if parents[0].id != 2:
            return Proposal("nudge", (parents[0].id,), None, refusal="it has no other child")
        return super().propose(parents, history, rng)


def test_a_population_whose_survivors_are_used_up_breeds_from_all_who_have_a_score():
    world = {
        "sources": tuple(program(2.0 + n, "ab"[n == 1]) for n in range(4)),
        "variation": OfTheSecond(),
    }
    few = SearchConfig(mu=1, lambda_=2, max_evaluations=12, racing_share=0.0)
    state, _, _ = run(few, **world)
    assert state.counted == 12
    with pytest.raises(RunError, match="200 proposals in a row"):
        run(replace(few, mode=Mode.GREEDY), **world)


def test_slow_operators_that_are_always_refused_still_end_the_search():
    mixed = Mixed(Nothing(), Nothing())
    mixed.slow.slow = True
    with pytest.raises(RunError, match="200 proposals in a row"):
        run(portfolio=mixed, config=SearchConfig(max_evaluations=16))


# The end


class Asking(Slow):
    """An operator that pays before it waits, as for an answer."""

    def propose(self, parents, history, rng):
        self.wait()
        attempts = (Attempt("edit", "stopped: the run has ended", cost_usd=0.25, model="m"),)
        return Proposal("asking", (parents[0].id,), None, refusal="stopped", attempts=attempts)


def test_at_a_stop_whatever_waits_gives_up_once_and_its_cost_is_recorded():
    asking, stops = Asking(), []

    def on_stop():
        stops.append(asking.asked)
        asking.may_go_on.set()

    state, records, _ = run(
        SearchConfig(max_evaluations=40),
        FakeEvaluation(2),
        should_stop=lambda: asking.asked >= 2,
        portfolio=Mixed(asking),
        on_stop=on_stop,
    )
    assert len(stops) == 1
    asked = [r.proposal for r in kinds(records, Proposed) if r.proposal.operator == "asking"]
    assert len(asked) == asking.asked
    assert all(proposal.refusal == "stopped" for proposal in asked)
    assert sum(a.cost_usd for p in asked for a in p.attempts) == 0.25 * asking.asked
    assert state.offers.tallies["asking"].refused == asking.asked


def test_what_gives_up_too_slowly_is_left_and_what_is_ready_behind_it_recorded(impatient):
    asking, late = Asking(), threading.Event()

    class Mute(Slow):
        def propose(self, parents, history, rng):
            self.wait()
            return Proposal("mute", (parents[0].id,), None, refusal="late")

    mute = Mute(late)
    order = itertools.count()

    class First:
        def choose(self, history, rng, quick=False):
            return Mixed(mute if next(order) == 0 else asking).choose(history, rng)

    _, records, _ = run(
        SearchConfig(mu=4, lambda_=4, max_evaluations=40, sync=True),
        FakeEvaluation(2),
        should_stop=lambda: mute.asked > 0 and asking.asked > 0,
        portfolio=First(),
        on_stop=asking.may_go_on.set,
    )
    late.set()
    operators = Counter(r.proposal.operator for r in kinds(records, Proposed))
    assert operators == {"asking": asking.asked}


def test_at_its_limit_a_search_waits_for_what_it_has_asked_and_begins_nothing_new(impatient):
    asking, stops, ends, looks = Asking(), [], [], itertools.count()

    def look():
        if asking.asked >= 2:
            made._deadline = 0.0  # its hours are over
            if next(looks) > 20:
                asking.may_go_on.set()
        return False

    lineage = MemoryLineage()
    config = SearchConfig(max_evaluations=99)
    made = search(
        config,
        lineage,
        FakeEvaluation(2),
        portfolio=Mixed(asking),
        on_stop=lambda: stops.append(1),
    )
    made.on_end = lambda awaited: ends.append(asking.asked)
    made.run(look)
    assert stops == []
    assert ends == [asking.asked]
    asked = [r for r in kinds(lineage.records, Proposed) if r.proposal.operator == "asking"]
    assert len(asked) == asking.asked >= 2


def test_a_search_at_its_end_gives_up_an_answer_that_takes_too_long(impatient, monkeypatch):
    monkeypatch.setattr(nursery_module, "LEFTOVERS_S", 0.1)
    asking, stops = Asking(), []

    def on_stop():
        stops.append(asking.asked)
        asking.may_go_on.set()

    def look():
        if asking.asked >= 2:
            made._deadline = 0.0  # its hours are over
        return False

    made = search(
        SearchConfig(max_evaluations=99),
        MemoryLineage(),
        FakeEvaluation(2),
        portfolio=Mixed(asking),
        on_stop=on_stop,
    )
    awaited = []
    made.on_end = awaited.append
    made.run(look)
    assert stops == awaited == [asking.asked]


# What is kept with a child, and who breeds


def test_a_child_keeps_the_version_of_program_md_that_its_proposal_was_made_under():
    slow, versions = Slow(), itertools.count()
    texts = {}

    def read():
        text = f"version {next(versions)}"
        return texts.setdefault(text, Program(text, f"sha of {text}"))

    shown = {}

    class Watching(Slow):
        def propose(self, parents, history, rng):
            shown[history.proposal] = history.program.sha256
            return super().propose(parents, history, rng)

    slow = Watching()

    def observe(record, state):
        if len(state.individuals) > 10:
            slow.may_go_on.set()

    config = SearchConfig(max_evaluations=40)
    _, records, _ = run(
        config, FakeEvaluation(2), portfolio=Mixed(slow), observer=observe, read=read
    )
    born = [r.individual for r in kinds(records, Proposed) if r.individual]
    slowly = [one for one in born if one.operator == "slow"]
    assert slowly
    assert all(one.program_sha256 == shown[one.proposal] for one in slowly)
    assert len({one.program_sha256 for one in born}) == len(born)


def parents_by_time(records):
    """Yield with each child's parents the scores that were known when it was recorded."""
    scores, asked = {}, {}
    for record in records:
        if isinstance(record, Started):
            asked[record.request.id] = record.request.individual
        elif isinstance(record, Ended) and isinstance(record.result.outcome, Scored):
            scores.setdefault(asked[record.result.request], record.result.outcome.value)
        elif isinstance(record, Proposed) and record.individual:
            yield record.individual.parents, dict(scores)


def test_a_greedy_search_breeds_from_the_best_alone():
    config = SearchConfig(
        mode=Mode.GREEDY, max_evaluations=40, racing_share=0.0, sync=True, lambda_=1
    )
    _, records, _ = run(config)
    parents = [parents for parents, _ in parents_by_time(records)]
    assert all(len(one) == 1 for one in parents)
    assert len(set(parents)) > 3
    for (parent,), scores in parents_by_time(records):
        assert scores[parent] <= min(scores.values()) + 0.1


def test_independent_samples_breed_from_the_best_founder_whatever_came_of_it():
    config = SearchConfig(mode=Mode.BEST_OF, max_evaluations=40)
    state, records, _ = run(config, FakeEvaluation(2))
    assert {parents for parents, _ in parents_by_time(records)} == {(1,)}
    assert state.survivors[0] not in (1, 2)


def test_what_slow_operators_made_is_recorded_at_once_and_trained_after_a_kill(impatient):
    slow, lineage = Slow(), MemoryLineage()
    slow.may_go_on.set()
    evaluation = FakeEvaluation(1)
    config = SearchConfig(max_evaluations=30, racing_share=0.0)

    def unstarted():
        started = {r.request.individual for r in kinds(lineage.records, Started)}
        born = {r.individual.id for r in kinds(lineage.records, Proposed) if r.individual}
        return born - started

    def trains_for_ever():
        evaluation.may_end = lambda: len(kinds(lineage.records, Proposed)) == 0
        return len(unstarted()) >= 2

    search(config, lineage, evaluation, portfolio=Mixed(slow)).run(trains_for_ever)
    waiting = unstarted()
    assert len(waiting) >= 2
    state = search(config, lineage, FakeEvaluation(1), portfolio=Mixed(slow)).run(never)
    assert waiting <= set(state.individuals)
    assert unstarted() == set()


def elsewhere(**changes):
    """An evaluation on a machine whose scores do not compare with those of the usual one."""

    class Elsewhere(FakeEvaluation):
        def wait(self, timeout_s):
            machine = replace(MACHINE, torch="2.14")
            return [replace(one, comparability=machine) for one in super().wait(timeout_s)]

    return Elsewhere(**changes)


def test_a_run_that_goes_on_where_its_scores_do_not_compare_ends_and_says_what_differs():
    _, records, _ = run(replace(SMALL, max_evaluations=10))
    lineage = MemoryLineage(list(records))
    with pytest.raises(RunError, match=r"torch 2\.14, not 2\.13.*--from"):
        search(SMALL, lineage, elsewhere()).run(never)
    assert len(kinds(lineage.records, Ended)) == len(kinds(records, Ended)) + 4


def test_a_run_whose_scores_come_from_two_kinds_of_machine_goes_on():
    class Both(FakeEvaluation):
        def wait(self, timeout_s):
            return [
                replace(one, comparability=replace(MACHINE, device="other"))
                if one.request % 3 == 0
                else one
                for one in super().wait(timeout_s)
            ]

    _, records, _ = run(replace(SMALL, max_evaluations=10), Both())
    state, _, _ = run(SMALL, Both(), records=records)
    assert state.counted == 16


def test_founders_are_trained_again_where_most_scores_come_to_be_of_another_machine():
    _, records, _ = run(replace(SMALL, max_evaluations=3))
    state, _, evaluation = run(replace(SMALL, max_evaluations=14), elsewhere(), records=records)
    again = Counter(asked.individual for asked in evaluation.submitted)
    assert again[1] >= 2 and again[2] >= 2
    assert all(len(state.ranking_values(one)) >= 2 for one in state.founders)


def begun_before_a_score(records):
    """Individuals whose training began before anything had ended."""
    first = next(n for n, record in enumerate(records) if isinstance(record, Ended))
    return [request.individual for request in requests(records[:first])]


def test_slots_that_are_left_beside_the_founders_are_bred_for_from_them():
    config = replace(SMALL, sync=False, max_evaluations=40)
    _, records, _ = run(config, FakeEvaluation(slots=10))
    begun = begun_before_a_score(records)
    assert Counter(begun)[1] == Counter(begun)[2] == 2
    assert len(begun) == 10
    born = [r.individual for r in kinds(records, Proposed) if r.individual and r.individual.id <= 8]
    assert {one.parents for one in born} == {(1,), (2,)}


@pytest.mark.parametrize("changes", [{"mode": Mode.GREEDY}, {"mode": Mode.FOUNDER}, {"sync": True}])
def test_who_breeds_from_the_best_alone_or_in_strict_generations_waits_for_the_founders(changes):
    config = replace(SMALL, **{"sync": False, "max_evaluations": 40} | changes)
    _, records, _ = run(config, FakeEvaluation(slots=10))
    assert set(begun_before_a_score(records)) == {1, 2}


def test_refusals_from_before_any_score_are_few_and_end_no_search():
    class Learned(Nudge):
        def propose(self, parents, history, rng):
            if all(one.fitness is None for one in history.standings.values()):
                return Proposal(self.name, (parents[0].id,), None, refusal="too early")
            return super().propose(parents, history, rng)

    config = replace(SMALL, sync=False)
    state, records, _ = run(config, FakeEvaluation(slots=10), variation=Learned())
    early = [record for record in kinds(records, Proposed) if record.proposal.refusal]
    assert 0 < len(early) <= 20
    assert state.counted == 16


def test_slow_operators_alone_are_asked_beside_the_founders_once_for_each_slot_at_most(impatient):
    slow = Slow()
    asked = []

    def stop():
        asked.append(slow.asked)
        return len(asked) > 20

    evaluation = FakeEvaluation(slots=6, may_end=lambda: False)
    run(replace(SMALL, sync=False), evaluation, stop, variation=slow)
    slow.may_go_on.set()
    assert 0 < max(asked) <= 6
