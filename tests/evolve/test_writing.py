"""Files that a run writes: whole or not at all, and nothing beside them."""

from pathlib import Path

import pytest

from evolve.writing import write_text
from population.errors import RunError


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    file = tmp_path / "new" / "live.json"
    for text in ("first", "second"):
        write_text(file, text)
        assert file.read_text() == text
    assert list(file.parent.iterdir()) == [file]


def test_what_cannot_be_written_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    taken = tmp_path / "live.json"
    (taken / "folder").mkdir(parents=True)
    with pytest.raises(RunError, match=r"live\.json cannot be written"):
        write_text(taken, "text")
    assert list(tmp_path.iterdir()) == [taken]
