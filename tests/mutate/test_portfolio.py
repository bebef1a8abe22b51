import numpy as np
import pytest

from mutate.checks import Checks
from mutate.constants import ConstantsMutation
from mutate.portfolio import (
    CROSSOVER_SHARE,
    CROSSOVER_SHARE_WITHIN_STRUCTURE,
    Portfolio,
    crossover_share,
)
from mutate.recombination import Recombination
from tests.mutate.world import World, flat

PORTFOLIO = Portfolio(ConstantsMutation(Checks()), Recombination(Checks()))
ONE, OTHER, TUNED = "LR = 0.1\nx = 1\n", "LR = 0.1\nx = 2\n", "LR = 0.2\nx = 1\n"


def world(*sources: str) -> World:
    found = World(flat)
    for source in sources:
        found.evaluated(source)
    return found


def chosen(history, times=400):
    rng = np.random.default_rng(0)
    return [PORTFOLIO.choose(history, rng).name for _ in range(times)]


@pytest.mark.parametrize(
    ("sources", "survivors", "share"),
    [
        ((), (), 0.0),
        ((ONE,), (), 0.0),
        ((ONE, OTHER), (1,), 0.0),
        ((ONE, OTHER), (1, 2), CROSSOVER_SHARE),
        ((ONE, OTHER), (), CROSSOVER_SHARE),
        ((ONE, TUNED), (1, 2), CROSSOVER_SHARE_WITHIN_STRUCTURE),
        ((ONE, TUNED, OTHER), (1, 2), CROSSOVER_SHARE_WITHIN_STRUCTURE),
    ],
)
def test_the_dose_of_crossover_grows_with_the_diversity_of_the_survivors(sources, survivors, share):
    assert crossover_share(world(*sources).history(survivors)) == share


def test_programs_without_a_score_are_not_combined():
    found = world(ONE)
    found.born(OTHER)
    assert crossover_share(found.history()) == 0.0


def test_two_parents_are_combined_only_where_two_survive():
    assert set(chosen(world(ONE, OTHER).history((2,)))) == {"constants"}
    assert set(chosen(world(ONE, OTHER).history((1, 2)))) == {"constants", "recombination"}


def test_the_operators_are_chosen_in_their_doses():
    share = chosen(world(ONE, OTHER).history((1, 2))).count("recombination") / 400
    assert abs(share - CROSSOVER_SHARE) < 0.08


def test_the_choice_is_a_function_of_the_random_stream():
    history = world(ONE, OTHER).history((1, 2))
    assert chosen(history) == chosen(history)


def test_the_operators_are_known_by_name():
    assert [one.name for one in PORTFOLIO.operators] == ["constants", "recombination"]
    assert [one.arity for one in PORTFOLIO.operators] == [1, 2]
