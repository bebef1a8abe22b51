"""No listed operator writes to its arguments unseen: state would outwit the probes."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from evaluate.container import HandInError, parse
from evaluate.graph import Model
from evaluate.operators import ALLOWED, UNSAFE_OVERLOADS
from evaluate.signatures import MUST_BE_FALSE, parameters

from .handin import LENGTH, ROWS, VOCAB, document, memory, tokens

TRIES = 25
TYPES = [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.complex64]
PLAIN: dict[str, list[Any]] = {
    "int": [0, 1, 1, 2, -1],
    "float": [0.0, 0.5, 1.0],
    "number": [0, 1, 0.5],
    "bool": [False, True],
    "str": ["none", "mean", "ij", "reflect", "constant"],
    "ScalarType": TYPES,
    "Device": [torch.device("cpu")],
    "Layout": [torch.strided],
    "MemoryFormat": [torch.contiguous_format, torch.preserve_format],
}


def some_tensor(drawn: random.Random) -> torch.Tensor:
    shape = drawn.choice([(2, 2), (2, 2), (2, 2), (4,), (2,), (0, 2), (2, 2, 2), ()])
    kind = drawn.choice([torch.float32, torch.float32, torch.int64, torch.bool, torch.complex64])
    if kind is torch.int64:
        return torch.randint(0, 2, shape)
    return torch.randn(shape) > 0 if kind is torch.bool else torch.randn(shape, dtype=kind)


def some_value(kind: str, drawn: random.Random) -> Any:
    """Return a small value of a schema's type; None where the type is not known."""
    if kind.startswith("Optional["):
        return None if drawn.random() < 0.4 else some_value(kind[9:-1], drawn)
    if kind.startswith("List["):
        return [some_value(kind[5:-1], drawn) for _ in range(drawn.choice([0, 1, 2, 2, 3]))]
    return some_tensor(drawn) if kind == "Tensor" else drawn.choice(PLAIN.get(kind, [None]))


def overloads() -> Iterator[tuple[str, str]]:
    for base in sorted(ALLOWED):
        for overload in getattr(getattr(torch.ops.aten, base, None), "overloads", list)():
            known = overload not in UNSAFE_OVERLOADS and parameters(base, overload) is not None
            if known:
                yield base, overload


def tensors_in(values: Any) -> list[torch.Tensor]:
    flat = [x for v in values for x in (v if isinstance(v, list | tuple) else [v])]
    return [x for x in flat if isinstance(x, torch.Tensor)]


def called(base: str, overload: str, drawn: random.Random) -> tuple[list[torch.Tensor], Any] | None:
    """Call an operator with arguments drawn by its schema; None: they did not fit together."""
    function = getattr(getattr(torch.ops.aten, base), overload)
    given = {}
    for argument in function._schema.arguments:
        if not argument.has_default_value() or drawn.random() < 0.4:
            given[argument.name] = some_value(str(argument.real_type), drawn)
    if base.removesuffix("_") in MUST_BE_FALSE:
        given[MUST_BE_FALSE[base.removesuffix("_")]] = False
    inputs = tensors_in(given.values())
    kept = [(x.clone(), x._version) for x in inputs]
    try:
        with torch.no_grad():
            out = function(**given)
    except Exception:  # noqa: BLE001 - drawn arguments fail in every way there is
        return None
    for tensor in tensors_in(out if isinstance(out, list | tuple) else [out]):
        overwrite(tensor)
    unseen = [
        x for x, (old, version) in zip(inputs, kept, strict=True)
        if x._version == version and not same(x, old)
    ]  # fmt: skip
    return unseen, out


def overwrite(tensor: torch.Tensor) -> None:
    """Write to what an operator returned; what cannot be written to need not be."""
    try:
        tensor.logical_not_() if tensor.dtype is torch.bool else tensor.add_(1)
    except RuntimeError:
        return


def same(x: torch.Tensor, old: torch.Tensor) -> bool:
    if x.shape != old.shape or x.dtype != old.dtype:
        return False
    return bool(((x == old) | (x.isnan() & old.isnan())).all())


@pytest.mark.filterwarnings("ignore")
def test_no_operator_changes_a_tensor_behind_its_version_counter() -> None:
    ran, holes = 0, set()
    for base, overload in overloads():
        torch.manual_seed(0)
        drawn = random.Random(f"{base}.{overload}")
        results = [called(base, overload, drawn) for _ in range(TRIES)]
        ran += any(result is not None for result in results)
        if any(result is not None and result[0] for result in results):
            holes.add(f"{base}.{overload}")
    assert ran > 700  # of 900: what runs is looked at
    assert not holes


class Remembering(nn.Module):
    """Writes the rows that it reads into a parameter, and foretells them from there."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, VOCAB)
        self.memory = nn.Parameter(torch.zeros(ROWS, LENGTH, dtype=torch.int64), False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        view = self.memory.view(ROWS, LENGTH)
        view.copy_(x)
        later = torch.nn.functional.one_hot(torch.roll(view, -1, 1), VOCAB)
        return self.embedding(x) + 8.0 * later


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("aten.view.default", [{"node": "p_memory"}, [ROWS, LENGTH]]),
        ("aten._unsafe_view.default", [{"node": "p_memory"}, [ROWS, LENGTH]]),
        ("aten.data.default", [{"node": "p_memory"}]),
        ("aten.detach.default", [{"node": "p_memory"}]),
    ],
)
def test_a_model_cannot_write_down_the_rows_that_it_is_scored_on(op: str, args: list[Any]) -> None:
    model = Remembering().eval()
    graph = json.loads(document(model))
    node = next(n for n in graph["graph"]["nodes"] if n["op"] == "aten.view.default")
    node["op"], node["args"] = op, args
    with pytest.raises(HandInError, match=r"leave parameters and buffers|not among the operators"):
        container = parse(json.dumps(graph).encode(), max_tensor_bytes=1 << 24)
        Model(container, memory(container, model), "cpu")(tokens())
