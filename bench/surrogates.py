"""Landscapes fitted to a public table of real training runs: a whole search in seconds, no GPU.

    python -m bench.surrogates TABLE [--cache FOLDER]

TABLE holds trials of autoresearch's train.py (`bench/trials.py` names the columns); the command
prints how well each family of regression predicts rows that it has not seen, and how deep an
optimiser gets on it.

A surface is fitted to log(val_bpb - floor), the floor lying FLOOR below the best trial: noise grows
with distance from the optimum, and half of all trials are far from it. Where memory runs out is no
matter of statistics: a linear function of what a model must hold tells the failed trials apart.

Deep optima of a regression are extrapolation. `Support` therefore believes a good prediction only
near trials that were good, and takes its promise back with the distance to them.
"""

import argparse
import hashlib
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import regressions, trials
from bench.landscape import Landscape, Truth
from bench.regressions import Predictor
from bench.trials import Trials
from mutate.genome import values

FAMILIES = tuple(regressions.FAMILIES)
TARGETS = (0.985, 0.98, 0.977)

FLOOR = 0.01
GOOD = 0.2
"""Share of the scored trials that count as good; the worst of them is the ceiling."""
NEIGHBOURS = 5
COVERED = 0.9
"""Share of the good trials that lie within the support of the others."""

QUIET, LOUD = (0.99, 0.0005), (1.1, 0.008)
"""val_bpb and standard deviation of one evaluation, measured; log-linear between them."""


@dataclass(frozen=True, slots=True)
class Surface:
    """val_bpb as a function of the constants, no worse than the worst trial."""

    predict: Predictor
    floor: float
    worst: float

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Return val_bpb (N,) at constants (N, 14)."""
        deep = np.log(self.worst - self.floor)
        promised = np.minimum(self.predict(trials.features(numbers)), deep)
        return self.floor + np.exp(promised)


@dataclass(frozen=True, slots=True)
class Support:
    """Where good predictions are believed.

    d is the mean distance in the unit cube to the NEIGHBOURS nearest good trials, r the quantile
    COVERED of d among those trials themselves. Up to r a prediction stands. Beyond it a value v
    below the ceiling c becomes v + min(1, (d - r) / r) (c - v): nothing is left of its promise at
    twice the radius. Predictions above the ceiling are never changed.
    """

    places: np.ndarray
    ceiling: float
    radius: float

    def tempered(self, numbers: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Return what is believed of predictions (N,) at constants (N, 14)."""
        excess = distance(trials.cube(numbers), self.places) - self.radius
        lost = np.clip(excess / self.radius, 0.0, 1.0)
        return value + lost * np.maximum(self.ceiling - value, 0.0)


@dataclass(frozen=True, slots=True)
class Machine:
    """What one trial takes: memory and seconds, linear in what the constants imply.

    Attributes:
        memory: coefficients of `holdings`.
        limit_gb: more than that fails.
        seconds: coefficients of `work`.
        failed_s: median of what a trial takes that runs out of memory.
        refused_s: what it takes to refuse a batch that the device's batch does not divide.
    """

    memory: np.ndarray
    limit_gb: float
    seconds: np.ndarray
    failed_s: float
    refused_s: float

    def failure(self, numbers: np.ndarray) -> tuple[str, float]:
        """Return reason and cost of one row's failure; the reason is empty where it trains."""
        if indivisible(numbers)[0]:
            return "crash", self.refused_s
        if self.overflows(numbers)[0]:
            return "out_of_memory", self.failed_s
        return "", 0.0

    def overflows(self, numbers: np.ndarray) -> np.ndarray:
        """Tell which constants (N, 14) need more memory than there is (N,)."""
        return self.memory_gb(numbers) > self.limit_gb

    def memory_gb(self, numbers: np.ndarray) -> np.ndarray:
        """Return peak memory (N,) at constants (N, 14)."""
        return holdings(numbers) @ self.memory


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A landscape that a table of trials stands behind."""

    name: str
    founders: tuple[str, ...]
    targets: tuple[float, ...]
    surface: Surface
    support: Support
    machine: Machine

    def truth(self, source: str) -> Truth:
        """Return what a program's constants promise; without all of them it crashes."""
        try:
            numbers = np.array([trials.numbers_of(values(source))])
        except (KeyError, ValueError):
            return Truth(None, cost_s=self.machine.refused_s, reason="crash")
        reason, cost_s = self.machine.failure(numbers)
        if reason:
            return Truth(None, cost_s=cost_s, reason=reason)
        value = float(self.believed(numbers)[0])
        cost_s = float((work(numbers) @ self.machine.seconds)[0])
        return Truth(value, sigma(value), cost_s)

    def believed(self, numbers: np.ndarray) -> np.ndarray:
        """Return val_bpb (N,) at constants (N, 14) that train."""
        return self.support.tempered(numbers, self.surface(numbers))


def surrogates(
    table: Path, families: Sequence[str] = FAMILIES, cache: Path | None = None
) -> list[Landscape]:
    """Return a landscape per family.

    Args:
        table: the trials, CSV compressed by gzip.
        families: names among FAMILIES.
        cache: folder that keeps fitted landscapes for later calls and for other processes; a
            changed table or a change of this code fits anew.

    Raises:
        ValueError: no such family, or no such table.
    """
    if unknown := set(families) - set(FAMILIES):
        raise ValueError(f"no family {sorted(unknown)}: choose among {', '.join(FAMILIES)}")
    return [_kept(table, family, cache) for family in families]


def fit(data: Trials, family: str) -> Surrogate:
    """Return the landscape of these trials."""
    numbers, value = data.numbers[data.scored], data.value[data.scored]
    first = trials.program(data.numbers[0])
    return Surrogate(
        f"surrogate-{family}",
        (first,),
        TARGETS,
        surface(numbers, value, family),
        support(numbers, value),
        machine(data),
    )


def surface(numbers: np.ndarray, value: np.ndarray, family: str) -> Surface:
    """Fit one family to scored trials: constants (N, 14) and val_bpb (N,)."""
    floor = float(value.min()) - FLOOR
    predict = regressions.FAMILIES[family](trials.features(numbers), np.log(value - floor))
    return Surface(predict, floor, float(value.max()))


def support(numbers: np.ndarray, value: np.ndarray) -> Support:
    """Measure where good trials lie."""
    ceiling = float(np.quantile(value, GOOD))
    places = trials.cube(numbers[value <= ceiling])
    radius = float(np.quantile(distance(places, places, own=True), COVERED))
    return Support(places, ceiling, radius)


def distance(x: np.ndarray, places: np.ndarray, *, own: bool = False) -> np.ndarray:
    """Return the mean distance (N,) to the nearest places; `own`: x are those places."""
    squares = (x**2).sum(axis=1)[:, None] + (places**2).sum(axis=1) - 2 * x @ places.T
    if own:
        np.fill_diagonal(squares, np.inf)
    count = min(NEIGHBOURS, len(places) - own)
    nearest = np.partition(squares, count - 1, axis=1)[:, :count]
    return np.sqrt(np.maximum(nearest, 0.0)).mean(axis=1)


def machine(data: Trials) -> Machine:
    """Fit memory and seconds of one trial, the limit where it tells most trials apart."""
    scored, held = data.scored, holdings(data.numbers)
    memory = least_squares(held[scored], data.memory_gb[scored])
    seconds = least_squares(work(data.numbers[scored]), data.cost_s[scored])
    failed_s = data.cost_s[~scored]
    if not len(failed_s):
        return Machine(memory, np.inf, seconds, 0.0, 0.0)
    order = np.argsort(held @ memory)
    # Wrong at each limit: the failed below it and the scored above it.
    wrong = np.cumsum(~scored[order]) + scored.sum() - np.cumsum(scored[order])
    limit_gb = float((held @ memory)[order][np.argmin(wrong)])
    return Machine(memory, limit_gb, seconds, float(np.median(failed_s)), float(failed_s.min()))


def indivisible(numbers: np.ndarray) -> np.ndarray:
    """Tell which constants (N, 14) train.py refuses: it accumulates whole batches of the device."""
    return numbers[:, 4] % (numbers[:, 3] * trials.SEQUENCE) != 0


def holdings(numbers: np.ndarray) -> np.ndarray:
    """Return what memory goes to (N, 5): parameters, activations, logits, a layer, the rest."""
    of = trials.shape(numbers)
    wide = of.tokens * of.width
    parts = [of.parameters, wide * of.depth, of.tokens, wide, np.full(len(wide), 1e9)]
    return np.column_stack(parts) / 1e9


def work(numbers: np.ndarray) -> np.ndarray:
    """Return what seconds go to (N, 3): the budget, compilation by depth, evaluation by size."""
    of = trials.shape(numbers)
    return np.column_stack([np.ones(len(numbers)), of.depth, of.flops / 1e9])


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scale = np.abs(x).max(axis=0)
    return np.linalg.lstsq(x / scale, y, rcond=None)[0] / scale


def sigma(value: float) -> float:
    """Return the standard deviation of one evaluation of a program with this val_bpb."""
    low, high = np.log(QUIET[1]), np.log(LOUD[1])
    return float(np.exp(np.interp(value, [QUIET[0], LOUD[0]], [low, high])))


def _kept(table: Path, family: str, cache: Path | None) -> Landscape:
    if cache is None:
        return fit(trials.read(table), family)
    code = [Path(str(module.__file__)) for module in (trials, regressions)] + [Path(__file__)]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in (table, *code))).hexdigest()
    kept = cache / f"{family}-{digest[:16]}.pickle"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        being_written = kept.with_suffix(f".{os.getpid()}")
        being_written.write_bytes(pickle.dumps(fit(trials.read(table), family)))
        being_written.replace(kept)
    found: Surrogate = pickle.loads(kept.read_bytes())
    return found


def main() -> None:
    from bench.surrogate_skill import report

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of fitted landscapes")
    options = parser.parse_args()
    report(options.table, options.cache)


if __name__ == "__main__":
    main()
