"""Proposals prepared ahead, so that a free slot need not wait for an operator."""

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

import numpy as np

from population.errors import EvolveError
from population.individual import ProposalId
from population.parents import choose_parents
from population.ports import History, Proposal, Variation

THREADS = 64
"""Upper bound; threads are created as they are needed."""


class Portfolio(Protocol):
    """Decides which variation is tried next."""

    def choose(self, history: History, rng: np.random.Generator) -> Variation:
        """Return one of its variations.

        Called from several threads at once; a function of its arguments. A variation whose arity
        exceeds the number of scored survivors leads to a refused proposal.
        """
        ...


class Proposals:
    """The proposals in preparation, each with a random stream of its own.

    The stream of proposal p is seeded by (seed, p) and its history is a snapshot, so that a
    proposal is a function of both whenever its thread runs. Used from one thread.
    """

    def __init__(self, portfolio: Portfolio, seed: int, first: ProposalId) -> None:
        self._portfolio = portfolio
        self._seed = seed
        self._next = first
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="proposal")
        self._pending: dict[ProposalId, Future[Proposal]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def prepare(self, history: History) -> None:
        """Start one more; returns at once."""
        rng = np.random.default_rng([self._seed, self._next])
        self._pending[self._next] = self._executor.submit(propose, self._portfolio, history, rng)
        self._next = ProposalId(self._next + 1)

    def take(self, in_order: bool = False) -> tuple[ProposalId, Proposal] | None:
        """Return a proposal that is ready, the eldest first, or None.

        Args:
            in_order: take the eldest or none, whichever others are ready.

        Raises:
            EvolveError: what the operator raised.
        """
        for proposal_id, future in self._pending.items():
            if future.done():
                del self._pending[proposal_id]
                return proposal_id, future.result()
            if in_order:
                break
        return None

    def wait(self, timeout_s: float, in_order: bool = False) -> None:
        """Wait until one is ready (with `in_order`, the eldest), at most `timeout_s`."""
        futures = list(self._pending.values())
        wait(futures[:1] if in_order else futures, timeout_s, FIRST_COMPLETED)

    def close(self) -> None:
        """Give up what has not begun; what runs ends unheard."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def propose(portfolio: Portfolio, history: History, rng: np.random.Generator) -> Proposal:
    """Choose a variation and its parents and return what it offers.

    An operator that raises has refused: one odd program must not end a long run. An EvolveError
    names a cause and a remedy (no key, a spending cap) and passes through.
    """
    variation = portfolio.choose(history, rng)
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
