"""Whole searches with a rung and without one, on the same landscapes."""

import json
from dataclasses import astuple

import pytest

from bench.exhaustive import exhaustive
from bench.rungs import Job, kept, landscapes, searched, told, with_rung


def test_a_blurred_rung_ranks_better_the_less_it_is_blurred_and_costs_its_share() -> None:
    def correlation(blur: float | None) -> float:
        return float(next(told(landscapes(blur, 0.2)["exhaustive-constants"].known)).split()[0])

    assert 1.0 == correlation(0.0) > correlation(0.35) > correlation(0.8) > 0.7
    key, truth = next(
        item
        for item in exhaustive()[0].known.items()
        if item[1].value is not None  # type: ignore[attr-defined]
    )
    rung = with_rung(key, truth, 0.35, 0.1).rung
    assert rung is not None and rung.cost_s == pytest.approx(0.3 / 1.1)


@pytest.mark.parametrize("method", ["evolve", "evolve@0.2"])
def test_a_search_is_told_after_each_time(method: str) -> None:
    job = Job("exhaustive-constants", method, 1, (4.0, 12.0), 0.35, 0.1)
    again, values = searched(job)
    assert again == job and len(values) == 2
    assert 0.05 < min(values) <= max(values) < 2.5
    assert searched(job)[1] == values


def test_what_is_kept_is_found_again(tmp_path) -> None:
    job = Job("exhaustive-constants", "evolve", 1, (4.0,), None, 0.1)
    file = tmp_path / "kept.jsonl"
    file.write_text(json.dumps([astuple(job), (0.5,)]) + "\n")
    assert kept(file) == {json.dumps(astuple(job)): (0.5,)}
    assert kept(None) == {}
