import json
import math
from pathlib import Path

SIDE = 5  # 4..6
GAP_X = 1  # 1..5
GAP_Y = 1  # 1..5


def grid():
    radius = 0.5 / SIDE
    rows = [(2 * i + 1) * radius for i in range(SIDE)]
    return [[x, y, radius] for x in rows for y in rows]


def in_a_gap(x, y):
    radius = 0.5 / SIDE
    return [2 * x * radius, 2 * y * radius, (math.sqrt(2) - 1) * radius]


circles = [*grid(), in_a_gap(min(GAP_X, SIDE - 1), min(GAP_Y, SIDE - 1))]
gaps = [(x, y) for x in range(1, SIDE) for y in range(1, SIDE) if (x, y) != (GAP_X, GAP_Y)]
while len(circles) < 26:
    circles.append(in_a_gap(*gaps.pop()))
Path("circles.json").write_text(json.dumps(circles[:26]))
