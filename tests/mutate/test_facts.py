import re
from dataclasses import replace

import numpy as np
import pytest

from mutate.facts import CURVE_PARTS, facts, inspirations
from mutate.text import one_line, quoted, tokens_of
from population.individual import SHARE, IndividualId, Measurement
from population.task import Direction
from tests.mutate import told
from tests.mutate.programs import BASE


def chosen(history, number):
    return history.standings[IndividualId(number)].individual


def test_what_was_measured_of_a_program_stands_beside_its_parents_figures() -> None:
    history = told.history()
    slower = tuple(replace(m, value=m.value / 2) for m in told.MEASURED)
    one, report = IndividualId(1), told.scored(chosen(history, 1), -2.4).report
    assert report is not None
    before = replace(history.standings[one], report=replace(report, measurements=slower))
    known = replace(history, standings={**history.standings, one: before})
    said = facts(chosen(history, 3), known, "val_bpb", Direction.MINIMIZE)
    assert "measured (its parent): steps 612 (306), tokens_per_s 57,123 (28,562)" in said
    assert "measured: steps 306," in facts(chosen(known, 1), known, "val_bpb", Direction.MINIMIZE)


def test_of_a_training_on_a_gpu_its_memory_and_use_are_told() -> None:
    history, one = told.history(), IndividualId(1)
    report = history.standings[one].report
    assert report is not None
    card = (Measurement("mfu", 0.41234, "1"), Measurement("peak_device_bytes", 41 * 2.0**30, "B"))
    before = replace(history.standings[one], report=replace(report, measurements=card))
    said = facts(
        chosen(history, 1), replace(history, standings={one: before}), "val_bpb", Direction.MINIMIZE
    )
    assert "measured: mfu 0.4123, peak_device 41984 MiB" in said


def test_where_a_trainings_time_went_is_told_by_the_text_of_its_lines() -> None:
    history, one = told.history(), IndividualId(1)
    report = history.standings[one].report
    assert report is not None
    source = chosen(history, 1).genome.source.split("\n")
    shares = (
        ("line_2", 0.625),
        ("line_1", 0.25),
        (f"line_{len(source) + 1}", 0.1),
        ("line_x", 1.0),
    )
    lines = tuple(Measurement(name, share, SHARE) for name, share in shares)
    timed = replace(history.standings[one], report=replace(report, measurements=lines))
    said = facts(
        chosen(history, 1),
        replace(history, standings={one: timed}),
        "val_bpb",
        Direction.MINIMIZE,
    )
    second, first = (one_line(source[place].strip(), 60) for place in (1, 0))
    assert f"time of the training by line: 62% `{second}` (2), 25% `{first}` (1)\n" in said


@pytest.mark.parametrize("points", [1, 3, 64])
def test_a_curve_is_told_in_a_few_means_however_many_points_it_has(points: int) -> None:
    history, one = told.history(), IndividualId(3)
    standing = history.standings[one]
    assert standing.report is not None
    curve = tuple(((n + 1) / points, 2.0 + (-1) ** n) for n in range(points))
    changed = replace(standing, report=replace(standing.report, curve=curve))
    known = replace(history, standings={**history.standings, one: changed})
    (line,) = [
        x
        for x in facts(chosen(history, 3), known, "val_bpb", Direction.MINIMIZE).split("\n")
        if "loss" in x
    ]
    assert line.count("%") == 2 * min(points, CURVE_PARTS)
    if points == 64:
        assert all(1.8 < float(loss) < 2.2 for loss in re.findall(r"% (\d\.\d+)", line))


def test_what_other_survivors_changed_is_shown_whole_where_it_fits_and_constants_never() -> None:
    history = told.many(50, BASE)
    long = "\n".join(f"+line {n} of a mechanism" for n in range(120))
    one, two, numeric = history.survivors[:3]
    known = dict(history.standings)
    for who, diff, operator in (
        (one, long, "explore"),
        (two, "+short", "explore"),
        (numeric, "+LR", "constants"),
    ):
        individual = known[who].individual
        change = replace(individual.changes[0], diff=diff)
        changed = replace(individual, changes=(change,), operator=operator)
        known[who] = replace(known[who], individual=changed)
    history = replace(history, standings=known, survivors=(one, two, numeric))
    founder = chosen(history, 1)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        wide = "\n".join(inspirations([founder], history, 4_000, rng))
        assert quoted(long, 1 << 17) in wide
        assert "| +short" in wide
        assert "| +LR" not in wide
        narrow = "\n".join(inspirations([founder], history, 500, rng))
        assert "| +short" in narrow
        assert "of a mechanism" not in narrow
    alone = replace(history, survivors=(one,))
    (cut,) = inspirations([founder], alone, 700, np.random.default_rng(0))
    assert "characters ..." in cut
    assert tokens_of(cut) <= 700


def test_what_a_program_has_from_its_ancestors_is_not_shown_as_an_idea_to_borrow() -> None:
    history = replace(told.history(), survivors=(IndividualId(4), IndividualId(3), IndividualId(5)))
    rng = np.random.default_rng(0)
    (shown,) = inspirations([chosen(history, 4)], history, 4_000, rng)  # a child of 3
    assert "#5" in shown.splitlines()[0]
