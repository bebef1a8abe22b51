"""What populations and crossover buy: whole searches in synthetic worlds, compared in pairs.

    python -m bench.recombination [--replicates 20] [--evaluations 50 100 300] [--slots 1 8 32]
        [--landscapes 3] [--first 0] [--settings crossover mu ...] [--keep results.csv]

Every setting meets the same worlds, founders and seeds. Values are sigmas of one evaluation above
the best program that there is. With `--keep` searches that the file holds already are not run
again, so that a table grows with what is asked for. p values are of Wilcoxon's signed-rank test
against the first setting, after Holm's correction within a table.
"""

import argparse
import csv
import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bench.catalogue import SIGMA, Catalogue, CatalogueMutation
from bench.intervals import holm, signed_rank
from bench.simulation import Method, shipped, simulate
from mutate.checks import Checks
from mutate.constants import ConstantsMutation
from mutate.portfolio import Arm, Portfolio, Tuner, crossover_share
from mutate.recombination import Recombination
from population.history import History
from population.newcomers import TRIALS, has_stalled, owed_trials
from population.parents import Mode
from population.search import SearchConfig

CREDIT = "mutate.bandit.MOST_CREDIT"
TOURNAMENT = "population.parents.TOURNAMENT"
FRESH = "population.parents.FRESH"
TRIED = "population.newcomers.TRIALS"


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to search.

    Attributes:
        crossover: share of proposals while there are parents that differ.
        explore: share of the catalogue's edits among the others; the rest are constants.
        tournament: how many survivors compete to be a parent.
        remembers: whether edits that did not help are proposed less often.
        credit: how far an operator's share may move by what its children were worth; 1: not.
        founders: 3, or the first one alone.
        fresh: births for which a new best program breeds alone.
        trials: of a newcomer's constants once the search has stalled; 0: it is judged as born.
        early: whether parents are crossed while the search climbs, too.
        control: a search mode as it is shipped, in place of all that; it varies constants alone.
    """

    mode: Mode = Mode.EVOLVE
    crossover: float = 0.15
    explore: float = 0.7
    mu: int = 8
    lambda_: int = 8
    tournament: int = 3
    racing: float = 0.15
    remembers: bool = True
    credit: float = 3.0
    founders: int = 3
    fresh: int = 16
    trials: int = TRIALS
    early: bool = False
    control: str = ""

    @property
    def name(self) -> str:
        """The mode, and whatever differs from the defaults."""
        own = [
            f"{field.name.rstrip('_')}={getattr(self, field.name)}"
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        ]
        return " ".join([self.mode.value, *own])

    def method(self, world: Catalogue) -> Method:
        """Return the search in this world."""
        if self.control:
            return shipped(self.control)
        config = SearchConfig(
            mode=self.mode, mu=self.mu, lambda_=self.lambda_, racing_share=self.racing
        )
        return Method(self.name, config, lambda _: self._portfolio(world))

    def _portfolio(self, world: Catalogue) -> Portfolio:
        checks = Passed()

        def crossed(history: History) -> float:
            due = has_stalled(history) or self.early
            return self.crossover if due and crossover_share(history) else 0.0

        def rest(share: float) -> Callable[[History], float]:
            return lambda history: share * (1.0 - crossed(history))

        explore = CatalogueMutation(world, checks, self.remembers)
        numeric = ConstantsMutation(checks)
        return Portfolio(
            [
                Arm(explore, rest(self.explore)),
                Arm(numeric, rest(1.0 - self.explore)),
                Arm(Recombination(checks), crossed),
            ],
            tuner=Tuner(numeric, owed_trials) if self.trials else None,
        )


class Passed(Checks):
    """The checks of programs that are known to pass: to check them takes a third of the time."""

    def refusal(self, source: str) -> str:
        """Return the empty text."""
        return ""


EVOLVE = Setting()
GREEDY = Setting(mode=Mode.GREEDY, crossover=0.0, trials=0)
BEST_OF = Setting(mode=Mode.BEST_OF, crossover=0.0, trials=0)


def varied(**values: Iterable) -> list[Setting]:
    """Return the default search with each of these values of one field."""
    return [replace(EVOLVE, **{name: one}) for name, own in values.items() for one in own]


SETTINGS = {
    "greedy": [GREEDY],
    "controls": varied(control=("random", "tpe", "cmaes")),
    "best-of": [BEST_OF],
    "crossover": varied(crossover=(0.0, 0.1, 0.2, 0.3, 0.5)),
    "mu": varied(mu=(2, 4, 16)),
    "lambda": varied(lambda_=(1, 4, 16)),
    "tournament": varied(tournament=(1, 2, 5, 8)),
    "racing": varied(racing=(0.0, 0.05)),
    "explore": varied(explore=(0.3, 0.5)),
    "credit": [*varied(credit=(1.0,)), replace(GREEDY, credit=1.0)],
    "pressure": [
        replace(EVOLVE, mu=mu, lambda_=births, tournament=size)
        for mu, births, size in ((4, 1, 3), (4, 4, 3), (4, 4, 4), (8, 4, 5), (8, 1, 5))
    ],
    "early": varied(early=(True,)),
    "trials": varied(trials=(0, 4)),
    "fresh": varied(fresh=(0, 8, 32)),
    "memory": [replace(EVOLVE, remembers=False), replace(GREEDY, remembers=False)],
    "alone": [replace(one, founders=1) for one in (EVOLVE, replace(EVOLVE, crossover=0.0), GREEDY)],
}
"""Whatever is compared with the default search, by what it asks."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one search stood after so many evaluations.

    Attributes:
        regret: of its leader, in sigmas above the best program. claimed: as it believes.
        reached: of the landscape's targets. first: evaluations until the first of them, or 0.
    """

    setting: str
    landscape: int
    replicate: int
    slots: int
    evaluations: int
    regret: float
    claimed: float
    failures: int
    hours: float
    reached: int
    first: int


@cache
def world(seed: int, founders: int) -> Catalogue:
    """Return the landscape of this seed; a process needs it often."""
    return Catalogue(seed, founders)


def search(
    setting: Setting, landscape: int, replicate: int, slots: int, evaluations: Sequence[int]
) -> Iterator[Standing]:
    """Run one search and yield how it stood at each of these numbers of evaluations."""
    place = world(landscape, setting.founders)
    with (
        patch(CREDIT, setting.credit),
        patch(TOURNAMENT, setting.tournament),
        patch(FRESH, setting.fresh),
        patch(TRIED, setting.trials),
    ):
        seed = 1000 * landscape + replicate
        trace = simulate(setting.method(place), place, seed, max(evaluations), slots)
    reached = [trace.reached(target) for target in place.targets]
    for count in evaluations:
        row = trace.at(count)
        within = [one for one in reached if one is not None and one <= count]
        yield Standing(
            *(setting.name, landscape, replicate, slots, count),
            regret=(row.true - place.optimum) / SIGMA,
            claimed=(row.claimed - place.optimum) / SIGMA,
            failures=row.failures,
            hours=row.clock_s / 3600,
            reached=len(within),
            first=min(within, default=0),
        )


class Kept:
    """What was found, in a file where one is named."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.found: list[Standing] = []
        if path is not None and path.exists():
            with path.open(newline="") as file:
                self.found = [_typed(row) for row in csv.DictReader(file)]
        self._known = {(*astuple(one)[:5],) for one in self.found}

    def has(self, setting: str, landscape: int, replicate: int, slots: int, count: int) -> bool:
        """Tell whether this was run."""
        return (setting, landscape, replicate, slots, count) in self._known

    def add(self, standings: Sequence[Standing]) -> None:
        """Keep these."""
        fresh = [one for one in standings if not self.has(*astuple(one)[:5])]
        self.found += fresh
        if self._path is not None:
            new = not self._path.exists()
            with self._path.open("a", newline="") as file:
                writer = csv.writer(file)
                if new:
                    writer.writerow([field.name for field in fields(Standing)])
                writer.writerows(astuple(one) for one in fresh)


def _typed(row: dict[str, str]) -> Standing:
    return Standing(**{field.name: field.type(row[field.name]) for field in fields(Standing)})


# Tables


def table(found: Sequence[Standing], settings: Sequence[str], slots: int, count: int) -> list[str]:
    """Return the lines of one comparison: the first setting is what the others differ from."""
    by: dict[str, dict[tuple[int, int], Standing]] = defaultdict(dict)
    for one in found:
        if (one.slots, one.evaluations) == (slots, count):
            by[one.setting][one.landscape, one.replicate] = one
    shown = [name for name in settings if by[name]]
    lines = [
        f"\n{count} evaluations, {slots} at once",
        f"{'setting':32} {'n':>3} {'regret':>7} {'quartiles':>12} {'claim':>6} {'fail':>5} "
        f"{'half':>5} {'most':>5} {'hours':>6} {'gained':>7} {'p':>7}",
    ]
    ps = holm([_paired(by[settings[0]], by[name])[1] for name in shown])
    for name, p in zip(shown, ps, strict=True):
        own = list(by[name].values())
        regrets = [one.regret for one in own]
        low, _, high = np.quantile(regrets, (0.25, 0.5, 0.75))
        optimism = statistics.fmean(one.regret - one.claimed for one in own)
        failures = statistics.fmean(one.failures for one in own)
        half, most = (statistics.fmean(one.reached >= least for one in own) for least in (1, 2))
        hours = statistics.fmean(one.hours for one in own)
        gained = _paired(by[settings[0]], by[name])[0]
        lines.append(
            f"{name:32} {len(own):3} {statistics.median(regrets):7.2f} {low:5.1f}..{high:5.1f} "
            f"{optimism:6.2f} {failures:5.1f} {half:5.2f} {most:5.2f} {hours:6.1f} "
            f"{gained:+7.2f} {p:7.3f}"
        )
    return lines


def _paired(
    base: dict[tuple[int, int], Standing], other: dict[tuple[int, int], Standing]
) -> tuple[float, float]:
    """Return the mean gain in regret on the base over what both were run on, and its p value."""
    gains = [base[key].regret - one.regret for key, one in other.items() if key in base]
    return statistics.fmean(gains or [0.0]), signed_rank(gains)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--landscapes", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="of the landscapes, by its seed")
    parser.add_argument("--evaluations", type=int, nargs="+", default=[50, 100, 300])
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--keep", type=Path, help="a CSV file of what was found")
    options = parser.parse_args()
    kept = Kept(options.keep)
    asked = [EVOLVE, *(one for key in options.settings for one in SETTINGS[key])]
    settings = {one.name: one for one in asked}
    landscapes = range(options.first, options.first + options.landscapes)
    for place in itertools.product(
        range(options.replicates), landscapes, options.slots, settings.values()
    ):  # all settings in one world, then the next: a table that is cut off is even
        replicate, landscape, slots, setting = place
        if not kept.has(setting.name, landscape, replicate, slots, max(options.evaluations)):
            kept.add(list(search(setting, landscape, replicate, slots, options.evaluations)))
    for slots, count in itertools.product(options.slots, options.evaluations):
        print("\n".join(table(kept.found, list(settings), slots, count)))


if __name__ == "__main__":
    main()
