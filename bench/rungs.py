"""Does a ladder pay? Whole searches with a rung and without one, after the same device time.

    python -m bench.rungs                       digits; what a fifth of the budget truly tells
    python -m bench.rungs --blur 0.35 --beside 0.1     digits; a rung that tells more
    python -m bench.rungs --worlds --blur 1.5 --beside 0.1     structure by a catalogue of edits

Digits are those of `bench/exhaustive.py`; worlds are those of `bench/catalogue.py`, one a seed. The
unit of time is one evaluation in full. With `--blur` the short score is the true value with an
error of the program's own, of this deviation: of its logarithm on digits, in sigmas of one
evaluation in worlds. How such a rung ranks programs is printed. With `--keep` searches that the
file holds already are not run again.
"""

import argparse
import json
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.catalogue import SCORED_S, SIGMA, Catalogue
from bench.exhaustive import SHORT, exhaustive
from bench.intervals import better_half, paired_difference, rank_correlation, signed_rank
from bench.landscape import Landscape, Truth
from bench.recombination import EVOLVE
from bench.simulation import laddered, shipped, simulate

RUNG = {"plain": None, "ladder": SHORT}
WORLDS = "worlds"
DIGITS = ("exhaustive-constants", "exhaustive-structure")


@dataclass(frozen=True, slots=True)
class Job:
    """One search. `blur` None: real short trainings. `beside`: of the budget, of each training."""

    landscape: str
    method: str
    seed: int
    times: tuple[float, ...]
    blur: float | None
    beside: float

    @property
    def key(self) -> str:
        """Return what tells it from others, as a line of a file."""
        return json.dumps(astuple(self))


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: the leader's true value after each time, in the landscape's unit.

    `told`: rank correlations of the rung with the truth over the programs that it tried, and over
    the better half of them.
    """

    values: tuple[float, ...]
    told: tuple[float, float]


@dataclass
class Blurred:
    """A landscape with a rung; remembers what was asked."""

    plain: Landscape
    job: Job
    asked: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name, self.founders = self.plain.name, self.plain.founders
        self.targets = self.plain.targets

    def truth(self, source: str) -> Truth:
        """Return what this program is, in full and at the rung."""
        truth = self.plain.truth(source)
        rung = self._rung(source, truth)
        if truth.value is not None and rung.value is not None:
            self.asked[source] = truth.value, rung.value
        return replace(truth, rung=rung)

    def _rung(self, source: str, truth: Truth) -> Truth:
        cost_s = truth.cost_s
        if truth.value is not None:
            cost_s *= (SHORT + self.job.beside) / (1 + self.job.beside)
        if self.job.blur is None or truth.value is None:
            return replace(truth.rung or truth, cost_s=cost_s, rung=None)
        rng = np.random.default_rng(zlib.crc32(source.encode()))
        own = float(rng.normal(0.0, self.job.blur))
        if self.job.landscape == WORLDS:
            return Truth(truth.value + SIGMA * own, truth.sigma, cost_s)
        return Truth(truth.value * float(np.exp(own)), truth.sigma, cost_s)


def searched(job: Job) -> tuple[Job, Found]:
    """Run one search."""
    if job.landscape == WORLDS:
        world = Catalogue(job.seed)
        plain, unit_s, method = world, SCORED_S, EVOLVE.method(world)
        zero, scale = world.optimum, SIGMA
    else:
        plain = next(one for one in exhaustive() if one.name == job.landscape)
        unit_s, method, zero, scale = 1.0, shipped("evolve"), 0.0, 1.0
    landscape = Blurred(plain, job)
    most = int(max(job.times)) + 1  # an evaluation takes no less than it counts
    trace = simulate(laddered(method, RUNG[job.method]), landscape, job.seed, most)
    values = [(trace.after(unit_s * time).true - zero) / scale for time in job.times]
    asked = list(landscape.asked.values())
    return job, Found(
        tuple(values), (rank_correlation(asked), rank_correlation(better_half(asked)))
    )


def kept(file: Path | None) -> Iterator[tuple[str, Found]]:
    """Yield what a file holds, by the job's key."""
    lines = file.read_text("utf-8").splitlines() if file and file.exists() else []
    for job, values, own in map(json.loads, lines):
        yield json.dumps(job), Found(tuple(values), tuple(own))


def table(found: dict[tuple[str, int], Found], seeds: range, times: list[float]) -> Table:
    """Return medians of both methods, and the mean difference by pairs; smaller is better."""
    own = [found["plain", seed].told for seed in seeds]
    all_, better = (fmean(one[place] for one in own) for place in (0, 1))
    title = f"rank correlation of the rung {all_:.2f}, of the better half {better:.2f}"
    out = Table("method", *(f"after {time:g}" for time in times), title=title)
    values = {name: np.array([found[name, seed].values for seed in seeds]) for name in RUNG}
    for name, mine in values.items():
        out.add_row(name, *(f"{middle:.4f}" for middle in np.median(mine, axis=0)))
    cells = []
    for ours, theirs in zip(values["ladder"].T, values["plain"].T, strict=True):
        mean, half = paired_difference(list(ours), list(theirs))
        p = signed_rank([a - b for a, b in zip(ours, theirs, strict=True)])
        cells.append(f"{mean:+.4f} +- {half:.4f} (p {p:.4f})")
    out.add_row("ladder - plain", *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", action="store_true", help="instead of digits")
    parser.add_argument("--blur", type=float)
    parser.add_argument("--beside", type=float, default=0.2, help="of a budget, each training")
    parser.add_argument("--times", type=float, nargs="+", default=[30, 50, 100])
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of finished searches, to go on from")
    options = parser.parse_args()
    if options.worlds and options.blur is None:
        parser.error("worlds know no short trainings: give --blur, in sigmas")
    seeds = range(options.first_seed, options.first_seed + options.replicates)
    names = (WORLDS,) if options.worlds else DIGITS
    jobs = [
        Job(name, method, seed, tuple(options.times), options.blur, options.beside)
        for seed in seeds
        for name in names
        for method in RUNG
    ]
    results = dict(kept(options.keep))
    missing = [job for job in jobs if job.key not in results]
    console = Console(width=140)
    with get_context("spawn").Pool(options.processes) as pool:
        ended = pool.imap_unordered(searched, missing)
        for job, found in track(ended, "searching", len(missing), console=console):
            results[job.key] = found
            if options.keep:
                with options.keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([astuple(job), found.values, found.told]) + "\n")
    for name in names:
        own = [job for job in jobs if job.landscape == name]
        console.print(name)
        found = {(job.method, job.seed): results[job.key] for job in own}
        console.print(table(found, seeds, options.times))


if __name__ == "__main__":
    main()
