import pytest

from bench.null import SCENARIOS, row, simulate, upper_bound
from population.exam import MOST_PAIRS


def runs(name, count, evaluations=30):
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    found = [simulate(scenario, evaluations, MOST_PAIRS, number) for number in range(count)]
    return row(scenario, found)


def test_a_run_of_equals_claims_nothing_and_one_with_a_large_gain_claims_it():
    assert runs("identical", 8).false_claims == 0
    found = runs("gain 6", 8, 60)
    assert found.claims == 1.0
    assert found.cover == 1.0
    assert abs(found.exam_error) < 1


def test_a_run_that_stops_for_three_exams_goes_on_in_between():
    found = runs("three exams", 4)
    assert 4 <= found.exams <= 12
    assert found.false_claims == 0


def test_a_simulated_run_repeats():
    assert runs("own and heavy", 3) == runs("own and heavy", 3)


@pytest.mark.parametrize(
    ("count", "of", "bound"), [(0, 2000, 0.001497), (10, 2000, 0.008461), (3, 20, 0.3437)]
)
def test_the_bound_of_a_share_is_the_exact_one(count, of, bound):
    assert upper_bound(count, of) == pytest.approx(bound, rel=0.002)


def test_where_everything_succeeds_the_share_may_be_one():
    assert upper_bound(5, 5) == 1.0
