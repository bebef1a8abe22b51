from dataclasses import replace

import numpy as np
import pytest
from fakes import (
    MACHINE,
    FakeEvaluation,
    MemoryLineage,
    Nudge,
    Wishes,
    never,
    program,
    search,
    value_of,
)

from population.errors import RunError
from population.individual import Failed, Genome, Purpose, Scored, Stage
from population.ports import INJECT, Ended, Proposal, Selected, Started
from population.rungs import LATEST, Rungs, is_let_through
from population.search import SearchConfig
from population.task import Direction

OTHER = replace(MACHINE, device="other")
LADDER = SearchConfig(mu=4, lambda_=4, max_evaluations=40, rung=0.2)


def run(config=LADDER, evaluation=None, records=(), should_stop=never, **world):
    lineage = MemoryLineage(list(records))
    evaluation = evaluation or FakeEvaluation()
    state = search(config, lineage, evaluation, **world).run(should_stop)
    return state, lineage.records, evaluation


class Drawn(Nudge):
    """Offers programs that are no better for being later."""

    def propose(self, parents, history, rng):
        source = program(rng.normal(3.0, 0.1))
        return Proposal("drawn", (parents[0].id,), Genome(source), fingerprint=source)


def asked(records, purpose):
    return [
        record.request.individual
        for record in records
        if isinstance(record, Started) and record.request.purpose is purpose
    ]


def test_a_quarter_of_the_latest_newcomers_is_let_through():
    before = [float(n) for n in range(16)]
    assert [is_let_through(fitness, before) for fitness in (10.5, 11.5, 12.5)] == [
        False,
        True,
        True,
    ]
    rng = np.random.default_rng(0)
    drawn = list(rng.normal(size=2000))
    passed = [is_let_through(one, drawn[:n]) for n, one in enumerate(drawn)]
    assert np.mean(passed) == pytest.approx(5 / 17, abs=0.02)  # a quarter, rounded up


def test_the_first_four_are_let_through_whatever_they_are_worth():
    assert [is_let_through(-9.0, [0.0] * n) for n in (0, 3, 4)] == [True, True, False]


def test_newcomers_are_compared_with_the_latest_ones_alone():
    once_better = [5.0] * 100 + [0.0] * LATEST
    assert is_let_through(1.0, once_better)


def test_short_trainings_of_different_machines_are_not_compared():
    rungs = Rungs(Direction.MINIMIZE)
    for who in range(8):
        rungs.judge(MACHINE, who, 1.0)
    assert not rungs.judge(MACHINE, 8, 2.0)
    assert rungs.judge(OTHER, 9, 2.0)


def test_where_larger_values_are_better_they_are_let_through():
    up, down = Rungs(Direction.MAXIMIZE), Rungs(Direction.MINIMIZE)
    for rungs in (up, down):
        for who in range(8):
            rungs.judge(MACHINE, who, 1.0)
    assert up.judge(MACHINE, 8, 2.0) and not down.judge(MACHINE, 8, 2.0)


def test_what_a_stopped_program_would_have_scored_is_read_off_a_line():
    rungs = Rungs(Direction.MINIMIZE)
    shorts = [3.0, 3.2, 3.4, 3.6, 3.9, 3.05]
    for who, short in enumerate(shorts):
        rungs.judge(MACHINE, who, short)
    assert rungs.has_stopped(4) and not rungs.has_stopped(5)
    whole = {who: -(short - 1.0) for who, short in enumerate(shorts) if who != 4}
    assert rungs.expected(whole) == {4: pytest.approx(-2.9)}


def test_it_is_expected_to_be_no_better_than_the_middle_of_those_that_went_on():
    rungs = Rungs(Direction.MINIMIZE)
    for who, short in enumerate([3.6, 3.4, 3.2, 3.0, 3.3]):
        rungs.judge(MACHINE, who, short)
    assert rungs.has_stopped(4)
    misleading = {0: -2.0, 1: -2.2, 2: -2.4, 3: -2.6}  # worse when short, better in full
    assert rungs.expected(misleading) == {4: pytest.approx(-2.3)}


def test_nothing_is_expected_while_few_were_trained_both_ways():
    rungs = Rungs(Direction.MINIMIZE)
    for who, short in enumerate([3.0, 3.1, 3.2, 3.3, 3.9]):
        rungs.judge(MACHINE, who, short)
    assert rungs.expected({0: -2.0, 1: -2.1, 2: -2.2}) == {}


def test_newcomers_are_trained_shortly_first_and_in_full_only_where_they_are_let_through():
    state, records, _ = run(replace(LADDER, max_evaluations=60), variation=Drawn())
    short, full = asked(records, Purpose.RUNG), asked(records, Purpose.SCREEN)
    assert sorted(short) == sorted(set(state.individuals) - set(state.founders))
    assert set(full) - set(state.founders) == state.rungs.passed
    assert 0.2 < len(state.rungs.passed) / len(short) < 0.4
    firsts = {}
    for record in records:
        if isinstance(record, Started):
            firsts.setdefault(record.request.individual, record.request.purpose)
    assert {firsts[one] for one in short} == {Purpose.RUNG}


def test_without_a_rung_nobody_is_trained_shortly():
    _, records, _ = run(replace(LADDER, rung=None))
    assert asked(records, Purpose.RUNG) == []


def test_founders_and_programs_from_outside_are_trained_in_full():
    state, records, _ = run(injections=Wishes([program(2.5, "c")], parents=(1,)))
    injected = [who for who, one in state.individuals.items() if one.operator == INJECT]
    assert len(injected) == 1
    assert not {*injected, *state.founders} & set(asked(records, Purpose.RUNG))


def test_a_short_training_ranks_nobody():
    def misleading(request):
        return Scored(-99.0) if request.purpose is Purpose.RUNG else value_of(request)

    state, records, _ = run(evaluation=FakeEvaluation(outcome=misleading))
    standings = state.history().standings
    stopped = [one for one in standings.values() if one.stopped]
    assert all(one.fitness is None for one in stopped)
    assert all(value > 0 for values in map(state.ranking_values, standings) for value in values)
    members = {who for one in records if isinstance(one, Selected) for who, _, _ in one.members}
    assert not members & {one.individual.id for one in stopped}
    assert not {p for one in standings.values() for p in one.individual.parents} & {
        one.individual.id for one in stopped
    }


def test_a_short_training_counts_as_its_share_of_an_evaluation():
    state, records, _ = run(evaluation=FakeEvaluation(slots=3))
    full = len(asked(records, Purpose.SCREEN)) + len(asked(records, Purpose.RACE))
    assert state.counted == pytest.approx(full + 0.2 * len(asked(records, Purpose.RUNG)))
    assert 40 <= state.counted < 43  # what runs when the limit is reached still ends


def test_who_was_stopped_is_a_birth_and_strict_generations_do_not_wait_for_it():
    state, records, _ = run(replace(LADDER, sync=True), FakeEvaluation(slots=2))
    generations = [one.generation for one in records if isinstance(one, Selected)]
    assert len(generations) > 5
    assert not state.unsettled
    assert state.unborn <= state.rungs.passed  # let through when the limit had been reached


def test_a_program_that_breaks_in_its_short_training_has_failed():
    def breaks(request):
        if request.purpose is Purpose.RUNG:
            return Failed(Stage.TRAINING, "crash", "it raised")
        return value_of(request)

    state, records, _ = run(evaluation=FakeEvaluation(outcome=breaks))
    short = set(asked(records, Purpose.RUNG))
    assert short and short == {who for who, _ in state.failures}
    assert not short & set(asked(records, Purpose.SCREEN))


def test_a_search_that_is_cut_off_and_goes_on_stops_and_lets_through_the_same():
    _, records, _ = run()
    for cut in (9, 20, 33, 47):
        again, more, _ = run(records=records[:cut])
        assert again.rungs.passed & set(asked(records[:cut], Purpose.SCREEN)) <= set(
            asked(more, Purpose.SCREEN)
        )
        ended = [one.result.request for one in more if isinstance(one, Ended)]
        assert len(ended) == len(set(ended))
        kept = [(r.request.individual, r.request.purpose) for r in more if isinstance(r, Started)]
        once = [one for one in kept if one[1] is Purpose.RUNG]
        assert len(once) - len(set(once)) <= 1  # what was in flight is asked for anew


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_rung_that_is_no_part_of_the_budget_is_refused(share):
    with pytest.raises(RunError, match="rung must lie between 0 and 1"):
        SearchConfig(rung=share)
