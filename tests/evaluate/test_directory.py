"""A hostile directory is counted, cleaned and removed without harm."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluate import directory
from evaluate.directory import TooLargeError

DEEP = 5_000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A directory that is removed even where pytest could not do it."""
    made = tmp_path / "candidate"
    made.mkdir()
    yield made
    directory.remove(made)


def nest(top: Path, depth: int, beside: str | None = None) -> None:
    """Make directories inside each other, each with another one beside it where that is named."""
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        if beside is not None:
            os.mkdir(beside, dir_fd=descriptor)
        os.mkdir("deeper", dir_fd=descriptor)
        below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def open_files() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - the listing itself is open, each time


def test_deep_directories_are_counted_and_removed(folder: Path) -> None:
    nest(folder, DEEP)
    before = open_files()
    assert sum(1 for _ in directory.walk(folder)) == DEEP
    directory.check(folder, 1 << 30)
    directory.remove(folder)
    assert not folder.exists()
    assert open_files() == before


def test_whatever_its_modes_a_directory_is_removed(folder: Path) -> None:
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    inner.chmod(0)
    inner.parent.chmod(0)
    directory.remove(folder)
    assert not folder.exists()


def test_what_links_point_to_is_neither_counted_nor_removed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(bytes(1 << 20))
    (folder / "link").symlink_to(outside)
    (folder / "file").symlink_to(outside / "kept")
    directory.check(folder, 1 << 16)
    directory.keep_plain(folder)
    assert list(folder.iterdir()) == []
    (folder / "link").symlink_to(outside)
    directory.remove(folder)
    assert (outside / "kept").exists()


def test_bytes_are_counted_wherever_they_lie(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_bytes(bytes(3 << 20))
    directory.check(folder, 4 << 20)
    with pytest.raises(TooLargeError, match="more than 2097152 bytes"):
        directory.check(folder, 2 << 20)


def test_a_file_with_holes_counts_with_its_size(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(TooLargeError):
        directory.check(folder, 1 << 20)


def test_entries_are_counted(folder: Path) -> None:
    for number in range(directory.MAX_ENTRIES + 1):
        os.mkdir(folder / str(number))  # noqa: PTH102 - thousands of them
    with pytest.raises(TooLargeError, match="files and directories"):
        directory.check(folder, 1 << 40)


def test_a_walk_holds_few_directories_open_and_says_so_where_it_would_need_more(
    folder: Path,
) -> None:
    nest(folder, 300, beside="another")
    before = open_files()
    with pytest.raises(TooLargeError, match="branch"):
        directory.check(folder, 1 << 40)
    assert open_files() == before


def test_only_regular_files_and_directories_stay_for_a_scoring_command(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "answer.json").write_text("{}")
    os.mkfifo(folder / "a" / "pipe")
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to(folder)
    directory.keep_plain(folder)
    assert [entry.name for _, entry in directory.walk(folder)] == ["a", "answer.json"]


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "nothing"])
def test_only_a_regular_file_is_read(kind: str, folder: Path) -> None:
    file = folder / "prepare.py"
    if kind == "pipe":
        os.mkfifo(file)  # opening it for reading would wait for a writer
    elif kind == "link":
        (folder / "target").write_text("the right text")
        file.symlink_to(folder / "target")
    elif kind == "folder":
        file.mkdir()
    assert directory.read_plain(file, 100) is None


def test_a_file_is_read_up_to_a_limit(folder: Path) -> None:
    (folder / "long").write_bytes(bytes(1000))
    assert directory.read_plain(folder / "long", 10) == bytes(10)
