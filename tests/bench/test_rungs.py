"""Whole searches with a rung and without one, on the same landscapes."""

import json
import math
from dataclasses import astuple
from pathlib import Path

import pytest

from bench.exhaustive import exhaustive
from bench.rungs import WORLDS, Blurred, Found, Job, kept, searched, table

FOUNDER = exhaustive()[0].founders[0]


def job(landscape: str = "exhaustive-constants", method: str = "plain", **changes: float) -> Job:
    return Job(landscape, method, 1, (4.0, 12.0), changes.get("blur"), changes.get("beside", 0.1))


def test_a_short_training_has_its_own_score_and_costs_its_share() -> None:
    plain = exhaustive()[0]
    whole = plain.truth(FOUNDER)
    real, blurred, exact = (
        Blurred(plain, job(**blur)).truth(FOUNDER).rung
        for blur in ({}, {"blur": 0.35}, {"blur": 0.0})
    )
    assert real and blurred and exact and whole.rung
    assert real.value == whole.rung.value != blurred.value
    assert exact.value == whole.value
    assert all(one.cost_s == pytest.approx(0.3 / 1.1) for one in (real, blurred, exact))


@pytest.mark.parametrize("landscape", ["exhaustive-constants", WORLDS])
def test_a_search_is_a_function_of_its_job_and_a_ladder_another_search(landscape: str) -> None:
    plain, ladder = (
        searched(job(landscape, method, blur=0.35))[1] for method in ("plain", "ladder")
    )
    assert searched(job(landscape, blur=0.35))[1] == plain != ladder
    assert all(math.isfinite(value) and value > 0 for value in plain.values + ladder.values)


def test_what_is_kept_is_found_again_and_compared_in_pairs(tmp_path: Path) -> None:
    one, found = job(), Found((0.5, 0.4), (0.9, 0.7))
    file = tmp_path / "kept.jsonl"
    file.write_text(json.dumps([astuple(one), found.values, found.told]) + "\n")
    assert dict(kept(file)) == {one.key: found}
    assert dict(kept(None)) == {}
    better = Found((0.4, 0.4), found.told)
    pairs = {("plain", s): found for s in (1, 2)} | {("ladder", s): better for s in (1, 2)}
    cells = [list(column.cells) for column in table(pairs, range(1, 3), [4.0, 12.0]).columns]
    assert cells[1][:2] == ["0.5000", "0.4000"]
    assert str(cells[1][2]).startswith("-0.1000 +- 0.0000")
