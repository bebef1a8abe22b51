"""Regression by a Gaussian process over points of the unit cube: a mean and a doubt for any point.

The kernel is Matern 5/2 with one length scale per dimension, all of them and the noise found by
maximum a posteriori. Fitting a hundred points in fifteen dimensions takes 50 ms.

Sources: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1,
equations 4.17 and 5.9; prior of the length scales that grows with the square root of the
dimension: Hvarfner, Hellsten and Nardi, Vanilla Bayesian Optimization Performs Great in High
Dimensions, ICML 2024, section 4; groups of much the same surface: Bonilla, Chai and Williams,
Multi-task Gaussian Process Prediction, NIPS 2007, section 2, here with one correlation for all.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]
Groups = npt.NDArray[np.intp]

LENGTH = 0.25
"""Typical length scale in one dimension, as a share of the range: one level of a batch size may
change everything, and who takes that for a small step never tries the level again."""
NOISE = 0.01
"""Typical variance of the noise, as a share of that of the values."""
LENGTH_SPREAD, AMPLITUDE_SPREAD, NOISE_SPREAD = 1.0, 1.0, 1.5
"""Standard deviations of the priors, on the logarithmic scale."""
LEAST_NOISE = 1e-5
SHARED = 0.85
"""Of the surface's variance: common to all groups; the rest is each group's own."""
LEVEL = 0.3
"""Typical variance of the groups' levels, as a share of that of the values."""
LEVEL_SPREAD = 1.0
OWN = 0
"""The group that predictions are for."""
STEPS = 20
"""Of the optimiser, at most."""
MOST_FITTED = 60
"""Points that the scales are found from; all of them then inform the mean."""
JITTER = 1e-6
"""Added to the variances of a draw, as a share of them: twins have no root otherwise."""


@dataclass(frozen=True, slots=True)
class Scales:
    """What a kernel is made of.

    Attributes:
        lengths: (D,). amplitude, noise, level: variances of the surface, of a value and of the
            groups' levels, in units of the values' variance.
    """

    lengths: Array
    amplitude: float
    noise: float
    level: float

    def kernel(self, first: Array, second: Array, same: Array) -> Array:
        """Return covariances (m, n) of (m, D) and (n, D); `same` (m, n) is 1 within a group."""
        shape = self.amplitude * _matern(first, second, self.lengths)
        result: Array = shape * (SHARED + (1 - SHARED) * same) + self.level * same
        return result


@dataclass(frozen=True, slots=True)
class Process:
    """A fitted process.

    Attributes:
        points: (n, D), in the unit cube. groups: (n,), `OWN` of those like what is asked about.
        weights: (n,), the inverse kernel times the values.
        factor: Cholesky factor of the kernel, as scipy has it.
        centre, scale: of the values.
    """

    points: Array
    groups: Groups
    weights: Array
    factor: tuple[Array, bool]
    scales: Scales
    centre: float
    scale: float

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation at points (m, D), each (m,), noise not included."""
        cross = self._cross(points)
        solved = cho_solve(self.factor, cross.T, check_finite=False)  # (n, m)
        most = self.scales.amplitude + self.scales.level
        variance = most - np.einsum("mn,nm->m", cross, solved)
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        return self.centre + self.scale * (cross @ self.weights), self.scale * deviation

    def draw(self, points: Array, rng: np.random.Generator) -> Array:
        """Return one function of the process at points (m, D), (m,), in units of the values."""
        cross = self._cross(points)
        known = cross @ cho_solve(self.factor, cross.T, check_finite=False)
        alike = np.ones((len(points), len(points)))
        covariance = self.scales.kernel(points, points, alike) - known
        most = self.scales.amplitude + self.scales.level
        covariance[np.diag_indices(len(points))] += JITTER * most
        root = np.linalg.cholesky(covariance)
        drawn = cross @ self.weights + root @ rng.normal(size=len(points))
        result: Array = self.centre + self.scale * drawn
        return result

    def _cross(self, points: Array) -> Array:
        """Return covariances (m, n) of points of the group `OWN` with what was observed."""
        same = (self.groups == OWN)[None].astype(np.float64)
        return self.scales.kernel(points, self.points, same)


def fit(points: Array, values: Array, groups: Groups | None = None) -> Process:
    """Fit a process.

    Args:
        points: (n, D), n at least 2. Of more than 60 the scales are found from the 60 with the
            largest values: what is to be told apart are the good ones.
        values: (n,), finite.
        groups: (n,), whole numbers. Each group has a level of its own, and a surface that is
            mostly everybody's; what is asked about is of group `OWN`. None: all are of one.
    """
    several = groups is not None and len(set(groups.tolist())) > 1
    groups = np.full(len(values), OWN) if groups is None else groups
    centre, scale = float(values.mean()), float(values.std()) or 1.0
    standard = (values - centre) / scale
    best = np.argsort(-values, kind="stable")[:MOST_FITTED]
    scales = _scales(points[best], standard[best], groups[best] if several else None)
    kernel = scales.kernel(points, points, _same(groups))
    kernel[np.diag_indices(len(kernel))] += scales.noise
    factor = cho_factor(kernel, lower=True, check_finite=False)
    weights = cho_solve(factor, standard, check_finite=False)
    return Process(points, groups, weights, factor, scales, centre, scale)


def _same(groups: Groups) -> Array:
    """Return (n, n): 1 where two are of one group, else 0."""
    same: Array = (groups[:, None] == groups[None]).astype(np.float64)
    return same


def _matern(first: Array, second: Array, lengths: Array) -> Array:
    a, b = first / lengths, second / lengths
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    distance = np.sqrt(5 * np.maximum(squares, 0.0))
    kernel: Array = (1 + distance + distance * distance / 3) * np.exp(-distance)
    return kernel


def _scales(points: Array, values: Array, groups: Groups | None) -> Scales:
    """Return the scales that make the values most probable; no level where there is one group."""
    count, dimensions = points.shape
    squares = (points[:, None, :] - points[None]) ** 2  # (n, n, D)
    typical = math.log(LENGTH) + 0.25 * math.log(dimensions)
    start = np.concatenate([np.full(dimensions, typical), [0.0, math.log(NOISE)]])
    spreads = np.array([LENGTH_SPREAD] * dimensions + [AMPLITUDE_SPREAD, NOISE_SPREAD])
    same = np.zeros((count, count)) if groups is None else _same(groups)
    common = 1.0 if groups is None else SHARED + (1 - SHARED) * same
    if groups is not None:
        start, spreads = np.append(start, math.log(LEVEL)), np.append(spreads, LEVEL_SPREAD)
    unit = np.eye(count)

    def loss(theta: Array) -> tuple[float, Array]:
        lengths = np.exp(theta[:dimensions])
        amplitude, noise, *level = np.exp(theta[dimensions:])
        distance = np.sqrt(5 * (squares @ lengths**-2))
        decay = np.exp(-distance) * common
        shape = (1 + distance + distance * distance / 3) * decay
        kernel = amplitude * shape + noise * unit + sum(level) * same
        factor = cho_factor(kernel, lower=True, check_finite=False)
        weights = cho_solve(factor, values, check_finite=False)
        pull = cho_solve(factor, unit, check_finite=False) - np.outer(weights, weights)
        slope = amplitude * (5 / 3) * (1 + distance) * decay * pull / 2
        away = (theta - start) / spreads
        likelihood = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum()
        gradient = np.concatenate(
            [
                np.tensordot(slope, squares, 2) * lengths**-2,
                [amplitude * (pull * shape).sum() / 2, noise * np.trace(pull) / 2],
                [own * (pull * same).sum() / 2 for own in level],
            ]
        )
        return likelihood + 0.5 * away @ away, gradient + away / spreads

    bounds = [(math.log(0.03), math.log(30.0))] * dimensions
    bounds += [(-4.0, 4.0), (math.log(LEAST_NOISE), 0.0)]
    bounds += [(-5.0, 2.0)] * (len(start) - len(bounds))
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS}
    ).x
    amplitude, noise, *level = np.exp(found[dimensions:])
    return Scales(np.exp(found[:dimensions]), float(amplitude), float(noise), float(sum(level)))
