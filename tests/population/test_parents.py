from dataclasses import replace

import numpy as np
import pytest
from fakes import standing
from hypothesis import given
from hypothesis import strategies as st

from population.history import Earlier, History, Tally
from population.parents import FRESH, Mode, choose_parents, seen_by


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


def test_while_the_best_is_new_it_breeds_nine_times_of_ten_and_mates_with_the_others():
    standings, survivors = population(*((i, float(i)) for i in range(1, 9)))
    chosen = [
        choose_parents(standings, survivors, 2, np.random.default_rng(seed)) for seed in range(200)
    ]
    first = [one for one, _ in chosen]
    assert 170 < first.count(8) < 200
    assert len({second for _, second in chosen}) > 3


@pytest.mark.parametrize(("later", "alone"), [(FRESH - 1, True), (FRESH, False)])
def test_the_best_is_new_until_so_many_later_ones_have_come_to_nothing(later, alone):
    standings, survivors = population((1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0))
    standings |= population(*((i, 0.0) for i in range(5, 5 + later - 3)))[0]
    unscored = population((900, None))[0]  # in flight: nothing is known of it yet
    rng = np.random.default_rng(0)
    first = [choose_parents(standings | unscored, survivors, 1, rng)[0] for _ in range(300)]
    assert (first.count(1) > 270) is alone


def test_the_fitter_breed_more_often_and_the_worst_of_many_never_wins_a_tournament():
    standings, survivors = population(*((i, float(i)) for i in range(1, 9)))
    standings |= population(*((i, 0.0) for i in range(100, 100 + FRESH)))[0]  # nobody is new
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


def history(*rows, survivors=(), held=()):
    standings, _ = population(*rows)
    for one in held:
        standings[one] = replace(standings[one], held=True)
    return History(standings, survivors, {}, 0.01)


def test_a_population_breeds_from_its_survivors_and_from_the_best_as_soon_as_it_is_known():
    known = history((1, 1.0), (2, 3.0), (3, 2.0), survivors=(3, 1))
    assert seen_by(Mode.EVOLVE, known, [1]).survivors == (2, 3, 1)
    assert seen_by(Mode.EVOLVE, known, [1], strict=True).survivors == (3, 1)
    known = history((1, 1.0), (2, 3.0), (3, 2.0), survivors=(3, 1), held=(2,))
    assert seen_by(Mode.EVOLVE, known, [1]).survivors == (3, 1)
    assert seen_by(Mode.EVOLVE, history((1, 1.0)), [1]).survivors == ()


def test_a_chain_breeds_from_the_best_whether_it_survived_or_not():
    known = history((1, 1.0), (2, 3.0), (3, 2.0), (4, None), survivors=(1,))
    assert seen_by(Mode.GREEDY, known, [1]).survivors == (2,)


def test_independent_samples_breed_from_the_best_founder():
    known = history((1, 1.0), (2, 1.5), (3, 9.0), survivors=(3,))
    assert seen_by(Mode.BEST_OF, known, [1, 2]).survivors == (2,)


def test_a_founder_s_control_breeds_from_the_best_founder_and_knows_all():
    known = replace(history((1, 1.0), (2, 1.5), (3, 9.0), survivors=(3,)), notes="wider")
    seen = seen_by(Mode.FOUNDER, known, [1, 2])
    assert seen.survivors == (2,)
    assert set(seen.standings) == {1, 2, 3}


@pytest.mark.parametrize("mode", [Mode.GREEDY, Mode.BEST_OF, Mode.FOUNDER])
def test_whom_the_quarantine_holds_is_no_control_s_breeder(mode):
    known = history((1, 1.0), (2, 9.0), held=(2,))
    assert seen_by(mode, known, [1, 2]).survivors == (1,)
    assert seen_by(mode, history((1, 9.0), held=(1,)), [1]).survivors == ()


@pytest.mark.parametrize("mode", list(Mode))
def test_nobody_breeds_before_anything_is_scored(mode):
    assert seen_by(mode, history((1, None), (2, None)), [1, 2]).survivors == ()


def test_of_equals_the_elder_breeds():
    assert seen_by(Mode.GREEDY, history((1, 2.0), (2, 2.0)), [1]).survivors == (1,)


def test_independent_samples_know_nothing_of_what_came_of_others():
    known = replace(
        history((1, 1.0), (2, 2.0), (3, 3.0)),
        notes="wider",
        tallies={"x": Tally(1)},
        earlier=(Earlier("night", "", ()),),
    )
    seen = seen_by(Mode.BEST_OF, known, [1, 2])
    assert set(seen.standings) == {1, 2}
    assert (seen.notes, seen.tallies, seen.earlier) == ("", {}, ())
    assert set(seen_by(Mode.GREEDY, known, [1, 2]).standings) == {1, 2, 3}


def test_those_that_were_in_training_when_the_best_came_do_not_make_it_old():
    standings, survivors = population((1, 9.0), (2, 8.0), (3, 7.0), (4, 6.0))
    standings |= population(*((i, 0.0) for i in range(5, 5 + 2 * FRESH)))[0]
    rng = np.random.default_rng(0)

    def first():
        return [choose_parents(standings, survivors, 1, rng)[0] for _ in range(300)].count(1)

    assert first() < 270
    standings[1] = replace(standings[1], known_to=5 + FRESH + 1)
    assert first() > 250
