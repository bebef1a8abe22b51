"""A history for the operators that needs no training: a function of the constants is the score."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from mutate.genome import Value, fingerprint, structure, values
from population.individual import Genome, Individual, IndividualId
from population.ports import History, Standing

SEEDS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).resolve().parents[2] / "seeds").glob("*.py"))
}


@cache
def individual(number: int, source: str) -> Individual:
    return Individual(
        id=IndividualId(number),
        genome=Genome(source),
        structure=structure(source),
        fingerprint=fingerprint(source),
        constants=values(source),
    )


class World:
    """Individuals in order of birth; `score` gives a fitness, or None for a crash."""

    def __init__(self, score: Callable[[dict[str, Value]], float | None]) -> None:
        self._score = score
        self._standings: dict[IndividualId, Standing] = {}

    def born(self, source: str) -> Individual:
        """Add an individual that trains."""
        one = individual(len(self._standings) + 1, source)
        self._standings[one.id] = Standing(one, None, 0.1, 0, 0, 1)
        return one

    def evaluated(self, source: str) -> float | None:
        """Add an individual that has trained; return its fitness."""
        one = self.born(source)
        fitness = self._score(values(source))
        failed = int(fitness is None)
        self._standings[one.id] = replace(
            self._standings[one.id],
            fitness=fitness, evaluations=1 - failed, failures=failed, in_flight=0,
        )  # fmt: skip
        return fitness

    @property
    def best(self) -> Individual:
        """The fittest individual."""
        scored = [s for s in self._standings.values() if s.fitness is not None]
        return max(scored, key=lambda s: s.fitness).individual

    def history(self, survivors: Sequence[int] = ()) -> History:
        """Return what an operator is shown now."""
        return History(
            dict(self._standings),
            tuple(IndividualId(one) for one in survivors),
            {s.individual.fingerprint: one for one, s in self._standings.items()},
            0.01,
        )


def flat(_: dict[str, Value]) -> float:
    """Score every program alike."""
    return 0.0
