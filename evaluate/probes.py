"""Proves that a model's log-probabilities look only backwards and treat each row alone.

The task's metric reads every row once, and what the model said of each true token is kept. Then
pairs (row, cut) are drawn in secret and read again, in batches of the same shape: everything from
the cut on is replaced by other validation text, the neighbours are others. What was said of the
tokens up to the cut must come out again: the token at the cut is predicted from what stands
before it alone, so a model that has read it, or anything later, answers differently. Of the token
after a row's last position nobody here knows the true one, so the one that was thought likeliest
stands for it: some rows are read again whole, beside others, of which one may begin where they end.

Most cuts are drawn where a peek pays: in proportion to how much better a token was foretold than
by counting trigrams (`surprise.py`). So a leak is found by its worth, not by its number of
positions: with N cuts, a leak of L nats per token is met about N * L / D times, where D is the
mean of that lead, honest lead included. `detectable_nats` is the L that is found with 99%
probability, whatever positions it hides at.
"""

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evaluate.surprise import lead_nats
from population.errors import EvaluatorError

PROBES, MOST_PROBES = 2, 10_240
"""Cuts per scored row, and how many at most."""
MORE_PROBES = 4
"""Times as many further ones where rounding in low precision calls for a wide tolerance."""
UNIFORM_SHARE = 0.25
"""Share of the cuts that is drawn evenly, for leaks that are faint everywhere."""
TOLERANCE_NATS = 1e-4
"""Change that is rounding, relative to the log-probability where that exceeds 1."""
LOW_PRECISION_TOLERANCE_NATS = 5e-2
ALLOWED_ROWS = 1
"""Rows that may differ before a cut: a near-tie in a routing decision is no leak."""
GAIN_ERRORS = 5.0
"""Standard errors by which the true text may gain at the cuts before it counts as a leak."""
FEW_FORWARDS = 4
"""After so many it shows how long one takes."""
WHOLE_ROWS = 192
"""Rows that are read again as they are, for what is said at their last position."""
SURE = 0.99
SURE_ERRORS = 2.33
"""The same 99%, in standard errors."""
DONORS = 6


class RefusedError(Exception):
    """The hand-in earns no score: (reason, detail)."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the probes have shown.

    Attributes:
        detectable_nats: per token; a larger leak would have been found with 99% probability.
        cuts: how many were looked at. forwards: calls of the model, scoring included.
    """

    detectable_nats: float
    cuts: int
    forwards: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What was seen at the cuts.

    Attributes:
        changes: per cut, the largest change of what was said of tokens up to it, in nats,
            relative where the log-probability exceeds 1.
        gains: per cut, what the true text had gained there, in nats, weighted so that the mean
            estimates the leak per token.
    """

    changes: torch.Tensor
    gains: torch.Tensor

    def leaking(self, tolerance: float) -> int:
        """Return at how many cuts more changed than the tolerance allows."""
        return int((self.changes > tolerance).sum())

    def biased(self, tolerance: float) -> bool:
        """Return whether the true text gains more than accidents of rounding explain.

        Cuts beyond the tolerance count as leaks; here a single one would drown all others.
        """
        gains = self.gains[self.changes <= tolerance]
        if len(gains) < 2:
            return False
        error = (gains.std() / math.sqrt(len(gains))).item()
        return gains.mean().item() > max(TOLERANCE_NATS, GAIN_ERRORS * error)


class Probed:
    """Turns a model into log-probabilities for a metric, and proves them afterwards.

    Args:
        model: tokens (E, T) int64 -> logits (E, T, V).
        low_precision: the model computes in 16 bits somewhere: rounding may explain more.
        shape: (E, T) of the tokens that it may be asked for, None: any.
    """

    def __init__(
        self,
        model: Callable[[torch.Tensor], torch.Tensor],
        vocab_size: int,
        device: str,
        low_precision: bool = False,
        forward_limit_s: float = math.inf,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self._shape = shape
        self._model, self._vocab, self._limit_s = model, vocab_size, forward_limit_s
        self._clock = time.process_time if device == "cpu" else time.perf_counter
        self._forwards_s = 0.0
        self._device, self._low_precision = device, low_precision
        self._random = np.random.default_rng(secrets.randbits(128))
        self._rows: list[torch.Tensor] = []
        self._due: list[torch.Tensor] = []
        self._said: list[torch.Tensor] = []
        self._forwards = 0

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities (E, T, V) float32 of the next token.

        Raises:
            RefusedError: what the model gives is none.
            EvaluatorError: the metric gives other tokens than it has to.
        """
        if self._shape and (tokens.shape != self._shape or tokens.dtype != torch.int64):
            raise EvaluatorError(
                f"the metric of the evaluator asked log_probs for {tokens.dtype} "
                f"{tuple(tokens.shape)}; expected torch.int64 (E, T) = {self._shape}"
            )
        log_probs = self._forward(tokens)
        due = torch.cat([tokens[:, 1:].cpu(), log_probs[:, -1:].argmax(-1).cpu()], dim=1)
        self._rows.append(tokens.clone())
        self._due.append(due)
        self._said.append(_of_tokens(log_probs, due))
        return log_probs

    @property
    def asked(self) -> bool:
        """Whether anything has been said."""
        return bool(self._rows)

    def prove(self) -> Proof:
        """Probe everything that was said so far. Raises RefusedError where it does not hold.

        The strict tolerance is tried first at any precision: most models in 16 bits repeat to
        the last bit as well.
        """
        rows, due = torch.cat(self._rows), torch.cat(self._due)  # (N, T) each
        whole = torch.cat(self._said)  # (N, T), up to and with the last position
        said = whole[:, :-1]
        ends = self._look_at_ends(rows, due, whole)
        where = "cuda" if self._device == "cuda" else "cpu"  # which count in 64 bits; mps does not
        lead = lead_nats(rows.to(where), said.to(where), self._vocab).cpu()
        probes = min(PROBES * len(rows), MOST_PROBES)
        found, tolerance = self._look(rows, said, lead, probes), TOLERANCE_NATS
        leaking = found.leaking(tolerance) + int((ends > tolerance).sum())
        if self._low_precision and leaking > ALLOWED_ROWS:
            tolerance = LOW_PRECISION_TOLERANCE_NATS
            more = self._look(rows, said, lead, MORE_PROBES * probes)
            found = Findings(
                torch.cat([found.changes, more.changes]), torch.cat([found.gains, more.gains])
            )
            leaking = found.leaking(tolerance) + int((ends > tolerance).sum())
        if leaking > ALLOWED_ROWS or found.biased(tolerance):
            raise self._refusal(found, tolerance)
        cuts = len(found.changes)
        return Proof(_detectable(lead, said, cuts, tolerance), cuts, self._forwards)

    def _look(
        self, rows: torch.Tensor, said: torch.Tensor, lead: torch.Tensor, probes: int
    ) -> Findings:
        """Read as many cuts again, or a few more: in batches of the shape of those scored."""
        width, batch = rows.shape[1] - 1, len(self._rows[0])
        probes = -(-probes // batch) * batch
        places, weights = _draw(lead.numpy().ravel(), probes, self._random)
        changes, gains = [], []
        for first in range(0, len(places), batch):
            chosen = torch.from_numpy(places[first : first + batch])
            index, cuts = chosen // width, chosen % width + 1
            change, gain = self._probe(rows, said[index], index, cuts)
            changes.append(change)
            gains.append(gain)
        return Findings(torch.cat(changes), torch.cat(gains).double() * torch.from_numpy(weights))

    def _look_at_ends(
        self, rows: torch.Tensor, due: torch.Tensor, said: torch.Tensor
    ) -> torch.Tensor:
        """Read some rows again as they are, beside others; return the largest change of each."""
        batch = len(self._rows[0])
        count = -(-min(WHOLE_ROWS, len(rows)) // batch) * batch
        drawn = torch.from_numpy(self._random.permutation(len(rows))[:count])
        changes = []
        for first in range(0, count, batch):
            index = drawn[first : first + batch]
            again = _of_tokens(self._forward(rows[index]), due[index])
            changes.append(_change(said[index], again).amax(1))
        return torch.cat(changes)

    def _probe(
        self, rows: torch.Tensor, said: torch.Tensor, index: torch.Tensor, cuts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read one batch of (row, cut) again with other text behind the cuts.

        Returns:
            For each pair the largest change up to the cut, and the gain of the true text at it.
        """
        true = rows[index]
        changed = torch.where(
            torch.arange(true.shape[1]) < cuts[:, None], true, self._donors(rows, true, cuts)
        )
        again = _of_tokens(self._forward(changed), true[:, 1:])
        before = torch.arange(true.shape[1] - 1) < cuts[:, None]
        change = torch.where(before, _change(said, again), 0.0).amax(1)
        return change, (said - again).gather(1, cuts[:, None] - 1)[:, 0]

    def _donors(self, rows: torch.Tensor, true: torch.Tensor, cuts: torch.Tensor) -> torch.Tensor:
        """Return other rows, each of which has another token at its cut where one can be found."""
        count = len(true)
        drawn = torch.from_numpy(self._random.integers(0, len(rows), (DONORS, count)))
        differs = rows[drawn, cuts] != true[torch.arange(count), cuts]  # (DONORS, E)
        return rows[drawn[differs.int().argmax(0), torch.arange(count)]]

    def _forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Run the model on a copy and normalise: only what log-softmax leaves can be scored.

        Its result is finite where, and only where, every logit is.
        """
        self._forwards += 1
        began = self._clock()
        logits = self._model(tokens.clone().to(self._device))
        expected = (*tokens.shape, self._vocab)
        if tuple(logits.shape) != expected or not logits.is_floating_point():
            raise RefusedError(
                "wrong_shape",
                f"expected float logits {expected}, got {logits.dtype} {tuple(logits.shape)}",
            )
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        if not all(math.isfinite(end.item()) for end in torch.aminmax(log_probs)):
            raise RefusedError(
                "not_finite",
                "the logits are not finite: the training diverged, or the forward divides by zero "
                "or masks tokens with -inf, where -1e4 says as much",
            )
        self._forwards_s += self._clock() - began
        self._check_work()
        return log_probs

    def _check_work(self) -> None:
        """Raise RefusedError where a forward works for so long that it could train meanwhile."""
        if self._forwards >= FEW_FORWARDS and self.forward_s > self._limit_s:
            raise RefusedError(
                "forward_limit",
                f"a forward of {len(self._rows[0])} rows takes {self.forward_s:.2f} s, more than "
                f"{self._limit_s:.2f} s: no more may be computed in it than helps to tell the next "
                "token; compute before the bell what does not depend on the tokens, or use a "
                "smaller model",
            )

    @property
    def forward_s(self) -> float:
        """The mean duration of a forward; in processor seconds where it runs on processors."""
        return self._forwards_s / max(self._forwards, 1)

    def _refusal(self, found: Findings, tolerance: float) -> RefusedError:
        """Return how the rule was broken, told by one batch of rows that is read three times."""
        rows, due = self._rows[0], self._due[0]
        share = (
            f"{found.leaking(tolerance)} of {len(found.changes)} probed rows, "
            f"{found.gains.mean().item():.4f} nats per token"
        )
        said = _of_tokens(self._forward(rows), due)
        again = _of_tokens(self._forward(rows), due)
        if (_change(said, again) > tolerance).any().item():
            return RefusedError(
                "not_repeatable",
                "the same tokens gave other logits: the evaluation forward must not be random",
            )
        kept = len(rows) // 2
        others, theirs = (
            torch.cat([one[:kept], one[:kept].flip(0), one[:1]])[: len(rows)] for one in (rows, due)
        )
        turned = _of_tokens(self._forward(others), theirs)
        whole = found.leaking(tolerance) <= ALLOWED_ROWS and not found.biased(tolerance)
        if (
            whole or (_change(said, turned)[:kept, :-1] > tolerance).any().item()
        ):  # its own text stood
            return RefusedError(
                "rows_depend",
                f"logits of a row changed with its neighbours ({share}): rows are independent",
            )
        return RefusedError(
            "not_causal",
            f"logits changed with tokens that come later ({share}): position t may use tokens "
            "0..t only",
        )


def _change(said: torch.Tensor, again: torch.Tensor) -> torch.Tensor:
    """Return by how much log-probabilities differ, relative where they exceed 1."""
    return (said - again).abs() / said.abs().clamp(min=1.0)


def _detectable(lead: torch.Tensor, said: torch.Tensor, cuts: int, tolerance: float) -> float:
    """Return the leak in nats per token that these cuts find with 99% probability.

    Two kinds add up: peeks beyond the tolerance, met in proportion to their worth, and faint
    ones below it, which show in the mean gain alone.
    """
    beyond = _sure_hits() * lead.mean().item() / (cuts * (1 - UNIFORM_SHARE))
    faint = tolerance * said.abs().clamp(min=1.0).mean().item()
    share = (GAIN_ERRORS + SURE_ERRORS) ** 2 / (cuts * UNIFORM_SHARE)
    return beyond + min(faint, max(TOLERANCE_NATS, faint * min(share, 1.0)))


def _of_tokens(log_probs: torch.Tensor, due: torch.Tensor) -> torch.Tensor:
    """Return (E, D): the log-probability of each token that is due at the first D positions."""
    places = due[..., None].to(log_probs.device)
    return log_probs[:, : due.shape[1]].gather(2, places)[..., 0].cpu()


def _draw(
    lead: npt.NDArray[Any], count: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Draw places in proportion to the lead, a share of them evenly.

    Returns:
        Places (count,), and for each the weight under which a mean over them estimates the mean
        over all places.
    """
    total = float(lead.sum(dtype=np.float64))
    even = 1.0 / len(lead)
    paying = lead / total if total > 0 else np.full(len(lead), even)
    chances = (1 - UNIFORM_SHARE) * paying + UNIFORM_SHARE * even
    steps = np.cumsum(chances, dtype=np.float64)
    places = np.searchsorted(steps, random.random(count) * steps[-1], side="right")
    places = np.minimum(places, len(lead) - 1).astype(np.int64)
    return places, even / np.asarray(chances, np.float64)[places]


def _sure_hits() -> float:
    """Return the mean number of hits at which more than the allowed ones are 99% sure."""
    low, high = 0.0, 100.0
    for _ in range(60):
        mean = (low + high) / 2
        few = (mean**k / math.factorial(k) for k in range(ALLOWED_ROWS + 1))
        low, high = (mean, high) if math.exp(-mean) * sum(few) > 1 - SURE else (low, mean)
    return high
