import numpy as np
import pytest
from fakes import standing
from hypothesis import given
from hypothesis import strategies as st

from population.parents import choose_parents


def population(*rows):
    standings = {s.individual.id: s for s in (standing(*row) for row in rows)}
    return standings, tuple(standings)


@given(st.integers(3, 12), st.integers(1, 3), st.integers(0, 1000))
def test_parents_are_distinct_survivors(size, arity, seed):
    standings, survivors = population(*((i, float(i), "ab"[i % 2]) for i in range(1, size + 1)))
    parents = choose_parents(
        standings, survivors[:-1] or survivors, min(arity, size - 1), np.random.default_rng(seed)
    )
    assert len(set(parents)) == len(parents)
    assert set(parents) <= set(survivors[:-1])


def test_the_fitter_breed_more_often_and_the_worst_of_many_never_wins_a_tournament():
    standings, survivors = population(*((i, float(i)) for i in range(1, 9)))
    rng = np.random.default_rng(0)
    first = [choose_parents(standings, survivors, 1, rng)[0] for _ in range(500)]
    counts = [first.count(one) for one in survivors]
    assert counts[0] == counts[1] == 0
    assert counts == sorted(counts)
    assert all(counts[2:])


def test_the_second_parent_has_another_structure_where_there_is_one():
    standings, survivors = population((1, 9.0), (2, 8.0), (3, 7.0), (4, 0.1, "b"))
    for seed in range(50):
        chosen = choose_parents(standings, survivors, 2, np.random.default_rng(seed))
        assert {standings[one].individual.structure for one in chosen} == {"a", "b"}


def test_parents_of_one_structure_are_crossed_where_there_is_no_other():
    standings, survivors = population((1, 9.0), (2, 8.0))
    assert set(choose_parents(standings, survivors, 2, np.random.default_rng(0))) == {1, 2}


def test_the_choice_is_a_function_of_the_random_stream():
    standings, survivors = population(*((i, float(i)) for i in range(1, 9)))
    once, again = (
        choose_parents(standings, survivors, 2, np.random.default_rng([7, 3])) for _ in range(2)
    )
    assert once == again


def test_too_few_survivors_for_a_crossover_are_refused():
    standings, survivors = population((1, 9.0))
    with pytest.raises(ValueError, match="expected at least 2 survivors"):
        choose_parents(standings, survivors, 2, np.random.default_rng(0))
