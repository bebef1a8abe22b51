"""Programs and histories for the operators' tests."""

from collections.abc import Iterable, Mapping

from mutate import genome
from mutate.checks import Checks
from population.history import History, Standing
from population.individual import Genome, Individual, IndividualId

CHECKS = Checks("train.py", 64 << 10, ("deliver",))

BASE = '''"""A founder."""

import math
from lib import Linear, deliver

WIDTH = 64  # one of 32, 64, 128
LR = 0.02  # log 0.002..0.2; peak of the schedule
DEPTH = 2  # 1..4
GATED = False


def norm(x):
    return x / math.sqrt(x)


class Mixer:
    """Mixes."""

    def __init__(self):
        self.out = Linear(WIDTH)

    def forward(self, x):
        return self.out(norm(x))


class Head:
    def forward(self, x):
        return x


def main():
    deliver(Mixer(), Head(), LR, DEPTH, GATED)


main()
'''

DONOR = '''"""Another founder."""

import functools
import math as maths
from lib import Linear, Table as Lookup, deliver

WIDTH = 32  # one of 32, 64, 128
LR = 0.05  # log 0.002..0.2; peak of the schedule
DEPTH = 9  # 1..12
GATED = False
TABLE_SIZE = 512  # log 64..4096; rows


def norm(x):
    return x


# Hashes pairs
# of tokens.
def hashed(x):
    return mixed(x) % TABLE_SIZE


@functools.cache
def mixed(x):
    norm = maths.floor(x)
    return norm


class Mixer:
    """Mixes otherwise."""

    def __init__(self):
        self.out = Linear(WIDTH)
        self.table = Lookup(TABLE_SIZE)

    def forward(self, x):
        return self.out(norm(x)) + self.table(hashed(x))


class Head:
    def forward(self, x):
        return mystery(x)


def main():
    deliver(Mixer(), Head(), LR, DEPTH, GATED)


main()
'''


def individual(number: int, source: str) -> Individual:
    return Individual(
        id=IndividualId(number),
        genome=Genome(source),
        structure=genome.structure(source),
        fingerprint=genome.fingerprint(source),
        constants=genome.values(source),
    )


def standing(number: int, source: str, fitness: float | None, failures: int = 0) -> Standing:
    evaluations = 0 if fitness is None else 1
    in_flight = 1 - evaluations - failures
    return Standing(individual(number, source), fitness, 0.01, evaluations, failures, in_flight)


def history(standings: Iterable[Standing], survivors: Iterable[int] = ()) -> History:
    known: Mapping[IndividualId, Standing] = {one.individual.id: one for one in standings}
    return History(
        standings=dict(known),
        survivors=tuple(IndividualId(number) for number in survivors),
        fingerprints={one.individual.fingerprint: number for number, one in known.items()},
        sigma=0.01,
    )
