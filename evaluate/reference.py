"""A short fixed workload: how fast is this machine right now?

Timed on the trial's own cores before and after it. A program that trains few steps on a machine
whose reference is at its norm is a slow program; one on a machine off its norm was disturbed.
"""

import statistics
import time

REPEATS = 9


def seconds(device: str) -> float:
    """Return the median duration of one repetition, in seconds (some ms on a core or a GPU)."""
    import torch

    size, dtype = (256, torch.float32) if device == "cpu" else (4096, torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(size, size, generator=generator).to(device, dtype)
    weights = matrix / size**0.5
    timings = []
    with torch.no_grad():
        for _ in range(REPEATS + 1):
            began = time.perf_counter()
            x = matrix
            for _ in range(12):
                x = torch.tanh(x @ weights)
            total = sum(value * value for value in range(20_000))
            if not torch.isfinite(x.sum()).item() or total < 0:
                raise ArithmeticError("the reference workload computed nonsense")
            timings.append(time.perf_counter() - began)
    return statistics.median(timings[1:])
