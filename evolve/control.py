"""The control channel: a folder in which a run's driver finds what others ask of it.

A command is one JSON file in `control/`, named so that names sort by time; `commands.py` tells what
it holds. The driver takes one by removing its file: what belongs to the moment before it is carried
out, so that whoever sent it can take it back until then, and what is to be recorded afterwards, so
that it is not lost. Whatever else lies there is moved to `control/rejected/`; hidden files are on
their way and left alone.
"""

import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from evolve.commands import (
    MOMENTARY,
    Command,
    Inject,
    Pause,
    Resume,
    Stop,
    read_command,
    to_json,
)
from evolve.writing import write_text
from mutate.checks import Checks
from mutate.novelty import Offer, checked, normalised_diff, refused
from population.errors import RunError
from population.history import History
from population.individual import Change, Individual, IndividualId
from population.orders import Kill, Order, Pin, Reply
from population.ports import INJECT, Attempt, Injection

CONTROL = "control"
REJECTED = "rejected"
LOOK_S = 0.5
"""How long what was found in the folder is believed to be all."""
FRAME_BYTES = 64 << 10
"""What a command's file may have beyond twice the program: line feeds and quotes are escaped."""
RUN_ENDS = "the run ends: what is in flight is left, and asked for again when it goes on"
EXAM_ENDS = (
    "the exam ends: the pair in flight is left, and it goes on there when it is asked for again"
)
NO_PAUSE = "an exam is held: it can be stopped, and nothing of it paused or killed"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.json")


def largest_command(checks: Checks) -> int:
    """Return how many bytes a command's file may have."""
    return 2 * checks.source_bytes + FRAME_BYTES


def send(folder: Path, command: Command) -> str:
    """Leave a command for the driver of the run in `folder`, now or later; return its name.

    Raises:
        RunError: the folder cannot be written.
    """
    second, nanosecond = divmod(time.time_ns(), 10**9)
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(second))
    name = f"{moment}.{nanosecond // 1000:06d}-{secrets.token_hex(4)}"
    write_text(waiting_file(folder, name), to_json(command))
    return name


def take_back(folder: Path, name: str) -> bool:
    """Remove a command that waits; return whether it was there: else the driver has taken it.

    Raises:
        RunError: the folder cannot be written.
    """
    file = waiting_file(folder, name)
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunError(f"{file} cannot be removed ({error}): remove it yourself") from error
    return True


def waiting_file(folder: Path, name: str) -> Path:
    """Return where a command waits in a run's folder."""
    return folder / CONTROL / f"{name}.json"


def rejected_file(folder: Path, name: str) -> Path:
    """Return where a command lies that the driver could not read."""
    return folder / CONTROL / REJECTED / f"{name}.json"


def attempt_name(command: str) -> str:
    """Return what the attempt of an injected proposal is called in the lineage."""
    return f"{INJECT} {command}"


def forget_stale(folder: Path, checks: Checks) -> None:
    """Remove what an earlier driver of the run was asked for the moment and did not take."""
    for name in _names(folder):
        file = folder / CONTROL / name
        with suppress(OSError, ValueError):  # what is no command the driver tells of later
            if isinstance(_read(file, largest_command(checks)), MOMENTARY):
                file.unlink()


class Control:
    """The `Injections` and the `Steering` of a run that come through its folder.

    Args:
        folder: of the run.
        checks: what a program must pass.
        tell: is given a line about everything that is moved aside.
        answer: is given the name of each command that steers, and what came of it.
        hold: is told whether the run is paused, whenever that changes; None: an exam is held, which
            is never paused.
    """

    def __init__(
        self,
        folder: Path,
        checks: Checks,
        tell: Callable[[str], None],
        answer: Callable[[str, Reply], None],
        hold: Callable[[bool], None] | None,
    ) -> None:
        self._folder = folder
        self._checks = checks
        self._tell = tell
        self._answer = answer
        self._hold = hold
        self._waiting: dict[str, Command] = {}
        self._stuck: set[str] = set()
        self._look_at = float("-inf")
        self._paused = self._stopped = False
        self._ordered = ""

    @property
    def stopped(self) -> bool:
        """Whether somebody wants this call to end."""
        self._look()
        return self._stopped

    @property
    def paused(self) -> bool:
        """Whether nothing new is to begin now."""
        self._look()
        return self._paused

    def first(self, history: History) -> Injection | None:
        """Return the longest waiting program."""
        self._look()
        for name, wish in list(self._waiting.items()):
            if not isinstance(wish, Inject):
                continue
            try:
                return _injection(name.removesuffix(".json"), wish, self._checks, history)
            except Exception as error:  # noqa: BLE001 - a command that breaks us would end each start
                self._reject(name, error)
        return None

    def done(self, injection: Injection) -> None:
        """Remove the file of an injection that is recorded."""
        self._take(waiting_file(self._folder, injection.command).name)

    def order(self) -> Order | None:
        """Return the longest waiting order."""
        self._look()
        for name, order in list(self._waiting.items()):
            if isinstance(order, Pin) or (isinstance(order, Kill) and self._take(name)):
                self._ordered = name
                return order
        return None

    def reply(self, order: Order, reply: Reply) -> None:
        """Pass on what came of the order that was given last."""
        if isinstance(order, Pin):
            self._take(self._ordered)
        self._answer(self._ordered.removesuffix(".json"), reply)

    def _look(self) -> None:
        """Learn what waits, at most twice a second, and do at once what needs no search."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_S
        names = [name for name in _names(self._folder) if name not in self._stuck]
        known = ((name, self._waiting.get(name) or self._command(name)) for name in names)
        self._waiting = {name: command for name, command in known if command is not None}
        for name, command in list(self._waiting.items()):
            if isinstance(command, Pause | Resume | Stop) and self._take(name):
                self._answer(name.removesuffix(".json"), self._obey(command))

    def _obey(self, command: Pause | Resume | Stop) -> Reply:
        """Do what concerns the whole run, and return how things stand."""
        if isinstance(command, Stop):
            self._stopped = True
            return Reply(True, EXAM_ENDS if self._hold is None else RUN_ENDS)
        if self._hold is None:
            return Reply(False, NO_PAUSE)
        paused = isinstance(command, Pause)
        if paused == self._paused:
            return Reply(True, "the run is paused already" if paused else "the run is not paused")
        self._paused = paused
        self._hold(paused)
        if paused:
            return Reply(True, "the run is paused: what is in flight goes on, nothing new begins")
        return Reply(True, "the run goes on")

    def _command(self, name: str) -> Command | None:
        try:
            return _read(self._folder / CONTROL / name, largest_command(self._checks))
        except Exception as error:  # noqa: BLE001 - a command that breaks us would end each start
            self._reject(name, error)
        return None

    def _take(self, name: str) -> bool:
        """Remove a command's file; return whether this has taken it."""
        self._waiting.pop(name, None)
        try:
            (self._folder / CONTROL / name).unlink()
        except FileNotFoundError:
            return False  # whoever put it there has taken it away
        except OSError as error:
            self._leave(name, error)
            return False
        return True

    def _reject(self, name: str, error: Exception) -> None:
        self._waiting.pop(name, None)
        aside = self._folder / CONTROL / REJECTED
        try:
            aside.mkdir(exist_ok=True)
            (self._folder / CONTROL / name).rename(aside / name)
        except FileNotFoundError:
            return  # whoever put it there has taken it away
        except OSError as refusal:
            self._leave(name, refusal)
            return
        self._tell(f"{CONTROL}/{name} is no command and lies in {REJECTED}/ now: {error}")

    def _leave(self, name: str, error: OSError) -> None:
        self._stuck.add(name)
        self._tell(f"{CONTROL}/{name} cannot be removed and is passed over: {error.strerror}")


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder / CONTROL) as entries:
            names = {entry.name for entry in entries if not entry.name.startswith(".")}
    except OSError:
        return []
    return sorted(names - {REJECTED})


def _read(file: Path, most_bytes: int) -> Command:
    """Return the command in a file. Opening it waits for nobody: it may be a pipe."""
    if not _NAME.fullmatch(file.name):
        raise ValueError("its name is none of a command")
    with open(file, "rb", opener=_without_waiting) as opened:
        body = opened.read(most_bytes + 1) or b""
    if len(body) > most_bytes:
        raise ValueError(f"it has more than {most_bytes} bytes")
    return read_command(body.decode())


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _injection(command: str, wish: Inject, checks: Checks, history: History) -> Injection:
    offered = Attempt(attempt_name(command), "offered")
    parents: tuple[Individual, ...] = ()
    if wish.parent is not None:
        standing = history.standings.get(IndividualId(wish.parent))
        if standing is None:
            reason = f"its parent {wish.parent} does not exist"
            kept = replace(offered, answer=wish.source)
            return Injection(command, refused(INJECT, (), reason, (kept,)))
        parents = (standing.individual,)
    # Without a parent the diff would be the whole program: its source is kept anyway.
    diff = normalised_diff(parents[0].genome.source, wish.source) if parents else ""
    changes = (Change(diff, wish.hypothesis, wish.category),)
    offer = Offer(INJECT, parents, wish.source, changes, (offered,))
    made = checked(offer, checks, history)
    if made.refusal:  # its file goes, the text stays
        made = replace(made, attempts=(replace(offered, answer=wish.source),))
    return Injection(command, replace(made, changes=changes))
