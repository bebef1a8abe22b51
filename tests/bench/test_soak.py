"""What the soak looks for, it finds: rows that are gone, evaluations that were made twice."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.soak import Soak, database
from population.individual import (
    Comparability,
    EvaluationId,
    Genome,
    Individual,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
)
from population.lineage import DuckLineage, RunIdentity
from population.ports import Ended, Founded, Record, Started
from population.task import Direction

IDENTITY = RunIdentity(
    task="t", artifact="a.py", metric="m", direction=Direction.MINIMIZE,
    selection_shard="selection", evaluator_sha256="", data_sha256="", program_sha256="",
    seed=0, created_at=0.0, configuration="{}",
)  # fmt: skip
GENOME = Genome("X = 1\n")


def evaluated(number: int) -> Iterator[Record]:
    asked = Request(EvaluationId(number), IndividualId(1), GENOME, 7, "selection", Purpose.SCREEN)
    yield Started(asked)
    nowhere = Comparability("", "", "", 1, "", "")
    yield Ended(Result(asked.id, Scored(1.0), nowhere))


@pytest.fixture
def soak(tmp_path: Path) -> Soak:
    options = {"task": ".", "evaluations": 1, "budget": None, "slots": None, "llm": False}
    soak = Soak(argparse.Namespace(runs=tmp_path / "runs", seed=0, **options))
    with DuckLineage.open(soak.folder, IDENTITY) as lineage:
        for record in (Founded(Individual(IndividualId(1), GENOME)), *evaluated(1)):
            lineage.record(record)
    assert soak.look("start") == 1
    return soak


def test_what_is_still_there_and_what_came_on_top_is_no_loss(soak: Soak) -> None:
    with DuckLineage.open(soak.folder, IDENTITY) as lineage:
        lineage.record(Founded(Individual(IndividualId(2), replace(GENOME, source="X = 2\n"))))
    assert soak.look("power") == 1
    assert soak.broken == []


@pytest.mark.parametrize(
    "harm", ["DELETE FROM result", "UPDATE result SET value = 2.0", "DELETE FROM individual"]
)
def test_a_row_that_is_gone_or_changed_is_told(soak: Soak, harm: str) -> None:
    with database(soak.folder) as connection:
        connection.execute(harm)
    soak.look("power")
    assert len(soak.broken) == 1
    assert "are gone or changed" in soak.broken[0]


def test_an_evaluation_that_was_made_twice_is_told(soak: Soak) -> None:
    with DuckLineage.open(soak.folder, IDENTITY) as lineage:
        for record in evaluated(2):
            lineage.record(record)
    soak.look("driver")
    assert soak.broken == ["driver: evaluated twice: [(1, 7, 'selection', 'screen', 2)]"]
