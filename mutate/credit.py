"""What each change is worth, by all who carry it: ridge regression over the lineage.

A program's gain on its parent is that of all its changes together, and rests on two noisy scores.
But whoever descends from a program carries its changes on, and the same edit is made to several
parents: one regression of all scores on who carries what tells changes apart that were only now
and then proposed together, and uses every score. Pure: from a history to numbers.

Sources: best linear unbiased prediction along lines of descent, Henderson, Biometrics 31 (1975),
section 4; restricted likelihood, Patterson and Thompson, Biometrika 58 (1971).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from population.history import History, Standing
from population.individual import IndividualId

CONSTANT = "constant"
"""The category of changes of values."""
SPREADS = 12
RATIOS = (0.125, 0.25, 0.5, 1.0)
"""How many standard deviations of effects are thought of, and those of constants as a share of the
others': one step of a constant does little, an edit often much. Each is believed as far as it
explains the scores."""
MEAN = 3.0
"""In such standard deviations, how far from zero the mean of a kind's effects may lie."""
MOST_SCORES = 600
"""The latest take part: the work grows with their cube, and these take half a second."""


@dataclass(frozen=True, slots=True)
class Worth:
    """What a change adds to the fitness of a program, whatever else that carries; + is better.

    Attributes:
        effect, error: mean and standard deviation, in units of the metric.
        carriers: scored programs that carry it, those that inherited it included.
    """

    effect: float
    error: float
    carriers: int

    def __str__(self) -> str:
        return f"{self.effect:+.4f} +- {2 * self.error:.4f}"


def worths(history: History) -> dict[str, Worth]:
    """Return what every change is worth that a scored program carries, by its diff.

    A score is its founder's, or that of whatever else had no parent, plus the effects of all
    changes on its line of first parents, plus its own noise. Effects are drawn towards the mean
    of their kind, steps of constants or edits, by as much as all of them together suggest. Changes
    that were never seen apart share what they are worth. Nothing is known while the noise is not.
    """
    scored = [s for s in history.standings.values() if _counts(s)][-MOST_SCORES:]
    programs = [_carried(standing, history) for standing in scored]
    diffs = list(dict.fromkeys(diff for program in programs for diff in program.changes))
    if not diffs:
        return {}
    fitness = np.array([s.fitness for s in scored], float)
    errors = np.array([s.standard_error for s in scored], float)
    errors = np.maximum(errors, 1e-9 * max(float(np.abs(fitness).max()), 1.0))
    carriers = _carriers(programs, diffs)
    constants = _constants(history)
    small = np.array([diff in constants for diff in diffs])
    means, deviations = _averaged(_posteriors(_seen(fitness, errors, programs, carriers), small))
    counts = (carriers > 0).sum(0)
    numbers = zip(means.tolist(), deviations.tolist(), counts.tolist(), strict=True)
    return {diff: Worth(*own) for diff, own in zip(diffs, numbers, strict=True)}


@dataclass(frozen=True, slots=True)
class _Carried:
    """The start of a program's line of first parents, and the changes on it by how often."""

    root: IndividualId
    changes: Counter[str]


def descent(standing: Standing, history: History) -> list[Standing]:
    """Return how somebody stands and all from whom it descends by first parents, latest first."""
    line = [standing]
    while (parents := line[-1].individual.parents) and parents[0] in history.standings:
        line.append(history.standings[parents[0]])
    return line


def _carried(standing: Standing, history: History) -> _Carried:
    line = descent(standing, history)
    changes = (change for one in reversed(line) for change in one.individual.changes)
    return _Carried(line[-1].individual.id, Counter(c.diff for c in changes if c.diff))


def _constants(history: History) -> set[str]:
    """Return the diffs that change values of constants."""
    return {
        change.diff
        for standing in history.standings.values()
        for change in standing.individual.changes
        if change.category == CONSTANT
    }


def _counts(standing: Standing) -> bool:
    return standing.ranks and math.isfinite(standing.standard_error)


def _carriers(programs: Sequence[_Carried], diffs: Sequence[str]) -> np.ndarray:
    """Return how often each program carries each change, (programs, changes)."""
    column = {diff: number for number, diff in enumerate(diffs)}
    found = np.zeros((len(programs), len(diffs)))
    for row, program in zip(found, programs, strict=True):
        for diff, times in program.changes.items():
            row[column[diff]] = times
    return found


@dataclass(frozen=True, slots=True)
class _Seen:
    """Differences between scores in units of their noise: what founders explain is projected out.

    Attributes:
        scores: (contrasts,). shown: (contrasts, changes), what a unit of each effect adds.
        low, high: between what effects may spread.
    """

    scores: np.ndarray
    shown: np.ndarray
    low: float
    high: float


def _seen(
    fitness: np.ndarray, errors: np.ndarray, programs: Sequence[_Carried], carriers: np.ndarray
) -> _Seen:
    roots = np.array([program.root for program in programs])
    founders = (roots[:, None] == np.unique(roots)) / errors[:, None]  # (programs, founders)
    basis = np.linalg.qr(founders, "complete")[0][:, founders.shape[1] :]
    low = float(np.median(errors)) / 8
    high = max(float(np.ptp(fitness)), 64 * low)
    return _Seen(basis.T @ (fitness / errors), basis.T @ (carriers / errors[:, None]), low, high)


@dataclass(frozen=True, slots=True)
class _Posterior:
    """For each spread: log of its likelihood (spreads,), means and variances (spreads, changes)."""

    likelihood: np.ndarray
    means: np.ndarray
    variances: np.ndarray


def _posteriors(seen: _Seen, small: np.ndarray) -> list[_Posterior]:
    """Return one for each ratio; `small` tells the changes of constants, (changes,)."""
    return [_effects(seen, small, ratio) for ratio in (RATIOS if small.any() else RATIOS[-1:])]


def _effects(seen: _Seen, small: np.ndarray, ratio: float) -> _Posterior:
    """Return what the effects are where those of constants spread by `ratio` of the others'.

    Effects of one kind lie around a mean of theirs, which is unknown: most edits harm. Along the
    eigenvectors of what is seen of all changes together each spread costs a sum.
    """
    scale = np.where(small, ratio, 1.0)
    means_of = MEAN * np.stack([small, ~small]) * scale  # (kinds, changes)
    cross = seen.shown * scale**2 + (seen.shown @ means_of.T) @ means_of  # (contrasts, changes)
    strengths, axes = np.linalg.eigh(cross @ seen.shown.T)
    scores, along = axes.T @ seen.scores, axes.T @ cross
    prior = np.geomspace(seen.low, seen.high, SPREADS)[:, None] ** 2  # (spreads, 1)
    total = 1.0 + prior * np.maximum(strengths, 0.0)  # (spreads, contrasts)
    likelihood = -0.5 * (np.log(total) + scores**2 / total).sum(1)
    means = prior * ((scores / total) @ along)
    variances = (1 + MEAN**2) * prior * scale**2 - prior**2 * ((1.0 / total) @ along**2)
    return _Posterior(likelihood, means, np.maximum(variances, 0.0))


def _averaged(found: Sequence[_Posterior]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each effect over all that spreads may be."""
    likelihood = np.concatenate([one.likelihood for one in found])
    belief = np.exp(likelihood - likelihood.max())
    belief /= belief.sum()
    means = np.concatenate([one.means for one in found])
    variances = np.concatenate([one.variances for one in found])
    mean = belief @ means
    return mean, np.sqrt(np.maximum(belief @ (variances + means**2) - mean**2, 0.0))
