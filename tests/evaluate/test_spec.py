from dataclasses import replace

import pytest

from evaluate.spec import trial_spec
from evolve.taskfile import REPOSITORY, load_task
from population.individual import EvaluationId, Genome, IndividualId, Purpose, Request
from population.task import BudgetKind

TASK = load_task(REPOSITORY, budget="40steps,200steps")


def amount(purpose: Purpose) -> float:
    request = Request(EvaluationId(1), IndividualId(1), Genome("x"), 0, "selection", purpose)
    spec = trial_spec(TASK, request, data=None, data_sha256="", slots=1)
    assert spec.budget.kind is BudgetKind.STEPS
    return spec.budget.amount


@pytest.mark.parametrize("purpose", list(Purpose))
def test_only_a_training_at_the_rung_is_short(purpose: Purpose) -> None:
    assert amount(purpose) == (40 if purpose is Purpose.RUNG else 200)


def test_a_short_training_without_a_rung_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="has no rung"):
        replace(TASK.budget, rung=None).short  # noqa: B018 -- it is asked for what it lacks
