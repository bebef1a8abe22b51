"""A small real training task, as programs: handwritten digits under a fixed budget of arithmetic.

A program defines `train(x, y, seeds, budget)`, which trains a network per seed side by side, and
`logits(theta, x)`; its scores are the log losses on digits that it never saw. Four of its functions
come in variants: these are structure. One text has the chosen variants in it, another has them all
and chooses by constants.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F

from mutate.genome import render
from mutate.ranges import Value

BUDGET = 1_500_000
"""What all steps together may cost; a step is dearer the more rows and the more units it has."""
TRAINED = 1197
"""Rows of 1,797 that train; the others score."""

PARTS: dict[str, dict[str, str]] = {
    "activation": {
        "relu": """
def activation(h):
    return F.relu(h)
""",
        "tanh": """
def activation(h):
    return torch.tanh(h)
""",
        "squared": """
def activation(h):
    return F.relu(h).square()
""",
    },
    "normalise": {
        "none": """
def normalise(h):
    return h
""",
        "rms": """
def normalise(h):
    return h * (h.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt()
""",
    },
    "combine": {
        "plain": """
def combine(h, branch):
    return branch
""",
        "skip": """
def combine(h, branch):
    return h + branch
""",
    },
    "step": {
        "momentum": """
def step(theta, gradient, state, left):
    state["velocity"] = 0.9 * state.get("velocity", 0.0) + gradient
    return theta - LR * left * state["velocity"]
""",
        "adam": """
def step(theta, gradient, state, left):
    state["count"] = state.get("count", 0) + 1
    state["mean"] = 0.9 * state.get("mean", 0.0) + 0.1 * gradient
    state["square"] = 0.99 * state.get("square", 0.0) + 0.01 * gradient.square()
    mean = state["mean"] / (1 - 0.9 ** state["count"])
    square = state["square"] / (1 - 0.99 ** state["count"])
    return theta - LR * left * mean / (square.sqrt() + 1e-8)
""",
        "sign": """
def step(theta, gradient, state, left):
    mean = state.get("mean", torch.zeros_like(theta))
    direction = (0.9 * mean + 0.1 * gradient).sign()
    state["mean"] = 0.99 * mean + 0.01 * gradient
    return theta - LR * left * direction
""",
    },
}

CONSTANTS: dict[str, tuple[float, ...]] = {
    "LR": (0.0003, 0.001, 0.004, 0.016, 0.06, 0.25, 1.0),
    "WIDTH": (16, 32, 64, 128),
    "BATCH": (16, 64, 256),
}

HEAD = '''"""A network that learns handwritten digits."""

import torch
import torch.nn.functional as F

'''
TAIL = """

def sizes():
    return [(64, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 10)]


def matrices(theta):  # (S, P) -> (S, inputs, outputs) of each layer
    parts = theta.split([a * b for a, b in sizes()], dim=1)
    return [part.view(-1, *size) for part, size in zip(parts, sizes())]


def logits(theta, x):  # (S, P), (S or 1, B, 64) -> (S, B, 10)
    first, *hidden, last = matrices(theta)
    h = x @ first
    for matrix in hidden:
        h = combine(h, activation(normalise(h) @ matrix))
    return normalise(h) @ last


def start(draw):
    return torch.cat([torch.randn(a * b, generator=draw) / a**0.5 for a, b in sizes()])


def train(x, y, seeds, budget):
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    theta, state = torch.stack([start(draw) for draw in draws]), {}
    steps = int(budget / ((32 + BATCH) * (32 + WIDTH)))  # both have a price of their own
    for count in range(steps):
        rows = torch.stack([torch.randint(len(x), (BATCH,), generator=draw) for draw in draws])
        theta.requires_grad_()
        found = logits(theta, x[rows]).flatten(0, 1)
        (F.cross_entropy(found, y[rows].flatten()) * len(draws)).backward()
        with torch.no_grad():
            theta = step(theta.detach(), theta.grad, state, 1 - count / steps)
    return theta.detach()
"""


def structured(variants: Mapping[str, str], numbers: Mapping[str, float]) -> str:
    """Return the program that has these variants as its functions."""
    functions = "\n".join(PARTS[part][variant] for part, variant in variants.items())
    return HEAD + _declared(numbers) + "\n" + functions + TAIL


def chosen(variants: Mapping[str, str], numbers: Mapping[str, float]) -> str:
    """Return the program that has all variants and chooses these by constants."""
    names = {part.upper(): variant for part, variant in variants.items()}
    functions = [
        text.replace(f"def {part}(", f"def {part}_{variant}(")
        for part, texts in PARTS.items()
        for variant, text in texts.items()
    ]
    choosing = [
        f'\ndef {part}(*given):\n    return globals()["{part}_" + {part.upper()}](*given)\n'
        for part in PARTS
    ]
    return HEAD + _declared(names | dict(numbers)) + "\n" + "\n".join(functions + choosing) + TAIL


def _declared(values: Mapping[str, Value]) -> str:
    among = {part.upper(): tuple(texts) for part, texts in PARTS.items()} | CONSTANTS
    return "".join(
        f"{name} = {render(value)}  # one of {', '.join(map(str, among[name]))}\n"
        for name, value in values.items()
    )


def score(source: str, seeds: Sequence[int], budget: float = BUDGET) -> list[float]:
    """Train a program of this module and return its log loss in nats, seed by seed.

    NaN or infinity where it diverged.
    """
    x, y = _digits()
    program: dict = {}
    exec(source, program)
    theta = program["train"](x[:TRAINED], y[:TRAINED], seeds, budget)
    with torch.no_grad():
        found = program["logits"](theta, x[None, TRAINED:])
    return [float(F.cross_entropy(one, y[TRAINED:])) for one in found]


@lru_cache(maxsize=1)
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return scikit-learn's digits (1797, 64), shuffled and centred, and their labels (1797,)."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor(x, dtype=torch.float32)[order] / 16
    return pixels - pixels[:TRAINED].mean(dim=0), torch.tensor(y)[order]
