"""A program that reports its own score: what counts of its output, and what it may read."""

import os
from pathlib import Path

import pytest

from evaluate.evaluator import listing_sha256
from evaluate.scoring import log_pipe, self_reported
from evaluate.spec import TrialSpec
from evaluate.tail import HEAD_BYTES, TAIL_BYTES, Tail
from evaluate.trial import run_trial
from population.errors import DataError
from population.individual import (
    EvaluationId,
    Failed,
    Genome,
    IndividualId,
    Outcome,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.task import Budget, EvaluatorKind, Limits
from tests.evaluate.test_world import linux

EVALUATOR = "HALF = 0.5\n"


def reporting(
    source: str, data: Path | None = None, budget_s: float = 20.0, limits: Limits | None = None
) -> Result:
    """Run a program that scores itself, with `points.py` beside it."""
    request = Request(EvaluationId(1), IndividualId(1), Genome(source), 7, "selection", Purpose.TRY)
    spec = TrialSpec(
        request, "train.py", EvaluatorKind.REPORTED, "points.py", EVALUATOR, (),
        None if data is None else str(data), "", "cpu", 1, 1, Budget(amount=budget_s),
        limits or Limits(), metric="val_loss",
    )  # fmt: skip
    return run_trial(spec)


def reason(result: Result) -> str:
    assert isinstance(result.outcome, Failed), result
    return result.outcome.reason


def heard(output: bytes, metric: str = "val_loss") -> Outcome:
    """Return what is heard of an output that came through a pipe in parts."""
    read, write = log_pipe()
    log = Tail(read)
    for at in range(0, len(output), 1 << 15):
        os.write(write, output[at : at + (1 << 15)])
        log.drain()
    os.close(write)
    os.close(read)
    return self_reported(log, metric)


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("val_loss: 0.25\n", 0.25),
        ("---\nval_loss:          0.997900\npeak_vram_mb:     45060.2\n", 0.9979),
        ("val_loss: 3\nval_loss: 2\nnext val_loss: 1\n", 2.0),
        ("  val_loss\t:  -1e-3  ", -0.001),
        ("step 9 val_loss: 4\rval_loss: 5", 5.0),
        ("val_loss: 6\r\n", 6.0),
        ("val_loss: 7\nval_loss: soon\nval_loss:\nval_loss: 8 nats\n", 7.0),
        ("val_loss: 9\nVAL_LOSS: 1\nbest_val_loss: 1\nval_losses: 1\n", 9.0),
    ],
)
def test_the_last_line_that_names_the_metric_and_a_number_is_the_score(
    output: str, value: float
) -> None:
    assert heard(output.encode()) == Scored(value)


def test_a_metric_is_a_name_and_no_pattern() -> None:
    assert heard(b"f1 (mean): 0.5\n", "f1 (mean)") == Scored(0.5)
    assert isinstance(heard(b"acc: 0.5\n", "a.c"), Failed)


@pytest.mark.parametrize("number", ["nan", "inf", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_no_score_even_after_one_that_is(number: str) -> None:
    outcome = heard(f"val_loss: 1.0\nval_loss: {number}\n".encode())
    assert isinstance(outcome, Failed) and outcome.reason == "not_finite"


def test_whoever_prints_much_is_heard_by_the_last_of_it() -> None:
    flood = b"x" * 99 + b"\n"
    much = flood * (HEAD_BYTES // 50)
    assert heard(much * 40 + b"val_loss: 2\n") == Scored(2.0)
    outcome = heard(b"val_loss: 2\n" + much * 40)  # perhaps not the last one: what followed is gone
    assert isinstance(outcome, Failed) and "in the last 16 KiB" in outcome.detail


def test_a_line_that_was_cut_in_two_is_not_read_by_its_rest() -> None:
    end = b"\n" + b"." * (TAIL_BYTES - len("val_loss: 1\n"))
    whole = b"." * HEAD_BYTES + b"best_val_loss: 1" + end
    assert isinstance(heard(whole), Failed)


def test_a_program_is_scored_by_what_it_prints() -> None:
    result = reporting("from points import HALF\nprint('val_loss:   ', HALF)\n")
    assert result.outcome == Scored(0.5)
    assert "val_loss:    0.5" in result.log


def test_a_program_that_prints_no_score_is_told_what_to_print() -> None:
    result = reporting("print('done')")
    assert isinstance(result.outcome, Failed)
    assert (result.outcome.stage, result.outcome.reason) == ("scoring", "no_score")
    assert "`val_loss: NUMBER`" in result.outcome.detail


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ("raise SystemExit(1)", "crash"),
        ("import time; time.sleep(60)", "timeout"),
        ("import os; os.remove('points.py'); open('points.py', 'w').write('HALF = 0')", "tampered"),
        ("import os; os.remove('points.py')", "tampered"),
        ("for _ in range(1 << 10): print('x' * 1023)", "log_limit"),
    ],
)
def test_a_score_that_was_printed_counts_only_where_the_program_ends_well(
    then: str, expected: str
) -> None:
    source = f"print('val_loss: 0.1', flush=True)\n{then}\nprint('val_loss: 0.1')\n"
    result = reporting(source, budget_s=5.0, limits=Limits(log_bytes=1 << 19))
    assert reason(result) == expected


def test_a_program_that_ends_badly_after_its_score_is_told_its_exit_code() -> None:
    outcome = reporting("print('val_loss: 0.1')\nraise SystemExit(3)\n").outcome
    says = "ended with exit code 3 after it printed: val_loss: 0.1"
    assert outcome == Failed(Stage.TRAINING, "crash", says)


def test_a_program_finds_the_harness_s_seed_and_no_data_where_there_is_none() -> None:
    source = "import os\nprint('val_loss:', float(os.environ['EVOLVE_SEED']))\n"
    assert reporting(source + "assert 'EVOLVE_DATA' not in os.environ").outcome == Scored(7.0)


READS = """
import os
from pathlib import Path

data = Path(os.environ["EVOLVE_DATA"])
outside = [data.parent / "secret", data.parent]
for place in outside:
    try:
        place.read_text() if place.is_file() else os.listdir(place)
    except OSError:
        continue
    raise SystemExit(f"{place} can be read")
for name in ("new", "train.txt"):
    try:
        (data / name).write_text("9")
    except OSError:
        continue
    raise SystemExit(f"{name} can be written")
print("val_loss:", sum(float(file.read_text()) for file in data.rglob("*.txt")))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    (folder / "train.txt").write_text("1")
    (folder / "below" / "held_out.txt").write_text("2")
    (tmp_path / "secret").write_text("3")
    return folder


@linux
def test_a_program_reads_its_data_writes_none_of_it_and_reads_nothing_beside_it(data: Path) -> None:
    assert reporting(READS, data).outcome == Scored(3.0)


@linux
def test_the_data_may_be_one_file(data: Path) -> None:
    source = "import os\nprint('val_loss:', open(os.environ['EVOLVE_DATA']).read())"
    assert reporting(source, data / "train.txt").outcome == Scored(1.0)


def test_data_is_known_by_the_names_and_sizes_of_its_files(data: Path, tmp_path: Path) -> None:
    known = listing_sha256(data)
    moved = data.rename(tmp_path / "moved")
    (moved / "train.txt").write_text("7")
    assert listing_sha256(moved) == known
    (moved / "train.txt").write_text("71")
    larger = listing_sha256(moved)
    (moved / "train.txt").rename(moved / "below" / "train.txt")
    one = listing_sha256(moved / "below" / "train.txt")
    assert len({known, larger, listing_sha256(moved), one}) == 4


def test_data_that_cannot_be_listed_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone cannot be listed"):
        listing_sha256(tmp_path / "gone")
