"""What the synthetic catalogue is made of: slots, constants, variants; and how a seed draws it."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mutate.ranges import Choices, Range, Value, range_of

KINDS = {"good": 5, "neutral": 13, "bad": 13, "crash": 3, "heavy": 2}
"""How many edits of each kind the catalogue has; `heavy` ones are good and need memory."""
READS = {
    "embedding": ("EMBEDDING_LR", "INIT_SCALE"),
    "attention": ("DEPTH", "ROPE_BASE"),
    "mlp": ("WIDTH",),
    "norm": (),
    "head": ("SOFTCAP",),
    "optimizer": ("MATRIX_LR", "MOMENTUM"),
    "schedule": ("WARMUP", "COOLDOWN"),
    "regulariser": ("WEIGHT_DECAY",),
}
"""The slots and the constants that each one reads."""
SLOTS = tuple(READS)
SHARED: dict[str, tuple[Value, str]] = {
    "DEPTH": (8, "2..16"),
    "WIDTH": (512, "one of 128, 256, 384, 512, 768, 1024, 1536, 2048"),
    "BATCH": (32, "one of 8, 16, 32, 64, 128, 256"),
    "MATRIX_LR": (0.02, "log 0.002..0.2"),
    "EMBEDDING_LR": (0.3, "log 0.03..3.0"),
    "MOMENTUM": (0.9, "0.8..0.99"),
    "WEIGHT_DECAY": (0.1, "log 0.01..1.0"),
    "WARMUP": (0.1, "0.0..0.5"),
    "COOLDOWN": (0.5, "0.0..1.0"),
    "ROPE_BASE": (30000.0, "log 1000.0..1000000.0"),
    "INIT_SCALE": (1.0, "log 0.1..10.0"),
    "SOFTCAP": (20.0, "5.0..50.0"),
}
"""The constants of every program: a value in the range, and the range."""
NAMES = tuple(SHARED)
RANGES = {name: range_of(*declared) for name, declared in SHARED.items()}
OWN_RANGE = "log 0.05..5.0"

Key = tuple[str, int]
"""A slot and the number of its variant."""


@dataclass(frozen=True, slots=True)
class Own:
    """A constant that comes with a variant.

    Attributes:
        start: its value in the catalogue. optimum: as a share of its range.
        curvature: sigmas that a whole range costs.
    """

    name: str
    start: Value
    optimum: float
    curvature: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to fill a slot.

    Attributes:
        effect: in sigmas against the first founder's, constants retuned; smaller is better.
        memory: that it adds, as a share of the device's.
        shifts: of the shared constants' optima, as shares of their ranges.
    """

    slot: str
    number: int
    effect: float = 0.0
    crashes: bool = False
    memory: float = 0.0
    shifts: Mapping[str, float] = field(default_factory=dict)
    own: Own | None = None

    @property
    def key(self) -> Key:
        """Its name as a pair."""
        return self.slot, self.number

    @property
    def name(self) -> str:
        """Its name in the text."""
        return f"{self.slot}-{self.number}"

    @property
    def text(self) -> str:
        """The function."""
        own = () if self.own is None else (self.own.name,)
        told = ", ".join((f'"{self.name}"', "x", *READS[self.slot], *own))
        return f"def {self.slot}(x):\n    return {told}\n"


def position(range_: Range, value: Value) -> float:
    """Return where a value stands, as a share of its range on its own scale."""
    if isinstance(range_, Choices):
        return range_.values.index(value) / (len(range_.values) - 1)
    into = math.log if range_.log else float
    return (into(value) - into(range_.low)) / (into(range_.high) - into(range_.low))


def at(range_: Range, share: float) -> Value:
    """Return the value that stands nearest to a share of its range."""
    if isinstance(range_, Choices):
        return range_.values[round(share * (len(range_.values) - 1))]
    into, back = (math.log, math.exp) if range_.log else (float, float)
    return range_.fit(back(into(range_.low) + share * (into(range_.high) - into(range_.low))))


def lattice_of(range_: Range) -> list[float]:
    """Return where the values of a range stand, of which there are few."""
    whole = (
        range_.values
        if isinstance(range_, Choices)
        else range(int(range_.low), int(range_.high) + 1)
    )
    return [position(range_, value) for value in whole]


class Drawing:
    """What one seed draws, in a fixed order.

    Args:
        rng: its stream; goes on to be used by whoever needs more.
        founders: how many of the three are there.

    Attributes:
        optima: of the shared constants for the first founder, as shares of their ranges.
        hessian: what moving them costs, in sigmas, to the second order.
        variants, pairs: and what two of them add together, in sigmas.
        edits: those that a model proposes, `kinds` of them by key.
        founders: their structures.
    """

    def __init__(self, rng: np.random.Generator, founders: int) -> None:
        self.rng = rng
        self.optima = rng.uniform(0.35, 0.65, len(NAMES))
        self.hessian = self._hessian()
        self.variants = {(slot, 0): Variant(slot, 0) for slot in SLOTS}
        self.pairs: dict[frozenset[Key], float] = {}
        self.edits = self._edits()
        structures = [[(slot, 0) for slot in SLOTS], self._other(1), self._other(2)]
        self._interactions()
        self.founders = structures[:founders]
        for structure in structures[founders:]:  # nothing reaches what is theirs alone
            for key in structure:
                if key[1]:
                    self.variants.pop(key, None)

    def _hessian(self) -> np.ndarray:
        """Return the curvature: one constant matters ten times as much as another; four pairs."""
        steep = np.sqrt(np.clip(self.rng.lognormal(math.log(30), 0.9, len(NAMES)), 5, 150))
        relation = np.eye(len(NAMES))
        for a, b in self.rng.permutation(len(NAMES))[:8].reshape(4, 2):
            relation[a, b] = relation[b, a] = self.rng.choice([-1, 1]) * self.rng.uniform(0.4, 0.8)
        return relation * np.outer(steep, steep)

    def _edits(self) -> tuple[Variant, ...]:
        kinds = self.rng.permutation([kind for kind, count in KINDS.items() for _ in range(count)])
        numbers = dict.fromkeys(SLOTS, 2)
        made: list[Variant] = []
        self.kinds: dict[Key, str] = {}
        for index, kind in enumerate(kinds):
            slot = SLOTS[index % len(SLOTS)]
            numbers[slot] += 1
            made.append(self._edit(slot, numbers[slot], str(kind)))
            self.kinds[made[-1].key] = str(kind)
        self.variants |= {one.key: one for one in made}
        return tuple(made)

    def _edit(self, slot: str, number: int, kind: str) -> Variant:
        rng = self.rng
        gain = -min(1.0 + rng.lognormal(0.0, 1.0), 8.0)
        loss = min(rng.lognormal(math.log(3.0), 0.7), 15.0)
        effects = {"good": gain, "heavy": gain, "bad": loss, "neutral": rng.normal(0.0, 0.3)}
        own = None
        if rng.random() < 0.3:
            start, curvature = rng.uniform(0.2, 0.8, 2)
            name = f"{slot.upper()}_{number}_GAIN"
            value = at(range_of(0.5, OWN_RANGE), start)
            own = Own(name, value, rng.uniform(0.2, 0.8), 5 + 40 * curvature)
        memory = 0.25 if kind == "heavy" else 0.0
        shifts = self._shifts(slot, int(rng.integers(1, 4)))
        return Variant(slot, number, effects.get(kind, 0.0), kind == "crash", memory, shifts, own)

    def _shifts(self, slot: str, count: int) -> dict[str, float]:
        """Return how an edit moves optima: those of the constants that it reads twice as likely."""
        near = np.array([2.0 if name in READS[slot] else 0.5 for name in NAMES])
        chosen = self.rng.choice(len(NAMES), count, replace=False, p=near / near.sum())
        return {
            NAMES[i]: self.rng.choice([-1, 1]) * self.rng.uniform(0.08, 0.3) for i in sorted(chosen)
        }

    def _other(self, number: int) -> list[Key]:
        """Return the structure of another founder: half of its slots are its own, and fit."""
        own = [SLOTS[i] for i in sorted(self.rng.choice(len(SLOTS), 4, replace=False))]
        for slot in own:
            worth = self.rng.normal(0.0, 2.0)
            self.variants[slot, number] = Variant(
                slot, number, worth, shifts=self._shifts(slot, int(self.rng.integers(1, 3)))
            )
        for a, b in (own[:2], own[2:]):
            self.pairs[frozenset(((a, number), (b, number)))] = -self.rng.uniform(1.0, 3.0)
        return [(slot, number if slot in own else 0) for slot in SLOTS]

    def _interactions(self) -> None:
        """Draw what pairs add: good only together, redundant, in conflict; and a little of all."""
        rng, sign = self.rng, self.kinds
        for a, b in itertools.combinations(self.variants, 2):
            plain = {a[1], b[1]} == {0} or (a[1] == 0 and b in sign) or (b[1] == 0 and a in sign)
            if a[0] != b[0] and not plain and rng.random() < 0.1:
                pair = frozenset((a, b))
                self.pairs[pair] = self.pairs.get(pair, 0.0) + rng.normal(0.0, 0.7)
        useless = [key for key, kind in sign.items() if kind in ("neutral", "bad")]
        useful = [key for key, kind in sign.items() if kind in ("good", "heavy")]
        for a, b in self._couples(useless, 4):
            worse = max(self.variants[a].effect, 0.0) + max(self.variants[b].effect, 0.0)
            self.pairs[frozenset((a, b))] = -worse - rng.uniform(2.0, 6.0)
        for a, b in self._couples(useful, 2):
            less = min(-self.variants[a].effect, -self.variants[b].effect)
            self.pairs[frozenset((a, b))] = 0.8 * less
        for a, b in self._couples(list(sign), 8):
            pair = frozenset((a, b))
            self.pairs[pair] = self.pairs.get(pair, 0.0) + rng.uniform(2.0, 6.0)

    def _couples(self, keys: Sequence[Key], most: int) -> list[tuple[Key, Key]]:
        """Return pairs of different slots; no variant is in two of them."""
        order = [keys[i] for i in self.rng.permutation(len(keys))]
        couples: list[tuple[Key, Key]] = []
        while order and len(couples) < most:
            first = order.pop()
            second = next((key for key in order if key[0] != first[0]), None)
            if second is not None:
                order.remove(second)
                couples.append((first, second))
        return couples
