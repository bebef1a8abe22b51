"""Scoring in a process of its own: what is not over in time is ended, and seen to be gone."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evaluate.sandbox import Jail
from evaluate.scoring import Judge
from evaluate.spec import TrialSpec
from evaluate.training import TreeSurvivedError
from evaluate.warm import Exit
from population.individual import (
    EvaluationId,
    Failed,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Stage,
)
from population.task import Budget, BudgetKind, EvaluatorKind, Limits

from .conftest import Trial

PRINTS_A_SCORE = "print('{\"value\": 1}')\n"
NEVER_ENDS = "import time; time.sleep(60)\n"
BUDGET = Budget(BudgetKind.SECONDS, 1.0)


@dataclass
class Undying:
    """A warm process whose children outlive every signal."""

    control: socket.socket
    exits: dict[int, Exit] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)
    killed: list[int] = field(default_factory=list)

    def fork(self, _role: str, _spec: dict[str, Any], _fds: list[int]) -> int:
        return 7

    def kill(self, number: int) -> None:
        self.killed.append(number)

    def poll(self, timeout_s: float) -> None: ...

    def wait(self, _number: int, _timeout_s: float) -> Exit | None:
        return None


@pytest.fixture
def undying() -> Iterator[Undying]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Undying(ours)


def judge(warm: Any, folder: Path) -> Judge:
    request = Request(EvaluationId(3), IndividualId(1), Genome(""), 1, "selection", Purpose.TRY)
    spec = TrialSpec(
        request, "a.py", EvaluatorKind.COMMAND, "score.py", "", ("{python}",), str(folder), "",
        "cpu", 1, 1, BUDGET, Limits(scoring_s=0.1),
    )  # fmt: skip
    jail = Jail(str(folder))
    return Judge(spec, warm, jail, folder / "score.py", folder)


def test_a_scorer_that_outlives_its_end_stops_the_machine(undying: Undying, tmp_path: Path) -> None:
    (tmp_path / "selection").mkdir()
    with pytest.raises(TreeSurvivedError, match="evaluation 3 outlived SIGKILL"):
        judge(undying, tmp_path).model(0, 0)
    with pytest.raises(TreeSurvivedError, match="evaluation 3 outlived SIGKILL"):
        judge(undying, tmp_path).command()
    assert undying.killed == [7, 7]


@pytest.mark.parametrize(
    ("source", "scorer", "stage", "reason"),
    [
        (NEVER_ENDS, PRINTS_A_SCORE, Stage.TRAINING, "timeout"),
        ("", NEVER_ENDS, Stage.SCORING, "scoring_limit"),
    ],
)
def test_what_a_command_task_runs_ends_at_its_limit(
    source: str, scorer: str, stage: Stage, reason: str, trial: Trial
) -> None:
    outcome = trial(
        source, BUDGET, Limits(scoring_s=1.0), kind=EvaluatorKind.COMMAND,
        evaluator_source=scorer, command=("{python}", "{evaluator}"),
    ).outcome  # fmt: skip
    assert isinstance(outcome, Failed), outcome
    assert (outcome.stage, outcome.reason) == (stage, reason)
