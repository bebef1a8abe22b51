"""The control channel: a folder in which a run's driver finds the programs that others put in.

A command is one JSON file in `control/`, named so that names sort by time:

    {"command": "inject", "source": ..., "hypothesis": ..., "category": ..., "parent": 3 or null}

The driver records what it asks for and then removes it. Whatever else lies there is moved to
`control/rejected/`; hidden files are on their way and left alone.
"""

import json
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from evolve.writing import write_text
from mutate.checks import Checks
from mutate.novelty import Offer, checked, normalised_diff, refused
from population.history import History
from population.individual import Change, Individual, IndividualId
from population.ports import INJECT, Attempt, Injection

CONTROL = "control"
REJECTED = "rejected"
LOOK_S = 0.5
"""How long an empty folder is believed to stay empty."""
FRAME_BYTES = 64 << 10
"""What a command's file may have beyond twice the program: line feeds and quotes are escaped."""
HYPOTHESIS_LENGTH = 2_000
CATEGORY = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.json")


@dataclass(frozen=True, slots=True)
class Inject:
    """The wish to put a program into a run.

    Attributes:
        hypothesis: why it should be better. category: what it touches, in a word.
        parent: whose text was changed; None for a program that comes from nowhere.

    Raises:
        ValueError: a field is not what it should be.
    """

    source: str
    hypothesis: str
    category: str
    parent: int | None = None

    def __post_init__(self) -> None:
        texts = (self.source, self.hypothesis, self.category)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("source, hypothesis and category must be texts")
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise ValueError("it holds characters that UTF-8 cannot carry")
        if not 0 < len(self.hypothesis.strip()) <= HYPOTHESIS_LENGTH:
            raise ValueError(f"the hypothesis must have 1 to {HYPOTHESIS_LENGTH} characters")
        if not CATEGORY.fullmatch(self.category):
            raise ValueError(
                f"the category must be one word in lower case, such as optimizer; "
                f"got {self.category[:40]!r}"
            )
        if self.parent is not None and (type(self.parent) is not int or self.parent < 1):
            raise ValueError(f"the parent must be an individual's id, from 1; got {self.parent!r}")

    def to_json(self) -> str:
        """Return the content of its file."""
        return json.dumps({"command": INJECT} | asdict(self), ensure_ascii=False) + "\n"


def read_inject(text: str) -> Inject:
    """Return the wish that a file holds.

    Raises:
        ValueError: it holds something else, in a sentence.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict) or found.pop("command", None) != INJECT:
        raise ValueError(f"it is no JSON object with the command {INJECT}")
    try:
        return Inject(**found)
    except TypeError as error:
        raise ValueError(f"its keys are not those of {INJECT}: {', '.join(found)}") from error


def largest_command(checks: Checks) -> int:
    """Return how many bytes a command's file may have."""
    return 2 * checks.source_bytes + FRAME_BYTES


def send(folder: Path, wish: Inject) -> str:
    """Leave a wish for the driver of the run in `folder`, now or later; return its name.

    Raises:
        RunError: the folder cannot be written.
    """
    second, nanosecond = divmod(time.time_ns(), 10**9)
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(second))
    name = f"{moment}.{nanosecond // 1000:06d}-{secrets.token_hex(4)}"
    write_text(waiting_file(folder, name), wish.to_json())
    return name


def waiting_file(folder: Path, name: str) -> Path:
    """Return where a command waits in a run's folder."""
    return folder / CONTROL / f"{name}.json"


def rejected_file(folder: Path, name: str) -> Path:
    """Return where a command lies that the driver could not read."""
    return folder / CONTROL / REJECTED / f"{name}.json"


def attempt_name(command: str) -> str:
    """Return what the attempt of an injected proposal is called in the lineage."""
    return f"{INJECT} {command}"


class Control:
    """The `Injections` of a run that come through its folder.

    Args:
        folder: of the run.
        checks: what a program must pass.
        tell: is given a line about everything that is moved aside.
    """

    def __init__(self, folder: Path, checks: Checks, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._checks = checks
        self._tell = tell
        self._stuck: set[str] = set()
        self._look_at = float("-inf")

    def first(self, history: History) -> Injection | None:
        """Return the longest waiting program; looks into the folder at most twice a second."""
        if time.monotonic() < self._look_at:
            return None
        for name in self._names():
            try:
                wish = self._read(self._folder / CONTROL / name)
                return _injection(name.removesuffix(".json"), wish, self._checks, history)
            except Exception as error:  # noqa: BLE001 - a command that breaks us would end each start
                self._reject(name, error)
        self._look_at = time.monotonic() + LOOK_S
        return None

    def done(self, injection: Injection) -> None:
        """Remove the file of an injection that is recorded."""
        file = waiting_file(self._folder, injection.command)
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            self._leave(file.name, error)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._folder / CONTROL) as entries:
                names = {entry.name for entry in entries if not entry.name.startswith(".")}
        except OSError:
            return []
        return sorted(names - {REJECTED} - self._stuck)

    def _read(self, file: Path) -> Inject:
        """Return the wish in a file. Opening it waits for nobody: it may be a pipe."""
        if not _NAME.fullmatch(file.name):
            raise ValueError("its name is none of a command")
        most = largest_command(self._checks)
        with open(file, "rb", opener=_without_waiting) as opened:
            body = opened.read(most + 1) or b""
        if len(body) > most:
            raise ValueError(f"it has more than {most} bytes")
        return read_inject(body.decode())

    def _reject(self, name: str, error: Exception) -> None:
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
