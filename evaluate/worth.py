"""What a leak of the size that the probes may miss is worth, in units of the task's metric."""

from pathlib import Path

import torch

from evaluate.evaluator import Evaluator

LINEAR = 1e-3
"""By how much one nat may be worth more than the next."""


def worth_of_a_nat(evaluator: Evaluator, directory: Path, shard: str) -> float | None:
    """Return by how much the metric moves where each token is foretold worse by one nat.

    The metric is asked about log-probabilities that are the same for all tokens: no model runs.

    Returns:
        Units of the metric per nat/token, above 0; None where it depends on the level or is blind
        to it, so that no such figure exists.
    """
    vocabulary = evaluator.settings(directory).vocab_size

    def at(level: float) -> float:
        def even(tokens: torch.Tensor) -> torch.Tensor:  # (E, T) -> (E, T, V)
            return torch.tensor(level).expand(*tokens.shape, vocabulary)

        return evaluator.metric(even, directory, shard)

    zero, one, two = at(0.0), at(-1.0), at(-2.0)
    first, second = one - zero, two - one
    told = first != 0.0 and abs(second - first) <= LINEAR * abs(first)
    return abs(first) if told else None


def compared(detectable_nats: float, nat: float, sigma: float | None, metric: str) -> str:
    """Return the smallest leak that is surely found as a sentence, beside the noise.

    Args:
        detectable_nats: per token, as measured with an evaluation.
        nat: as `worth_of_a_nat` says.
        sigma: noise of one evaluation, None while unknown.
        metric: its name.
    """
    leak = detectable_nats * nat
    said = f"a leak of {leak:.4f} {metric} is found with 99% probability"
    if not sigma:
        return said
    if leak < sigma:
        return f"{said}, below the noise"
    return f"{said}: gains below that may be one, read the program's forward"
