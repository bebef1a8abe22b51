"""Credit among changes: what is only sometimes together comes apart, and errors are honest."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from mutate.credit import MOST_SCORES, worths
from population.history import History, Standing
from population.individual import Change, Genome, Individual, IndividualId

ERROR = 0.01


def born(
    number: int, parent: int | None, changes: Sequence[str], fitness: float | None, error=ERROR
) -> Standing:
    individual = Individual(
        IndividualId(number),
        Genome(f"{number}"),
        parents=() if parent is None else (IndividualId(parent),),
        changes=tuple(Change(diff, diff, "attention") for diff in changes),
    )
    return Standing(individual, fitness, error, 1, 0, 0)


def run(*standings: Standing) -> History:
    return History({one.individual.id: one for one in standings}, (), {}, ERROR)


TOGETHER = (born(1, None, [], 1.0), born(2, 1, ["A", "B"], 1.1))


def test_two_changes_that_came_together_get_apart_where_one_is_seen_alone() -> None:
    known = worths(run(*TOGETHER, born(3, 1, ["A"], 1.0)))
    assert known["B"].effect > 0.08 > 3 * known["B"].error
    assert abs(known["A"].effect) < known["A"].error


def test_changes_that_were_never_seen_apart_share_what_they_are_worth() -> None:
    known = worths(run(*TOGETHER))
    assert known["A"] == known["B"]
    assert known["A"].effect + known["B"].effect == pytest.approx(0.1, abs=0.02)
    assert known["A"].error > 2 * ERROR


def test_whoever_descends_from_a_program_tells_of_its_changes() -> None:
    line = [born(1, None, [], 1.0, 0.001), born(2, 1, ["A"], 1.1)]
    line += [born(number, 1, ["N"], 1.0) for number in range(3, 12)]
    others = [born(number, 2, ["N"], 1.08) for number in range(12, 21)]
    alone, many = worths(run(*line))["A"], worths(run(*line, *others))["A"]
    assert (alone.carriers, many.carriers) == (1, 10)
    assert many.error < 0.5 * alone.error
    assert many.effect == pytest.approx(0.08, abs=0.005)  # the first score was lucky


def test_the_first_parent_hands_its_changes_on_and_the_second_does_not() -> None:
    crossed = born(4, 2, ["as in 3"], 1.1)
    parents = (IndividualId(2), IndividualId(3))
    crossed = replace(crossed, individual=replace(crossed.individual, parents=parents))
    known = worths(run(*TOGETHER, born(3, 1, ["C"], 1.0), crossed))
    assert {diff: one.carriers for diff, one in known.items()} == {
        "A": 2, "B": 2, "C": 1, "as in 3": 1,
    }  # fmt: skip


def test_what_a_founder_is_worth_is_no_merit_of_the_changes_made_to_it() -> None:
    better, worse = born(1, None, [], 1.0), born(2, None, [], 0.0)
    known = worths(run(better, worse, born(3, 1, ["A"], 1.05), born(4, 2, ["B"], 0.05)))
    assert known["A"].effect == pytest.approx(known["B"].effect)
    assert 0 < known["A"].effect < 0.06


def test_a_change_that_is_made_and_taken_back_leaves_what_was_before() -> None:
    line = [born(2, 1, ["A"], 1.1), born(3, 2, ["not A"], 1.0), born(4, 3, ["A"], 1.1)]
    known = worths(run(TOGETHER[0], *line))
    assert known["A"].effect == pytest.approx(0.1, abs=0.02)
    assert known["not A"].effect == pytest.approx(-0.1, abs=0.02)


@pytest.mark.parametrize(
    "out",
    [
        born(3, 1, ["A"], None),
        replace(born(3, 1, ["A"], 9.0), held=True),
        born(3, 1, ["A"], 9.0, math.inf),
    ],
)
def test_who_has_no_score_that_is_believed_takes_no_part(out: Standing) -> None:
    assert worths(run(*TOGETHER, out)) == worths(run(*TOGETHER))


def test_nothing_is_known_while_the_noise_is_not() -> None:
    assert worths(run(*(replace(one, standard_error=math.inf) for one in TOGETHER))) == {}
    assert worths(run()) == {}


def test_a_program_that_came_without_a_parent_has_no_change_to_be_credited() -> None:
    assert worths(run(born(1, None, [], 1.0), born(2, None, [""], 2.0))) == {}


def test_a_change_without_anything_to_compare_it_with_may_be_worth_anything() -> None:
    known = worths(run(born(1, None, [], None), born(2, 1, ["A"], 1.0)))
    assert known["A"].effect == 0
    assert known["A"].error > 3 * ERROR


def test_scores_that_repeat_exactly_are_believed() -> None:
    known = worths(run(*(replace(one, standard_error=0.0) for one in TOGETHER)))
    assert known["A"].effect + known["B"].effect == pytest.approx(0.1, abs=1e-6)


def tuned(number: int, parent: int) -> Standing:
    """Return a child with nine steps of constants that make no difference."""
    steps = tuple(Change(f"{number}.{step}", "", "constant") for step in range(9))
    child = born(number, parent, [], 1.0 + (-1) ** number * ERROR)
    return replace(child, individual=replace(child.individual, changes=steps))


def test_many_small_steps_of_constants_do_not_bring_a_large_edit_into_doubt() -> None:
    steps = [tuned(number, 1) for number in range(2, 60)]
    edits = [born(60 + sign, 1, [f"{sign:+}"], 1.0 + 4 * sign * ERROR) for sign in (-1, 1)]
    known = worths(run(TOGETHER[0], *steps, *edits))
    assert known["+1"].effect > 2.5 * ERROR > -2.5 * ERROR > known["-1"].effect
    assert all(abs(known[f"9.{step}"].effect) < 0.3 * ERROR for step in range(9))


def test_what_is_not_yet_known_of_an_edit_is_told_by_the_others_of_its_kind() -> None:
    bad = [born(number, 1, [f"{number}"], 1.0 - 10 * ERROR) for number in range(2, 40)]
    unclear = born(40, 1, ["A"], 1.0 - 5 * ERROR, 10 * ERROR)
    assert worths(run(TOGETHER[0], *bad, unclear))["A"].effect < -8 * ERROR


# Simulated runs


def simulated(seed: int, count: int = 100) -> tuple[History, dict[str, float]]:
    """Return a run and the true effects: half of them none, a few good, the others bad.

    A child makes one to three changes, drawn from a catalogue, to one of the better programs.
    """
    rng = np.random.default_rng(seed)
    names = [f"change {number}" for number in range(40)]
    true = dict(zip(names, rng.normal(0, 3 * ERROR, 40) * (rng.random(40) < 0.5), strict=True))
    levels = {1: 1.0, 2: 0.9}
    standings = {n: born(n, None, [], levels[n] + rng.normal(0, ERROR)) for n in levels}
    for number in range(3, count + 1):
        best = sorted(standings, key=lambda one: -(standings[one].fitness or 0.0))[:8]
        parent = int(rng.choice(best))
        chosen = [str(one) for one in rng.choice(names, rng.integers(1, 4), replace=False)]
        levels[number] = levels[parent] + sum(true[one] for one in chosen)
        score = levels[number] + rng.normal(0, ERROR)
        standings[number] = born(number, parent, chosen, score)
    return run(*standings.values()), true


RUNS = [simulated(seed) for seed in range(30)]


def test_intervals_hold_the_truth_in_nineteen_of_twenty_cases() -> None:
    null, all_ = [], []
    for history, true in RUNS:
        for diff, one in worths(history).items():
            holds = abs(one.effect - true[diff]) < 1.96 * one.error
            all_.append(holds)
            if not true[diff]:
                null.append(holds)
    assert 0.93 < np.mean(null) < 0.98
    assert 0.93 < np.mean(all_) < 0.97


def test_effects_are_found_with_less_error_than_by_gains_on_parents() -> None:
    ours, plain = [], []
    for history, true in RUNS:
        gains: dict[str, list[float]] = {}
        for standing in history.standings.values():
            if standing.individual.parents:
                parent = history.standings[standing.individual.parents[0]]
                for change in standing.individual.changes:
                    gains.setdefault(change.diff, []).append(standing.fitness - parent.fitness)
        known = worths(history)
        ours += [known[diff].effect - true[diff] for diff in gains]
        plain += [float(np.mean(own)) - true[diff] for diff, own in gains.items()]
    assert np.std(ours) < 0.5 * np.std(plain)


def test_in_a_long_run_the_latest_scores_count() -> None:
    standings = [born(1, None, [], 1.0), born(2, 1, ["early, without descendants"], 1.0)]
    for number in range(3, MOST_SCORES + 100):
        steps = [f"{number}.{constant}" for constant in range(3)]
        standings.append(born(number, number - 5 if number > 7 else 1, steps, 1.0))
    known = worths(run(*standings))
    assert known["100.0"].carriers > 100
    assert "early, without descendants" not in known
