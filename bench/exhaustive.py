"""Landscapes without a model of anything: every program of a small real task, trained beforehand.

    python -m bench.exhaustive                 what the table holds
    python -m bench.exhaustive --compute OUT   train it all again, about fifteen minutes on one core
    python -m bench.exhaustive --compute OUT --share 0.2     for a fifth of the budget, four minutes

`bench/digits.py` has the task. Four structural choices and three constants make 3,024 programs,
each trained on SEEDS seeds; the truth is their mean. `exhaustive-constants` declares all seven as
constants of one founder; in `exhaustive-structure` three founders have different functions, so that
a variant reaches a program by crossover alone. What is not in the table crashes.
"""

import argparse
import ast
import csv
import gzip
import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.digits import BUDGET, CONSTANTS, HEAD, PARTS, TAIL, chosen, score, structured
from bench.intervals import better_half, rank_correlation
from bench.landscape import Landscape, Truth
from mutate.genome import ProgramError, parse, values

TABLE = Path(__file__).parent / "data" / "exhaustive.csv.gz"
SHORT_TABLE = TABLE.with_name("exhaustive_fifth.csv.gz")
SHORT = 0.2
"""Of the budget: what the second table was trained with."""
SEEDS = 4
MEDIAN_OF_VARIANCE = 0.789
"""Median of the variance of SEEDS normal scores, as a share of its mean: chi-squared, 3 degrees."""
LARGEST_LOSS = 2 * math.log(10)
"""Twice as bad as guessing: such a program has diverged."""
AXES: dict[str, tuple] = {part: tuple(texts) for part, texts in PARTS.items()} | CONSTANTS
ORDERED = tuple(CONSTANTS)
TARGET_SHARES = (0.05, 0.01, 0.002)
"""A target is what this share of all programs reaches."""

FOUNDERS = (
    ("relu", "none", "plain", "momentum"),
    ("tanh", "none", "skip", "adam"),
    ("squared", "rms", "plain", "sign"),
)
START = {"LR": 0.016, "WIDTH": 32, "BATCH": 64}

Key = tuple[str | float, ...]
"""A program: one value of each axis."""


@dataclass(frozen=True, slots=True)
class Exhaustive:
    """A landscape that looks programs up. `key`: reads one off a text, None where it cannot."""

    name: str
    founders: tuple[str, ...]
    targets: tuple[float, ...]
    known: Mapping[Key, Truth]
    key: Callable[[str], Key | None]

    def truth(self, source: str) -> Truth:
        """Return the mean of what this program scored."""
        key = self.key(source)
        return Truth(None, reason="crash") if key is None else self.known[key]


def exhaustive(table: Path = TABLE) -> list[Landscape]:
    """Return both landscapes. Raises ValueError where the table misses programs."""
    known = truths(read(table))
    for key, short in truths(read(SHORT_TABLE)).items():
        known[key] = replace(known[key], rung=short)
    scored = sorted(truth.value for truth in known.values() if truth.value is not None)
    targets = tuple(scored[int(share * len(known))] for share in TARGET_SHARES)
    variants = [dict(zip(PARTS, founder, strict=True)) for founder in FOUNDERS]
    return [
        Exhaustive(
            "exhaustive-constants", (chosen(variants[0], START),), targets, known, by_constants
        ),
        Exhaustive(
            "exhaustive-structure",
            tuple(structured(founder, START) for founder in variants),
            targets,
            known,
            by_structure,
        ),
    ]


def by_constants(source: str) -> Key | None:
    """Return the program that a text's constants choose."""
    found = values(source)
    names = [found.get(part.upper()) for part in PARTS]
    return _key(names, found)


def by_structure(source: str) -> Key | None:
    """Return the program that a text's functions and constants are; every function must be known.

    Functions are known by their syntax trees, so that layout and comments do not count.
    """
    try:
        shapes = functions(source)
    except ProgramError:
        return None
    if any(shapes.get(name) != shape for name, shape in _fixed().items()):
        return None
    names = [_variants().get((part, shapes.get(part, ""))) for part in PARTS]
    return _key(names, values(source))


def functions(source: str) -> dict[str, str]:
    """Return the syntax tree of each function, as text. Raises ProgramError."""
    body = parse(source).body
    return {node.name: ast.dump(node) for node in body if isinstance(node, ast.FunctionDef)}


def _key(names: list, found: Mapping) -> Key | None:
    numbers = [_nearest(name, found.get(name)) for name in ORDERED]
    known = all(name in PARTS[part] for part, name in zip(PARTS, names, strict=True))
    return (*names, *numbers) if known and None not in numbers else None


def _nearest(name: str, value: object) -> float | None:
    """Return the value of the grid that is nearest on a logarithmic scale."""
    if isinstance(value, bool | str | None) or value <= 0:
        return None
    return min(CONSTANTS[name], key=lambda one: abs(math.log(one / value)))


@lru_cache(maxsize=1)
def _variants() -> dict[tuple[str, str], str]:
    return {
        (part, functions(text)[part]): variant
        for part, texts in PARTS.items()
        for variant, text in texts.items()
    }


@lru_cache(maxsize=1)
def _fixed() -> dict[str, str]:
    return functions(HEAD + TAIL)


def read(table: Path) -> dict[Key, tuple[float, ...]]:
    """Return each program's losses, seed by seed, NaN where it diverged."""
    with gzip.open(table, "rt", newline="") as file:
        return dict(map(_row, csv.DictReader(file)))


def truths(losses: Mapping[Key, tuple[float, ...]]) -> dict[Key, Truth]:
    """Return what every program is.

    Four scores tell little of a spread, so that a program takes the median variance of its own and
    of those a step away: another choice of one part, the next value of one constant. A mean would
    be that of the one neighbour that nearly diverges.

    Raises:
        ValueError: a program of the grid is missing.
    """
    if missing := [key for key in grid() if key not in losses]:
        raise ValueError(f"the table misses {len(missing)} programs, {missing[0]} the first")
    variance = {k: statistics.variance(own) for k, own in losses.items() if trained(own)}
    found = {}
    for key in grid():
        if key in variance:
            near = [variance[one] for one in (key, *neighbours(key)) if one in variance]
            sigma = math.sqrt(statistics.median(near) / MEDIAN_OF_VARIANCE)
            found[key] = Truth(statistics.fmean(losses[key]), sigma)
        else:
            found[key] = Truth(None, reason="not_finite")
    return found


def trained(losses: tuple[float, ...]) -> bool:
    """Tell whether every seed ended with a usable loss."""
    return all(loss < LARGEST_LOSS for loss in losses)


def grid() -> Iterator[Key]:
    return itertools.product(*AXES.values())


def neighbours(key: Key) -> Iterator[Key]:
    """Yield the programs that are one step away."""
    for place, (name, among) in enumerate(AXES.items()):
        here = among.index(key[place])
        for there, other in enumerate(among):
            if there != here and (name not in ORDERED or abs(there - here) == 1):
                yield (*key[:place], other, *key[place + 1 :])


def _row(row: Mapping[str, str]) -> tuple[Key, tuple[float, ...]]:
    names = [row[part] for part in PARTS]
    key = (*names, *(ast.literal_eval(row[name.lower()]) for name in ORDERED))
    return key, tuple(float(row[f"loss_{seed}"]) for seed in range(SEEDS))


def compute(out: Path, share: float) -> None:
    """Train what the table beside `out` still lacks, then write `out`; may be interrupted.

    Args:
        out: the table.
        share: of the budget.
    """
    import torch

    torch.set_num_threads(1)
    partial = out.with_suffix(f".{share:g}.partial")
    header = [*PARTS, *(name.lower() for name in ORDERED), *(f"loss_{s}" for s in range(SEEDS))]
    if not partial.exists():
        partial.write_text(",".join(header) + "\n")
    with partial.open(newline="") as file:
        done = {key for key, _ in map(_row, csv.DictReader(file))}
    with partial.open("a", newline="", buffering=1) as file:
        for key in grid():
            if key not in done:
                losses = [
                    f"{loss:.5g}" for loss in score(program(key), range(SEEDS), share * BUDGET)
                ]
                csv.writer(file, lineterminator="\n").writerow([*key, *losses])
    out.write_bytes(gzip.compress(partial.read_bytes(), mtime=0))
    partial.unlink()


def program(key: Key) -> str:
    """Return the text of a program, its structure as functions."""
    chosen_now = dict(zip(AXES, key, strict=True))
    parts = {part: str(chosen_now[part]) for part in PARTS}
    return structured(parts, {name: chosen_now[name] for name in ORDERED})


def report(table: Path) -> None:
    """Print the best program of each founder's structure and of all."""
    known = {key: truth for key, truth in truths(read(table)).items() if truth.value is not None}
    lines = Table("of", "programs", "median", "best", "sigma", "which")
    groups: list[tuple[str, Callable[[Key], bool]]] = [("all", lambda key: True)]
    for founder in FOUNDERS:
        groups.append(("a founder", lambda key, founder=founder: key[: len(PARTS)] == founder))
    for step in PARTS["step"]:
        groups.append((step, lambda key, step=step: key[len(PARTS) - 1] == step))
    for name, belongs in groups:
        mine = {key: truth for key, truth in known.items() if belongs(key)}
        best = min(mine, key=lambda key: mine[key].value)
        median = statistics.median(truth.value for truth in mine.values())
        figures = (f"{median:.3f}", f"{mine[best].value:.4f}", f"{mine[best].sigma:.4f}")
        lines.add_row(name, str(len(mine)), *figures, " ".join(map(str, best)))
    console = Console()
    console.print(lines)
    targets = ", ".join(f"{target:.4f}" for target in exhaustive(table)[0].targets)
    console.print(f"{math.prod(map(len, AXES.values())) - len(known)} diverged; targets {targets}")
    if table != TABLE:
        return
    short = {key: truth.value for key, truth in truths(read(SHORT_TABLE)).items() if key in known}
    both = [(known[key].value, value) for key, value in short.items() if value is not None]
    told = ", ".join(f"{rank_correlation(part):.2f}" for part in (both, better_half(both)))
    console.print(f"rank correlation of {SHORT} of the budget with it, of the better half: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compute", type=Path, metavar="OUT", help="train everything anew")
    parser.add_argument("--share", type=float, default=1.0, help="of the budget")
    options = parser.parse_args()
    if options.compute is not None:
        compute(options.compute, options.share)
    report(options.compute or TABLE)


if __name__ == "__main__":
    main()
