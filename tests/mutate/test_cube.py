import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mutate.cube import Cube
from mutate.genome import constants
from mutate.ranges import Value

PROGRAM = """
WIDTH = 64  # one of 32, 64, 128
LR = 0.02  # log 0.002..0.2
DEPTH = 2  # 1..4
KIND = "b"  # one of a, b, c, d
deliver()
"""
DECLARED = constants(PROGRAM)
POINT: dict[str, Value] = {c.name: c.value for c in DECLARED}


def test_a_share_is_the_place_of_a_value_on_the_scale_of_its_range() -> None:
    shares = Cube(DECLARED).shares(POINT)
    np.testing.assert_allclose(shares, [0.5, 0.5, 1 / 3, 1 / 3])


def test_unordered_choices_are_equally_far_from_each_other() -> None:
    cube = Cube(DECLARED)
    at = np.array([cube.shares(POINT | {"KIND": kind}) for kind in "abcd"])
    features = cube.features(at)
    apart = {
        round(float(np.linalg.norm(a - b)), 9)
        for i, a in enumerate(features)
        for b in features[:i]
    }
    assert len(apart) == 1


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    chance=st.floats(0.0, 1.0),
    deviation=st.floats(0.01, 1.0),
)
def test_a_moved_point_has_values_of_the_ranges_and_keeps_what_did_not_move(
    seed: int, chance: float, deviation: float
) -> None:
    cube, rng = Cube(DECLARED), np.random.default_rng(seed)
    start = cube.shares(POINT)
    for shares in cube.moved(np.tile(start, (20, 1)), chance, deviation, rng):
        point = cube.point(shares, POINT)
        assert all(point[c.name] in c.range for c in DECLARED)
        kept = np.isclose(shares, start)
        assert all(point[c.name] == c.value for c, same in zip(DECLARED, kept, strict=True) if same)
        np.testing.assert_allclose(cube.shares(point), shares, atol=1e-3)


def test_at_least_one_coordinate_moves_in_each_row() -> None:
    shares = np.full((200, 4), 0.5)
    moved = Cube(DECLARED).moved(shares, 0.0, 0.3, np.random.default_rng(1))
    dense = moved[:, 1] != 0.5
    assert dense.mean() > 0.15
    assert (np.abs(moved - shares) > 0).sum(1).max() == 1
