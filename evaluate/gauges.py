"""What a training shows of itself from outside: its account, its device, its neighbours."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluate.cores import busy_s
from evaluate.device import QUERY_S, memory_used_bytes
from evaluate.warm import Exit
from population.individual import LINE, SHARE, Measurement

DEVICE_EVERY_S = 5.0
"""Between two looks at an accelerator's memory."""
ACCOUNT_UNITS = {
    "train_s": "s",
    "handin_s": "s",
    "billed_s": "s",
    "saved_s": "s",
    "steps": "1",
    "tokens": "1",
}
"""What a feeder measures: `saved_s` of the hopeless alone, `handin_s` of the others."""

Events = Mapping[str, dict[str, Any]]
"""The latest of each kind that a feeder has told, by its name."""


def account(events: Events) -> dict[str, Any]:
    """Return what a training came to as its feeder said; empty where it did not say."""
    return events.get("delivered") or events.get("hopeless") or {}


@dataclass(slots=True)
class Gauges:
    """Looks at the cores and the device of one training.

    Attributes:
        device, cores: of the training.
        foreign_share: of its cores' time that went to others; None where nobody tells.
        peak_device_bytes: most of the device's memory that was seen taken; 0 where nobody tells.
    """

    device: str
    cores: Sequence[int]
    foreign_share: float | None = None
    peak_device_bytes: int = 0
    _busy_before_s: float | None = None
    _looked_at: float = 0.0

    def begin(self) -> None:
        """Note what the cores have done before the training."""
        self._busy_before_s = busy_s(self.cores)

    def end(self, wall_s: float, own_s: float) -> None:
        """Find out how much of the cores went to others.

        Args:
            wall_s: seconds since `begin`.
            own_s: seconds of a processor that the training and what worked for it took.
        """
        after = busy_s(self.cores)
        if self._busy_before_s is not None and after is not None:
            seconds = wall_s * max(len(self.cores), 1)
            self.foreign_share = max(0.0, (after - self._busy_before_s - own_s) / seconds)

    def look_at_device(self) -> None:
        """Note how much of an accelerator's memory is taken, every few seconds; returns at once."""
        now = time.monotonic()
        if self.device == "cpu" or now < self._looked_at:
            return
        self._looked_at = now + DEVICE_EVERY_S + QUERY_S
        threading.Thread(target=self._ask_device, daemon=True).start()  # no hand-in may wait for it

    def _ask_device(self) -> None:
        used = memory_used_bytes(self.device) or 0
        self.peak_device_bytes = max(self.peak_device_bytes, used)
        self._looked_at = time.monotonic() + DEVICE_EVERY_S

    def measurements(
        self, events: Events, ended: Exit | None, cpu_s: float, startup_device_s: float | None
    ) -> list[Measurement]:
        """Return what was measured about the training, whether it succeeded or not.

        Args:
            events: that its feeder has told.
            ended: how the candidate ended, None where it is not known.
            cpu_s: seconds of a processor that its whole tree took.
            startup_device_s: seconds in which the device computed before the clock.
        """
        rows = []
        if ended is not None:
            rows += [
                Measurement("cpu_s", cpu_s, "s"),
                Measurement("peak_memory_bytes", ended.peak_rss_bytes, "B"),
            ]
        if self.peak_device_bytes:
            rows.append(Measurement("peak_device_bytes", self.peak_device_bytes, "B"))
        if self.foreign_share is not None:
            rows.append(Measurement("foreign_share", self.foreign_share, "1"))
        if "started" in events:
            rows.append(Measurement("startup_s", events["started"]["startup_s"], "s"))
        if startup_device_s is not None:
            rows.append(Measurement("startup_device_s", startup_device_s, "s"))
        told = account(events)
        rows += [
            Measurement(name, told[name], unit)
            for name, unit in ACCOUNT_UNITS.items()
            if told.get(name) is not None
        ]
        rows += [
            Measurement(f"{LINE}{line}", share, SHARE) for line, share in told.get("lines", [])
        ]
        if ended is not None and "delivered" in events:
            arrived = events["delivered"]["arrived"]
            rows.append(Measurement("death_s", ended.at - arrived, "s"))
        if told:
            speed = told["tokens"] / max(told["train_s"], 1e-9)
            rows.append(Measurement("tokens_per_s", speed, "1/s"))
        return rows
