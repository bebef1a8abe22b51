"""Noise, shrinkage and contention: pure functions over numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from statistics import fmean, median, quantiles

from population.individual import IndividualId, Result

CONTENDED_RATIO = 1.10
"""A reference workload slower than its norm by more than this marks the device as contended."""
FOREIGN_SHARE = 0.10
"""More than this share of a candidate's cores given to others while it ran marks it, too."""
NORM_READINGS = 4
"""Readings of one device that are needed before it has a norm."""
MIN_DEGREES_OF_FREEDOM = 2
CLIP_GROUPS = 3
CLIP_RATIO = 6.0
PRIOR_FREEDOM = 4
"""Replicates of its own that weigh as much as the typical noise in the noise of one genome."""
SIGMA_FLOOR = 1e-9
SPREAD_FLOOR = 0.1
EXACT = 1e-8
"""Noise below this share of a score is none: such scores repeat, and no jump is measured in it."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviation of one evaluation of an unchanged genome, and what it rests on.

    Attributes:
        sigma: of a typical genome. own: of each that was evaluated more than once, by its id.
    """

    sigma: float
    degrees_of_freedom: int
    own: Mapping[IndividualId, float] = field(default_factory=dict)

    def of(self, genome: IndividualId) -> float:
        """Return the standard deviation of one evaluation of this genome."""
        return self.own.get(genome, self.sigma)


@dataclass(frozen=True, slots=True)
class Count:
    """A share that was counted: `successes` of `trials`, 1 or more."""

    successes: float
    trials: float

    @property
    def error(self) -> float:
        """The standard error of the share.

        Two successes and two failures more keep it above zero where all agree.

        Source: Agresti and Coull, The American Statistician 52 (1998).
        """
        share = (self.successes + 2) / (self.trials + 4)
        return math.sqrt(share * (1 - share) / (self.trials + 4))


def count_of(result: Result) -> Count | None:
    """Return what a value was counted from, None where it was not."""
    successes, trials = result.measured("successes"), result.measured("trials")
    return None if successes is None or not trials else Count(successes, trials)


def pooled(
    values: Sequence[float], counts: Sequence[Count | None], sigma: float = 0.0
) -> tuple[float, float]:
    """Return the mean of some values, and the noise of one that gives the mean its error.

    Where all were counted, each weighs as much as its trials: as if they were counted at once.

    Args:
        values: of one individual, at least one.
        counts: what each was counted from.
        sigma: noise of one of its values.
    """
    known = [one for one in counts if one is not None]
    if len(known) < len(values):
        return fmean(values), sigma
    trials = sum(one.trials for one in known)
    weights = [one.trials / trials for one in known]
    beyond = max(0.0, sigma**2 - fmean(one.error**2 for one in known))  # what counting does not do
    varies = (w**2 * (one.error**2 + beyond) for w, one in zip(weights, known, strict=True))
    mean = sum(w * value for w, value in zip(weights, values, strict=True))
    return mean, math.sqrt(len(values) * sum(varies))


def estimate_noise(
    groups: Mapping[IndividualId, Sequence[float]],
    sampling: Mapping[IndividualId, float] | None = None,
) -> Noise | None:
    """Estimate the noise of one evaluation from genomes that were evaluated more than once.

    For the typical genome, within-genome variances are pooled by their degrees of freedom. From
    three genomes on, a variance beyond 6 times their median is cut to that: a poor program may
    repeat far worse than the good ones. A genome's own noise is its own variance drawn towards
    the typical one (`moderated`). Replicates that agree to the last digit get a floor of 1e-9 of
    the largest value.

    Where values were counted, what sampling alone does is known without any repetition: no noise
    is less than that.

    Args:
        groups: the values of each genome; groups of one are passed over.
        sampling: standard error of one counted value of a genome; whose are not counted has none.

    Returns:
        The noise, or None with fewer than two degrees of freedom, unless all values were counted.

    Source: pooled variance, Box, Hunter and Hunter, Statistics for Experimenters (1978), ch. 6;
        median of chi-square, Wilson and Hilferty, PNAS 17 (1931).
    """
    repeated = {key: group for key, group in groups.items() if len(group) > 1}
    freedoms = [len(group) - 1 for group in repeated.values()]
    if sum(freedoms) < MIN_DEGREES_OF_FREEDOM:
        all_counted = sampling and groups.keys() <= sampling.keys()
        return _with_sampling(Noise(0.0, 0), sampling or {}) if all_counted else None
    variances = [_variance(group) for group in repeated.values()]
    if len(variances) >= CLIP_GROUPS:
        medians = ((1 - 2 / (9 * dof)) ** 3 for dof in freedoms)
        typical = median(v / m for v, m in zip(variances, medians, strict=True))
        if typical > 0:
            variances = [min(v, CLIP_RATIO * typical) for v in variances]
    squares = sum(v * dof for v, dof in zip(variances, freedoms, strict=True))
    floor = SIGMA_FLOOR * max(abs(value) for group in repeated.values() for value in group)
    sigma = max(math.sqrt(squares / sum(freedoms)), floor)
    own = {key: moderated([group], sigma) for key, group in repeated.items()}
    return _with_sampling(Noise(sigma, sum(freedoms), own), sampling or {})


def _with_sampling(noise: Noise, sampling: Mapping[IndividualId, float]) -> Noise:
    """Return a noise that is nowhere less than what sampling alone does."""
    if not sampling:
        return noise
    typical = max(noise.sigma, math.sqrt(fmean(error**2 for error in sampling.values())))
    own = {key: max(noise.own.get(key, noise.sigma), error) for key, error in sampling.items()}
    return Noise(typical, noise.degrees_of_freedom, {**noise.own, **own})


def moderated(groups: Iterable[Sequence[float]], sigma: float) -> float:
    """Return the noise of one genome: its own variance, drawn towards the typical one.

    Args:
        groups: its values, one group for each shard: only differences within a group count.
        sigma: standard deviation of one evaluation of a typical genome.

    Source: moderated variances, Smyth, Statistical Applications in Genetics and Molecular Biology
        3 (2004), section 3, with fixed degrees of freedom of the prior.
    """
    squares, freedom = PRIOR_FREEDOM * sigma**2, PRIOR_FREEDOM
    for group in groups:
        if len(group) > 1:
            squares += _variance(group) * (len(group) - 1)
            freedom += len(group) - 1
    return math.sqrt(squares / freedom)


def _variance(values: Sequence[float]) -> float:
    """Return the sample variance, in floats: the library's exact one costs 20 times as much."""
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


@dataclass(frozen=True, slots=True)
class Prior:
    """Where true fitnesses lie, as a normal distribution; `variance` is that of its mean."""

    mean: float
    spread: float
    variance: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, in the units of what was measured."""

    mean: float
    standard_error: float


def fit_prior(means: Sequence[float], counts: Sequence[int], sigmas: Sequence[float]) -> Prior:
    """Fit the prior of a normal-normal model to the mean fitnesses of all scored individuals.

    Disasters do not inform it: what lies below the first quartile by more than three
    interquartile ranges is left out, else one of them would make every lead look real. The
    spread is that of the better half: most changes do little or harm, a few help, and it is the
    leaders who are to be neither praised nor doubted too much. It is at least a tenth of the
    median sigma, so that equal evidence always keeps its order.

    Args:
        means: of each individual, as fitness: larger is better. At least one.
        counts: evaluations behind each mean, 1 or more.
        sigmas: noise of one evaluation of each, above 0.

    Source: DerSimonian and Laird, Controlled Clinical Trials 7 (1986), method of moments, here
        over the better half;
        Tukey, Exploratory Data Analysis (1977), outer fences.
    """
    fence = _lower_fence(means)
    errors = (sigma**2 / n for n, sigma in zip(counts, sigmas, strict=True))
    kept = [(x, error) for x, error in zip(means, errors, strict=True) if x >= fence]
    weights = [1 / error for _, error in kept]
    total = sum(weights)
    centre = sum(w * x for w, (x, _) in zip(weights, kept, strict=True)) / total
    better = [(w, x) for w, (x, _) in zip(weights, kept, strict=True) if x > centre]
    scale = sum(w for w, _ in better)
    excess = (sum(w * (x - centre) ** 2 for w, x in better) - len(better)) / scale if scale else 0.0
    spread = math.sqrt(max(excess, (SPREAD_FLOOR * median(sigmas)) ** 2))
    weights = [1 / (spread**2 + error) for _, error in kept]
    mean = sum(w * x for w, (x, _) in zip(weights, kept, strict=True)) / sum(weights)
    return Prior(mean, spread, 1 / sum(weights))


def _lower_fence(values: Sequence[float]) -> float:
    if len(values) < 4:
        return min(values)
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first - 3 * (third - first)


def shrink(mean: float, count: int, sigma: float, prior: Prior) -> Estimate:
    """Return the posterior of one individual: its mean, drawn towards the prior's.

    The less evidence, the nearer to the prior; so one lucky evaluation does not outrank five
    good ones. The standard error includes that of the prior's mean.

    Source: Morris, Parametric Empirical Bayes Inference, JASA 78 (1983), section 1.
    """
    own = sigma**2 / count
    trust = prior.spread**2 / (prior.spread**2 + own)
    error = math.sqrt(trust * own + (1 - trust) ** 2 * prior.variance)
    return Estimate(prior.mean + trust * (mean - prior.mean), error)


def estimates(
    means: Sequence[float],
    counts: Sequence[int],
    sigmas: Sequence[float] | None,
    believed: Sequence[bool] = (),
) -> list[Estimate]:
    """Return each individual's shrunken mean fitness with its standard error.

    While the noise is unknown nothing can be shrunk: means come back as they are with an
    infinite standard error, so that everything counts as within noise of the best.

    Args:
        means: of each individual, as fitness: larger is better.
        counts: evaluations behind each mean, 1 or more.
        sigmas: noise of one evaluation of each, None while it is unknown.
        believed: whether each informs the others; empty: all do, as where none does.
    """
    if sigmas is None:
        return [Estimate(mean, math.inf) for mean in means]
    if not means or min(sigmas) == 0.0:
        return [Estimate(mean, 0.0) for mean in means]
    among = believed if any(believed) else [True] * len(means)
    informed = [list(compress(own, among)) for own in (means, sigmas)]
    prior = fit_prior(informed[0], list(compress(counts, among)), informed[1])
    return [shrink(m, n, sigma, prior) for m, n, sigma in zip(means, counts, sigmas, strict=True)]


def is_contended(reference_s: float, readings: Sequence[float]) -> bool:
    """Tell a slow machine from a slow program.

    Args:
        reference_s: seconds that the fixed reference workload took around this trial.
        readings: the same from earlier trials on the same host and device.

    Returns:
        True when it took more than 1.10 times the median of at least four readings.
    """
    return len(readings) >= NORM_READINGS and reference_s > CONTENDED_RATIO * median(readings)
