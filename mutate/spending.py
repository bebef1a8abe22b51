"""What may be spent on language models: a purse that no number of threads can overdraw."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has paid for so far."""

    usd: float = 0.0
    tokens: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.usd + other.usd, self.tokens + other.tokens)


class Purse:
    """Money and tokens of one run. Every call reserves the most that it can cost beforehand.

    Used from several threads.

    Args:
        limit_usd: never exceeded by calls that reserve at least what they cost; one that reserves
            no money passes, since nothing is known of its price.
        limit_tokens: read and written, together; None: no limit.
        spent: by earlier calls of the run.
    """

    def __init__(self, limit_usd: float, limit_tokens: int | None, spent: Spent) -> None:
        self.limit_usd = limit_usd
        self.limit_tokens = limit_tokens
        self._spent = spent
        self._reserved: list[Spent] = []
        self._closed = False
        self._changed = threading.Condition()

    @property
    def spent(self) -> Spent:
        """Return what all ended calls have cost."""
        with self._changed:
            return self._spent

    def reserve(self, most: Spent) -> bool:
        """Set aside what a call may cost at most.

        It waits where only the reservations of others stand in the way, since most of what they
        set aside comes back. False, and nothing is reserved: it does not fit what is not spent, so
        that it never will, or the purse was closed.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._fits(most, self._reserved) or not self._fits(most, [])
            )
            fits = not self._closed and self._fits(most, self._reserved)
            if fits:
                self._reserved.append(most)
            return fits

    def _fits(self, most: Spent, beside: list[Spent]) -> bool:
        whole = sum(beside, self._spent) + most
        affordable = whole.usd <= self.limit_usd or most.usd == 0.0
        return affordable and (self.limit_tokens is None or whole.tokens <= self.limit_tokens)

    def settle(self, most: Spent, actual: Spent) -> None:
        """End a reservation: this is what the call has cost, more than reserved or less."""
        with self._changed:
            self._reserved.remove(most)
            self._spent += actual
            self._changed.notify_all()

    def close(self) -> None:
        """Reserve nothing more, and send away whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
