"""When a training is hopeless: rules over what its feeder sees, made so that they spare the honest.

Losses in mid-run are not compared, since they do not foretell the score across schedules and batch
sizes. What ends a training is that nothing could come of it any more: its loss is not a number, or
so few batches fit into its budget that neither a large batch nor a long first step explains it. A
candidate can mislead these rules to its own harm alone.
"""

from dataclasses import dataclass

from population.individual import Pace

PACE_SHARE = 1 / 8
"""Who projects to less of its parent's steps, and to less of its tokens as well, is too slow."""
BEGIN_SHARE, BEGIN_S, END_SHARE = 0.2, 2.0, 0.8
"""No pace is judged before this share of the budget, and so many seconds, are over; and none at its
end, where little is left to be saved."""
COMPILING_STEPS = 2
"""So many steps may be slow for reasons that do not return; no pace is told by them alone."""
SILENT_SHARE = 0.5
"""The time that those may take in all, as a share of the budget."""
NOT_FINITE_REPORTS = 3
"""Reported losses in a row: one bad batch may be skipped, weights that are no numbers stay so."""


class HopelessError(Exception):
    """The training is to be ended; the message names cause and remedy.

    Attributes:
        reason: one word, as in `Failed`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a training has come under a budget in seconds.

    Attributes:
        spent_s: since the first batch. left_s: to the end of its budget.
        finished: steps that have ended, which is when the next batch is asked for.
        steps, tokens: of all batches that were sent. largest: tokens of the largest one.
        fastest_s: the quickest of the latest steps, above 0; None before any has ended.
    """

    spent_s: float
    left_s: float
    finished: int
    steps: int
    tokens: int
    largest: int
    fastest_s: float | None

    def within(self, begin: float, end: float) -> bool:
        """Whether these shares of its time are over and not over, and `BEGIN_S` at least."""
        whole_s = self.spent_s + self.left_s
        return max(BEGIN_S, begin * whole_s) <= self.spent_s < end * whole_s


def check_losses(not_finite: int) -> None:
    """Raise HopelessError when so many reports in a row were not finite that it will stay so."""
    if not_finite >= NOT_FINITE_REPORTS:
        raise HopelessError(
            "not_finite",
            f"the last {not_finite} reported losses were not finite: use a lower learning rate, a "
            "longer warm-up, clipped gradients or more precise arithmetic",
        )


def check_pace(seen: Seen, pace: Pace | None) -> None:
    """Raise HopelessError when too little training fits into the rest of the budget.

    The projection is a hopeful one: every step to come is as quick as the quickest of the latest,
    every batch as large as the largest so far.

    Args:
        seen: the training up to now.
        pace: how far its parent came on the same kind of device, None where that is not known.
    """
    if seen.finished < COMPILING_STEPS or seen.fastest_s is None:
        if seen.within(SILENT_SHARE, END_SHARE):
            raise HopelessError(
                "too_slow",
                f"half of the budget was over and no more than {seen.steps} batches were asked "
                "for: a step takes too long (use a smaller batch or model, compile before the "
                "clock) or the program waits for something",
            )
        return
    judged = seen.finished > COMPILING_STEPS and seen.within(BEGIN_SHARE, END_SHARE)
    if pace is None or not judged:
        return
    coming = seen.left_s / seen.fastest_s
    steps, tokens = seen.steps + coming, seen.tokens + coming * seen.largest
    if steps < PACE_SHARE * pace.steps and tokens < PACE_SHARE * pace.tokens:
        raise HopelessError(
            "too_slow",
            f"no more than {steps:.0f} steps and {tokens:.3g} tokens would fit into its budget, "
            f"where its parent did {pace.steps:.0f} and {pace.tokens:.3g}: make a step cheaper "
            "(a smaller model, less work outside the large matrix products)",
        )
