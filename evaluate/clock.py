"""A candidate's clock: what it has used of its budget, when its bell rings, when it is late."""

import time
from collections import deque
from dataclasses import dataclass, field

ROOM_FLOOR_S = 0.05
ROOM_STEPS = 2.0
RECENT_STEPS = 32
"""The bell leaves room for twice the slowest of this many latest steps, and for the copy."""
ROOM_OFF_THE_CLOCK_S, FLOOR_OFF_THE_CLOCK_S = 10.0, 0.5
"""The same where the budget is counted in tokens or steps, after which it comes on top."""


@dataclass(slots=True)
class Clock:
    """What a candidate has used, and when its bell rings.

    Under `seconds` the bell rings before the end: the step in hand and the copy of the tensors
    must fit into that room. For the step it is as small as this program's own steps allow, at most
    `room_s`, since whoever ignores the bell can train on for as long; the copy comes on top.
    `billed_s` is start-up beyond what is free, `copy_s` what the copy is given, `largest` the
    tokens of the largest batch, `finished` how many steps have ended.
    """

    kind: str
    amount: float
    room_s: float
    billed_s: float = 0.0
    started: float | None = None
    bell: float | None = None
    copy_s: float = 0.0
    steps: int = 0
    tokens: int = 0
    largest: int = 0
    finished: int = 0
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    furthest: float = 0.0

    def used(self) -> float:
        """Return what is used up, in the budget's own currency."""
        if self.kind == "steps":
            return float(self.steps)
        if self.kind == "tokens":
            return float(self.tokens)
        return self.billed_s + self.elapsed_s()

    def elapsed_s(self) -> float:
        """Return seconds since the first batch was asked for."""
        return 0.0 if self.started is None else time.monotonic() - self.started

    def room(self) -> float:
        """Return seconds from the bell to when the tensors are late, as the latest steps tell."""
        most, least = ROOM_OFF_THE_CLOCK_S, FLOOR_OFF_THE_CLOCK_S
        if self.kind == "seconds":
            most, least = self.room_s, ROOM_FLOOR_S
        if not self.recent_s:
            return most + self.copy_s
        return min(most, least + ROOM_STEPS * max(self.recent_s)) + self.copy_s

    def progress(self) -> float:
        """Return the share of the training that is over, 1 at the bell; it never goes back."""
        whole = self.amount - self.room() if self.kind == "seconds" else self.amount
        share = self.used() / whole if whole > 0 else 1.0
        self.furthest = max(self.furthest, min(1.0, share))
        return self.furthest

    def send(self, tokens: int) -> None:
        """Count a batch that is sent."""
        self.steps += 1
        self.tokens += tokens
        self.largest = max(self.largest, tokens)

    def finish(self, step_s: float) -> None:
        """Count a step that has ended."""
        self.finished += 1
        self.recent_s.append(step_s)

    def runs(self) -> bool:
        """Whether training goes on: the first batch was asked for, the bell has not rung."""
        return self.started is not None and self.bell is None

    def left_s(self) -> float | None:
        """Return the seconds that are left, None where the budget is counted in another way."""
        return max(0.0, self.amount - self.used()) if self.kind == "seconds" else None

    def ends(self) -> float | None:
        """Return when tensors are late, on the monotonic clock; None while nothing says so."""
        if self.kind != "seconds":
            return None if self.bell is None else self.bell + self.room()
        return None if self.started is None else self.started + self.amount - self.billed_s

    def late(self) -> bool:
        """Whether tensors that arrive now are late."""
        ends = self.ends()
        return ends is not None and time.monotonic() > ends
