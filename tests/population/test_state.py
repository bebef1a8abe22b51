import math
from dataclasses import replace

import pytest
from fakes import MACHINE, failed, folded, founders, individual, killed, program, request, scored
from journal import IDENTITY

from population.errors import LineageError
from population.history import Report, Tally
from population.individual import EvaluationId, Failed, Measurement, Purpose, Stage
from population.jobs import MOST_LOSSES
from population.lineage import DuckLineage
from population.ports import (
    ACCEPTED,
    NOTES,
    Abandoned,
    Attempt,
    Cleared,
    Ended,
    Founded,
    Proposal,
    Proposed,
    Quarantined,
    Selected,
    Started,
)
from population.state import LOG_CHARACTERS, State
from population.task import Direction

ONE, TWO = founders(program(2.0, "a"), program(1.0, "b"))
FOUNDED = [Founded(ONE), Founded(TWO)]


def evaluated(number, who, value, **changes):
    asked = replace(request(number, who, seed=number))
    return [Started(asked), Ended(replace(scored(number, value), **changes))]


def test_the_state_is_a_function_of_the_records():
    records = [*FOUNDED, *evaluated(1, ONE, 2.0), *evaluated(2, TWO, 1.0), Started(request(3, ONE))]
    live = State(Direction.MINIMIZE)
    for record in records:
        live.apply(record)
        live.history()
    assert live.history() == folded(records).history()
    assert live.next_individual == 3
    assert live.next_evaluation == 4


def test_a_smaller_metric_is_fitter_only_where_the_task_says_so():
    records = [*FOUNDED, *evaluated(1, ONE, 2.0), *evaluated(2, TWO, 1.0)]
    smaller = folded(records).history().standings
    assert smaller[2].fitness > smaller[1].fitness
    larger = State(Direction.MAXIMIZE)
    for record in records:
        larger.apply(record)
    assert larger.history().standings[1].fitness > larger.history().standings[2].fitness


def test_noise_comes_from_replicates_and_is_zero_to_operators_while_unknown():
    state = folded([*FOUNDED, *evaluated(1, ONE, 2.0), *evaluated(2, ONE, 2.2)])
    assert state.noise() is None
    assert state.history().sigma == 0.0
    assert state.history().standings[1].standard_error == math.inf
    for record in [*evaluated(3, TWO, 1.0), *evaluated(4, TWO, 1.2)]:
        state.apply(record)
    assert state.history().sigma == pytest.approx(math.sqrt(0.02))
    assert state.history().standings[1].evaluations == 2


def test_counts_say_how_noisy_they_are_and_more_of_them_are_surer():
    few = (Measurement("successes", 5, "1"), Measurement("trials", 10, "1"))
    many = (Measurement("successes", 600, "1"), Measurement("trials", 1000, "1"))
    state = folded(
        [
            *FOUNDED,
            *evaluated(1, ONE, 0.5, measurements=few),
            *evaluated(2, TWO, 0.6, measurements=many),
        ]
    )
    noise = state.noise()
    assert noise is not None
    assert noise.of(ONE.id) > 5 * noise.of(TWO.id) > 0
    standings = state.history().standings
    assert standings[1].standard_error > standings[2].standard_error


def test_a_contended_evaluation_is_owed_again_and_only_the_clean_result_counts():
    state = folded([*FOUNDED, *evaluated(1, ONE, 9.0, contended=True)])
    assert state.counted == 0
    assert not state.anything_scored
    again = state.owed()
    assert (again.id, again.seed, again.attempt) == (2, 1, 2)
    state.apply(Started(again))
    assert state.owed() is None
    state.apply(Ended(scored(2, 2.0)))
    assert state.counted == 1
    assert state.history().standings[1].fitness == pytest.approx(-2.0)


def test_a_machine_that_stays_contended_is_believed_in_the_end():
    state = folded([*FOUNDED, *evaluated(1, ONE, 9.0, contended=True)], contended_retries=1)
    state.apply(Started(state.owed()))
    state.apply(Ended(replace(scored(2, 8.0), contended=True)))
    assert state.owed() is None
    assert state.counted == 1
    assert state.history().standings[1].fitness == pytest.approx(-8.0)


def test_on_a_machine_that_is_busy_nearly_always_nothing_is_made_again_until_it_is_quiet():
    state, records, contended = folded(FOUNDED), [*FOUNDED], []
    for number in range(1, 13):
        share = 0.01 if number in (9, 10, 11) else 0.3
        result = replace(
            scored(number, 2.0), measurements=(Measurement("foreign_share", share, "1"),)
        )
        ended = Ended(state.contention.marked(result))
        contended.append(ended.result.contended)
        for record in (Started(request(number, ONE, seed=number)), ended):
            state.apply(record)
            records.append(record)
    assert contended == [True] * 6 + [False] * 5 + [True]
    assert state.counted == len(state.ranking_values(1)) == 5
    assert folded(records).contention.is_busy == state.contention.is_busy


@pytest.mark.parametrize(
    ("jitter", "programs", "times"), [(0.0, (ONE, TWO), 3), (1e-9, (ONE, TWO), 6), (0.0, (ONE,), 6)]
)
def test_scores_of_programs_that_come_out_the_same_again_are_disturbed_by_nobody(
    jitter, programs, times
):
    state, own, disturbed = folded(FOUNDED), 0, []
    share = (Measurement("foreign_share", 0.3, "1"),)
    for seed in range(1, 7):
        who = programs[seed % len(programs)]
        for attempt in (1, 2):
            own += 1
            found = replace(scored(own, 2.0 + jitter * own), measurements=share)
            if attempt == 1:
                disturbed.append(state.contention.is_disturbed(found))
            state.apply(Started(replace(request(own, who, seed=seed), attempt=attempt)))
            state.apply(Ended(replace(found, contended=attempt == 1)))
    assert disturbed == [True] * times + [False] * (6 - times)
    assert state.contention.is_disturbed(replace(failed(99), measurements=share))


def test_what_an_earlier_version_made_again_is_read_as_it_was_meant():
    records = [*FOUNDED]
    for number in range(1, 9):
        disturbed = (Measurement("foreign_share", 0.3, "1"),)
        for attempt in (1, 2, 3):
            own = 3 * number + attempt
            asked = replace(request(own, ONE, seed=number), attempt=attempt)
            result = replace(scored(own, 2.0), contended=True, measurements=disturbed)
            records += [Started(asked), Ended(result)]
    assert folded(records).counted == 8


def test_an_infrastructure_failure_is_tried_again_a_bounded_number_of_times_and_never_counts():
    state = folded([*FOUNDED, Started(request(1, ONE))], infrastructure_retries=2)
    for number in (1, 4, 7):
        state.apply(Ended(failed(number, Stage.INFRASTRUCTURE)))
        assert state.owed() is None  # others go first
        for record in evaluated(number + 1, TWO, 2.0):
            state.apply(record)
        if number < 7:
            state.apply(Started(replace(state.owed(), id=EvaluationId(number + 3))))
    assert state.owed(at_once=True) is None
    assert state.counted == 3
    assert [failure.reason for _, failure in state.failures] == ["crash"]


def test_nobody_is_given_up_for_an_outage_however_often_it_loses_him():
    state = folded([*FOUNDED, Started(request(1, ONE))], infrastructure_retries=2)
    for number in range(1, MOST_LOSSES):
        state.apply(Ended(failed(number, Stage.INFRASTRUCTURE)))
        assert state.owed() is None
        state.apply(Started(state.owed(at_once=True)))
    assert not state.failures
    state.apply(Ended(failed(MOST_LOSSES, Stage.INFRASTRUCTURE)))
    assert len(state.failures) == 1  # whatever loses him, it is enough


def test_a_contended_score_is_kept_where_the_rerun_is_killed_and_no_other_is_owed():
    state = folded([*FOUNDED, *evaluated(1, ONE, 2.5, contended=True)])
    state.apply(Started(state.owed()))
    state.apply(Ended(killed(2)))
    assert state.ranking_values(ONE.id) == (2.5,)
    assert not state.jobs.unsettled


def test_a_contended_score_is_kept_where_the_rerun_is_lost_for_good():
    state = folded([*FOUNDED, *evaluated(1, ONE, 2.5, contended=True)], infrastructure_retries=0)
    state.apply(Started(state.owed()))
    state.apply(Ended(failed(2, Stage.INFRASTRUCTURE)))
    assert state.counted == 1
    assert state.history().standings[1].fitness == pytest.approx(-2.5)


def test_an_abandoned_evaluation_is_asked_for_anew_with_the_same_seed():
    asked = request(1, ONE, seed=77)
    state = folded([*FOUNDED, Started(asked), Abandoned(asked.id)])
    assert state.owed() == replace(asked, id=2, attempt=2)


def test_an_abandoned_exam_is_not_asked_for_anew():
    asked = request(1, ONE, purpose=Purpose.EXAM)
    state = folded([*FOUNDED, Started(asked), Abandoned(asked.id)])
    assert state.owed() is None
    assert state.exam_reads == 1


def test_an_exam_ranks_nobody():
    asked = request(1, ONE, purpose=Purpose.EXAM)
    state = folded([*FOUNDED, Started(asked), Ended(scored(1, 0.1))])
    assert state.counted == 0
    assert state.history().standings[1].fitness is None


def test_a_birth_is_the_first_outcome_of_a_newcomer_failures_included():
    child = individual(3, "broken", operator="nudge")
    state = folded([*FOUNDED, *evaluated(1, ONE, 2.0)])
    assert state.births == 0
    state.apply(Proposed(1, Proposal("nudge", (ONE.id,), child.genome), child))
    assert state.unborn == {3}
    state.apply(Started(request(2, child)))
    state.apply(Ended(failed(2)))
    assert (state.births, state.unborn, state.counted) == (1, set(), 2)
    assert state.history().standings[3].failures == 1
    state.apply(Selected(0, 0.1, ((ONE.id, 2.0, 0.1),)))
    assert (state.births, state.survivors, state.selections) == (0, (1,), 1)


def test_a_refused_proposal_uses_up_its_number_and_nothing_else():
    state = folded([*FOUNDED, Proposed(4, Proposal("nudge", (), None, refusal="no"), None)])
    assert state.next_proposal == 5
    assert state.next_individual == 3


def test_scores_of_another_machine_do_not_rank_among_those_of_the_most_used_one():
    other = replace(MACHINE, device="faster")
    state = folded(
        [
            *FOUNDED,
            *evaluated(1, TWO, 0.1, comparability=other),
            *evaluated(2, ONE, 2.0),
            *evaluated(3, ONE, 2.1),
        ]
    )
    assert state.history().standings[2].fitness is None
    assert state.history().standings[1].evaluations == 2


@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e200, -1e200])
def test_a_score_that_cannot_be_reckoned_with_is_a_failure(value):
    state = folded([*FOUNDED, *evaluated(1, ONE, value)])
    assert not state.anything_scored
    assert state.history().standings[1].failures == 1
    assert [failure.reason for _, failure in state.failures] == ["not_finite"]
    report = state.reports[ONE.id]
    assert report.failure is not None  # whoever repairs it is told why
    assert report.failure.reason == "not_finite"


def test_a_snapshot_does_not_change_when_the_search_goes_on():
    state = folded([*FOUNDED, *evaluated(1, ONE, 2.0)])
    before = state.history()
    state.apply(Founded(individual(3, program(5.0))))
    assert set(before.standings) == {1, 2}
    assert set(state.history().standings) == {1, 2, 3}
    assert program(5.0) not in before.fingerprints


def test_an_end_without_a_start_is_refused():
    with pytest.raises(LineageError, match="evaluation 9 ends without having started"):
        folded([*FOUNDED, Ended(scored(9, 1.0))])


def test_failures_name_the_individual():
    state = folded([*FOUNDED, Started(request(1, TWO)), Ended(failed(1))])
    assert state.failures == [(TWO.id, Failed(Stage.TRAINING, "crash", "it raised"))]


@pytest.mark.parametrize(("share", "contended"), [(0.02, False), (0.3, True)])
def test_a_trial_that_shared_its_cores_with_others_is_contended(share, contended):
    result = replace(scored(1, 2.0), measurements=(Measurement("foreign_share", share, "1"),))
    assert folded(FOUNDED).contention.marked(result).contended is contended


# What operators learn from


def proposed(number, operator="explore", parents=(1,), child=None, attempts=()):
    proposal = Proposal(
        operator, parents, child and child.genome, refusal="" if child else "no", attempts=attempts
    )
    return Proposed(number, proposal, child)


def notes(text, outcome=ACCEPTED, what=NOTES):
    return (Attempt(what, outcome, answer=text),)


def test_each_operator_s_proposals_and_refusals_are_counted():
    child = individual(3, program(0.5), operator="explore")
    state = folded(
        [*FOUNDED, proposed(1), proposed(2, child=child), proposed(3), proposed(4, "constants")]
    )
    assert state.history().tallies == {"explore": Tally(3, 2), "constants": Tally(1, 1)}


def test_each_model_s_proposals_and_children_are_known():
    child = individual(3, program(0.5), operator="explore")
    asked = (
        Attempt("edit", "no such line", model="m"),
        Attempt("mend", ACCEPTED, model="m", stop_reason="end_turn"),
    )
    distilled = (
        Attempt(NOTES, ACCEPTED, model="other"),
        Attempt("edit", "no", model="n", stop_reason="x"),
        Attempt("mend", "overloaded", model="o"),
    )
    state = folded(
        [*FOUNDED, proposed(1, child=child, attempts=asked), proposed(2, attempts=distilled)]
    )
    assert state.history().models == {"m": Tally(1, 0), "n": Tally(1, 1)}
    assert [one.model for one in state.history().standings.values()] == ["", "", "m"]


def test_whom_a_proposal_named_is_tried_whether_it_was_refused_or_not_if_anybody_answered():
    child = individual(3, program(0.5), operator="explore")
    answered = (Attempt("edit", "no such line", stop_reason="end_turn"),)
    state = folded(
        [
            *FOUNDED,
            proposed(1, parents=(2,), attempts=answered),
            proposed(2, parents=(1,), child=child),
            proposed(3, parents=(3,), attempts=(Attempt("edit", "overloaded"),)),
        ]
    )
    assert state.history().tried == {1, 2}
    assert folded(FOUNDED).history().tried == set()


def test_notes_are_those_that_were_accepted_last_even_of_a_refused_proposal():
    state = folded([*FOUNDED, proposed(1, attempts=notes("first"))])
    assert state.history().notes == "first"
    for useless in (
        notes("cut", "no notes: it ended with max_tokens"),
        notes("an edit", what="edit"),
        (),
    ):
        state.apply(proposed(2, attempts=useless))
        assert state.history().notes == "first"
    state.apply(proposed(3, attempts=notes("second")))
    assert state.history().notes == "second"


def test_a_report_is_of_the_latest_settled_evaluation_and_holds_a_log_of_failures_only():
    curve, steps = ((0.5, 3.0), (1.0, 2.0)), (Measurement("steps", 10.0, "1"),)
    told = {"curve": curve, "measurements": steps, "log": "it printed this"}
    state = folded([*FOUNDED, *evaluated(1, ONE, 2.0, **told)])
    standings = state.history().standings
    assert standings[1].report == Report(None, "", steps, curve)
    assert standings[2].report is None
    state.apply(Started(request(2, ONE, seed=9)))
    state.apply(Ended(replace(failed(2), log="x" * LOG_CHARACTERS + "the end")))
    report = state.history().standings[1].report
    assert report.failure == Failed(Stage.TRAINING, "crash", "it raised")
    assert len(report.log) == LOG_CHARACTERS
    assert report.log.endswith("the end")


@pytest.mark.parametrize("purpose", [Purpose.CONFIRM, Purpose.EXAM])
def test_what_the_other_shards_showed_is_reported_to_no_operator(purpose):
    state = folded(
        [
            *FOUNDED,
            Started(request(1, ONE, purpose=purpose)),
            Ended(replace(scored(1, 2.0), curve=((1.0, 2.0),))),
        ]
    )
    assert state.history().standings[1].report is None


def test_a_contended_result_is_no_report_until_it_is_settled():
    state = folded([*FOUNDED, *evaluated(1, ONE, 9.0, contended=True, curve=((1.0, 9.0),))])
    assert state.history().standings[1].report is None


def test_whatever_operators_know_is_the_same_after_a_replay_from_the_database(tmp_path):
    child = individual(3, program(0.5), operator="explore")
    call = Attempt(
        "edit", ACCEPTED, 1.5, 0.1, 900, 80, 300, 200, "m", "low", "end_turn", "f" * 64, "?", "!"
    )
    records = [
        *FOUNDED,
        *evaluated(1, ONE, 2.0, measurements=(Measurement("steps", 5.0, "1"),)),
        *evaluated(2, TWO, 1.0, curve=((0.5, 3.0), (1.0, 2.0))),
        proposed(1, "repair", (1, 2), attempts=(*notes("learned: \u00e9\u4e00\n- wider"), call)),
        proposed(2, parents=(2,), child=child, attempts=(*notes("no", "no notes"), call)),
        Started(request(3, child)),
        Ended(replace(failed(3), log="Traceback ...\n" * 900)),
    ]
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in records:
            lineage.record(record)
        replayed = list(lineage.replay())
        assert lineage.spent() == (0.2, 1960)
        assert lineage.dearest() == {"m": 0.1}
    assert replayed == records
    live, again = folded(records).history(), folded(replayed).history()
    assert live == again
    assert again.notes.startswith("learned")
    assert again.tried == {1, 2}
    assert set(again.tallies) == {"repair", "explore"}
    assert again.standings[3].report.failure is not None


def test_what_our_side_lost_is_no_failure_of_the_candidate():
    state = folded([*FOUNDED, Started(request(1, ONE))], infrastructure_retries=0)
    state.apply(Ended(failed(1, Stage.INFRASTRUCTURE)))
    assert state.history().standings[1].failures == 0
    assert state.history().standings[1].is_void
    assert not state.history().standings[2].is_void


def test_a_score_that_is_not_believed_says_nothing_of_the_others():
    others = [individual(n, program(1.0 + n / 100)) for n in range(3, 9)]
    records = [*FOUNDED, *map(Founded, others)]
    values = [(ONE, 1.00), (ONE, 1.02), (TWO, 1.03), (TWO, 1.01)]
    values += [(one, 1.0 + one.id / 200) for one in others]
    for number, (who, value) in enumerate(values, 1):
        records += evaluated(number, who, value)
    before = folded(records).history().standings
    fake = individual(9, program(0.0))
    records += [Founded(fake), *evaluated(20, fake, 0.0)]
    believed = folded(records).history().standings
    held = folded([*records, Quarantined(fake.id, ONE.id, 1.0, 0.1)]).history().standings
    for one in (ONE, TWO, *others):
        assert held[one.id].fitness == pytest.approx(before[one.id].fitness)
    assert believed[TWO.id].fitness != pytest.approx(before[TWO.id].fitness, abs=1e-6)


def test_a_program_is_known_to_all_that_are_born_after_its_score():
    three = individual(3, program(1.5), operator="nudge")
    asked = request(1, ONE)
    state = folded([*FOUNDED, Started(asked)])
    assert state.history().standings[ONE.id].known_to == 3
    state.apply(Proposed(1, Proposal("nudge", (ONE.id,), three.genome), three))
    state.apply(Ended(scored(1, 2.0)))
    assert state.history().standings[ONE.id].known_to == 4
    state.apply(Founded(individual(4, program(1.7))))
    assert state.history().standings[ONE.id].known_to == 4


def test_who_is_held_breeds_no_more_and_is_new_again_when_it_is_cleared():
    records = [*FOUNDED, *evaluated(1, ONE, 2.0), *evaluated(2, TWO, 1.0)]
    records += [Selected(0, 0.1, ((TWO.id, 1.0, 0.1), (ONE.id, 2.0, 0.1)))]
    state = folded([*records, Quarantined(TWO.id, ONE.id, 1.0, 0.1)])
    assert state.survivors == (ONE.id,)
    state.apply(Founded(individual(3, program(1.5))))
    assert state.history().standings[TWO.id].known_to == 3
    state.apply(Cleared(TWO.id, True, 1.0))
    assert state.history().standings[TWO.id].known_to == 4


def test_replicates_are_what_ranks_what_failed_and_what_runs():
    other = replace(MACHINE, device="other")
    records = [*evaluated(1, ONE, 2.0), *evaluated(2, ONE, 2.1), *evaluated(3, TWO, 1.0)]
    records += evaluated(4, TWO, 1.0, comparability=other)
    state = folded([*FOUNDED, *records, Started(request(5, TWO, seed=5))])
    assert (state.replicates_of(ONE.id), state.replicates_of(TWO.id)) == (2, 2)
    assert state.evaluations_of(TWO.id) == 3
