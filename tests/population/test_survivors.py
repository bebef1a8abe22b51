from collections import Counter
from dataclasses import replace

from fakes import standing
from hypothesis import given
from hypothesis import strategies as st

from population.parents import fitness_order
from population.survivors import LEADS_FOR, choose_contender, choose_survivors

ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(-10, 10)), st.sampled_from("abc")),
    min_size=1,
    max_size=30,
)


def population(*rows):
    standings = (standing(i, *row) for i, row in enumerate(rows, start=1))
    return {s.individual.id: s for s in standings}


@given(ROWS, st.integers(1, 10))
def test_the_best_scored_individual_always_survives_and_comes_first(rows, mu):
    standings = population(*rows)
    survivors = choose_survivors(standings, mu)
    fitness = [s.fitness for s in standings.values() if s.fitness is not None]
    kept = [standings[one].fitness for one in survivors]
    assert len(survivors) <= mu
    assert kept == sorted(kept, reverse=True)
    assert kept[:1] == sorted(fitness, reverse=True)[:1]


@given(ROWS, st.integers(1, 10), st.sets(st.integers(1, 30)))
def test_the_fittest_of_the_pinned_stay_first_and_the_others_as_they_would(rows, mu, pinned):
    standings = population(*rows)
    marked = {one: replace(s, pinned=one in pinned) for one, s in standings.items()}
    scored = sorted(
        (s for s in standings.values() if s.fitness is not None), key=fitness_order, reverse=True
    )
    owed = [s.individual.id for s in scored if s.individual.id in pinned][:mu]
    survivors = choose_survivors(marked, mu)
    assert set(owed) <= set(survivors)
    assert len(survivors) <= mu
    assert [s.individual.id for s in scored if s.individual.id in survivors] == list(survivors)
    if pinned <= set(choose_survivors(standings, mu)):
        assert survivors == choose_survivors(standings, mu)


def test_whom_the_quarantine_holds_no_pin_lets_in():
    standings = population((1.0, "a"), (9.0, "a"))
    standings[2] = replace(standings[2], held=True, pinned=True)
    assert choose_survivors(standings, 2) == (1,)


@given(ROWS, st.integers(1, 10))
def test_one_structure_holds_at_most_half_of_the_places_beside_others(rows, mu):
    standings = population(*rows)
    structures = {s.individual.structure for s in standings.values() if s.fitness is not None}
    held = Counter(standings[one].individual.structure for one in choose_survivors(standings, mu))
    if len(structures) > 1:
        assert max(held.values()) <= (mu + 1) // 2


def test_a_lone_structure_may_fill_every_place():
    assert len(choose_survivors(population(*[(float(i), "a") for i in range(9)]), 8)) == 8


def test_the_unscored_never_survive():
    assert choose_survivors(population((None, "a"), (1.0, "b")), 8) == (2,)


LATER = [(0.2, "a", 0.1)] * LEADS_FOR


def test_the_least_evaluated_within_noise_of_the_best_is_raced():
    standings = population((1.0, "a", 0.1), (0.95, "a", 0.1), *LATER)
    known = {**standings, 1: _seen(standings[1], 4), 2: _seen(standings[2], 3)}
    assert choose_contender(known, (1, 2, 3)) == 2
    assert choose_contender({**known, 2: _seen(standings[2], 5)}, (1, 2, 3)) == 1


def test_whoever_leads_is_evaluated_three_times_whether_or_not_it_has_rivals():
    alone = population((1.0, "a", 0.1), *LATER)
    assert choose_contender(alone, (1, 2)) == 1
    assert choose_contender({**alone, 1: _seen(alone[1], 2)}, (1, 2)) == 1
    assert choose_contender({**alone, 1: _seen(alone[1], 3)}, (1, 2)) is None
    assert choose_contender({}, ()) is None


def test_a_leader_is_evaluated_again_when_so_many_later_ones_came_to_nothing():
    assert choose_contender(population((1.0, "a", 0.1), *LATER[1:]), (1,)) is None
    assert choose_contender(population((1.0, "a", 0.1), *LATER), (1,)) == 1


def test_a_leader_whose_score_repeats_exactly_is_not_evaluated_again():
    exact = [(value, structure, 1e-9) for value, structure, _ in LATER]
    assert choose_contender(population((1.0, "a", 1e-9), *exact), (1, 2)) is None


def test_programs_whose_equal_scores_repeat_exactly_are_not_evaluated_again():
    exact = [(value, structure, 1e-9) for value, structure, _ in LATER]
    tied = population((1.0, "a", 1e-9), (1.0, "b", 1e-9), *exact)
    known = {one: replace(standing, evaluations=3) for one, standing in tied.items()}
    assert choose_contender(known, (1, 2)) is None
    assert choose_contender(tied, (1, 2)) is None


def _seen(one, evaluations):
    return type(one)(
        one.individual, one.fitness, one.standard_error, evaluations, one.failures, one.in_flight
    )


def test_who_is_held_is_no_contender():
    standings = {n: standing(n, fitness) for n, fitness in ((1, 9.0), (2, 1.0), (3, 0.95))}
    standings |= {n: standing(n, 0.0) for n in range(4, 4 + LEADS_FOR)}
    assert choose_contender(standings, (1, 2, 3)) == 1
    standings[1] = replace(standings[1], held=True)
    assert choose_contender(standings, (1, 2, 3)) == 2


def test_a_contender_that_our_side_loses_again_and_again_is_not_always_next():
    standings = {n: standing(n, fitness) for n, fitness in ((1, 1.0), (2, 0.99))}
    standings |= {n: standing(n, -9.0) for n in range(3, 3 + LEADS_FOR)}
    standings[1] = replace(standings[1], evaluations=3)
    assert choose_contender(standings, (1, 2)) == 2
    standings[2] = replace(standings[2], lost=4)
    assert choose_contender(standings, (1, 2)) == 1
