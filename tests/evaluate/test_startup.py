"""Before the clock a program may compile for free, and may not train on the card for free."""

from pathlib import Path

import pytest
import torch

from evaluate import startup, training
from evaluate.startup import Computing
from population.individual import Scored
from population.task import Budget, BudgetKind
from tests.evaluate.conftest import Trial, program
from tests.evaluate.test_device import answering

SLEEPS = "__import__('time').sleep(2)\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "PERIOD_S", (0.02, 0.05))
    monkeypatch.setattr(startup, "FREE_S", 0.5)


def looked_at(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Computing:
    """Return a device that was watched for three seconds, by a clock that only looks move."""
    answering(folder, script, monkeypatch)
    moments = iter(range(100))
    monkeypatch.setattr("evaluate.startup.time.monotonic", lambda: float(next(moments)))
    computing = Computing("cuda")
    computing.watch()
    computing.end()
    for _ in range(2):
        computing._look()
    return computing


def test_seconds_in_which_the_card_computes_are_added_up_and_billed_beyond_the_free_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "FREE_S", 2.0)
    computing = looked_at("echo 90", tmp_path, monkeypatch)
    assert computing.billed_s() == pytest.approx(0.7)
    assert computing.device_s == pytest.approx(2.7)


def test_what_compiles_on_processors_pays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computing = looked_at("echo 2", tmp_path, monkeypatch)
    assert computing.billed_s() == 0.0
    assert computing.device_s == pytest.approx(0.06)


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'"])
def test_a_device_that_does_not_tell_bills_nothing_and_measures_nothing(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computing = looked_at(script, tmp_path, monkeypatch)
    assert computing.billed_s() == 0.0
    assert computing.device_s is None


def test_a_look_that_was_under_way_when_the_bill_was_made_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computing = looked_at("echo 90", tmp_path, monkeypatch)
    computing.billed_s()
    billed = computing.device_s
    computing._look()
    assert computing.device_s == billed


def on_a_card_that_always_computes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(folder, "echo 100", monkeypatch)
    monkeypatch.setattr(training, "Computing", lambda _: Computing("cuda"))
    monkeypatch.setattr("evaluate.trial._startup_allowance_s", lambda *_: None)  # the processor's


def test_a_program_that_computes_before_the_clock_has_so_much_less_of_its_budget(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    on_a_card_that_always_computes(tmp_path, monkeypatch)
    budget = Budget(BudgetKind.SECONDS, 6.0, room_s=1.0)
    result = trial(program(before_clock=SLEEPS), budget=budget)
    assert isinstance(result.outcome, Scored), result
    billed_s, on_card_s = result.measured("billed_s"), result.measured("startup_device_s")
    assert billed_s is not None and on_card_s is not None
    assert billed_s == pytest.approx(on_card_s - 0.5)
    assert billed_s > 1.0
    train_s = result.measured("train_s")
    assert train_s is not None
    assert train_s <= 6.0 - billed_s


def test_under_a_budget_in_steps_nothing_is_billed(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    on_a_card_that_always_computes(tmp_path, monkeypatch)
    result = trial(program(before_clock=SLEEPS))
    assert isinstance(result.outcome, Scored), result
    assert result.measured("billed_s") == 0.0
    assert result.measured("steps") == 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_computing_before_the_clock_is_billed_and_waiting_is_not(trial: Trial) -> None:
    computes = """
import time
ends, a = time.monotonic() + 9.0, torch.ones(4096, 4096, device=run.device)
while time.monotonic() < ends:
    (a @ a).sum().item()
"""
    billed = []
    for before in (computes, "__import__('time').sleep(9)\n"):
        source = program(before_clock=before)
        source = source.replace("Model(run.vocab_size)", "Model(run.vocab_size).to(run.device)")
        budget = Budget(BudgetKind.SECONDS, 20.0, room_s=1.0)
        result = trial(source, device="cuda", budget=budget)
        assert isinstance(result.outcome, Scored), result
        billed.append(result.measured("billed_s"))
    assert billed[0] is not None and billed[0] > 2.0
    assert billed[1] == 0.0
