import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.spec import trial_spec
from evolve.taskfile import REPOSITORY, load_task
from population.individual import EvaluationId, Genome, IndividualId, Purpose, Request
from population.task import BudgetKind
from tests.evolve.conftest import POLYNOMIAL

TASK = load_task(REPOSITORY, budget="40steps,200steps")


def request(purpose: Purpose) -> Request:
    return Request(EvaluationId(1), IndividualId(1), Genome("x"), 0, "selection", purpose)


def amount(purpose: Purpose) -> float:
    spec = trial_spec(TASK, request(purpose), data=None, data_sha256="", slots=1)
    assert spec.budget.kind is BudgetKind.STEPS
    return spec.budget.amount


@pytest.mark.parametrize("purpose", list(Purpose))
def test_only_a_training_at_the_rung_is_short(purpose: Purpose) -> None:
    assert amount(purpose) == (40 if purpose is Purpose.RUNG else 200)


def test_a_short_training_without_a_rung_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="has no rung"):
        replace(TASK.budget, rung=None).short  # noqa: B018 -- it is asked for what it lacks


def test_an_evaluator_that_is_edited_during_a_run_has_no_influence_on_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))
    file = folder / "score.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    locked = file.read_bytes()
    task = load_task(folder)
    file.write_text("print(1)\n")
    spec = trial_spec(task, request(Purpose.SCREEN), data=None, data_sha256="", slots=1)
    assert spec.evaluator_source.encode() == locked
    assert spec.evaluator_sha256 == task.evaluator_sha256 == hashlib.sha256(locked).hexdigest()
    assert load_task(folder).evaluator_sha256 != task.evaluator_sha256
