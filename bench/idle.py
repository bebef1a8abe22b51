"""How much of the slots idles while operators take their time? The project's own search, live.

    python -m bench.idle [--slots 1 8] [--operators 0 10 60] [--faster 10]

Trainings of 300 s and operators of so many seconds, both faster by the same factor: waits inside
the search do not shrink with them, so its idle share is rather overstated. What is counted lies
between the first training and the moment when nothing more may be begun.
"""

import argparse
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.simulation import HERE, SHARDS, TASK, MemoryLineage, founders
from mutate.checks import Checks
from mutate.constants import ConstantsMutation, step
from mutate.portfolio import Arm, Portfolio
from population.history import History
from population.individual import EvaluationId, Individual, Request, Result, Scored
from population.ports import Ended, Proposal, Proposed, Record, Started
from population.search import Search, SearchConfig
from population.state import State

TRAINING_S = 300.0
SPREAD = 0.05
"""Trainings differ in length by this share: overheads are not equal."""
LINES = (f"LR_{number} = 0.01  # log 0.0001..1" for number in range(8))
FOUNDER = "\n".join([*LINES, "run()\n"])


class Sleeping:
    """The Evaluation port: trains by sleeping; the score is noise."""

    def __init__(self, slots: int, training_s: float) -> None:
        self.slots = slots
        self._training_s = training_s
        self._ended: queue.SimpleQueue[Result] = queue.SimpleQueue()

    def submit(self, *requests: Request) -> None:
        """Start trainings, one after the other."""
        threading.Thread(target=self._train, args=requests, daemon=True).start()

    def kill(self, *requests: EvaluationId) -> None:
        """Kill nothing: nobody steers this search."""

    def _train(self, *requests: Request) -> None:
        for request in requests:
            rng = np.random.default_rng(request.seed)
            time.sleep(self._training_s * rng.uniform(1 - SPREAD, 1 + SPREAD))
            self._ended.put(Result(request.id, Scored(1.0 + rng.normal(0.0, 0.01)), HERE))

    def wait(self, timeout_s: float) -> list[Result]:
        """Return what has ended."""
        try:
            return [self._ended.get(timeout=timeout_s)] if timeout_s else [self._ended.get_nowait()]
        except queue.Empty:
            return []


class Slow(ConstantsMutation):
    """Steps, after as long as a language model takes."""

    slow = True

    def __init__(self, checks: Checks, seconds: float) -> None:
        super().__init__(checks, step, "slow")
        self._seconds = seconds

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Wait, then step."""
        time.sleep(self._seconds * rng.uniform(0.5, 1.5))
        return super().propose(parents, history, rng)


@dataclass
class Watch:
    """Adds up what the slots did."""

    slots: int
    most: int
    began_s: float | None = None
    idle_s: float = 0.0
    quick: int = 0
    born: int = 0
    _changed_s: float = 0.0
    _running: int = 0
    _over: bool = False
    _ended_s: float = 0.0
    _clock: Callable[[], float] = field(default=time.monotonic)

    def __call__(self, record: Record, state: State) -> None:
        """Take a record into account."""
        now = self._clock()
        if self.began_s is not None and not self._over:
            self.idle_s += (self.slots - self._running) * (now - self._changed_s)
            self._ended_s = now
        if isinstance(record, Proposed) and record.individual is not None:
            self.born += 1
            self.quick += record.proposal.operator != "slow"
        if isinstance(record, Started | Ended):
            self._running = len(state.jobs.in_flight)
        self._changed_s = now
        self._over = self._over or state.counted + state.pending >= self.most
        if self.began_s is None and isinstance(record, Started):
            self.began_s = now

    def share(self) -> float:
        """Return the idle share of the slots."""
        if self.began_s is None:
            return 0.0
        return self.idle_s / (self.slots * (self._ended_s - self.began_s))


def measured(
    slots: int, operator_s: float, beside_quick: bool, faster: float, rounds: int
) -> Watch:
    """Run one search and return what its slots did."""
    most = 2 + rounds * slots
    watch = Watch(slots, most)
    checks = Checks.of(TASK)
    slow = Arm(Slow(checks, operator_s / faster), lambda _: 0.75 if beside_quick else 1.0)
    quick = Arm(ConstantsMutation(checks, step), lambda _: 0.25)
    Search(
        config=SearchConfig(max_evaluations=most),
        direction=TASK.direction,
        lineage=MemoryLineage(),
        evaluation=Sleeping(slots, TRAINING_S / faster),
        portfolio=Portfolio([slow, quick] if beside_quick else [slow]),
        founders=founders([FOUNDER]),
        shards=SHARDS,
        observer=watch,
    ).run(lambda: False)
    return watch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--operators", type=float, nargs="+", default=[0.0, 10.0, 60.0])
    parser.add_argument("--faster", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=8, help="evaluations of each slot")
    options = parser.parse_args()
    table = Table(title=f"idle share of slots, everything {options.faster:g} times faster")
    for header in ("slots", "operator takes", "beside quick ones", "idle", "quick of born"):
        table.add_column(header, justify="right")
    cases = list(product(options.slots, options.operators, (True, False)))
    found: dict[tuple[int, float, bool], Watch] = {}

    def run(slots: int, seconds: float, beside: bool) -> None:
        case = slots, seconds, beside
        found[case] = measured(*case, options.faster, options.rounds)

    threads = [threading.Thread(target=run, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for case in cases:
        slots, seconds, beside = case
        watch = found[case]
        table.add_row(
            str(slots),
            f"{seconds:g} s",
            "yes" if beside else "no",
            f"{watch.share():.2%}",
            f"{watch.quick} of {watch.born}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
