"""Serves the Messages API on 127.0.0.1 with answers that somebody else writes, through a folder.

    python -m bench.relayed_llm FOLDER --port 8766          prints what ANTHROPIC_BASE_URL is to be
    python -m bench.relayed_llm FOLDER --next               takes a question: its number, its file
    python -m bench.relayed_llm FOLDER --answer 7 < ANSWER  answers it

For a strong model that has no such server, a coding agent or a person: whoever reads a question
writes the answer to it as text. Several may answer at once; each question is taken by one of them,
and one that stays unanswered for ten minutes ends as any slow answer does. Tokens are estimated
at four bytes each, thought is not counted.
"""

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from evolve.writing import write_text

HOST = "127.0.0.1"
BYTES_PER_TOKEN = 4
PING_S = 5.0
POLL_S = 0.2
PATIENCE_S = 540.0
"""How long `--next` waits for a question."""


class Relay(ThreadingHTTPServer):
    """Lays questions into `folder` and sends back what is laid beside them."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.numbers = itertools.count(1 + len(list(folder.glob("*.body.json"))))
        super().__init__((HOST, port), Exchange)


class Exchange(BaseHTTPRequestHandler):
    """One question and its answer."""

    server: Relay
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Lay the question into the folder, and stream the answer once it is there."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        read = len(question(body).encode()) // BYTES_PER_TOKEN
        if self.path.partition("?")[0] != "/v1/messages":
            self.plain({"input_tokens": read})
            return
        number = next(self.server.numbers)
        write_text(self.server.folder / f"{number:04}.body.json", json.dumps(body))
        write_text(self.server.folder / f"{number:04}.open.md", question(body))
        with contextlib.suppress(ConnectionError):
            self.stream(body, read, self.server.folder / f"{number:04}.answer.md")

    def plain(self, value: dict[str, Any]) -> None:
        """Send one JSON object."""
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, body: dict[str, Any], read: int, answer: Path) -> None:
        """Send the events of an answer, with pings until it is there."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        usage = {"input_tokens": read, "output_tokens": 1}
        message = {
            "id": f"msg_{answer.name[:4]}", "type": "message", "role": "assistant",
            "model": body["model"], "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": usage,
        }  # fmt: skip
        self.event("message_start", message=message)
        last = time.monotonic()
        while not answer.exists():
            time.sleep(POLL_S)
            if time.monotonic() - last > PING_S:
                self.event("ping")
                last = time.monotonic()
        text = answer.read_text(encoding="utf-8")
        written = len(text.encode()) // BYTES_PER_TOKEN
        self.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        self.event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
        self.event("content_block_stop", index=0)
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        self.event("message_delta", delta=ended, usage={**usage, "output_tokens": written})
        self.event("message_stop")

    def event(self, name: str, **data: Any) -> None:
        """Send one event."""
        self.wfile.write(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def question(body: dict[str, Any]) -> str:
    """Return what a model would read, as one text."""
    parts = [("system", body.get("system", []))]
    parts += [(turn["role"], turn["content"]) for turn in body["messages"]]
    return "\n\n".join(f"===== {role} =====\n{_text(content)}" for role, content in parts)


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "\n".join(block["text"] for block in content)


def taken(folder: Path) -> Iterator[Path]:
    """Yield the oldest question that nobody has taken, once it is this caller's."""
    for path in sorted(folder.glob("*.open.md")):
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            yield path.rename(path.with_name(path.name.replace(".open.", ".taken.")))


def take(folder: Path) -> int:
    """Print number and file of the next question; exit code 1 where none comes."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for path in taken(folder):
            print(f"{int(path.name[:4])} {path}")
            return 0
        time.sleep(POLL_S)
    print("no question came")
    return 1


def main() -> int:
    """Serve, take a question or answer one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where questions and answers lie")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--next", action="store_true", help="take a question")
    parser.add_argument("--answer", type=int, metavar="NUMBER", help="answer it from stdin")
    options = parser.parse_args()
    if options.next:
        return take(options.folder)
    if options.answer is not None:
        if not (options.folder / f"{options.answer:04}.body.json").exists():
            parser.error(f"{options.folder} holds no question {options.answer}")
        write_text(options.folder / f"{options.answer:04}.answer.md", sys.stdin.read())
        return 0
    try:
        relay = Relay(options.folder, options.port)
    except OSError as error:
        parser.error(f"port {options.port} or {options.folder} cannot be used ({error})")
    with relay:
        print(f"ANTHROPIC_BASE_URL=http://{HOST}:{relay.server_address[1]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            relay.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
