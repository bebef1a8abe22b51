"""What stands before the tiny model: good answers pass, errors change form, callers may hang up."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from bench.local_llm import HOST, Front, listen

EVENTS = b"event: message_stop\ndata: {}\n\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + EVENTS


@pytest.fixture
def behind() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as listener:
        yield listener


@pytest.fixture
def front(behind: socket.socket) -> Iterator[Front]:
    with listen(0) as server:
        server.behind = behind.getsockname()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def answer_once(behind: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        connection, _ = behind.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()


def ask(front: Front) -> bytes:
    address = f"http://{HOST}:{front.server_port}/v1/messages"
    with urllib.request.urlopen(address, data=b"{}", timeout=10) as answer:
        return bytes(answer.read())


def test_a_stream_passes_unchanged(front: Front, behind: socket.socket) -> None:
    answer_once(behind, STREAM)
    assert ask(front) == EVENTS


@pytest.mark.parametrize(
    ("status", "theirs", "ours"),
    [
        (400, "exceed_context_size_error", "invalid_request_error"),
        (404, "not_found_error", "not_found_error"),
        (500, "server_error", "api_error"),
        (501, "not_supported_error", "invalid_request_error"),
        (503, "unavailable_error", "overloaded_error"),
    ],
)
def test_an_error_takes_the_form_of_the_messages_api(
    front: Front, behind: socket.socket, status: int, theirs: str, ours: str
) -> None:
    body = json.dumps({"error": {"code": status, "message": "why", "type": theirs}})
    answer_once(behind, f"HTTP/1.1 {status} No\r\nConnection: close\r\n\r\n{body}".encode())
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(front)
    with caught.value as error:
        assert error.code == status
        assert json.load(error) == {"type": "error", "error": {"type": ours, "message": "why"}}


def test_a_caller_who_hangs_up_frees_the_model(front: Front, behind: socket.socket) -> None:
    with socket.create_connection((HOST, front.server_port)) as caller:
        caller.sendall(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        connection, _ = behind.accept()
        assert connection.recv(65536)
    with connection:
        connection.settimeout(10)
        assert connection.recv(65536) == b""


def test_a_taken_port_is_told(behind: socket.socket) -> None:
    port = behind.getsockname()[1]
    with pytest.raises(SystemExit, match=f"expected a free port, got {port}"):
        listen(port)
