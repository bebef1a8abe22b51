"""Programs that come from outside, as the search sees them."""

import pytest
from fakes import FakeEvaluation, MemoryLineage, Nudge, Wishes, folded, never, program, search

from population.errors import RunError, TaskError
from population.individual import Purpose
from population.ports import INJECT, Ended, Proposed, Quarantined, Selected, Started
from population.search import SearchConfig

SMALL = SearchConfig(mu=4, lambda_=4, max_evaluations=16)


def run(config=SMALL, wishes=None, records=(), slots=1, **world):
    lineage = MemoryLineage(list(records))
    evaluation = FakeEvaluation(slots)
    state = search(config, lineage, evaluation, injections=wishes or Wishes(), **world).run(never)
    return state, lineage.records


def injected(records):
    return [r for r in records if isinstance(r, Proposed) and r.proposal.operator == INJECT]


def screened(records):
    return [
        record.request.individual
        for record in records
        if isinstance(record, Started) and record.request.purpose is Purpose.SCREEN
    ]


class Arriving(Wishes):
    """The n-th program arrives when so many records have been made."""

    def __init__(self, arrivals, **words):
        super().__init__(**words)
        self.arrivals = dict(arrivals)
        self.seen = 0

    def observe(self, record, state):
        self.seen += 1
        if self.seen in self.arrivals:
            self.sources.append(self.arrivals.pop(self.seen))


def test_a_program_from_outside_is_an_individual_with_its_hypothesis_and_parents():
    wishes = Wishes([program(1.5)], parents=(2,))
    state, records = run(wishes=wishes)
    (record,) = injected(records)
    individual = state.individuals[record.individual.id]
    assert (individual.operator, individual.parents) == (INJECT, (2,))
    assert individual.changes[0].hypothesis == "because"
    assert individual.id not in state.founders
    assert state.ranking_values(individual.id)
    assert wishes.sources == []


def test_it_is_screened_before_anything_newly_bred_and_before_contenders():
    for moment in range(1, 50):
        wishes = Arriving({moment: program(1.5)})
        _, records = run(wishes=wishes, observer=wishes.observe, slots=2)
        if not injected(records):
            assert moment > 40
            continue
        born = records.index(injected(records)[0])
        after = [r.request for r in records[born:] if isinstance(r, Started)]
        fresh = [r.individual for r in after if r.individual > 2 and r.attempt == 1]
        assert fresh[0] == injected(records)[0].individual.id, moment


def test_it_counts_as_an_evaluation():
    wishes = Wishes([program(1.0 + n / 100) for n in range(5)])
    state, records = run(wishes=wishes, slots=3)
    assert len(injected(records)) == 5
    assert state.counted == 16
    assert len([r for r in records if isinstance(r, Ended)]) == 16


@pytest.mark.parametrize("sync", [False, True])
def test_what_cannot_be_trained_any_more_waits_for_the_next_run_which_takes_it_first(sync):
    wishes = Wishes([program(1.0 + n / 100) for n in range(30)])
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=16, sync=sync)
    state, records = run(config, wishes, slots=2)
    assert state.counted == 16
    assert len(wishes.sources) >= 30 - 12
    assert not state.unscreened
    more = SearchConfig(mu=4, lambda_=4, max_evaluations=60, sync=sync)
    _, again = run(more, wishes, records, slots=2)
    new = again[len(records) :]
    assert len(injected(again)) == 30
    assert not wishes.sources
    assert screened(new)[0] == injected(new)[0].individual.id


def test_a_limit_on_generations_holds_with_programs_from_outside():
    wishes = Wishes([program(1.0 + n / 100) for n in range(30)])
    config = SearchConfig(mu=4, lambda_=4, max_generations=3, racing_share=0.0, sync=True)
    _, records = run(config, wishes, slots=3)
    born = [r for r in records if isinstance(r, Proposed) and r.individual]
    assert len(born) == 12
    assert [r.generation for r in records if isinstance(r, Selected)] == [0, 1, 2, 3]


def test_a_strict_generation_stays_strict_whenever_a_program_comes():
    config = SearchConfig(mu=4, lambda_=4, max_generations=3, sync=True)
    for moment in range(1, 60, 3):
        arrivals = {moment + n: program(1.5 + n / 10) for n in range(3)}
        wishes = Arriving(arrivals)
        _, records = run(config, wishes, observer=wishes.observe, slots=2)
        survivors = set()
        for record in records:
            if isinstance(record, Selected):
                survivors = {member for member, _, _ in record.members}
            elif isinstance(record, Proposed) and record.proposal.operator != INJECT:
                assert set(record.proposal.parents) <= survivors, moment


def test_a_kill_between_the_record_and_the_file_gives_no_second_individual():
    lineage, wishes = MemoryLineage(), Wishes([program(1.5)], forgets=False)
    with pytest.raises(KeyboardInterrupt):
        search(SMALL, lineage, FakeEvaluation(), injections=wishes).run(never)
    assert isinstance(lineage.records[-1], Proposed)
    wishes.forgets = True
    state, records = run(wishes=wishes, records=lineage.records)
    first, second = injected(records)
    assert second.individual is None
    assert second.proposal.refusal == f"it does the same as individual {first.individual.id}"
    assert screened(records).count(first.individual.id) == 1
    assert wishes.sources == []
    assert state.counted == 16


def test_a_kill_before_the_record_leaves_the_program_where_it_waits():
    class Dying(MemoryLineage):
        def record(self, record):
            if isinstance(record, Proposed) and record.proposal.operator == INJECT:
                raise KeyboardInterrupt
            super().record(record)

    lineage, wishes = Dying(), Wishes([program(1.5)])
    with pytest.raises(KeyboardInterrupt):
        search(SMALL, lineage, FakeEvaluation(), injections=wishes).run(never)
    _, records = run(wishes=wishes, records=lineage.records)
    assert len(injected(records)) == 1


def test_refused_programs_are_rows_and_never_end_a_run():
    wishes = Wishes([program(2.0)] * 300)
    state, records = run(wishes=wishes)
    assert len(injected(records)) == 300
    assert all(r.individual is None for r in injected(records))
    assert injected(records)[0].proposal.changes[0].hypothesis == "because"
    assert state.counted == 16


def test_a_run_without_acceptable_proposals_still_says_so():
    class Never(Nudge):
        def propose(self, parents, history, rng):
            raise ZeroDivisionError

    with pytest.raises(RunError, match="200 proposals in a row"):
        run(wishes=Wishes([program(2.0)]), variation=Never())


def test_proposals_in_preparation_and_programs_from_outside_never_share_an_id():
    for moment in range(1, 40, 5):
        wishes = Arriving({moment: program(1.5), moment + 4: program(1.6)})
        _, records = run(wishes=wishes, observer=wishes.observe, slots=3)
        ids = [record.id for record in records if isinstance(record, Proposed)]
        assert len(ids) == len(set(ids))


def test_a_jump_over_its_parent_is_held_back_like_any_other():
    config = SearchConfig(mu=4, lambda_=4, max_evaluations=20, quarantine_sigmas=8.0)
    with_parent, alone = Wishes([program(-9.0)], parents=(1,)), Wishes([program(-9.0)])
    _, records = run(config, with_parent)
    held = [record for record in records if isinstance(record, Quarantined)]
    assert injected(records)[0].individual.id in {record.individual for record in held}
    state, records = run(config, alone)
    assert injected(records)[0].individual.id not in state.quarantine


def test_a_program_from_outside_saves_a_run_whose_founders_all_fail():
    with pytest.raises(TaskError):
        run(sources=["nothing"])
    state, _ = run(wishes=Wishes([program(2.0)]), sources=["nothing"])
    assert state.counted == 16


def test_the_state_is_the_fold_of_the_records():
    state, records = run(wishes=Wishes([program(1.5), program(2.0), program(1.4)]), slots=2)
    assert folded(records).history() == state.history()
