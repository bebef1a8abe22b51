"""What the buttons of a page ask for, passed on as the commands of the same names do it."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from evolve import steering
from evolve.commands import Inject
from evolve.injecting import inject_program
from evolve.recording import describe, read_said, record_result
from population.errors import RunError

PLAIN = {"pause": steering.pause, "resume": steering.resume, "stop": steering.stop}
OF_ONE: Mapping[str, Callable[[Path, int], steering.Answer]] = {
    "kill": steering.kill,
    "pin": steering.pin,
    "unpin": partial(steering.pin, pinned=False),
}
COMMANDS = ("inject", "record", *PLAIN, *OF_ONE)


def fulfil(folder: Path, command: str, wish: Mapping[str, Any]) -> tuple[bool, str]:
    """Pass a wish on to the run in `folder`; return whether it was taken, and what is to be said.

    Args:
        folder: of the run.
        command: one of `COMMANDS`.
        wish: what it says, untrusted: `individual`, or the fields of a form.

    Raises:
        EvolveError: it says something that the command refuses.
    """
    if command == "inject":
        return _inject(folder, wish)
    if command == "record":
        return _record(folder, wish)
    if command in PLAIN:
        answer = PLAIN[command](folder)
    else:
        answer = OF_ONE[command](folder, _number(wish.get("individual")))
    return answer.state in ("done", "waiting"), answer.says


def _inject(folder: Path, wish: Mapping[str, Any]) -> tuple[bool, str]:
    try:
        injection = Inject(
            str(wish.get("source", "")).replace("\r\n", "\n"),
            str(wish.get("hypothesis", "")),
            str(wish.get("category") or "program"),
            _number(wish["parent"]) if wish.get("parent") else None,
        )
    except ValueError as error:
        raise RunError(f"the program cannot be put in: {error}") from error
    answer = inject_program(folder, injection, None)
    if answer.state == "refused":
        return False, f"refused: {answer.reason}"
    return True, f"put in: {answer.next}"


def _record(folder: Path, wish: Mapping[str, Any]) -> tuple[bool, str]:
    """Record a result: a number, or K/N."""
    said = {name: str(wish.get(name) or "").strip() for name in ("result", "failed", "note")}
    counts = said["result"] if "/" in said["result"] else None
    try:
        value = float(said["result"]) if said["result"] and counts is None else None
    except ValueError as error:
        raise RunError(
            f"a result is a number, or so many of so many as in 37/120; got {said['result'][:40]!r}"
        ) from error
    if value is None and counts is None and not said["failed"]:
        raise RunError("there is no result: give one, or say why the program does not work")
    found = read_said(value, counts, said["failed"] or None, said["note"])
    return True, describe(record_result(folder, _number(wish.get("individual")), found))


def _number(given: object) -> int:
    """Return an id. Raises RunError where it is none."""
    text = str(given)
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise RunError(f"expected the id of an individual, got {text[:40]!r}")
    return int(text)
