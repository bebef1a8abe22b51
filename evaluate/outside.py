"""Results that come from outside: a person or a system finds out what a program is worth.

Nothing trains here. Each program that a search wants to know about waits in a folder of its own
(`awaited.py`) until somebody leaves its result there.
"""

import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evaluate.awaited import awaited, read_result, since_of, waiting_folder
from population.errors import PoolError
from population.individual import (
    KILLED,
    Comparability,
    EvaluationId,
    Failed,
    Measurement,
    Outcome,
    Purpose,
    Request,
    Result,
    Stage,
)
from population.task import Task

AT_ONCE = 4
"""Programs that wait for a result at once, unless a run is told."""
LOOK_S = 0.2
NOWHERE = "outside"
"""In place of a device: who measures is nothing that we know of."""


class Outside:
    """The Evaluation port where results come from outside.

    It keeps what waits in the run's folder: a result that is recorded while no driver works is
    taken by the next one. Exams ask for fresh seeds each time, so what is left of one is removed.

    Args:
        task: whose programs these are.
        folder: of the run.
        slots: programs that wait at once.

    Attributes:
        kind: of GPU, as a pool has it: none.
        tell: is given a line about each file that is no result.

    Raises:
        PoolError: the folder cannot be written.
    """

    kind: str | None = None

    def __init__(self, task: Task, folder: Path, slots: int) -> None:
        self._task = task
        self._waiting, self._recorded = waiting_folder(folder), folder / "outside" / "recorded"
        self._slots = slots
        self.tell: Callable[[str], object] = print
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
        told = {
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
        (making / "about.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
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
                if (result := self._take(request)) is not None:
                    ended.append(result)
        return ended

    def _has_result(self, request: Request) -> bool:
        name = _name(request)
        return (self._waiting / name / "result.json").exists() or (self._recorded / name).exists()

    def _take(self, request: Request) -> Result | None:
        """Return a recorded result, and move its folder to where it is waited for no longer.

        A driver that died between this and the lineage finds it there again. What is no result is
        moved aside, and waited for again.
        """
        waiting, recorded = self._waiting / _name(request), self._recorded / _name(request)
        folder = waiting if waiting.exists() else recorded
        since = since_of(folder)
        try:
            found = read_result(folder / "result.json")
        except ValueError as error:
            if folder is recorded:
                recorded.rename(waiting)
            (waiting / "result.json").replace(waiting / "rejected.json")
            self.tell(f"{waiting / 'rejected.json'} is no result and is waited for again: {error}")
            return None
        self._forget(request.id)
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
            log=note,
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
            folder = self._waiting / _name(request)
            since = since_of(folder)
            with _written(self._waiting):
                self._put_away(folder)
            self._forget(one)
            failed = Failed(Stage.TRAINING, KILLED, "somebody has ended the wait for its result")
            self._killed.append(self._result(request, failed, since))

    def _forget(self, request: EvaluationId) -> None:
        del self._asked[request], self._together[request]

    def _forget_exams(self) -> None:
        """Remove what earlier exams still waited for; what was recorded is kept."""
        for one in awaited(self._waiting.parent.parent):
            if one.purpose is Purpose.EXAM:
                with _written(self._waiting):
                    self._put_away(one.folder)

    def _put_away(self, folder: Path) -> None:
        """Remove a program that nobody waits for; keep what somebody has found out about it."""
        if (folder / "result.json").exists():
            folder.rename(self._recorded / folder.name)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Leave what waits for the next driver."""
        with suppress(PoolError):
            self._forget_exams()


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a PoolError."""
    try:
        yield
    except OSError as error:
        raise PoolError(
            f"{folder} cannot be written ({error}): mend that, and `evolve run` goes on"
        ) from error


def _name(request: Request) -> str:
    return f"{request.individual}-{request.seed}"
