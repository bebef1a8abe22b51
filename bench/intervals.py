"""The statistics of benchmarks: over a number of pairs that is fixed before anyone looks.

An exam, which is looked at as it grows, has `population.claims`.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95
) -> tuple[float, float]:
    """Return the mean difference of pairs and the half width of its t interval.

    Args:
        ours: values of one program.
        theirs: of the other, in the same order. At least one pair; with one the half width is
            infinite.
        confidence: of the two-sided interval.
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    pairs, mean = len(differences), fmean(differences)
    if pairs < 2:
        return mean, math.inf
    error = stdev(differences, mean) / math.sqrt(pairs)
    return mean, t_quantile((1 + confidence) / 2, pairs - 1) * error


def t_quantile(probability: float, dof: int) -> float:
    """Return the quantile of Student's t at `probability` in [0.5, 1) by bisection.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4,
        the distribution in closed form for whole degrees of freedom.
    """
    if not 0.5 <= probability < 1 or dof < 1:
        raise ValueError(f"expected 0.5 <= probability < 1 and dof >= 1, got {probability}, {dof}")
    low, high = 0.0, math.pi / 2
    for _ in range(200):
        angle = (low + high) / 2
        if (1 + _central_mass(angle, dof)) / 2 < probability:
            low = angle
        else:
            high = angle
    return math.tan(low) * math.sqrt(dof)


def _central_mass(angle: float, dof: int) -> float:
    """Return P(|T| <= t) where `angle` is atan(t / sqrt(dof))."""
    odd = dof % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0 if dof == 1 else term
    for k in range(2 + odd, dof - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def signed_rank(differences: Sequence[float]) -> float:
    """Return the p value of Wilcoxon's signed-rank test that differences lie around 0."""
    from scipy.stats import wilcoxon  # takes a second

    return float(wilcoxon(differences).pvalue) if any(differences) else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Return p values that hold together, in the same order.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
        Statistics 6 (1979).
    """
    adjusted, least = [1.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, (len(values) - rank) * values[place])
        adjusted[place] = min(least, 1.0)
    return adjusted


Pairs = Sequence[tuple[float, float]]


def rank_correlation(pairs: Pairs) -> float:
    """Return Spearman's rank correlation, NaN of fewer than three pairs."""
    from scipy.stats import spearmanr  # takes a second

    return float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else math.nan


def better_half(pairs: Iterable[tuple[float, float]]) -> Pairs:
    """Return the half of the pairs whose first value is smaller, the smallest first."""
    ordered = sorted(pairs)
    return ordered[: len(ordered) // 2]
