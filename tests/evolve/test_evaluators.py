"""Mistakes in an evaluator of one's own: found before a night is lost, and told by their line."""

import shutil
from pathlib import Path

import pytest

from evolve import doctor
from tests.evolve.conftest import Evolve

RECALL = Path(__file__).parents[2] / "examples" / "recall"


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECALL, tmp_path / "own"))


def edit(task: Path, old: str, new: str) -> None:
    file = task / "recall.py"
    assert file.read_text().count(old) == 1
    file.write_text(file.read_text().replace(old, new))


def trained(evolve: Evolve, task: Path, cache: Path) -> None:
    words = ("--task", task, "--cache", cache, "--budget", "3steps")
    said = evolve("try", task / "seeds" / "attention.py", *words)
    assert said.code == 0, said.out + said.err


def test_doctor_trains_and_scores_the_smallest_program_where_data_is_prepared(
    evolve: Evolve, own_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = doctor.Finding("Ray", doctor.OK, "not looked at: it takes seconds each time")
    monkeypatch.setattr(doctor, "_ray", lambda *_: quick)
    words = ("doctor", "--task", own_task, "--cache", tmp_path / "cache")
    assert "evaluator" not in evolve(*words).out
    (own_task / "mine.py").write_text("BITS = 2.0\n")
    edit(own_task, "import hashlib", "import mine\nimport hashlib")
    edit(own_task, "math.log(2)", "math.log(mine.BITS)")
    trained(evolve, own_task, tmp_path / "cache")
    said = evolve(*words)
    assert said.code == 0, said.out
    assert "bits_per_answer of its smallest program after one step: " in said.out
    edit(own_task, "    nats = 0.0", "    nats = {}['carry']")
    said = evolve(*words)
    assert said.code == 1
    assert "the evaluator recall.py raised KeyError: 'carry' (recall.py, line " in said.out


def test_a_run_whose_evaluator_never_worked_ends_at_its_first_training(
    evolve: Evolve, own_task: Path, tmp_path: Path
) -> None:
    edit(own_task, "    nats = 0.0", "    nats = {}['carry']")
    words = ("--task", own_task, "--cache", tmp_path / "cache", "--runs", tmp_path / "runs")
    said = evolve("run", *words, "--budget", "3steps", "--evaluations", "8")
    assert said.code == 1, said.out
    assert "error: the evaluator recall.py raised KeyError: 'carry' (recall.py, line" in said.err
    assert said.out.count("KeyError") <= 2  # as many as train at once


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    directory = data_dir(", "    raise KeyError('url')\n    directory = data_dir(", "raised KeyError: 'url' (recall.py, line"),
        ("    cache.mkdir(", "    raise OSError('no such server')\n    cache.mkdir(", "error: no such server"),
        ("    return SIZES", "    return None", "raised AttributeError: 'NoneType' object"),
    ],
)  # fmt: skip
def test_what_an_evaluator_raises_is_a_message(
    evolve: Evolve, own_task: Path, tmp_path: Path, old: str, new: str, told: str
) -> None:
    edit(own_task, old, new)
    words = ("--task", own_task, "--cache", tmp_path / "cache", "--budget", "3steps")
    said = evolve("try", own_task / "seeds" / "attention.py", *words)
    assert said.code == 2, said.out
    assert told in said.err
    assert "Traceback" not in said.err + said.out


def test_programs_that_import_the_usual_client_have_the_usual_contract(own_task: Path) -> None:
    from evolve.taskfile import REPOSITORY, load_task

    assert load_task(own_task).contract == REPOSITORY / "docs" / "contract.md"
    (own_task / "prepare.py").write_text((REPOSITORY / "prepare.py").read_text() + "MINE = 1\n")
    assert load_task(own_task).contract is None
