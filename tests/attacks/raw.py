"""Candidates that speak to the feeder without the client, and graphs written by hand."""

import json
from collections.abc import Sequence
from typing import Any

Node = dict[str, Any]

CLIENT = """
import json, os, socket, time
feeder = socket.socket(fileno=int(os.environ["EVOLVE_SOCKET"]))

def send(kind, payload=b""):
    feeder.sendall(kind + len(payload).to_bytes(8, "little") + payload)

def receive():
    head, descriptors, _, _ = socket.recv_fds(feeder, 9, 1)
    if not head:
        raise SystemExit(0)
    size, data = int.from_bytes(head[1:], "little"), b""
    while len(data) < size:
        data += feeder.recv(size - len(data))
    return head[:1], data, descriptors

def hand_in(graph):
    send(b"G", graph)
    kind, _, descriptors = receive()
    if kind != b"M":
        raise SystemExit(0)
    return descriptors[0]

def deliver():
    send(b"D")
    receive()

receive()
"""


def raw(body: str) -> str:
    """Return a program that holds the connection to the feeder and nothing else."""
    return CLIENT + body


def node(op: str, *args: object, name: str = "", **kwargs: object) -> Node:
    """Return one operation; without a name nothing can refer to it."""
    return {"name": name, "op": op, "args": list(args), "kwargs": kwargs, "line": "train.py:1"}


def ref(name: str) -> dict[str, str]:
    """Return a reference to an earlier operation or input."""
    return {"node": name}


def full(name: str, shape: Sequence[int], value: float = 0, dtype: str = "float32") -> Node:
    """Return an operation that makes a tensor of one value."""
    return node("aten.full.default", list(shape), value, name=name, dtype={"dtype": dtype})


def document(*nodes: Node, tensors: Sequence[object] = (), **changes: object) -> str:
    """Return a container whose logits are all equal, after the given operations: 8 bits."""
    steps = [{**n, "name": n["name"] or f"step{i}"} for i, n in enumerate(nodes)]
    logits = full("logits", [64, 128, 256])
    graph = {"inputs": [["tokens", "tokens"]], "nodes": [*steps, logits], "output": ref("logits")}
    return json.dumps({"version": 1, "tensors": list(tensors), "graph": graph | changes})


def handing_in(text: str) -> str:
    """Return a program that hands in this text as its graph, with tensors of zeros."""
    return raw(f"hand_in({text.encode()!r})\ndeliver()\n")


def running(*nodes: Node) -> str:
    """Return a program whose graph runs these operations before its logits."""
    return handing_in(document(*nodes))


EQUAL_ODDS = handing_in(document())
"""The honest one: every token is as likely as any other."""
