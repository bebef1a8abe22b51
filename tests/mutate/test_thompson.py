import numpy as np

from mutate.genome import constants
from mutate.ranges import Value
from mutate.thompson import ranked
from mutate.told import Told

DECLARED = constants(
    "X = 0.5  # 0..1\nY = 0.5  # 0..1\nZ = 0.5  # 0..1\nN = 3  # 1..9\ndeliver()\n"
)
Point = dict[str, Value]
RNG = np.random.default_rng(7)


def drawn(count: int, rng: np.random.Generator = RNG) -> list[Point]:
    numbers = rng.random((count, 3)).round(4)
    return [
        {"X": float(x), "Y": float(y), "Z": float(z), "N": int(rng.integers(1, 10))}
        for x, y, z in numbers
    ]


def fitness(point: Point) -> float:
    """Best at X 0.8, Y 0.3, N 7; Z does nothing."""
    return -sum(
        ((float(point[name]) - best) / width) ** 2
        for name, best, width in (("X", 0.8, 1), ("Y", 0.3, 1), ("N", 7, 8))
    )


def told(points: list[Point]) -> list[Told]:
    return [Told(point, fitness(point)) for point in points]


def test_what_the_results_promise_comes_first() -> None:
    known, candidates = told(drawn(40)), drawn(100)
    firsts = [
        fitness(next(ranked(candidates, DECLARED, known, np.random.default_rng(seed))))
        for seed in range(20)
    ]
    better = np.mean([[fitness(one) < first for one in candidates] for first in firsts])
    assert better > 0.95


def test_it_draws_another_order_each_time_the_less_is_known() -> None:
    candidates = drawn(100)

    def firsts(known: list[Told]) -> set[int]:
        return {
            candidates.index(next(ranked(candidates, DECLARED, known, np.random.default_rng(seed))))
            for seed in range(15)
        }

    assert len(firsts(told(drawn(4)))) > 2 * len(firsts(told(drawn(60))))


def test_all_candidates_come_once_what_is_known_last_and_in_an_order_that_repeats() -> None:
    candidates, known = drawn(50), told(drawn(10))
    known += told(candidates[:3])

    def order() -> list[Point]:
        return list(ranked(candidates, DECLARED, known, np.random.default_rng(1)))

    assert order() == order()
    assert sorted(map(str, order())) == sorted(map(str, candidates))
    assert {str(one) for one in order()[-3:]} == {str(one) for one in candidates[:3]}


def test_where_others_failed_comes_after_where_they_did_not() -> None:
    def failed(point: Point) -> bool:
        return float(point["X"]) > 0.6

    known = [Told(p, -9.0 if failed(p) else fitness(p), failed(p)) for p in drawn(60)]
    candidates = drawn(100)
    for seed in range(10):
        order = list(ranked(candidates, DECLARED, known, np.random.default_rng(seed)))
        assert sum(failed(point) for point in order[:20]) <= 4
        assert sum(failed(point) for point in order[-20:]) >= 16


def test_how_bad_a_failure_is_makes_no_difference() -> None:
    candidates, known = drawn(50), told(drawn(12))
    there: Point = {"X": 0.1, "Y": 0.1, "Z": 0.1, "N": 1}
    one, other = (
        list(
            ranked(
                candidates,
                DECLARED,
                [*known, Told(there, worse, failed=True)],
                np.random.default_rng(0),
            )
        )
        for worse in (-10.0, -1e6)
    )
    assert one == other


def test_what_still_trains_is_no_result() -> None:
    candidates, known = drawn(50), told(drawn(12))
    there: Point = {"X": 0.81, "Y": 0.31, "Z": 0.5, "N": 7}
    order = list(ranked(candidates, DECLARED, known, np.random.default_rng(0)))
    with_one = list(
        ranked(candidates, DECLARED, [*known, Told(there, None)], np.random.default_rng(0))
    )
    assert order == with_one


def test_where_most_score_alike_the_others_still_tell_what_to_leave() -> None:
    def level(point: Point) -> float:
        return 1.0 if float(point["X"]) < 0.7 else -5.0

    known, candidates = [Told(p, level(p)) for p in drawn(40)], drawn(100)
    for seed in range(10):
        order = list(ranked(candidates, DECLARED, known, np.random.default_rng(seed)))
        assert sum(level(point) < 0 for point in order[:20]) <= 3
