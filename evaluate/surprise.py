"""How much better tokens were foretold than by counting: where a peek would pay."""

import torch

BUCKETS = 1 << 22
"""Contexts are counted by hash; collisions blur a count now and then and do no harm."""
MULTIPLIER = 2_654_435_761
PRIOR_COUNTS = 8.0
"""Weight of the shorter context, in counts."""


def lead_nats(rows: torch.Tensor, said: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return (N, T - 1): by how many nats each token was foretold better than by its trigram.

    No peek gains more than this over a model that counts: where counting already foretells a
    token, there is nothing to steal.

    Args:
        rows: tokens (N, T) int64.
        said: log-probabilities of the tokens after the first, (N, T - 1).
        vocab_size: V.

    Source: interpolated counts, Jelinek and Mercer 1980, each token left out of its own counts.
    """
    return (said - trigram_log_probs(rows, vocab_size)).clamp(min=0.0)


def trigram_log_probs(rows: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return (N, T - 1): log-probability of each token after the first by counts of these rows."""
    tokens, before = rows[:, 1:], rows[:, :-1]
    earlier = torch.cat([torch.full_like(rows[:, :1], vocab_size), rows[:, :-2]], dim=1)
    seen = torch.bincount(rows.reshape(-1), minlength=vocab_size)
    probs = (seen[tokens] - 0.5) / (rows.numel() - 0.5 * vocab_size)
    probs = probs.clamp(min=0.5 / rows.numel())
    for context in (before, earlier * (vocab_size + 1) + before):
        whole = _counts(context) - 1.0
        both = _counts(context * vocab_size + tokens) - 1.0
        probs = (both + PRIOR_COUNTS * probs) / (whole + PRIOR_COUNTS)
    return probs.clamp(max=1.0).log()


def _counts(codes: torch.Tensor) -> torch.Tensor:
    """Return for each code how often it occurs."""
    hashed = (codes * MULTIPLIER) % ((1 << 61) - 1) % BUCKETS
    return torch.bincount(hashed.reshape(-1), minlength=BUCKETS)[hashed].double()
