"""How well effects of changes are known: by a regression over all carriers, and by plain gains.

    python -m bench.credit [--first 340] [--landscapes 10] [--evaluations 100 300]

Whole searches in worlds of structure and constants (`bench/catalogue.py`), where the true gain of
every child on its parent is known. What a structural change is truly worth is the mean of that
over the children that it was made to alone; edits interact there, so no single number is right.
Values are sigmas of one evaluation.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.catalogue import SIGMA, Catalogue
from bench.recombination import EVOLVE
from bench.simulation import simulate
from mutate.credit import worths
from mutate.memory import effect
from population.history import History
from population.individual import IndividualId
from population.ports import Choice
from population.proposals import Portfolio


@dataclass
class Watched:
    """A portfolio that keeps the latest history it was asked with."""

    portfolio: Portfolio
    seen: list[History]

    @property
    def operators(self) -> Sequence:
        """Those of the portfolio."""
        return self.portfolio.operators

    def choose(self, history: History, rng: np.random.Generator, quick: bool = False) -> Choice:
        """Choose as the portfolio does."""
        self.seen[:] = [history]
        return self.portfolio.choose(history, rng, quick)


@dataclass(frozen=True, slots=True)
class Known:
    """One change: its true worth, and what is known of it, each in sigmas.

    Attributes:
        plain: mean gain on the parents, and its error. ours: by the regression.
        births, carriers: programs that it was made to, and that carry it.
    """

    true: float
    plain: tuple[float, float]
    ours: tuple[float, float]
    births: int
    carriers: int


def searched(landscape: int, evaluations: int) -> tuple[Catalogue, History]:
    """Return a world, and the history of a search in it when its last proposal was made."""
    world, seen = Catalogue(landscape), list[History]()
    method = EVOLVE.method(world)
    watched = replace(method, portfolio=lambda checks: Watched(method.portfolio(checks), seen))
    simulate(watched, world, 1000 * landscape, evaluations)
    return world, seen[0]


def changes(world: Catalogue, history: History) -> list[Known]:
    """Return the structural changes that were made alone at least once, to a child with a score."""
    gains: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for standing in history.standings.values():
        own, gain = standing.individual.changes, effect(standing, history)
        if len(own) == 1 and own[0].category != "constant" and gain.gain is not None:
            parent = history.standings[standing.individual.parents[0]].individual.id
            true = _loss(world, history, parent) - _loss(world, history, standing.individual.id)
            gains[own[0].diff].append((true, gain.gain / SIGMA, gain.error / SIGMA))
    known = worths(history)
    found = []
    for diff, own in gains.items():
        true, plain, errors = (np.array(one) for one in zip(*own, strict=True))
        worth = known[diff]
        ours = worth.effect / SIGMA, worth.error / SIGMA
        error = float(np.sqrt((errors**2).sum())) / len(own)
        found.append(Known(true.mean(), (plain.mean(), error), ours, len(own), worth.carriers))
    return found


def _loss(world: Catalogue, history: History, one: IndividualId) -> float:
    value = world.truth(history.standings[one].individual.genome.source).value
    assert value is not None
    return value / SIGMA


def line(name: str, found: Sequence[Known]) -> str:
    """Return the line of a table: root mean square errors, and how often two errors hold."""
    cells = [f"{name:24} {len(found):5}"]
    ways: tuple[Callable[[Known], tuple[float, float]], ...] = (lambda k: k.plain, lambda k: k.ours)
    for way in ways:
        off = np.array([way(one)[0] - one.true for one in found])
        holds = np.mean([abs(e) < 2 * way(k)[1] for e, k in zip(off, found, strict=True)])
        cells.append(f"{np.sqrt((off**2).mean()):7.2f} {holds:6.1%}")
    return " ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=340, help="of the landscapes, by its seed")
    parser.add_argument("--landscapes", type=int, default=10)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[100, 300])
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.landscapes)
    for count in options.evaluations:
        found = [one for seed in seeds for one in changes(*searched(seed, count))]
        several = [one for one in found if one.carriers > 1]
        print(f"\n{count} evaluations{'':8} changes  plain  holds    ours  holds")
        print(line("all", found))
        print(line("several carriers", several))
        print(line("made several times", [one for one in found if one.births > 1]))
        print(line("no worse than -4", [one for one in found if one.true > -4]))


if __name__ == "__main__":
    main()
