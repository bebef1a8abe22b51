"""The trusted scorer: runs the hand-in on rows that nobody else saw, and proves what it said.

The task's metric gets a `log_probs(tokens)` that was computed here from logits; afterwards it is
proven causal, row-independent, finite and repeatable as far as the probes can tell (`probes.py`).
"""

import math
import mmap
import os
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluate import probes, wire
from evaluate.container import HandInError, parse
from evaluate.evaluator import Evaluator, calling, check_rows, load, raised
from evaluate.graph import Model
from evaluate.probes import Probed, RefusedError
from population.errors import EvaluatorError


class NoNumberError(Exception):
    """What a metric gave is no number."""


def score(spec: dict[str, Any], graph: bytes, tensors: memoryview | bytes) -> dict[str, Any]:
    """Return what came of it as plain data.

    Returns:
        `{"value": ..., measurements}`, `{"reason": ..., "detail": ...}` where the hand-in is not
        worth a score, or `{"fault": ...}` where the evaluator is at fault.
    """
    began = time.monotonic()
    directory, shard = Path(spec["data"]), spec["shard"]
    evaluator = load(Path(spec["evaluator"]))
    settings = evaluator.settings(directory)
    try:
        container = parse(graph, max_tensor_bytes=spec["max_tensor_bytes"])
        if len(tensors) < container.size:
            raise HandInError(f"{len(tensors)} bytes of tensors, expected {container.size}")
        model = Model(container, tensors, spec["device"])
        low = any(name in graph for name in (b"bfloat16", b"float16"))
        limit_s = spec.get("forward_limit_s") or math.inf
        shape = settings.evaluation_batch, settings.sequence_length
        probed = Probed(model, settings.vocab_size, spec["device"], low, limit_s, shape)
        value = _value(evaluator, probed, directory, shard)
        if not probed.asked:
            return {"fault": "the metric of the evaluator never asked for log_probs"}
        proof = probed.prove()
        model.check_unchanged()
    except RefusedError as refusal:
        return {"reason": refusal.args[0], "detail": refusal.args[1]}
    except HandInError as error:
        return {"reason": "refused", "detail": str(error)}
    except (MemoryError, torch.OutOfMemoryError):
        return {"reason": "out_of_memory", "detail": "the evaluation forward needs too much memory"}
    except EvaluatorError as error:
        return {"fault": str(error)}
    except Exception as error:
        path = Path(spec["evaluator"])
        passed = {one.filename for one in traceback.extract_tb(error.__traceback__)}
        by_metric = str(path) in passed and probes.__file__ not in passed
        if not by_metric and not isinstance(error, NoNumberError):
            raise
        told = raised(error, path) if by_metric else str(error)
        error.__traceback__ = None  # which holds the hand-in, and its memory
        del model, probed, container, tensors
        works = _works(evaluator, settings, directory, shard)
        return {"reason": "metric_failed", "detail": told} if works else {"fault": told}
    if not math.isfinite(value):
        detail = f"the metric of the evaluator gave {value} of finite logits"
        return {"reason": "not_finite", "detail": detail}
    score_s = time.monotonic() - began
    flops = {} if spec["device"] == "cpu" else forward_flops(model, settings, spec["device"])
    return {
        "value": value,
        "score_s": score_s,
        "forwards": proof.forwards,
        "forward_s": probed.forward_s,
        "detectable_nats": proof.detectable_nats,
        "parameters": sum(math.prod(t.shape) for t in container.tensors.values()),
        **flops,
    }


def _value(
    evaluator: Evaluator,
    log_probs: Callable[[torch.Tensor], torch.Tensor],
    directory: Path,
    shard: str,
) -> float:
    said = evaluator.metric(log_probs, directory, shard)
    try:
        return float(said)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        says = f"the metric of the evaluator gave {said!r:.100}; expected a number"
        raise NoNumberError(says) from error


def _works(evaluator: Evaluator, settings: Any, directory: Path, shard: str) -> bool:
    """Whether the metric works where a model gives all tokens the same odds.

    What it raises then is no hand-in's doing, neither of its numbers nor of its memory.
    """
    V = settings.vocab_size

    def even(tokens: torch.Tensor) -> torch.Tensor:
        return torch.full((*tokens.shape, V), -math.log(V))

    try:
        _value(evaluator, even, directory, shard)
    except Exception:  # noqa: BLE001  # whatever it is, it is the evaluator's
        return False
    return True


def forward_flops(model: Model, settings: Any, device: str) -> dict[str, float]:
    """Return the operations of products per token in one forward, as torch counts them.

    Attention counts in full, whatever a mask leaves out. A model that cannot be counted so has no
    such figure: a measurement decides nothing.
    """
    shape = settings.evaluation_batch, settings.sequence_length
    try:
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(shape, dtype=torch.int64, device=device))
    except (HandInError, RuntimeError, MemoryError):
        return {}
    return {"flops_per_token": counter.get_total_flops() / math.prod(shape)}


def main(spec: dict[str, Any], trial: int, graph: int, tensors: int) -> None:
    """Run in a jailed process of its own; tell the trial that it can score, then the answer."""
    connection = socket.socket(fileno=trial)
    data = Path(spec["data"])
    try:
        evaluator = load(Path(spec["evaluator"]))
        with calling(evaluator):
            sizes, rows = evaluator.settings(data), evaluator.evaluation_rows(data, spec["shard"])
            check_rows("evaluation_rows", rows, sizes, sizes.evaluation_batch)
    except EvaluatorError as error:
        wire.send_event(connection, fault=str(error))
        return
    wire.send_event(connection, ready=True)  # what fails before is no fault of the hand-in
    memory = mmap.mmap(tensors, os.fstat(tensors).st_size, prot=mmap.PROT_READ)
    answer = score(spec, os.pread(graph, os.fstat(graph).st_size, 0), memoryview(memory))
    wire.send_event(connection, **answer)
