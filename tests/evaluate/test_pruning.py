"""The hopeless are ended early, the honest never: rules, and real trainings under small budgets."""

from dataclasses import replace

import pytest

from evaluate.pruning import HopelessError, Seen, check_losses, check_pace
from population.individual import Failed, Pace, Result, Scored, Stage
from population.task import Budget, BudgetKind

from .conftest import TRAIN, Trial, program

PARENT = Pace(steps=1000, tokens=1_000_000, comparability="key")
SLOW = Seen(
    spent_s=60, left_s=240, finished=12, steps=12, tokens=12_000, largest=1000, fastest_s=5.0
)
"""Of 300 s a fifth is over: 60 of the parent's 1,000 steps would fit."""


def ends(seen: Seen, pace: Pace | None = PARENT) -> bool:
    try:
        check_pace(seen, pace)
    except HopelessError as error:
        return error.reason == "too_slow"
    return False


def test_who_is_far_below_the_parent_in_steps_and_in_tokens_is_ended() -> None:
    assert ends(SLOW)


@pytest.mark.parametrize(
    "seen",
    [
        replace(SLOW, spent_s=59, left_s=241),
        replace(SLOW, spent_s=1.9, left_s=4, steps=3, finished=3),
        replace(SLOW, spent_s=241, left_s=59),
        replace(SLOW, finished=2, steps=3),
        replace(SLOW, fastest_s=2.0),
        replace(SLOW, tokens=24_000, largest=8000),
        replace(SLOW, fastest_s=0.1),
    ],
    ids=[
        "too early",
        "before two seconds",
        "at the end",
        "after two steps",
        "not far enough below",
        "few large batches",
        "one quick step among slow ones",
    ],
)
def test_who_may_still_come_to_something_is_not(seen: Seen) -> None:
    assert not ends(seen)


def test_a_program_whose_batches_grow_is_not_ended() -> None:
    tokens = steps = 0
    spent_s, latest = 0.0, list[float]()
    for size in (
        [200] * 60 + [1000] * 60 + [8000] * 60
    ):  # early on, a twentieth of its parent's tokens
        step_s = 1.0 + size / 8000
        spent_s, tokens, steps = spent_s + step_s, tokens + size, steps + 1
        latest = [*latest[-31:], step_s]
        left_s = max(0.0, 300 - spent_s)
        assert not ends(Seen(spent_s, left_s, steps, steps, tokens, size, min(latest)))


def test_without_a_parent_only_silence_ends_a_training() -> None:
    assert not ends(SLOW, None)
    compiling = Seen(149, 151, 1, 2, 2000, 1000, fastest_s=140.0)
    assert not ends(compiling, None)
    assert ends(replace(compiling, spent_s=150, left_s=150), None)
    assert ends(Seen(150, 150, 0, 1, 1000, 1000, fastest_s=None), None)
    assert not ends(replace(compiling, spent_s=150, left_s=150, finished=2), None)


def test_losses_that_stay_not_finite_end_a_training_and_fewer_than_three_in_a_row_do_not() -> None:
    check_losses(2)
    with pytest.raises(HopelessError, match="learning rate") as caught:
        check_losses(3)
    assert caught.value.reason == "not_finite"


LONG = Budget(BudgetKind.SECONDS, 10.0, room_s=0.5)
SHORT = Budget(BudgetKind.SECONDS, 3.0, room_s=0.5)
WAIT = "    import time; time.sleep({seconds})\n"


def failure(result: Result, reason: str) -> Failed:
    assert isinstance(result.outcome, Failed), result
    assert (result.outcome.stage, result.outcome.reason) == (Stage.TRAINING, reason), result
    return result.outcome


def test_a_training_whose_loss_is_no_number_ends_after_three_reports(trial: Trial) -> None:
    poison = "model.head.bias.data.fill_(float('nan'))"
    result = trial(program(in_loop=f"    if run.progress > 0.05: {poison}\n"), LONG)
    assert "not finite" in failure(result, "not_finite").detail
    assert (result.measured("saved_s") or 0) > 0.0
    assert (result.measured("steps") or 0) > 3
    assert result.curve


def test_reports_that_are_not_finite_now_and_then_or_before_the_clock_end_nothing(
    trial: Trial,
) -> None:
    nan = "run.report(float('nan'))\n"
    now_and_then = program(before_clock=4 * nan, in_loop=2 * f"    {nan}")
    assert isinstance(trial(now_and_then).outcome, Scored)


def test_a_child_far_slower_than_its_parent_is_ended_early_on_the_same_kind_of_device(
    trial: Trial,
) -> None:
    slow = program(in_loop=WAIT.format(seconds=0.4))  # it is never silent for `LOOK_S`
    honest = trial(program(), SHORT)
    steps = max(400.0, honest.measured("steps") or 0)  # a machine that is busy does fewer
    pace = Pace(steps, steps * 512, honest.comparability.key)
    ended = trial(slow, LONG, pace=pace)
    assert "its parent did" in failure(ended, "too_slow").detail
    assert (ended.measured("saved_s") or 0) > 0.0
    assert isinstance(trial(program(), SHORT, pace=pace).outcome, Scored)
    assert isinstance(trial(slow, SHORT, pace=replace(pace, comparability="other")).outcome, Scored)


def test_a_long_first_step_is_forgiven(trial: Trial) -> None:
    waits = "    import time; time.sleep(waits.pop() if waits else 0.1)\n"
    compiles = program(before_clock="waits = [1.5]\n", in_loop=waits)
    pace = Pace(100, 100 * 512, trial(program()).comparability.key)
    budget = replace(SHORT, amount=4.0)
    assert isinstance(trial(compiles, budget, pace=pace).outcome, Scored)


def test_a_program_that_waits_for_ever_is_ended_at_half_of_its_budget(trial: Trial) -> None:
    hangs = trial(program(in_loop=WAIT.format(seconds=60)), replace(LONG, amount=5.0))
    assert "waits for something" in failure(hangs, "too_slow").detail
    assert 0.0 < (hangs.measured("saved_s") or 0) <= 2.5


def test_nothing_is_too_slow_where_time_is_not_the_budget(trial: Trial) -> None:
    pace = Pace(1e9, 1e12, trial(program()).comparability.key)
    waits = program(
        train=TRAIN.replace("batches(4):", "batches(4):\n    import time; time.sleep(0.15)")
    )
    assert isinstance(trial(waits, pace=pace).outcome, Scored)
