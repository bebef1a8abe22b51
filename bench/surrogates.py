"""Landscapes fitted to a public table of real training runs: a whole search in seconds, no GPU.

The table holds trials of autoresearch's train.py (`bench/trials.py` names the columns);
`bench/surrogate_skill.py` says how far each family of regression can be believed.

A surface is fitted to log(val_bpb - floor), the floor lying FLOOR below the best trial: noise grows
with distance from the optimum, and half of all trials are far from it. `bench/machine.py` says what
fails and what a trial costs.

Deep optima of a regression are extrapolation. `Support` therefore believes a good prediction only
near trials that were good, and takes its promise back with the distance to them. That is caution,
not knowledge: with one search held out, most of its good trials lie beyond the support of the
others.
"""

import hashlib
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import regressions, trials
from bench.landscape import Landscape, Truth
from bench.machine import Machine, machine
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

CODE = ("trials", "regressions", "machine", "surrogates")
"""Modules that a fitted landscape depends on."""

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
        return Truth(value, sigma(value), float(self.machine.cost_s(numbers)[0]))

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


def sigma(value: float) -> float:
    """Return the standard deviation of one evaluation of a program with this val_bpb."""
    low, high = np.log(QUIET[1]), np.log(LOUD[1])
    return float(np.exp(np.interp(value, [QUIET[0], LOUD[0]], [low, high])))


def _kept(table: Path, family: str, cache: Path | None) -> Landscape:
    if cache is None:
        return fit(trials.read(table), family)
    code = [Path(__file__).with_name(f"{name}.py") for name in CODE]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in (table, *code))).hexdigest()
    kept = cache / f"{family}-{digest[:16]}.pickle"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        being_written = kept.with_suffix(f".{os.getpid()}")
        being_written.write_bytes(pickle.dumps(fit(trials.read(table), family)))
        being_written.replace(kept)
    found: Surrogate = pickle.loads(kept.read_bytes())
    return found
