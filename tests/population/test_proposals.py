import threading
from collections import Counter
from dataclasses import replace

import pytest
from fakes import Always, Nudge, standing

from population.errors import EvolveError
from population.history import History, Program
from population.ports import Choice
from population.proposals import THREADS, Proposals

FITTEST = standing(1, 2.0)
HISTORY = History({FITTEST.individual.id: FITTEST}, (FITTEST.individual.id,), {}, 0.01)


class Gated(Nudge):
    """Its first call waits until the gate opens."""

    def __init__(self):
        super().__init__(before=self.pass_gate, slow=True)
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


def known():
    return HISTORY


def taken(proposals, history=known, **order):
    """Wait for the next proposal and return it with its number."""
    proposals.wait(60, **order)
    return proposals.take(history, **order)


def test_a_proposal_that_is_ready_overtakes_a_slow_one(made):
    variation = Gated()
    proposals = made(variation)
    proposals.prepare(HISTORY)
    while not variation.first.locked():
        pass
    proposals.prepare(HISTORY)
    assert taken(proposals).id == 2
    assert proposals.take(known) is None
    variation.gate.set()
    assert taken(proposals).id == 1
    assert len(proposals) == 0


def test_in_order_a_proposal_waits_for_its_elders(made):
    variation = Gated()
    proposals = made(variation)
    proposals.prepare(HISTORY)
    while not variation.first.locked():
        pass
    proposals.prepare(HISTORY)
    proposals.wait(60)
    assert proposals.take(known, in_order=True) is None
    variation.gate.set()
    assert [taken(proposals, in_order=True).id for _ in range(2)] == [1, 2]


def test_a_proposal_is_a_function_of_seed_number_and_history(made):
    def sources(seed, first, count):
        proposals = made(Nudge(), seed, first)
        for _ in range(count):
            proposals.prepare(HISTORY)
        return [taken(proposals, in_order=True).proposal.genome.source for _ in range(count)]

    four = sources(1, 1, 4)
    assert len(set(four)) == 4
    assert sources(1, 3, 2) == four[2:]
    assert not set(sources(2, 1, 4)) & set(four)


def test_an_operator_that_raises_has_refused_with_what_it_said(made):
    def fail():
        raise RecursionError("too deep")

    proposals = made(Nudge(before=fail))
    proposals.prepare(HISTORY)
    proposal = taken(proposals).proposal
    assert proposal.genome is None
    assert proposal.parents == (1,)
    assert "RecursionError: too deep" in proposal.refusal


@pytest.mark.parametrize("answer", [None, "A = 1"])
def test_an_operator_that_returns_something_else_has_refused(made, answer):
    class Odd(Nudge):
        def propose(self, parents, history, rng):
            return answer

    proposals = made(Odd())
    proposals.prepare(HISTORY)
    proposal = taken(proposals).proposal
    assert proposal.genome is None
    assert f"{type(answer).__name__}; a Proposal is expected" in proposal.refusal


def test_an_error_that_names_a_remedy_passes_through(made):
    def fail():
        raise EvolveError("no key is set; export ANTHROPIC_API_KEY")

    proposals = made(Nudge(before=fail))
    proposals.prepare(HISTORY)
    with pytest.raises(EvolveError, match="no key"):
        taken(proposals)


def test_before_anything_is_scored_all_founders_breed_alike_but_those_that_failed(made):
    founders = [standing(1, None), replace(standing(2, None), failures=1), standing(3, None)]
    history = History({one.individual.id: one for one in founders}, (), {}, 0.0)
    proposals = made(Nudge())
    parents = Counter()
    for _ in range(60):
        proposals.prepare(history)
        parents[taken(proposals, lambda: history).proposal.parents] += 1
    assert parents.keys() == {(1,), (3,)}
    assert min(parents.values()) > 15


def test_where_every_founder_has_failed_a_proposal_is_refused(made):
    failed = replace(standing(1, None), failures=1)
    history = History({failed.individual.id: failed}, (), {}, 0.0)
    proposals = made(Nudge())
    proposals.prepare(history)
    assert "there are 0" in taken(proposals, lambda: history).proposal.refusal


def test_the_scored_breed_while_there_is_no_survivor_set(made):
    proposals = made(Nudge())
    history = History({FITTEST.individual.id: FITTEST}, (), {}, 0.0)
    proposals.prepare(history)
    assert taken(proposals, lambda: history).proposal.parents == (1,)


def test_a_quick_proposal_is_made_from_what_is_known_when_it_is_taken(made):
    failed = replace(standing(1, None), failures=1)
    proposals = made(Nudge())
    proposals.prepare(History({failed.individual.id: failed}, (), {}, 0.0))
    assert taken(proposals).proposal.parents == (1,)


def test_a_slow_proposal_is_made_from_what_was_known_when_it_was_asked_for(made):
    failed = replace(standing(1, None), failures=1)
    proposals = made(Nudge(slow=True))
    proposals.prepare(History({failed.individual.id: failed}, (), {}, 0.0))
    assert "there are 0" in taken(proposals).proposal.refusal


def test_quick_proposals_that_nobody_took_cost_nothing_and_are_forgotten(made):
    def fail():
        raise AssertionError("it was made")

    proposals = made(Nudge(before=fail))
    proposals.prepare(HISTORY)
    proposals.forget_quick()
    assert len(proposals) == 0


class Recorded:
    """A portfolio that gives what a test has laid out, the last one again and again, and keeps
    what it was shown."""

    def __init__(self, *choices):
        self.choices = list(choices)
        self.shown = []

    def choose(self, history, rng, quick=False):
        self.shown.append((history, quick))
        return self.choices.pop(0) if len(self.choices) > 1 else self.choices[0]


def test_a_quick_proposal_is_chosen_anew_by_whoever_takes_it():
    history = replace(HISTORY, standings=HISTORY.standings | {2: standing(2, None)})
    portfolio = Recorded(Choice(Nudge()), Choice(Nudge(), (2,)))
    proposals = Proposals(portfolio, 1, 1)
    proposals.prepare(HISTORY)
    assert taken(proposals, lambda: history).proposal.parents == (2,)
    latest, waits = portfolio.shown[-1]
    assert (set(latest.standings), latest.proposal, waits) == ({1, 2}, 1, True)
    proposals.close()


def test_the_portfolio_is_told_the_number_and_whether_a_slot_waits(made):
    portfolio = Recorded(Choice(Nudge()), Choice(Nudge()))
    proposals = Proposals(portfolio, 1, 7)
    proposals.prepare(HISTORY)
    proposals.prepare(HISTORY, quick=True)
    assert [(history.proposal, quick) for history, quick in portfolio.shown] == [
        (7, False),
        (8, True),
    ]
    proposals.close()


def test_parents_that_the_portfolio_names_are_taken_and_no_others():
    history = replace(HISTORY, standings=HISTORY.standings | {2: standing(2, None)})
    proposals = Proposals(Recorded(Choice(Nudge(), (2,))), 1, 1)
    proposals.prepare(history)
    assert taken(proposals, lambda: history).proposal.parents == (2,)
    proposals.close()


def test_whom_a_pending_proposal_names_counts_as_tried_until_it_is_taken():
    gated = Gated()
    portfolio = Recorded(Choice(gated, (1,)), Choice(Nudge()), Choice(Nudge()))
    proposals = Proposals(portfolio, 1, 1)
    history = replace(HISTORY, tried=frozenset({9}))
    proposals.prepare(history)
    proposals.prepare(history)
    gated.gate.set()
    assert taken(proposals, in_order=True).id == 1
    proposals.prepare(history)
    assert [set(shown.tried) for shown, _ in portfolio.shown] == [{9}, {1, 9}, {9}]
    proposals.close()


def test_a_proposal_keeps_the_program_that_it_was_made_under(made):
    variation = Gated()
    proposals = made(variation)
    proposals.prepare(replace(HISTORY, program=Program("old", "a" * 64)))
    while not variation.first.locked():
        pass
    now = replace(HISTORY, program=Program("new", "b" * 64))
    proposals.prepare(now)
    assert taken(proposals, lambda: now).program.text == "new"
    variation.gate.set()
    assert taken(proposals).program.sha256 == "a" * 64


def test_each_proposal_is_told_how_many_slow_ones_are_being_made_beside_it():
    go_on = threading.Event()
    slow = Nudge(slow=True, before=lambda: go_on.wait(60))
    portfolio = Recorded(Choice(slow), Choice(slow), Choice(Nudge()), Choice(slow))
    proposals = Proposals(portfolio, 1, 1)
    for _ in range(4):
        proposals.prepare(HISTORY)
    assert [history.beside for history, _ in portfolio.shown] == [0, 1, 2, 2]
    go_on.set()
    proposals.close()


def test_quick_proposals_do_not_wait_for_slow_ones_however_many_hang(made):
    go_on = threading.Event()
    slow = Nudge(slow=True, before=lambda: go_on.wait(60))
    choices = [Choice(slow)] * (THREADS + 1) + [Choice(Nudge())]
    proposals = Proposals(Recorded(*choices), 1, 1)
    for _ in range(THREADS + 1):
        proposals.prepare(HISTORY)
    assert proposals.all_slow
    assert proposals.slow == THREADS + 1
    proposals.prepare(HISTORY, quick=True)
    assert not proposals.all_slow
    ready = taken(proposals)
    assert (ready.id, ready.slow) == (THREADS + 2, False)
    go_on.set()
    assert taken(proposals).slow
    proposals.close()


def test_whom_the_quarantine_holds_does_not_breed(made):
    held = replace(standing(2, 99.0), held=True)
    proposals = made(Nudge(arity=2))
    history = History({1: FITTEST, 2: held}, (), {}, 0.0)
    proposals.prepare(history)
    assert "there are 1" in taken(proposals, lambda: history).proposal.refusal
