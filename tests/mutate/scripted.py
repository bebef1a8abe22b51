"""A language model that says what a test has written for it, and remembers what it was asked."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mutate.desk import Desk, Gate
from mutate.llm import Answer, Question, Unavailable, Usage
from mutate.models import Model
from mutate.spending import Purse, Spent

EDITOR = Model("editor", 4.0, 20.0, caching=True, effort=True, whole_file=False)
WRITER = Model("writer", 0.1, 0.5)
LOCAL = Model("local")
"""A model of a local server: it has no price."""

Line = str | Answer | Unavailable
Script = Iterable[Line] | Callable[[Question], Line]


@dataclass
class Scripted:
    """An LLM that answers from a script: a text, a whole answer, or the trouble that it raises."""

    script: Script
    asked: list[Question] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._lines = None if callable(self.script) else iter(self.script)

    def ask(self, question: Question) -> Answer:
        with self._lock:
            self.asked.append(question)
            line = None if self._lines is None else next(self._lines, None)
        if callable(self.script):
            line = self.script(question)
        assert line is not None, "the script has ended"
        if isinstance(line, Unavailable):
            raise line
        return line if isinstance(line, Answer) else said(line, model=question.model)

    def count(self, question: Question) -> int | None:
        return None


def said(
    text: str, stop_reason: str = "end_turn", usage: Usage | None = None, model: Model = EDITOR
) -> Answer:
    """Return an answer that costs what the model's prices make of 1,000 tokens in, 100 out."""
    used = usage or Usage(fresh=600, written=100, cached=300, out=100)
    cost = model.cost_usd(used.fresh, used.written, used.cached, used.out)
    return Answer(text, stop_reason, used, cost, 0.5)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A desk with all that lies behind it."""

    desk: Desk
    llm: Scripted
    purse: Purse
    gate: Gate
    clock: Clock
    told: list[str]


def world(
    script: Script,
    models: Sequence[Model] = (EDITOR,),
    *,
    usd: float = 1e6,
    tokens: int | None = None,
    spent: Spent | None = None,
    gate: Gate | None = None,
) -> World:
    """Return a desk whose models are all asked through one scripted adapter."""
    llm, clock, gate = Scripted(script), Clock(), gate or Gate(64)
    purse, told = Purse(usd, tokens, spent or Spent()), list[str]()
    gates = {model.name: gate for model in models}
    desk = Desk(models, {model.name: llm for model in models}, purse, told.append, gates, clock)
    return World(desk, llm, purse, gate, clock, told)
