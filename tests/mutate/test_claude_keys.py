import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mutate.claude import Claude
from mutate.llm import Answer, Scope, Unavailable
from tests.mutate.asking import KEY, LOCAL, QUESTION, refused
from tests.mutate.messages_server import Raw, Reply, Request, Status

pytestmark = pytest.mark.usefixtures("only_this_machine")


@pytest.mark.parametrize("code", [400, 401, 404, 429, 500])
@pytest.mark.parametrize("body", [f"bad key {KEY}", f"Bearer {KEY}".encode()])
def test_a_key_that_a_server_sends_back_is_taken_out(
    refusal: Callable[..., Unavailable], code: int, body: str | bytes
) -> None:
    assert "[key]" in str(refusal([Status(code, body)]))


def test_a_key_in_an_answer_is_taken_out(ask: Callable[..., Answer]) -> None:
    answer = ask([Reply(f'KEY = "{KEY}"', stop_reason=KEY, piece=5)])
    assert answer.text == 'KEY = "[key]"'
    assert answer.stop_reason == "[key]"


def test_a_key_in_a_broken_event_is_taken_out(refusal: Callable[..., Unavailable]) -> None:
    refusal([Raw(f"event: {KEY}\ndata: {KEY}\n\n".encode())])
    refusal([Raw(f"event: error\ndata: {KEY}\n\n".encode())])


@pytest.mark.parametrize(
    ("name", "value"),
    [("ANTHROPIC_AUTH_TOKEN", KEY), ("ANTHROPIC_CUSTOM_HEADERS", f"X-Api-Key: {KEY}")],
)
def test_other_ways_to_give_a_key_are_the_sdks(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv(name, value)
    with serve([Reply(KEY), Status(401, KEY)]) as (claude, server):
        assert claude.ask(QUESTION).text == "[key]"
        assert "[key]" in str(refused(claude))
    assert any(KEY in sent for sent in server.requests[0].headers.values())


def test_without_a_key_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    claude = Claude()
    error = refused(claude)
    assert claude.count(QUESTION) is None
    claude.close()
    assert str(error) == claude.unusable
    assert (error.reason, error.scope) == ("invalid_key", Scope.PROVIDER)
    assert "ANTHROPIC_API_KEY" in str(error)
    assert "ANTHROPIC_BASE_URL" in str(error)


def test_a_local_server_needs_no_key(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with serve([Reply("a local variable")]) as (claude, server):
        assert not claude.unusable
        assert claude.ask(replace(QUESTION, model=LOCAL)).text == "a local variable"
    assert server.requests[0].headers["authorization"] == "Bearer local"


@pytest.mark.parametrize("odd", [KEY + "\n", f"{KEY}\r\nX-Evil: 1", KEY + "é"])
def test_a_key_that_no_header_can_carry_is_told_without_showing_it(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", odd)
    with serve([Reply("x")]) as (claude, server):
        error = refused(claude)
    assert (error.reason, error.scope) == ("invalid_key", Scope.PROVIDER)
    assert not server.requests


@pytest.mark.parametrize("url", ["", "localhost:1", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
def test_a_broken_address_is_told(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    claude = Claude(retries=0)
    error = refused(claude)
    claude.close()
    assert "ANTHROPIC_BASE_URL" in str(error)


def test_a_password_in_the_address_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://me:opensesame@127.0.0.1:9")
    claude = Claude(retries=0)
    error = refused(claude)
    claude.close()
    assert "opensesame" not in str(error)


def test_a_profile_that_is_named_and_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nowhere")
    claude = Claude(retries=0)
    error = refused(claude)
    claude.close()
    assert (error.reason, error.scope) == ("invalid_key", Scope.PROVIDER)


def test_requests_are_kept_as_they_came(serve: Callable[..., Any]) -> None:
    with serve([Reply("x")]) as (claude, server):
        claude.ask(QUESTION)
    (request,) = server.requests
    assert isinstance(request, Request)
    assert json.loads(request.raw) == request.body
    assert request.path == "/v1/messages"
