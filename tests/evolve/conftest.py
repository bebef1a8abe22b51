"""A small recorded run, and the command line called as a person would."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from evaluate.trial import end_warm_process
from evolve.cli import main
from population.individual import (
    SHARE,
    Change,
    Comparability,
    EvaluationId,
    Failed,
    Genome,
    Individual,
    IndividualId,
    Measurement,
    Outcome,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.lineage import DuckLineage, RunIdentity
from population.ports import Ended, Founded, Proposal, Proposed, Record, Selected, Started
from population.task import Direction

POLYNOMIAL = Path(__file__).parent.parent / "tasks" / "polynomial"
MACHINE = Comparability("test machine", "", "2.13", 1, "e" * 64, "d" * 64)
EVIL = "step 1\x1b[2J\x1b]0;title\x07\u202egnp.exe"


class Said(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


Evolve = Callable[..., Said]


@pytest.fixture(scope="session", autouse=True)
def warm_process_ends_with_the_tests() -> Iterator[None]:
    yield
    end_warm_process()


@pytest.fixture
def evolve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evolve:
    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["evolve", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Said(int(stop.value.code or 0), out, err)

    return call


def born(number: int, value: float, *parents: int, operator: str = "founder") -> Individual:
    changes = (Change(f"-A = 0\n+A = {value}\n", "a larger A helps", "constant"),)
    return Individual(
        id=IndividualId(number),
        genome=Genome(f"A = {value}\n"),
        parents=tuple(IndividualId(parent) for parent in parents),
        operator=operator,
        name="" if parents else f"founder-{number}",
        structure="s",
        fingerprint=str(value),
        constants={"A": value},
        changes=changes if parents else (),
        proposal=ProposalId(number if parents else 0),
    )


def arrival(individual: Individual) -> Record:
    if not individual.parents:
        return Founded(individual)
    proposal = Proposal(
        individual.operator,
        individual.parents,
        individual.genome,
        structure=individual.structure,
        fingerprint=individual.fingerprint,
        constants=dict(individual.constants),
        changes=individual.changes,
    )
    return Proposed(individual.proposal, proposal, individual)


def evaluation(
    number: int, of: Individual, outcome: Outcome, foreign_share: float = 0.0
) -> tuple[Started, Ended]:
    request = Request(EvaluationId(number), of.id, of.genome, number, "selection", Purpose.SCREEN)
    result = Result(
        request.id,
        outcome,
        MACHINE,
        measurements=(
            Measurement("foreign_share", foreign_share, "1"),
            Measurement("peak_memory_bytes", 2.0**30, "B"),
            Measurement("line_1", 0.75, SHARE),
        ),
        log=EVIL,
        curve=((0.1, 5.0), (0.9, 3.0)),
        sandbox=("limits",),
        started_at=1000.0 + number,
        ended_at=1010.0 + number,
    )
    return Started(request), Ended(result)


@pytest.fixture(scope="session")
def recorded_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("recorded"), POLYNOMIAL)


@pytest.fixture
def runs(tmp_path: Path, recorded_once: Path) -> Path:
    """Copy a recorded run, which is as good as the run itself and a hundred times as quick."""
    return Path(shutil.copytree(recorded_once, tmp_path / "runs"))


def recorded(folder: Path, task: Path, conditions: str = "{}") -> Path:
    """Record and publish a run below a folder, and return that.

    It has two founders, a mutant of the first, a crossover of both lines, a failure.
    """
    identity = RunIdentity(
        task="polynomial",
        artifact="solve.py",
        metric="closeness",
        direction=Direction.MINIMIZE,
        evaluator_sha256="e" * 64,
        data_sha256="d" * 64,
        program_sha256="p" * 64,
        seed=0,
        created_at=1000.0,
        conditions=conditions,
        configuration=f'{{"task": "{task}", "data": null, "budget": "5s", "seed": 0, '
        '"mu": 8, "lambda_": 8, "sync": false}',
    )
    one, two = born(1, 3.0), born(2, 2.9)
    mutant = born(3, 2.5, 1, operator="constants")
    cross = born(4, 2.25, 3, 2, operator="recombination")
    broken = born(5, 9.0, 3, operator="constants")
    with DuckLineage.open(folder / "night", identity) as lineage:
        for record in (
            arrival(one),
            arrival(two),
            *evaluation(1, one, Scored(3.0)),
            *evaluation(2, two, Scored(2.9)),
            arrival(mutant),
            *evaluation(3, mutant, Scored(2.5)),
            arrival(cross),
            *evaluation(4, cross, Scored(2.25)),
            arrival(broken),
            *evaluation(5, broken, Failed(Stage.TRAINING, "crash", "it raised ValueError")),
            Selected(1, 0.1, tuple((IndividualId(i), v, 0.1) for i, v in ((4, 2.25), (3, 2.5)))),
        ):
            lineage.record(record)
        lineage.publish()
    return folder
