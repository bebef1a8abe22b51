"""What of a streamed answer has arrived, whatever the server sends and wherever it stops."""

import re
from collections.abc import Collection

from mutate.hearsay import ANSWER_BYTES, beginning, redacted, sound, tokens
from mutate.llm import CUT, Answer, Question, Usage
from mutate.text import tokens_in, tokens_of

_WORD_LENGTH = 40
THOUGHTS_PER_S = 100
"""Tokens that a model thinks in a second, where nobody has counted: rather too many."""
_THOUGHT = re.compile(r".*</think>[ \t]*$", re.DOTALL | re.MULTILINE)
"""Thinking that a local server leaves in the text; templates may have said its opening mark."""
_COUNTS = {
    "fresh": "input_tokens",
    "written": "cache_creation_input_tokens",
    "cached": "cache_read_input_tokens",
    "out": "output_tokens",
}


class Received:
    """Collects the events of one stream. Nothing that an event holds makes it raise.

    Attributes:
        started: whether there is an answer at all, which is then charged.
    """

    def __init__(self) -> None:
        self.started = False
        self._pieces: list[str] = []
        self._text_bytes = 0
        self._thinking_bytes = 0
        self._stop_reason = ""
        self._category = ""
        self._counts: dict[str, int] = {}
        self._final = False

    @property
    def full(self) -> bool:
        """Whether the answer is longer than is kept."""
        return self._text_bytes > ANSWER_BYTES

    def take(self, event: object) -> None:
        """Add an event of the SDK."""
        match _at(event, "type"):
            case "message_start":
                self.started = True
                self._count(_at(event, "message", "usage"))
            case "content_block_start":
                self._add(_at(event, "content_block"))
            case "content_block_delta":
                self._add(_at(event, "delta"))
            case "message_delta":
                self._count(_at(event, "usage"))
                self._final = tokens(_at(event, "usage", "output_tokens")) is not None
                reason = _at(event, "delta", "stop_reason")
                self._stop_reason = reason if isinstance(reason, str) else ""
                category = _at(event, "delta", "stop_details", "category")
                self._category = category if isinstance(category, str) else ""

    def _add(self, part: object) -> None:
        text, thinking = _at(part, "text"), _at(part, "thinking")
        if isinstance(text, str) and text:
            self.started = True
            self._pieces.append(text)
            self._text_bytes += len(text.encode(errors="surrogatepass"))
        if isinstance(thinking, str):
            self._thinking_bytes += len(thinking.encode(errors="surrogatepass"))

    def _count(self, usage: object) -> None:
        for ours, theirs in _COUNTS.items():
            if (number := tokens(_at(usage, theirs))) is not None:
                self._counts[ours] = number

    def answer(self, question: Question, duration_s: float, secrets: Collection[str]) -> Answer:
        """Return the answer as far as it came, without thinking: drafts in it are no answer.

        Args:
            question: what was asked, for its price and for an estimate where nobody counted.
            duration_s: how long it took.
            secrets: what must not be in it.
        """
        text = redacted(sound("".join(self._pieces)), secrets)
        if thought := _THOUGHT.match(text):
            text = text[thought.end() :].lstrip()
        reason, category = (
            redacted(sound(said), secrets)[:_WORD_LENGTH]
            for said in (self._stop_reason, self._category)
        )
        usage = self._usage(question, duration_s)
        return Answer(
            text=beginning(text),
            stop_reason=CUT if self.full else reason or CUT,
            usage=usage,
            cost_usd=question.model.cost_usd(usage.fresh, usage.written, usage.cached, usage.out),
            duration_s=duration_s,
            category=category,
        )

    def _usage(self, question: Question, duration_s: float) -> Usage:
        counts = dict(self._counts)
        if not self._final:  # the first event's count is that of the first token
            estimate = tokens_in(self._text_bytes + self._thinking_bytes)
            if question.model.effort and not self._stop_reason:  # perhaps it thought, unseen
                estimate = max(estimate, int(duration_s * THOUGHTS_PER_S))
            estimate = min(estimate, question.max_tokens)  # nobody charges for more
            counts["out"] = max(counts.get("out", 0), estimate)
        if not counts.keys() - {"out"}:
            counts["fresh"] = tokens_of(question.text)
        return Usage(**counts)


def _at(value: object, *path: str) -> object:
    """Return what lies at a path of attributes, None where it leads nowhere.

    The SDK builds events unchecked: where its model says object, a dictionary or anything
    else may stand.
    """
    for name in path:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value
