import math

import numpy as np

from mutate.cma import cma_es
from mutate.genome import constants
from mutate.ranges import Value
from mutate.told import Told

DECLARED = constants(
    'X = 0.5  # 0..1\nLR = 0.1  # log 0.001..1\nKIND = "a"  # one of a, b, c\ndeliver()\n'
)
FOUNDER: dict[str, Value] = {"X": 0.5, "LR": 0.1, "KIND": "a"}


def draw(told: list[Told], seed: int = 0) -> dict[str, Value]:
    return next(cma_es(DECLARED, FOUNDER, told, "constants", np.random.default_rng(seed)))


def fitness(point: dict[str, Value]) -> float:
    return -((float(point["X"]) - 0.9) ** 2) - (math.log10(float(point["LR"])) + 2) ** 2


def test_it_begins_around_the_founder_within_the_ranges() -> None:
    points = [draw([Told(FOUNDER, -1.0)], seed) for seed in range(100)]
    assert all(point[c.name] in c.range for point in points for c in DECLARED)
    assert abs(float(np.mean([float(point["X"]) for point in points])) - 0.5) < 0.06


def test_told_its_own_offspring_it_moves_to_the_optimum() -> None:
    told = [Told(FOUNDER, fitness(FOUNDER))]
    for seed in range(120):
        point = draw(told, seed)
        told.append(Told(point, fitness(point), operator="constants"))
    late = [one.value for one in told[-20:] if one.value is not None]
    assert np.median(late) > -0.02


def test_offspring_of_others_and_of_an_unfinished_population_do_not_move_it() -> None:
    alone = [Told(FOUNDER, -1.0)]
    far: dict[str, Value] = {"X": 1.0, "LR": 1.0, "KIND": "c"}
    others = [Told(far, 5.0, operator="crossover")] * 50
    unfinished = [Told(far, 5.0, operator="constants")] * 6 + [Told(far, None, False, "constants")]
    assert draw(alone) == draw(alone + others) == draw(alone + unfinished * 1)


def test_it_begins_around_the_parent_wherever_the_first_program_was() -> None:
    parent: dict[str, Value] = {"X": 0.9, "LR": 0.1, "KIND": "a"}
    drawn = [
        next(cma_es(DECLARED, parent, [Told(FOUNDER, -1.0)], "constants", np.random.default_rng(n)))
        for n in range(100)
    ]
    assert abs(float(np.mean([float(point["X"]) for point in drawn])) - 0.9) < 0.06


def test_what_will_never_be_known_holds_up_no_population() -> None:
    far: dict[str, Value] = {"X": 1.0, "LR": 1.0, "KIND": "c"}
    lost = [Told(far, None, operator="constants", void=True)]
    bred = [Told(far, 5.0, operator="constants")] * 7
    assert draw(bred) == draw(lost + bred) != draw([])
