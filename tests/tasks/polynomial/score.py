"""Scores `coefficients.json` in a candidate's directory: minus its distance from the sine.

Run as: score.py WORKDIR SHARD SEED. The shard chooses the points; the last line is the result.
"""

import json
import math
import random
import sys
from pathlib import Path


def points(shard: str) -> list[float]:
    """Return 200 points in [-3, 3], always the same ones for a shard."""
    rng = random.Random(shard)
    return [rng.uniform(-3.0, 3.0) for _ in range(200)]


def closeness(coefficients: list[float], shard: str) -> float:
    """Return minus the root mean squared error on the shard's points."""
    squares = [
        (sum(c * x**power for power, c in enumerate(coefficients)) - math.sin(x)) ** 2
        for x in points(shard)
    ]
    return -math.sqrt(sum(squares) / len(squares))


def main() -> None:
    """Read what the candidate left and print its score."""
    workdir, shard, _seed = sys.argv[1:]
    coefficients = json.loads((Path(workdir) / "coefficients.json").read_text(encoding="utf-8"))
    if not isinstance(coefficients, list) or not 1 <= len(coefficients) <= 6:
        sys.exit("coefficients.json must hold a list of one to six numbers")
    print(json.dumps({"value": closeness([float(c) for c in coefficients], shard)}))


if __name__ == "__main__":
    main()
