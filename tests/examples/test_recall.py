"""The example of a model task of one's own: its rows, its metric, and that its programs train."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prepare
from evaluate.evaluator import load
from evaluate.spec import TrialSpec, trial_spec
from evaluate.trial import run_trial
from evolve.taskfile import load_task
from population.errors import EvaluatorError
from population.individual import (
    EvaluationId,
    Failed,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Scored,
)
from population.task import Budget, BudgetKind

TASK = load_task(Path(__file__).parents[2] / "examples" / "recall")
FEW_STEPS = Budget(BudgetKind.STEPS, 3)


@pytest.fixture(scope="module")
def recall() -> Any:
    return load(TASK.evaluator)


@pytest.fixture(scope="module")
def data(recall: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(recall.prepare(TASK.data, tmp_path_factory.mktemp("cache")))


def spec_of(source: str, data: Path, **given: Any) -> TrialSpec:
    evaluation, individual = EvaluationId(1), IndividualId(1)
    request = Request(evaluation, individual, Genome(source), 1, "selection", Purpose.TRY)
    spec = trial_spec(TASK, request, data=data, data_sha256="", slots=1)
    return replace(spec, budget=FEW_STEPS, **given)


def test_each_row_asks_for_every_pair_that_it_has_told(recall: Any) -> None:
    rows = recall.rows_from(np.random.default_rng(3), 50)
    assert rows.shape == (50, recall.SIZES.sequence_length + 1)
    assert rows.max() < recall.SIZES.vocab_size
    assert (rows[:, 0] == recall.BEGIN).all()
    for told, asked in zip(*np.split(rows[:, 1:].reshape(50, -1, 2), 2, axis=1), strict=True):
        assert len({key for key, _ in told}) == recall.PAIRS
        assert {tuple(pair) for pair in told} == {tuple(pair) for pair in asked}


def lookup(tokens: torch.Tensor) -> torch.Tensor:
    """Who looks each token up where it stood before, and takes what followed it there."""
    earlier = (tokens.unsqueeze(2) == tokens.unsqueeze(1)).float().tril(-1)  # (E, T, T)
    following = torch.nn.functional.one_hot(tokens.roll(-1, 1), 33).float()
    return (earlier @ following).add(1e-9).log_softmax(2).mul(1e3).log_softmax(2)


def test_perfect_memory_needs_no_bits_and_a_guess_needs_them_all(recall: Any, data: Path) -> None:
    def guess(tokens: torch.Tensor) -> torch.Tensor:
        odds = torch.full((*tokens.shape, recall.SIZES.vocab_size), -1e9)
        odds[:, :, recall.KEYS : recall.BEGIN] = 0.0
        return odds.log_softmax(2)

    assert recall.metric(guess, data, "exam") == pytest.approx(4.0)
    assert recall.metric(lookup, data, "exam") == pytest.approx(0.0, abs=1e-6)


def test_the_rows_that_score_are_drawn_by_chance_once(recall: Any, tmp_path: Path) -> None:
    first = recall.prepare(TASK.data, tmp_path / "a")
    identity = recall.data_sha256(first)
    assert recall.prepare(TASK.data, tmp_path / "a") == first
    assert recall.data_sha256(first) == identity
    assert recall.data_sha256(recall.prepare(TASK.data, tmp_path / "b")) != identity
    shards = [recall.evaluation_rows(first, shard) for shard in recall.SHARDS]
    assert not np.array_equal(shards[0], shards[1])


@pytest.mark.parametrize("founder", TASK.seeds, ids=lambda founder: founder.stem)
def test_every_founder_trains_and_is_scored_by_its_own_metric(founder: Path, data: Path) -> None:
    result = run_trial(spec_of(founder.read_text(), data))
    assert isinstance(result.outcome, Scored), result
    assert 3.0 < result.outcome.value < 8.0


def test_what_programs_import_is_locked_with_the_evaluator(data: Path) -> None:
    ours = Path(prepare.__file__).read_text()
    assert dict(TASK.helpers) == {"prepare.py": ours}
    assert TASK.evaluator_sha256 != hashlib.sha256(TASK.evaluator_source.encode()).hexdigest()
    other = replace(TASK, helpers=(("prepare.py", ours + "\n"),))
    assert other.evaluator_sha256 != TASK.evaluator_sha256
    forging = "import os\nos.remove('prepare.py')\nopen('prepare.py', 'w').write('#')\nrun ="
    source = TASK.seeds[0].read_text().replace("run =", forging, 1)
    outcome = run_trial(spec_of(source, data)).outcome
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason == "tampered", outcome
    assert "prepare.py" in outcome.detail, outcome


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("lambda B: rows_from(rng, B)", "lambda B: rows_from(rng, B)[:, 1:]", r"batch_source.*\(1, 32\).*\(N, 33\)"),
        ("lambda B: rows_from(rng, B)", "lambda B: rows_from(rng, B) + 1", r"batch_source.*vocabulary has 0\.\.32"),
        ('"rows.npy"))', '"rows.npy"))[:, 1:]', r"evaluation_rows.*\(1024, 32\).*\(N, 33\), N a multiple of 64"),
        ('"rows.npy"))', '"rows.npy"))[:100]', r"evaluation_rows.*\(100, 33\)"),
        ("return nats / math.log(2)", "return 'bits' or nats / math.log(2)", "metric.*'bits'; expected a number"),
        ("    nats = 0.0", "    nats = {}['carry']", r"recall.py raised KeyError: 'carry' \(recall.py, line \d+\)"),
        ("asked.gather(2, ", "asked.gather(9, ", r"recall.py raised IndexError.*line \d+"),
        ("    return SIZES", "    return {}", "recall.py raised AttributeError: 'dict' object has no attribute"),
        ("    nats = 0.0", "    return 1.0", "never asked for log_probs"),
        ("    nats = 0.0", "    return 10**400 if log_probs(torch.zeros(64, 32, dtype=torch.int64)).any() else 0", "gave 1000.*expected a number"),
        ("log_probs(batch[:, :-1].clone())", "log_probs(batch)", r"asked log_probs for torch.int64 \(64, 33\); expected torch.int64 \(E, T\) = \(64, 32\)"),
        ("import hashlib", "import hashlib, absent", r"does not import: No module named 'absent' \(recall.py, line \d+\); install it"),
    ],
)  # fmt: skip
def test_a_mistake_of_the_evaluator_is_booked_to_no_program(
    old: str, new: str, told: str, data: Path
) -> None:
    assert TASK.evaluator_source.count(old) == 1
    broken = TASK.evaluator_source.replace(old, new)
    with pytest.raises(EvaluatorError, match=told):
        run_trial(spec_of(TASK.seeds[0].read_text(), data, evaluator_source=broken))


def test_what_a_metric_raises_of_a_programs_numbers_is_that_programs_failure(data: Path) -> None:
    old = "return nats / math.log(2) / (len(rows) * PAIRS)"
    assert TASK.evaluator_source.count(old) == 1
    perplexity = TASK.evaluator_source.replace(old, "return math.exp(nats / len(rows) / PAIRS)")
    sound = TASK.seeds[0].read_text()
    absurd = sound.replace("return self.head(norm(x))", "return 1e5 * self.head(norm(x))")
    assert isinstance(run_trial(spec_of(sound, data, evaluator_source=perplexity)).outcome, Scored)
    outcome = run_trial(spec_of(absurd, data, evaluator_source=perplexity)).outcome
    assert isinstance(outcome, Failed), outcome
    assert (outcome.stage, outcome.reason) == ("scoring", "metric_failed")
    assert "recall.py raised OverflowError: math range error (recall.py, line" in outcome.detail


def test_what_an_evaluator_imports_late_is_found_too(data: Path) -> None:
    late = TASK.evaluator_source.replace("    nats = 0.0", "    from mine import NONE as nats")
    helpers = (*TASK.helpers, ("mine.py", "NONE = 0.0\n"))
    spec = spec_of(TASK.seeds[0].read_text(), data, evaluator_source=late, helpers=helpers)
    assert isinstance(run_trial(spec).outcome, Scored)
