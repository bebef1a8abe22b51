import math
from dataclasses import replace

import pytest
from fakes import SHARDS, FakeEvaluation, MemoryLineage, folded, founders, program, value_of

from population.claims import ERROR_BUDGET
from population.exam import examine, pairs_held
from population.individual import Failed, Measurement, Purpose, Scored, Stage
from population.ports import Abandoned, Ended, Founded, Started

CHAMPION, FOUNDER, OTHER, TWIN = founders(
    program(1.5), program(2.0), program(1.4), program(2.0, "b")
)
FOUNDED = [Founded(one) for one in (CHAMPION, FOUNDER, OTHER, TWIN)]


def exam(evaluation=None, records=(), champion=CHAMPION, **options):
    lineage = MemoryLineage(list(records) or list(FOUNDED))
    state = folded(lineage.records)
    evaluation = evaluation or FakeEvaluation(outcome=noisy)
    result = examine(champion, FOUNDER, evaluation, lineage, state, SHARDS, **options)
    return result, lineage.records, state


class Invigilator:
    """Ends the exam once so many results have come back; keeps what it was told."""

    def __init__(self, most_results):
        self.left = most_results
        self.begun, self.seen = [], []

    @property
    def stopped(self):
        return self.left <= 0

    def begin(self, champion, founder, most, state):
        self.begun.append((champion, founder, most))

    def observe(self, record, state):
        assert not self.stopped or not isinstance(record, Started)
        self.left -= isinstance(record, Ended)
        self.seen.append((record, pairs_held(state.exam_blocks, CHAMPION.id, FOUNDER.id)))


def asked(records):
    return [record.request for record in records if isinstance(record, Started)]


def noisy(request):
    """Noise that the two programs of a pair do not share."""
    return Scored(value_of(request).value + 0.01 * request.individual * (request.seed % 7))


def unclear(request):
    """The champion looks better after any number of pairs, and never clearly."""
    ahead = 4.0 if (request.id - 1) // 2 % 2 == 0 else -2.0
    return Scored(10.0 - ahead * (request.individual == CHAMPION.id))


def test_a_champion_that_is_better_by_far_is_claimed_with_its_interval():
    examination, _, _ = exam()
    assert examination.claim.better
    assert abs(examination.claim.difference + 0.5) < 0.1
    assert 0 < examination.claim.half_width < 0.5
    assert len(examination.champion) == len(examination.founder) == examination.claim.pairs


def test_an_exam_ends_as_soon_as_it_is_decided():
    examination, records, _ = exam(pairs=50)
    assert 5 <= examination.claim.pairs < 10
    assert len(asked(records)) == 2 * examination.claim.pairs


def test_an_undecided_exam_ends_at_the_most_pairs():
    examination, _, _ = exam(FakeEvaluation(outcome=unclear), pairs=9)
    assert examination.claim.pairs == 9
    assert not examination.decided


def test_a_champion_that_does_not_even_look_better_is_given_up_after_six_pairs():
    examination, _, _ = exam(champion=TWIN)
    assert examination.claim.pairs == 6
    assert examination.claim.worse
    assert not examination.claim.better


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_the_two_of_a_pair_are_one_submission_on_one_seed(slots):
    evaluation = FakeEvaluation(slots, outcome=unclear)
    _, records, _ = exam(evaluation, pairs=8)
    requests = asked(records)
    assert evaluation.together == [2] * 8
    assert all({a.individual, b.individual} == {1, 2} for a, b in pairwise(requests))
    assert all(a.seed == b.seed for a, b in pairwise(requests))
    assert len({request.seed for request in requests}) == 8
    assert evaluation.most_running == 2 * min(slots, 8)


def test_who_of_a_pair_comes_first_is_drawn_and_drawn_again_alike():
    first = [a.individual for a, _ in pairwise(asked(exam(FakeEvaluation(outcome=unclear))[1]))]
    again = [a.individual for a, _ in pairwise(asked(exam(FakeEvaluation(outcome=unclear))[1]))]
    assert first == again
    assert 2 <= first.count(1) <= 10
    assert first not in ([1, 2] * 6, [2, 1] * 6)


def pairwise(requests):
    return list(zip(requests[::2], requests[1::2], strict=True))


def test_only_the_exam_shard_is_read_and_each_read_is_counted():
    _, records, state = exam(pairs=2)
    assert {(r.shard, r.purpose) for r in asked(records)} == {("exam", Purpose.EXAM)}
    assert sum(isinstance(record, Ended) for record in records) == 4
    assert state.exam_reads == 4
    assert state.counted == 0


def test_a_later_exam_of_the_two_goes_on_where_the_first_has_ended():
    first, records, _ = exam(FakeEvaluation(outcome=unclear), pairs=6)
    both, more, _ = exam(FakeEvaluation(outcome=unclear), records, pairs=10)
    assert both.champion[:6] == first.champion
    assert both.claim.pairs == 10
    assert both.comparison == first.comparison == 1
    assert len({request.seed for request in asked(more)}) == 10


def test_a_decided_exam_trains_nothing_when_it_is_asked_for_again():
    first, records, _ = exam()
    again, more, _ = exam(records=records)
    assert again == first
    assert more == records


def test_each_further_champion_gets_a_smaller_share_of_the_runs_error_budget():
    first, records, _ = exam()
    second, records, _ = exam(records=records, champion=OTHER)
    again, _, _ = exam(records=records, pairs=50)
    errors = [one.claim.error / ERROR_BUDGET for one in (first, second, again)]
    assert errors == pytest.approx([1 / 2, 1 / 6, 1 / 2])
    assert second.claim.pairs >= first.claim.pairs


def test_an_exam_that_was_cut_off_keeps_its_whole_pairs_and_no_half_one():
    _, records, _ = exam(FakeEvaluation(outcome=unclear), pairs=3)
    cut = records[:-1]
    in_flight = asked(records)[-1]
    examination, more, _ = exam(
        FakeEvaluation(outcome=unclear), [*cut, Abandoned(in_flight.id)], pairs=3
    )
    assert examination.claim.pairs == 3
    assert len(asked(more)) == 8
    assert in_flight.seed not in {r.seed for r in asked(more)[6:]}


def test_a_failed_training_is_named_and_its_pair_left_out():
    def third_crashes(request):
        if request.id == 3:
            return Failed(Stage.TRAINING, "out_of_memory", "it asked for 9 GiB of 4")
        return value_of(request)

    examination, records, _ = exam(FakeEvaluation(outcome=third_crashes), pairs=3)
    assert examination.claim.pairs == 2
    (failure,) = examination.failures
    crashed = next(request for request in asked(records) if request.id == 3)
    assert failure.startswith(f"program-{crashed.individual}, seed {crashed.seed}: ")
    assert "out_of_memory, it asked for 9 GiB of 4" in failure


def test_a_score_that_is_no_number_is_a_failure():
    examination, _, _ = exam(FakeEvaluation(outcome=lambda _: Scored(math.nan)), pairs=1)
    assert examination.claim is None
    assert "not_finite" in examination.failures[0]


def test_where_nothing_is_scored_nothing_is_claimed():
    crash = Failed(Stage.TRAINING, "crash", "it raised")
    examination, _, _ = exam(FakeEvaluation(outcome=lambda _: crash), pairs=3)
    assert examination.claim is None
    assert len(examination.failures) == 6


def test_one_pair_makes_no_claim():
    examination, _, _ = exam(pairs=1)
    assert examination.claim.half_width == math.inf
    assert not examination.claim.better


def test_what_a_search_left_in_flight_is_recorded_when_it_comes_back():
    evaluation = FakeEvaluation(2)
    lineage = MemoryLineage(list(FOUNDED))
    state = folded(lineage.records)
    left = replace(asked(exam(pairs=1)[1])[0], purpose=Purpose.SCREEN)
    lineage.record(Started(left))
    state.apply(Started(left))
    evaluation.submit(left)
    examination = examine(CHAMPION, FOUNDER, evaluation, lineage, state, SHARDS, pairs=2)
    assert examination.claim.pairs == 2
    assert not state.jobs.in_flight


@pytest.mark.parametrize(
    ("wrong", "message"), [({"pairs": 0}, "at least 1 pair"), ({"champion": FOUNDER}, "twice")]
)
def test_an_exam_without_pairs_or_with_one_program_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        exam(**wrong)


def test_a_block_that_our_side_lost_is_made_again_on_the_same_seed():
    lost = []

    def first_is_lost(request):
        if not lost:
            lost.append(request)
            return Failed(Stage.INFRASTRUCTURE, "worker_lost", "its node is gone")
        return value_of(request)

    examination, records, _ = exam(FakeEvaluation(outcome=first_is_lost), pairs=3)
    assert (examination.claim.pairs, examination.failures) == (3, ())
    again = [request for request in asked(records) if request.attempt == 2]
    assert {(r.seed, r.individual) for r in again} == {(lost[0].seed, 1), (lost[0].seed, 2)}


def test_a_block_on_a_busy_machine_is_made_again_as_a_whole():
    slow = []

    def one_is_slow(request):
        slow.append(request)
        return 1.5 if len(slow) == 6 else 1.0

    evaluation = FakeEvaluation(outcome=unclear, reference_s=one_is_slow)
    examination, records, _ = exam(evaluation, pairs=4)
    again = [request for request in asked(records) if request.attempt == 2]
    assert [request.seed for request in again] == [slow[5].seed] * 2
    assert examination.claim.pairs == 4


def test_a_block_that_was_cut_off_while_it_was_made_again_is_no_pair():
    evaluation = FakeEvaluation(device=lambda request: f"cpu:{request.individual}")
    _, records, _ = exam(evaluation, pairs=1)
    second = next(
        i for i, r in enumerate(records) if isinstance(r, Started) and r.request.attempt == 2
    )
    (block,) = folded(records[: second + 3]).exam_blocks.values()  # both began, one has ended
    assert block.values() is None
    assert not block.counts


def test_a_pair_whose_two_ran_on_different_devices_is_made_again_and_then_left_out():
    evaluation = FakeEvaluation(device=lambda request: f"cpu:{request.individual}")
    examination, records, _ = exam(evaluation, pairs=1)
    assert examination.claim is None
    assert "one ran on" in examination.failures[0]
    assert [request.attempt for request in asked(records)] == [1, 1, 2, 2, 3, 3]


def test_what_is_lost_again_and_again_is_a_failure_in_the_end():
    def always_lost(request):
        return Failed(Stage.INFRASTRUCTURE, "worker_lost", "its node is gone")

    examination, records, _ = exam(FakeEvaluation(outcome=always_lost), pairs=1)
    assert examination.claim is None
    assert len(examination.failures) == 2
    assert max(request.attempt for request in asked(records)) == 3


def test_pairs_that_our_side_lost_are_not_among_those_asked_for():
    lost = Failed(Stage.INFRASTRUCTURE, "worker_lost", "its node is gone")
    _, records, _ = exam(FakeEvaluation(outcome=lambda _: lost), pairs=2)
    examination, _, _ = exam(FakeEvaluation(outcome=unclear), records, pairs=2)
    assert examination.claim.pairs == 2


def test_a_champion_that_fails_more_often_than_the_founder_is_not_claimed_to_be_better():
    def now_and_then(request):
        if request.individual == CHAMPION.id and request.seed % 3 == 0:
            return Failed(Stage.TRAINING, "not_finite", "its loss diverged")
        return noisy(request)

    examination, _, _ = exam(FakeEvaluation(outcome=now_and_then))
    assert examination.claim.difference < -0.3
    assert examination.less_reliable
    assert not examination.claim.better
    assert not exam()[0].less_reliable


def test_a_comparison_that_was_cut_off_within_its_first_pair_uses_up_no_share_of_the_budget():
    _, records, _ = exam(pairs=1)
    first = next(n for n, record in enumerate(records) if isinstance(record, Started))
    cut = [*records[: first + 1], Abandoned(records[first].request.id)]
    examination, _, _ = exam(records=cut)
    assert examination.comparison == 1


@pytest.mark.parametrize(("results", "pairs"), [(0, 0), (2, 1), (4, 2), (5, 2)])
def test_an_exam_that_is_stopped_begins_nothing_more_and_keeps_its_whole_pairs(results, pairs):
    invigilator = Invigilator(results)
    evaluation = FakeEvaluation(outcome=unclear, may_end=lambda: not invigilator.stopped)
    examination, records, _ = exam(evaluation, invigilator=invigilator)
    assert len(examination.champion) == pairs
    assert len(asked(records)) == 2 * -(-results // 2)
    again, more, _ = exam(FakeEvaluation(outcome=unclear), records, pairs=4)
    assert again.champion[:pairs] == examination.champion
    assert again.claim.pairs == 4
    assert len({request.seed for request in asked(more)}) == 4 + results % 2


def test_what_has_ended_by_the_moment_of_a_stop_is_recorded():
    class Both(FakeEvaluation):
        def wait(self, timeout_s):
            return [*super().wait(timeout_s), *super().wait(timeout_s)]

    invigilator = Invigilator(1)
    examination, records, _ = exam(Both(2, outcome=unclear), invigilator=invigilator)
    assert sum(isinstance(record, Ended) for record in records) == 4
    assert len(examination.champion) == 2


def test_a_stopped_exam_makes_no_disturbed_block_again():
    invigilator = Invigilator(99)

    def device(request):
        invigilator.left -= 99 * (not evaluation.running)  # while the second of the pair ends
        return f"cpu:{request.individual}"

    evaluation = FakeEvaluation(device=device)
    examination, records, _ = exam(evaluation, invigilator=invigilator)
    assert examination.claim is None
    assert [request.attempt for request in asked(records)] == [1, 1]


def test_an_invigilator_is_told_whom_an_exam_compares_and_of_each_record():
    invigilator = Invigilator(99)
    _, records, _ = exam(FakeEvaluation(outcome=unclear), pairs=2, invigilator=invigilator)
    assert invigilator.begun == [(CHAMPION.id, FOUNDER.id, 2)]
    assert [record for record, _ in invigilator.seen] == records[len(FOUNDED) :]
    assert [pairs for _, pairs in invigilator.seen] == [0, 0, 0, 1, 1, 1, 1, 2]


def test_a_pair_that_is_made_again_is_not_told_as_one_that_has_ended():
    invigilator = Invigilator(99)
    evaluation = FakeEvaluation(device=lambda request: f"cpu:{request.individual}")
    exam(evaluation, pairs=1, invigilator=invigilator)
    assert [pairs for _, pairs in invigilator.seen] == [0] * 11 + [1]


def test_other_programs_are_trained_on_other_seeds_in_a_run_of_the_same_seed():
    found = [
        {request.seed for request in asked(exam(champion=champion)[1])}
        for champion in (CHAMPION, OTHER, CHAMPION)
    ]
    assert found[0] == found[2]
    assert not found[0] & found[1]


def test_an_exam_of_counts_has_the_noise_of_their_sampling_in_its_interval():
    class Counting(FakeEvaluation):
        def wait(self, timeout_s):
            counts = (Measurement("successes", 20, "1"), Measurement("trials", 40, "1"))
            return [replace(one, measurements=counts) for one in super().wait(timeout_s)]

    def always(request):
        return Scored(0.2 if request.individual == CHAMPION.id else 0.8)

    sure, _, _ = exam(FakeEvaluation(outcome=always), pairs=8)
    counted, _, _ = exam(Counting(outcome=always), pairs=8)
    assert sure.claim.half_width == 0.0
    assert counted.claim.half_width > 0.05
    assert counted.claim.better
