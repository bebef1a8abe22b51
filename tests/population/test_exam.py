import math

import pytest
from fakes import SHARDS, FakeEvaluation, MemoryLineage, folded, founders, program, value_of

from population.exam import examine
from population.individual import Failed, Purpose, Scored, Stage
from population.ports import Ended, Founded, Started

CHAMPION, FOUNDER = founders(program(1.5), program(2.0))


def exam(evaluation=None, records=(), champion=CHAMPION, **options):
    lineage = MemoryLineage(list(records) or [Founded(champion), Founded(FOUNDER)])
    state = folded(lineage.records)
    evaluation = evaluation or FakeEvaluation()
    result = examine(champion, FOUNDER, evaluation, lineage, state, SHARDS, **options)
    return result, lineage.records, state


def asked(records):
    return [record.request for record in records if isinstance(record, Started)]


def noisy(request):
    """Noise that the two programs of a pair do not share."""
    return Scored(value_of(request).value + 0.01 * request.individual * (request.seed % 7))


def test_a_champion_that_is_better_by_far_is_claimed_with_its_interval():
    examination, _, _ = exam(FakeEvaluation(outcome=noisy))
    assert examination.claim.better
    assert examination.claim.pairs == 3
    assert abs(examination.claim.difference + 0.5) < 0.1
    assert 0 < examination.claim.half_width < 0.5
    assert len(examination.champion) == len(examination.founder) == 3


def test_a_founder_does_not_beat_itself():
    examination, _, _ = exam(champion=FOUNDER)
    assert examination.claim.difference == 0
    assert not examination.claim.better


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_pairs_share_a_seed_and_are_trained_back_to_back_in_alternating_order(slots):
    _, records, _ = exam(FakeEvaluation(slots))
    requests = asked(records)
    assert [r.individual for r in requests] == [1, 2, 2, 1, 1, 2]
    seeds = [r.seed for r in requests]
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == 3


def test_only_the_exam_shard_is_read_and_each_read_is_counted():
    _, records, state = exam(pairs=2)
    assert {(r.shard, r.purpose) for r in asked(records)} == {("exam", Purpose.EXAM)}
    assert sum(isinstance(record, Ended) for record in records) == 4
    assert state.exam_reads == 4
    assert state.counted == 0


def test_a_second_exam_uses_seeds_of_its_own():
    _, records, _ = exam()
    _, more, _ = exam(records=records)
    first = {r.seed for r in asked(records)}
    assert not first & {r.seed for r in asked(more[len(records) :])}


def test_a_failed_training_is_named_and_its_pair_left_out():
    def third_crashes(request):
        if request.id == 3:
            return Failed(Stage.TRAINING, "out_of_memory", "it asked for 9 GiB of 4")
        return value_of(request)

    examination, _, _ = exam(FakeEvaluation(outcome=third_crashes))
    assert examination.claim.pairs == 2
    (failure,) = examination.failures
    assert "program-2, seed" in failure
    assert "out_of_memory, it asked for 9 GiB of 4" in failure


def test_where_nothing_is_scored_nothing_is_claimed():
    crash = Failed(Stage.TRAINING, "crash", "it raised")
    examination, _, _ = exam(FakeEvaluation(outcome=lambda _: crash))
    assert examination.claim is None
    assert len(examination.failures) == 6


def test_one_pair_makes_no_claim():
    examination, _, _ = exam(pairs=1)
    assert examination.claim.half_width == math.inf
    assert not examination.claim.better


def test_what_a_search_left_in_flight_is_recorded_when_it_comes_back():
    evaluation = FakeEvaluation(2)
    lineage = MemoryLineage([Founded(CHAMPION), Founded(FOUNDER)])
    state = folded(lineage.records)
    left = asked(exam(pairs=1)[1])[0]
    lineage.record(Started(left))
    state.apply(Started(left))
    evaluation.submit(left)
    examination = examine(CHAMPION, FOUNDER, evaluation, lineage, state, SHARDS, pairs=2)
    assert examination.claim.pairs == 2
    assert not state.in_flight


def test_an_exam_without_pairs_is_refused():
    with pytest.raises(ValueError, match="at least 1 pair"):
        exam(pairs=0)


def test_a_training_that_our_side_lost_is_made_again_on_the_same_seed():
    lost = []

    def first_is_lost(request):
        if request.attempt == 1 and not lost:
            lost.append(request)
            return Failed(Stage.INFRASTRUCTURE, "worker_lost", "its node is gone")
        return value_of(request)

    examination, records, _ = exam(FakeEvaluation(outcome=first_is_lost))
    assert (examination.claim.pairs, examination.failures) == (3, ())
    (again,) = [request for request in asked(records) if request.attempt == 2]
    assert (again.seed, again.individual) == (lost[0].seed, lost[0].individual)


def test_what_is_lost_again_and_again_is_a_failure_in_the_end():
    def always_lost(request):
        return Failed(Stage.INFRASTRUCTURE, "worker_lost", "its node is gone")

    examination, records, _ = exam(FakeEvaluation(outcome=always_lost), pairs=1)
    assert examination.claim is None
    assert len(examination.failures) == 2
    assert max(request.attempt for request in asked(records)) == 3
