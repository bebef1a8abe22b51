"""The clock counts the budget in its own currency."""

import time
from collections import deque

import pytest

from evaluate.clock import RECENT_STEPS, Clock


def test_progress_reaches_one_at_the_bell_and_the_room_lies_inside_the_budget() -> None:
    clock = Clock("seconds", 10.0, 0.5, started=time.monotonic() - 9.5)
    assert clock.progress() == 1.0
    assert not clock.late()
    clock.started = time.monotonic() - 10.1
    assert clock.late()


def test_the_bell_leaves_room_for_twice_the_slowest_recent_step_and_no_more_than_is_allowed() -> (
    None
):
    clock = Clock("seconds", 10.0, 0.5, started=time.monotonic())
    assert clock.room() == 0.5  # nothing is known of its steps yet
    clock.recent_s.extend([0.01, 0.02])
    assert clock.room() == pytest.approx(0.09)
    clock.recent_s.append(3.0)
    assert clock.room() == 0.5
    clock.recent_s.extend([0.01] * RECENT_STEPS)
    assert clock.room() == pytest.approx(0.07)


def test_the_copy_of_a_large_hand_in_is_given_its_time_beyond_the_room_for_steps() -> None:
    clock = Clock("seconds", 10.0, 0.3, started=time.monotonic(), copy_s=2.0)
    assert clock.room() == 2.3
    clock.recent_s.append(0.01)
    assert clock.room() == pytest.approx(2.07)


def test_what_is_billed_brings_the_end_nearer_and_steps_have_none_before_the_bell() -> None:
    clock = Clock("seconds", 10.0, 0.3, billed_s=4.0, started=100.0)
    assert clock.ends() == 106.0
    assert Clock("steps", 10, 0.3, started=100.0).ends() is None
    assert Clock("steps", 10, 0.3, started=100.0, bell=200.0, recent_s=deque([0.1])).ends() == 200.7


def test_progress_never_goes_back() -> None:
    clock = Clock("seconds", 10.0, 0.5, started=time.monotonic() - 5.0)
    before = clock.progress()
    clock.recent_s.append(0.001)
    assert clock.progress() >= before > 0.52


def test_billed_start_up_counts_as_used() -> None:
    clock = Clock("seconds", 10.0, 0.5, billed_s=4.0, started=time.monotonic() - 1.0)
    assert clock.used() == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize(("kind", "used"), [("steps", 7.0), ("tokens", 700.0)])
def test_steps_and_tokens_do_not_depend_on_time(kind: str, used: float) -> None:
    clock = Clock(kind, used * 2, 0.1, started=time.monotonic() - 1000, steps=7, tokens=700)
    assert (clock.used(), clock.progress()) == (used, 0.5)
    assert not clock.late()
