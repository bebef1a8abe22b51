"""A hand-in is data from a stranger: it is a valid container or it is refused."""

import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.container import HandInError, parse
from evaluate.graph import Model

from .handin import document, memory, tokens
from .test_score import Attention

MODEL = Attention().eval()
VALID = json.loads(document(MODEL))


def refused(edited: object) -> str:
    with pytest.raises(HandInError) as error:
        parse(json.dumps(edited).encode(), max_tensor_bytes=1 << 24)
    return str(error.value)


def edited(**changes: object) -> dict[str, object]:
    return {**copy.deepcopy(VALID), **changes}


def test_a_valid_container_is_read_back() -> None:
    container = parse(json.dumps(VALID).encode(), max_tensor_bytes=1 << 24)
    assert set(container.tensors) >= {"embedding.weight", "head.weight"}
    assert all(entry.offset % 64 == 0 for entry in container.tensors.values())


def node(op: str, *args: object) -> dict[str, object]:
    return {"name": "extra", "op": op, "args": list(args), "kwargs": {}, "line": "train.py:7"}


@pytest.mark.parametrize(
    "op",
    [
        "aten.rand.default", "aten.as_strided.default", "aten.set_.source_Storage",
        "aten.from_file.default", "aten.resize_.default", "prim.device.default", "os.system",
        "operator.attrgetter", "higher_order.while_loop", "aten.add.__class__.x", "torch.load",
        "builtins.eval", "aten.bernoulli_.float", "aten.record_stream.default", "", "aten._unsafe_view.default",
        "aten.unsafe_chunk.default", "aten.unsafe_split.Tensor", "aten.lu_solve.default", "aten._weight_norm.default",
    ],
)  # fmt: skip
def test_operators_outside_the_list_are_refused_by_name_and_line(op: str) -> None:
    graph = copy.deepcopy(VALID["graph"])
    graph["nodes"].insert(0, node(op))
    message = refused(edited(graph=graph))
    assert "not among the operators" in message and "train.py:7" in message


CALLS: dict[str, tuple[str, list[object], dict[str, object], str]] = {
    "an integer for a type": ("to.dtype", [{"node": "read"}, 12], {}, "expects ScalarType"),
    "an integer for a layout": (
        "_to_copy.default", [{"node": "read"}], {"layout": 1}, "expects Optional[Layout]",
    ),
    "text for a tensor": ("neg.default", [{"text": "none"}], {}, "expects Tensor for self"),
    "half a number": ("select.int", [{"node": "read"}, 0.5, 0], {}, "expects int for dim"),
    "too many arguments": ("neg.default", [{"node": "read"}, 1], {}, "takes 1 arguments"),
    "too few": ("mul.Tensor", [{"node": "read"}], {}, "needs other"),
    "an argument twice": ("neg.default", [{"node": "read"}], {"self": 1}, "twice"),
    "an unknown argument": ("neg.default", [{"node": "read"}], {"by": 1}, "'by'"),
    "no tensor at all": ("mul.left_t", [[1], 2**40], {}, "not an operator on tensors"),
    "a tensor to be resized": (
        "topk.values", [{"node": "read"}, 1],
        {"values": {"node": "read"}, "indices": {"node": "read"}}, "not an operator on tensors",
    ),
    "an overload that nobody knows": ("neg.nonsense", [{"node": "read"}], {}, "not an operator"),
    "dropout in training": ("dropout.default", [{"node": "read"}, 0.5, True], {}, "self.training"),
    "dropout that may train": (
        "dropout.default", [{"node": "read"}, 0.5, {"node": "read"}], {}, "self.training",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_an_operator_is_called_as_its_schema_says_or_refused_by_line(name: str) -> None:
    op, args, kwargs, reason = CALLS[name]
    graph = copy.deepcopy(VALID["graph"])
    tokens_row = next(row for row in graph["inputs"] if row[1] == "tokens")
    row = {**node(f"aten.{op}", *args), "kwargs": kwargs}
    text = json.dumps(row).replace('"read"', json.dumps(tokens_row[0]))
    graph["nodes"].insert(0, json.loads(text))
    message = refused(edited(graph=graph))
    assert reason in message and "train.py:7" in message


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("operator.pow", [3, 2**31]), ("operator.mul", [[1], 2**40]),
        ("operator.mul", [{"text": "none"}, 2**36]), ("operator.getitem", [{"graph": {}}, 0]),
        ("operator.add", [None, 1]), ("operator.getitem", [{"dtype": "int64"}, 0]),
    ],
)  # fmt: skip
def test_plain_operators_take_numbers_and_results_alone(op: str, args: list[object]) -> None:
    graph = copy.deepcopy(VALID["graph"])
    graph["nodes"].insert(0, node(op, *args))
    refused(edited(graph=graph))


def test_a_reference_to_what_is_not_computed_yet_is_refused() -> None:
    graph = copy.deepcopy(VALID["graph"])
    graph["nodes"].insert(0, node("aten.neg.default", {"node": "later"}))
    assert "used before" in refused(edited(graph=graph))


@pytest.mark.parametrize("shape", [[-1], [2**41], [1.5], ["8"], [[8]], [2**30, 2**30], [True]])
def test_an_impossible_shape_is_refused(shape: list[object]) -> None:
    refused(edited(tensors=[{"name": "a", "dtype": "float32", "shape": shape}]))


def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack() -> None:
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    graph = copy.deepcopy(VALID["graph"])
    graph["nodes"].insert(0, node("aten.neg.default", deep))
    assert "nested" in refused(edited(graph=graph))
    with pytest.raises(HandInError):
        parse(b"[" * 100_000, max_tensor_bytes=1)


def test_an_operator_that_fails_is_refused_with_its_line() -> None:
    graph = copy.deepcopy(VALID["graph"])
    read = next(name for name, kind, *_ in graph["inputs"] if kind == "tokens")
    graph["nodes"].insert(0, node("aten.view.default", {"node": read}, [7]))
    container = parse(json.dumps(edited(graph=graph)).encode(), max_tensor_bytes=1 << 24)
    with pytest.raises(HandInError, match=r"train.py:7.*failed"):
        Model(container, memory(container, MODEL), "cpu")(tokens())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(HandInError):
        parse(data, max_tensor_bytes=1 << 20)


def test_bare_nan_is_refused() -> None:
    assert "NaN" in refused(edited(version=math.nan))
