"""Constants by expected improvement: a Gaussian process over all results, searched near the best.

A process that is searched everywhere proposes what it knows least about; searched near the best
programs it goes on where a local search would stall.

Sources: expected improvement, Jones, Schonlau and Welch, Journal of Global Optimization 13 (1998),
section 4; candidates that change few coordinates of a good point, Eriksson et al., TuRBO, NeurIPS
2019, supplement; log of the expected improvement, Ament et al., NeurIPS 2023, section 4.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import ndtr

from mutate.cube import Array, Cube
from mutate.gaussian import Process, fit
from mutate.genome import Constant
from mutate.told import Point, Told

BASES = 5
"""Points that candidates are made from: those of the best posterior means."""
CANDIDATES = 1_200
REFINED = 3
"""Rounds of candidates near the best candidates."""
CLIPPED = 3.0
"""Results worse than the best by more than this many times the median's distance count as that."""
MOST_POINTS = 240
"""Results that the process is told, at most: the best ones."""
MOVES = (
    (0.1, 0.03), (0.1, 0.1), (0.1, 0.25),
    (0.2, 0.03), (0.2, 0.1), (0.2, 0.25),
    (0.5, 0.03), (0.5, 0.1), (1.0, 0.1), (1.0, 1.0),
)  # fmt: skip
"""Chance of each coordinate to move, and how far, of equal parts of the candidates."""


def expected_improvement(
    declared: Sequence[Constant], told: Sequence[Told], rng: np.random.Generator
) -> Iterator[Point]:
    """Yield points that nobody has tried, the most promising first.

    Args:
        declared: the constants, at least one.
        told: at least two of them with a value.
        rng: the source of all chance.
    """
    cube = Cube(declared)
    known = _best([one for one in told if one.value is not None])
    process, shares = _fitted(cube, known)
    running = [cube.shares(one.point) for one in told if one.value is None]
    if running:
        process = process.believing(cube.features(np.array(running)))
    means, _ = process.predict(cube.features(shares))
    incumbent = float(means.max())
    bases = np.argsort(-means, kind="stable")[:BASES]
    part = CANDIDATES // len(MOVES)
    drawn = [
        (shares[chosen], cube.moved(shares[chosen], chance, deviation, rng), chosen)
        for chance, deviation in MOVES
        for chosen in [bases[rng.integers(len(bases), size=part)]]
    ]
    found = np.concatenate([moved for _, moved, _ in drawn])
    origins = np.concatenate([chosen for _, _, chosen in drawn])
    gains = log_expected_improvement(process, cube.features(found), incumbent)
    for _ in range(REFINED):
        best = np.argsort(-gains, kind="stable")[:BASES]
        chosen = best[rng.integers(len(best), size=CANDIDATES // 10)]
        moved = cube.moved(found[chosen], 0.2, 0.05, rng)
        fresh = log_expected_improvement(process, cube.features(moved), incumbent)
        found = np.concatenate([found, moved])
        origins = np.concatenate([origins, origins[chosen]])
        gains = np.concatenate([gains, fresh])
    seen = {tuple(one.point.values()) for one in told}
    for index in np.argsort(-gains, kind="stable"):
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


def _best(known: Sequence[Told]) -> list[Told]:
    return sorted(known, key=lambda one: -_value(one))[:MOST_POINTS]


def _fitted(cube: Cube, known: Sequence[Told]) -> tuple[Process, Array]:
    """Return the process over what is known, and its points' shares (n, d).

    Disasters and failures are worth what a bad result is: how bad they are tells nothing about
    the differences that matter, and would set the scale of all.
    """
    shares = np.array([cube.shares(one.point) for one in known])
    values = np.array([_value(one) for one in known])
    worst = values.max() - CLIPPED * (values.max() - np.median(values))
    return fit(cube.features(shares), np.maximum(values, worst)), shares


def _value(one: Told) -> float:
    return -math.inf if one.value is None else one.value
