"""Which operator next: prior shares, moved by what each operator's children were worth."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mutate.bandit import USUAL, broke, credited, credits, operator_of
from population.history import History, Tally
from population.individual import IndividualId
from population.ports import Choice, Variation

CROSSOVER_SHARE = 0.5
"""While several structures survive: combining them is the only structural step without an LLM."""
REPAIR_SHARE = 0.5
"""Of the proposals while a program that a model wrote lies broken and nobody has mended it."""
TRIALS_SHARE = 0.8
"""Of the proposals while a newcomer is owed trials: one that has none left must stop nobody."""


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
                and broke(standing)
                and one not in history.tried
            ):
                return one
        return None


def _shares(arms: Sequence[Arm], history: History) -> list[float]:
    """Return the shares of these arms, credit included; they add up to 1."""
    priors = [arm.share(history) for arm in arms]
    total = sum(priors)
    if not total:
        return [1 / len(arms)] * len(arms)
    worth = credits(history, operator_of, history.tallies)
    found = [worth.get(arm.variation.name, USUAL) for arm in arms]
    return credited([prior / total for prior in priors], found)


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
    """Return how often two parents are combined, given who may breed.

    Never while all are of one structure: exchanging constants finds less than the numeric operator.
    """
    structures = {history.standings[one].individual.structure for one in history.breeders}
    return CROSSOVER_SHARE if len(structures) > 1 else 0.0
