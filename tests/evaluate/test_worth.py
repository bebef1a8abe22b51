"""The smallest leak that is found is told in the units in which programs differ."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import prepare
from evaluate.worth import compared, worth_of_a_nat


def test_a_nat_per_token_is_told_in_units_of_the_metric(text_data: Path) -> None:
    worth = worth_of_a_nat(prepare, text_data, "selection")
    assert worth == pytest.approx(
        1 / math.log(2), rel=1e-3
    )  # bytes are tokens here, and bits asked


@pytest.mark.parametrize("of_nats", [math.exp, lambda nats: 0.5], ids=["perplexity", "accuracy"])
def test_no_worth_is_told_of_a_metric_that_is_no_sum_of_nats(of_nats: Any, text_data: Path) -> None:
    def metric(log_probs: Any, directory: Path, shard: str) -> float:
        return float(of_nats(prepare.metric(log_probs, directory, shard) * math.log(2)))

    other: Any = SimpleNamespace(metric=metric, settings=prepare.settings)
    assert worth_of_a_nat(other, text_data, "selection") is None


def test_a_leak_is_compared_with_the_noise() -> None:
    said = "a leak of 0.0040 val_bpb is found with 99% probability"
    assert compared(0.002, 2.0, 0.006, "val_bpb") == f"{said}, below the noise"
    assert compared(0.002, 2.0, 0.003, "val_bpb").startswith(f"{said}: gains below that")
    assert compared(0.002, 2.0, None, "val_bpb") == compared(0.002, 2.0, 0.0, "val_bpb") == said
