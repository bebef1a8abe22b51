import numpy as np

from mutate.cube import features, shares
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
    np.testing.assert_allclose(shares(DECLARED, POINT), [0.5, 0.5, 1 / 3, 1 / 3])


def test_features_are_the_shares_of_all_that_is_ordered() -> None:
    (row,) = features(DECLARED, [POINT])
    np.testing.assert_allclose(row[:3], [0.5, 0.5, 1 / 3])


def test_unordered_choices_are_equally_far_from_each_other() -> None:
    rows = features(DECLARED, [POINT | {"KIND": kind} for kind in "abcd"])
    apart = {round(float(np.linalg.norm(a - b)), 9) for i, a in enumerate(rows) for b in rows[:i]}
    assert len(apart) == 1
    assert apart != {0.0}
