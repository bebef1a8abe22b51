"""Proposals prepared ahead, so that a free slot need not wait for an operator."""

import threading
from collections.abc import Set
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from population.errors import EvolveError
from population.individual import Individual, IndividualId, ProposalId
from population.parents import choose_parents
from population.ports import Choice, History, Program, Proposal

THREADS = 64
"""Proposals of slow operators, and as many of others, that are made at once, at most."""


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
            quick: a slot waits: choose one that is not slow, if there is any.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """A proposal in preparation."""

    choice: Choice
    program: Program
    future: Future[Proposal]


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
    keyless proposal is a function of both whenever its thread runs. Used from one thread.
    """

    def __init__(self, portfolio: Portfolio, seed: int, first: ProposalId) -> None:
        self._portfolio = portfolio
        self._seed = seed
        self._next = first
        # two rooms: answers that do not come hold one, and no free slot with it
        self._rooms = {slow: threading.BoundedSemaphore(THREADS) for slow in (True, False)}
        self._closed = False
        self._pending: dict[ProposalId, Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def all_slow(self) -> bool:
        """Whether everything in preparation takes its time."""
        return all(pending.choice.variation.slow for pending in self._pending.values())

    @property
    def any_slow(self) -> bool:
        """Whether anything in preparation takes its time."""
        return any(pending.choice.variation.slow for pending in self._pending.values())

    @property
    def ready(self) -> int:
        """How many are made and not taken yet."""
        return sum(pending.future.done() for pending in self._pending.values())

    def prepare(self, history: History, quick: bool = False) -> None:
        """Start one more; returns at once.

        Args:
            history: its number and what is tried already are filled in here.
            quick: a slot waits for it.
        """
        own = self.reserve()
        rng = np.random.default_rng([self._seed, own])
        history = replace(history, proposal=own, tried=history.tried | self._parents())
        choice = self._portfolio.choose(history, rng, quick)
        future: Future[Proposal] = Future()
        # a daemon: the end of the process does not wait for an answer from elsewhere
        threading.Thread(
            target=self._make, args=(future, choice, history, rng), name="proposal", daemon=True
        ).start()
        self._pending[own] = Pending(choice, history.program, future)

    def reserve(self) -> ProposalId:
        """Return an id for a proposal that comes from elsewhere; no other one gets it."""
        own = self._next
        self._next = ProposalId(own + 1)
        return own

    def _make(
        self, future: Future[Proposal], choice: Choice, history: History, rng: np.random.Generator
    ) -> None:
        with self._rooms[choice.variation.slow]:
            if self._closed:
                return
            try:
                future.set_result(propose(choice, history, rng))
            except BaseException as error:  # noqa: BLE001 - told to whoever takes the proposal
                future.set_exception(error)

    def _parents(self) -> Set[IndividualId]:
        return {one for pending in self._pending.values() for one in pending.choice.parents}

    def take(self, in_order: bool = False, slow: bool = False) -> Ready | None:
        """Return a proposal that is ready, the eldest first, or None.

        Args:
            in_order: take the eldest or none, whichever others are ready.
            slow: take none but those of slow operators.

        Raises:
            EvolveError: what the operator raised.
        """
        for proposal_id, pending in self._pending.items():
            own = pending.choice.variation.slow
            if pending.future.done() and own >= slow:
                del self._pending[proposal_id]
                return Ready(proposal_id, pending.future.result(), pending.program, own)
            if in_order:
                break
        return None

    def wait(self, timeout_s: float, in_order: bool = False) -> None:
        """Wait until one is ready (with `in_order`, the eldest), at most `timeout_s`."""
        futures = [pending.future for pending in self._pending.values()]
        wait(futures[:1] if in_order else futures, timeout_s, FIRST_COMPLETED)

    def close(self) -> None:
        """Give up what has not begun; what runs ends unheard."""
        self._closed = True


def propose(choice: Choice, history: History, rng: np.random.Generator) -> Proposal:
    """Choose parents where none are named and return what the variation offers.

    An operator that raises has refused: one odd program must not end a long run. An EvolveError
    names a cause and a remedy (no key, a spending cap) and passes through.
    """
    variation, parents = choice.variation, choice.parents
    if not parents:
        breeders = history.survivors or tuple(
            one for one, s in history.standings.items() if s.fitness is not None and not s.held
        )
        if len(breeders) < variation.arity:
            reason = f"it needs {variation.arity} scored parents and there are {len(breeders)}"
            return Proposal(variation.name, (), None, refusal=reason)
        parents = choose_parents(history.standings, breeders, variation.arity, rng)
    try:
        return variation.propose(
            [history.standings[one].individual for one in parents], history, rng
        )
    except EvolveError:
        raise
    except Exception as error:  # noqa: BLE001 - the worker boundary: recorded as a refusal
        reason = f"the operator failed: {type(error).__name__}: {error}"
        return Proposal(variation.name, parents, None, refusal=reason)
