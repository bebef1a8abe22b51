import threading

import pytest
from fakes import Always, Nudge, standing

from population.errors import EvolveError
from population.ports import History
from population.proposals import Proposals

FITTEST = standing(1, 2.0)
HISTORY = History({FITTEST.individual.id: FITTEST}, (FITTEST.individual.id,), {}, 0.01)


class Gated(Nudge):
    """Its first call waits until the gate opens."""

    def __init__(self):
        super().__init__(before=self.pass_gate)
        self.gate = threading.Event()
        self.first = threading.Lock()

    def pass_gate(self):
        if self.first.acquire(blocking=False):
            assert self.gate.wait(60)


@pytest.fixture
def made():
    opened = []

    def make(variation, seed=1, first=1):
        opened.append(Proposals(Always(variation), seed, first))
        return opened[-1]

    yield make
    for proposals in opened:
        proposals.close()


def taken(proposals, **order):
    """Wait for the next proposal and return it with its number."""
    proposals.wait(60, **order)
    return proposals.take(**order)


def test_a_proposal_that_is_ready_overtakes_a_slow_one(made):
    variation = Gated()
    proposals = made(variation)
    proposals.prepare(HISTORY)
    while not variation.first.locked():
        pass
    proposals.prepare(HISTORY)
    assert taken(proposals)[0] == 2
    assert proposals.take() is None
    variation.gate.set()
    assert taken(proposals)[0] == 1
    assert len(proposals) == 0


def test_in_order_a_proposal_waits_for_its_elders(made):
    variation = Gated()
    proposals = made(variation)
    proposals.prepare(HISTORY)
    while not variation.first.locked():
        pass
    proposals.prepare(HISTORY)
    proposals.wait(60)
    assert proposals.take(in_order=True) is None
    variation.gate.set()
    assert [taken(proposals, in_order=True)[0] for _ in range(2)] == [1, 2]


def test_a_proposal_is_a_function_of_seed_number_and_history(made):
    def sources(seed, first, count):
        proposals = made(Nudge(), seed, first)
        for _ in range(count):
            proposals.prepare(HISTORY)
        return [taken(proposals, in_order=True)[1].genome.source for _ in range(count)]

    four = sources(1, 1, 4)
    assert len(set(four)) == 4
    assert sources(1, 3, 2) == four[2:]
    assert not set(sources(2, 1, 4)) & set(four)


def test_an_operator_that_raises_has_refused_with_what_it_said(made):
    def fail():
        raise RecursionError("too deep")

    proposals = made(Nudge(before=fail))
    proposals.prepare(HISTORY)
    _, proposal = taken(proposals)
    assert proposal.genome is None
    assert proposal.parents == (1,)
    assert "RecursionError: too deep" in proposal.refusal


def test_an_error_that_names_a_remedy_passes_through(made):
    def fail():
        raise EvolveError("no key is set; export ANTHROPIC_API_KEY")

    proposals = made(Nudge(before=fail))
    proposals.prepare(HISTORY)
    with pytest.raises(EvolveError, match="no key"):
        taken(proposals)


def test_before_anything_is_scored_a_proposal_is_refused(made):
    proposals = made(Nudge())
    unscored = standing(1, None)
    proposals.prepare(History({unscored.individual.id: unscored}, (), {}, 0.0))
    assert "there are 0" in taken(proposals)[1].refusal


def test_the_scored_breed_while_there_is_no_survivor_set(made):
    proposals = made(Nudge())
    proposals.prepare(History({FITTEST.individual.id: FITTEST}, (), {}, 0.0))
    assert taken(proposals)[1].parents == (1,)
