"""Notes: now and then a model distils what the lineage teaches, for the proposals that follow."""

from dataclasses import replace

import numpy as np

from mutate.desk import Desk
from mutate.dialogue import attempt
from mutate.llm import NotAsked, Question, Unavailable
from mutate.prompt import Brief, distil
from mutate.text import bounded
from population.history import History
from population.ports import ACCEPTED, NOTES, Attempt

NOTES_EVERY = 16
"""Every so many proposals one begins with a call that distils; counted, so that two never do."""
NOTES_CHARACTERS = 3_000
ANSWER_TOKENS = 8_000
ENOUGH = 6
"""Individuals that were bred, below which there is nothing to distil."""


def with_fresh_notes(
    history: History, desk: Desk, brief: Brief, rng: np.random.Generator, effort: str = ""
) -> tuple[History, tuple[Attempt, ...]]:
    """Return the history with new notes, and the call that made them; as it was where none came."""
    bred = sum(bool(s.individual.changes) for s in history.standings.values())
    model = desk.pick(rng) if bred >= ENOUGH else None
    if model is None:
        return history, ()
    system, opening = distil(history, brief, model)
    length = min(ANSWER_TOKENS, model.answer_tokens)
    question = Question(model, system, (opening,), length, effort if model.effort else "")
    try:
        answer = desk.ask(question)
    except NotAsked:
        return history, ()
    except Unavailable as trouble:
        return history, (attempt(NOTES, question, f"{trouble.reason}: {trouble}", None),)
    usable = answer.complete and bool(answer.text.strip())
    outcome = ACCEPTED if usable else f"no notes: it ended with {answer.stop_reason}"
    short = replace(answer, text=bounded(answer.text.strip(), NOTES_CHARACTERS))
    made = attempt(NOTES, question, outcome, short)
    return replace(history, notes=short.text) if usable else history, (made,)
