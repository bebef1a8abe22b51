"""Steering a run from outside: `evolve pause`, `resume`, `stop`, `kill` and `pin`, for any face.

Each function leaves a command in the run's folder and waits until its driver has answered.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evolve.commands import Command, Pause, Resume, Stop, name_of
from evolve.control import REJECTED, rejected_file, send, take_back
from evolve.live import driver_lives, elsewhere, exam_line, is_running, read_live
from evolve.reading import Reading
from evolve.text import call
from population.errors import RunError
from population.individual import IndividualId
from population.orders import Kill, Pin

PATIENCE_S = 15.0
"""How long a driver may take to answer. It looks twice a second, unless it has much to think."""
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a command.

    Attributes:
        command: `pause`, `resume`, `stop`, `kill` or `pin`. individual: whom it names, if anybody.
        state: `done`; `refused`; `waiting`, for the next `evolve run` to do it; `ending`, where a
            run that was stopped still ends; `unanswered`, where the driver did not say.
        says: how things stand and what to do, in a sentence.
    """

    run: str
    command: str
    state: str
    says: str
    individual: int | None = None


def pause(folder: Path) -> Answer:
    """Let nothing new begin in the run in `folder` until `resume`.

    Raises:
        RunError: it does not search, or its folder cannot be written.
    """
    _require_search(folder)
    return _ask(folder, Pause())


def resume(folder: Path) -> Answer:
    """End a pause. Raises RunError as `pause` does."""
    _require_search(folder)
    return _ask(folder, Resume())


def stop(folder: Path, wait_s: float | None = None) -> Answer:
    """End the search or the exam of the run in `folder` as a Ctrl-C would.

    Args:
        folder: of the run.
        wait_s: wait for at most so long until its process has ended; None: do not wait.

    Raises:
        RunError: it is not running, or its folder cannot be written.
    """
    live = _require_running(folder)
    goes_on = call("export" if live.get("exam") else "run", folder)
    answer = _ask(folder, Stop())
    if answer.state != "done" or wait_s is None:
        return answer
    deadline = time.monotonic() + wait_s
    while driver_lives(live):
        if time.monotonic() >= deadline:
            late = f"the run still ends after {wait_s:g} s: `evolve status` tells when it has"
            return replace(answer, state="ending", says=late)
        time.sleep(LOOK_S)
    return replace(answer, says=f"the run has ended: {goes_on} goes on with it")


def kill(folder: Path, individual: int) -> Answer:
    """End what of an individual is in flight; it fails, and is not tried again.

    Raises:
        RunError: the run does not search, has no such individual, or its folder cannot be written.
        LineageError: it cannot be read.
    """
    _require_search(folder)
    require_known(folder, individual)
    return replace(_ask(folder, Kill(IndividualId(individual))), individual=individual)


def pin(folder: Path, individual: int, pinned: bool = True) -> Answer:
    """Keep an individual among the survivors, or no longer; waits for a run that does not search.

    Raises:
        RunError: the run has no such individual, or its folder cannot be written.
        LineageError: it cannot be read.
    """
    require_known(folder, individual)
    return replace(_ask(folder, Pin(IndividualId(individual), pinned)), individual=individual)


def _require_running(folder: Path) -> dict[str, Any]:
    """Return what the driver says. Raises RunError where there is none on this host."""
    live = _live(folder)
    if live is None and (host := elsewhere(read_live(folder / "live.json"))):
        raise RunError(
            f"run {folder.name} was last seen to go on on {host}: steer it from there; if nothing "
            f"of it runs there any more, {call('run', folder)} goes on with it"
        )
    if live is None:
        raise RunError(
            f"run {folder.name} is not running here, so nothing in it can be steered: "
            f"{call('run', folder)} goes on with it"
        )
    return live


def _require_search(folder: Path) -> None:
    """Raise RunError where nothing is searched, be it that an exam is held."""
    if exam := _require_running(folder).get("exam"):
        raise RunError(
            f"run {folder.name} does not search now ({exam_line(exam)}), so nothing in it can be "
            f"paused or killed: {call('stop', folder)} ends the exam"
        )


def require_known(folder: Path, individual: int) -> None:
    """Raise RunError where a run has no such individual, not even an unpublished one."""
    with Reading(folder) as reading:
        last = reading.last_individual()
    live = _live(folder)
    last = max(last, live["individuals"]) if live else last  # what is published lags behind
    if not 1 <= individual <= last:
        raise RunError(f"individual {individual} does not exist; ids go from 1 to {last}")


def _live(folder: Path) -> dict[str, Any] | None:
    """Return what a driver that works on this host says, None where none does."""
    live = read_live(folder / "live.json")
    return live if is_running(live) else None


def _ask(folder: Path, command: Command) -> Answer:
    """Leave a command and return its driver's answer, or what else there is to say."""
    name = send(folder, command)
    deadline = time.monotonic() + PATIENCE_S
    while _takes(folder, command) and time.monotonic() < deadline:
        if (answer := _answer(folder, name, command)) is not None:
            return answer
        time.sleep(LOOK_S)
    return _answer(folder, name, command) or _unanswered(folder, name, command)


def _takes(folder: Path, command: Command) -> bool:
    """Whether a driver works that will take a command: in an exam none takes a pin."""
    live = _live(folder)
    return live is not None and not (isinstance(command, Pin) and live.get("exam"))


def _answer(folder: Path, name: str, command: Command) -> Answer | None:
    """Return what a driver has answered, None while it has not."""
    about = folder.name, name_of(command)
    if rejected_file(folder, name).exists():
        older = f"its driver is of a version that knows no such command: it lies in {REJECTED}/"
        return Answer(*about, "refused", older)
    for one in (read_live(folder / "live.json") or {}).get("answers", ()):
        if one["command"] == name:
            return Answer(*about, "done" if one["done"] else "refused", one["says"])
    return None


def _unanswered(folder: Path, name: str, command: Command) -> Answer:
    about, lives = (folder.name, name_of(command)), _takes(folder, command)
    again = call("run", folder)
    if isinstance(command, Pin):
        when = "its driver takes it when it looks" if lives else f"{again} takes it first"
        return Answer(*about, "waiting", f"it waits in the run's folder: {when}")
    if not take_back(folder, name):
        return Answer(*about, "unanswered", "taken, without an answer: ask `evolve status`")
    if not lives:
        raise RunError(f"run {folder.name} ended before it took this: {again} goes on")
    late = f"the driver has not taken it for {PATIENCE_S:g} s, and it is taken back: try again"
    return Answer(*about, "unanswered", late)
