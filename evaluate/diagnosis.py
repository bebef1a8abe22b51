"""Why a process ended without an answer, from its exit code and what it printed."""

import contextlib
import re
import signal
from typing import Any

from evaluate.warm import Exit
from population.individual import Failed, Stage

OUT_OF_MEMORY = re.compile(
    r"MemoryError|OutOfMemoryError|out of memory|can't allocate memory", re.IGNORECASE
)
FILE_TOO_LARGE = re.compile(r"\[Errno 27\]|File too large|SIGXFSZ")
NO_MORE_PROCESSES = re.compile(
    r"can't start new thread|[Tt]hread creation failed|pthread_create failed"
    r"|what\(\):\s+Resource temporarily unavailable"
    r"|(?s:(?:fork|spawn).*\[Errno 11\])"  # a pipe without data says [Errno 11], too
)
SIGKILL_CODES = (137, -9 & 0xFF)
SIGXFSZ_CODES = (153, -25 & 0xFF)
LAST_LINES = 8
DETAIL_CHARACTERS = 1_000


def sentence(text: object) -> str:
    """Return what a candidate may have had a hand in as short, valid text that can be stored."""
    whole = str(text)[:DETAIL_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    return whole.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def diagnose(stage: Stage, end: Exit, log: str, refused: dict[str, Any] | None) -> Failed:
    """Say why a candidate ended without a hand-in, from its exit code and what it printed."""
    lines = [line for line in log.strip().splitlines() if line.strip()]
    last = lines[-1].strip()[:500] if lines else ""
    tail = "\n".join(lines[-LAST_LINES:])
    if end.code == 99 or OUT_OF_MEMORY.search(tail):
        return Failed(stage, "out_of_memory", f"needs more memory than it may use: {last}")
    if end.code in SIGKILL_CODES:
        return Failed(
            stage, "killed", "the system killed it, most likely for memory: use less of it"
        )
    if refused is not None:
        return Failed(Stage.HANDIN, "refused", sentence(refused["detail"]))
    said = lines[-LAST_LINES:] if end.code else lines  # one that it survived ended no program
    refusals = [line for line in said if "HandInRefusedError: " in line]
    if refusals:
        return Failed(
            Stage.HANDIN, "refused", sentence(refusals[-1].partition("HandInRefusedError: ")[2])
        )
    if end.code == 0:
        return Failed(stage, "no_handin", "ended without run.deliver(model): nothing was handed in")
    if end.code in SIGXFSZ_CODES or FILE_TOO_LARGE.search(tail):
        return Failed(stage, "file_limit", f"a file grew larger than one may be: {last}")
    if NO_MORE_PROCESSES.search(tail):
        return Failed(
            stage, "process_limit", f"has as many processes and threads as it may have: {last}"
        )
    if "SyntaxError" in last or "IndentationError" in last:
        return Failed(stage, "syntax", last)
    raised = end.code == 1 and "Traceback (most recent call last)" in log
    return Failed(stage, "crash", last if raised else _ended(end.code, last))


def _ended(code: int, last: str) -> str:
    printed = f"after it printed: {last}" if last else "and printed nothing"
    with contextlib.suppress(ValueError):  # one whom a signal ends has its number, negated
        return f"was ended by {signal.Signals(256 - code).name} {printed}"
    return f"ended with exit code {code} {printed}"
