"""Regressions that fit in seconds and predict one row in a fraction of a millisecond.

Each family is a function of features (N, D) and targets (N,) that returns a predictor: plain arrays
and NumPy, so that it pickles small, answers alike in every process and needs neither scikit-learn
nor torch. Fits are functions of their data alone.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

TREES = 300
DRAWN = 120
"""Trees of a forest, which are deeper than boosted ones."""
MEMBERS = 6
HIDDEN = 64
EPOCHS = 200
MINIBATCH = 256
INDUCED = 900
"""Rows on which a process learns its scales: the better half of them the best of the table."""
LINE_SEARCHES = 40


class Predictor(Protocol):
    """A fitted regression."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return predictions (N,) at features (N, D)."""
        ...


@dataclass(frozen=True, slots=True)
class Trees:
    """A sum of trees, walked down all at once.

    Attributes:
        feature: read at each node (M,); a leaf reads 0 and leads to itself.
        threshold: (M,); up to it the way goes left.
        children: left and right of each node (M, 2).
        value: what a leaf adds (M,).
        roots: (T,).
        depth: steps after which every walk stands on a leaf.
        offset: what the sum starts from.
    """

    feature: np.ndarray
    threshold: np.ndarray
    children: np.ndarray
    value: np.ndarray
    roots: np.ndarray
    depth: int
    offset: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the sum of the leaves (N,) that features (N, D) lead to."""
        node = np.repeat(self.roots[None], len(x), axis=0)
        row = np.arange(len(x))[:, None]
        for _ in range(self.depth):
            right = x[row, self.feature[node]] > self.threshold[node]
            node = self.children[node, right.astype(np.intp)]
        return self.offset + self.value[node].sum(axis=1)


@dataclass(frozen=True, slots=True)
class Network:
    """The mean of small networks; weights (E, in, out) and biases (E, 1, out) per layer."""

    centre: np.ndarray
    spread: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of the members (N,) at features (N, D)."""
        h = ((x - self.centre) / self.spread)[None]
        for weight, bias in self.layers[:-1]:
            h = h @ weight + bias
            h = h / (1 + np.exp(-h))
        weight, bias = self.layers[-1]
        return (h @ weight + bias).mean(axis=0)[:, 0]


@dataclass(frozen=True, slots=True)
class Process:
    """The mean of a Gaussian process with a Matérn 5/2 kernel; `rows` (N, D) are scaled."""

    centre: np.ndarray
    scale: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    offset: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the mean (N,) at features (N, D)."""
        x = (x - self.centre) / self.scale
        squares = (x**2).sum(axis=1)[:, None] + (self.rows**2).sum(axis=1) - 2 * x @ self.rows.T
        r = np.sqrt(5 * np.maximum(squares, 0.0))
        return self.offset + ((1 + r + r**2 / 3) * np.exp(-r)) @ self.weights


Family = Callable[[np.ndarray, np.ndarray], Predictor]


def boosted(x: np.ndarray, y: np.ndarray) -> Trees:
    """Fit gradient boosting: many short steps, each on half of the rows and of the features."""
    from sklearn.ensemble import GradientBoostingRegressor

    fitted = GradientBoostingRegressor(
        n_estimators=TREES, learning_rate=0.05, max_depth=6, min_samples_leaf=5, subsample=0.5,
        max_features=0.4, random_state=0,
    ).fit(x, y)  # fmt: skip
    return planted([tree.tree_ for tree in fitted.estimators_[:, 0]], 0.05, float(y.mean()))


def forest(x: np.ndarray, y: np.ndarray) -> Trees:
    """Fit extremely randomised trees."""
    from sklearn.ensemble import ExtraTreesRegressor

    fitted = ExtraTreesRegressor(
        DRAWN, max_features=0.6, min_samples_leaf=3, random_state=0, n_jobs=1
    ).fit(x, y)
    return planted([tree.tree_ for tree in fitted.estimators_], 1 / DRAWN, 0.0)


def planted(trees: Sequence, rate: float, offset: float) -> Trees:
    """Return scikit-learn's trees in arrays, each tree's values multiplied by the rate."""
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    feature = np.concatenate([tree.feature for tree in trees])
    leaf = feature < 0
    children = np.concatenate(
        [np.column_stack([t.children_left, t.children_right]) + start
         for t, start in zip(trees, starts[:-1], strict=True)]
    )  # fmt: skip
    children[leaf] = np.flatnonzero(leaf)[:, None]
    value = np.concatenate([tree.value[:, 0, 0] for tree in trees]) * rate
    return Trees(
        np.where(leaf, 0, feature).astype(np.int32),
        np.concatenate([tree.threshold for tree in trees]),
        children.astype(np.int32),
        value,
        starts[:-1].astype(np.int32),
        max(tree.max_depth for tree in trees),
        offset,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: the order of its sums is then the same everywhere."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def network(x: np.ndarray, y: np.ndarray) -> Network:
    """Fit MEMBERS networks of two hidden layers, which differ in start and order of the rows."""
    import torch
    import torch.nn.functional as F

    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    mean, scale = float(y.mean()), float(y.std()) + 1e-9
    rows = torch.tensor((x - centre) / spread, dtype=torch.float32)
    target = torch.tensor((y - mean) / scale, dtype=torch.float32)
    draw = torch.Generator().manual_seed(0)
    sizes = [(x.shape[1], HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)]
    weights = [torch.randn(MEMBERS, a, b, generator=draw) / math.sqrt(a) for a, b in sizes]
    biases = [torch.zeros(MEMBERS, 1, b) for _, b in sizes]
    learnt = [one.requires_grad_() for one in weights + biases]
    optimizer = torch.optim.AdamW(learnt, weight_decay=0.1)
    size = min(MINIBATCH, len(x))
    steps = EPOCHS * (len(x) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 3e-3, total_steps=steps + 1, pct_start=0.1
    )
    for _ in range(EPOCHS):
        order = torch.stack([torch.randperm(len(x), generator=draw) for _ in range(MEMBERS)])
        for start in range(0, len(x) - size + 1, size):
            chosen = order[:, start : start + size]
            h = rows[chosen]
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                h = F.silu(h @ weight + bias)
            out = (h @ weights[-1] + biases[-1])[..., 0]
            optimizer.zero_grad()
            (F.huber_loss(out, target[chosen]) * MEMBERS).backward()
            optimizer.step()
            schedule.step()
    layers = [
        (w.detach().double().numpy(), b.detach().double().numpy())
        for w, b in zip(weights, biases, strict=True)
    ]
    layers[-1] = layers[-1][0] * scale, layers[-1][1] * scale + mean
    return Network(centre, spread, tuple(layers))


@one_thread()
def process(x: np.ndarray, y: np.ndarray) -> Process:
    """Fit a Gaussian process: its scales on INDUCED rows, its mean on all of them."""
    import torch

    centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    mean, scale = float(y.mean()), float(y.std()) + 1e-9
    rows, target = torch.tensor((x - centre) / spread), torch.tensor((y - mean) / scale)
    subset = torch.tensor(emphasised(y, INDUCED))
    width = x.shape[1]
    # Logarithms: a length per feature, the kernel's variance, the noise's.
    scales = torch.tensor([1.0] * width + [0.0, -4.0], dtype=torch.float64, requires_grad=True)

    def covariance(rows: torch.Tensor) -> torch.Tensor:
        scaled = rows / scales[:width].exp()
        r = torch.cdist(scaled, scaled).clamp_min(1e-9) * math.sqrt(5)
        matern = scales[width].exp() * (1 + r + r**2 / 3) * torch.exp(-r)
        return matern + (scales[width + 1].exp() + 1e-6) * torch.eye(len(rows), dtype=r.dtype)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        root = torch.linalg.cholesky(covariance(rows[subset]))
        white = torch.linalg.solve_triangular(root, target[subset, None], upper=False)
        # A broad log-normal prior keeps the lengths of idle features finite.
        prior = ((scales[:width] - 1.5) / 1.5).square().sum() / 2
        found = white.square().sum() / 2 + root.diagonal().log().sum() + prior
        found.backward()
        return found

    optimizer = torch.optim.LBFGS([scales], max_iter=LINE_SEARCHES, line_search_fn="strong_wolfe")
    optimizer.step(loss)
    with torch.no_grad():
        root = torch.linalg.cholesky(covariance(rows))
        weights = torch.cholesky_solve(target[:, None], root)[:, 0] * scales[width].exp() * scale
        lengths = scales[:width].exp()
        scaled = (rows / lengths).numpy()
        return Process(centre, spread * lengths.numpy(), scaled, weights.numpy(), mean)


def emphasised(y: np.ndarray, size: int) -> np.ndarray:
    """Return indices of at most `size` rows: the lowest half of them the lowest of all."""
    order = np.argsort(y, kind="stable")
    best, rest = order[: size // 2], order[size // 2 :]
    drawn = np.random.default_rng(0).permutation(rest)[: size - len(best)]
    return np.concatenate([best, drawn])


FAMILIES: dict[str, Family] = {
    "boosted": boosted, "forest": forest, "network": network, "process": process,
}  # fmt: skip
