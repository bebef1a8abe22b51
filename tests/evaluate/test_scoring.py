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
    Result,
    Scored,
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


def scored_by(trial: Trial, scorer: str, source: str = "", limits: Limits | None = None) -> Result:
    """Return what comes of a program that a command scores."""
    return trial(
        source, Budget(BudgetKind.SECONDS, 20.0), limits or Limits(),
        kind=EvaluatorKind.COMMAND, evaluator_source=scorer, command=("{python}", "{evaluator}"),
    )  # fmt: skip


def test_a_scorer_may_import_what_is_locked_with_it_and_its_program_may_not(trial: Trial) -> None:
    scorer = "import json, mine\nprint(json.dumps({'value': mine.VALUE}))\n"
    prying = """
try:
    import mine
except ImportError:
    print("kept apart")
"""
    result = trial(
        prying, Budget(BudgetKind.SECONDS, 20.0), kind=EvaluatorKind.COMMAND,
        evaluator_source=scorer, helpers=(("mine.py", "VALUE = 0.25\n"),),
        command=("{python}", "{evaluator}"),
    )  # fmt: skip
    assert result.outcome == Scored(0.25), result
    assert "kept apart" in result.log


WORK = "def work(): out.write('0.5')"


@pytest.mark.parametrize(
    "end",
    [
        "work()",
        "work()\nraise SystemExit",
        "import atexit\natexit.register(work)",
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.5), work())).start()",
        "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(1).submit(work)",
    ],
    ids=["an open file", "SystemExit", "atexit", "a thread", "a pool"],
)
def test_a_program_without_batches_ends_as_any_script_does(end: str, trial: Trial) -> None:
    scorer = """import json, sys
print(json.dumps({"value": float(open(sys.argv[1] + "/result").read())}))"""
    outcome = trial(
        f"out = open('result', 'w')\n{WORK}\n{end}", Budget(BudgetKind.SECONDS, 20.0),
        kind=EvaluatorKind.COMMAND, evaluator_source=scorer,
        command=("{python}", "{evaluator}", "{workdir}"),
    ).outcome  # fmt: skip
    assert outcome == Scored(0.5)


def test_a_command_that_cannot_be_run_is_named(trial: Trial) -> None:
    result = trial(
        "", Budget(BudgetKind.SECONDS, 20.0), kind=EvaluatorKind.COMMAND, evaluator_source="",
        command=("nopython", "{evaluator}"),
    )  # fmt: skip
    assert isinstance(result.outcome, Failed)
    assert "nopython: No such file or directory; see `command` in task" in result.outcome.detail
    assert "Traceback" not in result.log


def test_a_command_that_never_ends_is_named_with_the_limit_that_it_passed(trial: Trial) -> None:
    outcome = scored_by(trial, NEVER_ENDS, limits=Limits(scoring_s=1.0)).outcome
    assert outcome == Failed(
        Stage.SCORING,
        "scoring_limit",
        "could not be scored within 1 s: the command `{python} {evaluator}` did not end; make it "
        "quicker, or raise `scoring_s` in task.toml",
    )


LAST_LINE = 'the last line that the scoring command prints must be {"value": NUMBER}; '


@pytest.mark.parametrize(
    ("printed", "came"),
    [
        ('{"score": 2, "of": 3}', "the key `value` is missing, what came has `score, of`"),
        ('{"value": 2}\ndone', "it was `done`"),
        ("[2]", "it was `[2]`"),
        ("{}", "it was `{}`"),
        ("", "it printed nothing"),
        ("a\0b", "it was `a\N{REPLACEMENT CHARACTER}b`"),
        ("x" * 201, f"it was `{'x' * 200}`..."),
        ("[" * 9_000, f"it was `{'[' * 200}`..."),
    ],
)
def test_a_command_whose_last_line_is_no_score_is_told_what_it_has_to_be_and_what_came(
    printed: str, came: str, trial: Trial
) -> None:
    outcome = scored_by(trial, f"print({printed!r})").outcome
    assert outcome == Failed(Stage.SCORING, "no_score", LAST_LINE + came)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "true", '"2"', "null", "1" + "0" * 400])
def test_what_is_no_finite_number_is_no_score(value: str, trial: Trial) -> None:
    outcome = scored_by(trial, f"""print('{{"value": {value}}}')""").outcome
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason == "not_finite" and len(outcome.detail) < 300


def test_what_a_scoring_command_prints_is_kept_beside_its_errors(trial: Trial) -> None:
    flood = "import sys\nprint('close to 2')\nprint('a warning', file=sys.stderr)\n"
    result = scored_by(trial, flood + PRINTS_A_SCORE, "print('trained')")
    assert result.outcome == Scored(1.0)
    assert result.log == 'trained\nclose to 2\n{"value": 1}\na warning'
    result = scored_by(trial, "for _ in range(9_000): print('close to 2')\n" + PRINTS_A_SCORE)
    assert result.outcome == Scored(1.0)
    assert len(result.log) < 25 << 10


def test_a_program_without_batches_crashes_in_its_training(trial: Trial) -> None:
    outcome = scored_by(trial, PRINTS_A_SCORE, "1 / 0").outcome
    assert outcome == Failed(Stage.TRAINING, "crash", "ZeroDivisionError: division by zero")
