"""The hand-in: a graph of tensor operations as JSON plus raw tensors, read without trusting it.

What is covered: every field, name, reference, operator, type, shape and size is checked here
before anything is allocated or run; nothing is unpickled, evaluated or imported.
What is not covered: that an operator's own implementation in torch is free of faults. For that
the scorer is jailed as well (`score.py`).
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluate.operators import (
    ALLOWED,
    HIGHER_ORDER,
    PLAIN,
    UNSAFE_ARGUMENTS,
    UNSAFE_OVERLOADS,
)
from evaluate.signatures import objection

DTYPE_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip

ALIGNMENT = 64
MAX_GRAPH_BYTES = 16 << 20
MAX_NODES = 50_000
MAX_DEPTH = 24
MAX_RANK = 16
MAX_NAME = 500
MAX_MESSAGE = 1_000


class HandInError(Exception):
    """The hand-in is refused; the message names what was found, where, and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(message[:MAX_MESSAGE])  # it may quote what the candidate sent


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One named tensor: where its bytes lie in the shared memory."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Container:
    """A validated hand-in.

    Attributes:
        graph: JSON object with `inputs`, `nodes`, `output`; docs/container.md has the grammar.
        tensors: by name, in the order of their bytes.
        size: bytes of shared memory that they need.
    """

    graph: dict[str, Any]
    tensors: Mapping[str, TensorEntry]
    size: int


def parse(data: bytes, *, max_tensor_bytes: int) -> Container:
    """Return the validated container.

    Args:
        data: the JSON document as the candidate sent it.
        max_tensor_bytes: limit on the memory for all tensors together.

    Raises:
        HandInError: whatever is wrong with it.
    """
    if len(data) > MAX_GRAPH_BYTES:
        raise HandInError(f"the graph has {len(data)} bytes, more than {MAX_GRAPH_BYTES}")
    try:
        document = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise HandInError(f"the graph is not valid JSON: {error}") from error
    _keys(document, {"version", "tensors", "graph"}, "the document")
    if document["version"] != 1:
        raise HandInError(f"expected container version 1, got {document['version']!r}")
    tensors, size = _tensor_table(document["tensors"], max_tensor_bytes)
    graph = document["graph"]
    _check_inputs(graph, tensors)
    _check_graph(graph, {row[0] for row in graph["inputs"]}, 0, [0])
    _check_output(graph["output"])
    return Container(graph, tensors, size)


def _no_constant(name: str) -> float:
    raise ValueError(f"bare {name}")


def _keys(value: object, expected: set[str], where: str) -> None:
    if not isinstance(value, dict) or set(value) != expected:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise HandInError(f"{where}: expected the keys {sorted(expected)}, got {found}")


def _tensor_table(rows: object, limit: int) -> tuple[dict[str, TensorEntry], int]:
    if not isinstance(rows, list) or len(rows) > MAX_NODES:
        raise HandInError("the tensor table is not a list of reasonable length")
    tensors: dict[str, TensorEntry] = {}
    offset = 0
    for row in rows:
        _keys(row, {"name", "dtype", "shape"}, "a row of the tensor table")
        name, dtype, shape = row["name"], row["dtype"], row["shape"]
        if not _is_name(name) or name in tensors:
            raise HandInError(f"tensor name {_short(name)} is empty, too long, repeated or no text")
        if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
            raise HandInError(
                f"tensor {name}: type {_short(dtype)} is none of {sorted(DTYPE_BYTES)}"
            )
        if not (isinstance(shape, list) and len(shape) <= MAX_RANK and all(map(_is_size, shape))):
            raise HandInError(f"tensor {name}: {_short(shape)} is not a shape")
        size = math.prod(shape) * DTYPE_BYTES[dtype]
        if offset + size > limit:
            raise HandInError(f"tensor {name}: more than {limit} bytes of tensors in all")
        tensors[name] = TensorEntry(name, dtype, tuple(shape), offset, size)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return tensors, max(offset, ALIGNMENT)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME


def _short(value: object) -> str:
    """Return a value as it may stand in a message."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _check_inputs(graph: object, tensors: Mapping[str, TensorEntry]) -> None:
    _keys(graph, {"inputs", "nodes", "output"}, "the graph")
    assert isinstance(graph, dict)
    rows = graph["inputs"]
    if not isinstance(rows, list):
        raise HandInError("the graph's inputs are not a list")
    kinds = []
    for row in rows:
        ok = isinstance(row, list) and row and all(isinstance(item, str) for item in row)
        if not ok or (row[1:] != ["tokens"] and not (
            len(row) == 3 and row[1] == "tensor" and row[2] in tensors
        )):  # fmt: skip
            raise HandInError(
                f"the graph's input {_short(row)} is neither tokens nor a named tensor"
            )
        kinds.append(row[1])
    if len({row[0] for row in rows}) < len(rows):
        raise HandInError("two inputs of the graph have one name")
    if kinds.count("tokens") != 1:
        raise HandInError("forward must take exactly one argument: the tokens (E, T)")


def _check_graph(graph: dict[str, Any], names: set[str], depth: int, count: list[int]) -> None:
    """Check nodes in order: each may refer to inputs and to nodes before it only."""
    if depth > MAX_DEPTH:
        raise HandInError(f"subgraphs are nested more than {MAX_DEPTH} deep")
    if not isinstance(graph["nodes"], list):
        raise HandInError("the graph's nodes are not a list")
    for node in graph["nodes"]:
        count[0] += 1
        if count[0] > MAX_NODES:
            raise HandInError(f"more than {MAX_NODES} operations")
        _keys(node, {"name", "op", "args", "kwargs", "line"}, "a node")
        _check_operator(node)
        if not isinstance(node["args"], list) or not isinstance(node["kwargs"], dict):
            raise HandInError(f"{node['op']}: arguments are not a list and an object")
        if UNSAFE_ARGUMENTS & node["kwargs"].keys():
            raise HandInError(f"{node['op']} ({node['line']}): leave out its sorter or out")
        for value in (*node["args"], *node["kwargs"].values()):
            _check_argument(value, names, depth, count)
        if not isinstance(node["name"], str) or node["name"] in names:
            raise HandInError(f"node name {node['name']!r} is repeated or not a string")
        _check_call(node)
        names.add(node["name"])
    _check_argument(graph["output"], names, depth, count)


def _check_output(output: Any) -> None:
    while isinstance(output, list) and len(output) == 1:
        output = output[0]
    if not isinstance(output, dict) or "node" not in output:
        many = f", not {len(output)} values" if isinstance(output, list) else ""
        raise HandInError(f"forward must return one tensor{many}: the logits (E, T, V)")


def _check_operator(node: dict[str, Any]) -> None:
    name, line = node["op"], node["line"]
    if not isinstance(name, str) or not isinstance(line, str) or len(line) > 200:
        raise HandInError("a node's operator or line is not a string")
    if name in PLAIN or name in HIGHER_ORDER:
        return
    parts = name.split(".")
    known = len(parts) == 3 and parts[0] == "aten" and parts[1] in ALLOWED
    if known and parts[2].isidentifier() and parts[2] not in UNSAFE_OVERLOADS:
        return
    raise HandInError(
        f"{name[:100]} ({line or 'unknown line'}) is not among the operators that the scorer "
        "runs: write this step of the evaluation forward with other tensor operations"
    )


def _check_call(node: dict[str, Any]) -> None:
    wrong = ""
    if node["op"].startswith("aten."):
        wrong = objection(node["op"], node["args"], node["kwargs"])
    elif node["op"] in PLAIN and (node["kwargs"] or not all(map(_is_operand, node["args"]))):
        wrong = "takes numbers and results of other nodes"
    if wrong:
        raise HandInError(f"{node['op']} ({node['line'] or 'unknown line'}) {wrong}")


def _is_operand(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, dict) and "node" in value)


def _check_argument(value: Any, names: set[str], depth: int, count: list[int]) -> None:
    """Check one argument: JSON's own values, lists of them, or an object that names its kind."""
    if depth > MAX_DEPTH:
        raise HandInError(f"arguments are nested more than {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool | float):
        return
    if isinstance(value, int):
        if abs(value) >= 2**63:
            raise HandInError(f"the integer {value} does not fit 64 bits")
        return
    if isinstance(value, list):
        for item in value:
            _check_argument(item, names, depth + 1, count)
        return
    if not isinstance(value, dict) or len(value) != 1:
        raise HandInError(f"an argument of type {type(value).__name__} is not known")
    _check_named(value, names, depth, count)


def _check_named(value: dict[str, Any], names: set[str], depth: int, count: list[int]) -> None:
    """Check an argument that is no plain number: a reference, a type, a subgraph, ..."""
    ((kind, content),) = value.items()
    if kind != "graph" and not isinstance(content, str):
        raise HandInError(f"the argument {kind} is not given by name")
    if kind == "text" and EQUATION.fullmatch(content):
        return
    if kind == "graph":
        _keys(content, {"inputs", "nodes", "output"}, "a subgraph")
        inputs = content["inputs"]
        if not isinstance(inputs, list) or not all(isinstance(item, str) for item in inputs):
            raise HandInError("a subgraph's inputs are not a list of names")
        _check_graph(content, set(inputs), depth + 1, count)
    elif kind == "node":
        if content not in names:
            raise HandInError(f"{content!r} is used before it is computed")
    elif kind not in CODES or content not in CODES[kind]:
        raise HandInError(f"the argument {kind} = {content!r} is not known")


_INDICES = "[a-zA-Z. ]{0,64}"
EQUATION = re.compile(
    f"{_INDICES}(,{_INDICES}){{0,16}}(->{_INDICES})|{_INDICES}(,{_INDICES}){{1,16}}"
)
"""What einsum is asked for: letters, commas and an arrow."""
CODES: dict[str, frozenset[str]] = {
    "float": frozenset({"inf", "-inf", "nan"}),
    "text": frozenset({"none", "tanh", "floor", "trunc", "mean", "sum", "reflect", "constant",
                       "replicate", "circular", "cpu", "cuda", "mps", "ij", "xy", "linear",
                       "left", "right", "backward", "forward", "ortho", "prod", "amax", "amin"}),
    "dtype": frozenset({*DTYPE_BYTES, "complex64", "complex128"}),
    "device": frozenset({"cpu", "cuda", "mps", "xpu"}),
    "layout": frozenset({"strided"}),
    "memory_format": frozenset({"contiguous_format", "preserve_format", "channels_last"}),
}  # fmt: skip
