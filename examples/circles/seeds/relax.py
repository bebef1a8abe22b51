import json
import os
import time
from pathlib import Path

import numpy as np
from scipy.optimize import linprog, minimize

N = 26  # fixed
SECONDS = 7.5  # 4..8
JITTER = 0.05  # log 0.002..0.3
ITERATIONS = 20  # log 5..200
FIRST_RADIUS = 0.05  # 0.01..0.1

BEGUN = time.monotonic()
FIRST, SECOND = np.triu_indices(N, 1)
PAIRS = np.zeros((len(FIRST), N))
PAIRS[np.arange(len(FIRST)), FIRST] = PAIRS[np.arange(len(FIRST)), SECOND] = 1


def radii(centres):  # (N, 2) -> (N,): the largest in sum, a linear program
    apart = np.linalg.norm(centres[FIRST] - centres[SECOND], axis=1)
    near = apart < 0.5
    edge = np.minimum(centres, 1 - centres).min(axis=1)
    bounds = [(0.001, max(0.001, e)) for e in edge]
    found = linprog(-np.ones(N), PAIRS[near], apart[near], bounds=bounds, method="highs")
    return found.x if found.success else np.full(N, 0.001)


def start(rng):
    rows = [6, 5, 5, 5, 5]
    places = [((i + 0.5) / n, (j + 0.5) / len(rows)) for j, n in enumerate(rows) for i in range(n)]
    return np.clip(np.array(places) + rng.normal(0, JITTER, (N, 2)), 0.02, 0.98)


def room(z):  # (3N,) -> what is left between circles and to the sides, >= 0 where they fit
    x, y, r = z.reshape(3, N)
    apart = np.hypot(x[FIRST] - x[SECOND], y[FIRST] - y[SECOND])
    sides = (x - r, y - r, 1 - x - r, 1 - y - r)
    return np.concatenate([apart - r[FIRST] - r[SECOND], *sides])


def slopes(z):  # (3N,) -> (constraints, 3N)
    x, y, _ = z.reshape(3, N)
    pairs = np.arange(len(FIRST))
    apart = np.hypot(x[FIRST] - x[SECOND], y[FIRST] - y[SECOND]) + 1e-12
    found = np.zeros((len(FIRST) + 4 * N, 3 * N))
    for axis, place in enumerate((x, y)):
        lean = (place[FIRST] - place[SECOND]) / apart
        found[pairs, axis * N + FIRST], found[pairs, axis * N + SECOND] = lean, -lean
    found[pairs, 2 * N + FIRST] = found[pairs, 2 * N + SECOND] = -1
    own = np.arange(N)
    for side, (axis, sign) in enumerate(((0, 1), (1, 1), (0, -1), (1, -1))):
        found[len(FIRST) + side * N + own, axis * N + own] = sign
        found[len(FIRST) + side * N + own, 2 * N + own] = -1
    return found


def climb(centres, rng):
    best = radii(centres)
    tried = centres
    while time.monotonic() - BEGUN < SECONDS:
        z = np.concatenate([tried.T.ravel(), np.full(N, FIRST_RADIUS)])
        moved = minimize(
            lambda z: -z[2 * N :].sum(),
            z,
            jac=lambda z: np.repeat([0.0, -1.0], [2 * N, N]),
            constraints={"type": "ineq", "fun": room, "jac": slopes},
            method="SLSQP",
            options={"maxiter": int(ITERATIONS)},
        )
        ended = np.clip(moved.x[: 2 * N].reshape(2, N).T, 0.01, 0.99)
        sizes = radii(ended)
        if sizes.sum() > best.sum():
            centres, best = ended, sizes
        tried = start(rng)
    return centres, best


rng = np.random.default_rng(int(os.environ.get("EVOLVE_SEED", "0")))
centres, sizes = climb(start(rng), rng)
circles = np.column_stack([centres, sizes]).tolist()
Path("circles.json").write_text(json.dumps(circles))
