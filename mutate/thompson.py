"""Which of some candidates first: by one draw of all that they may be worth, given the results.

A draw from a Gaussian process over the results goes where something is promised as often as it is
probable that this is the best place: it neither follows the model's mean into the first hollow, nor
runs after what is merely unknown. A second process foretells who earns a score at all, from the
failures: memory runs out in a region of its own.

Source: Thompson, Biometrika 25 (1933); with a Gaussian process and candidates near the best point,
Eriksson et al., Scalable Global Optimization via Local Bayesian Optimization, NeurIPS 2019, section
2; success by a process of its own, Gelbart, Snoek and Adams, UAI 2014, section 3.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from mutate.cube import Array, features
from mutate.gaussian import OWN, Process, fit
from mutate.genome import Constant
from mutate.told import Point, Told

CLIPPED = 3.0
"""Results worse than the best by more than this many times the median's distance count as that."""
MOST_SCORES = 240
"""Scores that a process is told, at most: the best ones."""
MOST_SETTLED = 120
"""Failures and successes that the other one is told, at most: the latest."""
EVEN = 0.5
"""Between the scored, told as 0, and the failed, told as 1."""
DOUBT = 0.1
"""Least deviation of a foretold failure: failures are no law of nature."""


def ranked(
    candidates: Sequence[Point],
    declared: Sequence[Constant],
    told: Sequence[Told],
    rng: np.random.Generator,
    own: str = "",
) -> Iterator[Point]:
    """Yield the candidates, the most promising by one draw first.

    Those that a second draw expects to fail come after them, what was told already last.

    Args:
        candidates: at least one.
        declared: the constants, at least one.
        told: at least two of them scored.
        rng: the source of all chance.
        own: the structure that the candidates are for.
    """
    places = features(declared, candidates)
    worth = _worth(declared, told, own).draw(places, rng)
    fails = rng.random(len(candidates)) < _failure(declared, told, places)
    known = {tuple(one.point.values()) for one in told if one.structure == own}
    seen = np.array([tuple(one.values()) in known for one in candidates])
    for index in np.lexsort((-worth, fails, seen)):
        yield candidates[index]


def _worth(declared: Sequence[Constant], told: Sequence[Told], own: str) -> Process:
    """Return what the scores say of other points of the structure `own`.

    How bad the bad ones are tells nothing about the differences that matter and would set the
    scale of all, so they count as equally bad. What another structure has scored tells of its
    constants, and hardly of how good they would be here.
    """
    scored = [one for one in told if one.value is not None and not one.failed]
    best = sorted(scored, key=lambda one: -_value(one))[:MOST_SCORES]
    values = np.array([_value(one) for one in best])
    short = values.max() - values
    usual = np.median(short) or (np.median(short[short > 0]) if short.any() else 0.0)
    worst = values.max() - CLIPPED * usual  # where most are as good as the best, of the others
    numbers = {own: OWN}
    groups = [numbers.setdefault(one.structure, len(numbers)) for one in best]
    places = features(declared, [one.point for one in best])
    return fit(places, np.maximum(values, worst), np.array(groups))


def _failure(
    declared: Sequence[Constant], told: Sequence[Told], places: Array
) -> npt.NDArray[np.float64]:
    """Return the probability that each of these places (n, D) earns no score, (n,)."""
    settled = [one for one in reversed(told) if one.value is not None][:MOST_SETTLED]
    failed = np.array([1.0 if one.failed else 0.0 for one in settled])
    if not failed.any():
        return np.zeros(len(places))
    process = fit(features(declared, [one.point for one in settled]), failed)
    mean, deviation = process.predict(places)
    result: Array = ndtr((mean - EVEN) / np.hypot(deviation, DOUBT))
    return result


def _value(one: Told) -> float:
    return -math.inf if one.value is None else one.value
