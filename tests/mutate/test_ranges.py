import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutate.ranges import Choices, Interval, Range, Value, range_of


@pytest.mark.parametrize(
    ("value", "comment", "expected"),
    [
        (0.02, "# log 0.002..0.2", Interval(0.002, 0.2, log=True)),
        (0.02, "# log 2e-3 .. 2E-1; peak", Interval(0.002, 0.2, log=True)),
        (4, "# 2..8", Interval(2, 8, integer=True)),
        (4, "# 2..8 (layers)", Interval(2, 8, integer=True)),
        (16, "# log 1..64, in rows", Interval(1, 64, log=True, integer=True)),
        (0, "# 0..0.2; an integer that stands for a float", Interval(0, 0.2)),
        (-0.05, "# -1..1", Interval(-1, 1)),
        (0.5, "#0..1", Interval(0, 1)),
        (32, "# one of 64, 8, 16; rows", Choices((8, 16, 64))),
        (0.5, "# one of 1, 0.5", Choices((0.5, 1.0))),
        ("SSSL", "# one of SSSL, SSLL, LLLL", Choices(("SSSL", "SSLL", "LLLL"))),
        ("a", "# one of 'a', \"b\" (as the text has it)", Choices(("a", "b"))),
        (True, "# one of True, False", Choices((False, True))),
        (False, "", Choices((False, True), declared=False)),
        (0.02, "", Interval(0.005, 0.08, log=True, declared=False)),
        (0.5, "", Interval(0.125, 0.875, log=True, declared=False)),
        (0.999, "", Interval(0.2497, 0.9998, log=True, declared=False)),
        (0.99999, "", Interval(0.25, 0.99999, log=True, declared=False)),
        (1.5, "", Interval(0.375, 6.0, log=True, declared=False)),
        (0.02, "# what it is", Interval(0.005, 0.08, log=True, declared=False)),
        (0.02, "# log 0..1 has no logarithm", Interval(0.005, 0.08, log=True, declared=False)),
        (0.02, "# 1..0 is empty", Interval(0.005, 0.08, log=True, declared=False)),
        (32, "", Interval(8, 128, log=True, integer=True, declared=False)),
        (1, "", Interval(1, 4, log=True, integer=True, declared=False)),
        (8, "# one of 4, 8, 16.", Choices((4, 8, 16))),
        (8, "# one of 4, 8, 16, powers of two", Choices((4, 8, 16))),
        (8, "# one of 4, 8, or 16: heads", Choices((4, 8, 16))),
        (8, "# one of 4, 8 or 1e400", Choices((4, 8))),
        ("S", "# one of S, SL or L.", Choices(("S", "SL", "L"))),
        (1000, "# log 1e2..1e4", Interval(100, 10_000, log=True, integer=True)),
        (2, "# 1.0..4.0", Interval(1, 4)),
        (4, "# 2..8: layers", Interval(2, 8, integer=True)),
        (4, "# 2..8.", Interval(2, 8, integer=True)),
        (4, "# 01..16", Interval(1, 16, integer=True)),
        (0.5, "# .1..1.", Interval(0.1, 1)),
        (8, f"# 1..{'9' * 400}", Interval(2, 32, log=True, integer=True, declared=False)),
        (8, "# one of {[]: 1}, 4", Interval(2, 32, log=True, integer=True, declared=False)),
        (8, "# one of 4; 8", None),
        (8, "# One of 4, 8, 16", Choices((4, 8, 16))),
        (8, "# one of: 4, 8, 16", Choices((4, 8, 16))),
        (8, "# one of [4, 8, 16]; heads", Choices((4, 8, 16))),
        (8, "# one of (4, 8, 16)", Choices((4, 8, 16))),
        ("a", "# one of {'a', 'b'}", Choices(("a", "b"))),
        (8, "# one of [4; 8]", None),
        (8, "# one offer of 4, 8", Interval(2, 32, log=True, integer=True, declared=False)),
        (0.02, "# Log 0.002..0.2", Interval(0.002, 0.2, log=True)),
        (0.02, "# Fixed by the data", None),
        ("SSSL", "# one of the patterns that we know", None),
        ("SSSL", "", None),
        (0, "", None),
        (-1.5, "", None),
        (0.02, "# fixed", None),
        (0.02, "# fixed by the data", None),
        (float("inf"), "", None),
        (2**70, "# 1..8", None),
    ],
)
def test_a_comment_gives_a_constant_its_range(
    value: Value, comment: str, expected: Range | None
) -> None:
    assert range_of(value, comment) == expected


def test_a_comment_of_blanks_is_read_at_once() -> None:
    assert range_of(8, f"# one of 4{' ' * 200_000}x") is None


@given(st.sampled_from([8, 0.5, "S", True]), st.text("0123456789eE.+-_ ,;:()[]{}'\"log fxd"))
def test_no_comment_is_too_odd_to_be_read(value: Value, comment: str) -> None:
    for text in (comment, f"one of {comment}", f"log {comment}"):
        found = range_of(value, text)
        assert found is None or (value in found) in (True, False)


def test_a_range_that_was_declared_shares_with_its_like_alone() -> None:
    assert Interval(1, 2).shares(Interval(1, 2))
    assert not Interval(1, 2).shares(Interval(1, 3))
    assert not Interval(1, 2).shares(Interval(1, 2, declared=False))
    assert not Interval(1, 2).shares(Choices((1, 2)))


def test_ranges_that_follow_their_values_share() -> None:
    one, other = range_of(0.02, ""), range_of(0.03, "")
    assert one is not None
    assert other is not None
    assert one.shares(other)
    assert not one.shares(Interval(1, 4, log=True, integer=True, declared=False))


RANGES = st.sampled_from(
    [
        Interval(0.002, 0.2, log=True),
        Interval(-1, 1),
        Interval(0.0001234567, 0.000765432, log=True),
        Interval(1, 4, integer=True),
        Interval(1, 512, log=True, integer=True),
        Choices((8, 16, 32, 64)),
        Choices(("a", "b", "c")),
        Choices((False, True)),
    ]
)


@given(RANGES, st.integers(0, 2**32), st.floats(0, 1))
def test_a_step_nearby_ends_inside_the_range_at_another_value(
    range_: Range, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    start: Value | None
    if isinstance(range_, Choices):
        start = range_.values[int(share * (len(range_.values) - 1))]
    else:
        start = range_.fit(range_.low + share * (range_.high - range_.low))
    assert start is not None
    moved = range_.near(start, rng)
    assert moved in range_
    assert range_.fit(moved) == moved
    assert type(moved) is type(start)
    if isinstance(range_, Choices) or range_.integer:
        assert moved != start


def test_a_value_outside_its_range_steps_into_it() -> None:
    rng = np.random.default_rng(0)
    assert Interval(0, 1).near(7.0, rng) in Interval(0, 1)
    assert Interval(1, 4, integer=True).near(9, rng) in Interval(1, 4, integer=True)
    assert Choices((8, 16)).near(3, rng) in Choices((8, 16))


def test_steps_among_ordered_choices_go_to_neighbours_first() -> None:
    range_, rng = Choices(tuple(range(10))), np.random.default_rng(0)
    moves = [abs(int(range_.near(5, rng)) - 5) for _ in range(200)]
    assert np.mean(moves) < 2
