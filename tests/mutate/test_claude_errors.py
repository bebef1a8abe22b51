import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from mutate.claude import Claude
from mutate.llm import Scope, Unavailable
from tests.mutate.asking import QUESTION, SOON, refused
from tests.mutate.messages_server import Reply, Status

pytestmark = pytest.mark.usefixtures("only_this_machine")


SPENT = {"error_code": "enforced_spend_limit_reached"}


@pytest.mark.parametrize(
    ("status", "reason", "scope", "word"),
    [
        (Status(401), "invalid_key", Scope.PROVIDER, "ANTHROPIC_API_KEY"),
        (Status(403), "forbidden", Scope.MODEL, "`--llm` names another"),
        (Status(402), "no_credit", Scope.PROVIDER, "credit"),
        (Status(400, "Your credit balance is too low"), "no_credit", Scope.PROVIDER, "credit"),
        (Status(429, details=SPENT), "no_credit", Scope.PROVIDER, "limit"),
        (Status(404, "model: claude-1"), "unknown_model", Scope.MODEL, "--llm"),
        (Status(400, "prompt is too long"), "bad_request", Scope.CALL, "prompt is too long"),
        (Status(413), "bad_request", Scope.CALL, "shorter"),
        (Status(422), "bad_request", Scope.CALL, "shorter"),
        (Status(408), "timeout", Scope.CALL, "again"),
        (Status(504), "timeout", Scope.CALL, "again"),
        (Status(429), "rate_limited", Scope.CALL, "less often"),
        (Status(503), "overloaded", Scope.CALL, "another model"),
        (Status(529), "overloaded", Scope.CALL, "another model"),
        (Status(500), "server_error", Scope.CALL, "500"),
        (Status(502, b"<html>Bad gateway</html>"), "server_error", Scope.CALL, "Bad gateway"),
        (Status(418, b""), "failed", Scope.CALL, "418"),
        (Status(409), "failed", Scope.CALL, "409"),
        (Status(304, b""), "failed", Scope.CALL, "304"),
        (Status(500, b'{"error": {"type": {"a": 1}, "message": [2]}}'), "server_error", Scope.CALL, "2"),
        (Status(500, b"\xff\xfe"), "server_error", Scope.CALL, "500"),
        (Status(500, b"[" * 100_000), "server_error", Scope.CALL, "500"),
        (Status(500, b'"text"'), "server_error", Scope.CALL, "text"),
    ],
)  # fmt: skip
def test_a_status_becomes_a_reason_with_its_remedy(
    refusal: Callable[..., Unavailable], status: Status, reason: str, scope: Scope, word: str
) -> None:
    error = refusal([status])
    assert (error.reason, error.scope) == (reason, scope)
    assert word in str(error)


def test_what_a_server_says_at_length_is_bounded(refusal: Callable[..., Unavailable]) -> None:
    error = refusal([Status(400, "x" * 100_000)])
    assert "x" * 299 + "…" in str(error)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_busy_server_is_asked_again_when_it_wants_and_told_of_each_time(
    serve: Callable[..., Any], status: int
) -> None:
    told: list[tuple[int, float | None]] = []
    script = [
        Status(status, headers=SOON),
        Status(status, headers={"retry-after": "0.02"}),
        Reply("x"),
    ]
    with serve(script, retries=3, on_busy=lambda *busy: told.append(busy)) as (claude, server):
        assert claude.ask(QUESTION).text == "x"
    assert len(server.requests) == 3
    assert told == [(status, 0.01), (status, 0.02)]


@pytest.mark.parametrize("status", [408, 409, 500, 504])
def test_other_passing_failures_are_repeated_without_a_word(
    serve: Callable[..., Any], status: int
) -> None:
    told: list[tuple[int, float | None]] = []
    script = [Status(status, headers=SOON), Reply("x")]
    with serve(script, retries=1, on_busy=lambda *busy: told.append(busy)) as (claude, server):
        assert claude.ask(QUESTION).text == "x"
    assert len(server.requests) == 2
    assert told == []


def test_repeats_come_to_an_end(serve: Callable[..., Any]) -> None:
    with serve([Status(529, headers=SOON)] * 9, retries=2) as (claude, server):
        assert refused(claude).reason == "overloaded"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("asked", "pause_s"),
    [
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after-ms": "3600000"}, 3600.0),
        ({"retry-after": "inf"}, 86_400.0),
        ({"retry-after": "3600", "x-should-retry": "true"}, 3600.0),
        ({"retry-after": format_datetime(datetime.now(UTC) + timedelta(days=9))}, 86_400.0),
    ],
)
@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (529, "overloaded")])
def test_a_long_pause_is_not_slept_through(
    serve: Callable[..., Any], status: int, reason: str, asked: dict[str, str], pause_s: float
) -> None:
    told: list[tuple[int, float | None]] = []
    script = [Status(status, headers=asked)] * 9
    with serve(script, retries=4, on_busy=lambda *busy: told.append(busy)) as (claude, server):
        error = refused(claude)
    assert (error.reason, error.scope, error.retry_after_s) == (reason, Scope.CALL, pause_s)
    assert len(server.requests) == 1
    assert told == [(status, pause_s)]


def test_a_pause_beyond_the_calls_own_time_is_not_slept_through(serve: Callable[..., Any]) -> None:
    script = [Status(429, headers={"retry-after": "30"})] * 9
    with serve(script, retries=4, timeout_s=5.0) as (claude, server):
        assert refused(claude).retry_after_s == 30.0
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "asked", ["nan", "-5", "0", "tomorrow", "", "Thu, 01 Jan 1970 00:00:00 GMT"]
)
def test_an_odd_pause_is_none(refusal: Callable[..., Unavailable], asked: str) -> None:
    assert refusal([Status(429, headers={"retry-after": asked})]).retry_after_s is None


def test_nothing_is_attempted_after_the_calls_time(serve: Callable[..., Any]) -> None:
    script = [Status(500, headers={"retry-after": "0.1"})] * 99
    with serve(script, retries=50, timeout_s=0.35) as (claude, server):
        assert refused(claude).reason in ("timeout", "server_error")
    assert len(server.requests) <= 4


def test_a_server_that_nobody_runs_is_unreachable(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve([]) as (claude, server):
        pass
    claude = Claude(retries=0)
    error = refused(claude)
    claude.close()
    assert (error.reason, error.scope) == ("unreachable", Scope.CALL)
    assert server.url.removeprefix("http://") in str(error)
    assert "ANTHROPIC_BASE_URL" in str(error)


def test_a_server_that_stays_silent_is_asked_once(serve: Callable[..., Any]) -> None:
    released = threading.Event()

    def wait(_: dict[str, Any]) -> Status:
        released.wait(20)
        return Status(500)

    with serve(wait, retries=3, idle_s=0.2) as (claude, server):
        error = refused(claude)
        asked = len(server.requests)
        released.set()
    assert error.reason == "timeout"
    assert asked == 1
