"""What the claims of a run are worth: simulated runs in which the truth is known.

    python -m bench.null --runs 2000 --processes 2
    python -m bench.null --only identical "gain 3" --json

Each run is the project's own: `Search` breeds 60 evaluations from founders, then `examine` compares
the leader with the best founder. Only programs and evaluations are simulated: a program's text
holds what it truly is, an evaluation adds noise of one sigma (1.0 for the typical program). In the
null scenarios no offspring is better than its founders, so whatever is claimed is false; in the
others one in ten is better by exactly the gain.

Columns:

- false: runs with a false claim, and the exact upper 95% bound of their share;
- claims: runs with a true claim; of better: of those whose champion truly was better;
- cover: stated 95% intervals that hold the true difference, unbounded ones left out;
- leader, exam, claim: claimed minus true in sigmas, on average: the leader's shrunken mean, the
  exams' differences, those of exams that claim;
- pairs: of each exam, on average.
"""

import argparse
import json
import math
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import fmean

import numpy as np

from bench.simulation import HERE, SHARDS, MemoryLineage
from evolve.evidence import best_founder
from evolve.live import leader
from population.exam import MOST_PAIRS, Examination, examine
from population.history import History
from population.individual import (
    EvaluationId,
    Genome,
    Individual,
    IndividualId,
    Request,
    Result,
    Scored,
)
from population.ports import Choice, Proposal
from population.search import Search, SearchConfig
from population.state import State
from population.task import Direction

BETTER_SHARE = 0.1
"""Of the offspring that are better, in the scenarios with a gain."""
SLOTS = 2
OWN_SPREAD = 0.6
"""Standard deviation of the logarithm of a program's own noise."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world.

    Attributes:
        gain: in sigmas, of those offspring that are better. loss: of all others.
        founders: how many, all equally good.
        noise: `normal`, `heavy` (Student's t with 4 degrees of freedom), or `skewed` (exponential,
            towards worse scores).
        own_sigma: each program has its own noise, from 0.4 to 2.7 sigmas for nine in ten.
        drift: of the machine, in sigmas per evaluation; below 0 whatever comes later looks better.
        exams: how often the run is stopped for an exam, evenly; it then goes on.
    """

    name: str
    gain: float = 0.0
    loss: float = 0.0
    founders: int = 1
    noise: str = "normal"
    own_sigma: bool = False
    drift: float = 0.0
    exams: int = 1


SCENARIOS = (
    Scenario("identical"),
    Scenario("heavy tails", noise="heavy"),
    Scenario("skewed", noise="skewed"),
    Scenario("own noise", own_sigma=True),
    Scenario("own and heavy", own_sigma=True, noise="heavy"),
    Scenario("drift", drift=-0.1),
    Scenario("worse by 0.5", loss=0.5),
    Scenario("four founders", founders=4),
    Scenario("three exams", exams=3),
    Scenario("gain 1", gain=1.0),
    Scenario("gain 2", gain=2.0),
    Scenario("gain 3", gain=3.0),
    Scenario("gain 3, heavy", gain=3.0, noise="heavy"),
    Scenario("gain 3, own", gain=3.0, own_sigma=True),
    Scenario("gain 3, exams", gain=3.0, exams=3),
    Scenario("gain 6", gain=6.0),
)


def program(value: float, number: int) -> str:
    return f"TRUTH = {value!r}\nNUMBER = {number}\n"


def truth(genome: Genome) -> float:
    """Return what a program truly scores; smaller is better."""
    return float(genome.source.split()[2])


@dataclass
class Offspring:
    """The operator: a new text, better than the founders with a fixed probability."""

    scenario: Scenario
    name: str = "offspring"
    arity: int = 1
    slow: bool = False

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return a program that is better by the gain, or not, whatever its parents are."""
        better = self.scenario.gain > 0 and rng.random() < BETTER_SHARE
        value = -self.scenario.gain if better else self.scenario.loss
        source = program(value, history.proposal)
        return Proposal(
            self.name,
            tuple(parent.id for parent in parents),
            Genome(source),
            structure="one",
            fingerprint=source,
        )

    def choose(self, history: History, rng: np.random.Generator, quick: bool = False) -> Choice:
        """Return itself: it is the whole portfolio."""
        return Choice(self)


@dataclass
class Machine:
    """The Evaluation port: the truth, plus noise that is new in every evaluation."""

    scenario: Scenario
    run: int
    slots: int = SLOTS
    running: deque[Request] = field(default_factory=deque)

    def submit(self, *requests: Request) -> None:
        """Queue them."""
        self.running += requests

    def kill(self, *requests: EvaluationId) -> None:
        """Kill nothing: nobody steers this search."""

    def wait(self, timeout_s: float) -> list[Result]:
        """Return the eldest, none where none is queued."""
        if not self.running:
            return []
        return [self._result(self.running.popleft())]

    def _result(self, request: Request) -> Result:
        rng = np.random.default_rng([self.run, 0, request.id])
        luck = {
            "normal": rng.standard_normal,
            "heavy": lambda: rng.standard_t(4) / math.sqrt(2),
            "skewed": lambda: rng.exponential() - 1,
        }[self.scenario.noise]()
        value = truth(request.genome) + self._sigma(request.individual) * luck
        drifted = value + self.scenario.drift * request.id
        return Result(request.id, Scored(drifted), HERE, host="here", device="one")

    def _sigma(self, individual: IndividualId) -> float:
        if not self.scenario.own_sigma:
            return 1.0
        own = np.random.default_rng([self.run, 1, individual])
        return math.exp(own.normal(0.0, OWN_SPREAD))


@dataclass(frozen=True, slots=True)
class Exam:
    """What one exam has said, and what is true; differences are gains, in sigmas."""

    claims: bool
    gain: float
    half_width: float
    true_gain: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated run: its exams, and by how much its leader's shrunken mean is too good."""

    exams: tuple[Exam, ...]
    leader_error: float

    @property
    def claims_falsely(self) -> bool:
        """Whether any exam claimed what is not so."""
        return any(exam.claims and exam.true_gain <= 0 for exam in self.exams)

    @property
    def claims_truly(self) -> bool:
        """Whether any exam claimed what is so."""
        return any(exam.claims and exam.true_gain > 0 for exam in self.exams)

    @property
    def found(self) -> bool:
        """Whether a champion was truly better."""
        return any(exam.true_gain > 0 for exam in self.exams)


def simulate(scenario: Scenario, evaluations: int, pairs: int, number: int) -> Run:
    """Return what came of one run."""
    lineage, machine = MemoryLineage(), Machine(scenario, number)
    exams = []
    for part in range(1, scenario.exams + 1):
        state = search(scenario, evaluations * part // scenario.exams, lineage, machine)
        champion, founder = leader(state), best_founder(state)
        if champion is None or founder is None:
            raise RuntimeError(f"run {number} of {scenario.name} has scored nothing")
        if champion.id != founder.id:
            found = examine(champion, founder, machine, lineage, state, SHARDS, pairs, number)
            exams.append(outcome(found, truth(founder.genome) - truth(champion.genome)))
    standing = state.history().standings[champion.id]
    return Run(tuple(exams), (standing.fitness or 0.0) + truth(champion.genome))


def search(scenario: Scenario, evaluations: int, lineage: MemoryLineage, machine: Machine) -> State:
    """Start or continue the run up to that many evaluations."""
    founders = [program(0.0, -number) for number in range(scenario.founders)]
    return Search(
        config=SearchConfig(seed=machine.run, max_evaluations=evaluations, sync=True),
        direction=Direction.MINIMIZE,
        lineage=lineage,
        evaluation=machine,
        portfolio=Offspring(scenario),
        founders=[
            Individual(IndividualId(0), Genome(source), structure="one", fingerprint=source)
            for source in founders
        ],
        shards=SHARDS,
        observer=lambda record, state: None,
    ).run(lambda: False)


def outcome(found: Examination, true_gain: float) -> Exam:
    claim = found.claim
    if claim is None:
        raise RuntimeError(f"an exam without a pair: {found.failures}")
    return Exam(claim.better, -claim.difference, claim.half_width, true_gain, claim.pairs)


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario's runs in figures; None where there is nothing to take the mean of."""

    scenario: str
    runs: int
    exams: int
    false_claims: int
    false_at_most: float
    claims: float
    claims_of_better: float | None
    cover: float | None
    leader_error: float | None
    exam_error: float | None
    claim_error: float | None
    pairs: float | None


def row(scenario: Scenario, runs: Sequence[Run]) -> Row:
    exams = [exam for run in runs for exam in run.exams]
    stated = [exam for exam in exams if math.isfinite(exam.half_width)]
    false = sum(run.claims_falsely for run in runs)
    return Row(
        scenario.name,
        len(runs),
        len(exams),
        false,
        upper_bound(false, len(runs)),
        fmean(run.claims_truly for run in runs),
        mean(run.claims_truly for run in runs if run.found),
        mean(abs(exam.gain - exam.true_gain) <= exam.half_width for exam in stated),
        None if scenario.drift else mean(run.leader_error for run in runs),
        mean(exam.gain - exam.true_gain for exam in exams),
        mean(exam.gain - exam.true_gain for exam in exams if exam.claims),
        mean(exam.pairs for exam in exams),
    )


def upper_bound(count: int, of: int) -> float:
    """Return the exact one-sided upper 95% bound of a share (Clopper and Pearson, 1934)."""
    if count == of:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(count, of, middle) > 0.05:
            low = middle
        else:
            high = middle
    return high


def _at_most(count: int, of: int, share: float) -> float:
    """Return the probability of `count` successes or fewer in `of` trials."""
    ways = (math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) for k in range(of))
    yes, no = math.log(share), math.log1p(-share)
    terms = zip(ways, range(count + 1), strict=False)
    return sum(math.exp(way + k * yes + (of - k) * no) for way, k in terms)


def mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None


def table(rows: Sequence[Row]) -> None:
    heads = "exams", "false", "at most", "claims", "of better", "cover", "leader", "exam", "claim"
    print(f"{'':14}" + "".join(f"{head:>11}" for head in (*heads, "pairs")))
    for one in rows:
        cells = (
            f"{one.exams}",
            f"{one.false_claims}",
            *(share(value) for value in (one.false_at_most, one.claims)),
            *(share(value) for value in (one.claims_of_better, one.cover)),
            *(signed(value) for value in (one.leader_error, one.exam_error, one.claim_error)),
            "-" if one.pairs is None else f"{one.pairs:.1f}",
        )
        print(f"{one.scenario:14}" + "".join(f"{cell:>11}" for cell in cells), flush=True)


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000, help="of each scenario")
    parser.add_argument("--evaluations", type=int, default=60, help="of each run")
    parser.add_argument("--pairs", type=int, default=MOST_PAIRS, help="of each exam, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="SCENARIO")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if scenario.name in options.only]
    numbers = range(options.seed * 1_000_000, options.seed * 1_000_000 + options.runs)
    rows = []
    with ProcessPoolExecutor(options.processes) as pool:
        for scenario in chosen:
            one = partial(simulate, scenario, options.evaluations, options.pairs)
            rows.append(row(scenario, list(pool.map(one, numbers, chunksize=20))))
            if not options.json:
                table(rows[-1:])
    if options.json:
        print(json.dumps([asdict(one) for one in rows], indent=1))


if __name__ == "__main__":
    main()
