"""`evolve record`: results that a person or a system has found out, and what waits for one."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluate.awaited import Awaited, Recorded, awaited, read_result, record, waiting_folder
from evolve.live import is_running, read_live
from evolve.text import columns, duration, one_line
from population.errors import RunError
from population.individual import Purpose

_COUNTS = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*")


def read_said(
    value: float | None, counts: str | None, failed: str | None, note: str = ""
) -> Recorded:
    """Return what was said of a program.

    Raises:
        RunError: it is not one result, or not a possible one.
    """
    if sum(said is not None for said in (value, counts, failed)) != 1:
        raise RunError("give one of --value, --counts and --failed")
    match = _COUNTS.fullmatch(counts or "")
    if counts is not None and match is None:
        raise RunError(f"--counts must be like 37/120: so many of so many; got {counts!r}")
    try:
        successes, trials = map(int, match.groups()) if match else (None, None)
        return Recorded(value, successes, trials, failed or "", note)
    except ValueError as error:
        raise RunError(f"this is no result: {error}") from error


def is_recorded(folder: Path) -> bool:
    """Whether the results of a run come from outside, as far as it has begun."""
    return waiting_folder(folder).is_dir()


def waits(folder: Path) -> list[dict[str, Any]]:
    """Return the programs of a run whose results are waited for, the longest waiting first.

    Raises:
        RunError: no results come from outside there.
    """
    if not is_recorded(folder):
        raise RunError(
            f"nothing of run {folder.name} is recorded from outside: its programs are scored here, "
            "or it has not begun"
        )
    return [_as_object(one) for one in _waiting(folder)]


def _waiting(folder: Path) -> list[Awaited]:
    """Return what waits; for an exam nothing does unless one is held: it asks for fresh results."""
    live = read_live(folder / "live.json")
    examines = live is not None and is_running(live) and bool(live.get("exam"))
    return [one for one in awaited(folder) if examines or one.purpose is not Purpose.EXAM]


def _as_object(one: Awaited) -> dict[str, Any]:
    return {
        "individual": one.individual,
        "purpose": str(one.purpose),
        "program": str(one.program),
        "since": one.since,
        "recorded": one.recorded,
        "fault": _fault(one) if one.recorded else "",
    }


def _fault(one: Awaited) -> str:
    """Return why what lies there is no result and will be put aside, empty where it is one."""
    file = one.folder / "result.json"
    try:
        read_result(file)
    except ValueError as error:
        return str(error) if file.exists() else ""  # else it has been taken
    return ""


def record_result(folder: Path, individual: int, found: Recorded) -> dict[str, Any]:
    """Leave a result for the one of an individual that has waited longest; return what was done.

    Raises:
        RunError: nothing of it waits, or the folder cannot be written.
    """
    waits(folder)
    own = [one for one in _waiting(folder) if one.individual == individual]
    program = next((one for one in own if not one.recorded), None)
    if program is None:
        why = "its result is recorded and waits to be taken" if own else "it waits for no result"
        raise RunError(f"individual {individual}: {why}; `evolve record` tells what waits")
    record(program, found)
    return {
        "run": folder.name,
        "individual": individual,
        "program": str(program.program),
        **{name: getattr(found, name) for name in Recorded.__slots__},
        "running": is_running(read_live(folder / "live.json")),
    }


def describe(answer: dict[str, Any]) -> str:
    """Return what was recorded, and who takes it, in a line."""
    if answer["failed"]:
        says = f"it does not work: {answer['failed']}"
    elif answer["value"] is not None:
        says = f"{answer['value']:g}"
    else:
        says = f"{answer['successes']} of {answer['trials']}"
    takes = "the run takes it now" if answer["running"] else "the next `evolve run` takes it"
    return f"recorded for #{answer['individual']}: {says}; {takes}"


def _waits(one: dict[str, Any]) -> str:
    """Return for how long a program has waited, or what has come of it."""
    if one["fault"]:
        return one_line(f"no result: {one['fault']}")
    return "recorded" if one["recorded"] else duration(time.time() - one["since"])


def table(folder: Path, waiting: Sequence[dict[str, Any]]) -> str:
    """Return what waits, a line each."""
    if not waiting:
        return f"nothing of run {folder.name} waits for a result"
    rows = [
        [
            f"#{one['individual']}",
            one["purpose"],
            _waits(one),
            one["program"],
        ]
        for one in waiting
    ]
    return columns(["individual", "purpose", "waits", "program"], rows)
