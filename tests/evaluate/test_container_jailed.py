"""Damaged hand-ins on their whole way: candidate, feeder, jailed scorer."""

import base64
import itertools
import json
import random
import zlib
from collections.abc import Iterator

import prepare
from evaluate.container import HandInError, parse
from population.individual import Failed, Scored, Stage
from population.task import Budget, BudgetKind

from .conftest import QUICK, Trial, program
from .test_container_fuzz import EDITS, MAX_TENSOR_BYTES
from .test_score import Attention, Base, Bigrams, Experts

EXAMPLES = 20
SHAPE = (QUICK.evaluation_batch, QUICK.sequence_length)
MODELS = [kind().eval() for kind in (Base, Attention, Bigrams, Experts)]
DECENT = {"refused", "wrong_shape", "not_finite", "not_causal", "rows_depend", "not_repeatable",
          "out_of_memory"}  # fmt: skip

BYTES = """
import base64, json, mmap, zlib
import prepare

text, tensors = (zlib.decompress(base64.b85decode(part)) for part in {parts!r})
run = prepare.start()
run._send(b"G", text)
kind, payload = run._receive(descriptors=1)
assert kind == b"M", payload
memory = mmap.mmap(run._descriptor, json.loads(payload)["bytes"])
size = min(len(memory), len(tensors))
memory[:size] = tensors[:size]
for _ in run.batches(4):
    pass
run._send(b"D", b"")
run._socket.recv(1)
"""


def sender(text: bytes, tensors: bytes) -> str:
    """Return a program that hands in these bytes."""
    return BYTES.format(parts=[base64.b85encode(zlib.compress(part)) for part in (text, tensors)])


def tensor_bytes(text: bytes, model: Base) -> bytes:
    container = parse(text, max_tensor_bytes=MAX_TENSOR_BYTES)
    data = bytearray(container.size)
    for entry in container.tensors.values():
        flat = prepare.named_tensors(model)[entry.name].detach().numpy().tobytes()
        data[entry.offset : entry.offset + entry.size] = flat
    return bytes(data)


def whole(model: Base) -> tuple[bytes, bytes]:
    graph, table, _ = prepare.trace(model, SHAPE, "cpu")
    text = json.dumps({"version": 1, "tensors": table, "graph": graph}).encode()
    return text, tensor_bytes(text, model)


def edited() -> Iterator[tuple[int, bytes, bytes]]:
    """Yield hand-ins with one edit that the first look at them lets pass."""
    hand_ins = [whole(model) for model in MODELS]
    for seed in itertools.count():
        drawn = random.Random(seed)
        text, tensors = drawn.choice(hand_ins)
        found = json.loads(text)
        drawn.choice(EDITS)(found, drawn)
        changed = json.dumps(found).encode()
        try:
            parse(changed, max_tensor_bytes=MAX_TENSOR_BYTES)
        except HandInError:
            continue
        yield seed, changed, tensors


def test_bytes_sent_by_hand_score_like_any_hand_in(trial: Trial) -> None:
    outcome = trial(sender(*whole(MODELS[1])), Budget(BudgetKind.STEPS, 1)).outcome
    assert isinstance(outcome, Scored), outcome


def test_a_damaged_hand_in_never_crashes_the_scorer(trial: Trial) -> None:
    reasons = set()
    for seed, text, tensors in itertools.islice(edited(), EXAMPLES):
        outcome = trial(sender(text, tensors), Budget(BudgetKind.STEPS, 1)).outcome
        if isinstance(outcome, Failed):
            assert outcome.stage is Stage.SCORING, f"seed {seed}: {outcome}"
            assert outcome.reason in DECENT, f"seed {seed}: {outcome}"
            reasons.add(outcome.reason)
    assert "refused" in reasons
    assert isinstance(trial(program()).outcome, Scored)
