"""Fused operators are run on shapes that fit, and refused on all others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from evaluate.container import HandInError
from evaluate.operands import check_operands

ATEN = torch.ops.aten
ATTENTION = ATEN.scaled_dot_product_attention.default
LSTM, GRU, GROUPED = ATEN.lstm.input, ATEN.gru.input, ATEN._grouped_mm.default


def run(operator: Any, *args: Any, **kwargs: Any) -> Any:
    check_operands(operator, list(args), kwargs)
    return operator(*args, **kwargs)


def heads(length: int, width: int = 8) -> torch.Tensor:
    return torch.randn(2, 2, length, width)


def weights(gates: int, inputs: int, width: int) -> list[torch.Tensor]:
    rows = gates * width
    shapes = [(rows, inputs), (rows, width), (rows,), (rows,)]
    return [torch.randn(shape) for shape in shapes]


def recurrent(
    operator: Any, states: Any, params: list[torch.Tensor], layers: int = 1, both: bool = False
) -> Any:
    rest = (True, layers, 0.0, False, both, True)
    return run(operator, torch.randn(3, 5, 6), states, params, *rest)


def two(cells: int = 1, batch: int = 3, width: int = 4) -> list[torch.Tensor]:
    return [torch.zeros(cells, batch, width)] * 2


HONEST: dict[str, Callable[[], Any]] = {
    "attention": lambda: run(ATTENTION, heads(9), heads(9), heads(9, 4), is_causal=True),
    "attention of few to many": lambda: run(ATTENTION, heads(3), heads(9), heads(9)),
    "attention with shared heads": lambda: run(ATTENTION, heads(9), heads(9)[:, :1], heads(9)[:, :1]),
    "a recurrent layer": lambda: recurrent(LSTM, two(), weights(4, 6, 4)),
    "two layers in both directions": lambda: recurrent(
        LSTM, two(4), weights(4, 6, 4) * 2 + weights(4, 8, 4) * 2, 2, True
    ),
    "a gated layer": lambda: recurrent(GRU, two()[0], weights(3, 6, 4)),
    "a grouped product": lambda: run(
        GROUPED, torch.randn(16, 16).bfloat16(), torch.randn(2, 16, 16).bfloat16(),
        torch.tensor([4, 16], dtype=torch.int32),
    ),
    "an operator that needs no check": lambda: run(ATEN.add.Tensor, heads(1), heads(1)),
}  # fmt: skip

HOSTILE: dict[str, Callable[[], Any]] = {
    "a value shorter than its key": lambda: run(ATTENTION, heads(9), heads(9), heads(1)),
    "a key shorter than its value": lambda: run(ATTENTION, heads(9), heads(1), heads(9)),
    "a key narrower than its query": lambda: run(ATTENTION, heads(9), heads(9, 4), heads(9)),
    "no tensor at all": lambda: run(ATTENTION, heads(9), heads(9), 7),
    "weights of another width": lambda: recurrent(LSTM, two(), weights(4, 6, 2)),
    "weights of fewer gates": lambda: recurrent(LSTM, two(), weights(3, 6, 4)),
    "weights for fewer inputs": lambda: recurrent(LSTM, two(), weights(4, 5, 4)),
    "a short bias": lambda: recurrent(
        LSTM, two(), [*weights(4, 6, 4)[:2], torch.randn(1), torch.randn(1)]
    ),
    "weights of one layer for two": lambda: recurrent(LSTM, two(2), weights(4, 6, 4), 2),
    "states of fewer rows": lambda: recurrent(LSTM, two(batch=1), weights(4, 6, 4)),
    "a short bias of a gated layer": lambda: recurrent(
        GRU, two()[0], [*weights(3, 6, 4)[:2], torch.randn(1), torch.randn(1)]
    ),
    **{
        f"offsets {offsets}": lambda offsets=offsets: run(
            GROUPED, torch.randn(16, 16).bfloat16(), torch.randn(2, 16, 16).bfloat16(),
            torch.tensor(offsets, dtype=torch.int32),
        )
        for offsets in ([8, 999], [-8, 16], [16, 8], [4, 8], [])
    },
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_what_fits_is_run(name: str) -> None:
    HONEST[name]()


@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_not_fit_is_refused_before_it_runs(name: str) -> None:
    with pytest.raises(HandInError):
        HOSTILE[name]()
