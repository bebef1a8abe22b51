"""What is measured of a training beside it."""

import threading
import time
from typing import Any

import pytest

from evaluate.gauges import Gauges, account
from evaluate.warm import Exit

BUSY = {"delivered": {"steps": 3, "tokens": 60, "train_s": 2.0, "handin_s": 0.1, "arrived": 5.0}}


def measured(gauges: Gauges, events: dict[str, Any], ended: Exit | None = None) -> dict[str, float]:
    return {row.name: row.value for row in gauges.measurements(events, ended, 1.5, None)}


def test_a_slow_look_at_the_device_keeps_no_hand_in_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    def slow(device: str) -> int:
        answered.wait(30)
        return 7

    monkeypatch.setattr("evaluate.gauges.memory_used_bytes", slow)
    gauges = Gauges("cuda", ())
    gauges.look_at_device()
    assert gauges.peak_device_bytes == 0
    answered.set()
    while gauges.peak_device_bytes == 0:
        time.sleep(0.01)
    assert measured(gauges, {}) == {"peak_device_bytes": 7}


def test_what_others_took_of_the_cores_is_what_the_training_did_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings = iter((100.0, 107.0))
    monkeypatch.setattr("evaluate.gauges.busy_s", lambda cores: next(readings))
    gauges = Gauges("cpu", (0, 1))
    gauges.begin()
    gauges.end(wall_s=5.0, own_s=6.0)
    assert measured(gauges, {}) == {"foreign_share": pytest.approx(0.1)}


def test_where_nobody_counts_the_cores_time_nothing_is_said_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evaluate.gauges.busy_s", lambda cores: None)
    gauges = Gauges("cpu", (0,))
    gauges.begin()
    gauges.end(wall_s=5.0, own_s=1.0)
    assert measured(gauges, {}) == {}


def test_an_account_is_measured_as_its_feeder_told_it() -> None:
    assert account({}) == {}
    assert measured(Gauges("cpu", ()), BUSY) == {
        "train_s": 2.0,
        "handin_s": 0.1,
        "steps": 3,
        "tokens": 60,
        "tokens_per_s": 30.0,
    }


def test_a_process_that_has_ended_tells_what_it_took_and_how_quickly_it_died() -> None:
    ended = Exit(code=0, cpu_s=1.0, peak_rss_bytes=99, at=5.5)
    found = measured(Gauges("cpu", ()), BUSY, ended)
    assert (found["cpu_s"], found["peak_memory_bytes"], found["death_s"]) == (1.5, 99, 0.5)
    assert "death_s" not in measured(Gauges("cpu", ()), {}, ended)
