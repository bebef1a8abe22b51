"""One call over HTTP with its retries: no wait without a bound, no busy server unnoticed."""

import email.utils
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

import anthropic
import httpx2

from mutate.complaint import BUSY
from mutate.llm import Unavailable

CONNECT_S = 10.0
LONGEST_PAUSE_S = 60.0
"""A server that asks for a longer pause ends the call: whoever asked has other things to do."""
BODY_BYTES = 2**25
"""Events are some thirty times as long as the text in them."""
_DAY_S = 86_400.0


class Lines:
    """The connections on which answers arrive now, so that all of them can be cut.

    Closing a client does not wake a thread that reads from it. Used from several threads.
    """

    def __init__(self) -> None:
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.cut_off = False

    def add(self, line: socket.socket) -> None:
        """Note that an answer begins to arrive."""
        with self._lock:
            self._sockets.add(line)
            if self.cut_off:
                _hang_up(line)

    def discard(self, line: socket.socket) -> None:
        """Note that it has ended."""
        with self._lock:
            self._sockets.discard(line)

    def cut(self) -> None:
        """End every answer, and each that begins from now on."""
        with self._lock:
            self.cut_off = True
            for line in self._sockets:
                _hang_up(line)


class Attempts:
    """Middleware for the SDK, which runs it at each attempt of one call.

    The SDK sleeps as long as a server says, without bound, and it drops pings silently: so
    pauses are bounded here, and the time is looked at whenever bytes come. A server that stays
    silent for `idle_s` is not asked again.

    Args:
        deadline: on the monotonic clock.
        idle_s: how long to wait for the next byte.
        on_busy: told the status and the pause that a busy server asks for.
        lines: where the connection is noted while its answer arrives.
    """

    def __init__(
        self,
        deadline: float,
        idle_s: float,
        on_busy: Callable[[int, float | None], None],
        lines: Lines,
    ) -> None:
        self._deadline, self._idle_s, self._on_busy = deadline, idle_s, on_busy
        self._lines = lines

    def __call__(
        self, request: anthropic.APIRequest, call_next: anthropic.CallNext
    ) -> anthropic.APIResponse[object]:
        """Make one attempt. Raises Unavailable where its time is over."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise late()
        timeout = httpx2.Timeout(min(self._idle_s, left_s), connect=min(CONNECT_S, left_s))
        response = self._sent(request.copy(timeout=timeout), call_next)
        if response is None:  # raised out of the handler: the SDK's errors hold the key
            raise late()
        http = response.http_response
        assert isinstance(http.stream, httpx2.SyncByteStream), "the client is synchronous"
        line = http.extensions["network_stream"].get_extra_info("socket")
        http.stream = _Bounded(http.stream, self._deadline, line, self._lines)
        pause_s = retry_after_s(http.headers)
        if pause_s is not None and pause_s > min(
            LONGEST_PAUSE_S, self._deadline - time.monotonic()
        ):
            http.headers["x-should-retry"] = "false"
        if http.status_code in BUSY:
            self._on_busy(http.status_code, pause_s)
        return response

    def _sent(
        self, request: anthropic.APIRequest, call_next: anthropic.CallNext
    ) -> anthropic.APIResponse[object] | None:
        """Return what came, None where the server stayed silent.

        It is not asked again: whoever waits behind others would join the queue anew, for nothing.
        """
        try:
            return call_next(request)
        except (httpx2.ReadTimeout, anthropic.APITimeoutError):
            return None


class _Bounded(httpx2.SyncByteStream):
    """A response's body that ends at a deadline, or when it is longer than any answer."""

    def __init__(
        self, stream: httpx2.SyncByteStream, deadline: float, line: socket.socket, lines: Lines
    ) -> None:
        self._stream, self._deadline = stream, deadline
        self._line, self._lines = line, lines
        lines.add(line)

    def __iter__(self) -> Iterator[bytes]:
        left = BODY_BYTES
        for chunk in self._stream:
            left -= len(chunk)
            if time.monotonic() > self._deadline:
                raise late()
            if left < 0:
                raise Unavailable("malformed", "the server sends without end: check its address")
            yield chunk

    def close(self) -> None:
        self._lines.discard(self._line)
        self._stream.close()


def _hang_up(line: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        line.shutdown(socket.SHUT_RDWR)


def late() -> Unavailable:
    """Return that an answer took too long."""
    return Unavailable("timeout", "the answer took too long: ask for less effort or less text")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that a server asks for, in milliseconds, in seconds or as a date.

    None where it asks for none, a day at most: `inf` is a number, too.
    """
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            pause_s = float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
        return min(pause_s, _DAY_S) if pause_s > 0 else None
    return _until(headers.get("retry-after", ""))


def _until(date: str) -> float | None:
    try:
        pause_s = (email.utils.parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(pause_s, _DAY_S) if pause_s > 0 else None
