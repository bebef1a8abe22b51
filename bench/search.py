"""Does the search beat its controls? Whole searches on landscapes that cost no device.

    python -m bench.search --trials TABLE.csv.gz --keep results.jsonl

TABLE holds the public trials of autoresearch's train.py (`bench/trials.py`). Every method starts
from the same founders, with the same checks, failures and noise, through the project's own search.
Finished searches are kept in a file: the same command goes on where it was.

Defaults of the search were chosen on the boosted family with seeds from 1000 on; claims are made on
the others, with the seeds below. Nothing is claimed for the first.
"""

import argparse
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.exhaustive import exhaustive
from bench.intervals import holm, signed_rank
from bench.landscape import Landscape
from bench.simulation import Trace, shipped, simulate
from bench.surrogates import FAMILIES, surrogates
from evolve.config import SEARCHES

EVALUATIONS = (50, 100, 300)
TIME = 0.5
ALPHA = 0.05
LEARNING = 20
"""Evaluations that may fail for want of experience."""


@dataclass(frozen=True, slots=True)
class Searched:
    """One search at the points that are reported. Lists follow the order of `evaluations`.

    Attributes:
        at: evaluations behind each entry of true, claimed and failures.
        after: the leader's true value when `TIME` of the device time was used up that so many
            evaluations of the first founder take: who fails early tries more in it.
        reached: evaluations to each target of the landscape, None: never.
        wasted: share of the device time since the first `LEARNING` evaluations that failed ones
            have used; not known of searches that were kept before it was asked.
    """

    landscape: str
    method: str
    seed: int
    slots: int
    at: tuple[int, ...]
    true: tuple[float, ...]
    claimed: tuple[float, ...]
    failures: tuple[int, ...]
    after: tuple[float, ...]
    reached: tuple[int | None, ...]
    wasted: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Return what tells one search from another."""
        return self.landscape, self.method, self.seed, self.slots

    def line(self) -> str:
        """Return it as a line of the file that keeps what is finished."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Job:
    """One search that is to be made."""

    landscape: str
    method: str
    seed: int
    slots: int
    at: tuple[int, ...]
    trials: Path | None
    cache: Path


def search(job: Job) -> Searched:
    """Run one search."""
    landscape = landscapes(job.trials, job.cache)[job.landscape]
    usual_s = landscape.truth(landscape.founders[0]).cost_s
    trace = simulate(shipped(job.method), landscape, job.seed, max(job.at), job.slots)
    return report(trace, job, landscape.targets, usual_s)


def report(trace: Trace, job: Job, targets: Sequence[float], usual_s: float) -> Searched:
    """Return what is kept of a trace; `usual_s` is what an evaluation of the founder takes."""
    rows, first = [trace.at(count) for count in job.at], trace.at(LEARNING)
    spent = [(row.wasted_s - first.wasted_s, row.device_s - first.device_s) for row in rows]
    return Searched(
        job.landscape,
        job.method,
        job.seed,
        job.slots,
        job.at,
        tuple(row.true for row in rows),
        tuple(row.claimed for row in rows),
        tuple(row.failures for row in rows),
        tuple(trace.after(TIME * count * usual_s).true for count in job.at),
        tuple(trace.reached(target) for target in targets),
        tuple(wasted / device_s if device_s > 0 else 0.0 for wasted, device_s in spent),
    )


@cache
def landscapes(trials: Path | None, folder: Path) -> dict[str, Landscape]:
    """Return all landscapes by name."""
    found = exhaustive() + ([] if trials is None else surrogates(trials, FAMILIES, folder))
    return {one.name: one for one in found}


def searched(jobs: Sequence[Job], keep: Path | None, processes: int) -> Iterator[Searched]:
    """Yield every search, those that were kept first; keep each one that ends."""
    kept = list(_kept(keep))
    wanted = {(job.landscape, job.method, job.seed, job.slots): job for job in jobs}
    for one in kept:
        job = wanted.get(one.key)
        if job is not None and one.at == job.at:
            del wanted[one.key]
            yield one
    with get_context("spawn").Pool(processes) as pool:
        for one in pool.imap_unordered(search, wanted.values()):
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(one.line() + "\n")
            yield one


def _kept(keep: Path | None) -> Iterator[Searched]:
    if keep is None or not keep.exists():
        return
    for line in keep.read_text("utf-8").splitlines():
        fields = json.loads(line)
        yield Searched(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def tables(found: Iterable[Searched], subject: str, console: Console) -> None:
    """Print what each method reaches on each landscape, and how the subject compares."""
    groups: dict[tuple[str, int], dict[str, list[Searched]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for one in sorted(found, key=lambda one: one.key):
        groups[one.landscape, one.slots][one.method].append(one)
    for (landscape, slots), methods in groups.items():
        console.print(_values(f"{landscape}, {slots} at once", methods))
        if subject in methods:
            console.print(_compared(subject, methods, "true", "at {:.0f}"))
            console.print(
                _compared(subject, methods, "after", f"in {TIME} of the time of {{:.0f}}")
            )


def _values(title: str, methods: dict[str, list[Searched]]) -> Table:
    at = next(iter(methods.values()))[0].at
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for count in at:
        table.add_column(f"true at {count}: median (quartiles)", no_wrap=True)
    for name in (
        f"after the time of {TIME * at[-1]:.0f}",
        f"claimed - true at {at[-1]}",
        "failures",
        f"device time lost after {LEARNING}",
        "evaluations to targets",
        "n",
    ):
        table.add_column(name, justify="right")
    for name, own in methods.items():
        true = np.array([one.true for one in own])
        claimed = np.array([one.claimed for one in own])
        low, middle, high = np.quantile(true, (0.25, 0.5, 0.75), axis=0)
        table.add_row(
            name,
            *(f"{m:.4f} ({a:.4f} {b:.4f})" for a, m, b in zip(low, middle, high, strict=True)),
            f"{np.median([one.after[-1] for one in own]):.4f}",
            f"{(claimed - true)[:, -1].mean():+.5f}",
            f"{np.mean([one.failures[-1] for one in own]):.0f}",
            _mean_share([one.wasted[-1] for one in own if one.wasted]),
            " ".join(_reached(own)),
            str(len(own)),
        )
    return table


def _mean_share(shares: Sequence[float]) -> str:
    return f"{np.mean(shares):.2%}" if shares else ""


def _reached(own: Sequence[Searched]) -> Iterator[str]:
    """Yield for each target the median of the evaluations that it took, `-` where most never do."""
    for column in zip(*(one.reached for one in own), strict=True):
        middle = float(np.median([math.inf if n is None else n for n in column]))
        yield f"{middle:.0f}" if math.isfinite(middle) else "-"


def _compared(subject: str, methods: dict[str, list[Searched]], field: str, heading: str) -> Table:
    """Return the subject's paired differences to each other method, p by Holm within the table.

    Args:
        subject: the method that is compared.
        methods: what each found.
        field: of `Searched`, with a value for each number of evaluations.
        heading: of a column, with the place of that number.
    """
    at = methods[subject][0].at
    others = [name for name in methods if name != subject]
    own = {one.seed: one for one in methods[subject]}
    middles: dict[tuple[str, int], float] = {}
    alone: dict[tuple[str, int], float] = {}
    for name, place in product(others, range(len(at))):
        both = [(own[one.seed], one) for one in methods[name] if one.seed in own]
        differences = [getattr(a, field)[place] - getattr(b, field)[place] for a, b in both]
        middles[name, place] = float(np.median(differences))
        alone[name, place] = signed_rank(differences)
    corrected = dict(zip(alone, holm(list(alone.values())), strict=True))
    table = Table(title=f"{subject} minus each, paired by seed (p by Holm)", title_justify="left")
    for header in ("method", *(heading.format(count) for count in at)):
        table.add_column(header)
    for name in others:
        row = []
        for place in range(len(at)):
            difference, p = middles[name, place], corrected[name, place]
            verdict = "better" if difference < 0 else "worse"
            row.append(f"{difference:+.4f} p {p:.4f} {verdict if p < ALPHA else 'undecided'}")
        table.add_row(name, *row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=Path, help="public table of trials, CSV by gzip")
    parser.add_argument("--landscapes", nargs="+", help="names, or parts of them (default: all)")
    parser.add_argument("--methods", nargs="+", default=list(SEARCHES))
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, nargs="+", default=list(EVALUATIONS))
    parser.add_argument("--slots", type=int, nargs="+", default=[1])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file of finished searches, to go on from")
    parser.add_argument("--cache", type=Path, default=Path(".cache/surrogates"))
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # inherited: one core a process
    names = list(landscapes(options.trials, options.cache))
    if options.landscapes:
        names = [name for name in names if any(part in name for part in options.landscapes)]
    if not names:
        parser.error("no landscape of that name; --trials brings the surrogates")
    seeds = range(options.first_seed, options.first_seed + options.replicates)
    at = tuple(sorted(options.evaluations))
    jobs = [
        Job(landscape, method, seed, slots, at, options.trials, options.cache)
        for seed, landscape, slots, method in product(seeds, names, options.slots, options.methods)
    ]
    console = Console(width=170)
    found = track(
        searched(jobs, options.keep, options.processes), "searching", len(jobs), console=console
    )
    tables(list(found), options.methods[0], console)


if __name__ == "__main__":
    main()
