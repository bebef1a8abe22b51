"""Proposals: slow ones are prepared ahead, so that no slot waits; quick ones know the latest."""

import threading
from collections.abc import Callable, Set
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from population.errors import EvolveError
from population.history import History, Program
from population.individual import Individual, IndividualId, ProposalId
from population.parents import choose_parents
from population.ports import Choice, Proposal

THREADS = 64
"""Proposals of slow operators that are made at once, at most."""


class Portfolio(Protocol):
    """Decides which variation is tried next."""

    def choose(self, history: History, rng: np.random.Generator, quick: bool = False) -> Choice:
        """Return one of its variations.

        Called from the driver's thread. A function of its arguments, but for one thing: an
        operator that cannot work at present is left out. A variation whose arity exceeds the
        number of scored survivors leads to a refused proposal.

        Args:
            history: with the number of the proposal.
            rng: the proposal's own stream.
            quick: a slot waits: choose one that is not slow, if there is any. Whatever was chosen
                for a proposal that is quick is asked for again, so, when it is made.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A proposal in preparation; `future` is None of a quick one, which is made when it is taken.

    Attributes:
        choice: of a quick one, only a sign that it is quick: it is chosen anew when it is made.
        rng: the proposal's own stream. program: what a slow one is made under.
    """

    choice: Choice
    rng: np.random.Generator
    program: Program
    future: Future[Proposal] | None


@dataclass(frozen=True, slots=True)
class Ready:
    """A proposal that is made.

    Attributes:
        program: what it was made under. slow: whether its operator takes its time.
    """

    id: ProposalId
    proposal: Proposal
    program: Program
    slow: bool = False

    def individual(self, own: IndividualId) -> Individual:
        """Return it as an individual. Raises ValueError where it offers no program."""
        proposal = self.proposal
        if proposal.genome is None:
            raise ValueError(f"proposal {self.id} offers no program: {proposal.refusal}")
        return Individual(
            id=own,
            genome=proposal.genome,
            parents=proposal.parents,
            operator=proposal.operator,
            structure=proposal.structure,
            fingerprint=proposal.fingerprint,
            constants=proposal.constants,
            changes=proposal.changes,
            proposal=self.id,
            program_sha256=self.program.sha256,
        )


class Proposals:
    """The proposals in preparation, each with a random stream of its own.

    The stream of proposal p is seeded by (seed, p) and its history is a snapshot, so that a
    keyless proposal is a function of both. A slow one is made in a thread, from the history of
    when it was prepared; a quick one is chosen and made by whoever takes it, from the history of
    then: with few slots, what was learnt last is what matters most. Used from one thread.
    """

    def __init__(self, portfolio: Portfolio, seed: int, first: ProposalId) -> None:
        self._portfolio = portfolio
        self._seed = seed
        self._next = first
        self._room = threading.BoundedSemaphore(THREADS)
        self._closed = False
        self._pending: dict[ProposalId, Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def all_slow(self) -> bool:
        """Whether everything in preparation takes its time."""
        return all(pending.choice.variation.slow for pending in self._pending.values())

    @property
    def slow(self) -> int:
        """How many of those in preparation take their time."""
        return sum(pending.choice.variation.slow for pending in self._pending.values())

    def prepare(self, history: History, quick: bool = False) -> None:
        """Choose an operator for one more, and start it where it is slow; returns at once.

        Args:
            history: its number and what is tried already are filled in here.
            quick: a slot waits for it.
        """
        own = self.reserve()
        rng = np.random.default_rng([self._seed, own])
        tried = history.tried | self._parents()
        history = replace(history, proposal=own, tried=tried, beside=self.slow)
        choice = self._portfolio.choose(history, rng, quick)
        future: Future[Proposal] | None = None
        if choice.variation.slow:
            future = Future()
            # a daemon: the end of the process does not wait for an answer from elsewhere
            threading.Thread(
                target=self._make, args=(future, choice, history, rng), name="proposal", daemon=True
            ).start()
        self._pending[own] = Pending(choice, rng, history.program, future)

    def reserve(self) -> ProposalId:
        """Return an id for a proposal that comes from elsewhere; no other one gets it."""
        own = self._next
        self._next = ProposalId(own + 1)
        return own

    def _make(
        self, future: Future[Proposal], choice: Choice, history: History, rng: np.random.Generator
    ) -> None:
        with self._room:
            if self._closed:
                return
            try:
                future.set_result(propose(choice, history, rng))
            except BaseException as error:  # noqa: BLE001 - told to whoever takes the proposal
                future.set_exception(error)

    def _parents(self) -> Set[IndividualId]:
        return {one for pending in self._pending.values() for one in pending.choice.parents}

    def take(
        self, history: Callable[[], History], in_order: bool = False, slow: bool = False
    ) -> Ready | None:
        """Return a proposal that is ready, the eldest first, or None.

        Args:
            history: what is known now; a quick one is made from it.
            in_order: take the eldest or none, whichever others are ready.
            slow: take none but those of slow operators.

        Raises:
            EvolveError: what the operator raised.
        """
        for own, pending in self._pending.items():
            ready = pending.future.done() if pending.future else not slow
            if ready:
                del self._pending[own]
                return self._ready(own, pending, history)
            if in_order:
                break
        return None

    def _ready(self, own: ProposalId, pending: Pending, history: Callable[[], History]) -> Ready:
        if pending.future is not None:
            return Ready(own, pending.future.result(), pending.program, slow=True)
        known = history()
        known = replace(known, proposal=own, tried=known.tried | self._parents())
        choice = self._portfolio.choose(known, pending.rng, quick=True)
        return Ready(own, propose(choice, known, pending.rng), known.program)

    def forget_quick(self) -> None:
        """Drop the quick ones: they are not made yet and have cost nothing."""
        self._pending = {own: one for own, one in self._pending.items() if one.future is not None}

    def wait(self, timeout_s: float, in_order: bool = False) -> None:
        """Wait until one is ready (with `in_order`, the eldest), at most `timeout_s`."""
        waiting = list(self._pending.values())[: 1 if in_order else None]
        futures = [one.future for one in waiting if one.future is not None]
        if len(futures) == len(waiting):  # else a quick one can be made
            wait(futures, timeout_s, FIRST_COMPLETED)

    def close(self) -> None:
        """Give up what has not begun; what runs ends unheard."""
        self._closed = True


def propose(choice: Choice, history: History, rng: np.random.Generator) -> Proposal:
    """Choose parents where none are named and return what the variation offers.

    An operator that raises, or returns something else, has refused: one odd program must not end a
    long run. An EvolveError names a cause and a remedy (no key, a spending cap) and passes through.
    """
    variation, parents = choice.variation, choice.parents
    if not parents:
        among = history.breeders
        if len(among) < variation.arity:
            reason = f"it needs {variation.arity} scored parents and there are {len(among)}"
            return Proposal(variation.name, (), None, refusal=reason)
        parents = choose_parents(history.standings, among, variation.arity, rng)
    try:
        found: object = variation.propose(
            [history.standings[one].individual for one in parents], history, rng
        )
        if not isinstance(found, Proposal):
            raise TypeError(f"propose returned {type(found).__name__}; a Proposal is expected")
        return found
    except EvolveError:
        raise
    except Exception as error:  # noqa: BLE001 - the worker boundary: recorded as a refusal
        reason = f"the operator failed: {type(error).__name__}: {error}"
        return Proposal(variation.name, parents, None, refusal=reason)
