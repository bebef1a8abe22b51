"""Scores `circles.json` in a candidate's directory: the sum of the radii of 26 circles.

Run as: score.py WORKDIR; the last line is the result. There is no tolerance that could be used up:
where circles overlap or stick out, all radii are made smaller by one factor until none does.
"""

import json
import math
import sys
from pathlib import Path

CIRCLES = 26

Circle = tuple[float, float, float]


def shrunk_by(circles: list[Circle]) -> float:
    """Return the largest factor, 1 at most, by which the radii are free of overlaps."""
    factor = 1.0
    for n, (x, y, r) in enumerate(circles):
        factor = min(factor, min(x, y, 1.0 - x, 1.0 - y) / r)
        for other_x, other_y, other_r in circles[:n]:
            factor = min(factor, math.hypot(x - other_x, y - other_y) / (r + other_r))
    return max(0.0, factor)


def read(file: Path) -> list[Circle]:
    """Return the circles in a file. Raises ValueError where it holds something else."""
    found = json.loads(file.read_text(encoding="utf-8"))
    circles = [(float(x), float(y), float(r)) for x, y, r in found]
    if len(circles) != CIRCLES:
        raise ValueError(f"expected {CIRCLES} circles, got {len(circles)}")
    if not all(math.isfinite(number) for circle in circles for number in circle):
        raise ValueError("all numbers must be finite")
    if min(radius for _, _, radius in circles) <= 0.0:
        raise ValueError("all radii must be positive")
    return circles


def main() -> None:
    """Read what the candidate left and print its score."""
    try:
        circles = read(Path(sys.argv[1]) / "circles.json")
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"circles.json must hold {CIRCLES} triples [x, y, radius]: {error}")
    total = sum(radius for _, _, radius in circles)
    print(json.dumps({"value": shrunk_by(circles) * total}))


if __name__ == "__main__":
    main()
