"""Does a ladder pay? Whole searches with a rung and without one, after the same device time.

    python -m bench.rungs                              what a fifth of the budget truly tells
    python -m bench.rungs --blur 0.35 --beside 0.1     a rung that tells more, trainings that last

The landscapes are those of `bench/exhaustive.py`, one evaluation in full is the unit of time. Where
the short score is not that of a real short training it is the true loss times a factor of the
program's own, log-normal with the deviation BLUR; the rank correlation is printed. With `--keep`
searches that the file holds already are not run again.
"""

import argparse
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from bench.exhaustive import SHORT, Exhaustive, Key, exhaustive
from bench.intervals import paired_difference, signed_rank
from bench.landscape import Truth
from bench.simulation import shipped, simulate

METHODS = ("evolve", f"evolve@{SHORT}")


@dataclass(frozen=True, slots=True)
class Job:
    """One search. `blur` None: real short trainings. `beside`: of the budget, of each training."""

    landscape: str
    method: str
    seed: int
    times: tuple[float, ...]
    blur: float | None
    beside: float


@cache
def landscapes(blur: float | None, beside: float) -> dict[str, Exhaustive]:
    """Return the landscapes by name, with the rung that is asked for."""
    found = {}
    for one in exhaustive():
        known = {key: with_rung(key, truth, blur, beside) for key, truth in one.known.items()}
        found[one.name] = replace(one, known=known)
    return found


def with_rung(key: Key, truth: Truth, blur: float | None, beside: float) -> Truth:
    """Return the truth with what a short training of it gives and costs."""
    cost_s = (SHORT + beside) / (1 + beside)
    if blur is None or truth.value is None:
        rung = truth.rung or truth
        return replace(truth, rung=replace(rung, cost_s=cost_s, rung=None))
    own = np.random.default_rng(zlib.crc32(repr(key).encode())).normal(0.0, blur)
    value = truth.value * float(np.exp(own))
    return replace(truth, rung=Truth(value, truth.sigma, cost_s))


def searched(job: Job) -> tuple[Job, tuple[float, ...]]:
    """Return the leader's true value after each time."""
    landscape = landscapes(job.blur, job.beside)[job.landscape]
    most = int(max(job.times)) + 1  # an evaluation takes no less than it counts
    trace = simulate(shipped(job.method), landscape, job.seed, most)
    return job, tuple(trace.after(time).true for time in job.times)


def kept(file: Path | None) -> dict[str, tuple[float, ...]]:
    """Return what a file holds, by the search as it is written there."""
    lines = file.read_text("utf-8").splitlines() if file and file.exists() else []
    return {json.dumps(job): tuple(values) for job, values in map(json.loads, lines)}


def told(known: Mapping[Key, Truth]) -> Iterator[str]:
    """Yield how the short scores rank the programs, by their rank correlation with the truth."""
    both = sorted(
        (truth.value, truth.rung.value)
        for truth in known.values()
        if truth.value is not None and truth.rung is not None and truth.rung.value is not None
    )
    for part, name in ((1.0, "all"), (0.5, "the better half"), (0.1, "the best tenth")):
        whole, short = zip(*both[: int(part * len(both))], strict=True)
        yield f"{spearmanr(whole, short).statistic:.2f} of {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blur", type=float)
    parser.add_argument(
        "--beside", type=float, default=0.2, help="start-up and scoring, of a budget"
    )
    parser.add_argument("--times", type=float, nargs="+", default=[30, 50, 100])
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of finished searches, to go on from")
    options = parser.parse_args()
    found: dict[tuple[str, str, int], tuple[float, ...]] = {}
    names = list(landscapes(options.blur, options.beside))
    seeds = range(options.first_seed, options.first_seed + options.replicates)
    times = tuple(options.times)
    jobs = [
        Job(name, method, seed, times, options.blur, options.beside)
        for seed in seeds
        for name in names
        for method in METHODS
    ]
    console = Console(width=160)
    known = kept(options.keep)
    for job in jobs:
        if (line := json.dumps(astuple(job))) in known:
            found[job.landscape, job.method, job.seed] = known[line]
    missing = [job for job in jobs if (job.landscape, job.method, job.seed) not in found]
    with get_context("spawn").Pool(options.processes) as pool:
        ended = pool.imap_unordered(searched, missing)
        for job, values in track(ended, "searching", len(missing), console=console):
            found[job.landscape, job.method, job.seed] = values
            if options.keep:
                with options.keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([astuple(job), values]) + "\n")
    for name in names:
        programs = landscapes(options.blur, options.beside)[name].known
        title = f"{name}; rank correlation of the rung: {', '.join(told(programs))}"
        table = Table("method", *(f"after {time:g}" for time in times), title=title)
        values = {
            method: np.array([found[name, method, seed] for seed in seeds]) for method in METHODS
        }
        for method, own in values.items():
            table.add_row(method, *(f"{middle:.4f}" for middle in np.median(own, axis=0)))
        cells = []
        for ours, theirs in zip(values[METHODS[1]].T, values[METHODS[0]].T, strict=True):
            mean, half = paired_difference(list(ours), list(theirs))
            p = signed_rank([a - b for a, b in zip(ours, theirs, strict=True)])
            cells.append(f"{mean:+.4f} +- {half:.4f} (p {p:.3f})")
        table.add_row("with the rung - without", *cells)
        console.print(table)


if __name__ == "__main__":
    main()
