"""The seam to a language model: a question, an answer, or the reason why there is none."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mutate.models import Model


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a prompt. `cached`: what stands up to its end recurs in later prompts."""

    text: str
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One call of a model.

    Attributes:
        system: what never changes within a run.
        turns: user, assistant, user ...: it begins and ends with the user.
        max_tokens: of the answer, thinking included.
        effort: `low`, `medium`, `high`, `xhigh`, `max`, or empty for the model's own default.
    """

    model: Model
    system: tuple[Block, ...]
    turns: tuple[tuple[Block, ...], ...]
    max_tokens: int
    effort: str = ""

    @property
    def text(self) -> str:
        """Everything that the model reads, as one text."""
        blocks = [*self.system, *(block for turn in self.turns for block in turn)]
        return "\n\n".join(block.text for block in blocks)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call: `fresh` + `written` + `cached` were read, `out` were written.

    Attributes:
        fresh: input at the full price. written: input that was put into the cache.
        cached: input that came from it. out: output, thinking included.
    """

    fresh: int = 0
    written: int = 0
    cached: int = 0
    out: int = 0

    @property
    def read(self) -> int:
        """All input tokens."""
        return self.fresh + self.written + self.cached


CUT = "cut"
"""Stop reason of an answer whose stream ended before the model had."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered: untrusted text.

    Attributes:
        stop_reason: as the server names it (`end_turn`, `max_tokens`, `refusal` ...), or `CUT`.
        category: of a refusal, where the server names one (`frontier_llm` ...).
    """

    text: str
    stop_reason: str
    usage: Usage
    cost_usd: float
    duration_s: float
    category: str = ""

    @property
    def refusal(self) -> str:
        """The words for a refusal, empty where it is none."""
        if self.stop_reason != "refusal":
            return ""
        return f"the model refused to answer ({self.category or 'refusal'})"

    @property
    def complete(self) -> bool:
        """Whether the model ended it of its own accord."""
        return self.stop_reason in ("end_turn", "stop_sequence")


class Scope(StrEnum):
    """How far an `Unavailable` reaches."""

    CALL = "call"
    """This call: another one may do."""
    MODEL = "model"
    """This model, for as long as the process lives."""
    PROVIDER = "provider"
    """Every model behind this adapter, for as long as the process lives."""


class Unavailable(Exception):  # noqa: N818 - data for whoever asked, who goes on without
    """No answer, and nothing was charged that is known of.

    Attributes:
        reason: one word for tables: `rate_limited`, `overloaded`, `invalid_key`, `retired` ...
        scope: what it is no use to ask again.
        retry_after_s: after how long the server wants to be asked again, None: it did not say.
    """

    def __init__(
        self,
        reason: str,
        detail: str,
        scope: Scope = Scope.CALL,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.scope = scope
        self.retry_after_s = retry_after_s


class NotAsked(Unavailable):
    """No call was made: no money is left for it, its model is gone, or the run has ended."""


class LLM(Protocol):
    """Asks a language model."""

    def ask(self, question: Question) -> Answer:
        """Return the answer, however bad.

        Called from several threads at once. Raises Unavailable where there is none.
        """
        ...

    def count(self, question: Question) -> int | None:
        """Return how many tokens the question has, None where that cannot be known for free."""
        ...
