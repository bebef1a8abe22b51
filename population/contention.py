"""Whether others disturbed a training: what machines did around each, as the records tell it."""

from bisect import insort
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace

from population.individual import IndividualId, Request, Result, Scored
from population.jobs import JobKey, is_by_hand, is_infrastructure, job_key
from population.statistics import FOREIGN_SHARE, is_contended

BUSY_WINDOW, BUSY_SHARE = 8, 0.75
"""Where this share of so many latest attempts was disturbed, the machine counts as busy."""
ALIKE, ALIKE_PROGRAMS = 3, 2
"""Where so many scores, of so many programs, that were made again came out to the same last digit,
and none did not, scores do not depend on the machine. One program alone may do nothing at all."""


@dataclass(slots=True)
class Contention:
    """What is known of the machines so far: a fold over results, in the order of their records."""

    _readings: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    _latest: deque[bool] = field(default_factory=lambda: deque(maxlen=BUSY_WINDOW))
    _values: dict[JobKey, float] = field(default_factory=dict)
    _alike: Counter[IndividualId] = field(default_factory=Counter)
    _unlike: int = 0

    def note(self, request: Request, result: Result) -> None:
        """Take the result of a request into account."""
        if not is_infrastructure(result) and not is_by_hand(result):
            self._latest.append(self._shows_others(result))
        if isinstance(result.outcome, Scored):
            asked, value = job_key(request), result.outcome.value
            if asked in self._values:
                same = self._values[asked] == value
                self._alike[request.individual] += same
                self._unlike += not same
            self._values[asked] = value
        reference_s = result.measured("reference_s")
        if reference_s is not None:
            insort(self._readings[result.host, result.device], reference_s)  # a quick median

    def marked(self, result: Result) -> Result:
        """Return the result, marked as one to be made again if others disturbed it.

        Not on a machine that is busy nearly all the time, where that is the norm: what is made
        again there is disturbed, too.
        """
        if not self.is_disturbed(result) or self.is_busy:
            return result
        return replace(result, contended=True)

    def is_disturbed(self, result: Result) -> bool:
        """Whether its machine was off its norm or served others, too, and that can change it."""
        if self.is_exact and isinstance(result.outcome, Scored):
            return False
        return self._shows_others(result)

    def _shows_others(self, result: Result) -> bool:
        reference_s = result.measured("reference_s")
        readings = self._readings.get((result.host, result.device), [])
        slow = reference_s is not None and is_contended(reference_s, readings)
        return slow or (result.measured("foreign_share") or 0.0) > FOREIGN_SHARE

    @property
    def is_exact(self) -> bool:
        """Whether scores of one program under one seed are the same, whoever uses the machine."""
        programs = len(+self._alike)
        return self._alike.total() >= ALIKE and programs >= ALIKE_PROGRAMS and not self._unlike

    @property
    def is_busy(self) -> bool:
        """Whether others disturbed nearly all of the latest attempts."""
        return sum(self._latest) >= BUSY_SHARE * BUSY_WINDOW
