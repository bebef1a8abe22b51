"""A folder of this machine's own texts: the same each time, and no more than was asked for."""

from pathlib import Path

import pytest

from bench.texts import gather


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "place"
    place.mkdir()
    for number in range(9):
        (place / f"{number}.py").write_text("a line of source\n" * 20)  # 340 bytes
    (place / "README").write_text("words " * 50)
    (place / "short.py").write_text("x")
    (place / "image.png").write_bytes(bytes(400))
    (place / "link.py").symlink_to(place / "0.py")
    return place


def test_texts_are_copied_once_and_nothing_else(place: Path, tmp_path: Path) -> None:
    assert gather(tmp_path / "all", [place], 1e6) == (10, 9 * 340 + 300)
    copied = [path.name.partition("-")[2] for path in (tmp_path / "all").iterdir()]
    assert sorted(copied) == [*(f"{number}.py" for number in range(9)), "README"]
    assert not any(path.is_symlink() for path in (tmp_path / "all").iterdir())


def test_a_smaller_folder_holds_the_beginning_of_a_larger_one(place: Path, tmp_path: Path) -> None:
    files, total = gather(tmp_path / "some", [place], 1_400)
    assert files >= 4
    assert total <= 1_400
    gather(tmp_path / "all", [place], 1e6)
    some, everything = (
        sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("some", "all")
    )
    assert some == everything[: len(some)]


def test_a_folder_that_is_there_is_left_alone(place: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        gather(tmp_path, [place], 1e6)
