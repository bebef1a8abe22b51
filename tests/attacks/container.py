"""Graphs and tables that no client writes."""

from typing import Any

from tests.attacks.attack import HONEST, Attack
from tests.attacks.raw import EQUAL_ODDS, document, full, handing_in, node, raw, ref, running

REFUSED = "handin refused"
SCORING = "scoring refused"


def refused(source: str, ends: str | tuple[str, ...] = REFUSED) -> Attack:
    """Return an attack by container; its honest base gives every token the same odds."""
    return Attack(source, ends, base=EQUAL_ODDS)


def table(*rows: object) -> str:
    """Return a program that hands in a table of tensors."""
    return handing_in(document(tensors=rows))


def tensor(shape: object, name: object = "a", dtype: object = "float32") -> dict[str, object]:
    return {"name": name, "dtype": dtype, "shape": shape}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def subgraphs(depth: int) -> Any:
    graph: dict[str, Any] = {"inputs": [], "nodes": [], "output": 1}
    for _ in range(depth):
        op = "higher_order.wrap_with_set_grad_enabled"
        graph = {"inputs": [], "nodes": [node(op, False, {"graph": graph}, name="s")], "output": 1}
    return {"graph": graph}


ATTACKS = {
    "equal odds": refused(EQUAL_ODDS, HONEST),
    "a pickle": refused(raw("import pickle\nhand_in(pickle.dumps(print))\n")),
    "a saved module": refused(raw(
        "import io, torch\nfile = io.BytesIO()\ntorch.save(torch.nn.Linear(2, 2), file)\n"
        "hand_in(file.getvalue())\n"
    )),
    "nothing": refused(raw("hand_in(b'')\n")),
    "bytes that are no text": refused(raw("hand_in(bytes(range(256)))\n")),
    "brackets without end": refused(raw("hand_in(b'[' * 1_000_000)\n")),
    "a number of a million digits": refused(raw("hand_in(b'9' * 1_000_000)\n")),
    "millions of empty lists": refused(raw("hand_in(b'[' + b'[],' * 2_000_000 + b'0]')\n")),
    "a message longer than any graph": refused(
        raw("feeder.sendall(b'G' + (1 << 62).to_bytes(8, 'little'))\nreceive()\n"), "startup protocol"
    ),
    "another version": refused(handing_in(document().replace('"version": 1', '"version": 2'))),
    "a key too many": refused(handing_in(document().replace('"version": 1', '"version": 1, "code": 1'))),
    "a tensor larger than all memory": refused(table(tensor([2**39, 2**39]))),
    "a negative size": refused(table(tensor([-4, 4]))),
    "a size that is no number": refused(table(tensor(["4"]))),
    "a size that is a truth": refused(table(tensor([True]))),
    "a type that torch does not know": refused(table(tensor([4], dtype="object"))),
    "a type from Python": refused(table(tensor([4], dtype="__class__"))),
    "two tensors of one name": refused(table(tensor([4]), tensor([4]))),
    "two inputs of one name": refused(
        handing_in(document(tensors=[tensor([4])], inputs=[["tokens", "tokens"], ["tokens", "tensor", "a"]])),
    ),
    "tokens twice": refused(handing_in(document(inputs=[["a", "tokens"], ["b", "tokens"]]))),
    "a size of nothing times a size of everything": refused(
        table(tensor([0, 2**39, 2**39])), (REFUSED, SCORING, HONEST),
    ),
    "truths that are neither": refused(handing_in(document(tensors=[tensor([64], dtype="bool")])), HONEST),
    "a call of the system": refused(running(node("os.system", {"text": "none"}))),
    "an attribute of Python": refused(running(node("operator.attrgetter", 1))),
    "a way out through names": refused(running(node("aten.add.__class__.x", 1))),
    "a file read by torch": refused(running(node("aten.from_file.default", {"text": "none"}))),
    "a storage set by hand": refused(running(node("aten.set_.source_Storage", 1))),
    "strides set by hand": refused(running(full("a", [4]), node("aten.as_strided.default", ref("a"), [99], [1]))),
    "a tensor resized": refused(running(full("a", [4]), node("aten.resize_.default", ref("a"), [99]))),
    "an output that is given": refused(running(full("a", [4]), node("aten.add.out", ref("a"), ref("a"), out=ref("a")))),
    "an output under a plain name": refused(running(full("a", [4]), node("aten.neg.default", ref("a"), out=ref("a")))),
    "an overload that is called out": refused(running(full("a", [4]), node("aten.add.Tensor_out", ref("a"), ref("a")))),
    "a reference to what comes later": refused(running(node("aten.neg.default", ref("late"), name="early"), full("late", [4]))),
    "a reference to itself": refused(running(node("aten.neg.default", ref("a"), name="a"))),
    "one name for two operations": refused(running(full("a", [4]), full("a", [4]))),
    "an operation with the name of an input": refused(running(full("tokens", [4]))),
    "arguments nested a thousand deep": refused(running(node("aten.neg.default", nested(500)))),
    "subgraphs nested a hundred deep": refused(running(node("higher_order.wrap_with_set_grad_enabled", False, subgraphs(60)))),
    "a subgraph that reads outside itself": refused(running(
        full("a", [4]),
        node("higher_order.wrap_with_set_grad_enabled", False,
             {"graph": {"inputs": [], "nodes": [], "output": ref("a")}}),
    )),
    "a subgraph in the place of a tensor": refused(running(node("aten.neg.default", subgraphs(1))), (REFUSED, SCORING)),
    "a million operations": refused(raw(
        f"graph = json.loads({document()!r})\n"
        "nodes = graph['graph']['nodes']\n"
        "graph['graph']['nodes'] = [{**nodes[0], 'name': str(i)} for i in range(60_000)] + nodes\n"
        "hand_in(json.dumps(graph).encode())\n"
    )),
    "an operator that torch does not have": refused(running(node("aten.neg.nonsense")), (REFUSED, SCORING)),
    "an overload from an attribute": refused(running(node("aten.neg.__init__")), (REFUSED, SCORING)),
    "numbers that divide by nothing": refused(running(node("operator.floordiv", 1, 0)), SCORING),
    "numbers too large to divide": refused(
        running(
            *(node("operator.mul", 2**62 if n == 0 else ref(f"a{n - 1}"), 2**62, name=f"a{n}") for n in range(20)),
            node("operator.truediv", ref("a19"), 3),
        ),
        SCORING,
    ),
    "a refusal that quotes sixteen million letters": refused(
        raw(f"hand_in({document(node('aten.neg.default', ref('NAME'))).encode()!r}"
            ".replace(b'NAME', b'\\x7f' * 15_900_000))\ndeliver()\n"),
        REFUSED,
    ),
    "an operator whose name has ten million letters": refused(
        raw(f"hand_in({document(node('aten.add.NAME')).encode()!r}.replace(b'NAME', b'a' * 10_000_000))\ndeliver()\n"),
        (REFUSED, SCORING),
    ),
    "a tensor whose name has seven million letters": refused(
        raw(f"hand_in({document(tensors=[tensor([-1], name='NAME')])!r}"
            ".replace('NAME', 'é' * 7_000_000).encode())\ndeliver()\n"),
        REFUSED,
    ),
}  # fmt: skip
