"""The bench of credit: what is true comes from the world, what is known from the history alone."""

import numpy as np
import pytest

from bench.catalogue import SIGMA
from bench.credit import Known, changes, line, searched


def test_known_effects_resemble_the_true_ones_and_rest_on_whoever_carries_them() -> None:
    world, history = searched(0, 60)
    found = changes(world, history)
    assert len(found) > 8
    assert all(1 <= one.births <= one.carriers for one in found)
    for way in ([one.plain[0] for one in found], [one.ours[0] for one in found]):
        assert np.corrcoef([one.true for one in found], way)[0, 1] > 0.8


def test_a_change_that_was_made_once_is_truly_worth_what_its_child_gained() -> None:
    world, history = searched(0, 60)
    once = {round(one.true, 6) for one in changes(world, history) if one.births == 1}
    gains = set()
    for standing in history.standings.values():
        child = standing.individual
        if child.operator == "explore" and standing.fitness is not None:
            parent = history.standings[child.parents[0]].individual
            own, before = (world.truth(one.genome.source).value for one in (child, parent))
            gains.add(round((before - own) / SIGMA, 6))
    assert len(once & gains) > 5


def test_a_line_tells_errors_of_both_ways_and_how_often_they_are_honest() -> None:
    found = [Known(1.0, (2.0, 1.0), (1.0, 0.1), 1, 1), Known(0.0, (3.0, 1.0), (0.5, 0.1), 1, 1)]
    _, count, plain, holds, ours, ours_hold = line("all", found).split()
    assert int(count) == 2
    assert float(plain) == pytest.approx(np.sqrt(5), abs=0.01)
    assert float(ours) == pytest.approx(np.sqrt(0.125), abs=0.01)
    assert (holds, ours_hold) == ("50.0%", "50.0%")
