"""The trusted scorer: runs the hand-in on rows that nobody else saw, and probes it meanwhile.

The task's metric gets a `log_probs(tokens)` that was computed here from logits, and that is
causal, row-independent, finite and repeatable as far as the probes can tell. Each probe repeats
a scoring batch with every row's suffix, from a secret cut on, replaced by other validation text
and the rows in another order; the calls come in random order and look alike. What stands before a
cut must not change.

How small a leak is found: with N rows, k probes and `ALLOWED_ROWS` accidents forgiven, a model
that peeks at a share f of its positions shows in about N*k*f rows; `detectable_share` is the f
that is found with 99% probability.
"""

import json
import math
import mmap
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluate import wire
from evaluate.container import HandInError, parse
from evaluate.evaluator import load
from evaluate.graph import Model

PROBES = 2
TOLERANCE_NATS = 1e-4
LOW_PRECISION_TOLERANCE_NATS = 5e-2
GAIN_ERRORS = 5.0
"""Standard errors by which the true text may gain at a cut before it counts as a leak."""
ALLOWED_ROWS = 1
"""Rows that may differ before a cut: a near-tie in a routing decision is no leak."""


class RefusedError(Exception):
    """The hand-in earns no score: (reason, detail)."""


class Probed:
    """Turns a model into proven log-probabilities; counts what the probes saw.

    Args:
        pool: other validation rows (N, T) int64, the donors of replaced suffixes.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], torch.Tensor],
        pool: torch.Tensor,
        vocab_size: int,
        device: str,
        tolerance: float,
    ) -> None:
        self._model, self._pool, self._vocab = model, pool, vocab_size
        self._device, self._tolerance = device, tolerance
        self._random = np.random.default_rng(secrets.randbits(128))
        self.calls = 0
        self.probed_rows = 0
        self.leaking: list[float] = []
        self.gains: list[torch.Tensor] = []

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities (E, T, V) float32 of the next token. Raises RefusedError."""
        rows, length = tokens.shape
        calls = [tokens]
        probes: list[tuple[torch.Tensor, torch.Tensor]] = []
        for _ in range(PROBES):
            cuts = torch.from_numpy(self._random.integers(1, length, rows))
            donors = self._pool[torch.from_numpy(self._random.integers(0, len(self._pool), rows))]
            changed = torch.where(torch.arange(length) < cuts[:, None], tokens, donors)
            order = torch.from_numpy(self._random.permutation(rows))
            calls.append(changed[order])
            probes.append((cuts[order], order))
        results = {int(i): self._forward(calls[i]) for i in self._random.permutation(len(calls))}
        for index, (cuts, order) in enumerate(probes, 1):
            self._compare(tokens, results[0], cuts, order, results[index])
        return results[0]

    def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run the model on a copy and normalise: only what log-softmax leaves can be scored."""
        self.calls += 1
        logits = self._model(tokens.clone().to(self._device))
        expected = (*tokens.shape, self._vocab)
        if tuple(logits.shape) != expected or not logits.is_floating_point():
            raise RefusedError(
                "wrong_shape",
                f"expected float logits {expected}, got {logits.dtype} {tuple(logits.shape)}",
            )
        log_probs = torch.log_softmax(logits.float(), dim=-1).cpu()
        if not torch.isfinite(logits).all().item() or not torch.isfinite(log_probs).all().item():
            raise RefusedError(
                "not_finite",
                "the logits are not finite: the training diverged, or the forward divides by zero",
            )
        return log_probs

    def _compare(
        self,
        tokens: torch.Tensor,
        true: torch.Tensor,
        cuts: torch.Tensor,
        order: torch.Tensor,
        probe: torch.Tensor,
    ) -> None:
        """Collect, per row, the largest change of a true target's log-probability before its cut.

        The last position before a cut predicts the first replaced token: its true target is
        looked up in both, so a peek at the next token shows there.
        """
        targets = tokens[order][:, 1:, None]
        before = torch.arange(tokens.shape[1] - 1) < cuts[:, None]
        first = true[order][:, :-1].gather(2, targets)[..., 0]
        second = probe[:, :-1].gather(2, targets)[..., 0]
        self.gains.append((first - second).gather(1, cuts[:, None] - 1)[:, 0])
        excess = (first - second).abs() - self._tolerance * first.abs().clamp(min=1.0)
        worst = torch.where(before, excess, torch.full_like(excess, -1.0)).amax(1)
        self.probed_rows += len(worst)
        self.leaking += worst[worst > 0].tolist()

    def verdict(self, rows: torch.Tensor) -> None:
        """Raise RefusedError when more changed before the cuts than accidents explain.

        Accidents of rounding favour neither side; a peek favours the true text. So besides rows
        beyond the tolerance, the mean gain of the true text at the last position before the cut
        counts: in low precision, where the tolerance is wide, it finds what hides below it.
        """
        gain = torch.cat(self.gains).double()
        error = (gain.std() / math.sqrt(len(gain))).item()
        biased = gain.mean().item() > max(TOLERANCE_NATS, GAIN_ERRORS * error)
        if len(self.leaking) <= ALLOWED_ROWS and not biased:
            return
        first = self._forward(rows)
        if (self._forward(rows) - first).abs().max().item() > self._tolerance:
            raise RefusedError(
                "not_repeatable",
                "the same tokens gave other logits: the evaluation forward must not be random",
            )
        kept = len(rows) // 2
        others = torch.cat([rows[:kept], rows[:kept].flip(0)])[: len(rows)]
        turned, first = self._forward(others)[:kept], first[:kept]
        share = f"{len(self.leaking)} of {self.probed_rows} probed rows, {gain.mean():.4f} nats"
        if (turned - first).abs().max().item() > 10 * self._tolerance:
            raise RefusedError(
                "rows_depend",
                f"logits of a row changed with its neighbours ({share}): rows are independent",
            )
        raise RefusedError(
            "not_causal",
            f"logits changed with tokens that come later ({share}): position t may use tokens "
            "0..t only",
        )

    def detectable_share(self) -> float:
        """Return the share of leaking positions that is found with 99% probability."""
        low, high = 0.0, float(self.probed_rows)
        for _ in range(60):
            mean = (low + high) / 2
            missed = sum(
                math.exp(-mean) * mean**k / math.factorial(k) for k in range(ALLOWED_ROWS + 1)
            )
            low, high = (mean, high) if missed > 0.01 else (low, mean)
        return high / max(self.probed_rows, 1)


def score(spec: dict[str, Any], graph: bytes, tensors: memoryview | bytes) -> dict[str, Any]:
    """Return `{"value": ..., measurements}` or `{"reason": ..., "detail": ...}` as plain data."""
    began = time.monotonic()
    directory, shard = Path(spec["data"]), spec["shard"]
    evaluator = load(Path(spec["evaluator"]))
    settings = evaluator.settings(directory)
    pool = torch.from_numpy(evaluator.evaluation_rows(directory, shard)[:, :-1].astype(np.int64))
    try:
        container = parse(graph, max_tensor_bytes=spec["max_tensor_bytes"])
        if len(tensors) < container.size:
            raise HandInError(f"{len(tensors)} bytes of tensors, expected {container.size}")
        model = Model(container, tensors, spec["device"])
        low = any(name in graph for name in (b"bfloat16", b"float16"))
        tolerance = LOW_PRECISION_TOLERANCE_NATS if low else TOLERANCE_NATS
        probed = Probed(model, pool, settings.vocab_size, spec["device"], tolerance)
        value = evaluator.metric(probed, directory, shard)
        probed.verdict(pool[: settings.evaluation_batch])
    except RefusedError as refusal:
        return {"reason": refusal.args[0], "detail": refusal.args[1]}
    except HandInError as error:
        return {"reason": "refused", "detail": str(error)}
    except (MemoryError, torch.OutOfMemoryError):
        return {"reason": "out_of_memory", "detail": "the evaluation forward needs too much memory"}
    if not math.isfinite(value):
        return {"reason": "not_finite", "detail": "the metric is not finite"}
    return {
        "value": value,
        "score_s": time.monotonic() - began,
        "forwards": probed.calls,
        "detectable_share": probed.detectable_share(),
        "parameters": sum(math.prod(t.shape) for t in container.tensors.values()),
    }


def main(spec: dict[str, Any], trial: int, graph: int, tensors: int) -> None:
    """Run in a jailed process of its own; the answer goes to the trial as one event."""
    size = os.fstat(tensors).st_size
    with mmap.mmap(tensors, size, prot=mmap.PROT_READ) as memory:
        answer = score(spec, os.pread(graph, os.fstat(graph).st_size, 0), memory[:])
    wire.send(socket.socket(fileno=trial), b"J", json.dumps(answer).encode())
