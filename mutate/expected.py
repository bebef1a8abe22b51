"""Constants by expected improvement: a Gaussian process over all results, searched near the best.

A process that is searched everywhere proposes what it knows least about; searched near the best
programs, a few constants at a time, it goes on where a local search would stall. A second process
foretells who earns a score at all, from the failures: memory runs out in a region of its own.

Sources: expected improvement, Jones, Schonlau and Welch, Journal of Global Optimization 13 (1998),
section 4; times the probability of success, Gelbart, Snoek and Adams, UAI 2014, section 3;
candidates that change few coordinates of a good point, Eriksson et al., TuRBO, NeurIPS 2019,
supplement; logarithms, Ament et al., NeurIPS 2023, section 4.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtr

from mutate.cube import Array, Cube
from mutate.gaussian import OWN, Process, fit
from mutate.genome import Constant
from mutate.told import Point, Told

BASES = 5
"""Points that candidates are made from: those of the best posterior means."""
CANDIDATES = 1_200
REFINED = 3
"""Rounds of candidates near the best candidates."""
MOVES = ((0.1, 0.03), (0.1, 0.1), (0.2, 0.03), (0.2, 0.1), (0.5, 0.03))
"""Chance of each coordinate to move, and how far, of equal parts of the candidates."""
NEARER = (0.2, 0.05)
"""The same, of the candidates near the best candidates."""
CLIPPED = 3.0
"""Results worse than the best by more than this many times the median's distance count as that."""
MOST_POINTS = 240
"""Results that a process is told, at most: the best ones."""
EVEN = 0.5
"""Between the failed, told as 0, and the scored, told as 1."""
DOUBT = 0.1
"""Least deviation of a foretold success: failures are no law of nature."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What the results say of other points.

    Attributes:
        value: the process over scores. success: that over failures, None while there is none.
        incumbent: the best posterior mean of what is known.
    """

    value: Process
    success: Process | None
    incumbent: float

    def given(self, running: Array | None) -> "Belief":
        """Return what is believed while points (n, D) are being evaluated."""
        return self if running is None else replace(self, value=self.value.believing(running))

    def worth(self, features: Array) -> Array:
        """Return at (n, D) the log of the expected improvement times that of success, (n,)."""
        gain = log_expected_improvement(self.value, features, self.incumbent)
        if self.success is None:
            return gain
        mean, deviation = self.success.predict(features)
        result: Array = gain + log_ndtr((mean - EVEN) / np.hypot(deviation, DOUBT))
        return result


def expected_improvement(
    declared: Sequence[Constant], told: Sequence[Told], rng: np.random.Generator, own: str = ""
) -> Iterator[Point]:
    """Yield points that nobody has tried, the most promising first.

    Args:
        declared: the constants, at least one.
        told: at least two of them scored.
        rng: the source of all chance.
        own: the structure whose points are asked for.
    """
    cube = Cube(declared)
    places = np.array([cube.shares(one.point) for one in told])  # (n, d)
    scored = [i for i, one in enumerate(told) if one.value is not None and not one.failed]
    best = sorted(scored, key=lambda i: -_value(told[i]))[:MOST_POINTS]
    known, shares = [told[i] for i in best], places[best]
    process = _fitted(cube.features(shares), known, own)
    belief, bases = _believed(cube.features(shares), process, _success(cube, places, told))
    running = [i for i, one in enumerate(told) if one.value is None]
    belief = belief.given(cube.features(places[running]) if running else None)
    chosen = bases[rng.integers(len(bases), size=CANDIDATES)]
    parts = np.array_split(shares[chosen], len(MOVES))
    moved = [cube.moved(part, *move, rng) for part, move in zip(parts, MOVES, strict=True)]
    found, origins = np.concatenate(moved), chosen
    worth = belief.worth(cube.features(found))
    for _ in range(REFINED):
        leading = np.argsort(-worth, kind="stable")[:BASES]
        chosen = leading[rng.integers(len(leading), size=CANDIDATES // 10)]
        nearer = cube.moved(found[chosen], *NEARER, rng)
        found = np.concatenate([found, nearer])
        origins = np.concatenate([origins, origins[chosen]])
        worth = np.concatenate([worth, belief.worth(cube.features(nearer))])
    seen = {tuple(one.point.values()) for one in told}
    for index in np.argsort(-worth, kind="stable"):
        point = cube.point(found[index], known[origins[index]].point)
        if tuple(point.values()) not in seen:
            seen.add(tuple(point.values()))
            yield point


def log_expected_improvement(process: Process, features: Array, incumbent: float) -> Array:
    """Return the logarithm of the expected improvement over `incumbent` at (n, D), (n,)."""
    mean, deviation = process.predict(features)
    z = (mean - incumbent) / deviation
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.log(density + z * ndtr(z))
        far = -z * z / 2 - math.log(math.sqrt(2 * math.pi)) - 2 * np.log(np.abs(z))
    result: Array = np.log(deviation) + np.where(z > -5.0, near, far)
    return result


def _fitted(features: Array, known: Sequence[Told], own: str) -> Process:
    """Return a process over the scores, for the structure `own`.

    How bad the bad ones are tells nothing about the differences that matter and would set the
    scale of all, so they count as equally bad. What another structure has scored tells of its
    constants, and hardly of how good they would be here.
    """
    values = np.array([_value(one) for one in known])
    worst = values.max() - CLIPPED * (values.max() - np.median(values))
    numbers = {own: OWN}
    groups = [numbers.setdefault(one.structure, len(numbers)) for one in known]
    return fit(features, np.maximum(values, worst), np.array(groups))


def _believed(
    features: Array, process: Process, success: Process | None
) -> tuple[Belief, npt.NDArray[np.intp]]:
    """Return what is believed, and which of the known points candidates are made from."""
    means, _ = process.predict(features)
    bases = np.argsort(-means, kind="stable")[:BASES]
    return Belief(process, success, float(means.max())), bases


def _success(cube: Cube, places: Array, told: Sequence[Told]) -> Process | None:
    settled = [i for i, one in enumerate(told) if one.value is not None][-MOST_POINTS:]
    scored = np.array([0.0 if told[i].failed else 1.0 for i in settled])
    return None if scored.all() else fit(cube.features(places[settled]), scored)


def _value(one: Told) -> float:
    return -math.inf if one.value is None else one.value
