import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutate.checks import Checks
from mutate.constants import ENOUGH_RESULTS, ConstantsMutation, distribution, results
from mutate.genome import Value, constants, rewrite, values
from mutate.told import ENOUGH_OWN
from population.history import Earlier, History, Precedent, Report, Standing
from population.individual import IndividualId
from population.ports import Proposal
from tests.mutate.programs import BASE, CHECKS, DONOR, history, standing

OPERATOR = ConstantsMutation(CHECKS)


def propose(known: History, seed: int = 0, of: int = 1) -> Proposal:
    parent = known.standings[IndividualId(of)].individual
    return OPERATOR.propose([parent], known, np.random.default_rng(seed))


def grown(count: int, source: str = BASE, seed: int = 0) -> list[Standing]:
    """Return `count` scored individuals that differ in constants, with scores by their rate."""
    rng = np.random.default_rng(seed)
    rates = [0.02, *(float(f"{rate:.4g}") for rate in np.exp(rng.uniform(-6, -2, count - 1)))]
    return [
        standing(number, rewrite(source, {"LR": rate}), -abs(math.log(rate / 0.01)))
        for number, rate in enumerate(rates, 1)
    ]


def test_a_proposal_changes_constants_within_their_ranges_and_nothing_else() -> None:
    known = history(grown(1))
    for seed in range(50):
        proposal = propose(known, seed)
        assert proposal.genome is not None
        child = {c.name: c for c in constants(proposal.genome.source)}
        assert rewrite(proposal.genome.source, values(BASE)) == BASE
        assert all(c.value in c.range for c in child.values())
        changed = [name for name, value in values(BASE).items() if child[name].value != value]
        assert 1 <= len(changed) <= 3
        assert [c.hypothesis.split()[0] for c in proposal.changes] == changed


def test_each_changed_constant_is_one_change_with_its_line() -> None:
    known = history([standing(1, "X = 0.5  # 0..1\ndeliver(X)\n", 1.0)])
    (change,) = propose(known).changes
    new = change.hypothesis.removeprefix("X 0.5 -> ")
    assert change.category == "constant"
    assert change.diff == f"-X = 0.5  # 0..1\n+X = {new}  # 0..1"


@pytest.mark.parametrize("count", [1, ENOUGH_RESULTS - 1, ENOUGH_RESULTS, 40])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_a_proposal_is_new_and_a_function_of_its_arguments(count: int, seed: int) -> None:
    known = history(grown(count))
    proposal = propose(known, seed)
    assert proposal.genome is not None
    assert proposal.fingerprint not in known.fingerprints
    assert proposal.structure == known.standings[IndividualId(1)].individual.structure
    assert propose(known, seed) == proposal


def test_with_few_results_it_steps_and_with_enough_a_model_chooses_the_step() -> None:
    few, many = history(grown(ENOUGH_RESULTS - 1)), history(grown(ENOUGH_RESULTS))
    assert {propose(few, seed).attempts[-1].what for seed in range(20)} == {"step"}
    assert {propose(many, seed).attempts[-1].what for seed in range(20)} == {"model"}


def test_where_all_steps_nearby_are_known_it_goes_on_elsewhere() -> None:
    source = "N = {}  # 0..60\ndeliver(N)\n"
    near = [standing(1 + n, source.format(n), -float(n)) for n in range(40)]
    parent = near[3].individual
    operator = ConstantsMutation(CHECKS)
    for seed in range(5):
        proposal = operator.propose([parent], history(near), np.random.default_rng(seed))
        assert proposal.genome is not None
        assert constants(proposal.genome.source)[0].value in range(40, 61)


def test_a_space_that_is_used_up_is_refused() -> None:
    source = "B = {}\ndeliver(B)\n"
    known = history([standing(1, source.format(True), 1.0), standing(2, source.format(False), 0.9)])
    proposal = propose(known)
    assert proposal.genome is None
    assert "does the same as individual" in proposal.refusal


def test_a_program_without_tunable_constants_is_refused() -> None:
    assert "no tunable constants" in propose(history([standing(1, "deliver()\n", 1.0)])).refusal
    operator = ConstantsMutation(Checks("kernel.cu"))
    known = history([standing(1, "X = 1\n", 1.0)])
    parent = known.standings[IndividualId(1)].individual
    refused = operator.propose([parent], known, np.random.default_rng(0))
    assert "no tunable constants" in refused.refusal


def test_the_model_is_told_of_scores_failures_and_what_still_trains() -> None:
    def at(rate: float) -> str:
        return BASE.replace("0.02 ", f"{rate} ")

    known = history(
        [
            standing(1, BASE, -1.0),
            standing(2, at(0.03), -3.0),
            standing(3, at(0.04), None, failures=1),
            standing(4, at(0.05), None),
        ]
    )
    told = results(known.standings[IndividualId(1)].individual, known)
    assert [one.point["LR"] for one in told] == [0.02, 0.03, 0.04, 0.05]
    assert [one.value for one in told[:2]] == [-1.0, -3.0]
    assert told[2].value is not None
    assert told[2].value < -3.0
    assert told[3].value is None


def test_what_is_not_believed_and_what_our_side_lost_is_known_and_has_no_value() -> None:
    fake = replace(standing(2, BASE.replace("0.02 ", "0.03 "), 9.0), held=True)
    lost = replace(standing(3, BASE.replace("0.02 ", "0.04 "), None), report=Report())
    known = history([standing(1, BASE, -1.0), fake, lost])
    first, *others = results(known.standings[IndividualId(1)].individual, known)
    assert first.value == -1.0
    assert [(one.point["LR"], one.value, one.failed, one.void) for one in others] == [
        (0.03, None, False, True),
        (0.04, None, False, True),
    ]


def test_of_a_stopped_program_the_model_is_told_what_its_short_training_foretells() -> None:
    stopped = standing(2, BASE.replace("0.02 ", "0.03 "), None)
    known = history(
        [standing(1, BASE, -1.0), replace(stopped, stopped=True, expected=-1.5)],
    )
    told = results(known.standings[IndividualId(1)].individual, known)
    assert [(one.value, one.failed, one.void) for one in told] == [
        (-1.0, False, False),
        (-1.5, False, False),
    ]


def test_a_failure_alone_is_told_too() -> None:
    known = history([standing(1, BASE, None, failures=1)])
    (told,) = results(known.standings[IndividualId(1)].individual, known)
    assert told.value is not None


def test_another_structure_informs_when_it_shares_the_ranges() -> None:
    other = BASE.replace("return x\n", "return -x\n") + "EXTRA = 3\n"
    known = history([standing(1, BASE, -1.0), standing(2, other, -9.0), standing(3, DONOR, -0.5)])
    told = results(known.standings[IndividualId(1)].individual, known)
    assert len(told) == 2
    assert set(told[1].point) == set(values(BASE))


def test_structures_are_set_level_before_their_constants_are_compared() -> None:
    other = BASE.replace("return x\n", "return -x\n")
    own = grown(3)
    level = [
        standing(9 + n, rewrite(other, one.individual.constants), (one.fitness or 0) - 50)
        for n, one in enumerate(own)
    ]
    told = results(own[0].individual, history([*own, *level]))
    assert [one.value for one in told[3:]] == pytest.approx([one.value for one in told[:3]])


def test_structures_that_a_step_leads_between_are_set_level_by_what_it_lost() -> None:
    other = BASE.replace("return x\n", "return -x\n")
    own = grown(9)
    step = standing(20, rewrite(other, own[5].individual.constants), (own[5].fitness or 0) - 7)
    step = replace(step, individual=replace(step.individual, parents=(own[5].individual.id,)))
    (*_, told) = results(own[0].individual, history([*own, step]))
    assert told.value == pytest.approx(own[5].fitness)
    assert told.structure == step.individual.structure != own[0].individual.structure


def earlier(standings: list[Standing], better_by: float = 0.0) -> Earlier:
    """Return what a run left that scored these programs, on a scale of its own."""
    left = tuple(
        Precedent(
            one.individual.id,
            one.individual.genome,
            one.individual.structure,
            one.individual.fingerprint,
            None if one.fitness is None else one.fitness + better_by,
        )
        for one in standings
    )
    return Earlier("night", "", left)


def told_of(known: History, *runs: Earlier) -> list[float | None]:
    parent = known.standings[IndividualId(1)].individual
    return [one.value for one in results(parent, replace(known, earlier=runs))]


def test_points_of_an_earlier_run_are_told_on_the_scale_of_programs_that_both_have_scored() -> None:
    old = grown(20)
    told = told_of(history(old[:1]), earlier(old, better_by=100.0))
    assert told == pytest.approx([one.fitness for one in old])  # its own first, each once


def test_points_of_an_earlier_run_have_this_run_s_median_where_no_program_is_common() -> None:
    own, old = grown(3), grown(9, seed=1)[1:]
    told = told_of(history(own), earlier(old, better_by=-7.0))
    assert len(told) == 3 + 8
    middle = np.median([one.fitness for one in own if one.fitness is not None])
    assert np.median([value for value in told[3:] if value is not None]) == pytest.approx(middle)


def test_an_earlier_run_tells_nothing_of_other_constants_or_of_scores_that_are_withheld() -> None:
    donors = [standing(number, DONOR.replace("0.05 ", f"0.0{number} "), 1.0) for number in (3, 4)]
    withheld = [replace(one, fitness=None) for one in grown(9, seed=1)]
    assert len(told_of(history(grown(2)), earlier(donors), earlier(withheld))) == 2


@pytest.mark.parametrize(("count", "more"), [(ENOUGH_OWN - 1, 8), (ENOUGH_OWN, 0)])
def test_an_earlier_run_is_silent_once_this_one_knows_enough(count: int, more: int) -> None:
    old = grown(9, seed=1)  # its first program is the first one here, too
    assert len(told_of(history(grown(count)), earlier(old))) == count + more


def test_an_earlier_run_is_silent_while_nothing_is_scored_here() -> None:
    known = history([standing(1, BASE, None)])
    assert told_of(known, earlier(grown(9))) == [None]


def test_a_value_outside_a_range_is_neither_told_nor_proposed() -> None:
    outside = BASE.replace("DEPTH = 2 ", "DEPTH = 9 ")
    known = history([*grown(10), standing(11, outside, 5.0)])
    told = results(known.standings[IndividualId(1)].individual, known)
    assert len(told) == 10
    for seed in range(10):
        proposal = propose(known, seed, of=11)
        changed = {change.hypothesis.split()[0] for change in proposal.changes}
        assert "DEPTH" not in changed or proposal.constants["DEPTH"] in (1, 2, 3, 4)


def test_undeclared_ranges_follow_their_value_and_still_share_results() -> None:
    source = "X = 0.1\ndeliver(X)\n"
    known = history([standing(1, source, 1.0), standing(2, source.replace("0.1", "0.2"), 2.0)])
    assert len(results(known.standings[IndividualId(2)].individual, known)) == 2


def test_ordered_choices_keep_their_order_in_the_model() -> None:
    space = {c.name: distribution(c.range) for c in constants(BASE)}
    assert (space["WIDTH"].low, space["WIDTH"].high) == (0, 2)
    assert space["LR"].log
    assert space["GATED"].choices == (False, True)


LANDSCAPE = """
A = 0.002  # log 0.0001..1
B = 0.9  # 0..1
C = 60  # 1..64
D = 64  # one of 4, 8, 16, 32, 64
deliver(A, B, C, D)
"""


def quality(point: Mapping[str, Value]) -> float:
    """Return a parabola over the unit cube with its top at A = 0.1, B = 0.3, C = 20, D = 16."""
    a, b, c, d = (float(point[name]) for name in "ABCD")
    shares = (math.log10(a) + 1) / 4, b - 0.3, (c - 20) / 63, (math.log2(d) - 4) / 4
    return -sum(share**2 for share in shares)


def searched(seed: int, births: int) -> float:
    """Return the best quality after so many births, each from the best so far."""
    known = [standing(1, LANDSCAPE, quality(values(LANDSCAPE)))]
    for birth in range(births):
        best = max(known, key=lambda one: one.fitness or -math.inf)
        rng = np.random.default_rng([seed, birth])
        proposal = OPERATOR.propose([best.individual], history(known), rng)
        assert proposal.genome is not None
        known.append(standing(birth + 2, proposal.genome.source, quality(proposal.constants)))
    return max(one.fitness or -math.inf for one in known)


def drawn(seed: int, births: int) -> float:
    rng = np.random.default_rng(seed)
    return max(
        quality(
            {
                "A": math.exp(rng.uniform(math.log(0.0001), 0)),
                "B": rng.uniform(),
                "C": int(rng.integers(1, 65)),
                "D": int(rng.choice([4, 8, 16, 32, 64])),
            }
        )
        for _ in range(births)
    )


def test_thirty_proposals_find_more_than_sixty_random_draws() -> None:
    seeds = range(3)
    learned = np.median([searched(seed, 30) for seed in seeds])
    random = np.median([drawn(seed, 60) for seed in seeds])
    assert learned > random / 3  # both are negative: less than a third of the distance is left
