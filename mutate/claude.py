"""Asks Claude, or a local server that speaks its Messages API, through the anthropic SDK.

Importing this takes a second: whoever builds a run imports it there, nobody at start-up.
"""

import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import anthropic
import httpx2

from mutate.attempts import Attempts, Lines, retry_after_s
from mutate.complaint import BUSY, Complaint
from mutate.hearsay import SECRET_LENGTH, excerpt, sound, tokens
from mutate.llm import Answer, Block, Question, Scope, Unavailable
from mutate.received import Received

MARKERS = 4
"""As many cache markers as the API allows in one request."""
COUNT_S = 30.0
"""Counting the tokens of a prompt is given up after this long."""
_COUNTED = {"model", "system", "messages"}
_PLACEHOLDER = "local"
_SECRET_HEADER = re.compile("auth|key|token|secret", re.IGNORECASE)
_KEY_HEADERS = {"authorization", "x-api-key"}
_REMEDY = (
    "set ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL to a local server that speaks the Messages API"
)


def ignore(status: int, retry_after_s: float | None) -> None:
    """Do nothing about a busy server."""


class Claude:
    """A `llm.LLM` over the Messages API.

    Keys and address are the SDK's affair, which takes them from ANTHROPIC_API_KEY,
    ANTHROPIC_AUTH_TOKEN and ANTHROPIC_BASE_URL; nothing here keeps them. A server at
    ANTHROPIC_BASE_URL is asked with a placeholder where no key is set.

    Every wait is bounded: for a connection 10 s, for the next byte `idle_s`, for the whole
    answer, with retries and the server's pauses, `timeout_s`. A server that drips its headers
    is bounded by their size only.

    Attributes:
        unusable: why no call can succeed, empty where one may; known without asking.
    """

    def __init__(
        self,
        timeout_s: float = 600.0,
        idle_s: float = 120.0,
        retries: int = 3,
        on_busy: Callable[[int, float | None], None] = ignore,
    ) -> None:
        """Read keys and address from the environment.

        Args:
            timeout_s: for an answer.
            idle_s: for its next byte.
            retries: how often the SDK repeats a call that failed in passing.
            on_busy: told the status (429, 503 or 529) and what the server asks to wait, for
                every such response, those that are retried included; from the asking thread.
        """
        self.unusable = ""
        self._timeout_s, self._idle_s, self._on_busy = timeout_s, idle_s, on_busy
        self._lines = Lines()
        self._client: anthropic.Anthropic | None = None
        try:
            self._client = anthropic.Anthropic(max_retries=retries)
        except (anthropic.AnthropicError, httpx2.InvalidURL, ValueError, OSError) as error:
            self.unusable = f"the settings for Claude are broken ({excerpt(error)}): {_REMEDY}"
        else:
            self.unusable = _key_trouble(self._client)

    @property
    def host(self) -> str:
        """Who would be asked, empty where the settings are broken."""
        if self._client is None:
            return ""
        return self._client.base_url.netloc.decode(errors="replace")  # without any user:password@

    def close(self) -> None:
        """Cut what is arriving, which ends as far as it came, and close the connections."""
        self._lines.cut()
        if self._client is not None:
            self._client.close()

    def ask(self, question: Question) -> Answer:
        """Return the answer, as far as it came. Raises Unavailable where there is none."""
        start = time.monotonic()
        received = Received()
        with closing(self._events(question, start + self._timeout_s)) as events:
            try:
                for event in events:
                    received.take(event)
                    if received.full:
                        break
            except Unavailable:
                if not received.started:
                    raise
        if not received.started:
            malformed = self._malformed("an answer without content")
            raise _stopped() if self._lines.cut_off else malformed
        return received.answer(question, time.monotonic() - start, self._secrets)

    def count(self, question: Question) -> int | None:
        """Return how many tokens the question has as the API counts them, for free.

        None for a model that is not the API's own, and on any failure.
        """
        if not question.model.caching or self.unusable:
            return None
        client = self._for_one_call(time.monotonic() + min(COUNT_S, self._timeout_s))
        request = {key: value for key, value in _request(question).items() if key in _COUNTED}
        try:
            # the plain call would read an endless body before anyone could bound it
            with client.messages.with_streaming_response.count_tokens(**request) as response:
                return tokens(response.parse().input_tokens)
        except Exception:  # noqa: BLE001 - a question's size is a convenience, whatever the SDK raises
            return None

    def _events(self, question: Question, deadline: float) -> Generator[object]:
        """Yield the events of the answer; raise Unavailable for whatever the SDK raises.

        It is raised outside the handler, or the SDK's error would come along as its context,
        with request headers and thus the key in it.
        """
        if self.unusable:
            raise Unavailable("invalid_key", self.unusable, Scope.PROVIDER)
        if self._lines.cut_off:
            raise _stopped()
        client = self._for_one_call(deadline)
        try:
            with client.messages.create(**_request(question), stream=True) as events:
                yield from events
        # the SDK lets the errors of its HTTP library, json and pydantic through once a stream runs
        except Exception as error:  # noqa: BLE001
            unavailable = self._explained(error, question.model.name)
        else:
            return
        raise _stopped() if self._lines.cut_off else unavailable

    def _for_one_call(self, deadline: float) -> anthropic.Anthropic:
        assert self._client is not None, "unusable says so"
        attempts = Attempts(deadline, self._idle_s, self._on_busy, self._lines)
        return self._client.with_options(middleware=[attempts])

    def _explained(self, error: Exception, model: str) -> Unavailable:
        match error:
            case Unavailable():
                return error.with_traceback(None)
            case anthropic.APIStatusError():
                complaint = self._complaint(error)
                if error.status_code == 200 and complaint.meant in BUSY:
                    self._on_busy(complaint.meant, None)
                return complaint.unavailable(model)
            case anthropic.APITimeoutError() | httpx2.TimeoutException():
                return Complaint(408).unavailable(model)
            case anthropic.APIConnectionError() | httpx2.HTTPError():
                return self._unreachable()
            case anthropic.APIResponseValidationError():
                return self._malformed("an answer of another shape")
            case anthropic.AnthropicError():
                return Unavailable("failed", f"the call failed ({self._said(error)}): {_REMEDY}")
            case _:
                return self._malformed(f"{type(error).__name__}: {self._said(error)}")

    def _complaint(self, error: anthropic.APIStatusError) -> Complaint:
        said = error.body if error.api_message is None else error.api_message
        return Complaint(
            status=error.status_code,
            kind=str(error.type or ""),
            code=error.error_code or "",
            message=self._said(said or ""),
            retry_after_s=retry_after_s(error.response.headers),
        )

    def _unreachable(self) -> Unavailable:
        detail = f"no connection to {self.host or 'an empty ANTHROPIC_BASE_URL'}, or it broke"
        return Unavailable("unreachable", f"{detail}: check the network and ANTHROPIC_BASE_URL")

    def _malformed(self, what: str) -> Unavailable:
        detail = f"the server sent no event stream of the Messages API ({what})"
        return Unavailable("malformed", f"{detail}: check ANTHROPIC_BASE_URL")

    def _said(self, value: object) -> str:
        return excerpt(value, self._secrets)

    @property
    def _secrets(self) -> set[str]:
        return set() if self._client is None else _secrets(self._client)


def _stopped() -> Unavailable:
    """Return that nobody waits for the answer any more: no fault of the server's."""
    return Unavailable("stopped", "the run has ended", Scope.PROVIDER)


def _request(question: Question) -> dict[str, Any]:
    """Return the body of a request: the same bytes for the same question."""
    parts = [_blocks(part) for part in (question.system, *question.turns)]
    if question.model.caching:
        _mark([block for part in parts for block in part])
    system, *turns = [[block for _, block in part] for part in parts]
    request: dict[str, Any] = {
        "model": question.model.name,
        "max_tokens": question.max_tokens,
        "messages": [
            {"role": ("user", "assistant")[number % 2], "content": turn}
            for number, turn in enumerate(turns)
        ],
    }
    if system:
        request["system"] = system
    if question.model.effort and question.effort:
        request["output_config"] = {"effort": question.effort}
    return request


def _blocks(part: tuple[Block, ...]) -> list[tuple[bool, dict[str, Any]]]:
    """Return (cached, block as the API wants it); it refuses empty ones."""
    return [
        (block.cached, {"type": "text", "text": sound(block.text)}) for block in part if block.text
    ]


def _mark(blocks: list[tuple[bool, dict[str, Any]]]) -> None:
    """Put cache markers on the last blocks that are to be cached."""
    for block in [block for cached, block in blocks if cached][-MARKERS:]:
        block["cache_control"] = {"type": "ephemeral", "ttl": "1h"}


def _secrets(client: anthropic.Anthropic) -> set[str]:
    """Return what the client sends as keys: the values of such headers without `Bearer`."""
    headers = client.default_headers.items()
    values = [str(value) for name, value in headers if _SECRET_HEADER.search(name)]
    return {word for value in values for word in value.split() if len(word) >= SECRET_LENGTH}


def _key_trouble(client: anthropic.Anthropic) -> str:
    """Return what is wrong with the client's key, empty where nothing is."""
    headers = {name.lower(): str(value) for name, value in client.default_headers.items()}
    keys = [headers[name] for name in _KEY_HEADERS & headers.keys()]
    if any(not (key.isascii() and key.isprintable()) for key in keys):
        return f"the key for Claude holds a line feed or another odd character: {_REMEDY}"
    if not keys and client.credentials is None:
        if not os.environ.get("ANTHROPIC_BASE_URL"):
            return f"there is no key for Claude: {_REMEDY}"
        client.api_key = _PLACEHOLDER  # the SDK asks nobody without a key
    return ""
