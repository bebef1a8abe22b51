"""Do shorter trainings rank programs as the full budget does, and what would a ladder save?

    python -m bench.ladder runs/A runs/B --programs 24 --shares 0.2 0.5 --keep rows.jsonl

Programs of finished runs, spread evenly over their ranks, are trained anew: each at shares of the
budget, as full schedules (a curve that is cut off tells little: most of a score comes in the
cool-down), and twice in full. All by `evolve try`, two at once, in an order that mixes them. The
second full training says what a perfect short one could agree with: noise bounds every correlation.

A ladder trains everybody for the share and only the better part in full. It saves device time and
costs the difference between the best of all and the best of those that it lets through; a champion
is what a search is for, so that regret is held against sigma.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.intervals import better_half, rank_correlation
from evolve.reading import Reading
from evolve.taskfile import find_task, load_task
from population.task import BudgetKind

LET_THROUGH = (0.5, 0.25)
PROGRAMS = """
    SELECT any_value(s.source) AS source, avg(e.value) AS value
    FROM evaluations e JOIN sources s USING (individual)
    WHERE e.value IS NOT NULL AND e.purpose IN ('screen', 'race')
    GROUP BY individual ORDER BY value
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One training: digest of the program, share of the budget; value None: it earned no score."""

    program: str
    share: float
    seed: int
    value: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--programs", type=int, default=24)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.2, 0.5])
    parser.add_argument("--seed", type=int, default=9_000)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="rows as JSON, to go on from")
    options = parser.parse_args()
    budget = load_task(find_task()).budget
    if budget.kind is not BudgetKind.SECONDS:
        parser.error("expected a task with a budget in seconds")
    budget_s = budget.amount
    sources = spread(programs(options.runs), options.programs)
    known = kept(options.keep)
    full = ((1.0, options.seed), (1.0, options.seed + 1))
    jobs = list(product(sources, [*((s, options.seed) for s in options.shares), *full]))
    random.Random(options.seed).shuffle(jobs)

    def train(job: tuple[str, tuple[float, int]]) -> Row:
        source, (share, seed) = job
        name = hashlib.sha256(source.encode()).hexdigest()[:12]
        for row in known:
            if (row.program, row.share, row.seed) == (name, share, seed):
                return row
        row = Row(name, share, seed, score(source, share * budget_s, seed))
        if options.keep:
            with options.keep.open("a") as file:
                file.write(json.dumps(asdict(row)) + "\n")
        return row

    with ThreadPoolExecutor(2) as both:
        rows = list(both.map(train, jobs))
    Console(width=120).print(table(rows, options.shares, options.seed))


def programs(runs: Sequence[Path]) -> list[tuple[float, str]]:
    """Return (mean score, source) of all scored programs, each text once, best first."""
    found: dict[str, float] = {}
    for run in runs:
        with Reading(run) as reading:
            for row in reading.query(PROGRAMS).objects():
                found.setdefault(row["source"], row["value"])
    return sorted((value, source) for source, value in found.items())


def spread(ranked: Sequence[tuple[float, str]], count: int) -> list[str]:
    """Return the sources of `count` programs, evenly spread over the ranks, both ends included."""
    count = min(count, len(ranked))
    places = [round(n * (len(ranked) - 1) / max(count - 1, 1)) for n in range(count)]
    return [ranked[place][1] for place in places]


def kept(file: Path | None) -> list[Row]:
    """Return the rows of an earlier call."""
    if file is None or not file.exists():
        return []
    return [Row(**json.loads(text)) for text in file.read_text().splitlines()]


def score(source: str, seconds: float, seed: int) -> float | None:
    """Return the score of one training of so many seconds, None where it earned none."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.py"
        file.write_text(source, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "evolve.cli",
            "try",
            str(file),
            "--json",
            "--device",
            "cpu",
        ]
        command += ["--budget", f"{seconds:g}s", "--seed", str(seed)]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    value = json.loads(said)["value"] if said else None
    return None if value is None else float(value)


def table(rows: Sequence[Row], shares: Sequence[float], seed: int) -> Table:
    """Return for each share, and for a second full training, how it agrees with the full one."""
    values = {(row.program, row.share, row.seed): row.value for row in rows}
    numbers = sorted({row.program for row in rows})
    out = Table(title="what a share of the budget tells of the whole")
    for header in ("share", "programs", "rank correlation", "of the better half"):
        out.add_column(header)
    for part in LET_THROUGH:
        out.add_column(f"let {part:g} through: time saved, regret")
    for share, own in (*((share, seed) for share in shares), (1.0, seed + 1)):
        both = [(values[n, share, own], values[n, 1.0, seed]) for n in numbers]
        pairs = [(whole, short) for short, whole in both if short is not None and whole is not None]
        cells = [
            f"{1 - share - part:.0%}, {regret(pairs, part):.4f}" if share < 1 and pairs else ""
            for part in LET_THROUGH
        ]
        name = f"{share:g}" if share < 1 else "again in full"
        told = (f"{rank_correlation(part):.2f}" for part in (pairs, better_half(pairs)))
        out.add_row(name, str(len(pairs)), *told, *cells)
    return out


def regret(pairs: Sequence[tuple[float, float]], part: float) -> float:
    """Return by how much the best of those let through is worse than the best of all, in full.

    Args:
        pairs: scores in full, and of the short training; smaller is better.
        part: of them, that is let through.
    """
    through = sorted(pairs, key=lambda pair: pair[1])[: max(1, round(part * len(pairs)))]
    return min(whole for whole, _ in through) - min(whole for whole, _ in pairs)


if __name__ == "__main__":
    main()
