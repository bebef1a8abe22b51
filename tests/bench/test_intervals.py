import math

import numpy as np
import pytest

from bench.intervals import (
    better_half,
    holm,
    paired_difference,
    rank_correlation,
    signed_rank,
    t_quantile,
)


@pytest.mark.parametrize(
    ("probability", "dof", "expected"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 4, 2.776),
        (0.95, 5, 2.015),
        (0.995, 6, 3.707),
        (0.975, 9, 2.262),
        (0.995, 10, 3.169),
        (0.9, 29, 1.311),
        (0.975, 120, 1.980),
    ],
)
def test_quantiles_of_students_t_equal_the_printed_tables(probability, dof, expected):
    assert t_quantile(probability, dof) == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize(("probability", "dof"), [(0.4, 3), (1.0, 3), (0.9, 0)])
def test_quantiles_outside_their_range_are_refused(probability, dof):
    with pytest.raises(ValueError, match="expected"):
        t_quantile(probability, dof)


def test_the_difference_is_that_of_the_means_and_its_width_that_of_the_pairs():
    difference, half_width = paired_difference([2.0, 2.1, 1.9], [2.5, 2.61, 2.39])
    assert difference == pytest.approx(-0.5)
    assert half_width == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)
    assert paired_difference([1.0], [9.0]) == (-8.0, math.inf)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(1000):
        difference, half_width = paired_difference(list(rng.normal(1, 1, 3)), [0.0] * 3)
        covered += abs(difference - 1) <= half_width
    assert 930 <= covered <= 970


def test_p_values_are_corrected_for_their_number_and_keep_their_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_that_do_not_differ_decide_nothing() -> None:
    assert signed_rank([0.0, 0.0]) == 1.0
    assert signed_rank([]) == 1.0
    assert signed_rank([float(n) for n in range(1, 21)]) < 1e-4


def test_ranks_are_compared_of_all_pairs_and_of_the_better_half():
    pairs = [(4.0, 4.0), (2.0, 1.0), (1.0, 2.0), (3.0, 3.0), (6.0, 6.0), (5.0, 5.0)]
    assert rank_correlation(pairs) == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert better_half(pairs) == [(1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]
    assert rank_correlation(better_half(pairs)) == pytest.approx(0.5)


def test_fewer_than_three_pairs_have_no_rank_correlation():
    assert math.isnan(rank_correlation([(1.0, 2.0), (2.0, 1.0)]))
    assert math.isnan(rank_correlation([]))
