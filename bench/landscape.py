"""What a benchmark of searches needs of a world: programs, and what each truly is there."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Truth:
    """What a program is, without noise.

    Attributes:
        value: of the metric, smaller is better; None where the program fails.
        sigma: standard deviation of one evaluation, in units of the metric.
        cost_s: device seconds of one evaluation, the failed ones included.
        reason: of a failure, a word such as `out_of_memory`; else empty.
        rung: what it is when it is trained for a part of the budget; None where that is not known.
    """

    value: float | None
    sigma: float = 0.0
    cost_s: float = 1.0
    reason: str = ""
    rung: "Truth | None" = None


class Landscape(Protocol):
    """A world in which a whole search costs seconds.

    Attributes:
        name: for tables.
        founders: sources of the programs that every method starts from, in the order in which
            they are founded; constants and their ranges are declared as in any train.py.
        targets: values that are worth reaching, the easiest first.
    """

    name: str
    founders: tuple[str, ...]
    targets: tuple[float, ...]

    def truth(self, source: str) -> Truth:
        """Return what this program is. A function of the source alone; called from one thread."""
        ...
