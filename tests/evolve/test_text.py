import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from evolve.text import call, clean, columns, duration, half_width, one_line


@given(st.text())
def test_cleaned_text_cannot_steer_a_terminal(text: str) -> None:
    assert all(c in "\n\t" or c.isprintable() for c in clean(text))


def test_escapes_and_direction_marks_are_written_out() -> None:
    assert clean("a\x1b[2Jb\r\u202ec\x9b") == "a\\x1b[2Jb\\r\\u202ec\\x9b"


@given(st.text(), st.integers(min_value=2, max_value=80))
def test_one_line_is_one_line_of_the_given_width(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width
    assert "\n" not in line


def test_columns_align_numbers_right_and_text_left() -> None:
    assert columns(["id", "name"], [[1, "a"], [20, "bc"], [None, "d"]]).splitlines() == [
        "id  name",
        " 1  a",
        "20  bc",
        " -  d",
    ]


def test_a_command_that_is_advised_can_be_pasted_into_a_shell() -> None:
    assert call("run", Path("runs/night")) == "`evolve run --run night`"
    assert call("stop", Path("/my runs/night")) == "`evolve stop --run night --runs '/my runs'`"


def test_durations_read_like_a_clock() -> None:
    assert [duration(s) for s in (42, 185, 7630)] == ["42 s", "3 min 05 s", "2 h 07 min"]


def test_an_unknown_error_has_no_interval() -> None:
    assert half_width(None) is None
    assert half_width(math.inf) is None
    assert half_width(1.0) == 1.96
