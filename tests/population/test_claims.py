import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from population.claims import ERROR_BUDGET, bound, compare, error_share, fewest_pairs
from population.statistics import Count
from population.task import Direction

MOST = 30
RUNS = 4000


def student(differences):
    """The t statistic of each row after 1, 2 ... columns: shape (runs, pairs)."""
    pairs = np.arange(1, differences.shape[1] + 1)
    means = np.cumsum(differences, axis=1) / pairs
    squares = np.cumsum(differences**2, axis=1) - pairs * means**2
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.sqrt(squares / (pairs - 1) / pairs)
        return np.where(errors > 0, means / errors, 0.0)


def bounds(error):
    return np.array([bound(pairs, error) for pairs in range(1, MOST + 1)])


def share_ever(passed):
    return passed.any(axis=1).mean()


@pytest.mark.parametrize("noise", ["normal", "heavy tails", "a noisier champion"])
def test_looking_after_every_pair_claims_nothing_false_more_often_than_stated(noise):
    rng = np.random.default_rng(1)
    shape = RUNS, MOST
    champion = {
        "normal": rng.normal(size=shape),
        "heavy tails": rng.standard_t(4, size=shape),
        "a noisier champion": 5 * rng.normal(size=shape),
    }[noise]
    t = student(champion - rng.normal(size=shape))
    assert share_ever(t > bounds(0.10)) < 0.05  # half of it on either side
    assert share_ever(t > bounds(0.02)) < 0.01


def test_the_interval_holds_the_truth_at_all_numbers_of_pairs_at_once():
    t = student(np.random.default_rng(2).normal(size=(RUNS, MOST)))
    assert share_ever(abs(t) > bounds(0.05)) < 0.05


def test_a_gain_of_three_sigma_is_nearly_always_found_within_twelve_pairs():
    rng = np.random.default_rng(3)
    t = student(3 + rng.normal(size=(RUNS, 12)) - rng.normal(size=(RUNS, 12)))
    assert share_ever(t > bounds(2 * ERROR_BUDGET * error_share(1))[:12]) > 0.95


def test_four_times_the_gain_is_found_in_half_of_the_pairs():
    rng = np.random.default_rng(4)
    t = student(12 + rng.normal(size=(RUNS, 6)) - rng.normal(size=(RUNS, 6)))
    assert share_ever(t > bounds(2 * ERROR_BUDGET * error_share(1))[:6]) > 0.99


def test_the_comparisons_of_a_run_share_one_budget_however_many_they_are():
    shares = [error_share(comparison) for comparison in range(1, 10_000)]
    assert 0.9998 < sum(shares) < 1
    assert shares == sorted(shares, reverse=True)


@given(st.integers(1, 12), st.floats(1e-6, 0.05))
def test_less_error_or_fewer_pairs_need_more_evidence(pairs, error):
    assert bound(pairs, error) >= bound(pairs, 2 * error)
    assert bound(pairs, error) >= bound(pairs + 1, error)


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=20),
    st.floats(1e-4, 0.02),
)
def test_whoever_is_claimed_to_be_better_has_zero_outside_the_interval(pairs, error):
    ours, theirs = zip(*pairs, strict=True)
    claim = compare(ours, theirs, Direction.MAXIMIZE, error)
    turned = compare(theirs, ours, Direction.MINIMIZE, error)
    assert claim.better == turned.better
    assert not (claim.better and claim.worse)
    if claim.better:
        assert claim.difference > claim.half_width


def test_the_direction_says_which_side_of_zero_is_better():
    champion, founder = [2.0, 2.1, 1.9] * 3, [2.5, 2.61, 2.39] * 3
    claim = compare(champion, founder, Direction.MINIMIZE, 0.005)
    assert claim.difference == pytest.approx(-0.5)
    assert claim.half_width == pytest.approx(bound(9, 0.05) * 0.0087 / 3, rel=0.01)
    assert claim.better
    assert compare(champion, founder, Direction.MAXIMIZE, 0.005).worse
    assert compare(founder, champion, Direction.MAXIMIZE, 0.005).better


def test_one_pair_claims_nothing_however_far_apart_the_two_are():
    claim = compare([1.0], [9.0], Direction.MINIMIZE, 0.005)
    assert claim.half_width == math.inf
    assert not claim.better


def test_values_that_are_no_pairs_are_refused():
    with pytest.raises(ValueError, match="1 of the champion and 2 of the founder"):
        compare([1.0], [1.0, 2.0], Direction.MINIMIZE, 0.005)


@pytest.mark.parametrize("error", [0.005, 0.01 / 6, 0.0001])
def test_fewer_pairs_than_a_claim_takes_claim_nothing_however_clear_they_are(error):
    fewest = fewest_pairs(error)
    clear = [float(n) / 1e6 for n in range(fewest)]
    founder = [9.0] * fewest
    assert compare(clear, founder, Direction.MINIMIZE, error).better
    assert not compare(clear[1:], founder[1:], Direction.MINIMIZE, error).better


def test_counted_values_that_agree_by_luck_are_no_surer_than_sampling_allows() -> None:
    ours, theirs = [0.95] * 6, [0.05] * 6
    by_luck = compare(ours, theirs, Direction.MAXIMIZE, 0.005)
    counted = compare(ours, theirs, Direction.MAXIMIZE, 0.005, sampling=0.1)
    assert by_luck.half_width == 0.0
    assert counted.half_width > 0.1
    assert counted.better
    assert not compare(ours, theirs, Direction.MAXIMIZE, 0.005, sampling=1.0).better


def test_the_interval_of_counts_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for trials, rates in ((40, (0.999, 0.001)), (10, (0.99, 0.02)), (5, (0.97, 0.05))):
        held = 0
        for _ in range(300):
            drawn = rng.binomial(trials, rates, size=(6, 2))
            errors = [Count(int(k), trials).error for k in drawn.ravel()]
            least = math.sqrt(2 * float(np.mean(np.square(errors))))
            ours, theirs = (drawn / trials).T.tolist()
            claim = compare(ours, theirs, Direction.MAXIMIZE, 0.005, least)
            held += abs(claim.difference - (rates[0] - rates[1])) <= claim.half_width
        assert held / 300 >= 0.95
