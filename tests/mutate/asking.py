"""A question for Claude, and how to be refused an answer."""

import traceback

import pytest

from mutate.claude import Claude
from mutate.llm import Block, Question, Unavailable
from mutate.models import KNOWN, Model

KEY = "sk-ant-fake-0123456789abcdef"
OPUS = next(model for model in KNOWN if model.name == "claude-opus-5-5")
LOCAL = Model("qwen3-coder:30b")
QUESTION = Question(
    model=OPUS,
    system=(Block("contract " * 300, cached=True),),
    turns=((Block("program " * 100, cached=True), Block("change it")),),
    max_tokens=4000,
    effort="high",
)
SOON = {"retry-after-ms": "10"}


def refused(claude: Claude, question: Question = QUESTION) -> Unavailable:
    """Return why there is no answer: one line without the key, as is its whole traceback."""
    with pytest.raises(Unavailable) as caught:
        claude.ask(question)
    error = caught.value
    assert error.__cause__ is error.__context__ is None  # the SDK's errors hold headers and bodies
    assert str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    assert KEY not in repr(error) + "".join(traceback.format_exception(error))
    return error
