import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from population.statistics import (
    Count,
    Prior,
    estimate_noise,
    estimates,
    fit_prior,
    is_contended,
    moderated,
    shrink,
)

FITNESS = st.floats(-100, 100)
COUNTS = st.integers(1, 20)
SIGMA = st.floats(0.001, 10)
SCORES = st.lists(st.tuples(FITNESS, COUNTS), min_size=1, max_size=20)


def numbered(*groups: list[float]) -> dict[int, list[float]]:
    return dict(enumerate(groups, 1))


def test_noise_is_unknown_before_two_degrees_of_freedom():
    assert estimate_noise({}) is None
    assert estimate_noise(numbered([1.0], [2.0], [3.0, 3.1])) is None


def test_noise_pools_the_variance_within_genomes_and_ignores_that_between_them():
    noise = estimate_noise(numbered([1.0, 3.0], [100.0, 102.0, 104.0], [7.0]))
    assert noise is not None
    assert noise.degrees_of_freedom == 3
    assert noise.sigma == pytest.approx(math.sqrt((2.0 + 8.0) / 3))


@pytest.mark.parametrize("calm_genomes", [2, 8])
def test_one_erratic_program_does_not_drown_the_noise_of_the_others(calm_genomes):
    rng = np.random.default_rng(1)
    calm = [list(rng.normal(0, 0.01, 3)) for _ in range(calm_genomes)]
    noise = estimate_noise(numbered(*calm, [0.0, 50.0]))
    assert noise is not None
    assert noise.sigma < 0.03


def test_a_genome_that_repeats_badly_is_known_to_be_noisier_than_the_others():
    noise = estimate_noise(numbered([2.0, 2.01], [3.0, 3.01], [4.0, 4.2], [5.0]))
    assert noise is not None
    assert noise.of(3) > 3 * noise.of(1)
    assert noise.of(4) == noise.sigma


def test_two_replicates_that_agree_by_luck_do_not_make_a_genome_noiseless():
    noise = estimate_noise(numbered([2.0, 2.02, 2.01], [3.0, 3.02, 2.99], [4.0, 4.0]))
    assert noise is not None
    assert noise.of(3) > 0.8 * noise.sigma


def test_the_own_noise_of_a_genome_is_right_on_average_and_sure_with_many_replicates():
    rng = np.random.default_rng(2)
    values = list(rng.normal(0.0, 5.0, 400))
    assert moderated([values], 1.0) == pytest.approx(5.0, rel=0.1)
    assert moderated([values[:200], [v + 90 for v in values[200:]]], 1.0) == pytest.approx(5, 0.1)
    assert moderated([], 1.0) == moderated([[7.0]], 1.0) == 1.0


def test_a_majority_of_exact_repeats_does_not_hide_the_noise_of_the_rest():
    noise = estimate_noise(numbered(*[[1.0, 1.0]] * 5, [1.0, 3.0]))
    assert noise is not None
    assert noise.sigma == pytest.approx(math.sqrt(2.0 / 6))


def test_replicates_that_agree_to_the_last_digit_leave_a_noise_above_zero():
    noise = estimate_noise(numbered([2.5, 2.5, 2.5]))
    assert noise is not None
    assert 0 < noise.sigma < 1e-8


def test_a_share_that_was_counted_is_as_uncertain_as_so_few_trials_make_it():
    assert Count(500, 1000).error == pytest.approx(math.sqrt(0.25 / 1000), rel=0.01)
    assert Count(0, 10).error > 0.05
    assert Count(37, 120).error < Count(3, 10).error


def test_counts_that_agree_by_luck_are_no_surer_than_sampling_allows():
    counted = {1: 0.07, 2: 0.07}
    noise = estimate_noise(numbered([0.25, 0.25], [0.5, 0.5]), counted)
    assert noise is not None
    assert noise.sigma == pytest.approx(0.07)
    assert noise.of(1) == pytest.approx(0.07)


def test_counts_tell_their_noise_without_any_repetition():
    noise = estimate_noise(numbered([0.25], [0.5]), {1: 0.07, 2: 0.02})
    assert noise is not None
    assert (noise.of(1), noise.of(2)) == (0.07, 0.02)
    assert 0.02 < noise.sigma < 0.07


def test_counts_of_one_program_say_nothing_of_what_others_repeat_like():
    assert estimate_noise(numbered([0.25], [0.5]), {1: 0.0005}) is None


def test_what_varies_more_than_sampling_alone_keeps_its_noise():
    values = numbered([0.2, 0.4], [0.5, 0.7], [0.1, 0.3])
    alone, counted = estimate_noise(values), estimate_noise(values, dict.fromkeys(values, 0.01))
    assert alone is not None and counted is not None
    assert counted == alone


def test_without_known_noise_means_stay_and_everything_is_uncertain():
    (estimate,) = estimates([1.5], [3], None)
    assert estimate.mean == 1.5
    assert estimate.standard_error == math.inf


@given(SCORES, SIGMA)
def test_a_shrunken_mean_lies_between_the_own_mean_and_the_priors(scores, sigma):
    means, counts = zip(*scores, strict=True)
    prior = fit_prior(means, counts, [sigma] * len(means))
    for mean, count in scores:
        shrunken = shrink(mean, count, sigma, prior).mean
        slack = 1e-9 * (abs(mean) + abs(prior.mean) + 1)
        assert min(mean, prior.mean) - slack <= shrunken <= max(mean, prior.mean) + slack


@given(FITNESS, COUNTS, SIGMA, FITNESS, st.floats(0.01, 10))
def test_more_evaluations_shrink_less_and_are_surer(mean, count, sigma, centre, spread):
    prior = Prior(centre, spread, 0.0)
    few, more = (shrink(mean, n, sigma, prior) for n in (count, count + 1))
    assert abs(more.mean - mean) <= abs(few.mean - mean) + 1e-9
    assert more.standard_error <= few.standard_error + 1e-12


@given(st.lists(FITNESS, min_size=2, max_size=20), COUNTS, SIGMA)
def test_equal_evidence_keeps_its_order(means, count, sigma):
    shrunken = estimates(means, [count] * len(means), [sigma] * len(means))
    order = np.argsort(means, kind="stable")
    values = [shrunken[i].mean for i in order]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(values))


def test_a_lucky_single_evaluation_does_not_outrank_many_good_ones():
    crowd = [0.0, 0.5, -0.5, 0.2, -0.2, 0.1, -0.1]
    shrunken = estimates([*crowd, 1.2, 1.1], [1] * 7 + [1, 10], [1.0] * 9)
    assert shrunken[-1].mean > shrunken[-2].mean


def test_a_noisier_program_is_trusted_less():
    crowd = [0.0, 0.5, -0.5, 0.2, -0.2, 0.1, -0.1]
    shrunken = estimates([*crowd, 1.2, 1.1], [1] * 9, [0.2] * 7 + [2.0, 0.2])
    assert shrunken[-1].mean > shrunken[-2].mean


def test_where_all_look_alike_each_is_as_uncertain_as_their_common_mean():
    for estimate in estimates([0.1, -0.1, 0.2, -0.2], [1] * 4, [1.0] * 4):
        assert 0.45 < estimate.standard_error < 0.55


def test_a_disaster_does_not_make_every_lead_look_real():
    counts = [1] * 9
    calm = [0.0, 0.3, -0.3, 0.6, -0.6, 0.9, -0.9, 0.1]
    without = estimates(calm, counts[:8], [1.0] * 8)
    beside = estimates([*calm, -1000.0], counts, [1.0] * 9)
    assert beside[5].mean == pytest.approx(without[5].mean, abs=0.05)


def test_leaders_that_are_truly_ahead_are_believed_after_three_evaluations():
    rng = np.random.default_rng(4)
    errors = []
    for _ in range(200):
        means = [*rng.normal(0, 1, 50), *rng.normal(3, 3**-0.5, 5)]
        shrunken = estimates(means, [1] * 50 + [3] * 5, [1.0] * 55)
        errors.append(np.mean([one.mean for one in shrunken[50:]]) - 3)
    assert abs(np.mean(errors)) < 0.3


def test_a_machine_is_contended_only_beyond_a_tenth_above_the_norm_of_four_readings():
    assert not is_contended(9.0, [1.0, 1.0, 1.0])
    assert not is_contended(1.09, [1.0, 1.0, 1.0, 1.0])
    assert is_contended(1.11, [1.0, 1.0, 1.0, 1.0])
    assert not is_contended(1.11, [1.0, 1.0, 1.1, 1.2, 1.1])
