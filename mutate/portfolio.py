"""Which operator next: prior shares, moved by what each operator's children were worth.

Source: probability matching for adaptive operators, Thierens, GECCO 2005, section 2; here with
unequal prior shares and a bound on how far credit moves them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from population.individual import IndividualId, Stage
from population.ports import Choice, History, Standing, Tally, Variation

CROSSOVER_SHARE = 0.5
"""While several structures survive: combining them is the only structural step without an LLM."""
REPAIR_SHARE = 0.5
"""Of the proposals while a program that a model wrote lies broken and nobody has mended it."""
TRIALS_SHARE = 0.8
"""Of the proposals while a newcomer is owed trials: one that has none left must stop nobody."""
PRIOR_WINS, PRIOR_LOSSES = 2.0, 6.0
"""What every operator is believed to be worth before it has bred: a quarter of its proposals."""
REFUSED_LOSS = 0.25
"""A refused proposal has cost money or time, though no device."""
MOST_CREDIT = 3.0
"""How far credit moves a share from its prior, up or down."""


@dataclass(frozen=True, slots=True)
class Arm:
    """An operator and the share of proposals that it is meant to make.

    Attributes:
        share: given who survives; 0 leaves it out.
        ready: whether it can work at present.
    """

    variation: Variation
    share: Callable[[History], float]
    ready: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Tuner:
    """Tries the constants of newcomers.

    Attributes:
        variation: the numeric operator. owed: the program that it is to vary, None for none.
    """

    variation: Variation
    owed: Callable[[History], IndividualId | None]


class Portfolio:
    """Chooses among arms; see the Portfolio port.

    Args:
        arms: at least one that is always ready.
        repair: mends broken programs of the operators named in `mends`, each once.
        tuner: varies the constants of newcomers that are owed trials; None: structures are judged
            as they are born, as by a chain.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        repair: Arm | None = None,
        mends: frozenset[str] = frozenset(),
        tuner: Tuner | None = None,
    ) -> None:
        self._arms = tuple(arms)
        self._repair = repair
        self._mends = mends
        self._tuner = tuner

    @property
    def operators(self) -> Sequence[Variation]:
        """All operators, for messages."""
        repair = () if self._repair is None else (self._repair,)
        return tuple(arm.variation for arm in (*self._arms, *repair))

    def choose(self, history: History, rng: np.random.Generator, quick: bool = False) -> Choice:
        """Return the operator of the next proposal: newcomers' trials first, then what is broken.

        Dice alone would leave a short run with two crossovers or ten: an operator that is behind
        its share is drawn with twice the probability, one that is ahead with half of it.
        """
        owed = None if self._tuner is None else self._tuner.owed(history)
        if self._tuner is not None and owed is not None and rng.random() < TRIALS_SHARE:
            return Choice(self._tuner.variation, (owed,))
        broken = None if quick else self._broken(history)
        if broken is not None and self._repair is not None and rng.random() < REPAIR_SHARE:
            return Choice(self._repair.variation, (broken,))
        arms = [arm for arm in self._arms if arm.ready()]
        arms = [arm for arm in arms if not (quick and arm.variation.slow)] or arms
        shares = _shares(arms, history)
        weights = np.array(_caught_up(arms, shares, history))
        return Choice(arms[int(rng.choice(len(arms), p=weights / weights.sum()))].variation)

    def _broken(self, history: History) -> IndividualId | None:
        """Return the latest broken program that was not mended yet, None where there is none."""
        if self._repair is None or not self._repair.ready():
            return None
        for one, standing in reversed(history.standings.items()):
            if (
                standing.individual.operator in self._mends
                and _broke(standing)
                and one not in history.tried
            ):
                return one
        return None


def _broke(standing: Standing) -> bool:
    """Whether a program earned no score by its own fault, not the machine's."""
    failure = standing.report.failure if standing.report else None
    ours = failure is not None and failure.stage is Stage.INFRASTRUCTURE
    settled = standing.fitness is None and not standing.in_flight
    return settled and standing.failures > 0 and not ours


def _shares(arms: Sequence[Arm], history: History) -> list[float]:
    """Return the shares of these arms, credit included; they add up to 1."""
    priors = [arm.share(history) for arm in arms]
    total = sum(priors)
    if not total:
        return [1 / len(arms)] * len(arms)
    worth = credits(history)
    usual = PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES)
    found = [worth.get(arm.variation.name, usual) for arm in arms]
    return _credited([prior / total for prior in priors], found)


def _credited(priors: Sequence[float], worths: Sequence[float]) -> list[float]:
    """Return shares in proportion to prior and worth, none moved by more than `MOST_CREDIT`.

    The bounds leave a sum that grows with the factor common to all, from below 1 to above it.
    """

    def bounded(factor: float) -> list[float]:
        moves = [min(max(factor * own, 1 / MOST_CREDIT), MOST_CREDIT) for own in worths]
        return [prior * move for prior, move in zip(priors, moves, strict=True)]

    low, high = 1 / (MOST_CREDIT * max(worths)), MOST_CREDIT / min(worths)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(bounded(middle)) < 1 else (low, middle)
    return bounded(high)


def credits(history: History) -> dict[str, float]:
    """Return for each operator that has bred the share of its proposals that won, shrunken.

    A child wins by the probability that it is better than its first parent by more than the noise
    of one score; while the noise is unknown, if it scored better at all.
    """
    won: dict[str, float] = defaultdict(float)
    lost: dict[str, float] = defaultdict(float)
    for standing in history.standings.values():
        operator, chance = standing.individual.operator, _win(standing, history)
        if chance is not None:
            won[operator] += chance
            lost[operator] += 1 - chance
    for operator, tally in history.tallies.items():
        lost[operator] += REFUSED_LOSS * tally.refused
    known = PRIOR_WINS + PRIOR_LOSSES
    return {
        operator: (PRIOR_WINS + won[operator]) / (known + won[operator] + lost[operator])
        for operator in {*won, *lost}
    }


def _win(standing: Standing, history: History) -> float | None:
    parents = standing.individual.parents
    parent = history.standings.get(parents[0]) if parents else None
    if parent is None or parent.fitness is None or standing.in_flight:
        return None
    if standing.fitness is None or standing.held:
        return 0.0 if standing.held or _broke(standing) else None
    gain = standing.fitness - parent.fitness - history.sigma
    error = math.hypot(standing.standard_error, parent.standard_error)
    if not 0 < error < math.inf:
        return float(gain > 0)
    return NormalDist().cdf(gain / error)


def _caught_up(arms: Sequence[Arm], shares: Sequence[float], history: History) -> list[float]:
    """Return weights that sum to 1: who is behind its share gains, who is ahead loses.

    Refused proposals count: an operator that has nothing to offer is not behind.
    """
    names = [arm.variation.name for arm in arms]
    asked = {name: history.tallies.get(name, Tally()).proposals for name in names}
    total = sum(asked.values())
    due: dict[str, float] = defaultdict(float)  # crossovers of two and of three share a name
    for name, share in zip(names, shares, strict=True):
        due[name] += share * total
    weights = []
    for name, share in zip(names, shares, strict=True):
        ahead = round(asked[name] - due[name], 9)
        weights.append(share * (1.0 if ahead == 0 else 0.5 if ahead > 0 else 2.0))
    return [weight / sum(weights) for weight in weights]


def crossover_share(history: History) -> float:
    """Return how often two parents are combined, given who survives; the scored, before that.

    Never while all are of one structure: exchanging constants finds less than the numeric operator.
    """
    breeders = [history.standings[one].individual for one in history.survivors] or [
        s.individual for s in history.standings.values() if s.ranks
    ]
    return CROSSOVER_SHARE if len({one.structure for one in breeders}) > 1 else 0.0
