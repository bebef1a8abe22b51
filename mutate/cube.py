"""Constants as coordinates: each on the scale of its range, from 0 to 1."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mutate.genome import Constant
from mutate.ranges import Choices, bounced
from mutate.told import Point

Array = npt.NDArray[np.float64]

MOST_LEVELS = 512
"""A whole number with more values than this is taken for a continuous one."""
ALIEN = 0.7
"""How far apart two unordered choices lie, as a share of a range, in each of their coordinates."""


class Cube:
    """The space of some constants.

    A point's shares (d,) hold one number per constant, its place in the range. Its features (D,)
    are what a model of distances sees: the same, with one coordinate per unordered choice.
    """

    def __init__(self, declared: Sequence[Constant]) -> None:
        self._declared = tuple(declared)
        self._levels = [_levels(constant) for constant in declared]

    def shares(self, point: Point) -> Array:
        """Return the place of each value in its range, (d,)."""
        return np.array([c.range.share(point[c.name]) for c in self._declared])

    def features(self, shares: Array) -> Array:
        """Return (n, D) for shares (n, d)."""
        columns: list[Array] = []
        for constant, levels, column in zip(self._declared, self._levels, shares.T, strict=True):
            if levels is not None and not _ordered(constant):
                columns += [ALIEN * np.isclose(column, level) for level in levels]
            else:
                columns.append(column)
        return np.stack(columns, axis=1).astype(np.float64)

    def point(self, shares: Array, near: Point) -> Point:
        """Return the values at shares (d,); where `near` lies at the same place, its own."""
        point: Point = {}
        for constant, share in zip(self._declared, shares, strict=True):
            own = near[constant.name]
            same = abs(constant.range.share(own) - share) < 1e-9
            point[constant.name] = own if same else constant.range.at(float(share))
        return point

    def moved(
        self, shares: Array, chance: float, deviation: float, rng: np.random.Generator
    ) -> Array:
        """Return shares (n, d) with some coordinates moved, at least one in each row.

        Args:
            shares: (n, d).
            chance: of each coordinate to be moved.
            deviation: of a move, as a share of the range.
            rng: the source of all chance.
        """
        count, width = shares.shape
        mask = rng.random((count, width)) < chance
        mask[np.arange(count), rng.integers(width, size=count)] = True
        noise = shares + rng.normal(0.0, deviation, (count, width))
        result = np.where(mask, bounced(noise), shares)
        for index, (constant, levels) in enumerate(zip(self._declared, self._levels, strict=True)):
            if levels is None:
                continue
            drawn = rng.integers(len(levels), size=count)
            if _ordered(constant):
                drawn = np.abs(result[:, index, None] - levels).argmin(axis=1)
            result[:, index] = np.where(mask[:, index], levels[drawn], shares[:, index])
        return result


def _ordered(constant: Constant) -> bool:
    return not isinstance(constant.range, Choices) or constant.range.ordered


def _levels(constant: Constant) -> Array | None:
    """Return the shares at which the values of a constant lie, None where they are dense."""
    range_ = constant.range
    if isinstance(range_, Choices):
        return np.linspace(0.0, 1.0, len(range_.values))
    if not range_.integer or range_.high - range_.low >= MOST_LEVELS:
        return None
    return np.array([range_.share(n) for n in range(int(range_.low), int(range_.high) + 1)])
