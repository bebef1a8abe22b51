import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mutate.claude import Claude
from mutate.llm import Answer, Question, Unavailable
from tests.mutate.asking import KEY, QUESTION, refused
from tests.mutate.messages_server import MessagesServer, Script

TLS = ssl.create_default_context()


@pytest.fixture
def only_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No key, profile or proxy of whoever runs the tests, and no other host."""
    for name in list(os.environ):
        if name.startswith("ANTHROPIC_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: TLS)  # 50 ms, unused here
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    connect, hosts = socket.create_connection, set()

    def noted(address: tuple[str, int], *rest: Any, **more: Any) -> socket.socket:
        hosts.add(address[0])
        assert address[0] == "127.0.0.1"
        return connect(address, *rest, **more)

    monkeypatch.setattr(socket, "create_connection", noted)
    yield
    assert hosts <= {"127.0.0.1"}


@pytest.fixture
def serve(only_this_machine: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @contextmanager
    def served(
        script: Script, counting: bool = True, **settings: Any
    ) -> Iterator[tuple[Claude, MessagesServer]]:
        with MessagesServer(script, counting) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
            claude = Claude(**{"retries": 0, "timeout_s": 10.0, **settings})
            try:
                yield claude, server
            finally:
                claude.close()

    return served


@pytest.fixture
def ask(serve: Callable[..., Any]) -> Callable[..., Answer]:
    def asked(script: Script, question: Question = QUESTION, **settings: Any) -> Answer:
        with serve(script, **settings) as (claude, _):
            return claude.ask(question)

    return asked


@pytest.fixture
def refusal(serve: Callable[..., Any]) -> Callable[..., Unavailable]:
    def of(script: Script, question: Question = QUESTION, **settings: Any) -> Unavailable:
        with serve(script, **settings) as (claude, _):
            return refused(claude, question)

    return of
