"""Landscapes that look programs up: every text is a real program, and reads as the one it is."""

import ast
import csv
import gzip
from pathlib import Path

import pytest

from bench import exhaustive as module
from bench.digits import PARTS, score
from bench.exhaustive import (
    FOUNDERS,
    SEEDS,
    START,
    by_constants,
    by_structure,
    compute,
    exhaustive,
    grid,
    neighbours,
    program,
    read,
    truths,
)
from bench.landscape import Landscape
from mutate.genome import constants, rewrite, values
from mutate.units import transplant

LANDSCAPES = dict(zip(("constants", "structure"), exhaustive(), strict=True))
KNOWN = truths(read(module.TABLE))


@pytest.fixture(params=list(LANDSCAPES))
def landscape(request: pytest.FixtureRequest) -> Landscape:
    return LANDSCAPES[request.param]


def test_the_table_holds_every_program() -> None:
    assert set(read(module.TABLE)) == set(grid())
    assert len(KNOWN) == 3024


def test_targets_become_harder_and_are_reached(landscape: Landscape) -> None:
    assert list(landscape.targets) == sorted(landscape.targets, reverse=True)
    assert min(truth.value for truth in KNOWN.values() if truth.value) <= landscape.targets[-1]


def test_all_choices_are_constants_of_the_one_founder_or_functions_of_several() -> None:
    (founder,) = LANDSCAPES["constants"].founders
    assert len(constants(founder)) == len(module.AXES)
    for text in LANDSCAPES["structure"].founders:
        assert set(values(text)) == set(START)
    for place, part in enumerate(PARTS):
        assert {founder[place] for founder in FOUNDERS} == set(PARTS[part])


def test_both_landscapes_say_the_same_of_one_program() -> None:
    first, structure = LANDSCAPES["constants"], LANDSCAPES["structure"]
    for variants, text in zip(FOUNDERS, structure.founders, strict=True):
        chosen = {part.upper(): one for part, one in zip(PARTS, variants, strict=True)}
        assert first.truth(rewrite(first.founders[0], chosen)) == structure.truth(text)


def test_every_text_trains_and_both_kinds_are_one_program() -> None:
    texts = [landscape.founders[0] for landscape in LANDSCAPES.values()]
    texts.append(next(program(key) for key in read(module.TABLE) if key == by_structure(texts[1])))
    losses = [score(text, range(2), budget=20_000) for text in texts]
    assert losses[0] == losses[1] == losses[2]
    assert losses[0][0] != losses[0][1]


def test_a_crossover_is_looked_up_as_what_it_became() -> None:
    base, donor, _ = LANDSCAPES["structure"].founders
    child = transplant(base, rewrite(donor, {"LR": 0.004}), "step")
    assert by_structure(child) == ("relu", "none", "plain", "adam", 0.004, 32, 64)


def test_the_best_structure_is_no_founders_but_theirs_together() -> None:
    scored = {key: truth.value for key, truth in KNOWN.items() if truth.value is not None}
    best = min(scored, key=lambda key: scored[key])
    assert best[: len(PARTS)] not in FOUNDERS
    assert LANDSCAPES["structure"].truth(program(best)).value == scored[best]


def test_layout_and_comments_do_not_count() -> None:
    (founder, *_) = LANDSCAPES["structure"].founders
    again = ast.unparse(ast.parse(founder))
    assert by_structure(founder) == by_structure(f"# found anew\n{again}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return F.relu(h)", "return F.relu(h) + h"),
        ("theta = step(", "theta = 0.5 * step("),
        ("LR = 0.016", "LR = -1.0"),
        ("def combine", "def combined"),
        ("def ", "def def "),
    ],
)
def test_what_is_not_in_the_table_crashes(old: str, new: str) -> None:
    (founder, *_) = LANDSCAPES["structure"].founders
    assert old in founder
    truth = LANDSCAPES["structure"].truth(founder.replace(old, new))
    assert (truth.value, truth.reason) == (None, "crash")


def test_an_unknown_choice_crashes() -> None:
    (founder,) = LANDSCAPES["constants"].founders
    assert by_constants(founder.replace('"relu"', '"gelu"')) is None


def test_a_constant_between_values_is_taken_for_the_nearest() -> None:
    (founder,) = LANDSCAPES["constants"].founders
    key = by_constants(founder.replace("LR = 0.016", "LR = 0.05"))
    assert key is not None
    assert key[4] == 0.06


def test_steps_to_a_neighbour_change_one_choice_or_the_next_value() -> None:
    key = ("relu", "none", "plain", "momentum", 0.0003, 32, 64)
    near = list(neighbours(key))
    assert len(near) == 2 + 1 + 1 + 2 + 1 + 2 + 2
    assert all(sum(a != b for a, b in zip(key, one, strict=True)) == 1 for one in near)


def test_a_program_that_diverged_on_any_seed_is_not_finite() -> None:
    losses = dict.fromkeys(grid(), (0.1, 0.2, 0.3, 0.2))
    first, second, third = list(losses)[:3]
    losses[first], losses[second] = (0.1, 0.2, float("nan"), 0.2), (0.1, 0.2, 99.0, 0.2)
    found = truths(losses)
    assert found[first].reason == found[second].reason == "not_finite"
    assert found[third].value == pytest.approx(0.2)
    assert found[third].sigma == pytest.approx((0.02 / 3 / 0.789) ** 0.5)


def test_a_table_with_a_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="misses 3023 programs"):
        truths({next(grid()): (0.1,) * SEEDS})


def test_an_interrupted_computation_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def fake(source: str, seeds: range, budget: float) -> list[float]:
        trained.append(source)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return [0.5] * len(seeds)

    few = {name: among[:1] for name, among in module.AXES.items()} | {"LR": (0.001, 0.004, 0.016)}
    monkeypatch.setattr(module, "AXES", few)
    monkeypatch.setattr(module, "score", fake)
    out = tmp_path / "table.csv.gz"
    with pytest.raises(KeyboardInterrupt):
        compute(out, 1.0)
    compute(out, 1.0)
    assert len(trained) == 4
    with gzip.open(out, "rt", newline="") as file:
        assert [row["lr"] for row in csv.DictReader(file)] == ["0.001", "0.004", "0.016"]
    assert list(tmp_path.iterdir()) == [out]
