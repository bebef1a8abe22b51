import numpy as np
import pytest

from mutate.gaussian import OWN, fit

RNG = np.random.default_rng(0)


def sampled(count: int, dimensions: int = 4, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    points = RNG.random((count, dimensions))
    return points, truth(points) + RNG.normal(0.0, noise, count)


def truth(points: np.ndarray) -> np.ndarray:
    """A ridge in the first coordinate, a slope in the second; the others do nothing."""
    values: np.ndarray = 100 + 3 * np.sin(5 * points[:, 0]) + points[:, 1]
    return values


def test_it_foretells_what_it_was_not_told() -> None:
    process = fit(*sampled(60))
    points, values = sampled(200)
    means, _ = process.predict(points)
    assert np.corrcoef(means, values)[0, 1] > 0.99


def test_its_doubt_covers_its_errors_and_grows_away_from_what_it_was_told() -> None:
    told, values = sampled(60)
    process = fit(told, values)
    points, expected = sampled(400)
    means, deviations = process.predict(points)
    assert (np.abs(means - expected) < 3 * deviations).mean() > 0.95
    _, known = process.predict(told)
    _, alien = process.predict(np.full((1, 4), 3.0))
    assert alien[0] > 3 * known.max()


def test_what_does_nothing_gets_a_long_scale() -> None:
    process = fit(*sampled(80))
    assert process.scales.lengths[2:].min() > 2 * process.scales.lengths[0]


def test_noise_is_not_followed() -> None:
    told, values = sampled(100, noise=0.5)
    means, _ = fit(told, values).predict(told)
    assert np.std(means - truth(told)) < 0.7 * np.std(values - truth(told))


def test_draws_have_its_mean_and_its_doubt() -> None:
    process = fit(*sampled(20))
    points = RNG.random((30, 4))
    draws = np.array([process.draw(points, RNG) for _ in range(4000)])
    means, deviations = process.predict(points)
    np.testing.assert_allclose(draws.mean(0), means, atol=0.1 * deviations.max())
    np.testing.assert_allclose(draws.std(0), deviations, rtol=0.1, atol=0.01)


def test_a_draw_is_one_function_twins_agree() -> None:
    process = fit(*sampled(10))
    points = np.tile(RNG.random(4), (2, 1))
    first, second = process.draw(points, RNG)
    _, (doubt, _) = process.predict(points)
    assert abs(first - second) < 0.05 * doubt


@pytest.mark.parametrize("count", [2, 5, 60, 200])
def test_a_draw_at_a_hundred_twins_and_at_what_is_known_exactly_exists(count: int) -> None:
    told, values = sampled(count)
    groups = np.arange(count) % 3
    for process in (fit(told, values), fit(told, 1e9 * values, groups), fit(told, 0 * values)):
        points = np.vstack([np.tile(told[0], (100, 1)), told])
        assert np.isfinite(process.draw(points, RNG)).all()


def test_equal_values_and_twins_do_not_break_it() -> None:
    points = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9]])
    means, deviations = fit(points, np.full(3, 7.0)).predict(points)
    np.testing.assert_allclose(means, 7.0)
    assert np.isfinite(deviations).all()


def test_groups_share_a_surface_and_keep_levels_of_their_own() -> None:
    points, values = sampled(90)
    groups = np.arange(90) % 3
    process = fit(points, values + np.array([0.0, 8.0, -8.0])[groups], groups)
    means, _ = process.predict(points)
    assert np.abs(means - truth(points)).mean() < 0.2  # as of group 0


def test_what_other_groups_scored_says_where_and_not_how_well() -> None:
    points, values = sampled(60)
    groups = np.where(np.arange(60) < 3, OWN, 1)
    process = fit(points, np.where(groups == OWN, values, values + 50.0), groups)
    there, expected = sampled(200)
    means, _ = process.predict(there)
    assert np.corrcoef(means, expected)[0, 1] > 0.95
    assert abs(np.mean(means - expected)) < 2.0
