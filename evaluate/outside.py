"""Results that come from outside: a person or a system finds out what a program is worth.

Nothing trains here. Each program that a search wants to know about lies in a folder of its own,

    outside/waiting/17-4711/    PROGRAM, about.json and, once somebody knows, result.json
    outside/recorded/17-4711/   the same, after the driver has taken its result

named by individual and seed, so that a driver that starts again asks for the same folders. A
result is `{"value": 0.73}`, or `{"successes": 37, "trials": 120}`, which is their ratio, or
`{"failed": "why"}`, each with a `note` if there is more to say.
"""

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from population.errors import PoolError, RunError
from population.individual import (
    KILLED,
    Comparability,
    EvaluationId,
    Failed,
    IndividualId,
    Measurement,
    Outcome,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.task import Task

AT_ONCE = 4
"""Programs that wait for a result at once, unless a run is told."""
LOOK_S = 0.2
NOTE_CHARACTERS = 2_000
RESULT_BYTES = 64 << 10
NOWHERE = "outside"
"""In place of a device: who measures is nothing that we know of."""


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
        if not isinstance(self.failed, str) or not isinstance(self.note, str):
            raise ValueError("`failed` and `note` must be texts")

    @property
    def outcome(self) -> Outcome:
        """How the evaluation ended."""
        if self.failed:
            return Failed(Stage.SCORING, "rejected", self.failed[:NOTE_CHARACTERS])
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


class Outside:
    """The Evaluation port where results come from outside.

    It keeps what waits in the run's folder: a result that is recorded while no driver works is
    taken by the next one. Exams ask for fresh seeds each time, so what is left of one is removed.

    Args:
        task: whose programs these are.
        folder: of the run.
        slots: programs that wait at once.

    Raises:
        PoolError: the folder cannot be written.
    """

    kind: str | None = None

    def __init__(self, task: Task, folder: Path, slots: int) -> None:
        self._task = task
        self._waiting, self._recorded = waiting_folder(folder), folder / "outside" / "recorded"
        self._slots = slots
        self._asked: dict[EvaluationId, Request] = {}
        self._together: dict[EvaluationId, tuple[EvaluationId, ...]] = {}
        self._killed: list[Result] = []
        with _written(self._waiting):
            self._waiting.mkdir(parents=True, exist_ok=True)
            self._recorded.mkdir(exist_ok=True)
        self._forget_exams()

    @property
    def slots(self) -> int:
        """How many programs wait at once."""
        return self._slots

    def submit(self, *requests: Request) -> None:
        """Lay programs out for whoever finds out; see the port's contract."""
        for request in requests:
            self._asked[request.id] = request
            self._together[request.id] = tuple(one.id for one in requests)
            with _written(self._waiting):
                self._lay_out(request)

    def _lay_out(self, request: Request) -> None:
        """Make the folder of a request, in one step, unless it is there since an earlier driver."""
        name = _name(request)
        folder = self._waiting / name
        if folder.exists() or (self._recorded / name).exists():
            return
        about = {
            "individual": request.individual,
            "seed": request.seed,
            "purpose": request.purpose,
            "shard": request.shard,
            "metric": self._task.metric,
            "direction": self._task.direction,
            "program": self._task.artifact,
            "since": time.time(),
        }
        making = self._waiting / f".{name}"
        making.mkdir(exist_ok=True)
        (making / self._task.artifact).write_text(request.genome.source, "utf-8")
        (making / "about.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
        making.rename(folder)

    def wait(self, timeout_s: float) -> list[Result]:
        """Return what has been recorded; see the port's contract."""
        if not self._asked and not self._killed:
            return []
        deadline = time.monotonic() + timeout_s
        while True:
            ready = [request for request in self._asked.values() if self._has_result(request)]
            left = deadline - time.monotonic()
            if ready or self._killed or left <= 0:
                break
            time.sleep(min(LOOK_S, left))
        ended, self._killed = self._killed, []
        for request in ready:
            with _written(self._waiting):
                ended.append(self._take(request))
        return ended

    def _has_result(self, request: Request) -> bool:
        name = _name(request)
        return (self._waiting / name / "result.json").exists() or (self._recorded / name).exists()

    def _take(self, request: Request) -> Result:
        """Return a recorded result, and move its folder to where it is waited for no longer.

        A driver that died between this and the lineage finds it there again.
        """
        self._forget(request.id)
        waiting, recorded = self._waiting / _name(request), self._recorded / _name(request)
        folder = waiting if waiting.exists() else recorded
        since = _about(folder).get("since", 0.0)
        try:
            found = read_result(folder / "result.json")
        except ValueError as error:
            (folder / "result.json").replace(folder / "rejected.json")
            says = f"{folder / 'rejected.json'}: {error}; it is waited for again"
            failed = Failed(Stage.INFRASTRUCTURE, "unreadable", says)
            return self._result(request, failed, since)
        if folder is waiting:
            waiting.rename(recorded)
        return self._result(request, found.outcome, since, found.measurements, found.note)

    def _result(
        self,
        request: Request,
        outcome: Outcome,
        since: float,
        measurements: tuple[Measurement, ...] = (),
        note: str = "",
    ) -> Result:
        made = Comparability(NOWHERE, "", "", 0, self._task.evaluator_sha256, "")
        return Result(
            request.id,
            outcome,
            made,
            measurements,
            log=note[:NOTE_CHARACTERS],
            host=platform.node(),
            device=NOWHERE,
            started_at=since,
            ended_at=time.time(),
        )

    def kill(self, *requests: EvaluationId) -> None:
        """Wait for these no longer; see the port's contract."""
        ending = {other for one in requests for other in self._together.get(one, ())}
        for one in ending & self._asked.keys():
            request = self._asked[one]
            since = _about(self._waiting / _name(request)).get("since", time.time())
            with _written(self._waiting):
                shutil.rmtree(self._waiting / _name(request), ignore_errors=True)
            self._forget(one)
            failed = Failed(Stage.TRAINING, KILLED, "somebody has ended the wait for its result")
            self._killed.append(self._result(request, failed, since))

    def _forget(self, request: EvaluationId) -> None:
        del self._asked[request], self._together[request]

    def _forget_exams(self) -> None:
        """Remove what earlier exams still waited for; what was recorded is kept."""
        for one in awaited(self._waiting.parent.parent):
            if one.purpose is not Purpose.EXAM:
                continue
            with _written(self._waiting):
                if one.recorded:
                    one.folder.rename(self._recorded / one.folder.name)
                else:
                    shutil.rmtree(one.folder)

    def close(self) -> None:
        """Leave what waits for the next driver."""
        with suppress(PoolError):
            self._forget_exams()


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
    file, making = program.folder / "result.json", program.folder / ".result.json"
    try:
        making.write_text(body + "\n", "utf-8")
        os.link(making, file)  # which replaces nothing
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
        with file.open("rb") as opened:
            body = opened.read(RESULT_BYTES + 1)
        if len(body) > RESULT_BYTES:
            raise ValueError(f"it has more than {RESULT_BYTES} bytes")
        found = json.loads(body)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"it cannot be read ({error})") from error
    if not isinstance(found, dict) or not found.keys() <= set(Recorded.__slots__):
        raise ValueError(f"it must be an object of {', '.join(Recorded.__slots__)}; got {found!r}")
    return Recorded(**found)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a PoolError."""
    try:
        yield
    except OSError as error:
        raise PoolError(
            f"{folder} cannot be written ({error}): mend that, and `evolve run` goes on"
        ) from error


def _awaited(folder: Path) -> Awaited | None:
    """Return what lies in a folder, None where it is no program that waits."""
    about = _about(folder)
    try:
        return Awaited(
            folder,
            folder / str(about["program"]),
            IndividualId(int(about["individual"])),
            Purpose(about["purpose"]),
            float(about["since"]),
            (folder / "result.json").exists(),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _about(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "about.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(request: Request) -> str:
    return f"{request.individual}-{request.seed}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and type(value) is not bool
