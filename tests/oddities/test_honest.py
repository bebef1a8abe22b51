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
SEEDS = (1, 2, 3)
STEPS = Budget(BudgetKind.STEPS, 8)
PATIENT = replace(Limits(), startup_s=120.0)  # compilers are slow on a busy machine
COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="torch.compile needs a C++ compiler",
)
JAILED_COMPILER = pytest.mark.xfail(
    reason="the warm process looks up the directory for temporary files outside the jail",
    strict=False,
)
MARKS = {"compiled": (COMPILER, JAILED_COMPILER)}
FOR_EACH_SEED = {"compiled": SEEDS[:1]}  # 20 s of compiler each


def source_of(name: str) -> str:
    source = (MODELS / f"{name}.py").read_text()
    if "prepare.start()" in source:
        return source
    return source + "\n\nimport torch\nimport torch.nn.functional as F\n" + TRAIN


def cases() -> Iterator[object]:
    for path in sorted(MODELS.glob("*.py")):
        for seed in FOR_EACH_SEED.get(path.stem, SEEDS):
            yield pytest.param(path.stem, seed, marks=MARKS.get(path.stem, ()))


@pytest.mark.parametrize(("name", "seed"), list(cases()))
def test_an_honest_model_scores_normally(name: str, seed: int, trial: Trial) -> None:
    result = trial(source_of(name), STEPS, limits=PATIENT, seed=seed)
    assert isinstance(result.outcome, Scored), f"{result.outcome}\n{result.log[-2000:]}"
    assert 0.5 < result.outcome.value < 60  # bits per byte: nothing is stolen, little is lost
    assert math.isfinite(result.measured("detectable_nats") or math.nan)
