"""Messages between processes: a kind, a length, that many bytes; descriptors may ride along."""

import fcntl
import json
import os
import select
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

HEAD = 9


class ClosedError(Exception):
    """The other side ended the connection."""


class OversizedError(Exception):
    """A message is longer than its reader allows."""


def send(
    connection: socket.socket, kind: bytes, payload: bytes = b"", fds: Sequence[int] = ()
) -> None:
    """Send one message. Raises ClosedError when nobody listens."""
    data = kind + len(payload).to_bytes(8, "little") + payload
    try:
        if fds:
            sent = socket.send_fds(connection, [data], fds)
            data = data[sent:]
        connection.sendall(data)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ClosedError from error


def receive(
    connection: socket.socket, limit: int | Callable[[bytes], int], max_fds: int = 0
) -> tuple[bytes, bytes, list[int]]:
    """Return (kind, payload, descriptors).

    Args:
        connection: to read from.
        limit: bytes that a payload may have; a function where that depends on its kind.
        max_fds: how many descriptors may ride along.

    Raises:
        ClosedError: at the end of the stream.
        OversizedError: the payload has more than `limit` bytes.
    """
    head, fds = b"", list[int]()
    while len(head) < HEAD:
        head += _part(connection, HEAD - len(head), max_fds, fds)
    length = int.from_bytes(head[1:], "little")
    most = limit(head[:1]) if callable(limit) else limit
    if length > most:
        raise OversizedError(f"a message of {length} bytes, more than {most}")
    payload = bytearray()
    while len(payload) < length:
        payload += _part(connection, min(length - len(payload), 1 << 20), 0, fds)
    return head[:1], bytes(payload), fds


def _part(connection: socket.socket, size: int, max_fds: int, fds: list[int]) -> bytes:
    try:
        if max_fds:
            data, received, _, _ = socket.recv_fds(connection, size, max_fds)
            fds.extend(received)
        else:
            data = connection.recv(size)
    except (ConnectionResetError, BrokenPipeError) as error:
        raise ClosedError from error
    if not data:
        raise ClosedError
    return data


def readable(sources: Sequence[Any], timeout_s: float | None) -> list[Any]:
    """Return which of the sockets and descriptors can be read, waiting for the first."""
    ready: list[Any] = select.select(sources, [], [], timeout_s)[0]
    return ready


def send_event(connection: socket.socket, fds: Sequence[int] = (), **event: Any) -> None:
    """Send a JSON object between our own processes."""
    send(connection, b"J", json.dumps(event).encode(), fds)


def receive_event(connection: socket.socket, max_fds: int = 0) -> tuple[dict[str, Any], list[int]]:
    """Return a JSON object that one of our own processes sent, with its descriptors."""
    _, payload, fds = receive(connection, 64 << 20, max_fds)
    return json.loads(payload), fds


def anonymous_file(name: str) -> int:
    """Return a descriptor of an empty file without a path, in memory where the system can."""
    if sys.platform == "linux":
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def memory_to_lend(name: str, size: int) -> int:
    """Return a descriptor of anonymous memory that whoever holds it cannot grow or shrink.

    macOS has no seals: there a borrower could, and is found out by the size of what it delivers.
    """
    if sys.platform != "linux":
        descriptor = anonymous_file(name)
        os.ftruncate(descriptor, size)
        return descriptor
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(
        descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    )
    return descriptor
