"""A small server with climbmix's files, which fails as real ones do."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """What is served, how, and what was asked for."""

    files: dict[str, bytes]
    ranges: bool = True
    hashes: bool = True  # tells the sha256 where it redirects, as the hub does
    lengths: bool = True  # tells how long a file is
    digest: str = ""  # told in place of the right one
    circles: bool = False  # redirects to itself
    breaks: int = 0  # so many answers with each file end in the middle, with the connection
    statuses: list[int] = field(default_factory=list)  # of the next answers to GET
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, name, range
    url: str = ""

    def gets(self, name: str) -> list[str]:
        """Return the ranges that were asked of a file, empty for the whole of it."""
        return [where for method, asked, where in self.asked if (method, asked) == ("GET", name)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Keep stderr for the program under test."""

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        hub, (_, place, name) = self.hub, self.path.split("/")
        content = hub.files.get(name)
        if content is None:
            self._head(404, {"Content-Length": "0"})
        elif place == "resolve":
            told = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{self._digest(name)}"'}
            where = self.path if hub.circles else f"/cdn/{name}"
            away = {"Location": where, "Content-Length": "0"}
            self._head(302, away | (told if hub.hashes and not hub.circles else {}))
        else:
            hub.asked.append((method, name, self.headers.get("Range", "")))
            self._file(method, name, content)

    def _digest(self, name: str) -> str:
        return self.hub.digest or hashlib.sha256(self.hub.files[name]).hexdigest()

    def _file(self, method: str, name: str, content: bytes) -> None:
        hub, first = self.hub, 0
        if method == "GET" and hub.statuses:
            self._head(hub.statuses.pop(0), {"Content-Length": "0"})
            return
        if hub.ranges and (wanted := self.headers.get("Range")):
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(content):
            self._head(416, {"Content-Length": "0"})
            return
        body = content[first:]
        length = {"Content-Length": str(len(body))} if hub.lengths else {"Connection": "close"}
        span = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        self._head(206 if first else 200, length | (span if first else {}))
        if method == "GET":
            broken = len(hub.gets(name)) <= hub.breaks
            self.wfile.write(body[: len(body) // 2] if broken else body)
            self.close_connection = broken or not hub.lengths

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends; `hub.url` is what file names are appended to."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}/resolve"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
