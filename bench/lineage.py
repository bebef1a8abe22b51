"""What the lineage costs: time per record and per publication, by size of the run.

    python bench/lineage.py [individuals ...]

Each individual is a program of 26 KB with 20 constants, one LLM attempt with a prompt of 20 KB,
and one evaluation with six measurements, a curve of 64 points and a log of 8 KB.
"""

import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from evolve.reading import Reading
from evolve.report import report
from evolve.web.page import overview
from population.identity import RunIdentity
from population.individual import (
    Change,
    Comparability,
    EvaluationId,
    Genome,
    Individual,
    IndividualId,
    Measurement,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
)
from population.lineage import DuckLineage, open_published
from population.ports import (
    Attempt,
    Ended,
    Founded,
    Proposal,
    Proposed,
    Record,
    Selected,
    Started,
)
from population.task import Direction

MACHINE = Comparability("cpu", "", "2.13", 2, "e", "d")
SURVIVORS = 8


def text(dice: random.Random, size: int) -> str:
    words = ("def", "return", "self", "model", "tensor", "loss", "batch", "weight", "rate")
    return " ".join(f"{dice.choice(words)}{dice.randrange(9999)}" for _ in range(size // 9))


def life(number: int, dice: random.Random) -> Iterator[Record]:
    """Yield what is recorded from an individual's proposal to its score."""
    genome = Genome(text(dice, 26_000))
    constants: dict[str, bool | int | float | str] = {
        f"CONSTANT_{n}": dice.random() for n in range(20)
    }
    changes = (Change(text(dice, 800), f"idea {number}", "constant"),)
    own = IndividualId(number)
    if number == 1:
        yield Founded(Individual(own, genome, constants=constants))
    else:
        older = range(max(1, number - 40), number)
        parents = tuple(IndividualId(dice.choice(older)) for _ in range(1 + (dice.random() < 0.2)))
        call = Attempt(
            *("edit", "accepted", 9.0, 0.05, 7000, 900, 6000),
            prompt=text(dice, 20_000),
            answer="answer",
        )
        proposal = Proposal("llm", parents, genome, "s", "f", constants, changes, "", (call,))
        child = Individual(
            own, genome, parents, "llm", "", "s", "f", constants, changes, ProposalId(number)
        )
        yield Proposed(ProposalId(number), proposal, child)
    request = EvaluationId(number)
    yield Started(Request(request, own, genome, number, "selection", Purpose.SCREEN))
    yield Ended(
        Result(
            request=request,
            outcome=Scored(3.0 + dice.random()),
            comparability=MACHINE,
            measurements=tuple(Measurement(f"m{n}", dice.random(), "1") for n in range(6)),
            log=text(dice, 8_000),
            curve=tuple((n / 64, dice.random()) for n in range(64)),
            sandbox=("namespaces", "landlock"),
            ended_at=float(number),
        )
    )
    if number % 16 == 0:
        members = tuple((IndividualId(number - n), 3.0, 0.1) for n in range(SURVIVORS))
        yield Selected(number // 16 - 1, 0.1, members)


def measure(individuals: int, folder: Path) -> dict[str, float]:
    identity = RunIdentity(
        "bench", "train.py", "m", Direction.MINIMIZE, "e", "d", "p", 0, 0.0,
        configuration='{"budget": "10s"}',
    )  # fmt: skip
    dice = random.Random(0)
    costs: list[float] = []
    with DuckLineage.open(folder, identity) as lineage:
        for number in range(1, individuals + 1):
            for record in life(number, dice):
                begun = time.perf_counter()
                lineage.record(record)
                costs.append(time.perf_counter() - begun)
            if number % 50 == 0:
                lineage.publish()
        begun = time.perf_counter()
        lineage.publish()
        publish_s = time.perf_counter() - begun
    begun = time.perf_counter()
    with DuckLineage.open(folder, identity) as lineage:
        open_s = time.perf_counter() - begun
        begun = time.perf_counter()
        replayed = sum(1 for _ in lineage.replay())
        replay_s = time.perf_counter() - begun
    assert replayed == len(costs)
    found = {
        "records": len(costs),
        "record, median ms": statistics.median(costs) * 1e3,
        "record, p99 ms": statistics.quantiles(costs, n=100)[98] * 1e3,
        "publish, ms": publish_s * 1e3,
        "open, ms": open_s * 1e3,
        "replay, s": replay_s,
    }
    return found | reading(folder, individuals) | sizes(folder)


def reading(folder: Path, individuals: int) -> dict[str, float]:
    queries = {
        "leaderboard, ms": "FROM leaderboard LIMIT 20",
        "one source, ms": f"SELECT source FROM sources WHERE individual = {individuals}",
        "one ancestry, ms": f"FROM ancestors({individuals})",
        "one line, ms": f"FROM line_of_descent WHERE individual = {individuals}",
    }
    found = {}
    with open_published(folder) as reader:
        for name, query in queries.items():
            begun = time.perf_counter()
            reader.execute(query).fetchall()
            found[name] = (time.perf_counter() - begun) * 1e3
    return found | pages(folder)


def pages(folder: Path) -> dict[str, float]:
    """Return what the page of a run costs: seconds that pass, and of a processor."""
    with Reading(folder) as lineage:
        begun, worked = time.perf_counter(), time.process_time()
        overview(lineage)
        found = {
            "overview, s": time.perf_counter() - begun,
            "overview, processor s": time.process_time() - worked,
        }
        begun = time.perf_counter()
        size = len(report(lineage))
    return found | {"report, s": time.perf_counter() - begun, "report, MB": size / 1e6}


def sizes(folder: Path) -> dict[str, float]:
    segments = [path.stat().st_size for path in (folder / "segments").iterdir()]
    return {
        "state.duckdb, MB": (folder / "state.duckdb").stat().st_size / 1e6,
        "lineage.duckdb, MB": (folder / "lineage.duckdb").stat().st_size / 1e6,
        "segments, MB": sum(segments) / 1e6,
        "segments": len(segments),
    }


def main() -> None:
    counts = [int(one) for one in sys.argv[1:]] or [300, 5000]
    columns = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(measure(count, Path(folder)))
    print(f"{'individuals':22}" + "".join(f"{count:>12}" for count in counts))
    for name in columns[0]:
        print(f"{name:22}" + "".join(f"{column[name]:12.2f}" for column in columns))


if __name__ == "__main__":
    main()
