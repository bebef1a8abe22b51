from dataclasses import replace

from fakes import failed, folded, individual, request, scored

from population.individual import Measurement, Pace, Purpose
from population.limits import SearchConfig
from population.ports import INJECT, Ended, Founded, Proposal, Proposed, Started
from population.requests import first_purpose, pace_of_parents, selection_request

QUICK, SLOW, CHILD = individual(1, "a"), individual(2, "b"), individual(3, "c", "nudge")


def measured(number, of, steps, tokens, **changes):
    result = scored(number, 2.0)
    measurements = (Measurement("steps", steps, "1"), Measurement("tokens", tokens, "1"))
    result = replace(result, measurements=measurements, **changes)
    return Started(request(number, of, seed=number)), Ended(result)


def bred(*parents, operator="nudge"):
    child = replace(CHILD, parents=parents, operator=operator)
    return Proposed(1, Proposal(operator, parents, child.genome), child)


FOUNDED = (Founded(QUICK), Founded(SLOW))
KEY = scored(1, 2.0).comparability.key
BOTH = (*FOUNDED, *measured(1, QUICK, 900.0, 5e6), *measured(2, SLOW, 400.0, 8e6))


def test_a_child_is_held_against_the_slowest_of_its_parents():
    assert pace_of_parents(folded([*BOTH, bred(1)]), 3) == Pace(900.0, 5e6, KEY)
    assert pace_of_parents(folded([*BOTH, bred(1, 2)]), 3) == Pace(400.0, 5e6, KEY)


def test_a_pace_is_that_of_the_latest_scored_training():
    records = [*BOTH, *measured(3, QUICK, 500.0, 4e6), bred(1)]
    records += [Started(request(4, QUICK, seed=4)), Ended(failed(4))]
    assert pace_of_parents(folded(records), 3) == Pace(500.0, 4e6, KEY)


def test_who_has_no_scored_parent_on_one_kind_of_device_has_no_pace():
    assert pace_of_parents(folded(BOTH), 1) is None
    assert pace_of_parents(folded([*FOUNDED, bred(1)]), 3) is None
    other = replace(scored(1, 2.0).comparability, device="other")
    records = [*FOUNDED, *measured(1, QUICK, 9.0, 9.0)]
    records += [*measured(2, SLOW, 9.0, 9.0, comparability=other), bred(1, 2)]
    assert pace_of_parents(folded(records), 3) is None


def test_what_was_put_in_from_outside_owes_its_parent_nothing():
    assert pace_of_parents(folded([*BOTH, bred(1, operator=INJECT)]), 3) is None


def test_only_the_first_training_of_a_child_is_held_against_its_parents():
    state, config = folded([*BOTH, bred(1)]), SearchConfig()
    paces = {
        purpose: selection_request(config, state, 3, "selection", purpose).pace
        for purpose in (Purpose.SCREEN, Purpose.RACE)
    }
    assert paces == {Purpose.SCREEN: Pace(900.0, 5e6, KEY), Purpose.RACE: None}


def test_a_short_training_is_held_against_nobody_since_it_has_another_budget():
    asked = selection_request(
        SearchConfig(rung=0.2), folded([*BOTH, bred(1)]), 3, "s", Purpose.RUNG
    )
    assert asked.pace is None


def test_only_what_was_bred_begins_with_a_short_training():
    ladder, plain = SearchConfig(rung=0.2), SearchConfig()
    child, put_in = folded([*BOTH, bred(1)]), folded([*BOTH, bred(1, operator=INJECT)])
    assert first_purpose(ladder, child, 3) is Purpose.RUNG
    assert first_purpose(plain, child, 3) is Purpose.SCREEN
    assert first_purpose(ladder, child, 1) is Purpose.SCREEN
    assert first_purpose(ladder, put_in, 3) is Purpose.SCREEN


def test_an_evaluation_that_is_asked_for_again_keeps_its_pace():
    asked = replace(request(9, CHILD), pace=Pace(1.0, 2.0, KEY))
    busy = Ended(replace(scored(9, 1.0), contended=True))
    owed = folded([*BOTH, bred(1), Started(asked), busy]).owed()
    assert owed is not None and owed.pace == asked.pace
