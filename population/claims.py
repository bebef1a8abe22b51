"""Claims: "better by d +- e" that may be looked at after every pair, under one budget of error.

A confidence sequence holds at all numbers of pairs at once, so nothing has to be decided
beforehand: who looks after each pair, stops when it looks good or comes back for more is as wrong
as often as is stated, and no more. It needs no noise that was estimated elsewhere, so a champion
that is noisier than the rest of its run cannot deceive it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from population.task import Direction

ERROR_BUDGET = 0.01
"""Probability that a run claims anything false, over all its exams and however often they look."""
CONFIDENCE = 0.95
"""Probability that a stated interval holds the truth, whenever one looks."""
EFFECT = 2.0
"""Gains that comparisons are made for, in standard deviations of a pair's difference: three sigma
of a single evaluation are 2.1 of those. Others are found with a few pairs more."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A paired comparison, in units of the metric.

    Attributes:
        difference: champion minus founder, the mean over the pairs.
        half_width: of its confidence interval; infinite while there are too few pairs.
        confidence: that the interval holds the truth at any number of pairs.
        error: probability of claiming it at some number of pairs where it is not true.
        better: the champion is fitter, at that error.
        worse: it does not even look fitter.
    """

    difference: float
    half_width: float
    pairs: int
    confidence: float
    error: float
    better: bool
    worse: bool


def error_share(comparison: int) -> float:
    """Return which part of a run's error budget its n-th comparison gets: 1/2, 1/6, 1/12, ...

    They sum to one however many there are.

    Args:
        comparison: counted from 1 in the order in which a run began them, whatever they found.
    """
    return 1 / (comparison * (comparison + 1))


def compare(
    champion: Sequence[float],
    founder: Sequence[float],
    direction: Direction,
    error: float,
    sampling: float = 0.0,
) -> Claim:
    """Compare two programs over pairs: blocks of one evaluation of each, alike in all else.

    Args:
        champion: values in metric units.
        founder: values of the same blocks, in the same order.
        direction: which side of zero is fitter.
        error: probability of a false claim that is allowed, above 0.
        sampling: what the difference of one pair varies by at least, since its values were counted.

    Raises:
        ValueError: the lists differ in length or are empty.
    """
    if len(champion) != len(founder) or not champion:
        raise ValueError(
            f"expected pairs of values, got {len(champion)} of the champion "
            f"and {len(founder)} of the founder"
        )
    differences = [c - f for c, f in zip(champion, founder, strict=True)]
    pairs, mean = len(differences), fmean(differences)
    varies = max(variance(differences, mean), sampling**2) if pairs > 1 else 0.0
    spread = math.sqrt(varies / pairs)
    gain = direction.fitness(mean)
    return Claim(
        difference=mean,
        half_width=_times(bound(pairs, 1 - CONFIDENCE), spread),
        pairs=pairs,
        confidence=CONFIDENCE,
        error=error,
        better=gain > _times(bound(pairs, 2 * error), spread),  # half of it on either side
        worse=gain <= 0,
    )


def bound(pairs: int, error: float) -> float:
    """Return what Student's t stays below in size, at all numbers of pairs at once.

    Args:
        pairs: so far, at least 1.
        error: probability that it ever passes its bound, where the true difference is 0.

    Returns:
        The bound, infinite while no t whatever would be evidence enough.

    Source: the t statistic's likelihood ratio under a normal prior of the standardised effect,
        Gönen, Johnson, Lu and Westfall, The American Statistician 59 (2005); a martingale under
        the right Haar prior, so that Ville's inequality holds: Wang and Ramdas, Anytime-valid
        t-tests and confidence sequences (2023), section 4. Solved for t.
    """
    ratio = 1 + pairs * EFFECT**2
    needed = (math.sqrt(ratio) / error) ** (2 / pairs)
    if pairs < 2 or needed >= ratio:
        return math.inf
    return math.sqrt((pairs - 1) * (needed - 1) / (1 - needed / ratio))


def fewest_pairs(error: float) -> int:
    """Return how many pairs a claim takes at least, at this probability of a false one."""
    return next(pairs for pairs in range(2, 1 << 20) if math.isfinite(bound(pairs, 2 * error)))


def _times(limit: float, spread: float) -> float:
    return limit * spread if math.isfinite(limit) else math.inf
