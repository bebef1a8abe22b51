from dataclasses import replace

import numpy as np
import pytest
from fakes import (
    MACHINE,
    FakeEvaluation,
    MemoryLineage,
    Nudge,
    Wishes,
    failed,
    folded,
    individual,
    never,
    program,
    request,
    scored,
    search,
    value_of,
)

from population.errors import RunError
from population.individual import Failed, Genome, Purpose, Scored, Stage
from population.ports import (
    INJECT,
    Abandoned,
    Cleared,
    Ended,
    Founded,
    Proposal,
    Proposed,
    Quarantined,
    Selected,
    Started,
)
from population.rungs import LATEST, Rungs, is_let_through, wants_time
from population.search import SearchConfig
from population.state import State
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


def judged(*values, kind="", direction=Direction.MINIMIZE):
    """Rungs that have judged one individual for each value, on one machine."""
    rungs = Rungs(direction)
    for who, value in enumerate(values):
        rungs.judge(who, kind, scored(who, value))
    return rungs


def test_what_trained_on_another_machine_or_is_of_another_kind_is_not_compared():
    rungs = judged(*[1.0] * 8, kind="a")
    assert not rungs.judge(8, "a", scored(8, 2.0))
    assert rungs.judge(9, "a", scored(9, 2.0, OTHER))
    assert rungs.judge(10, "b", scored(10, 2.0))


def test_where_larger_values_are_better_they_are_let_through():
    up, down = judged(*[1.0] * 8, direction=Direction.MAXIMIZE), judged(*[1.0] * 8)
    assert up.judge(8, "", scored(8, 2.0)) and not down.judge(8, "", scored(8, 2.0))


def test_what_a_stopped_program_would_have_scored_is_read_off_a_line():
    shorts = [3.0, 3.2, 3.4, 3.6, 3.9, 3.05]
    rungs = judged(*shorts)
    assert set(rungs.stopped) == {4}
    whole = {who: -(short - 1.0) for who, short in enumerate(shorts) if who != 4}
    assert rungs.expected(whole) == {4: pytest.approx(-2.9)}


def test_it_is_expected_to_be_no_better_than_the_middle_of_those_that_went_on():
    rungs = judged(3.6, 3.4, 3.2, 3.0, 3.3)
    assert set(rungs.stopped) == {4}
    misleading = {0: -2.0, 1: -2.2, 2: -2.4, 3: -2.6}  # worse when short, better in full
    assert rungs.expected(misleading) == {4: pytest.approx(-2.3)}


def test_nothing_is_expected_while_few_were_trained_both_ways():
    rungs = judged(3.0, 3.1, 3.2, 3.3, 3.9)
    assert rungs.expected({0: -2.0, 1: -2.1, 2: -2.2}) == {}


@pytest.mark.parametrize(
    ("stage", "reason", "goes_on"),
    [
        (Stage.TRAINING, "late", True),
        (Stage.TRAINING, "too_slow", True),
        (Stage.TRAINING, "crash", False),
        (Stage.TRAINING, "out_of_memory", False),
        (Stage.STARTUP, "timeout", False),
        (Stage.SCORING, "not_finite", False),
    ],
)
def test_who_fails_for_want_of_time_has_the_whole_budget_yet(stage, reason, goes_on):
    assert wants_time(Failed(stage, reason, "")) is goes_on


# In the state: what short trainings make of it, record by record.

FIRST = individual(1, "first")


def bred(number, structure=""):
    child = replace(individual(number, f"child {number}", "nudge"), parents=(1,))
    child = replace(child, structure=structure)
    return Proposed(number, Proposal("nudge", (1,), child.genome), child)


def short(number, who, outcome=3.0, **changes):
    """The records of one short training, the evaluation `number`."""
    own = individual(who, f"child {who}")
    result = scored(number, outcome) if isinstance(outcome, float) else failed(number, outcome)
    result = replace(result, **changes)
    return Started(request(number, own, seed=who, purpose=Purpose.RUNG)), Ended(result)


def after(*records):
    known = [Founded(FIRST), *(record for n in range(2, 8) for record in [bred(n)])]
    return folded([*known, *records], rung=0.2)


FIVE = [record for n in range(2, 7) for record in short(n, n, float(n))]


def test_who_is_let_through_waits_and_who_is_stopped_was_born():
    state = after(*FIVE)
    assert state.rungs.passed == {2, 3, 4, 5} and set(state.rungs.stopped) == {6}
    assert set(state.unscreened) == {1, 7, 2, 3, 4, 5}
    assert (state.births, state.short, state.full) == (1, 5, 0)
    assert 6 not in state.unborn and 5 in state.unborn
    assert state.history().standings[6].stopped


def test_a_short_training_on_a_busy_machine_is_run_again_and_judged_once():
    started, ended = short(7, 7, 1.0, contended=True)
    state = after(*FIVE, started, ended)
    owed = state.owed()
    assert owed is not None and (owed.individual, owed.purpose) == (7, Purpose.RUNG)
    assert 7 not in state.rungs.passed
    clean = short(8, 7, 9.0)
    state = after(*FIVE, started, ended, *clean)
    assert 7 in state.rungs.stopped and state.short == 6


def test_a_short_training_that_our_side_lost_is_asked_for_again_and_tells_nothing():
    lost = list(short(7, 7, Stage.INFRASTRUCTURE))
    assert after(*FIVE, *lost).owed(at_once=True) is not None
    for n in (8, 10):  # another one comes back in between, so it may be the program that does it
        lost += [Started(request(n, FIRST, seed=n)), Ended(scored(n, 2.0))]
        lost += short(n + 1, 7, Stage.INFRASTRUCTURE)
    state = after(*FIVE, *lost)
    assert state.owed(at_once=True) is None and state.history().standings[7].is_void
    assert state.short == 5


def test_a_short_training_that_a_crash_cut_off_is_asked_for_again():
    state = after(*FIVE, short(7, 7)[0], Abandoned(7))
    owed = state.owed()
    assert owed is not None and (owed.individual, owed.attempt) == (7, 2)


def test_a_short_training_in_flight_holds_the_place_of_the_whole_one_that_may_follow():
    assert after(short(7, 7)[0]).pending == pytest.approx(1.2)


def test_counts_are_exact_however_many_there_are():
    state = State(Direction.MINIMIZE, rung=0.2)
    state.short, state.full = 60, 3
    assert state.counted == 15.0


def test_constants_are_compared_with_those_of_their_structure_and_new_ones_with_one_another():
    known = [Founded(replace(FIRST, structure="a"))]
    known += [bred(n, structure="a") for n in range(2, 7)]
    known += [bred(7, structure="new")]
    records = [*known, *FIVE]
    assert 6 in folded(records, rung=0.2).rungs.stopped
    assert 7 in folded([*records, *short(7, 7, 99.0)], rung=0.2).rungs.passed


def test_a_score_that_the_quarantine_refused_foretells_nothing():
    whole = [
        record
        for n in range(2, 6)
        for record in (
            Started(request(10 + n, individual(n, f"child {n}"), seed=n)),
            Ended(scored(10 + n, float(n) - 1.0 if n > 2 else -500.0)),
        )
    ]
    plain = after(*FIVE, *whole).history().standings[6].expected
    refused = [Quarantined(2, 1, 500.0, 1.0), Cleared(2, False, 0.0)]
    assert plain is not None  # four were trained both ways
    assert after(*FIVE, *whole, *refused).history().standings[6].expected is None


# In a search.


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
    def misleading(asked):
        found = value_of(asked)
        assert isinstance(found, Scored)
        return Scored(found.value - 99.0) if asked.purpose is Purpose.RUNG else found

    state, records, _ = run(evaluation=FakeEvaluation(outcome=misleading), variation=Drawn())
    standings = state.history().standings
    stopped = {who for who, one in standings.items() if one.stopped}
    assert len(stopped) > 10
    assert all(standings[who].fitness is None for who in stopped)
    assert all(value > 0 for who in standings for value in state.ranking_values(who))
    members = {who for one in records if isinstance(one, Selected) for who, _, _ in one.members}
    parents = {parent for one in standings.values() for parent in one.individual.parents}
    assert not (members | parents) & stopped


def test_a_short_training_counts_as_its_share_of_an_evaluation():
    state, records, _ = run(evaluation=FakeEvaluation(slots=3))
    full = len(asked(records, Purpose.SCREEN)) + len(asked(records, Purpose.RACE))
    assert state.counted == pytest.approx(full + 0.2 * len(asked(records, Purpose.RUNG)))
    assert 40 <= state.counted <= 41.2  # the last one began before the limit was reached


def test_whoever_is_let_through_is_trained_in_full_at_the_limit_too():
    for limit in range(6, 16):
        state, records, _ = run(replace(LADDER, max_evaluations=limit), FakeEvaluation(slots=3))
        assert state.rungs.passed == set(asked(records, Purpose.SCREEN)) - set(state.founders)
        assert not state.unscreened or state.unscreened.keys() <= set(state.founders)


def test_who_was_stopped_is_a_birth_and_strict_generations_do_not_wait_for_it():
    state, records, _ = run(replace(LADDER, sync=True), FakeEvaluation(slots=2))
    generations = [one.generation for one in records if isinstance(one, Selected)]
    assert len(generations) > 5
    assert not state.jobs.unsettled and not state.unborn


def whose_short_trainings_end(reason):
    failed = Failed(Stage.TRAINING, reason, "")
    return FakeEvaluation(outcome=lambda r: failed if r.purpose is Purpose.RUNG else value_of(r))


def test_a_program_that_breaks_in_its_short_training_has_failed():
    state, records, _ = run(evaluation=whose_short_trainings_end("crash"))
    short = set(asked(records, Purpose.RUNG))
    assert short and short == {who for who, _ in state.failures}
    assert not short & set(asked(records, Purpose.SCREEN))


def test_who_has_no_time_in_the_short_training_is_trained_in_full():
    state, records, _ = run(evaluation=whose_short_trainings_end("too_slow"))
    assert set(asked(records, Purpose.RUNG)) == state.rungs.passed
    assert state.rungs.passed <= set(asked(records, Purpose.SCREEN))
    assert state.failures == []


def test_a_search_that_is_cut_off_anywhere_and_goes_on_stops_and_lets_through_the_same():
    config = replace(LADDER, max_evaluations=16)
    whole, records, _ = run(config, variation=Drawn())
    assert whole.rungs.stopped
    for cut in range(len(records)):
        again, more, _ = run(config, records=records[:cut], variation=Drawn())
        assert again.rungs.passed == whole.rungs.passed, cut
        assert set(again.rungs.stopped) == set(whole.rungs.stopped), cut
        abandoned = sum(isinstance(one, Abandoned) for one in more)
        ended = [one.result.request for one in more if isinstance(one, Ended)]
        assert (
            len(asked(more, Purpose.RUNG))
            + len(asked(more, Purpose.SCREEN))
            + len(asked(more, Purpose.RACE))
            == len(ended) + abandoned
        )


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_rung_that_is_no_part_of_the_budget_is_refused(share):
    with pytest.raises(RunError, match="rung must lie between 0 and 1"):
        SearchConfig(rung=share)
