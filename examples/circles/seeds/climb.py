import json
import os
import time
from pathlib import Path

import numpy as np
from scipy.optimize import linprog

N = 26  # fixed
SECONDS = 7.5  # 4..8
STEP = 0.08  # log 0.005..0.3
COOLING = 2.0  # 0.5..6
MOVED = 3  # 1..26
JITTER = 0.02  # log 0.001..0.1

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
    rows = [5, 6, 5, 5, 5]
    places = [((i + 0.5) / n, (j + 0.5) / len(rows)) for j, n in enumerate(rows) for i in range(n)]
    return np.clip(np.array(places) + rng.normal(0, JITTER, (N, 2)), 0.02, 0.98)


def climb(centres, rng):
    best = radii(centres)
    while (spent := (time.monotonic() - BEGUN) / SECONDS) < 1:
        moved = centres.copy()
        who = rng.choice(N, MOVED, replace=False)
        moved[who] += rng.normal(0, STEP * (1 - spent) ** COOLING, (MOVED, 2))
        moved = np.clip(moved, 0.01, 0.99)
        tried = radii(moved)
        if tried.sum() > best.sum():
            centres, best = moved, tried
    return centres, best


rng = np.random.default_rng(int(os.environ.get("EVOLVE_SEED", "0")))
centres, sizes = climb(start(rng), rng)
circles = np.column_stack([centres, sizes]).tolist()
Path("circles.json").write_text(json.dumps(circles))
