"""What one trial of autoresearch takes: memory, seconds, and what of it fails.

Where memory runs out is no matter of statistics: a linear function of what a model must hold tells
all of the table's failed trials from its scored ones.
"""

from dataclasses import dataclass

import numpy as np

from bench.trials import SEQUENCE, Trials, shape


@dataclass(frozen=True, slots=True)
class Machine:
    """What one trial takes: memory and seconds, linear in what the constants imply.

    Attributes:
        memory: coefficients of `holdings`.
        limit_gb: more than that fails.
        seconds: coefficients of `work`.
        failed_s: median of what a trial takes that runs out of memory.
        refused_s: what it takes to refuse a batch that the device's batch does not divide.
    """

    memory: np.ndarray
    limit_gb: float
    seconds: np.ndarray
    failed_s: float
    refused_s: float

    def failure(self, numbers: np.ndarray) -> tuple[str, float]:
        """Return reason and cost of one row's failure; the reason is empty where it trains."""
        if indivisible(numbers)[0]:
            return "crash", self.refused_s
        if self.overflows(numbers)[0]:
            return "out_of_memory", self.failed_s
        return "", 0.0

    def overflows(self, numbers: np.ndarray) -> np.ndarray:
        """Tell which constants (N, 14) need more memory than there is (N,)."""
        return self.memory_gb(numbers) > self.limit_gb

    def memory_gb(self, numbers: np.ndarray) -> np.ndarray:
        """Return peak memory (N,) at constants (N, 14)."""
        return holdings(numbers) @ self.memory

    def cost_s(self, numbers: np.ndarray) -> np.ndarray:
        """Return seconds (N,) of constants (N, 14) that train."""
        return work(numbers) @ self.seconds


def machine(data: Trials) -> Machine:
    """Fit memory and seconds of these trials, the limit where it tells most of them apart."""
    scored, held = data.scored, holdings(data.numbers)
    memory = least_squares(held[scored], data.memory_gb[scored])
    seconds = least_squares(work(data.numbers[scored]), data.cost_s[scored])
    failed_s = data.cost_s[~scored]
    if not len(failed_s):
        return Machine(memory, np.inf, seconds, 0.0, 0.0)
    order = np.argsort(held @ memory)
    # Wrong at each limit: the failed below it and the scored above it.
    wrong = np.cumsum(~scored[order]) + scored.sum() - np.cumsum(scored[order])
    limit_gb = float((held @ memory)[order][np.argmin(wrong)])
    return Machine(memory, limit_gb, seconds, float(np.median(failed_s)), float(failed_s.min()))


def indivisible(numbers: np.ndarray) -> np.ndarray:
    """Tell which constants (N, 14) train.py refuses: it accumulates whole batches of the device."""
    return numbers[:, 4] % (numbers[:, 3] * SEQUENCE) != 0


def holdings(numbers: np.ndarray) -> np.ndarray:
    """Return what memory goes to (N, 5): parameters, activations, logits, a layer, the rest."""
    of = shape(numbers)
    wide = of.tokens * of.width
    parts = [of.parameters, wide * of.depth, of.tokens, wide, np.full(len(wide), 1e9)]
    return np.column_stack(parts) / 1e9


def work(numbers: np.ndarray) -> np.ndarray:
    """Return what seconds go to (N, 3): the budget, compilation by depth, evaluation by size."""
    of = shape(numbers)
    return np.column_stack([np.ones(len(numbers)), of.depth, of.flops / 1e9])


def least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scale = np.abs(x).max(axis=0)
    return np.linalg.lstsq(x / scale, y, rcond=None)[0] / scale
