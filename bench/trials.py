"""The public table of autoresearch's trials: its program, its rows, and what constants imply.

A row of `numbers` holds the constants in the order in which PROGRAM declares them; the window
pattern stands as its place among its choices. Nothing that was measured enters `features`.
"""

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mutate.genome import constants, rewrite
from mutate.ranges import Choices, Range, Value

PROGRAM = '''"""The constants of autoresearch's train.py, which stand for the whole of it."""

DEPTH = 8  # 4..24; layers
ASPECT_RATIO = 64  # 32..128; width = depth * aspect ratio, up to the next multiple of HEAD_DIM
HEAD_DIM = 128  # one of 64, 128, 256
DEVICE_BATCH_SIZE = 128  # one of 32, 64, 128, 256; sequences
TOTAL_BATCH_SIZE = 524288  # one of 65536, 131072, 262144, 524288, 1048576, 2097152; tokens
EMBEDDING_LR = 0.6  # log 0.01..2.0
UNEMBEDDING_LR = 0.004  # log 0.0005..0.05
MATRIX_LR = 0.04  # log 0.005..0.2
SCALAR_LR = 0.5  # log 0.05..2.0
WEIGHT_DECAY = 0.2  # 0.0..0.5
WARMUP_RATIO = 0.0  # 0.0..0.3
WARMDOWN_RATIO = 0.5  # 0.1..0.8
FINAL_LR_FRAC = 0.0  # 0.0..0.2
WINDOW_PATTERN = "SSSL"  # one of SSSL, SSLL, SLSL, SSSS, LSSL, LLLL


def main():
    return "trained"
'''
DECLARED: dict[str, Range] = {c.name: c.range for c in constants(PROGRAM)}
NAMES = tuple(DECLARED)
PATTERNS = tuple(str(one) for one in DECLARED["WINDOW_PATTERN"].values)  # type: ignore[union-attr]
LONG = np.array([[letter == "L" for letter in pattern] for pattern in PATTERNS], float)
SEQUENCE, VOCABULARY = 2048, 8192
PATTERN_WEIGHT = 0.25
"""Distance in the cube of two patterns that differ in one letter."""

_LEARNING_RATES = [NAMES.index(n) for n in NAMES if n.endswith("_LR")]
_SHARES = [NAMES.index(n) for n in NAMES if "RATIO" in n and n != "ASPECT_RATIO"]
_SHARES += [NAMES.index("WEIGHT_DECAY"), NAMES.index("FINAL_LR_FRAC")]


@dataclass(frozen=True, slots=True)
class Trials:
    """The rows of the table, of N trials.

    Attributes:
        numbers: the constants (N, 14).
        value: val_bpb (N,), NaN where the trial failed.
        memory_gb: peak (N,), NaN where it failed.
        cost_s: device seconds (N,), start-up and evaluation included.
        run: the search that a trial belongs to (N,), method and seed.
    """

    numbers: np.ndarray
    value: np.ndarray
    memory_gb: np.ndarray
    cost_s: np.ndarray
    run: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """Which trials have a value (N,)."""
        return np.isfinite(self.value)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the constants imply of the model and its batches; each (N,)."""

    depth: np.ndarray
    width: np.ndarray
    matrices: np.ndarray
    parameters: np.ndarray
    flops: np.ndarray
    tokens: np.ndarray
    steps: np.ndarray


def read(table: Path) -> Trials:
    """Return the trials that were scored or ran out of memory; the few that timed out are noise.

    Raises:
        ValueError: the table lacks a column or holds no scored trial.
    """
    with gzip.open(table, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["error"].startswith("Timeout")]
    if not any(row["val_bpb"] for row in rows):
        raise ValueError(f"{table} holds no trial with a val_bpb")

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name] or "nan") for row in rows])

    total_s, wall_s = column("total_s"), column("wall_s")
    return Trials(
        np.array([numbers_of({n: row[n.lower()] for n in NAMES}) for row in rows]),
        column("val_bpb"),
        column("peak_memory_gb"),
        np.where(np.isfinite(total_s), total_s, wall_s),
        np.array([row["method"] + row["seed"] for row in rows]),
    )


def numbers_of(chosen: Mapping[str, Value]) -> list[float]:
    """Return one row of numbers.

    Raises:
        KeyError: a constant is missing.
        ValueError: one is no number, no known pattern, or not positive where its range is.
    """
    row = []
    for name, declared in DECLARED.items():
        value = chosen[name]
        number = float(PATTERNS.index(str(value)) if name == "WINDOW_PATTERN" else value)
        positive = name != "WINDOW_PATTERN" and lowest(declared) > 0
        if not np.isfinite(number) or (positive and number <= 0):
            raise ValueError(f"{name} = {value!r}")
        row.append(number)
    return row


def lowest(declared: Range) -> float:
    return float(declared.values[0] if isinstance(declared, Choices) else declared.low)


def program(numbers: np.ndarray) -> str:
    """Return the program with one row's constants (14,)."""
    changed: dict[str, Value] = {}
    for name, number in zip(NAMES, numbers, strict=True):
        found = DECLARED[name].fit(float(number)) if name != "WINDOW_PATTERN" else None
        changed[name] = PATTERNS[int(number)] if found is None else found
    return rewrite(PROGRAM, changed)


def shape(numbers: np.ndarray) -> Shape:
    """Return what these constants (N, 14) imply."""
    depth, aspect, head, rows, batch = numbers[:, :5].T
    width = np.ceil(depth * aspect / head) * head
    matrices, table = 12 * depth * width**2, VOCABULARY * width
    parameters = matrices + (2 + np.ceil(depth / 2)) * table
    long = LONG[numbers[:, -1].astype(int)].mean(axis=1)
    flops = 6 * (matrices + table) + 12 * width * depth * SEQUENCE * (1 + long) / 2
    tokens = rows * SEQUENCE
    return Shape(depth, width, matrices, parameters, flops, tokens, batch / tokens)


def features(numbers: np.ndarray) -> np.ndarray:
    """Return what the regressions read (N, 24): logs of scales, shares as they are, the pattern."""
    of = shape(numbers)
    scales = [*numbers[:, :5].T, *numbers[:, _LEARNING_RATES].T, of.width, of.matrices]
    scales += [of.parameters, of.flops, of.flops * numbers[:, 4], of.steps]
    pattern = LONG[numbers[:, -1].astype(int)]
    return np.column_stack([np.log(scales).T, numbers[:, _SHARES], pattern])


def cube(numbers: np.ndarray) -> np.ndarray:
    """Return places in the unit cube (N, 17): each constant as a share of its range."""
    columns = []
    for number, declared in zip(numbers.T[:-1], list(DECLARED.values())[:-1], strict=True):
        low = lowest(declared)
        if isinstance(declared, Choices):
            high, log = float(declared.values[-1]), True
        else:
            high, log = declared.high, declared.log
        into = np.log if log else np.asarray
        columns.append((into(number) - into(low)) / (into(high) - into(low)))
    return np.column_stack([*columns, PATTERN_WEIGHT * LONG[numbers[:, -1].astype(int)]])
