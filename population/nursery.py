"""From proposals to individuals: what is asked ahead, what is born, what is refused."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from population.history import History, Program
from population.individual import IndividualId
from population.limits import SearchConfig, founder_due, places_left, promised
from population.lookahead import Lookahead
from population.parents import Mode, seen_by, some_in_turn
from population.ports import Injections, Proposal, Proposed, Record
from population.proposals import Portfolio, Proposals, Ready
from population.state import State

WAIT_S = 0.5
GIVE_UP_S = 5.0
"""How long proposals that were told to give up are awaited, for what they have cost."""
LEFTOVERS_S = 60.0
"""How long answers are waited for that no slot needs any more: they are paid for, and may teach."""
REFUSALS_IN_A_ROW = 200
BLIND_REFUSALS = 20
"""Refused proposals from founders without a score, after which slots wait for the scores."""


@dataclass
class Nursery:
    """Breeds individuals for slots that are free. Used from the driver's thread.

    Attributes:
        config, portfolio, program, injections: as in `Search`.
        state: of the run; `record` stores a record and folds it in.
        slots: how many there are now. is_over: whether nothing new is to be trained.
        refusals: why the latest proposals in a row came to nothing.
    """

    config: SearchConfig
    state: State
    portfolio: Portfolio
    program: Callable[[], Program]
    injections: Injections | None
    slots: Callable[[], int]
    record: Callable[[Record], None]
    is_over: Callable[[], bool]

    def __post_init__(self) -> None:
        self._proposals = Proposals(self.portfolio, self.config.seed, self.state.next_proposal)
        self._lookahead = Lookahead()
        self._blind_refusals = 0
        self.refusals: list[str] = []

    def __len__(self) -> int:
        return len(self._proposals)

    @property
    def is_exhausted(self) -> bool:
        """Whether the operators offer nothing acceptable any more."""
        return len(self.refusals) >= REFUSALS_IN_A_ROW

    @property
    def awaited(self) -> int:
        """How many of those in preparation take their time."""
        return self._proposals.slow

    def wait(self, timeout_s: float) -> None:
        """Wait until a proposal is ready, at most so long."""
        self._proposals.wait(timeout_s, in_order=self.config.sync)

    def close(self) -> None:
        """Give up what has not begun."""
        self._proposals.close()

    def take_injections(self) -> None:
        """Make individuals of the programs that wait outside, as far as they can be trained."""
        while self.injections is not None and not self.is_over():
            if places_left(self.config, self.state) <= promised(
                self.config, self.state, len(self._proposals)
            ):
                return
            injection = self.injections.first(self.state.history())
            if injection is None:
                return
            own, program = self._proposals.reserve(), self.program()
            ready = Ready(own, injection.proposal, program, slow=False)
            if ready.proposal.genome is None:  # no fault of the operators: it ends no run
                self._refuse(ready, ready.proposal.refusal)
            else:
                self._judge(ready)
            self.injections.done(injection)

    def prepare_ahead(self) -> None:
        """Keep as many proposals in preparation as the look-ahead wants."""
        founding = (
            not self.state.anything_scored or founder_due(self.config, self.state) is not None
        )
        if founding or self.is_over():
            return
        waiting = len(self.state.unscreened)
        places = places_left(self.config, self.state) + waiting
        wanted = self._lookahead.wanted(self.slots(), places)
        while len(self._proposals) + waiting < wanted:
            self._proposals.prepare(self._breeding())

    def keep_answers(self) -> None:
        """Record what slow operators have made as soon as it is there: it has cost something."""
        while not self.is_over() and places_left(self.config, self.state) > 0:
            ready = self._proposals.take(self._breeding, in_order=self.config.sync, slow=True)
            if ready is None:
                break
            self._judge(ready)
            if len(self.state.unscreened) > self.slots():
                self._lookahead.pile_up()

    def _breeding(self) -> History:
        """Return what operators may know now.

        A population whose survivors have nothing left to give turns to all who have a score, a few
        at a time.
        """
        mode, strict = self.config.mode, self.config.sync
        seen = seen_by(mode, self.state.history(), self.state.founders, strict)
        if mode is Mode.EVOLVE and len(self.refusals) >= REFUSALS_IN_A_ROW // 2:
            seen = replace(seen, survivors=some_in_turn(seen, len(self.refusals), self.config.mu))
        return replace(seen, program=self.program())

    def _fill_in(self) -> bool:
        """A slot is free and whatever is in preparation takes its time: ask a quick operator.

        Returns whether there is a quick proposal now.
        """
        places, pending = places_left(self.config, self.state), len(self._proposals)
        if self._proposals.all_slow and self._lookahead.fill_in(self.slots(), places, pending):
            self._proposals.prepare(self._breeding(), quick=True)
        return not self._proposals.all_slow

    def _begin_blind(self) -> bool:
        """Prepare a proposal from founders that have no score yet, for a slot beside them.

        Only a population breeds so: all others breed from the best founder, and nobody knows it.
        Where all founders have failed so far there is nobody to breed from.
        Returns whether there is a quick one.
        """
        enough = self._blind_refusals >= BLIND_REFUSALS or len(self._proposals) >= self.slots()
        if self.config.mode is not Mode.EVOLVE or enough:
            return False
        known = self._breeding()
        if not known.breeders:
            return False
        self._proposals.prepare(known, quick=True)
        return not self._proposals.all_slow

    def breed(self) -> IndividualId | None:
        """Make an individual of the first acceptable proposal that is ready."""
        while not self.is_over() and places_left(self.config, self.state) > 0:
            ready = self._proposals.take(self._breeding, in_order=self.config.sync)
            if ready is None:
                fill_in = self._fill_in if self.state.anything_scored else self._begin_blind
                if self.config.sync or not fill_in():
                    return None
                continue
            individual = self._judge(ready)
            self.prepare_ahead()
            if individual is not None:
                return individual
        return None

    def _judge(self, ready: Ready) -> IndividualId | None:
        proposal = ready.proposal
        twin = self.state.fingerprints.get(proposal.fingerprint)
        if proposal.genome is None or twin is not None:
            reason = proposal.refusal or f"it equals individual {twin}"
            self._count_refusal(ready, reason)
            self._refuse(ready, reason)
            return None
        individual = ready.individual(self.state.next_individual)
        self.refusals.clear()
        self._lookahead.accepted()
        self.record(Proposed(ready.id, proposal, individual))
        return individual.id

    def _count_refusal(self, ready: Ready, reason: str) -> None:
        """Count towards the end of the search, but for quick ones beside an answer that may come.

        In the time of one such answer they would be refused in their hundreds.
        """
        self._lookahead.refused(ready.slow)
        if not self.state.anything_scored:
            self._blind_refusals += 1
        elif ready.slow or not self._proposals.slow:
            self.refusals.append(reason)

    def _refuse(self, ready: Ready, reason: str) -> None:
        refused: Proposal = replace(ready.proposal, genome=None, refusal=reason)
        self.record(Proposed(ready.id, refused, None))

    def record_leftovers(
        self, should_stop: Callable[[], bool], give_up: Callable[[], None]
    ) -> None:
        """Record what was prepared for slots that never came free: it has cost something.

        After a stop or `LEFTOVERS_S`, what is still not ready a few seconds after it was told to
        give up is lost; the order is then that in which they come.
        """
        given_up_at, patient_until = math.inf, time.monotonic() + LEFTOVERS_S
        in_order = self.config.sync
        self._proposals.forget_quick()
        while len(self._proposals) and time.monotonic() < given_up_at:
            impatient = should_stop() or time.monotonic() > patient_until
            if impatient and given_up_at == math.inf:
                given_up_at = time.monotonic() + GIVE_UP_S
                in_order = False
                give_up()
            ready = self._proposals.take(self._breeding, in_order)
            if ready is None:
                self._proposals.wait(WAIT_S, in_order)
            else:
                unused = "the run ended before it could be trained"
                self._refuse(ready, ready.proposal.refusal or unused)
