"""A world for the search that needs no training: a number in the source is the score."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from population.history import History, Program, Standing
from population.individual import (
    KILLED,
    Change,
    Comparability,
    EvaluationId,
    Failed,
    Genome,
    Individual,
    IndividualId,
    Measurement,
    Outcome,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.orders import Order, Reply, Steering
from population.ports import (
    INJECT,
    Choice,
    Injection,
    Injections,
    Lineage,
    Proposal,
    Record,
    Variation,
)
from population.proposals import Portfolio
from population.search import Search, SearchConfig
from population.state import State
from population.task import Direction

SHARDS = ("selection", "confirmation", "exam")
MACHINE = Comparability("cpu", "", "2.13", 1, "evaluator", "data")


def program(value: float, structure: str = "a") -> str:
    return f"STRUCTURE = {structure}\nVALUE = {value:.6f}\n"


def individual(number: int, source: str, operator: str = "founder") -> Individual:
    structure = re.findall(r"STRUCTURE = (\w+)", source)
    return Individual(
        id=IndividualId(number),
        genome=Genome(source),
        operator=operator,
        name=f"program-{number}",
        structure=structure[0] if structure else "",
        fingerprint=source,
    )


def founders(*sources: str) -> list[Individual]:
    return [individual(number, source) for number, source in enumerate(sources, start=1)]


def request(
    number: int, of: Individual, seed: int = 0, purpose: Purpose = Purpose.SCREEN
) -> Request:
    return Request(EvaluationId(number), of.id, of.genome, seed, SHARDS[0], purpose)


def scored(number: int, value: float, machine: Comparability = MACHINE) -> Result:
    return Result(EvaluationId(number), Scored(value), machine)


def failed(number: int, stage: Stage = Stage.TRAINING) -> Result:
    return Result(EvaluationId(number), Failed(stage, "crash", "it raised"), MACHINE)


def killed(number: int) -> Result:
    outcome = Failed(Stage.TRAINING, KILLED, "it was ended by hand")
    return Result(EvaluationId(number), outcome, MACHINE)


def standing(number: int, fitness: float | None, structure: str = "a", se: float = 0.1) -> Standing:
    who = individual(number, program(0.0, structure))
    return Standing(who, fitness, se, 0 if fitness is None else 1, 0, 0)


@dataclass
class MemoryLineage:
    """Keeps records in a list."""

    records: list[Record] = field(default_factory=list)

    def record(self, record: Record) -> None:
        self.records.append(record)

    def replay(self) -> Iterator[Record]:
        yield from list(self.records)


def value_of(asked: Request) -> Outcome:
    """Score the number in the source with noise of 0.01 that depends on the seed alone."""
    found = re.search(r"VALUE = (\S+)", asked.genome.source)
    if found is None:
        return Failed(Stage.TRAINING, "crash", "the source names no value")
    noise = np.random.default_rng(asked.seed).normal(0.0, 0.01)
    return Scored(float(found.group(1)) + noise)


@dataclass
class FakeEvaluation:
    """Ends one evaluation per `wait`, the eldest first, unless `may_end` says not yet."""

    slots: int = 1
    outcome: Callable[[Request], Outcome] = value_of
    reference_s: Callable[[Request], float | None] = lambda _: None
    may_end: Callable[[], bool] = lambda: True
    device: Callable[[Request], str] = lambda _: "cpu:0"
    submitted: list[Request] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    running: deque[Request] = field(default_factory=deque)
    killed: deque[Request] = field(default_factory=deque)
    most_running: int = 0

    def submit(self, *requests: Request) -> None:
        self.submitted += requests
        self.together.append(len(requests))
        self.running += requests
        self.most_running = max(self.most_running, len(self.running))

    def kill(self, *requests: EvaluationId) -> None:
        self.killed += [one for one in self.running if one.id in requests]
        self.running = deque(one for one in self.running if one.id not in requests)

    def wait(self, timeout_s: float) -> list[Result]:
        if self.killed:
            return [killed(self.killed.popleft().id)]
        if not self.running or not self.may_end():
            return []
        asked = self.running.popleft()
        reference_s = self.reference_s(asked)
        measurements = (
            () if reference_s is None else (Measurement("reference_s", reference_s, "s"),)
        )
        outcome, device = self.outcome(asked), self.device(asked)
        return [Result(asked.id, outcome, MACHINE, measurements, host="here", device=device)]


@dataclass
class Nudge:
    """A mutation that moves the number in the source."""

    name: str = "nudge"
    arity: int = 1
    slow: bool = False
    before: Callable[[], object] = lambda: None

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        self.before()
        ids = tuple(parent.id for parent in parents)
        found = re.search(r"VALUE = (\S+)", parents[0].genome.source)
        assert found is not None
        source = program(float(found.group(1)) + rng.normal(0.0, 0.1), parents[0].structure)
        return Proposal(
            self.name, ids, Genome(source), structure=parents[0].structure, fingerprint=source
        )


@dataclass
class Wishes:
    """Programs from outside, in order; `forgets` is False where a kill comes before `done`."""

    sources: list[str] = field(default_factory=list)
    parents: tuple[IndividualId, ...] = ()
    forgets: bool = True
    asked: int = 0

    def first(self, history: History) -> Injection | None:
        self.asked += 1
        if not self.sources:
            return None
        source = self.sources[0]
        twin = history.fingerprints.get(source)
        proposal = Proposal(
            INJECT,
            self.parents,
            Genome(source) if twin is None else None,
            fingerprint=source,
            changes=(Change("", "because", "program"),),
            refusal="" if twin is None else f"it does the same as individual {twin}",
        )
        return Injection(source, proposal)

    def done(self, injection: Injection) -> None:
        if not self.forgets:
            raise KeyboardInterrupt
        self.sources.remove(injection.command)


@dataclass
class Orders:
    """Orders from outside, in order, with what came of them; `paused` says whether now."""

    orders: list[Order] = field(default_factory=list)
    paused_now: Callable[[], bool] = lambda: False
    replies: list[Reply] = field(default_factory=list)

    @property
    def paused(self) -> bool:
        return self.paused_now()

    def order(self) -> Order | None:
        return self.orders[0] if self.orders else None

    def reply(self, order: Order, reply: Reply) -> None:
        self.orders.remove(order)
        self.replies.append(reply)


@dataclass
class Always:
    """A portfolio of one."""

    variation: Variation = field(default_factory=Nudge)

    def choose(self, history: History, rng: np.random.Generator, quick: bool = False) -> Choice:
        return Choice(self.variation)


@dataclass
class Mixed:
    """A portfolio that asks a slow operator, and a quick one while a slot waits."""

    slow: Variation
    quick: Variation = field(default_factory=Nudge)
    fill_ins: int = 0

    def choose(self, history: History, rng: np.random.Generator, quick: bool = False) -> Choice:
        self.fill_ins += quick
        return Choice(self.quick if quick else self.slow)


def never() -> bool:
    return False


def search(  # noqa: PLR0913 - a test names what it changes
    config: SearchConfig,
    lineage: Lineage,
    evaluation: FakeEvaluation,
    variation: Variation | None = None,
    *,
    sources: Iterable[str] = (program(2.0, "a"), program(2.1, "b")),
    direction: Direction = Direction.MINIMIZE,
    observer: Callable[[Record, State], None] = lambda record, state: None,
    portfolio: Portfolio | None = None,
    read: Callable[[], Program] = Program,
    on_stop: Callable[[], None] = lambda: None,
    injections: Injections | None = None,
    steering: Steering | None = None,
) -> Search:
    return Search(
        config=config,
        direction=direction,
        lineage=lineage,
        evaluation=evaluation,
        portfolio=portfolio or Always(variation or Nudge()),
        founders=founders(*sources),
        shards=SHARDS,
        observer=observer,
        program=read,
        on_stop=on_stop,
        injections=injections,
        steering=steering,
    )


def folded(records: Iterable[Record], **settings: Any) -> State:
    state = State(Direction.MINIMIZE, **settings)
    for record in records:
        state.apply(record)
    return state
