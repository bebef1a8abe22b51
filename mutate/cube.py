"""Constants as coordinates: each on the scale of its range, from 0 to 1."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mutate.genome import Constant
from mutate.ranges import Choices
from mutate.told import Point

Array = npt.NDArray[np.float64]

ALIEN = 0.7
"""How far apart two unordered choices lie, as a share of a range, in each of their coordinates."""


def shares(declared: Sequence[Constant], point: Point) -> Array:
    """Return the place of each value in its range, (d,); of a choice, its place in the list."""
    return np.array([c.range.share(point[c.name]) for c in declared])


def features(declared: Sequence[Constant], points: Sequence[Point]) -> Array:
    """Return what a model of distances sees of points, (n, D).

    These are their shares, but of an unordered choice one coordinate per value, so that all of its
    values are equally far apart.
    """
    columns: list[Array] = []
    for constant in declared:
        values = [point[constant.name] for point in points]
        range_ = constant.range
        if isinstance(range_, Choices) and not range_.ordered:
            places = np.array([range_.share(value) for value in values])
            levels = np.linspace(0.0, 1.0, len(range_.values))
            columns += [ALIEN * np.isclose(places, level) for level in levels]
        else:
            columns.append(np.array([range_.share(value) for value in values]))
    return np.stack(columns, axis=1).astype(np.float64)
