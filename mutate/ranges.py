"""The range of a tunable constant: what its comment says, and what it may become.

    # 2..8                       numbers on a linear scale; whole where value and bounds are whole,
                                 which those with decimals (2.0..8.0) are not
    # log 0.002..0.2             the same on a logarithmic scale
    # one of 8, 16, 32           choices; numbers among them are ordered
    # fixed                      not tunable

A remark may follow after a semicolon, a comma, a colon or in parentheses. Capitals count as small
letters, and choices may stand in brackets or behind a colon, as models write them. Without a range
a positive number gets a quarter to four times its value on a logarithmic scale; one below 1 comes
closer to it by three quarters at most, as it may be a share. A bool gets both values; other values
are left alone, and so is a number whose choices cannot be read.
"""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

Value = bool | int | float | str

DEFAULT_SPAN = 4
STEP = 0.15
"""Usual standard deviation of a step nearby, as a share of the range on its own scale."""
LARGEST = 2**53

_NUMBER = r"[-+]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_INTERVAL = re.compile(rf"(log\s+)?({_NUMBER})\s*\.\.\s*({_NUMBER})(?=$|[\s;:,(])", re.IGNORECASE)
_CHOICES = re.compile(r"one of\b:?\s*[(\[{]?\s*([^;:()\[\]{}]+)", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*,\s*(?:or\s+)?|\s+or\s+")
_DECIMALS = re.compile(r"\.\d")
_UNREADABLE = re.compile(r"one of\b[\s:(\[{]*[-+.\d]", re.IGNORECASE)
_FIXED = re.compile(r"fixed\b", re.IGNORECASE)
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers from `low` to `high`, both included.

    Attributes:
        declared: False for a range that was derived from the value.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    declared: bool = True

    def __contains__(self, value: Value) -> bool:
        return _is_number(value) and self.low <= float(value) <= self.high

    def shares(self, other: "Range") -> bool:
        """Tell whether results under the other range inform about this one.

        Derived ranges follow their value, so that two of one kind share; a value that lies
        outside is passed over by whoever reads it.
        """
        if not isinstance(other, Interval) or self.declared or other.declared:
            return self == other
        return self.integer == other.integer

    def fit(self, value: Value) -> Value | None:
        """Return the nearest value of this range as it reads back from the text.

        Floats keep four significant digits, except at a bound. None for a text or a bool.
        """
        return self._fit(value) if _is_number(value) else None

    def near(self, value: Value, rng: np.random.Generator, deviation: float = STEP) -> Value:
        """Return another value, a step away on the range's scale; steps bounce off the bounds.

        Args:
            value: to start from.
            rng: the source of all chance.
            deviation: of a step, as a share of the range.
        """
        start = self.share(value)
        moved = bounced(start + rng.normal(0.0, deviation))
        found = self.at(moved)
        if self.integer and found == value:
            step = 1 if start <= moved else -1
            return int(found) + (step if self.low <= found + step <= self.high else -step)
        return found

    def share(self, value: Value) -> float:
        """Return where a number lies on the range's scale, from 0 at `low` to 1 at `high`."""
        into = math.log if self.log else float
        inside = min(max(float(value), self.low), self.high)
        return (into(inside) - into(self.low)) / (into(self.high) - into(self.low))

    def at(self, share: float) -> int | float:
        """Return the value at a share of the range's scale, as it reads back from the text."""
        into, back = (math.log, math.exp) if self.log else (float, float)
        low, high = into(self.low), into(self.high)
        return self._fit(back(low + share * (high - low)))

    def _fit(self, value: int | float) -> int | float:
        if self.integer:
            return int(min(max(round(value), self.low), self.high))
        return float(min(max(_short(value), self.low), self.high))


@dataclass(frozen=True, slots=True)
class Choices:
    """A few values. Numbers are sorted, so that neighbours in the list are alike."""

    values: tuple[Value, ...]
    declared: bool = True

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers."""
        return all(_is_number(value) for value in self.values)

    def __contains__(self, value: Value) -> bool:
        return any(_same(value, one) for one in self.values)

    def shares(self, other: "Range") -> bool:
        """Tell whether results under the other range inform about this one."""
        return self == other

    def fit(self, value: Value) -> Value | None:
        """Return the choice that equals the value, else None."""
        return next((one for one in self.values if _same(one, value)), None)

    def near(self, value: Value, rng: np.random.Generator, deviation: float = STEP) -> Value:
        """Return another choice: near by among numbers, any among others."""
        others = [one for one in self.values if not _same(one, value)]
        if not self.ordered or value not in self:
            return others[int(rng.integers(len(others)))]
        last, index = len(self.values) - 1, self.values.index(value)
        moved: int = round(last * bounced(index / last + rng.normal(0.0, deviation)))
        if moved == index:
            moved = index + (1 if index == 0 or (index < last and rng.random() < 0.5) else -1)
        return self.values[moved]

    def share(self, value: Value) -> float:
        """Return where a choice lies in the list, from 0 to 1; 0 for what is none of them."""
        fitted = self.fit(value)
        return 0.0 if fitted is None else self.values.index(fitted) / (len(self.values) - 1)

    def at(self, share: float) -> Value:
        """Return the choice at a share of the list."""
        return self.values[round(min(max(share, 0.0), 1.0) * (len(self.values) - 1))]


Range = Interval | Choices


def range_of(value: Value, comment: str) -> Range | None:
    """Return the range of a constant, None where it is not tunable.

    Args:
        value: what the text declares now; it may lie outside its range.
        comment: what follows on its line, with or without the hash sign.
    """
    comment = " ".join(comment.lstrip("# \t").split())  # long blanks cost a split their square
    if _FIXED.match(comment) or (_is_number(value) and not abs(value) < LARGEST):
        return None
    declared = _choices(value, comment) or _interval(value, comment)
    if declared is None and _is_number(value) and _UNREADABLE.match(comment):
        return None
    return declared or _derived(value)


def _interval(value: Value, comment: str) -> Interval | None:
    match = _INTERVAL.match(comment)
    if match is None or not _is_number(value):
        return None
    low, high = _number(match[2]), _number(match[3])
    if low is None or high is None:
        return None
    integer = all(isinstance(number, int) for number in (value, low, high))
    log = match[1] is not None
    sound = low < high and (low > 0 or not log)
    return Interval(float(low), float(high), log, integer) if sound else None


def _choices(value: Value, comment: str) -> Choices | None:
    match = _CHOICES.match(comment)
    if match is None:
        return None
    words = _BETWEEN.split(match[1].strip().removesuffix("."))
    read = _unquoted if isinstance(value, str) else _bool if isinstance(value, bool) else _number
    found = list(itertools.takewhile(lambda one: one is not None, map(read, words)))
    if any(isinstance(one, float) for one in (value, *found)):
        found = [float(one) for one in found if one is not None]
    values = tuple(dict.fromkeys(one for one in found if one is not None))
    if len(values) < 2:
        return None
    return Choices(values if isinstance(value, str) else tuple(sorted(values, key=float)))


def _derived(value: Value) -> Range | None:
    if isinstance(value, bool):
        return Choices((False, True), declared=False)
    if isinstance(value, str) or value <= 0:
        return None
    if isinstance(value, int):
        low, high = value / DEFAULT_SPAN, value * DEFAULT_SPAN
        return Interval(max(1.0, float(round(low))), float(high), True, True, declared=False)
    lowest, highest = _short(value / DEFAULT_SPAN), _short(value * DEFAULT_SPAN)
    if value < 1.0:
        below_one = _short(1.0 - (1.0 - value) / DEFAULT_SPAN)
        highest = min(highest, below_one if below_one < 1.0 else value)
    usable = lowest > 0 and math.isfinite(highest)
    return Interval(lowest, highest, log=True, declared=False) if usable else None


def _number(word: str) -> int | float | None:
    """Return the finite number that a text stands for; a whole one unless it has decimals."""
    try:
        value = float(word)
    except ValueError:
        return None
    if not abs(value) < LARGEST:
        return None
    return value if _DECIMALS.search(word) or not value.is_integer() else int(value)


def _bool(word: str) -> bool | None:
    return {"True": True, "False": False}.get(word)


def _unquoted(word: str) -> str | None:
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"
    return (word[1:-1] if quoted else word) if _WORD.fullmatch(word) else None


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(first: Value, second: Value) -> bool:
    return isinstance(first, bool) == isinstance(second, bool) and first == second


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def bounced(share: Any) -> Any:
    """Return a share of the range, or an array of them, reflected at 0 and 1."""
    share = np.abs(share)
    return np.where(share > 1.0, np.maximum(0.0, 2.0 - share), share)[()]
