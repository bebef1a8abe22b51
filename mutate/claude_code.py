"""Asks Claude through the `claude` program, for whoever has a subscription and no key."""

import json
import os
import re
import shutil
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mutate.complaint import Complaint
from mutate.hearsay import beginning, excerpt, sound, tokens
from mutate.llm import Answer, Question, Scope, Unavailable, Usage
from mutate.program import Bounds, Ran, run
from mutate.text import tokens_of

OUTPUT_BYTES = 2 * 2**20
_OPTIONS = (
    *("-p", "--output-format", "json", "--max-turns", "1"),
    *("--tools", "", "--setting-sources", "", "--strict-mcp-config"),
    *("--no-session-persistence", "--disable-slash-commands"),
)
_INSTALL = "npm install -g @anthropic-ai/claude-code, or use --llm MODEL with a key"
_RESETS = re.compile(r"limit reached\|(\d{10})\b")
_TOO_LONG = re.compile("exceeded the .{0,40}output token maximum")
_MEANING = {
    "not logged in|/login|invalid api key|failed to authenticate|oauth token": 401,
    "credit balance": 402,
    "issue with the selected model": 404,
    "limit reached|hit your .{0,40}limit|rate.?limit": 429,
}
"""Status codes by what is said, for errors that come without one: older versions name none."""
_OF_THE_API = {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"}


class ClaudeCode:
    """A `llm.LLM` over Claude Code's print mode: no tools, no settings, no memory, one turn.

    The model `claude-code:NAME` asks for NAME, `claude-code` for the program's own default.
    The price of an answer is what the program says it would have cost by the token. One that
    reaches `max_tokens` is lost: the program tries three times to go on with it, then gives up.
    """

    def __init__(self, timeout_s: float = 600.0, program: str = "claude") -> None:
        self._timeout_s, self._program = timeout_s, program
        self._stop = threading.Event()

    @property
    def unusable(self) -> str:
        """Why no call can succeed, empty where one may; known without asking."""
        found = shutil.which(self._program)
        return "" if found else f"{self._program} is not installed: {_INSTALL}"

    def close(self) -> None:
        """Kill what runs."""
        self._stop.set()

    def ask(self, question: Question) -> Answer:
        """Return the answer. Raises Unavailable where there is none."""
        start = time.monotonic()
        with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            ran = self._run(question, Path(folder))
        if ran.late and self._stop.is_set():
            raise Unavailable("stopped", "the run has ended", Scope.PROVIDER)
        if ran.late:
            detail = f"{self._program} took longer than {self._timeout_s:g} s: ask for less effort"
            raise Unavailable("timeout", detail)
        if ran.overlong:
            raise self._malformed(f"more than {OUTPUT_BYTES} bytes")
        result = _result(ran.out)
        if result is None:
            raise self._unreadable(ran, question)
        return self._answer(result, question, time.monotonic() - start)

    def count(self, question: Question) -> int | None:
        """Return None: the program does not count."""
        return None

    def _run(self, question: Question, folder: Path) -> Ran:
        # in a file, as an argument may have 128 KiB at most and everyone can read it
        instructions = folder / "system.txt"
        system = sound("\n\n".join(block.text for block in question.system))
        instructions.write_text(system, encoding="utf-8")
        empty = folder / "empty"
        empty.mkdir()
        command = [self._program, *_OPTIONS, "--system-prompt-file", str(instructions)]
        if name := question.model.name.partition(":")[2]:
            command += ["--model", name]
        if question.model.effort and question.effort:
            command += ["--effort", question.effort]
        try:
            env = _environment(question)
            bounds = Bounds(self._timeout_s, OUTPUT_BYTES, self._stop)
            return run(command, _prompt(question), empty, env, bounds)
        except FileNotFoundError:
            detail = f"{self._program} is not installed: {_INSTALL}"
        except (OSError, ValueError) as error:
            detail = f"{self._program} cannot be started ({excerpt(error)}): {_INSTALL}"
        raise Unavailable("not_installed", detail, Scope.PROVIDER)

    def _answer(self, result: dict[str, Any], question: Question, duration_s: float) -> Answer:
        text, reason = str(result.get("result") or ""), result.get("stop_reason")
        if result.get("is_error"):
            # errors come with the stop reason `stop_sequence`; these two were answers, and charged
            if reason != "refusal" and not _TOO_LONG.search(text):
                raise self._failed(text, tokens(result.get("api_error_status")), question)
            text, reason = "", "refusal" if reason == "refusal" else "max_tokens"
        text = beginning(sound(text))
        usage = _usage(result.get("usage"), question, text)
        return Answer(
            text=text,
            stop_reason=sound(reason)[:40] if isinstance(reason, str) and reason else "end_turn",
            usage=usage,
            cost_usd=_cost_usd(result.get("total_cost_usd"), question, usage),
            duration_s=duration_s,
        )

    def _failed(self, said: str, status: int | None, question: Question) -> Unavailable:
        message = excerpt(said)
        match status or _meaning(said):
            case 401 | 403:
                detail = f"{self._program} is not logged in ({message}): run `claude /login`"
                return Unavailable("not_logged_in", detail, Scope.PROVIDER)
            case None:
                detail = f"{self._program} failed ({message or 'silently'}): try `claude -p hello`"
                return Unavailable("failed", detail)
            case code:
                complaint = Complaint(code, message=message, retry_after_s=_resets_in_s(said))
                return complaint.unavailable(question.model.name)

    def _unreadable(self, ran: Ran, question: Question) -> Unavailable:
        said = (ran.err + b" " + ran.out).decode(errors="replace").strip()
        if ran.code != 0:
            return self._failed(said, None, question)
        return self._malformed(excerpt(said) or "nothing")

    def _malformed(self, what: str) -> Unavailable:
        detail = f"{self._program} answered with {what}, not with its JSON: update it"
        return Unavailable("malformed", detail)


def _meaning(said: str) -> int | None:
    found = (code for words, code in _MEANING.items() if re.search(words, said, re.IGNORECASE))
    return next(found, None)


def _environment(question: Question) -> dict[str, str]:
    """Return our environment, which leads to the login, without key and address of the API.

    With a key in it the program would spend the key's money in place of the subscription, with an
    address ask the local server that is meant for other models.
    Left to itself it asks for a title of the session first, at 80% of the question's own price.
    """
    env = {name: value for name, value in os.environ.items() if name not in _OF_THE_API}
    return env | {
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(question.max_tokens),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
    }


def _prompt(question: Question) -> str:
    """Return the turns as one text, since the program is asked once."""
    turns = [sound("\n\n".join(block.text for block in turn)) for turn in question.turns]
    if len(turns) == 1:
        return turns[0]
    heads = ("The user wrote", "You answered")
    parts = [f"# {heads[n % 2]}\n\n{turn}" for n, turn in enumerate(turns[:-1])]
    return "\n\n".join([*parts, f"# The user writes now; answer this\n\n{turns[-1]}"])


def _result(out: bytes) -> dict[str, Any] | None:
    """Return the program's last word, None where it is none: some versions print a list."""
    try:
        printed = json.loads(out)
    except (ValueError, RecursionError):
        return None
    last = printed[-1] if isinstance(printed, list) and printed else printed
    known = isinstance(last, dict) and ("result" in last or last.get("is_error"))
    return last if known else None


def _usage(found: object, question: Question, text: str) -> Usage:
    counts = found if isinstance(found, dict) else {}
    fresh, out = tokens(counts.get("input_tokens")), tokens(counts.get("output_tokens"))
    return Usage(
        fresh=tokens_of(question.text) if fresh is None else fresh,
        written=tokens(counts.get("cache_creation_input_tokens")) or 0,
        cached=tokens(counts.get("cache_read_input_tokens")) or 0,
        out=tokens_of(text) if out is None else out,
    )


def _cost_usd(found: object, question: Question, usage: Usage) -> float:
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 1e6:
        return float(found)
    return question.model.cost_usd(usage.fresh, usage.written, usage.cached, usage.out)


def _resets_in_s(said: str) -> float | None:
    """Return in how long a usage limit ends, where the program says so: `limit reached|EPOCH`."""
    found = _RESETS.search(said)
    return max(0.0, float(found[1]) - time.time()) if found else None
