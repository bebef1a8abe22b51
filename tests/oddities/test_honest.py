"""The rules cost no honest idea: unusual models score like any other, without a false alarm.

Each file in `models/` is a program of its own. It needs no training loop: where it has none, the
one that all small programs share is added.
"""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from population.individual import Scored
from population.task import Budget, BudgetKind, Limits
from tests.evaluate.conftest import TRAIN, Trial

MODELS = Path(__file__).parent / "models"
STEPS = Budget(BudgetKind.STEPS, 8)
PATIENT = replace(Limits(), startup_s=120.0)  # compilers are slow on a busy machine
COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="torch.compile needs a C++ compiler",
)
MARKS = {"compiled": (COMPILER,)}
_CLOSE = """
autocast bfloat16 experts_bfloat16 experts_by_index experts_grouped experts_sorted
long_convolution_bfloat16 nearest_codes quantised straight_through top_k_memory
"""
CLOSE = _CLOSE.split()
"""Where a rounding may tip a choice, or is coarse: such an alarm is rare, so all rows are read."""


def source_of(name: str) -> str:
    source = (MODELS / f"{name}.py").read_text()
    if "prepare.start()" in source:
        return source
    return source + "\n\nimport torch\nimport torch.nn.functional as F\n" + TRAIN


def cases() -> Iterator[object]:
    for path in sorted(MODELS.glob("*.py")):
        yield pytest.param(path.stem, marks=MARKS.get(path.stem, ()))


@pytest.mark.parametrize("name", list(cases()))
def test_an_honest_model_scores_normally(
    name: str, trial: Trial, text_data: Path, whole_data: Path
) -> None:
    data = whole_data if name in CLOSE else text_data
    result = trial(source_of(name), STEPS, limits=PATIENT, data=str(data))
    assert isinstance(result.outcome, Scored), f"{result.outcome}\n{result.log[-2000:]}"
    assert 0.5 < result.outcome.value < 60  # bits per byte: nothing is stolen, little is lost
    assert math.isfinite(result.measured("detectable_nats") or math.nan)
