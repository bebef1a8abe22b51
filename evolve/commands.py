"""What may be asked of a run from outside, and how a file says it.

{"command": "inject", "source": ..., "hypothesis": ..., "category": ..., "parent": 3 or null}
{"command": "pause"}, {"command": "resume"}, {"command": "stop"}
{"command": "kill", "individual": 7}, {"command": "pin", "individual": 7, "pinned": true}
"""

import json
import re
from dataclasses import asdict, dataclass

from population.orders import Kill, Pin
from population.ports import INJECT

HYPOTHESIS_LENGTH = 2_000
CATEGORY = re.compile(r"[a-z][a-z0-9_-]{0,39}")


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


@dataclass(frozen=True, slots=True)
class Pause:
    """The wish that nothing new begins to train and nobody is asked for anything new."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The wish that a pause ends."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The wish that the call of `evolve run` ends, as at a Ctrl-C."""


Command = Inject | Pause | Resume | Stop | Kill | Pin

COMMANDS: dict[str, type[Command]] = {
    INJECT: Inject,
    "pause": Pause,
    "resume": Resume,
    "stop": Stop,
    "kill": Kill,
    "pin": Pin,
}
MOMENTARY = (Pause, Resume, Stop, Kill)
"""Meant for the call of `evolve run` that goes on now: a later one must not find them."""


def name_of(command: Command) -> str:
    """Return what a command is called, such as `pause`."""
    return next(name for name, kind in COMMANDS.items() if kind is type(command))


def to_json(command: Command) -> str:
    """Return the content of a command's file."""
    return json.dumps({"command": name_of(command)} | asdict(command), ensure_ascii=False) + "\n"


def read_command(text: str) -> Command:
    """Return the command that a file holds.

    Raises:
        ValueError: it holds something else, in a sentence.
    """
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    name = found.pop("command", None) if isinstance(found, dict) else None
    if not isinstance(name, str) or name not in COMMANDS:
        raise ValueError(f"it is no JSON object with a command ({', '.join(COMMANDS)})")
    try:
        return COMMANDS[name](**found)
    except TypeError as error:
        raise ValueError(f"its keys are not those of {name}: {', '.join(found)}") from error
