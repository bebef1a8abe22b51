"""How long an accelerator computes before the clock starts, and what of that is billed.

Compiling is free, and it takes processors, not the card. A program that trains before the clock, on
texts that it finds in the libraries, say, needs the card: so its seconds are counted there.
"""

import random
import threading
import time
from dataclasses import dataclass, field

from evaluate.device import utilisation_share

FREE_S = 5.0
"""Seconds of computing before the clock that cost nothing: trying a step, choosing kernels."""
PERIOD_S = 0.5, 1.5
"""Between two looks, drawn evenly, so that nobody computes in between them only."""
_CHANCE = random.SystemRandom()


@dataclass(slots=True)
class Computing:
    """Adds up the seconds in which a device computes, from `watch` on; on the processor nothing.

    Attributes:
        device_s: seconds so far; None where the device does not tell.
    """

    device: str
    device_s: float | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _changing: threading.Lock = field(default_factory=threading.Lock)
    _looked_at: float = 0.0
    _billed: bool = False

    def watch(self) -> None:
        """Look at the device now and then from a thread, until `billed_s` or `end` is called."""
        self._looked_at = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def billed_s(self) -> float:
        """Look once more, end the watch, and return the seconds beyond those that are free."""
        self.end()
        self._look(last=True)
        return max(0.0, (self.device_s or 0.0) - FREE_S)

    def end(self) -> None:
        """End the watch."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(_CHANCE.uniform(*PERIOD_S)):
            self._look()

    def _look(self, last: bool = False) -> None:
        share = utilisation_share(self.device)
        with self._changing:
            if self._billed:  # a look that was under way when the bill was made
                return
            self._billed = last
            now = time.monotonic()
            if share is not None:
                self.device_s = (self.device_s or 0.0) + share * (now - self._looked_at)
            self._looked_at = now
