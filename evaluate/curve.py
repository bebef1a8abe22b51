"""The losses that a candidate reports, as a short curve of means. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

POINTS = 64


@dataclass(slots=True)
class Curve:
    """At most `POINTS` points, each the mean of as many reports in a row: one batch says little.

    Attributes:
        points: (share of the budget at the last of its reports, their mean loss).
        stride: how many reports make a point.
    """

    points: list[tuple[float, float]] = field(default_factory=list)
    stride: int = 1
    _open: list[tuple[float, float]] = field(default_factory=list)

    def add(self, progress: float, loss: float) -> None:
        """Take a finite loss into account that was reported at this share of the budget."""
        self._open.append((progress, loss))
        if len(self._open) == self.stride:
            self.points.append(_mean(self._open))
            self._open.clear()
        if len(self.points) > POINTS - 1:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [_mean(pair) for pair in pairs]
            self.stride *= 2

    def told(self) -> list[tuple[float, float]]:
        """Return the curve up to the latest report."""
        return [*self.points, _mean(self._open)] if self._open else self.points


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return round(points[-1][0], 4), sum(loss for _, loss in points) / len(points)
