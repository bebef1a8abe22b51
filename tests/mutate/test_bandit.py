"""Credit: what operators' and models' children were worth, and how far it moves their shares."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutate.bandit import (
    MOST_CREDIT,
    PRIOR_LOSSES,
    PRIOR_WINS,
    credited,
    credits,
    model_of,
    operator_of,
)
from population.history import History, Standing, Tally
from population.individual import KILLED, Stage
from tests.mutate.families import FOUNDERS, broken, child, with_


def by_operator(state: History) -> dict[str, float]:
    return credits(state, operator_of, state.tallies)


def test_an_operator_is_worth_the_share_of_its_proposals_that_won() -> None:
    usual = PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES)
    worth = by_operator(
        with_(child(3, "slow", 2.0), child(4, "quick", 0.0), child(5, "other", None, 1))
    )
    assert worth["slow"] == pytest.approx((PRIOR_WINS + 1) / (PRIOR_WINS + PRIOR_LOSSES + 1))
    assert worth["quick"] == pytest.approx(worth["other"])
    assert worth["quick"] < usual < worth["slow"]


@pytest.mark.parametrize(
    "undecided",
    [
        child(3, "slow", None),
        broken(3, stage=Stage.INFRASTRUCTURE),
        broken(3, reason=KILLED),
        replace(child(3, "slow", 5.0), in_flight=1),
    ],
)
def test_what_is_not_decided_is_no_credit(undecided: Standing) -> None:
    assert "slow" not in by_operator(with_(undecided))


def test_a_gain_within_the_noise_or_held_back_is_no_win() -> None:
    worth = by_operator(with_(child(3, "slow", 1.005), replace(child(4, "quick", 9.0), held=True)))
    usual = PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES)
    assert worth["slow"] < (PRIOR_WINS + 0.5) / (PRIOR_WINS + PRIOR_LOSSES + 1)
    assert worth["quick"] < usual


def test_a_program_that_was_stopped_after_a_short_training_has_lost() -> None:
    worth = by_operator(with_(replace(child(3, "slow", None), in_flight=0, stopped=True)))
    assert worth["slow"] == pytest.approx(PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES + 1))


def test_a_refused_proposal_costs_a_part_of_a_loss() -> None:
    state = replace(FOUNDERS, tallies={"slow": Tally(8, 8), "quick": Tally(8, 0)})
    worth = by_operator(state)
    assert worth["slow"] == pytest.approx(PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES + 2))
    assert worth.get("quick", 0.25) == 0.25


shares = st.lists(st.floats(0.001, 1), min_size=1, max_size=8)


@given(shares, st.lists(st.floats(0.001, 1), min_size=8, max_size=8))
def test_credit_moves_no_share_by_more_than_its_bound(
    given_: list[float], worths: list[float]
) -> None:
    priors = [share / sum(given_) for share in given_]
    moved = credited(priors, worths[: len(priors)])
    assert sum(moved) == pytest.approx(1)
    for prior, share in zip(priors, moved, strict=True):
        assert prior / MOST_CREDIT <= share * (1 + 1e-9)
        assert share <= prior * MOST_CREDIT * (1 + 1e-9)


@given(shares, st.floats(0.01, 1))
def test_equal_worth_moves_no_share(given_: list[float], worth: float) -> None:
    priors = [share / sum(given_) for share in given_]
    assert credited(priors, [worth] * len(priors)) == pytest.approx(priors)


def test_a_model_is_worth_what_its_children_and_its_refused_proposals_were() -> None:
    good = [replace(child(n, "explore", 2.0), model="wise") for n in (3, 4)]
    bad = [replace(child(n, "explore", 0.0), model="quick") for n in (5, 6)]
    state = replace(with_(*good, *bad, child(7, "constants", 9.0)), models={"mute": Tally(8, 8)})
    worth = credits(state, model_of, state.models)
    assert worth.keys() == {"wise", "quick", "mute"}
    assert worth["quick"] < PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES) < worth["wise"]
    assert worth["mute"] == pytest.approx(PRIOR_WINS / (PRIOR_WINS + PRIOR_LOSSES + 2))


def test_children_of_a_program_that_is_not_believed_are_no_credit() -> None:
    fake = replace(child(3, "other", 9.0), held=True)
    born = child(4, "slow", 1.0)
    mine = replace(born, individual=replace(born.individual, parents=(fake.individual.id,)))
    assert "slow" not in by_operator(with_(fake, mine))
