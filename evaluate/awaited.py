"""Programs that wait until somebody has found out what they are worth, as files.

    outside/waiting/17-4711/    PROGRAM, about.json and, once somebody knows, result.json
    outside/recorded/17-4711/   the same, after the driver has taken its result

Folders are named by individual and seed, so that a driver that starts again asks for the same ones.
A result is `{"value": 0.73}`, or `{"successes": 37, "trials": 120}`, which is their ratio, or
`{"failed": "why"}`, each with a `note` if there is more to say.
"""

import json
import os
import stat
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from population.errors import RunError
from population.individual import (
    Failed,
    IndividualId,
    Measurement,
    Outcome,
    Purpose,
    Scored,
    Stage,
)

NOTE_CHARACTERS = 2_000
RESULT_BYTES = 64 << 10
LARGEST = sys.float_info.max
MOST_TRIALS = 10**15


@dataclass(frozen=True, slots=True)
class Recorded:
    """What somebody has found out about a program: a value, counts, or that it does not work.

    Attributes:
        value: of the metric. successes, trials: counts whose ratio is the value.
        failed: why it is worth nothing, empty where it has a value.
        note: anything else.

    Raises:
        ValueError: not exactly one of the three is there, or it is not what it should be.
    """

    value: float | None = None
    successes: int | None = None
    trials: int | None = None
    failed: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        counted = self.successes is not None or self.trials is not None
        if (self.value is not None) + counted + bool(self.failed) != 1:
            raise ValueError("it must hold one of `value`, `successes` with `trials`, or `failed`")
        if self.value is not None and not _is_number(self.value):
            raise ValueError(f"`value` must be a finite number; got {self.value!r}")
        if counted and not (
            _is_count(self.successes)
            and _is_count(self.trials)
            and 0 <= (self.successes or 0) <= (self.trials or 0) != 0
        ):
            raise ValueError(
                "`successes` and `trials` must be whole numbers, the trials 1 or more and the "
                f"successes none to all of them; got {self.successes!r} of {self.trials!r}"
            )
        for name in ("failed", "note"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > NOTE_CHARACTERS:
                raise ValueError(f"`{name}` must be a text of at most {NOTE_CHARACTERS} characters")

    @property
    def outcome(self) -> Outcome:
        """How the evaluation ended."""
        if self.failed:
            return Failed(Stage.SCORING, "rejected", self.failed)
        if self.value is not None:
            return Scored(float(self.value))
        assert self.successes is not None and self.trials is not None
        return Scored(self.successes / self.trials)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The counts behind the value, if there are any."""
        if self.successes is None or self.trials is None:
            return ()
        counts = {"successes": self.successes, "trials": self.trials}
        return tuple(Measurement(name, count, "1") for name, count in counts.items())


@dataclass(frozen=True, slots=True)
class Awaited:
    """A program whose result is waited for.

    Attributes:
        folder: where it lies. program: its file. since: UNIX seconds.
        recorded: its result lies there, and the driver has not taken it yet.
    """

    folder: Path
    program: Path
    individual: IndividualId
    purpose: Purpose
    since: float
    recorded: bool


def waiting_folder(folder: Path) -> Path:
    """Return where the programs of a run lie whose results are waited for."""
    return folder / "outside" / "waiting"


def awaited(folder: Path) -> list[Awaited]:
    """Return what a run in `folder` waits for, the longest waiting first."""
    found = [_awaited(one) for one in waiting_folder(folder).glob("[!.]*")]
    there = [one for one in found if one is not None]
    return sorted(there, key=lambda one: (one.since, one.folder.name))


def record(program: Awaited, recorded: Recorded) -> None:
    """Leave a result for the driver, in one step.

    Raises:
        RunError: there is one already, the driver has taken it, or the folder cannot be written.
    """
    said = {name: getattr(recorded, name) for name in Recorded.__slots__}
    body = json.dumps({key: value for key, value in said.items() if value not in (None, "")})
    file = program.folder / "result.json"
    making = program.folder / f".result.{uuid.uuid4().hex}"
    try:
        making.write_text(body + "\n", "utf-8")
        try:
            os.link(making, file)  # which replaces nothing
        finally:
            making.unlink()
    except FileExistsError as error:
        raise RunError(
            f"{file} holds a result that waits to be taken: remove it first to correct it"
        ) from error
    except OSError as error:
        raise RunError(
            f"{file} cannot be written ({error.strerror}): it may have been recorded meanwhile; "
            "`evolve record` tells what waits"
        ) from error


def read_result(file: Path) -> Recorded:
    """Return what a file says of a program.

    Raises:
        ValueError: naming what was expected.
    """
    try:
        with open(file, "rb", opener=_without_waiting) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise ValueError("it is no regular file")
            body = opened.read(RESULT_BYTES + 1)
        if len(body) > RESULT_BYTES:
            raise ValueError(f"it has more than {RESULT_BYTES} bytes")
        found = json.loads(body)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it cannot be read ({error})") from error
    if not isinstance(found, dict) or not found.keys() <= set(Recorded.__slots__):
        raise ValueError(f"it must be an object of {', '.join(Recorded.__slots__)}; got {found!r}")
    return Recorded(**found)


def _awaited(folder: Path) -> Awaited | None:
    """Return what lies in a folder, None where it is no program that waits."""
    told = about(folder)
    try:
        return Awaited(
            folder,
            folder / str(told["program"]),
            IndividualId(int(told["individual"])),
            Purpose(told["purpose"]),
            float(told["since"]),
            (folder / "result.json").exists(),
        )
    except (KeyError, TypeError, ValueError):
        return None


def about(folder: Path) -> Mapping[str, Any]:
    """Return what a folder says of its program, nothing where it says nothing."""
    try:
        found = json.loads((folder / "about.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def since_of(folder: Path) -> float:
    """Return since when the program in a folder waits, UNIX seconds; now, where that is unknown."""
    since = about(folder).get("since")
    return float(since) if since is not None and _is_number(since) else time.time()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and type(value) is not bool
    return number and bool(-LARGEST <= value <= LARGEST)  # a whole number may be larger


def _is_count(value: object) -> bool:
    return isinstance(value, int) and type(value) is not bool and value <= MOST_TRIALS
