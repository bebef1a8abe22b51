"""Variation by a language model: explore, refine, simplify, repair, and crossover.

One operator for each intent: they differ in what the prompt asks for, in how many parents it shows
and, for a repair, in whom the child descends from.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from mutate import prompt
from mutate.bandit import credits, model_of
from mutate.checks import Checks
from mutate.desk import Desk
from mutate.dialogue import Dialogue, Drafted, Prompts
from mutate.notes import NOTES_EVERY, with_fresh_notes
from mutate.novelty import Offer, checked, ill_called, normalised_diff, refused, twin
from mutate.prompt import Brief, Intent
from population.history import History
from population.individual import Change, Individual
from population.ports import Attempt, Proposal


class LlmVariation:
    """Asks a language model for a changed program; see the Variation port.

    Args:
        intent: what the proposals are for; names the operator.
        desk: who is asked. checks, brief: of the task.
        arity: how many parents the prompt shows.
        effort: of every call; empty: drawn.
    """

    slow = True

    def __init__(
        self, intent: Intent, desk: Desk, checks: Checks, brief: Brief, arity: int, effort: str = ""
    ) -> None:
        self.name = intent.value
        self.arity = arity
        self._intent = intent
        self._desk = desk
        self._checks = checks
        self._brief = brief
        self._effort = effort

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return what the model made of the first parent's text."""
        notes: tuple[Attempt, ...] = ()
        if history.proposal % NOTES_EVERY == 0:
            history, notes = with_fresh_notes(history, self._desk, self._brief, rng, self._effort)
        named = _descent(self._intent, parents, history)
        dialogue = self._dialogue(parents, history, rng)
        try:
            drafted = dialogue.hold()
            attempts = (*notes, *drafted.attempts)
            if drafted.source is None:
                return refused(self.name, named, drafted.refusal, attempts)
            change = _change(self._intent, named, drafted)
            offer = Offer(self.name, named, drafted.source, (change,), attempts)
            return checked(offer, self._checks, history)
        except Exception as error:  # noqa: BLE001 - what was paid for is recorded, whatever breaks
            reason = f"the operator failed: {type(error).__name__}: {error}"
            return refused(self.name, named, reason, (*notes, *dialogue.attempts))

    def _dialogue(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Dialogue:
        prompts = Prompts(
            system=partial(prompt.system, self._brief, history.program.text),
            opening=partial(prompt.opening, self._intent, parents, history, self._brief, rng),
            source=parents[0].genome.source,
            worths=credits(history, model_of, history.models),
        )

        named = _descent(self._intent, parents, history)

        def judge(source: str) -> str:
            reason = self._checks.refusal(source) or twin(source, self._checks, history)
            return reason or (ill_called(source, named) if self._checks.python else "")

        return Dialogue(self._desk, prompts, judge, rng, self._effort)


def _descent(
    intent: Intent, parents: Sequence[Individual], history: History
) -> tuple[Individual, ...]:
    """Return whom the child descends from.

    A repaired program is a child of the failed one's parent, which has a score to compare with,
    and of the failed one.
    """
    if intent is not Intent.REPAIR:
        return tuple(parents)
    (failed,) = parents
    origin = [history.standings[one].individual for one in failed.parents[:1]]
    return (*origin, failed)


def _change(intent: Intent, named: Sequence[Individual], drafted: Drafted) -> Change:
    hypothesis = drafted.hypothesis
    if intent is Intent.REPAIR and named[-1].changes:
        hypothesis = f"{named[-1].changes[0].hypothesis}; repaired: {hypothesis}"
    diff = normalised_diff(named[0].genome.source, drafted.source or "")
    return Change(diff, hypothesis, drafted.category)
