"""Blocks of an exam: two programs on one seed, one device, one after the other."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from population.individual import Failed, IndividualId, Result, Scored, checked
from population.jobs import is_infrastructure
from population.statistics import count_of


@dataclass(frozen=True, slots=True)
class Block:
    """One pair of an exam, over all its attempts.

    Attributes:
        results: the latest of each program, None while it is in flight or where it was abandoned.
    """

    seed: int
    results: dict[IndividualId, Result | None] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it has ended, and not by a fault of ours: it is one of the pairs asked for."""
        ended = [result for result in self.results.values() if result is not None]
        return len(ended) == len(self.results) and not any(map(is_infrastructure, ended))

    @property
    def is_disturbed(self) -> bool:
        """Whether a machine was busy, our side lost one or the two were not side by side."""
        ended = [result for result in self.results.values() if result is not None]
        upset = any(result.contended or is_infrastructure(result) for result in ended)
        return upset or not self._is_side_by_side(ended)

    def values(self) -> dict[IndividualId, float] | None:
        """Return the score of each program, None where the block is no pair."""
        ended = [result for result in self.results.values() if result is not None]
        outcomes = [result.outcome for result in ended]
        scores = [one.value for one in map(checked, outcomes) if isinstance(one, Scored)]
        if len(scores) < 2 or not self._is_side_by_side(ended):
            return None
        return dict(zip(self.results, scores, strict=True))

    @property
    def sampling(self) -> float:
        """The standard error of the difference of its two values by sampling; 0 if not counted."""
        counts = [count_of(one) for one in self.results.values() if one is not None]
        return math.hypot(*(count.error for count in counts if count))

    def failures(self) -> Iterator[tuple[IndividualId | None, str]]:
        """Yield what it does not tell, and why; of nobody where it is no program's failure."""
        ended = {who: result for who, result in self.results.items() if result is not None}
        for who, result in ended.items():
            outcome = checked(result.outcome)
            if isinstance(outcome, Failed):
                yield who, f"{outcome.reason}, {outcome.detail}"
        if not self._is_side_by_side(list(ended.values())):
            where = " and ".join(f"{one.device} of {one.host}" for one in ended.values())
            yield None, f"broken, one ran on {where}"

    def _is_side_by_side(self, ended: list[Result]) -> bool:
        places = {(result.host, result.device) for result in ended if not is_infrastructure(result)}
        return len(places) < 2
