"""A server on this machine that speaks the Messages API from a script, prompt cache included."""

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

CACHED_FROM_TOKENS = 512
MARKERS = 4
LOOK_BACK_BLOCKS = 20
Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Reply:
    """A streamed answer.

    Attributes:
        usage: overrides what the server counts, in the first and the last event; None removes it.
        piece: characters per delta. pause_s: before each event.
        events: how many are sent before `ending`, None: all of them.
        ending: `whole`; `closed`: the body ends in good order; `dropped`: the connection is
            reset; `error`: an error event; `silent`: nothing more comes; `pings`: only pings.
        error: type of the error that an error event names.
    """

    text: str = ""
    stop_reason: str | None = "end_turn"
    thinking: str = ""
    usage: Mapping[str, Any] | None = field(default_factory=dict)
    piece: int = 2000
    pause_s: float = 0.0
    events: int | None = None
    ending: Literal["whole", "closed", "dropped", "error", "silent", "pings"] = "whole"
    error: str = "overloaded_error"


@dataclass(frozen=True)
class Status:
    """An error. `body`: a message in the API's own form, or the body itself as bytes."""

    code: int
    body: str | bytes = "no"
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "some_error"
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Raw:
    """Status 200 with this body, whatever it is."""

    body: bytes
    content_type: str = "text/event-stream"


Scripted = Reply | Status | Raw
Script = Callable[[dict[str, Any]], Scripted] | Iterable[Scripted]


@dataclass(frozen=True)
class Request:
    """What came: headers by lower-case name, the body as JSON and as bytes."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes


class MessagesServer:
    """Answers each request by its script: a function of the request's body, or replies in turn.

    Use as a context manager. It refuses what the API refuses: more than four cache markers,
    sampling parameters, a last turn that is not the user's, empty texts.

    Args:
        script: asked one request at a time, in the order of arrival.
        counting: whether it counts tokens on `/v1/messages/count_tokens`.

    Attributes:
        requests: in the order of arrival.
    """

    def __init__(self, script: Script, counting: bool = True) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._script = script if callable(script) else _in_turn(script)
        self._counting = counting
        self._cache: set[str] = set()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = False  # closing waits for them: no thread outlives a test
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                _hang_up(connection)
        self._http.server_close()

    @property
    def url(self) -> str:
        """What ANTHROPIC_BASE_URL is to be."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the requests for messages."""
        return [request.body for request in self.requests if request.path == "/v1/messages"]

    def connected(self, connection: socket.socket, here: bool) -> None:
        """Note that a connection begins or ends."""
        with self._lock:
            (self._connections.add if here else self._connections.discard)(connection)

    def reply(self, request: Request) -> Scripted | dict[str, Any]:
        """Return what to answer; a dictionary is sent as plain JSON."""
        with self._lock:
            self.requests.append(request)
            if request.path == "/v1/messages/count_tokens" and self._counting:
                return {"input_tokens": sum(tokens for _, tokens in _prefixes(request.body)[-1:])}
            if request.path != "/v1/messages":
                return Status(404, "no such path", kind="not_found_error")
            return _refusal(request.body) or self._script(request.body)

    def count(self, body: dict[str, Any]) -> dict[str, int]:
        """Return the usage of a request's input, and keep what it asks to be cached."""
        prefixes, marked = _prefixes(body), _marked(body)
        total = prefixes[-1][1] if prefixes else 0
        with self._lock:
            cached = max(
                (
                    prefixes[i][1]
                    for at in marked
                    for i in range(max(0, at - LOOK_BACK_BLOCKS), at + 1)
                    if prefixes[i][0] in self._cache
                ),
                default=0,
            )
            worth = [prefixes[at] for at in marked if prefixes[at][1] >= CACHED_FROM_TOKENS]
            self._cache |= {key for key, _ in worth}
        written = max(0, max((tokens for _, tokens in worth), default=0) - cached)
        return {
            "input_tokens": total - cached - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": cached,
        }


def _in_turn(replies: Iterable[Scripted]) -> Callable[[dict[str, Any]], Scripted]:
    left = iter(replies)
    over = Status(500, "the script is over", {"x-should-retry": "false"})
    return lambda _: next(left, over)


def _blocks(body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (role, block) in the order in which the model reads them."""
    found: list[tuple[str, dict[str, Any]]] = [("system", b) for b in body.get("system", [])]
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"text": content}] if isinstance(content, str) else content
        found += [(message["role"], block) for block in blocks]
    return found


def _prefixes(body: dict[str, Any]) -> list[tuple[str, int]]:
    """Return, up to each block's end, the identity and the number of tokens of what is read."""
    hashed, length, found = hashlib.sha256(body["model"].encode()), 0, []
    for role, block in _blocks(body):
        hashed.update(json.dumps([role, block["text"]]).encode())
        length += len(block["text"].encode())
        found.append((hashed.hexdigest(), -(-length // 4)))
    return found


def _marked(body: dict[str, Any]) -> list[int]:
    return [at for at, (_, block) in enumerate(_blocks(body)) if "cache_control" in block]


def _refusal(body: dict[str, Any]) -> Status | None:
    complaints = {
        "A maximum of 4 blocks with cache_control may be provided": len(_marked(body)) > MARKERS,
        "sampling parameters are not supported": {"temperature", "top_p", "top_k"} & body.keys(),
        "the last message must be the user's": body["messages"][-1]["role"] != "user",
        "text content blocks must be non-empty": any(not b["text"] for _, b in _blocks(body)),
        "max_tokens: must be at least 1": body["max_tokens"] < 1,
    }
    wrong = [complaint for complaint, holds in complaints.items() if holds]
    return Status(400, wrong[0], kind="invalid_request_error") if wrong else None


def _events(reply: Reply, body: dict[str, Any], counted: dict[str, int]) -> Iterator[Event]:
    written = reply.thinking + reply.text
    usage: dict[str, Any] | None = None
    if reply.usage is not None:
        usage = {**counted, "output_tokens": -(-len(written.encode(errors="replace")) // 4)}
        usage |= reply.usage
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    if usage is not None:
        message["usage"] = {**usage, "output_tokens": usage["output_tokens"] if reply.usage else 1}
    yield "message_start", {"message": message}
    blocks = (("thinking", reply.thinking), ("text", reply.text))
    for index, (kind, text) in enumerate((k, t) for k, t in blocks if t):
        yield "content_block_start", {"index": index, "content_block": {"type": kind, kind: ""}}
        yield "ping", {}
        for at in range(0, len(text), reply.piece):
            delta = {"type": f"{kind}_delta", kind: text[at : at + reply.piece]}
            yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    last: dict[str, Any] = {"delta": {"stop_reason": reply.stop_reason, "stop_sequence": None}}
    if usage is not None:
        last["usage"] = usage
    yield "message_delta", last
    yield "message_stop", {}


def _encoded(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def _error(kind: str, message: str, details: Mapping[str, Any] | None = None) -> dict[str, Any]:
    more = {} if details is None else {"details": dict(details)}
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster


def _handler(server: MessagesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

        def setup(self) -> None:
            super().setup()
            server.connected(self.connection, True)

        def finish(self) -> None:
            server.connected(self.connection, False)
            super().finish()

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client hung up, as it may
                self.close_connection = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path.partition("?")[0], headers, json.loads(raw), raw)
            match server.reply(request):
                case Reply() as reply:
                    self.stream(reply, request.body)
                case Status(code, bytes() as body, more):
                    self.whole(code, body, more)
                case Status(code, str() as text, more, kind, details):
                    body = json.dumps(_error(kind, text, details)).encode()
                    self.whole(code, body, {"content-type": "application/json", **more})
                case Raw(body, content_type):
                    self.whole(200, body, {"content-type": content_type})
                case dict() as plain:
                    body = json.dumps(plain).encode()
                    self.whole(200, body, {"content-type": "application/json"})

        def whole(self, code: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(code)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        def stream(self, reply: Reply, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for number, event in enumerate(_events(reply, body, server.count(body))):
                if number == reply.events:
                    break
                if reply.pause_s and server.closing.wait(reply.pause_s):
                    return
                self.chunk(_encoded(*event))
            self.end(reply)

        def end(self, reply: Reply) -> None:
            if reply.ending == "dropped":
                self.close_connection = True
                return
            if reply.ending == "error":
                self.chunk(_encoded("error", _error(reply.error, "in mid-stream")))
            while reply.ending == "pings" and not server.closing.wait(0.02):
                self.chunk(_encoded("ping", {}))
            if reply.ending == "silent":
                server.closing.wait()
            self.chunk(b"")

    return Handler
