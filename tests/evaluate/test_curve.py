import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evaluate.curve import POINTS, Curve


def reported(losses: list[float]) -> list[tuple[float, float]]:
    curve = Curve()
    for number, loss in enumerate(losses, 1):
        curve.add(number / len(losses), loss)
    return curve.told()


def test_few_losses_are_told_as_they_were_reported() -> None:
    assert reported([5.0, 4.0, 3.0]) == [(0.3333, 5.0), (0.6667, 4.0), (1.0, 3.0)]


@given(st.integers(1, 2_000))
def test_a_curve_has_a_bounded_number_of_points_in_order_and_ends_with_the_latest(n: int) -> None:
    curve = reported(list(np.linspace(6.0, 1.0, n)))
    assert min(n, POINTS // 2) <= len(curve) <= POINTS
    assert curve == sorted(curve)
    assert curve[-1][0] == 1.0


def test_a_point_is_the_mean_of_its_reports_and_not_one_lucky_batch() -> None:
    rng = np.random.default_rng(0)
    losses = [float(loss) for loss in rng.normal(2.0, 0.1, 4_096)]
    told = [loss for _, loss in reported(losses)]
    assert max(abs(loss - 2.0) for loss in told[:-1]) < 0.06  # single ones stray by 0.3
