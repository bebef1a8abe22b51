"""Messages that no client sends."""

from population.task import Budget, BudgetKind, Limits
from tests.attacks.attack import BRIEF, HONEST, Attack
from tests.attacks.raw import EQUAL_ODDS, document, raw
from tests.evaluate.conftest import program

PROTOCOL = "startup protocol"
GRAPH = f"lent = hand_in({document().encode()!r})\n"
TABLE = f"lent = hand_in({document(tensors=[{'name': 'a', 'dtype': 'float32', 'shape': [4096]}]).encode()!r})\n"
SHORT = Budget(BudgetKind.STEPS, 5, wall_limit_s=2)


def speaking(body: str, ends: str | tuple[str, ...], **bounds: object) -> Attack:
    """Return an attack on the feeder; its honest base gives every token the same odds."""
    return Attack(raw(body), ends, base=EQUAL_ODDS, **bounds)  # type: ignore[arg-type]


REQUESTS = {
    "no rows": '{"rows": 0}',
    "less than no rows": '{"rows": -4}',
    "half a row": '{"rows": 1.5}',
    "rows as a text": '{"rows": "4"}',
    "rows as a truth": '{"rows": true}',
    "more rows than memory": '{"rows": 1099511627776}',
    "infinitely many rows": '{"rows": 1e999}',
    "a request that is a list": "[4]",
    "a request that is no JSON": "rows=4",
    "a request nested without end": "[" * 5_000,
}

ATTACKS = {
    **{
        f"a batch of {name}": speaking(f"send(b'B', {text!r}.encode())\nreceive()\n", PROTOCOL)
        for name, text in REQUESTS.items()
    },
    "a batch whose number of rows is a text of ten million bytes": speaking(
        "send(b'B', json.dumps({'rows': 'x' * 10_000_000}).encode())\nreceive()\n",
        PROTOCOL,
    ),
    "a batch whose number of rows is a text that grows when it is quoted": speaking(
        "send(b'B', b'{\"rows\": \"' + 'é'.encode() * 6_000_000 + b'\"}')\nreceive()\n",
        PROTOCOL,
    ),
    "a batch request with megabytes beside it": speaking(
        GRAPH + "send(b'B', b'{\"rows\": 1, \"x\": [' + b'[],' * 1_000_000 + b'0]}')\nreceive()\ndeliver()\n",
        PROTOCOL,
    ),
    "an unknown kind": speaking("send(b'Z')\nreceive()\n", PROTOCOL),
    "the harness's own kind": speaking("send(b'J', b'{\"event\": \"delivered\"}')\nreceive()\n", PROTOCOL),
    "a report that is no number": speaking("send(b'L', b'low')\nreceive()\n", PROTOCOL),
    "a delivery of nothing": speaking("deliver()\n", PROTOCOL),
    "a delivery with a cargo": speaking(GRAPH + "send(b'D', bytes(1 << 20))\nreceive()\n", (HONEST, PROTOCOL)),
    "a message of 2**62 bytes": speaking(
        "feeder.sendall(b'L' + (1 << 62).to_bytes(8, 'little'))\nreceive()\n", PROTOCOL
    ),
    "half a message, then silence": speaking(
        "feeder.sendall(b'G' + (99).to_bytes(8, 'little') + b'half')\ntime.sleep(60)\n",
        "startup startup_limit", limits=BRIEF,
    ),
    "silence": speaking("time.sleep(60)\n", "startup startup_limit", limits=BRIEF),
    "a closed connection and a life after it": speaking(
        "feeder.close()\ntime.sleep(60)\n", "startup startup_limit", limits=BRIEF
    ),
    "a connection closed in one direction": speaking(
        GRAPH + "feeder.shutdown(socket.SHUT_RD)\nsend(b'B', b'{\"rows\": 4}')\ntime.sleep(60)\n",
        ("training hang", "startup startup_limit"), budget=SHORT, limits=BRIEF,
    ),
    "requests whose answers are never read": speaking(
        "while True:\n    send(b'B', b'{\"rows\": 4000}')\n", "training hang", budget=SHORT
    ),
    "refusals without end": speaking(
        "while True:\n    send(b'G', b'x')\n    receive()\n", ("startup startup_limit", PROTOCOL), limits=BRIEF
    ),
    "reports without end": speaking(
        "while True:\n    send(b'L', bytes(8))\n", "startup protocol", limits=BRIEF
    ),
    "descriptors that nobody asked for": speaking(
        "for _ in range(400):\n"
        "    try: socket.send_fds(feeder, [b'L' + (8).to_bytes(8, 'little') + bytes(8)], [0] * 200)\n"
        "    except OSError: pass\n"
        + GRAPH + "deliver()\n",
        HONEST,
    ),
    "a thousand graphs": speaking(
        f"for _ in range(1_000):\n    os.close(hand_in({document().encode()!r}))\n" + GRAPH + "deliver()\n",
        (HONEST, PROTOCOL),
    ),
    "lent memory shrunk to nothing": speaking(
        TABLE + "os.ftruncate(lent, 0)\ndeliver()\n", ("startup crash", "handin refused", "scoring refused"),
    ),
    "lent memory shrunk by half": speaking(
        TABLE + "os.ftruncate(lent, 8192)\ndeliver()\n", ("startup crash", "handin refused", "scoring refused", HONEST)
    ),
    "lent memory grown": speaking(
        TABLE + "try: os.ftruncate(lent, 64 << 20)\nexcept OSError: pass\ndeliver()\n", HONEST
    ),
    "tensors for more memory than the candidate may use": speaking(
        f"hand_in({document(tensors=[{'name': 'a', 'dtype': 'float64', 'shape': [7 << 27]}]).encode()!r})\ndeliver()\n",
        "handin refused",
        limits=Limits(memory_bytes=1 << 30, scoring_s=5),
    ),
    "a model that changes between registration and delivery": Attack(
        program(at_bell="model.head = torch.nn.Linear(16, 999)\n"), ("handin refused", "handin crash")
    ),
    "a forward that changes after it was registered": Attack(
        program(at_bell="Model.forward = lambda self, tokens: torch.zeros(1)\n"), HONEST
    ),
}  # fmt: skip
