"""The clock counts the budget in its own currency."""

import time

import pytest

from evaluate.feeder import Clock


def test_progress_reaches_one_at_the_bell_and_the_room_lies_inside_the_budget() -> None:
    clock = Clock("seconds", 10.0, 0.5, started=time.monotonic() - 9.5)
    assert clock.progress() == 1.0
    assert not clock.late()
    clock.started = time.monotonic() - 10.1
    assert clock.late()


def test_billed_start_up_counts_as_used() -> None:
    clock = Clock("seconds", 10.0, 0.5, billed_s=4.0, started=time.monotonic() - 1.0)
    assert clock.used() == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize(("kind", "used"), [("steps", 7.0), ("tokens", 700.0)])
def test_steps_and_tokens_do_not_depend_on_time(kind: str, used: float) -> None:
    clock = Clock(kind, used * 2, 0.1, started=time.monotonic() - 1000, steps=7, tokens=700)
    assert (clock.used(), clock.progress()) == (used, 0.5)
    assert not clock.late()
