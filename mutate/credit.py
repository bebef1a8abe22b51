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
from dataclasses import dataclass

import numpy as np

from population.individual import IndividualId
from population.ports import History, Standing

SPREADS = 12
"""Standard deviations that effects may have; each is believed as far as it explains the scores."""
MOST_SCORES = 600
"""The latest take part: the work grows with their cube, and these take a tenth of a second."""


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
    changes on its line of first parents, plus its own noise. Effects are drawn towards zero, by as
    much as all of them together suggest. Changes that were never seen apart share what they are
    worth. Nothing is known while the noise of scores is not.
    """
    scored = [s for s in history.standings.values() if _counts(s)][-MOST_SCORES:]
    carried = _carried(history)
    diffs = list(dict.fromkeys(d for s in scored for d in carried[s.individual.id].changes))
    if not diffs:
        return {}
    fitness = np.array([s.fitness for s in scored], float)
    errors = np.array([s.standard_error for s in scored], float)
    errors = np.maximum(errors, 1e-9 * max(float(np.abs(fitness).max()), 1.0))
    column = {diff: number for number, diff in enumerate(diffs)}
    carriers = np.zeros((len(scored), len(diffs)))  # (programs, changes)
    for row, standing in zip(carriers, scored, strict=True):
        for diff, times in carried[standing.individual.id].changes.items():
            row[column[diff]] = times
    roots = np.array([carried[s.individual.id].root for s in scored])
    founders = (roots[:, None] == np.unique(roots)).astype(float)  # (programs, founders)
    means, deviations = _effects(fitness, errors, founders, carriers)
    counts = (carriers > 0).sum(0)
    return {
        diff: Worth(float(means[i]), float(deviations[i]), int(counts[i]))
        for diff, i in column.items()
    }


@dataclass(frozen=True, slots=True)
class _Carried:
    """The start of a program's line of first parents, and the changes on it by how often."""

    root: IndividualId
    changes: Counter[str]


def _carried(history: History) -> dict[IndividualId, _Carried]:
    """Return what everybody carries; parents come before their children."""
    found: dict[IndividualId, _Carried] = {}
    for one, standing in history.standings.items():
        individual = standing.individual
        before = found.get(individual.parents[0]) if individual.parents else None
        own = Counter(change.diff for change in individual.changes if change.diff)
        found[one] = (
            _Carried(one, own) if before is None else _Carried(before.root, before.changes + own)
        )
    return found


def _counts(standing: Standing) -> bool:
    return (
        standing.fitness is not None
        and not standing.held
        and math.isfinite(standing.standard_error)
    )


def _effects(
    fitness: np.ndarray, errors: np.ndarray, founders: np.ndarray, carriers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each effect, averaged over what their spread may be.

    That lies between an eighth of a typical error and all that scores differ by. What founders
    explain is projected out, so nothing is assumed about them; along the eigenvectors of the rest
    each spread costs a sum.

    Args:
        fitness: (programs,).
        errors: its standard errors, (programs,), above 0.
        founders: (programs, founders), whose descendant each is, 1 or 0.
        carriers: (programs, changes), how often each carries each.
    """
    basis = np.linalg.qr(founders / errors[:, None], "complete")[0][:, founders.shape[1] :]
    shown = basis.T @ (carriers / errors[:, None])  # (contrasts, changes)
    strengths, axes = np.linalg.eigh(shown @ shown.T)
    strengths = np.maximum(strengths, 0.0)  # (contrasts,), in squares of effects per score
    seen = axes.T @ (basis.T @ (fitness / errors))
    along = axes.T @ shown  # (contrasts, changes)
    typical = float(np.median(errors))
    most = max(float(np.ptp(fitness)), 8 * typical)
    variances = np.geomspace(typical / 8, most, SPREADS)[:, None] ** 2  # (spreads, 1)
    total = 1.0 + variances * strengths
    likelihood = -0.5 * (np.log(total) + seen**2 / total).sum(1)
    belief = np.exp(likelihood - likelihood.max())
    belief /= belief.sum()
    means = variances * ((seen / total) @ along)  # (spreads, changes)
    own = variances - variances**2 * ((1.0 / total) @ along**2)
    mean = belief @ means
    second = belief @ (np.maximum(own, 0.0) + means**2)
    return mean, np.sqrt(np.maximum(second - mean**2, 0.0))
