"""Whole searches in a simulated world: the project's own search, a clock that nobody waits for.

What is simulated is the device alone. Founders, operators, portfolio, parent and survivor
selection, racing and statistics are those of `evolve run`.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.landscape import Landscape, Truth
from evolve.breeding import breeders
from evolve.config import Breeding
from evolve.controls import CONTROLS
from evolve.live import leader
from mutate import genome
from mutate.checks import Checks
from mutate.spending import Spent
from population.errors import RunError
from population.individual import (
    KILLED,
    Comparability,
    EvaluationId,
    Failed,
    Genome,
    Individual,
    IndividualId,
    Outcome,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.ports import Ended, Record
from population.proposals import Portfolio
from population.search import Search, SearchConfig
from population.state import State
from population.task import Direction, EvaluatorKind, Task

SHARDS = ("selection", "confirmation", "exam")
HERE = Comparability("simulated", "", "", 1, "", "")
NOWHERE = Path()
TASK = Task(
    name="simulated",
    root=NOWHERE,
    artifact="train.py",
    metric="val_bpb",
    direction=Direction.MINIMIZE,
    kind=EvaluatorKind.COMMAND,
    evaluator=NOWHERE,
    program=NOWHERE,
    seeds=(),
)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to search: settings, and who makes proposals from the task's checks."""

    name: str
    config: SearchConfig
    portfolio: Callable[[Checks], Portfolio]


def shipped(name: str) -> Method:
    """Return a search mode as `evolve run --search NAME` has it, without a language model."""
    return Method(
        name,
        SearchConfig(mode=CONTROLS[name].mode, racing_share=CONTROLS[name].racing_share),
        lambda _: breeders(Breeding(search=name), TASK, Spent()).portfolio,
    )


def laddered(method: Method, rung: float | None) -> Method:
    """Return the method with newcomers that train for this share of the budget first."""
    return replace(method, config=replace(method.config, rung=rung))


@dataclass(frozen=True, slots=True)
class Row:
    """How a search stood after one of its evaluations.

    Attributes:
        evaluations: settled ones that count, failures included. failures: of these.
        clock_s: since the start, by the simulated clock. device_s: used by all evaluations.
        wasted_s: of that, by those that failed.
        leader: whom an export would take. claimed: its shrunken mean. true: its noise-free value.
    """

    evaluations: int
    failures: int
    clock_s: float
    device_s: float
    wasted_s: float
    leader: IndividualId
    claimed: float
    true: float


@dataclass(frozen=True, slots=True)
class Trace:
    """One search, evaluation by evaluation."""

    method: str
    landscape: str
    seed: int
    rows: tuple[Row, ...]

    def at(self, evaluations: int) -> Row:
        """Return how it stood after so many evaluations; the first row where it had none yet."""
        return next((r for r in reversed(self.rows) if r.evaluations <= evaluations), self.rows[0])

    def after(self, device_s: float) -> Row:
        """Return how it stood when it had used so much of the device."""
        return next((r for r in reversed(self.rows) if r.device_s <= device_s), self.rows[0])

    def reached(self, target: float) -> int | None:
        """Return after how many evaluations the leader was truly this good, None: never."""
        return next((r.evaluations for r in self.rows if r.true <= target), None)


@dataclass
class Device:
    """The Evaluation port over a landscape: what ends first comes back first, at once."""

    landscape: Landscape
    slots: int = 1
    clock_s: float = 0.0
    device_s: float = 0.0
    wasted_s: float = 0.0
    truths: dict[str, Truth] = field(default_factory=dict)
    _running: list[tuple[float, int, Request]] = field(default_factory=list)
    _killed: list[Result] = field(default_factory=list)

    def truth(self, source: str) -> Truth:
        """Return what a program is here; each is looked up once."""
        if source not in self.truths:
            self.truths[source] = self.landscape.truth(source)
        return self.truths[source]

    def _truth_of(self, request: Request) -> Truth:
        truth = self.truth(request.genome.source)
        if request.purpose is not Purpose.RUNG:
            return truth
        assert truth.rung is not None, "this landscape knows no shorter trainings"
        return truth.rung

    def submit(self, *requests: Request) -> None:
        """Start evaluations now, one after the other where they are several."""
        ends_at = self.clock_s
        for request in requests:
            ends_at += self._truth_of(request).cost_s
            heapq.heappush(self._running, (ends_at, request.id, request))

    def kill(self, *requests: EvaluationId) -> None:
        """End evaluations by hand, at the present time."""
        failed = Failed(Stage.TRAINING, KILLED, "it was ended by hand")
        self._killed += [
            Result(one.id, failed, HERE, host="simulated")
            for _, _, one in self._running
            if one.id in requests
        ]
        self._running = [entry for entry in self._running if entry[1] not in requests]
        heapq.heapify(self._running)

    def wait(self, timeout_s: float) -> list[Result]:
        """Return what was killed, else the next that ends, and set the clock."""
        if self._killed:
            return [self._killed.pop()]
        if not self._running:
            return []
        began_s = self.clock_s
        self.clock_s, _, request = heapq.heappop(self._running)
        truth = self._truth_of(request)
        self.device_s += truth.cost_s
        self.wasted_s += truth.cost_s if truth.value is None else 0.0
        return [
            Result(
                request.id,
                outcome(truth, request.seed),
                HERE,
                host="simulated",
                started_at=began_s,
                ended_at=self.clock_s,
            )
        ]


def outcome(truth: Truth, seed: int) -> Outcome:
    """Return one evaluation: the truth with normal noise, a function of both."""
    if truth.value is None:
        return Failed(Stage.TRAINING, truth.reason or "crash", "as the landscape has it")
    noise = np.random.default_rng(seed).normal(0.0, truth.sigma) if truth.sigma else 0.0
    return Scored(truth.value + noise)


@dataclass
class MemoryLineage:
    """The Lineage port in memory."""

    records: list[Record] = field(default_factory=list)

    def record(self, record: Record) -> None:
        """Keep it."""
        self.records.append(record)

    def replay(self) -> Iterator[Record]:
        """Yield what was kept."""
        yield from list(self.records)


def simulate(
    method: Method,
    landscape: Landscape,
    seed: int,
    evaluations: int,
    slots: int = 1,
) -> Trace:
    """Run one search to its end and return how it went; it ends early where all is tried.

    Args:
        method: to be measured.
        landscape: its world.
        seed: of the search; noise depends on it, too.
        evaluations: settled ones that count.
        slots: evaluations at once.
    """
    device = Device(landscape, slots)
    rows: list[Row] = []

    def observe(record: Record, state: State) -> None:
        if isinstance(record, Ended) and state.anything_scored:
            rows.append(_row(state, device))

    search = Search(
        config=replace(method.config, seed=seed, max_evaluations=evaluations),
        direction=TASK.direction,
        lineage=MemoryLineage(),
        evaluation=device,
        portfolio=method.portfolio(Checks.of(TASK)),
        founders=founders(landscape.founders),
        shards=SHARDS,
        observer=observe,
    )
    with suppress(RunError):  # raised when everything it can propose exists
        search.run(lambda: False)
    return Trace(method.name, landscape.name, seed, tuple(rows))


def founders(sources: Sequence[str]) -> list[Individual]:
    """Return programs as individuals, as `evolve run` makes them of a task's seeds."""
    return [
        Individual(
            id=IndividualId(number),
            genome=Genome(source),
            name=f"founder-{number}",
            structure=genome.structure(source),
            fingerprint=genome.fingerprint(source),
            constants=genome.values(source),
        )
        for number, source in enumerate(sources, 1)
    ]


def _row(state: State, device: Device) -> Row:
    best = leader(state)
    assert best is not None
    standing = state.history().standings[best.id]
    truth = device.truth(best.genome.source)
    assert standing.fitness is not None
    assert truth.value is not None
    return Row(
        evaluations=int(state.counted),
        failures=len(state.failures),
        clock_s=device.clock_s,
        device_s=device.device_s,
        wasted_s=device.wasted_s,
        leader=best.id,
        claimed=state.direction.fitness(standing.fitness),
        true=truth.value,
    )
