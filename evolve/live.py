"""What a run does at this moment: one snapshot for the terminal and for `live.json`."""

import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evolve.telling import EXACT_LINE, busy_line, describe
from evolve.text import count
from evolve.writing import write_text
from population.exam import pairs_held
from population.individual import EvaluationId, Individual, IndividualId, Request
from population.orders import Reply
from population.parents import fittest
from population.ports import Ended, Proposed, Record, Started
from population.state import State

ANSWERS = 32
"""So many of the latest answers to commands are kept: whoever gave one looks within seconds."""


@dataclass(frozen=True, slots=True)
class Running:
    """An evaluation in flight. `since` is in UNIX seconds."""

    evaluation: int
    individual: int
    operator: str
    purpose: str
    since: float


@dataclass(frozen=True, slots=True)
class Best:
    """The individual that leads now; values in units of the metric."""

    individual: int
    name: str
    operator: str
    value: float
    standard_error: float | None
    evaluations: int


@dataclass(frozen=True, slots=True)
class Exam:
    """An exam that is being held: `pairs` of at most `most` have ended."""

    champion: int
    founder: int
    pairs: int
    most: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a command that was given from outside; `command` names its file."""

    command: str
    done: bool
    says: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        pid, host: of the driver. started_at, updated_at, ended_at: UNIX seconds; `ended_at` is
            None while the driver works.
        begun_ticks: when its process began, since the machine did: another one may have its number
            later. None where /proc does not tell.
        counted: evaluations that count towards a limit, short trainings as their share, rounded
            down. failed: those without a score.
        short: trainings at the rung. let_through: who may train in full after one.
        refused: proposals that did not become individuals, since the driver started.
        sigma: standard deviation of one evaluation, None while unknown.
        limit: `--evaluations`, None without.
        spent_usd, cost_limit_usd: on language models; None where none is asked.
        asking: calls of language models under way.
        self_reported: programs score themselves, so that values are no more than their word.
        paused: nothing new begins. exam: the search is over, and this is being held.
        answers: to the latest commands, the newest last.
    """

    pid: int
    host: str
    started_at: float
    updated_at: float
    ended_at: float | None = None
    begun_ticks: int | None = None
    generation: int = 0
    individuals: int = 0
    counted: int = 0
    short: int = 0
    let_through: int = 0
    failed: int = 0
    refused: int = 0
    sigma: float | None = None
    limit: int | None = None
    slots: int = 0
    spent_usd: float | None = None
    cost_limit_usd: float | None = None
    asking: int = 0
    running: tuple[Running, ...] = ()
    best: Best | None = None
    self_reported: bool = False
    paused: bool = False
    exam: Exam | None = None
    answers: tuple[Answered, ...] = ()


class Watch:
    """Follows the records of a run: the latest snapshot and what to say of the latest record.

    Used from one thread.

    Attributes:
        line: about the latest record, None where it is not worth one.
        turn: that disturbed scores are taken as they are since that record, or are no longer, or
            that no score of this run can be disturbed.
    """

    def __init__(
        self, limit: int | None, slots: int, now: float, *, self_reported: bool = False
    ) -> None:
        self._in_flight: dict[EvaluationId, tuple[Request, float]] = {}
        self.snapshot = Snapshot(
            os.getpid(),
            socket.gethostname(),
            now,
            now,
            begun_ticks=_begun_ticks(_stat(os.getpid())),
            limit=limit,
            slots=slots,
            self_reported=self_reported,
        )
        self.line: str | None = None
        self.turn: str | None = None
        self._busy = self._exact = False
        self._refusal: str | None = None

    def see(self, record: Record, state: State, now: float) -> None:
        """Take one record into account; `snapshot`, `line` and `turn` stand after it."""
        request = None
        if isinstance(record, Started):
            self._in_flight[record.request.id] = record.request, now
        elif isinstance(record, Ended):
            request, _ = self._in_flight.pop(record.result.request, (None, now))
        self.line = describe(record, state, request)
        busy, exact = state.contention.is_busy, state.contention.is_exact
        if exact:
            self.turn = None if self._exact else EXACT_LINE
        else:
            self.turn = None if busy is self._busy else busy_line(busy)
        self._busy, self._exact = busy, exact
        refused = isinstance(record, Proposed) and record.individual is None
        if refused and self.line == self._refusal:
            self.line = None  # an operator says so again and again: it is counted
        elif refused:
            self._refusal = self.line
        self.look(state, now, refused=self.snapshot.refused + refused)

    def look(self, state: State, now: float, refused: int | None = None) -> None:
        """Bring the snapshot up to the state."""
        noise = state.noise()
        self.snapshot = replace(
            self.snapshot,
            updated_at=now,
            generation=max(state.selections - 1, 0),
            individuals=len(state.individuals),
            counted=int(state.counted),
            short=state.short,
            let_through=len(state.rungs.passed),
            failed=len(state.failures),
            refused=self.snapshot.refused if refused is None else refused,
            sigma=noise.sigma if noise else None,
            running=tuple(_running(*entry, state) for entry in self._in_flight.values()),
            best=_best(state),
            exam=_held(self.snapshot.exam, state),
        )

    def spend(self, usd: float, limit_usd: float) -> None:
        """Take into account what language models have cost so far."""
        self.snapshot = replace(self.snapshot, spent_usd=usd, cost_limit_usd=limit_usd)

    def note_calls(self, calls: int, now: float) -> bool:
        """Take into account how many calls of models are under way; tell whether that is new."""
        if calls == self.snapshot.asking:
            return False
        self.snapshot = replace(self.snapshot, updated_at=now, asking=calls)
        return True

    def pause(self, paused: bool) -> None:
        """Take into account whether the run is paused."""
        self.snapshot = replace(self.snapshot, paused=paused)

    def examine(
        self, champion: IndividualId, founder: IndividualId, most: int, state: State, now: float
    ) -> None:
        """Take into account that from now on an exam is held."""
        exam = Exam(champion, founder, 0, most)
        self.snapshot = replace(self.snapshot, ended_at=None, paused=False, exam=exam)
        self.look(state, now)

    def answer(self, command: str, reply: Reply) -> None:
        """Keep what came of a command, for whoever waits for it."""
        answers = (*self.snapshot.answers, Answered(command, reply.done, reply.says))
        self.snapshot = replace(self.snapshot, answers=answers[-ANSWERS:])

    def end(self, now: float) -> None:
        """Mark that the driver ends now."""
        self.snapshot = replace(
            self.snapshot,
            updated_at=now,
            ended_at=now,
            running=(),
            asking=0,
            paused=False,
            exam=None,
        )


def _running(request: Request, since: float, state: State) -> Running:
    individual = state.individuals[request.individual]
    return Running(request.id, individual.id, individual.operator, request.purpose, since)


def _held(exam: Exam | None, state: State) -> Exam | None:
    if exam is None:
        return None
    pair = IndividualId(exam.champion), IndividualId(exam.founder)
    return replace(exam, pairs=pairs_held(state.exam_blocks, *pair))


def _best(state: State) -> Best | None:
    champion = leader(state)
    if champion is None:
        return None
    standing = state.history().standings[champion.id]
    assert standing.fitness is not None
    error = standing.standard_error
    return Best(
        individual=champion.id,
        name=champion.name,
        operator=champion.operator,
        value=state.direction.fitness(standing.fitness),
        standard_error=error if math.isfinite(error) else None,
        evaluations=standing.evaluations,
    )


def leader(state: State) -> Individual | None:
    """Return the individual with the best shrunken mean, the eldest among equals; None: none.

    Whom the quarantine holds does not lead.
    """
    best = fittest(state.history().standings.values())
    return best.individual if best else None


@contextmanager
def ended_in_the_end(file: Path, watch: Watch) -> Iterator[None]:
    """Mark in `live.json` that its driver ends, however it does, where that is not marked yet."""
    try:
        yield
    finally:
        if watch.snapshot.ended_at is None:
            watch.end(time.time())
            write_live(file, watch.snapshot)


def write_live(file: Path, snapshot: Snapshot) -> None:
    """Replace `live.json` in one step."""
    write_text(file, json.dumps(asdict(snapshot), indent=1) + "\n")


def read_live(file: Path) -> dict[str, Any] | None:
    """Return the content of `live.json`, None where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def exam_line(exam: dict[str, Any]) -> str:
    """Return how far an exam of `live.json` is: `exam of #4 against founder #1: 2 of ...`."""
    who = f"exam of #{exam['champion']} against founder #{exam['founder']}"
    return f"{who}: {exam['pairs']} of at most {exam['most']} pairs done"


def asking_line(calls: int) -> str:
    """Return that so many calls of language models are under way."""
    return f"asking language models: {count(calls, 'call')} under way"


def is_running(live: dict[str, Any] | None) -> bool:
    """Return whether the driver that wrote `live.json` still works on this host."""
    if live is None or live["ended_at"] is not None or elsewhere(live):
        return False
    return driver_lives(live)


def is_over(live: dict[str, Any] | None) -> bool:
    """Return whether no driver works on a run, as far as this host can tell: on another one may."""
    return not elsewhere(live) and not is_running(live)


def elsewhere(live: dict[str, Any] | None) -> str | None:
    """Return the other host on which a run may go on, for all that this one can tell; or None."""
    if live is None or live["ended_at"] is not None or live["host"] == socket.gethostname():
        return None
    return str(live["host"])


def driver_lives(live: dict[str, Any]) -> bool:
    """Return whether the process that wrote `live.json` works on this host.

    One that only waits to be buried does not, nor does another one that has got its number since.
    """
    pid, begun = int(live["pid"]), live.get("begun_ticks")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    stat = _stat(pid)
    return not stat or (stat[0] != "Z" and begun in (None, _begun_ticks(stat)))


def _stat(pid: int) -> list[str]:
    """Return what /proc tells of a process, from its state on; empty where it tells nothing."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no such file on macOS
        return []
    return found.rpartition(")")[2].split()


def _begun_ticks(stat: list[str]) -> int | None:
    return int(stat[19]) if stat else None
