"""Two thousand damaged hand-ins: each is refused, or runs as the model that it contains.

Whatever is wrong must come out as a HandInError, in bounded memory and time; what runs must run
alike twice and leave its tensors as they were. hypothesis prints the seed of a failing example.
"""

import copy
import json
import random
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from evaluate.container import DTYPE_BYTES, HandInError, parse
from evaluate.graph import Model
from evaluate.operators import ALLOWED, HIGHER_ORDER, PLAIN

from .handin import document, memory, tokens
from .test_score import (
    Attention,
    Autocast,
    Bigrams,
    Convolution,
    Experts,
    LongConvolution,
    Recurrent,
)

MAX_TENSOR_BYTES = 1 << 22
SPARE_BYTES = 4 << 30
"""Address space that the examples may add to this process."""
MODELS = [kind().eval() for kind in (Attention, Autocast, Bigrams, Convolution, Experts,
                                     LongConvolution, Recurrent)]  # fmt: skip


def packed(model: torch.nn.Module) -> tuple[bytes, bytes]:
    text = document(model)
    return text, memory(parse(text, max_tensor_bytes=MAX_TENSOR_BYTES), model)


HAND_INS = [packed(model) for model in MODELS]
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 3, 127, 2**31, 2**62, -(2**62), 2**70, 0.5, -0.0, 1e300, "",
    "tokens", [], [[]], [0, 1], {}, {"text": "none"}, {"text": "ij,jk->ik"}, {"dtype": "float64"},
    {"dtype": "bool"}, {"float": "nan"}, {"float": "-inf"}, {"device": "cuda"}, {"graph": {}},
    {"layout": "strided"}, {"node": "x"}, {"node": "tokens"},
]  # fmt: skip
OPERATORS = sorted(
    {f"aten.{name}.{overload}" for name in ALLOWED
     for overload in getattr(getattr(torch.ops.aten, name, None), "overloads", list)()}
    | PLAIN | HIGHER_ORDER | {"aten.rand.default", "os.system", "aten.add.nonsense"}
)  # fmt: skip

Document = dict[str, Any]


def swap_operator(found: Document, drawn: random.Random) -> None:
    drawn.choice(found["graph"]["nodes"])["op"] = drawn.choice(OPERATORS)


def swap_relative(found: Document, drawn: random.Random) -> None:
    """Put another overload of the same operator, or one that takes as much, in its place."""
    node = drawn.choice(found["graph"]["nodes"])
    base = node["op"].split(".")[1]
    node["op"] = drawn.choice([op for op in OPERATORS if f".{base[:4]}" in op] or OPERATORS)


def drop_node(found: Document, drawn: random.Random) -> None:
    nodes = found["graph"]["nodes"]
    nodes.pop(drawn.randrange(len(nodes)))


def move_node(found: Document, drawn: random.Random) -> None:
    nodes = found["graph"]["nodes"]
    nodes.insert(drawn.randrange(len(nodes)), nodes.pop(drawn.randrange(len(nodes))))


def repeat_name(found: Document, drawn: random.Random) -> None:
    one, other = (drawn.choice(found["graph"]["nodes"]) for _ in range(2))
    one["name"] = other["name"]


def change_shape(found: Document, drawn: random.Random) -> None:
    shape = drawn.choice(found["tensors"])["shape"]
    if shape and drawn.random() < 0.7:
        shape[drawn.randrange(len(shape))] = drawn.choice([0, 1, 2, 7, 33, 512, 2**20, -1, None])
    else:
        shape.insert(0, drawn.choice([0, 1, 3, 2**39]))


def change_dtype(found: Document, drawn: random.Random) -> None:
    drawn.choice(found["tensors"])["dtype"] = drawn.choice([*DTYPE_BYTES, "complex64", "qint8"])


def replace_argument(found: Document, drawn: random.Random) -> None:
    node = drawn.choice(found["graph"]["nodes"])
    places: list[tuple[Any, Any]] = [(node["args"], n) for n in range(len(node["args"]))]
    places += [(node["kwargs"], key) for key in node["kwargs"]]
    if places:
        owner, place = drawn.choice(places)
        owner[place] = copy.deepcopy(drawn.choice(VALUES))


def rewire(found: Document, drawn: random.Random) -> None:
    """Let a node read from another one."""
    graph = found["graph"]
    known = [row[0] for row in graph["inputs"]] + [node["name"] for node in graph["nodes"]]
    node = drawn.choice(graph["nodes"])
    if node["args"]:
        node["args"][drawn.randrange(len(node["args"]))] = {"node": drawn.choice(known)}


def insert_node(found: Document, drawn: random.Random) -> None:
    graph = found["graph"]
    known = [row[0] for row in graph["inputs"]] + [node["name"] for node in graph["nodes"]]
    args = [
        {"node": drawn.choice(known)} if drawn.random() < 0.6 else drawn.choice(VALUES)
        for _ in range(drawn.randrange(4))
    ]
    row = {"name": "new", "op": drawn.choice(OPERATORS), "args": args, "kwargs": {}, "line": ""}
    graph["nodes"].insert(drawn.randrange(len(graph["nodes"]) + 1), row)
    if drawn.random() < 0.5:
        graph["output"] = {"node": "new"}


def edit_anything(found: Document, drawn: random.Random) -> None:
    """Walk into the document at random and replace what lies there, or take it away."""
    place: Any = found
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = drawn.choice(list(keys))
        if drawn.random() < 0.15 or not isinstance(place[key], dict | list) or not place[key]:
            if drawn.random() < 0.1:
                del place[key]
            else:
                place[key] = copy.deepcopy(drawn.choice(VALUES))
            return
        place = place[key]


EDITS = [swap_operator, swap_relative, drop_node, move_node, repeat_name, change_shape,
         change_dtype, replace_argument, rewire, insert_node, edit_anything]  # fmt: skip


def damaged_text(text: bytes, drawn: random.Random) -> bytes:
    """Cut the document off, turn bits of it, or take a piece out."""
    kind, place = drawn.randrange(3), drawn.randrange(len(text))
    if kind == 0:
        return text[:place]
    if kind == 1:
        return text[:place] + text[place + drawn.randrange(1, 40) :]
    turned = bytearray(text)
    for _ in range(drawn.randrange(1, 4)):
        turned[drawn.randrange(len(text))] ^= 1 << drawn.randrange(8)
    return bytes(turned)


def damaged_memory(data: bytes, size: int, drawn: random.Random) -> bytes:
    """Return memory of the size that is due, with some bytes of its own."""
    turned = bytearray(data[:size].ljust(size, b"\xff"))
    if drawn.random() < 0.5:
        for _ in range(drawn.randrange(1, 64)):
            turned[drawn.randrange(size)] = drawn.randrange(256)
    return bytes(turned)


def damaged(seed: int) -> tuple[bytes, bytes]:
    """Return one hand-in with one to three things wrong."""
    drawn = random.Random(seed)
    text, data = drawn.choice(HAND_INS)
    if drawn.random() < 0.15:
        return damaged_text(text, drawn), data
    found: Document = json.loads(text)
    for _ in range(drawn.randrange(1, 4)):
        try:
            drawn.choice(EDITS)(found, drawn)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            break  # an earlier edit took away what this one looks for
    return json.dumps(found).encode(), data


def outcome(text: bytes, data: bytes, drawn: random.Random) -> str:
    """Run a hand-in twice as the scorer would; return what became of it. Raises HandInError."""
    container = parse(text, max_tensor_bytes=MAX_TENSOR_BYTES)
    model = Model(container, damaged_memory(data, container.size, drawn), "cpu")
    before = {name: bytes_of(tensor) for name, tensor in model._tensors.items()}
    first, again = model(tokens()), model(tokens())
    assert bytes_of(first) == bytes_of(again), "the same tokens gave other logits"
    assert before == {name: bytes_of(t) for name, t in model._tensors.items()}, "it has a memory"
    return "runs"


def bytes_of(tensor: torch.Tensor) -> bytes:
    flat = tensor.resolve_conj().resolve_neg().contiguous().view(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else str(tensor.shape).encode()


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """Let an example that asks for too much fail, and not this machine."""
    torch.set_num_threads(1)
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**64))
def test_a_damaged_hand_in_is_refused_or_runs_as_what_it_contains(seed: int) -> None:
    text, data = damaged(seed)
    try:
        note(f"damaged({seed}) {outcome(text, data, random.Random(seed))}")
    except (HandInError, MemoryError):
        return
