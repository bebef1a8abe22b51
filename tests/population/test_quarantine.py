"""A jump is held back until the confirmation shard has seen it, too."""

from dataclasses import dataclass, replace

import pytest
from fakes import (
    MACHINE,
    SHARDS,
    FakeEvaluation,
    MemoryLineage,
    folded,
    founders,
    never,
    program,
    search,
    value_of,
)
from fakes import individual as made
from hypothesis import given
from hypothesis import strategies as st

from population.history import Standing
from population.individual import (
    EvaluationId,
    Failed,
    Genome,
    IndividualId,
    Outcome,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.ports import (
    Abandoned,
    Cleared,
    Ended,
    Founded,
    Proposal,
    Proposed,
    Quarantined,
    Record,
    Started,
)
from population.quarantine import MOST_TRIES, due, jump, verdict
from population.search import SearchConfig
from population.state import Readings

HELD = Quarantined(IndividualId(3), IndividualId(1), 1.0, 0.2)
CONFIG = SearchConfig(mu=4, lambda_=4, max_evaluations=10, racing_share=0.0, quarantine_sigmas=8.0)


def standings(*fitnesses: float | None) -> dict[IndividualId, Standing]:
    return {
        IndividualId(n): Standing(made(n, program(0.0)), fitness, 0.1, 1, 0, 0)
        for n, fitness in enumerate(fitnesses, 1)
    }


def child_of(*parents: int):
    return replace(made(9, program(0.0)), parents=tuple(map(IndividualId, parents)))


def test_a_gain_is_taken_over_the_fittest_parent() -> None:
    held = jump(child_of(1, 2), 3.0, standings(1.0, 2.0), 0.5)
    assert held == Quarantined(IndividualId(9), IndividualId(2), 1.0, 0.5)
    assert jump(child_of(1, 2), 2.4, standings(1.0, 2.0), 0.5) is None


def test_who_has_no_scored_parent_cannot_jump() -> None:
    assert jump(child_of(), 3.0, standings(1.0), 0.5) is None
    assert jump(child_of(1), 3.0, standings(None), 0.5) is None


@given(st.floats(-3, 3))
def test_half_of_the_gain_must_be_there_on_the_other_shard(seen: float) -> None:
    cleared = verdict(HELD, Readings((5.0 + seen,), 1), Readings((5.0,), 1))
    assert cleared is not None and cleared.gain == pytest.approx(seen)
    assert cleared.agrees == (cleared.gain >= 0.5)


def test_both_programs_are_read_and_each_only_once() -> None:
    nothing, one, running = Readings(), Readings((5.0,), 1), Readings((), 1, running=True)
    assert due(HELD, nothing, nothing) == HELD.parent
    assert due(HELD, nothing, running) == HELD.individual
    assert due(HELD, running, one) is None
    assert due(HELD, one, one) is None


def test_a_program_that_the_other_shard_never_scores_is_refused_in_the_end() -> None:
    failed, over = Readings((), 1), Readings((), MOST_TRIES)
    assert verdict(HELD, failed, Readings((5.0,), 1)) is None
    assert verdict(HELD, over, Readings((5.0,), 1)) == Cleared(HELD.individual, False, None)


@dataclass
class Leap:
    """Offers one program that is far better, then small steps."""

    name: str = "leap"
    arity: int = 1
    slow: bool = False
    value: float = 1.0

    def propose(self, parents, history, rng):
        leapt = any("VALUE = 1.0" in s.individual.genome.source for s in history.standings.values())
        value = 2.0 + rng.normal(0.0, 0.01) if leapt else self.value
        source = program(value, "a")
        return Proposal("leap", (parents[0].id,), Genome(source), "a", source)


def world(outcome=value_of, **changes):
    lineage, evaluation = MemoryLineage(), FakeEvaluation(outcome=outcome)
    state = search(CONFIG, lineage, evaluation, Leap(), **changes).run(never)
    return state, lineage.records, evaluation


def fake_on_the_selection_shard(asked: Request) -> Outcome:
    """A program that only seems to be better: the other shards do not see it."""
    if "VALUE = 1.0" in asked.genome.source and asked.shard != SHARDS[0]:
        return value_of(
            Request(asked.id, asked.individual, Genome(program(2.0)), asked.seed, "", asked.purpose)
        )
    return value_of(asked)


def kinds(records, kind):
    return [record for record in records if isinstance(record, kind)]


def test_a_real_jump_is_confirmed_and_leads_from_then_on() -> None:
    state, records, _ = world()
    (held,), (cleared,) = kinds(records, Quarantined), kinds(records, Cleared)
    assert cleared.agrees and cleared.gain == pytest.approx(held.gain, abs=0.1)
    assert state.survivors[0] == held.individual
    assert not state.quarantine and not state.refused


def test_a_jump_that_the_confirmation_shard_does_not_see_never_breeds_nor_survives() -> None:
    state, records, _ = world(fake_on_the_selection_shard)
    (held,), (cleared,) = kinds(records, Quarantined), kinds(records, Cleared)
    assert not cleared.agrees
    assert held.individual not in state.survivors
    children = [one for one in state.individuals.values() if held.individual in one.parents]
    assert children == []


def test_nothing_of_a_quarantine_counts_towards_the_limit_and_every_reading_is_counted() -> None:
    state, _, evaluation = world()
    confirmations = [r for r in evaluation.submitted if r.purpose is Purpose.CONFIRM]
    assert len(confirmations) == 2 == state.confirmation_reads
    assert {r.shard for r in confirmations} == {SHARDS[1]}
    assert state.counted == CONFIG.max_evaluations
    selection_seeds = {r.seed for r in evaluation.submitted if r.purpose is not Purpose.CONFIRM}
    assert not selection_seeds & {r.seed for r in confirmations}


def test_a_run_that_is_cut_anywhere_quarantines_and_clears_the_same() -> None:
    _, whole, _ = world()
    wanted = [type(record) for record in kinds(whole, Quarantined | Cleared)]
    for cut in range(len(whole)):
        lineage = MemoryLineage(whole[:cut])
        search(CONFIG, lineage, FakeEvaluation(), Leap()).run(never)
        found = [type(r) for r in kinds(lineage.records, Quarantined | Cleared)]
        assert found == wanted, cut
        assert folded(lineage.records).quarantine == {}
        if not kinds(lineage.records, Abandoned):  # nothing was in flight
            assert lineage.records == whole, cut


def test_a_crash_on_the_other_shard_is_tried_again_a_bounded_number_of_times() -> None:
    def crashes(asked: Request) -> Outcome:
        if asked.purpose is Purpose.CONFIRM and "VALUE = 1.0" in asked.genome.source:
            return Failed(Stage.TRAINING, "crash", "it raised")
        return value_of(asked)

    _, records, evaluation = world(crashes)
    (cleared,) = kinds(records, Cleared)
    assert cleared == Cleared(cleared.individual, False, None)
    asked = [r for r in evaluation.submitted if r.purpose is Purpose.CONFIRM]
    assert sum(r.individual == cleared.individual for r in asked) == MOST_TRIES
    assert len({r.seed for r in asked}) == len(asked)


def test_a_score_that_repeats_exactly_has_no_sigma_and_nothing_is_held_back() -> None:
    def exact(asked: Request) -> Outcome:
        return Scored(float(asked.genome.source.split("VALUE = ")[1]))

    _, records, _ = world(exact)
    assert kinds(records, Quarantined) == []


def test_without_quarantine_nothing_is_held_back() -> None:
    lineage = MemoryLineage()
    search(replace(CONFIG, quarantine_sigmas=None), lineage, FakeEvaluation(), Leap()).run(never)
    assert kinds(lineage.records, Quarantined) == []
    assert all(isinstance(r.result.outcome, Scored) for r in kinds(lineage.records, Ended))
    assert all(r.request.purpose is not Purpose.CONFIRM for r in kinds(lineage.records, Started))


def test_a_jump_from_before_the_noise_was_known_is_held_back_as_soon_as_it_is() -> None:
    lineage, evaluation = MemoryLineage(), FakeEvaluation(outcome=fake_on_the_selection_shard)
    config = replace(CONFIG, max_evaluations=24, racing_share=0.2)
    whole = search(config, lineage, evaluation, Leap(), sources=[program(2.0)]).run(never)
    (held,), (cleared,) = kinds(lineage.records, Quarantined), kinds(lineage.records, Cleared)
    before = lineage.records.index(held)
    assert before > 12  # it had led for a while, and bred
    later = [r.individual for r in kinds(lineage.records[before:], Proposed) if r.individual]
    assert later and all(held.individual not in one.parents for one in later)
    assert not cleared.agrees
    assert whole.survivors[0] != held.individual
    assert held.individual in whole.refused
    for cut in range(len(lineage.records)):
        again = MemoryLineage(lineage.records[:cut])
        evaluation = FakeEvaluation(outcome=fake_on_the_selection_shard)
        search(config, again, evaluation, Leap(), sources=[program(2.0)]).run(never)
        assert kinds(again.records, Quarantined) == [held], cut


def test_a_child_that_was_scored_before_its_founder_is_weighed_when_that_is() -> None:
    one, two = founders(program(2.0), program(2.1))
    child = replace(made(3, program(1.0)), operator="leap", parents=(two.id,))
    records: list[Record] = [Founded(one), Founded(two)]
    records.append(Proposed(ProposalId(1), Proposal("leap", (two.id,), child.genome), child))
    values = [(one, 2.0), (one, 2.01), (child, 1.0), (one, 2.02)]
    for number, (who, value) in enumerate(values, 1):
        asked = Request(EvaluationId(number), who.id, who.genome, number, SHARDS[0], Purpose.SCREEN)
        records += [Started(asked), Ended(Result(asked.id, Scored(value), MACHINE))]
    lineage = MemoryLineage(records)
    search(CONFIG, lineage, FakeEvaluation(), Leap()).run(never)
    first = kinds(lineage.records, Quarantined)[0]
    assert (first.individual, first.parent) == (child.id, two.id)


def test_beside_a_parent_that_is_held_itself_a_child_is_measured_by_its_grandparent() -> None:
    known = standings(1.0, 3.0)
    fake = known[IndividualId(2)]
    born = replace(fake.individual, parents=(IndividualId(1),))
    known[IndividualId(2)] = replace(fake, individual=born, held=True)
    assert jump(child_of(2), 3.1, known, 0.5) == Quarantined(
        IndividualId(9), IndividualId(1), 3.1 - 1.0, 0.5
    )


def test_a_run_that_goes_on_after_an_exam_holds_nobody_back_for_it() -> None:
    state, records, _ = world(fake_on_the_selection_shard)
    (held,) = kinds(records, Quarantined)
    confirmed = {r.request.id for r in kinds(records, Started) if r.request.shard == SHARDS[1]}
    unheld = [
        record
        for record in records
        if not isinstance(record, Quarantined | Cleared)
        and not (isinstance(record, Started) and record.request.id in confirmed)
        and not (isinstance(record, Ended) and record.result.request in confirmed)
    ]
    child = state.individuals[held.individual]
    own = state.next_evaluation
    exam = Request(own, child.id, child.genome, 1, SHARDS[2], Purpose.EXAM)
    lineage = MemoryLineage([*unheld, Started(exam), Ended(Result(own, Scored(1.0), MACHINE))])
    search(CONFIG, lineage, FakeEvaluation(), Leap()).run(never)
    assert kinds(lineage.records, Quarantined) == []
