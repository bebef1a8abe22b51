import pytest
from fakes import individual, program

from population.individual import IndividualId
from population.scores import Scores
from population.task import Direction

ONE, TWO, FAKE = (individual(n, program(0.0)).id for n in (1, 2, 3))


def scores(*values: tuple[str, IndividualId, float]) -> Scores:
    found = Scores(Direction.MINIMIZE)
    for value in values:
        found.add(*value)
    return found


def test_the_key_of_most_values_ranks_and_the_earlier_one_of_two_that_are_as_frequent():
    found = scores(("a", ONE, 1.0), ("b", ONE, 2.0))
    assert found.usual_key == "a"
    found.add("b", TWO, 3.0)
    assert found.usual_key == "b"
    assert found.of("b") == {ONE: [2.0], TWO: [3.0]}
    assert found.ranked()[0].keys() == {ONE, TWO}
    assert scores().usual_key == ""


def test_a_smaller_value_is_fitter_where_the_task_minimizes():
    ranks, noise = scores(("a", ONE, 1.0), ("a", TWO, 2.0)).ranked()
    assert noise is None
    assert ranks[ONE].mean > ranks[TWO].mean


def test_values_that_are_not_believed_move_no_other_and_are_moved_themselves():
    values = [("a", ONE, 1.00), ("a", ONE, 1.02), ("a", TWO, 1.03), ("a", TWO, 1.01)]
    found = scores(*values, ("a", FAKE, 0.2))
    believed, doubted = found.ranked()[0], found.ranked({FAKE})[0]
    alone = scores(*values).ranked()[0]
    assert doubted[ONE].mean == pytest.approx(alone[ONE].mean)
    assert believed[ONE].mean != pytest.approx(alone[ONE].mean, abs=1e-6)
    assert doubted[FAKE].mean < believed[FAKE].mean
