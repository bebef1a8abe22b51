import math

import numpy as np
from scipy.stats import norm

from mutate.expected import expected_improvement, log_expected_improvement
from mutate.gaussian import fit
from mutate.genome import constants
from mutate.ranges import Value
from mutate.told import Told

DECLARED = constants(
    "X = 0.5  # 0..1\nY = 0.5  # 0..1\nZ = 0.5  # 0..1\nN = 3  # 1..9\ndeliver()\n"
)
Point = dict[str, Value]


def at(x: float, y: float, z: float, n: int) -> Point:
    return {"X": x, "Y": y, "Z": z, "N": n}


def fitness(point: Point) -> float:
    """Best at X 0.8, Y 0.3, N 7."""
    return -sum(
        ((float(point[name]) - best) / width) ** 2
        for name, best, width in (("X", 0.8, 1), ("Y", 0.3, 1), ("N", 7, 8))
    )


def grown(count: int, seed: int = 0) -> list[Told]:
    rng = np.random.default_rng(seed)
    points = [at(*rng.random(3).round(4), int(rng.integers(1, 10))) for _ in range(count)]
    return [Told(point, fitness(point)) for point in points]


def first(told: list[Told], seed: int = 0) -> Point:
    return next(expected_improvement(DECLARED, told, np.random.default_rng(seed)))


def test_told_its_own_proposals_it_comes_near_the_optimum() -> None:
    told = grown(8)
    for step in range(15):
        point = first(told, step)
        told.append(Told(point, fitness(point)))
    assert max(one.value for one in told if one.value is not None) > -0.002


def test_it_proposes_values_of_the_ranges_and_each_point_once() -> None:
    told = grown(10)
    seen = {tuple(one.point.values()) for one in told}
    points = expected_improvement(DECLARED, told, np.random.default_rng(0))
    for _, point in zip(range(300), points, strict=False):
        assert all(point[c.name] in c.range for c in DECLARED)
        assert tuple(point.values()) not in seen
        seen.add(tuple(point.values()))


def test_it_is_a_function_of_its_arguments() -> None:
    assert first(grown(12), 5) == first(grown(12), 5)


def test_what_is_in_flight_is_not_proposed_again() -> None:
    told = grown(12)
    leader = first(told)
    second = first([*told, Told(leader, None)])
    assert sum((float(leader[k]) - float(second[k])) ** 2 for k in "XYZ") > 1e-4


def test_how_bad_a_failure_is_makes_no_difference() -> None:
    told = grown(12)
    failed = [Told(at(0.1, 0.1, 0.1, 1), worse, failed=True) for worse in (-10.0, -1e6)]
    assert first([*told, failed[0]]) == first([*told, failed[1]])


def test_the_log_of_the_improvement_is_right_where_it_is_large_and_where_it_vanishes() -> None:
    rng = np.random.default_rng(3)
    process = fit(rng.random((20, 2)), rng.normal(size=20))
    points = rng.random((200, 2))
    mean, deviation = process.predict(points)
    for incumbent in (0.0, 2.0, 30.0):
        z = (mean - incumbent) / deviation
        expected = np.log(deviation) + np.array([_log_h(one) for one in z])
        found = log_expected_improvement(process, points, incumbent)
        np.testing.assert_allclose(found, expected, atol=0.2)


def _log_h(z: float) -> float:
    """The logarithm of phi(z) + z Phi(z), by its continued fraction where that vanishes."""
    if z > -5:
        return math.log(norm.pdf(z) + z * norm.cdf(z))
    return float(norm.logpdf(z)) - math.log(z * z + 3)
