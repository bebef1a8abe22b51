"""A small text task that every evaluate test trains on: real data, real processes, few steps."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import prepare
from evaluate.spec import TrialSpec
from evaluate.trial import run_trial
from population.individual import (
    EvaluationId,
    Genome,
    IndividualId,
    Pace,
    Purpose,
    Request,
    Result,
)
from population.task import Budget, BudgetKind, EvaluatorKind, Limits

QUICK = replace(prepare.SCALES["cpu"], evaluation_batch=16, evaluation_rows=64)
"""Scores on a few rows; where a probe looks for what is rare or faint, all rows are due."""
WORDS = "the quick brown fox jumps over a lazy dog while seven small birds sing in green trees"

MODEL = """
import torch
from torch import nn
import torch.nn.functional as F

class Model(nn.Module):
    def __init__(self, vocab, width=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))
"""

TRAIN = """
import prepare
run = prepare.start()
model = Model(run.vocab_size)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
run.register(model)
for x, y in run.batches(4):
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    run.report(loss)
run.deliver(model)
"""


def program(model: str = MODEL, train: str = TRAIN, **edits: str) -> str:
    """Return a small train.py. Each edit puts text before the line that holds its key's words."""
    source = model + train
    places = {
        "first": "import torch\n",
        "before_clock": "for x, y in run.batches(4):\n",
        "in_loop": "    loss = F.cross_entropy",
        "at_bell": "run.deliver(model)",
    }
    for name, text in edits.items():
        place = places[name]
        assert source.count(place) == 1, f"{place!r} is not unique"
        source = source.replace(place, text + place)
    return source


def write_texts(folder: Path) -> Path:
    """Fill a folder with invented sentences, enough for all shards; return it."""
    generator = random.Random(5)
    words = WORDS.split()
    for number in range(40):
        sentences = (" ".join(generator.choices(words, k=9)) + ".\n" for _ in range(800))
        (folder / f"{number}.txt").write_text("\n".join(sentences))
    return folder


@pytest.fixture(scope="session")
def whole_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared byte-level data of invented sentences, as `prepare.py` lays it out."""
    folder = write_texts(tmp_path_factory.mktemp("text"))
    return prepare.prepare(str(folder), tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture(scope="session")
def text_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on a scale on which scoring takes a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(prepare.SCALES, "cpu", QUICK)
        folder = write_texts(tmp_path_factory.mktemp("text"))
        return prepare.prepare(str(folder), tmp_path_factory.mktemp("cache"), progress=False)


Trial = Callable[..., Result]
TWENTY_STEPS = Budget(BudgetKind.STEPS, 20)
DEFAULT_LIMITS = Limits()


@pytest.fixture(scope="session")
def trial(text_data: Path) -> Trial:
    """Return a function that trains and scores one source: `trial(source, steps=20, ...)`.

    Further names are those of a TrialSpec, in place of what stands there.
    """
    evaluator = Path(prepare.__file__).read_text()

    def run(
        source: str,
        budget: Budget = TWENTY_STEPS,
        limits: Limits = DEFAULT_LIMITS,
        seed: int = 1,
        shard: str = "selection",
        pace: Pace | None = None,
        **given: Any,
    ) -> Result:
        request = Request(
            EvaluationId(1), IndividualId(1), Genome(source), seed, shard, Purpose.TRY, pace=pace
        )
        spec = TrialSpec(
            request, "train.py", EvaluatorKind.MODEL, "prepare.py", evaluator, (),
            str(text_data), "", "cpu", 1, 1, budget, limits,
        )  # fmt: skip
        return run_trial(replace(spec, **given))

    return run
