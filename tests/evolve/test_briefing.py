from dataclasses import replace
from pathlib import Path

import pytest

import prepare
from evolve.briefing import brief_of, contract_for, place_of
from evolve.taskdata import prepared_before
from evolve.taskfile import REPOSITORY, load_task
from population.errors import DataError, TaskError
from population.task import EvaluatorKind

CONTRACT = """# The contract

Deliver.

## On a processor

Start quickly.

## On a GPU

Compile before the clock.

## Files

One.
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    text = tmp_path / "secret-name.txt"
    text.write_text("\n\n".join(f"{n} " + "words to learn from " * 150 for n in range(400)))
    return prepare.prepare(str(text), tmp_path / "cache", progress=False)


@pytest.mark.parametrize(
    ("scale", "told", "untold"),
    [("cpu", "Start quickly.", "Compile"), ("gpu", "Compile before", "quickly")],
)
def test_a_contract_is_told_without_what_concerns_machines_of_another_size(
    scale: str, told: str, untold: str
) -> None:
    text = contract_for(CONTRACT, scale)
    assert told in text
    assert untold not in text
    assert text.startswith("# The contract\n\nDeliver.")
    assert text.endswith("## Files\n\nOne.\n")


def test_the_default_contract_has_a_section_for_each_size_of_machine() -> None:
    contract = (REPOSITORY / "docs" / "contract.md").read_text(encoding="utf-8")
    assert len({contract, contract_for(contract, "cpu"), contract_for(contract, "gpu")}) == 3


def test_a_model_is_told_the_sizes_and_the_amount_of_training_text_but_no_path(data: Path) -> None:
    place = place_of(load_task(REPOSITORY), data, "a processor's name")
    assert brief_of(load_task(REPOSITORY), place).place == place
    assert "1 core of a processor, 4 GiB" in place
    assert "T = 128, V = 256, forwards of E = 64 rows" in place
    size = prepare._load(data / "train" / "tokens.npy").size
    assert f"{size:,} bytes, each a token: a text of the user's" in place
    assert "secret-name" not in place
    assert str(data.parent) not in place


def test_an_evaluator_that_describes_nothing_is_told_of_by_its_sizes(
    data: Path, tmp_path: Path
) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text(Path(prepare.__file__).read_text().replace("def describe(", "def other("))
    task = replace(load_task(REPOSITORY), evaluator=silent)
    assert place_of(task, data, "").endswith("rows are scored.")


def test_data_that_is_damaged_is_an_error_with_a_remedy_and_no_traceback(data: Path) -> None:
    (data / "manifest.json").unlink()
    with pytest.raises(DataError, match="no prepared data"):
        place_of(load_task(REPOSITORY), data, "")


def test_of_a_task_without_data_or_trainings_nothing_is_made_up() -> None:
    task = load_task(REPOSITORY / "tests" / "tasks" / "polynomial")
    assert place_of(task, None, "") == (
        f"Each program has {task.cores} core of a processor, "
        f"{task.limits.memory_bytes / 2**30:.3g} GiB of the machine's memory and no GPU.\n"
    )
    assert place_of(replace(task, kind=EvaluatorKind.RECORDED), None, "") == ""


def test_a_model_is_told_which_gpu_its_programs_have() -> None:
    task = replace(load_task(REPOSITORY), gpus=1.0, cores=4)
    place = place_of(task, None, "NVIDIA H200")
    assert "4 cores of a processor" in place
    assert "1 GPU (NVIDIA H200)" in place


def test_data_that_an_earlier_call_prepared_is_found_and_none_is_prepared_for_a_prompt(
    data: Path, tmp_path: Path
) -> None:
    task = replace(load_task(REPOSITORY), data=str(tmp_path / "secret-name.txt"))
    assert prepared_before(task, tmp_path / "cache") == data
    assert prepared_before(task, tmp_path / "elsewhere") is None
    assert not (tmp_path / "elsewhere").exists()
    assert prepared_before(replace(task, data=None), tmp_path / "cache") is None


def test_a_contract_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "contract.md").write_bytes(b"\xff")
    task = replace(load_task(REPOSITORY), contract=tmp_path / "contract.md")
    with pytest.raises(TaskError, match=r"contract\.md cannot be read"):
        brief_of(task)
