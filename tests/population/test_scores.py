from dataclasses import replace

import pytest
from fakes import MACHINE, individual, program

from population.individual import Comparability, IndividualId
from population.scores import Scores
from population.statistics import Count
from population.task import Direction

OTHER = replace(MACHINE, device="other")
ONE, TWO, FAKE = (individual(n, program(0.0)).id for n in (1, 2, 3))


def scores(*values: tuple[Comparability, IndividualId, float]) -> Scores:
    found = Scores(Direction.MINIMIZE)
    for value in values:
        found.add(*value)
    return found


def test_the_machine_of_most_values_ranks_and_the_earlier_of_two_that_are_as_frequent():
    found = scores((MACHINE, ONE, 1.0), (OTHER, ONE, 2.0))
    assert found.usual == MACHINE
    found.add(OTHER, TWO, 3.0)
    assert found.usual == OTHER
    assert found.of(OTHER) == {ONE: [2.0], TWO: [3.0]}
    assert found.ranked().keys() == {ONE, TWO}
    assert scores().usual is None


def test_a_smaller_value_is_fitter_where_the_task_minimizes():
    found = scores((MACHINE, ONE, 1.0), (MACHINE, TWO, 2.0))
    ranks = found.ranked()
    assert found.noise is None
    assert ranks[ONE].mean > ranks[TWO].mean


def test_values_that_are_not_believed_move_no_other_and_are_moved_themselves():
    values = [
        (MACHINE, ONE, 1.00),
        (MACHINE, ONE, 1.02),
        (MACHINE, TWO, 1.03),
        (MACHINE, TWO, 1.01),
    ]
    found = scores(*values, (MACHINE, FAKE, 0.2))
    believed, doubted = found.ranked(), found.ranked({FAKE})
    alone = scores(*values).ranked()
    assert doubted[ONE].mean == pytest.approx(alone[ONE].mean)
    assert believed[ONE].mean != pytest.approx(alone[ONE].mean, abs=1e-6)
    assert doubted[FAKE].mean < believed[FAKE].mean


def test_what_was_counted_in_parts_ranks_as_if_it_was_counted_at_once():
    parts, whole = scores(), scores()
    for successes, trials in ((1, 4), (300, 1000)):
        parts.add(MACHINE, ONE, successes / trials, Count(successes, trials))
    whole.add(MACHINE, ONE, 301 / 1004, Count(301, 1004))
    for one in (parts, whole):
        one.add(MACHINE, TWO, 0.5, Count(500, 1000))
    (part, _), (at_once, _) = (one.ranked().values() for one in (parts, whole))
    assert part.mean == pytest.approx(at_once.mean, abs=0.001)
    assert part.standard_error == pytest.approx(at_once.standard_error, rel=0.2)


def test_where_some_values_were_not_counted_each_weighs_the_same():
    found = scores((MACHINE, ONE, 0.2))
    found.add(MACHINE, ONE, 0.4, Count(400, 1000))
    assert found.ranked()[ONE].mean == pytest.approx(-0.3)
