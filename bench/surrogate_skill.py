"""How far the surrogates can be believed: skill on rows not seen, and the deepest that one finds.

    python -m bench.surrogate_skill TABLE [--cache FOLDER]

TABLE is that of `bench/surrogates.py`. Printed is how well each family of regression predicts rows
that it has not seen, and how deep an optimiser gets on it.

Random folds leave neighbours of each row in the fit: every search has tried many programs around
each of its good ones. Whole searches held out are the honest figure for new ground.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import indivisible, machine
from bench.surrogates import FAMILIES, TARGETS, Surrogate, surface, surrogates
from bench.trials import DECLARED, NAMES, PATTERNS, Trials, program, read
from mutate.ranges import Choices, Interval

FOLDS = 5
CHAINS = 24
STEPS = 3000

Folds = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Skill:
    """Agreement with rows not seen: all, and those below the easiest target.

    Attributes:
        r2: share of variance that is explained.
        rank: Spearman's correlation.
    """

    family: str
    held_out: str
    r2: float
    rank: float
    r2_good: float
    rank_good: float


@dataclass(frozen=True, slots=True)
class Deepest:
    """The lowest value that an optimiser found, and what each family thinks of that place."""

    family: str
    value: float
    opinions: dict[str, float]
    predict_ms: float
    source: str


def skill(table: Path, families: tuple[str, ...] = FAMILIES) -> Iterator[Skill]:
    """Yield each family's skill with random rows held out, then with whole searches."""
    data = read(table)
    numbers, value = data.numbers[data.scored], data.value[data.scored]
    for held_out, folds in (
        ("rows", by_row(len(value))),
        ("searches", by_run(data.run[data.scored])),
    ):
        for family in families:
            predicted = np.empty(len(value))
            for kept, left in folds:
                predicted[left] = surface(numbers[kept], value[kept], family)(numbers[left])
            good = value < TARGETS[0]
            yield Skill(
                family, held_out, *agreement(value, predicted),
                *agreement(value[good], predicted[good]),
            )  # fmt: skip


def by_row(count: int) -> Folds:
    """Return FOLDS divisions of rows into (kept, left out), at random."""
    fold = np.random.default_rng(0).permutation(count) % FOLDS
    return [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in range(FOLDS)]


def by_run(run: np.ndarray) -> Folds:
    """Return the divisions that leave out one search each."""
    return [(np.flatnonzero(run != one), np.flatnonzero(run == one)) for one in np.unique(run)]


def agreement(value: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    from scipy.stats import spearmanr

    left = float(((value - predicted) ** 2).sum() / ((value - value.mean()) ** 2).sum())
    return 1 - left, float(spearmanr(value, predicted)[0])


def memory_skill(data: Trials) -> tuple[float, float]:
    """Return the area under the curve and the share told right, random rows held out."""
    from scipy.stats import rankdata

    predicted, told = np.empty(len(data.value)), np.empty(len(data.value), bool)
    for kept, left in by_row(len(data.value)):
        fitted = machine(Trials(*(getattr(data, name)[kept] for name in Trials.__slots__)))
        predicted[left] = fitted.memory_gb(data.numbers[left])
        told[left] = fitted.overflows(data.numbers[left])
    failed = ~data.scored
    ranks, pairs = rankdata(predicted), failed.sum() * data.scored.sum()
    area = (ranks[failed].sum() - failed.sum() * (failed.sum() + 1) / 2) / pairs
    return float(area), float((told == failed).mean())


def deepest(landscape: Surrogate, data: Trials, steps: int = STEPS) -> tuple[float, np.ndarray]:
    """Return the lowest value that CHAINS climbers reach from the best trials, and its constants.

    Every climber changes some constants a little, `steps` times, and keeps what is better.
    """
    rng = np.random.default_rng(0)
    good = np.argsort(np.where(data.scored, data.value, np.inf), kind="stable")[:CHAINS]
    here = data.numbers[good].copy()
    value = level(landscape, here)
    for _ in range(steps):
        there = moved(here, rng)
        found = level(landscape, there)
        better = found < value
        here[better], value[better] = there[better], found[better]
    best = int(np.argmin(value))
    return float(value[best]), here[best]


def level(landscape: Surrogate, numbers: np.ndarray) -> np.ndarray:
    """Return what is believed of each row (N,), infinity where it fails."""
    fails = indivisible(numbers) | landscape.machine.overflows(numbers)
    return np.where(fails, np.inf, landscape.believed(numbers))


def moved(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rows with about a tenth to a third of the constants changed."""
    numbers = numbers.copy()
    changed = rng.random(numbers.shape) < rng.choice([0.08, 0.15, 0.3])
    width = np.exp(rng.uniform(np.log(0.005), np.log(0.2), len(numbers)))
    for place, (name, declared) in enumerate(DECLARED.items()):
        rows = np.flatnonzero(changed[:, place])
        if isinstance(declared, Choices):
            of_pattern = name == NAMES[-1]
            among = np.arange(len(PATTERNS)) if of_pattern else np.array(declared.values, float)
            numbers[rows, place] = rng.choice(among, len(rows))
        else:
            drawn = rng.normal(0.0, width[rows])
            numbers[rows, place] = shifted(declared, numbers[rows, place], drawn)
    return numbers


def shifted(declared: Interval, number: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return numbers moved by these shares of their range."""
    into: Callable[..., np.ndarray] = np.log if declared.log else np.asarray
    low, high = into(declared.low), into(declared.high)
    place = np.clip(into(number) + share * (high - low), low, high)
    found = np.exp(place) if declared.log else place
    return np.round(found) if declared.integer else found


def optima(table: Path, cache: Path | None) -> Iterator[Deepest]:
    """Yield how deep each landscape goes."""
    data, found = read(table), surrogates(table, cache=cache)
    for family, landscape in zip(FAMILIES, found, strict=True):
        value, numbers = deepest(landscape, data)
        opinions = {
            other: round(float(one.surface(numbers[None])[0]), 4)
            for other, one in zip(FAMILIES, found, strict=True)
        }
        yield Deepest(family, value, opinions, clocked(landscape, data), program(numbers))


def clocked(landscape: Surrogate, data: Trials) -> float:
    """Return milliseconds that `truth` takes for one program that was never seen."""
    texts = [program(numbers) for numbers in data.numbers[data.scored][:101]]
    landscape.truth(texts.pop())
    began = time.perf_counter()
    for text in texts:
        landscape.truth(text)
    return (time.perf_counter() - began) / len(texts) * 1e3


def report(table: Path, cache: Path | None) -> None:
    """Print how deep each landscape goes, and the skill of each family as it becomes known."""
    console, data = Console(), read(table)
    best = float(np.nanmin(data.value))
    depths = Table("family", "deepest", "ms a truth", "opinions", title=f"best trial {best:.4f}")
    for one in optima(table, cache):
        opinions = ", ".join(f"{name} {value:.4f}" for name, value in one.opinions.items())
        depths.add_row(one.family, f"{one.value:.4f}", f"{one.predict_ms:.2f}", opinions)
    console.print(depths)
    area, told = memory_skill(data)
    console.print(f"out of memory: area under the curve {area:.4f}, {told:.1%} told right")
    skills = Table("held out", "family", "R2", "rank", f"R2 < {TARGETS[0]}", f"rank < {TARGETS[0]}")
    for row in skill(table):
        figures = (row.r2, row.rank, row.r2_good, row.rank_good)
        skills.add_row(row.held_out, row.family, *(f"{one:.3f}" for one in figures))
    console.print(skills)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of fitted landscapes")
    options = parser.parse_args()
    report(options.table, options.cache)


if __name__ == "__main__":
    main()
