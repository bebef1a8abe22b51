import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mutate import attempts
from mutate.llm import CUT, Answer, Scope, Unavailable
from mutate.received import THOUGHTS_PER_S, Received
from mutate.text import tokens_in
from tests.mutate.asking import LOCAL, QUESTION, refused
from tests.mutate.messages_server import Raw, Reply, Status

pytestmark = pytest.mark.usefixtures("only_this_machine")
WAIT_S = {"silent": 0.5, "pings": 0.5}
"""How long the tests wait for a server that never ends."""


@pytest.mark.parametrize("ending", ["closed", "dropped", "error", "silent", "pings"])
def test_a_stream_cut_in_the_middle_is_a_cut_answer(
    ask: Callable[..., Answer], ending: Any
) -> None:
    told: list[int] = []
    cut = Reply("abc" * 1000, piece=300, events=6, ending=ending)
    answer = ask(
        [cut], timeout_s=WAIT_S.get(ending, 10.0), on_busy=lambda status, _: told.append(status)
    )
    assert answer.text == "abc" * 300  # message_start, block_start, ping, three deltas
    assert answer.stop_reason == CUT
    assert answer.usage.read == 878
    estimated = max(tokens_in(900), THOUGHTS_PER_S * answer.duration_s)
    assert answer.usage.out == pytest.approx(estimated, abs=1)
    assert answer.cost_usd > 0
    assert told == ([529] if ending == "error" else [])


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("closed", "malformed"),
        ("dropped", "unreachable"),
        ("error", "overloaded"),
        ("silent", "timeout"),
        ("pings", "timeout"),
    ],
)
def test_a_stream_cut_before_it_began_is_no_answer(
    refusal: Callable[..., Unavailable], ending: Any, reason: str
) -> None:
    error = refusal([Reply("abc", events=0, ending=ending)], timeout_s=WAIT_S.get(ending, 10.0))
    assert (error.reason, error.scope) == (reason, Scope.CALL)


def test_a_server_that_pauses_longer_than_it_may_is_left(ask: Callable[..., Answer]) -> None:
    answer = ask([Reply("abc", events=4, ending="silent")], idle_s=0.4)
    assert (answer.text, answer.stop_reason) == ("abc", CUT)


def test_a_server_that_drips_events_is_left_in_the_end(serve: Callable[..., Any]) -> None:
    with serve([Reply("x" * 10_000, piece=1, pause_s=0.01)], timeout_s=0.5) as (claude, _):
        answer = claude.ask(QUESTION)
    assert answer.stop_reason == CUT
    assert len(answer.text) < 100


def test_a_server_that_says_nothing_at_all_is_left(serve: Callable[..., Any]) -> None:
    def script(_: dict[str, Any]) -> Reply:
        time.sleep(0.4)
        return Reply("late")

    with serve(script, timeout_s=0.2) as (claude, server):
        assert refused(claude).reason == "timeout"
    assert len(server.requests) == 1


def test_a_stop_reason_makes_an_answer_whole_though_the_last_event_is_lost(
    ask: Callable[..., Answer],
) -> None:
    assert ask([Reply("abc", events=6, ending="dropped")]).complete


def test_a_stream_that_never_names_a_stop_reason_is_cut(ask: Callable[..., Answer]) -> None:
    assert ask([Reply("abc", stop_reason=None)]).stop_reason == CUT


@pytest.mark.parametrize(
    ("kind", "reason", "scope"),
    [
        ("invalid_request_error", "bad_request", Scope.CALL),
        ("authentication_error", "invalid_key", Scope.PROVIDER),
        ("not_found_error", "unknown_model", Scope.MODEL),
        ("rate_limit_error", "rate_limited", Scope.CALL),
        ("billing_error", "no_credit", Scope.PROVIDER),
        ("timeout_error", "timeout", Scope.CALL),
        ("api_error", "server_error", Scope.CALL),
        ("an_unheard_of_error", "server_error", Scope.CALL),
    ],
)
def test_an_error_in_mid_stream_means_what_its_status_would(
    refusal: Callable[..., Unavailable], kind: str, reason: str, scope: Scope
) -> None:
    error = refusal([Reply(events=0, ending="error", error=kind)])
    assert (error.reason, error.scope) == (reason, scope)


@pytest.mark.parametrize(
    "raw",
    [
        Raw(b""),
        Raw(b"<html>Welcome</html>", "text/html"),
        Raw(b'{"id": "msg_1", "content": []}', "application/json"),
        Raw(b"event: message_start\ndata: {broken\n\n"),
        Raw(b"event: message_start\ndata: \xff\xfe\n\n"),
        Raw(b"event: message_start\ndata: 5\n\n"),
        Raw(b"event: message_start\ndata: [1]\n\n"),
        Raw(b"event: message_start\ndata: null\n\n"),
        Raw(b"event: ping\ndata: {}\n\n" * 1000),
        Raw(b"event: message_start\ndata: " + b"[" * 100_000 + b"\n\n"),
        Raw(b'event: message_delta\ndata: {"type": "message_delta"}\n\n'),
        Raw(b'event: message_start\ndata: {"type": ["message_start"]}\n\n'),
        Raw(b'event: message_start\ndata: {"type": "x", "self": 1, "_fields_set": 2}\n\n'),
    ],
)
def test_what_is_no_event_stream_is_malformed(
    refusal: Callable[..., Unavailable], raw: Raw
) -> None:
    error = refusal([raw])
    assert (error.reason, error.scope) == ("malformed", Scope.CALL)
    assert "ANTHROPIC_BASE_URL" in str(error)


def test_an_endless_body_is_left(
    refusal: Callable[..., Unavailable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "BODY_BYTES", 10_000)
    assert refusal([Raw(b"x" * 20_000)]).reason == "malformed"
    assert refusal([Status(500, b"x" * 20_000)]).reason == "malformed"


def stream(*events: dict[str, Any]) -> Raw:
    """Return events as a server without much care sends them."""
    lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Raw("".join(lines).encode())


def test_a_careless_servers_events_are_taken_for_what_they_hold(ask: Callable[..., Answer]) -> None:
    answer = ask(
        [
            stream(
                {"type": "message_start", "message": None},
                {"type": "content_block_start", "index": 7, "content_block": {"type": "text", "text": "a"}},
                {"type": "content_block_delta", "index": 99, "delta": {"type": "text_delta", "text": "b"}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 5}},
                {"type": "content_block_delta", "delta": None},
                {"type": "content_block_delta"},
                {"type": "unheard_of", "delta": {"text": "c"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": None},
            )
        ]
    )  # fmt: skip
    assert answer.text == "ab"
    assert answer.complete
    assert answer.usage.out == 1
    assert answer.usage.fresh == pytest.approx(
        tokens_in(878 * 4), abs=5
    )  # nobody counted: estimated


def test_unseen_thought_of_an_answer_that_was_cut_is_charged_by_the_clock() -> None:
    received, usage = Received(), {"input_tokens": 9, "output_tokens": 1}
    received.take({"type": "message_start", "message": {"usage": usage}})
    assert received.answer(QUESTION, 5.0, ()).usage.out == 5 * THOUGHTS_PER_S
    assert received.answer(QUESTION, 1e6, ()).usage.out == QUESTION.max_tokens
    local = replace(QUESTION, model=LOCAL)
    assert received.answer(local, 5.0, ()).usage.out == 1


def test_the_category_of_a_refusal_is_kept() -> None:
    received = Received()
    details = {"type": "refusal", "category": "frontier_llm", "explanation": "..."}
    delta = {"stop_reason": "refusal", "stop_details": details}
    received.take({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0}})
    answer = received.answer(QUESTION, 1.0, ())
    assert (answer.stop_reason, answer.category) == ("refusal", "frontier_llm")


@pytest.mark.parametrize(
    "absurd", [None, -1, "many", 10**15, 1e300, [1], {"a": 1}, float("nan"), float("inf")]
)
def test_absurd_usage_is_not_believed(ask: Callable[..., Answer], absurd: object) -> None:
    names = (
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
    )
    answer = ask([Reply("x" * 300, usage=dict.fromkeys(names, absurd))])
    assert answer.complete
    assert answer.usage.out == tokens_in(300)
    assert answer.usage.read == pytest.approx(tokens_in(878 * 4), abs=5)
    assert 0 < answer.cost_usd < 1


def test_missing_usage_is_estimated(ask: Callable[..., Answer]) -> None:
    answer = ask([Reply("x" * 300, usage=None)])
    assert answer.usage.out == tokens_in(300)
    assert answer.usage.read > 0
