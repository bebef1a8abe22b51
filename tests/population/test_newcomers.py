from dataclasses import replace

import pytest
from fakes import standing

from population.history import History
from population.newcomers import STALLED, TRIALS, has_stalled, owed_trials


def born(number, fitness, structure="a", parent=1, constants=("LR",)):
    one = standing(number, fitness, structure)
    parents = (parent,) if parent else ()
    who = replace(one.individual, parents=parents, constants=dict.fromkeys(constants, 0.1))
    return replace(one, individual=who)


FOUNDER = born(1, 9.99, parent=None)
LOST = [born(n, 9.99 - n, f"lost {n}", constants=()) for n in range(2, 8)]
BEST = born(50, 10.0)
VAIN = [born(n, 9.0) for n in range(100, 99 + STALLED)]
NEAR = born(98, 8.2, "new")


def owed(*more, others=(FOUNDER, *LOST, BEST, *VAIN)):
    standings = {one.individual.id: one for one in (*others, *more)}
    return owed_trials(History(dict(sorted(standings.items())), (), {}, 0.01))


def test_a_newcomer_within_reach_gets_trials_of_its_constants_from_the_best_that_it_has():
    assert owed(NEAR) == 98
    assert owed(NEAR, born(99, 8.3, "new", parent=98)) == 99
    assert owed(NEAR, born(99, 5.2, "new", parent=98)) == 98


def test_who_has_lost_more_than_the_best_fifth_is_out_of_reach():
    assert owed(replace(NEAR, fitness=7.9)) == 98
    assert owed(replace(NEAR, fitness=7.0)) is None


def test_while_the_search_climbs_nobody_is_owed_anything():
    assert owed(NEAR, others=(FOUNDER, *LOST, BEST, *VAIN[:-1])) is None
    assert owed(NEAR, born(200, 11.0)) is None


@pytest.mark.parametrize(("count", "who"), [(TRIALS - 1, 98), (TRIALS, None)])
def test_after_its_trials_a_newcomer_is_judged_by_what_it_has(count, who):
    running = [born(n, None, "new", parent=98) for n in range(120, 120 + count)]
    assert owed(NEAR, *running) == who


@pytest.mark.parametrize(("later", "stalled"), [(STALLED - 1, False), (STALLED, True)])
def test_a_search_has_stalled_when_so_many_after_the_best_have_come_to_nothing(later, stalled):
    vain = [born(n, 9.0) for n in range(100, 100 + later)]
    running = born(900, None)
    standings = {one.individual.id: one for one in (FOUNDER, BEST, *vain, running)}
    assert has_stalled(History(standings, (), {}, 0.01)) is stalled


def test_the_latest_newcomer_comes_first():
    assert owed(NEAR, born(99, 8.1, "newer")) == 99


def test_founders_and_programs_without_constants_are_no_newcomers():
    assert owed(replace(NEAR, individual=replace(NEAR.individual, parents=()))) is None
    assert owed(replace(NEAR, individual=replace(NEAR.individual, constants={}))) is None


def test_whom_the_quarantine_holds_gets_no_trials():
    assert owed(replace(NEAR, held=True)) is None


def test_without_losses_to_learn_from_there_is_no_reach():
    assert owed(NEAR, others=(FOUNDER, *LOST[:1], BEST, *VAIN)) is None
    assert owed_trials(History({}, (), {}, 0.0)) is None
