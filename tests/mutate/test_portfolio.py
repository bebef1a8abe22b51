from dataclasses import replace

import numpy as np
import pytest

from mutate.constants import ConstantsMutation
from mutate.portfolio import CROSSOVER_SHARE, Portfolio, crossover_share
from mutate.recombination import Recombination
from population.ports import History
from tests.mutate.programs import BASE, CHECKS, DONOR, history, standing

TUNED = BASE.replace("0.02", "0.03")
REMARKED = BASE + "# the same program\n"


def known(*sources: str, survivors: tuple[int, ...] = ()) -> History:
    standings = [standing(number, source, 1.0) for number, source in enumerate(sources, 1)]
    return history(standings, survivors)


@pytest.mark.parametrize(
    "alone",
    [known(BASE), known(BASE, DONOR, survivors=(2,)), known(BASE, REMARKED, survivors=(1, 2))],
)
def test_nothing_is_recombined_while_there_is_nothing_to_exchange(alone: History) -> None:
    assert crossover_share(alone) == 0


def test_recombination_is_dosed_by_the_diversity_of_survivors() -> None:
    several = crossover_share(known(BASE, TUNED, DONOR, survivors=(1, 3)))
    one = crossover_share(known(BASE, TUNED, DONOR, survivors=(1, 2)))
    assert 0 < one < several <= CROSSOVER_SHARE <= 0.5


@pytest.mark.parametrize(
    ("operator", "least", "most"), [("constants", 0.8, 1), ("recombination", 0, 0.3)]
)
def test_an_operator_that_is_behind_its_share_is_drawn_more_often(operator, least, most) -> None:
    portfolio = Portfolio(ConstantsMutation(CHECKS), Recombination(CHECKS))
    bred = [standing(number, BASE, 1.0) for number in range(3, 9)]
    children = [
        replace(s, individual=replace(s.individual, parents=(1,), operator=operator)) for s in bred
    ]
    founders = [standing(1, BASE, 1.0), standing(2, DONOR, 1.0)]
    state = history([*founders, *children], (1, 2))
    names = [portfolio.choose(state, np.random.default_rng(seed)).name for seed in range(500)]
    assert least <= names.count("recombination") / 500 <= most


def test_before_the_first_selection_the_scored_breed() -> None:
    assert crossover_share(known(BASE, DONOR)) == CROSSOVER_SHARE
    assert crossover_share(history([standing(1, BASE, 1.0), standing(2, DONOR, None, 1)])) == 0


def test_operators_are_chosen_in_their_doses_from_the_random_stream_alone() -> None:
    portfolio = Portfolio(ConstantsMutation(CHECKS), Recombination(CHECKS))
    survivors = known(BASE, DONOR, survivors=(1, 2))
    names = [portfolio.choose(survivors, np.random.default_rng(seed)).name for seed in range(1_000)]
    assert abs(names.count("recombination") / 1_000 - CROSSOVER_SHARE) < 0.05
    assert [
        portfolio.choose(survivors, np.random.default_rng(seed)).name for seed in range(1_000)
    ] == names
