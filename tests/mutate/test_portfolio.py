from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from mutate.constants import ConstantsMutation
from mutate.portfolio import (
    CROSSOVER_SHARE,
    REPAIR_SHARE,
    TRIALS_SHARE,
    Arm,
    Portfolio,
    Tuner,
    _caught_up,
    crossover_share,
)
from mutate.recombination import Recombination
from population.history import History, Report, Standing, Tally
from population.individual import KILLED, Failed, Individual, IndividualId, Stage
from population.newcomers import STALLED, owed_trials
from population.ports import Choice, Proposal
from tests.mutate.families import FOUNDERS, broken, child, known, with_
from tests.mutate.programs import BASE, CHECKS, DONOR, history, standing

TUNED = BASE.replace("0.02", "0.03")
REMARKED = BASE + "# the same program\n"


def keyless() -> Portfolio:
    """The operators that need no key, in the shares that a run gives them."""
    constants = Arm(ConstantsMutation(CHECKS), lambda history: 1 - crossover_share(history))
    return Portfolio([constants, Arm(Recombination(CHECKS), crossover_share)])


@pytest.mark.parametrize(
    "alone",
    [known(BASE), known(BASE, DONOR, survivors=(2,)), known(BASE, REMARKED, survivors=(1, 2))],
)
def test_nothing_is_recombined_while_there_is_nothing_to_exchange(alone: History) -> None:
    assert crossover_share(alone) == 0


def test_recombination_is_dosed_by_the_diversity_of_survivors() -> None:
    several = crossover_share(known(BASE, TUNED, DONOR, survivors=(1, 3)))
    one = crossover_share(known(BASE, TUNED, DONOR, survivors=(1, 2)))
    assert 0 == one < several <= CROSSOVER_SHARE <= 0.5


@pytest.mark.parametrize(
    ("operator", "least", "most"), [("constants", 0.7, 1), ("recombination", 0, 0.3)]
)
def test_an_operator_that_is_behind_its_share_is_drawn_more_often(operator, least, most) -> None:
    state = known(BASE, DONOR, survivors=(1, 2))
    state = replace(state, tallies={operator: Tally(6)})
    names = [one.variation.name for one in drawn(keyless(), state)]
    assert least <= names.count("recombination") / len(names) <= most


def test_an_operator_that_has_nothing_to_offer_is_not_behind_its_share() -> None:
    state = known(BASE, DONOR, survivors=(1, 2))
    tallies = {"constants": Tally(6, 0), "recombination": Tally(20, 20)}
    chosen = drawn(keyless(), replace(state, tallies=tallies))
    names = [one.variation.name for one in chosen]
    assert names.count("recombination") / len(names) < 0.2


def test_before_the_first_selection_the_scored_breed() -> None:
    assert crossover_share(known(BASE, DONOR)) == CROSSOVER_SHARE
    assert crossover_share(history([standing(1, BASE, 1.0), standing(2, DONOR, None, 1)])) == 0


def test_operators_are_chosen_in_their_doses_from_the_random_stream_alone() -> None:
    portfolio = keyless()
    survivors = known(BASE, DONOR, survivors=(1, 2))
    names = [
        portfolio.choose(survivors, np.random.default_rng(seed)).variation.name
        for seed in range(1_000)
    ]
    assert abs(names.count("recombination") / 1_000 - CROSSOVER_SHARE) < 0.05
    assert [
        portfolio.choose(survivors, np.random.default_rng(seed)).variation.name
        for seed in range(1_000)
    ] == names


# Arms


@dataclass
class Named:
    """An operator that is chosen and never asked."""

    name: str
    slow: bool = False
    arity: int = 1

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        raise AssertionError("nobody asks it")


QUICK, SLOW, OTHER = Named("quick"), Named("slow", slow=True), Named("other", slow=True)


def chosen(portfolio: Portfolio, state: History = FOUNDERS, quick: bool = False) -> Counter[str]:
    choices = drawn(portfolio, state, quick)
    return Counter(choice.variation.name for choice in choices)


def drawn(portfolio: Portfolio, state: History = FOUNDERS, quick: bool = False) -> list[Choice]:
    rngs = (np.random.default_rng(seed) for seed in range(200))
    return [portfolio.choose(state, rng, quick) for rng in rngs]


def arm(variation: Named, share: float = 0.5, ready: bool = True) -> Arm:
    return Arm(variation, lambda _: share, lambda: ready)


def test_an_operator_that_cannot_work_at_present_is_left_out() -> None:
    ready = [True]
    portfolio = Portfolio([arm(QUICK), Arm(SLOW, lambda _: 0.5, lambda: ready[0])])
    assert set(chosen(portfolio)) == {"quick", "slow"}
    ready[0] = False
    assert set(chosen(portfolio)) == {"quick"}


def test_while_a_slot_waits_only_quick_operators_are_asked() -> None:
    assert set(chosen(Portfolio([arm(SLOW, 0.9), arm(QUICK, 0.1)]), quick=True)) == {"quick"}


def test_a_slow_operator_serves_a_slot_where_no_quick_one_can() -> None:
    assert set(chosen(Portfolio([arm(SLOW), arm(QUICK, ready=False)]), quick=True)) == {"slow"}


def test_an_operator_without_a_share_is_never_chosen_while_another_has_one() -> None:
    assert set(chosen(Portfolio([arm(SLOW, 0.0), arm(QUICK, 0.2)]))) == {"quick"}
    nothing = Portfolio([arm(SLOW, 0.0), arm(QUICK, 0.0)])
    assert set(chosen(nothing)) == {"quick", "slow"}


@pytest.mark.parametrize("alone", [(1,), (2,)])
def test_where_one_program_breeds_alone_nothing_is_crossed(alone: tuple[int, ...]) -> None:
    chain = known(BASE, DONOR, TUNED, survivors=alone)
    assert set(chosen(keyless(), chain)) == {"constants"}


def test_what_the_quarantine_holds_is_not_crossed() -> None:
    held = replace(standing(2, DONOR, 9.0), held=True)
    assert crossover_share(history([standing(1, BASE, 1.0), held])) == 0


# Repair


def mending(ready: bool = True) -> Portfolio:
    mends = frozenset({"slow", "repair"})
    return Portfolio([arm(QUICK), arm(SLOW)], arm(Named("repair", slow=True), 1.0, ready), mends)


def repaired(portfolio: Portfolio, state: History, quick: bool = False) -> set[IndividualId]:
    repairs = [c for c in drawn(portfolio, state, quick) if c.variation.name == "repair"]
    assert all(len(choice.parents) == 1 for choice in repairs)
    return {choice.parents[0] for choice in repairs}


def test_the_latest_broken_program_is_mended_in_half_of_the_proposals() -> None:
    state = with_(broken(3), broken(4))
    assert repaired(mending(), state) == {4}
    share = chosen(mending(), state)["repair"] / 200
    assert abs(share - REPAIR_SHARE) < 0.1
    others = [c for c in drawn(mending(), state) if c.variation.name != "repair"]
    assert all(choice.parents == () for choice in others)


def test_each_broken_program_is_mended_once() -> None:
    state = with_(broken(3), broken(4))
    assert repaired(mending(), replace(state, tried=frozenset({4}))) == {3}
    assert repaired(mending(), replace(state, tried=frozenset({3, 4}))) == set()


@pytest.mark.parametrize(
    "sound",
    [
        broken(3, operator="quick"),
        broken(3, stage=Stage.INFRASTRUCTURE),
        broken(3, in_flight=1),
        replace(broken(3), report=Report(Failed(Stage.TRAINING, KILLED, "by hand"))),
        replace(broken(3), fitness=0.5),
        standing(3, BASE, None),
    ],
)
def test_what_a_model_has_not_broken_is_not_mended(sound: Standing) -> None:
    assert repaired(mending(), with_(sound)) == set()


def test_nothing_is_mended_while_a_slot_waits_or_nobody_can() -> None:
    state = with_(broken(3))
    assert repaired(mending(), state, quick=True) == set()
    assert repaired(mending(ready=False), state) == set()
    assert "repair" not in chosen(Portfolio([arm(QUICK)]), state)


# Newcomers


def stalled() -> History:
    """A search in which nothing has helped for long, least of all other structures."""
    others = [BASE.replace("return x\n", f"return x - {n}\n") for n in range(5)]
    born = [child(40 + n, "slow", 0.5, source=source) for n, source in enumerate(others)]
    vain = [standing(n, BASE, 0.9) for n in range(10, 10 + STALLED)]
    return with_(*vain, *born)


def test_newcomers_that_are_owed_trials_are_tuned_before_the_search_goes_on() -> None:
    portfolio = Portfolio([arm(QUICK), arm(SLOW)], tuner=Tuner(Named("tuner"), owed_trials))
    tuned = [c for c in drawn(portfolio, stalled()) if c.variation.name == "tuner"]
    assert {choice.parents for choice in tuned} == {(44,)}
    assert abs(len(tuned) / 200 - TRIALS_SHARE) < 0.1


def test_nobody_is_tuned_by_a_chain_or_while_nobody_is_owed_trials() -> None:
    tuner = Portfolio([arm(QUICK), arm(SLOW)], tuner=Tuner(Named("tuner"), owed_trials))
    assert "tuner" not in chosen(tuner)
    assert all(not c.parents for c in drawn(Portfolio([arm(QUICK), arm(SLOW)]), stalled()))


# Credit


def test_an_operator_whose_children_win_is_chosen_more_often() -> None:
    slow = [child(number, "slow", 2.0) for number in range(3, 13)]
    quick = [child(number, "quick", 0.0) for number in range(13, 23)]
    portfolio = Portfolio([arm(QUICK), arm(SLOW)])
    assert chosen(portfolio, with_(*slow, *quick))["slow"] > 150


def test_operators_of_one_name_are_behind_their_share_together() -> None:
    arms = [
        arm(Named("crossover", arity=2), 0.4),
        arm(Named("crossover", arity=3), 0.1),
        arm(QUICK),
    ]
    state = replace(FOUNDERS, tallies={"crossover": Tally(2), "quick": Tally(1)})
    behind = _caught_up(arms, [0.64, 0.16, 0.2], state)
    assert behind[0] / behind[1] == pytest.approx(4)
    assert behind[2] < 0.2
