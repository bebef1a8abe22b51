"""One conversation with a language model about one program, and the proposal that comes of it.

    edit -> applied? checked? -> accepted
      `-> mend (what is wrong) -> applied? checked? -> accepted
            `-> whole (give up the blocks) -> accepted, or refused for good

Every call is an attempt of the proposal, with its cost, whatever came of it.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mutate.desk import Desk
from mutate.edits import EditError, Reply, apply_reply, read_reply
from mutate.llm import CUT, Answer, Block, NotAsked, Question, Unavailable
from mutate.models import Model
from mutate.prompt import mend, rewrite_whole
from mutate.text import bounded, one_line, tokens_of
from population.ports import ACCEPTED, Attempt

EDIT_TOKENS = 16_000
"""Of an answer, thinking included; a whole file gets room for twice its own length beside.

Where that did not do, the next answer of the conversation gets all that the model can write, and is
asked to think less.
"""
EFFORTS = {"low": 0.25, "medium": 0.5, "high": 0.25}
"""How often each is asked for: a source of diversity, since there is no temperature."""
STORED_CHARACTERS = 1 << 17
"""So much of a prompt and of an answer is kept in the lineage, head and tail."""
_SKIP = re.compile(r"[\s`*]*SKIP:[\s*]*(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Drafted:
    """How a conversation ended.

    Attributes:
        source: the new program, None where there is none. refusal: empty, or why there is none.
        hypothesis, category: as the model gave them.
        attempts: every call, in order.
    """

    source: str | None
    refusal: str
    hypothesis: str
    category: str
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Prompts:
    """What a conversation begins with, and who may take part.

    Attributes:
        system, opening: return the first blocks and the first turn for a model.
        source: what edits are applied to.
        worths: credit of each model, None where there is none yet.
    """

    system: Callable[[Model], tuple[Block, ...]]
    opening: Callable[[Model], tuple[Block, ...]]
    source: str
    worths: Mapping[str, float] | None = None


class Dialogue:
    """Holds one conversation. Used once, from one thread.

    Args:
        desk: who is asked. prompts: with what. judge: returns why a program is refused, or "".
        rng: draws model and effort. effort: of every call, empty: drawn.
    """

    def __init__(
        self,
        desk: Desk,
        prompts: Prompts,
        judge: Callable[[str], str],
        rng: np.random.Generator,
        effort: str = "",
    ) -> None:
        self._desk = desk
        self._prompts = prompts
        self._judge = judge
        self._rng = rng
        self._effort = effort or str(rng.choice(list(EFFORTS), p=list(EFFORTS.values())))
        self._attempts: list[Attempt] = []
        self._too_long = False
        self._last = ""  # what came of the latest step
        self._turns: list[tuple[Block, ...]] = []

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every call up to now."""
        return tuple(self._attempts)

    def hold(self) -> Drafted:
        """Ask until a program passes, the steps are used up or nobody answers."""
        tried: list[str] = []
        worths = self._prompts.worths
        while (model := self._desk.pick(self._rng, tried, worths)) is not None:
            tried.append(model.name)
            drafted = self._with_model(model)
            if drafted is not None:
                return drafted
        return self._refused(self._last or "no model answers at present")

    def _with_model(self, model: Model) -> Drafted | None:
        """Return how the conversation with a model ended, None where another may do better.

        That is where its first answer did not come, came in part or was that it refuses to.
        """
        self._too_long = False
        steps = ["whole", "mend"] if model.whole_file else ["edit", "mend", "whole"]
        problem = ""
        self._turns = [self._prompts.opening(model)]
        for number, step in enumerate(steps):
            if number:
                whole = model.whole_file or step == "whole"
                turn = rewrite_whole(problem) if step == "whole" else mend(problem, whole)
                self._turns.append((Block(turn),))
            try:
                answer = self._ask(model, step)
            except Unavailable as trouble:
                said = f"{trouble.reason}: {trouble}"
                if isinstance(trouble, NotAsked):
                    self._last = said
                else:
                    self._note(step, said)
                return self._refused(said) if number else None
            problem, drafted = self._judged(step, answer)
            if drafted is not None:
                unheard = answer.refusal or answer.stop_reason == CUT
                return None if unheard and not number else drafted
            self._turns.append((Block(answer.text.strip() or "(no answer)"),))
        return self._refused(problem)

    def _ask(self, model: Model, step: str) -> Answer:
        whole = model.whole_file or step == "whole"
        length, effort = EDIT_TOKENS, self._effort
        if whole:
            length += 2 * tokens_of(self._prompts.source)
        if self._too_long:
            length, effort = model.answer_tokens, "low"
        self._question = Question(
            model=model,
            system=self._prompts.system(model),
            turns=tuple(self._turns),
            max_tokens=min(length, model.answer_tokens),
            effort=effort if model.effort else "",
        )
        return self._desk.ask(self._question)

    def _judged(self, step: str, answer: Answer) -> tuple[str, Drafted | None]:
        """Return what is wrong with an answer, or how it ends the conversation."""
        skipped = _SKIP.match(answer.text)
        outcome, final = "it was not judged", True
        try:
            if answer.refusal:
                outcome = answer.refusal
            elif answer.stop_reason == CUT:
                outcome = "the answer was cut off by the connection"
            elif skipped and answer.complete:
                outcome = f"skipped: {one_line(skipped[1], 200)}"
            else:
                final = False
                reply, source = self._applied(answer)
                outcome = self._judge(source)
        except EditError as error:
            outcome = str(error)
        finally:  # what was paid for is recorded, whatever breaks
            self._note(step, outcome or ACCEPTED, answer)
        if not outcome:
            return "", Drafted(source, "", reply.hypothesis, reply.category, tuple(self._attempts))
        return outcome, self._refused(outcome) if final else None

    def _applied(self, answer: Answer) -> tuple[Reply, str]:
        """Return the reply and the program that it makes. Raises EditError."""
        if answer.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            self._too_long = True
            raise EditError("the answer was longer than allowed and was cut off; be brief")
        reply = read_reply(answer.text)
        return reply, apply_reply(self._prompts.source, reply)

    def _note(self, step: str, outcome: str, answer: Answer | None = None) -> None:
        self._attempts.append(attempt(step, self._question, outcome, answer))
        self._last = self._attempts[-1].outcome

    def _refused(self, reason: str) -> Drafted:
        return Drafted(None, one_line(reason, 400), "", "", self.attempts)


def attempt(step: str, question: Question, outcome: str, answer: Answer | None) -> Attempt:
    """Return a call as the lineage keeps it; without an answer nothing was charged."""
    text = question.text
    usage = answer.usage if answer else None
    return Attempt(
        what=step,
        outcome=one_line(outcome, 400),
        duration_s=answer.duration_s if answer else 0.0,
        cost_usd=answer.cost_usd if answer else 0.0,
        tokens_in=usage.read if usage else 0,
        tokens_out=usage.out if usage else 0,
        tokens_cached=usage.cached if usage else 0,
        tokens_written=usage.written if usage else 0,
        model=question.model.name,
        effort=question.effort,
        stop_reason=answer.stop_reason if answer else "",
        prompt_sha256=hashlib.sha256(text.encode(errors="replace")).hexdigest(),
        prompt=bounded(text, STORED_CHARACTERS),
        answer=bounded(answer.text, STORED_CHARACTERS) if answer else "",
    )
