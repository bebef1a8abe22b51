"""Operators that trust a number as a place in memory, or that take all of it."""

from population.task import Limits
from tests.attacks.attack import HONEST, Attack
from tests.attacks.container import REFUSED, SCORING, refused
from tests.attacks.raw import EQUAL_ODDS, Node, full, node, ref, running

ROOM = ("scoring refused", "scoring out_of_memory")
FAR = full("far", [4], 1_000_000, "int64")
HERE = full("here", [4], 1.0)


def recurrent(op: str, rows: int, weight: int) -> tuple[Node, ...]:
    """Return a recurrent operation over 64 rows with states for `rows` of them."""
    weights = [ref("wi"), ref("wh"), ref("b"), ref("b")]
    gates = 3 if ".gru." in op else 4
    hidden: object = ref("h") if ".gru." in op else [ref("h"), ref("h")]
    return (
        full("x", [64, 128, 16]), full("h", [1, rows, 16]),
        full("wi", [gates * 16, 16][:weight]), full("wh", [gates * 16, 16][:weight]),
        full("b", [gates * 16]),
        node(op, ref("x"), hidden, weights, True, 1, 0.0, False, False, True),
    )  # fmt: skip


def grouped(*offsets: int) -> tuple[Node, ...]:
    """Return products of 64 rows in two groups that end at the offsets."""
    return (
        full("rows", [64, 16], 1.0, "bfloat16"), full("weights", [2, 16, 16], 1.0, "bfloat16"),
        *(full(f"end{n}", [1], end, "int32") for n, end in enumerate(offsets)),
        node("aten.cat.default", [ref(f"end{n}") for n in range(len(offsets))], name="ends"),
        node("aten._grouped_mm.default", ref("rows"), ref("weights"), ref("ends")),
    )  # fmt: skip


def attention(keys: int, values: int) -> tuple[Node, ...]:
    """Return attention over `keys` keys and `values` values."""
    return (
        full("q", [1, 2, 64, 16]), full("k", [1, 2, keys, 16]), full("v", [1, 2, values, 16]),
        node("aten.scaled_dot_product_attention.default", ref("q"), ref("k"), ref("v")),
    )  # fmt: skip


def endless() -> tuple[Node, ...]:
    """Return products of large matrices, one after another."""
    steps = [full("m0", [2048, 2048])]
    for n in range(1, 3000):
        steps.append(node("aten.mm.default", ref(f"m{n - 1}"), ref("m0"), name=f"m{n}"))
    return tuple(steps)


PLACES = {
    "an index past a tensor, by index_select": (FAR, HERE, node("aten.index_select.default", ref("here"), 0, ref("far"))),
    "an index past a tensor, by gather": (FAR, HERE, node("aten.gather.default", ref("here"), 0, ref("far"))),
    "an index past a tensor, by scatter": (FAR, HERE, node("aten.scatter.value", ref("here"), 0, ref("far"), 1.0)),
    "an index past a tensor, by index": (FAR, HERE, node("aten.index.Tensor", ref("here"), [ref("far")])),
    "an index past a tensor, by index_put": (FAR, HERE, node("aten.index_put_.default", ref("here"), [ref("far")], ref("here"))),
    "an index past a tensor, by index_add": (FAR, HERE, node("aten.index_add.default", ref("here"), 0, ref("far"), ref("here"))),
    "an index past a tensor, by take": (FAR, HERE, node("aten.take.default", ref("here"), ref("far"))),
    "an index past a table, by embedding": (FAR, full("rows", [4, 4]), node("aten.embedding.default", ref("rows"), ref("far"))),
    "a class that is none, by nll_loss": (FAR, full("rows", [4, 4]), node("aten.nll_loss.default", ref("rows"), ref("far"))),
    "a mask with more than there is": (HERE, full("mask", [9], 1, "bool"), full("room", [9]), node("aten.masked_scatter.default", ref("room"), ref("mask"), ref("here"))),
    "a norm over more groups than there are": (full("x", [2, 4, 3]), node("aten.native_group_norm.default", ref("x"), None, None, 200, 4, 3, 2, 1e-5)),
    "offsets past the rows, by grouped_mm": grouped(32, 1_000_000),
    "offsets that go back, by grouped_mm": grouped(40, 8),
    "recurrence with weights that are too small, by gru": recurrent("aten.gru.input", 64, 1),
}  # fmt: skip

UNCHECKED = {
    "recurrence with states for fewer rows, by lstm": recurrent("aten.lstm.input", 2, 2),
    "recurrence with weights that are too small, by lstm": recurrent("aten.lstm.input", 64, 1),
    "attention with more values than keys": attention(2, 4096),
    "rows that no group computes, by grouped_mm": grouped(4, 8),
    "no group at all, by grouped_mm": (
        full("rows", [64, 16], 1.0, "bfloat16"), full("weights", [0, 16, 16], 1.0, "bfloat16"),
        full("ends", [0], 0, "int32"),
        node("aten._grouped_mm.default", ref("rows"), ref("weights"), ref("ends")),
    ),
}  # fmt: skip
"""What torch does not check itself: it reads out of bounds, or leaves memory of others."""

NEVER = {
    "packed rows, by lstm": node("aten.lstm.data", 1),
    "packed rows, by gru": node("aten.gru.data", 1),
    "offsets, by embedding_bag": node("aten.embedding_bag.default", 1),
    "a sorter that lies": node("aten.searchsorted.Tensor", 1, 1, sorter=1),
    "memory that nobody has written, by empty": node("aten.empty.memory_format", [4]),
    "memory that nobody has written, by new_empty": node("aten.new_empty.default", 1, [4]),
    "a list repeated": node("operator.mul", [0], 2**40),
    "a power without end": node("operator.pow", 2**62, 2**62),
    "strided memory that nobody has written": node("aten.empty_strided.default", [4], [1]),
}

LARGE = {
    "a tensor of 2**40": (full("a", [2**20, 2**20]),),
    "a tensor repeated": (full("a", [2**10]), node("aten.repeat.default", ref("a"), [2**20, 2**10])),
    "a tensor expanded and copied": (full("a", [1]), node("aten.expand.default", ref("a"), [2**40], name="b"), node("aten.clone.default", ref("b"))),
    "a count of a large number": (full("a", [1], 2**40, "int64"), node("aten.bincount.default", ref("a"))),
    "classes without number": (full("a", [1], 0, "int64"), node("aten.one_hot.default", ref("a"), 2**40)),
    "a range without end": (node("aten.arange.default", 2**60),),
    "a spectrum without end": (full("a", [4]), node("aten.fft_fft.default", ref("a"), 2**40)),
}  # fmt: skip

ATTACKS = {
    **{name: refused(running(*steps), SCORING) for name, steps in PLACES.items()},
    **{name: refused(running(*steps), SCORING) for name, steps in UNCHECKED.items()},
    **{name: refused(running(step), REFUSED) for name, step in NEVER.items()},
    **{name: refused(running(*steps), ROOM) for name, steps in LARGE.items()},
    "products without end": Attack(
        running(*endless()),
        "scoring scoring_limit",
        limits=Limits(scoring_s=2),
        base=EQUAL_ODDS,
    ),
    "an infinite number among the logits": refused(
        running(full("a", [4]), node("aten.div.Scalar", ref("a"), 0.0)), HONEST
    ),
}
