"""Shapes that torch's own kernels do not check: what does not fit is refused before it runs.

Most operators refuse a wrong shape or index themselves. The fused ones below follow some sizes and
offsets past the end of a tensor (measured on torch 2.13, processor: attention with a short value,
a recurrent layer with narrow weights, grouped products with large offsets). Such a read could find
the very text that is scored, so they are checked here.
"""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

from evaluate.container import HandInError

Arguments = dict[str, Any]
Check = Callable[[Arguments], str]


def check_operands(operator: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Check the arguments of one of torch's operators. Raises HandInError."""
    known = _check_of(operator)
    if known is None:
        return
    name, names, check = known
    given = dict(zip(names, args, strict=False)) | kwargs
    try:
        problem = check(given)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        problem = f"arguments of an unexpected kind ({error})"
    if problem:
        raise HandInError(f"{name}: {problem}")


@cache
def _check_of(operator: Any) -> tuple[str, list[str], Check] | None:
    """Return an operator's name, those of its arguments and its check; None where it needs none."""
    schema = getattr(operator, "_schema", None)
    check = None if schema is None else CHECKS.get(schema.name.removeprefix("aten::"))
    if schema is None or check is None:
        return None
    return schema.name, [argument.name for argument in schema.arguments], check


def _attention(given: Arguments) -> str:
    query, key, value = given["query"], given["key"], given["value"]
    if key.shape[-2] != value.shape[-2] or query.shape[-1] != key.shape[-1]:
        shapes = [tuple(tensor.shape) for tensor in (query, key, value)]
        return f"query, key and value do not fit each other: {shapes}"
    return ""


def _recurrent(gates: int) -> Check:
    """Return the check of a recurrent layer whose weights hold `gates` times its width."""

    def check(given: Arguments) -> str:
        states = given["hx"] if isinstance(given["hx"], list) else [given["hx"]]
        width, batch = states[0].shape[-1], given["input"].shape[0 if given["batch_first"] else 1]
        directions = 2 if given["bidirectional"] else 1
        cells = given["num_layers"] * directions
        if any(tuple(state.shape) != (cells, batch, width) for state in states):
            return f"its states are not ({cells}, {batch}, {width})"
        expected: list[tuple[int, ...]] = []
        for cell in range(cells):
            layer = cell // directions
            inputs = directions * width if layer else given["input"].shape[-1]
            expected += [(gates * width, inputs), (gates * width, width)]
            expected += [(gates * width,)] * 2 if given["has_biases"] else []
        if [tuple(weight.shape) for weight in given["params"]] != expected:
            return f"its weights are not {expected}"
        return ""

    return check


def _grouped(given: Arguments) -> str:
    """Offsets must rise to the very end: rows behind the last one would stay uninitialised."""
    left, right, offsets = given["self"], given["mat2"], given.get("offs")
    if offsets is None:
        return ""
    if left.dim() == 2:
        end = left.shape[0] if right.dim() == 3 else left.shape[1]
    else:
        end = right.shape[-1]
    ends = offsets.reshape(-1).tolist()
    if not ends or ends[-1] != end or any(b < a for a, b in itertools.pairwise([0, *ends])):
        return f"its offsets {ends[:8]} do not rise from 0 to {end}"
    return ""


CHECKS: dict[str, Check] = {
    "scaled_dot_product_attention": _attention,
    "lstm": _recurrent(4),
    "gru": _recurrent(3),
    "rnn_tanh": _recurrent(1),
    "rnn_relu": _recurrent(1),
    "_grouped_mm": _grouped,
}
"""By name in the namespace `aten`."""
