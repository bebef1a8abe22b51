import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from journal import IDENTITY, bred, family, founded, trial

from population import publishing
from population.errors import RunError
from population.lineage import DuckLineage, open_published
from population.ports import Ended
from population.views import TEXT_VIEWS, THIN_VIEWS

READER = """
import sys, duckdb
path = sys.argv[1]
reader = duckdb.connect(path, read_only=True)
for line in sys.stdin:
    print(*reader.execute("SELECT count(*), count(source) FROM sources").fetchone(), flush=True)
"""


def seen(folder: Path) -> list[tuple[int, str]]:
    with open_published(folder) as reader:
        rows: list[tuple[int, str]] = reader.execute(
            "SELECT individual, source FROM sources ORDER BY individual"
        ).fetchall()
    return rows


def expected(count: int) -> list[tuple[int, str]]:
    return [(n, founded(n).individual.genome.source) for n in range(1, count + 1)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "segments").iterdir())


def test_a_run_without_any_record_can_be_published_and_queried(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.publish()
    with open_published(tmp_path) as reader:
        for view in (*THIN_VIEWS, *TEXT_VIEWS):
            assert reader.execute(f"FROM {view}").fetchall() == []


def test_all_that_others_may_read_is_there_while_the_run_goes_on(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in family():
            lineage.record(record)
        lineage.publish()
        with duckdb.connect(tmp_path / "lineage.duckdb", read_only=True) as reader:
            logs = reader.execute("SELECT log FROM logs ORDER BY evaluation").fetchall()
            prompts = reader.execute("SELECT prompt, answer FROM prompts ORDER BY ALL").fetchall()
            diffs = reader.execute("SELECT individual, diff FROM diffs ORDER BY ALL").fetchall()
            stated = reader.execute("SELECT seq FROM published").fetchall()
    assert logs == [(f"log of {n}",) for n in (1, 2, 3, 4)]
    assert prompts == [("breed 3", "done"), ("breed 5", "done")]
    assert diffs == [(3, "+CHILD = 3\n"), (5, "+CHILD = 5\n")]
    assert stated == [(len(list(family())),)]


def test_the_heavy_texts_are_not_in_the_published_database(tmp_path: Path) -> None:
    secret = "a text that would be found"
    *_, ended = trial(1, 1, 2.0)
    assert isinstance(ended, Ended)
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.keep_program(secret)
        lineage.publish()
    assert secret.encode() in (tmp_path / "state.duckdb").read_bytes()
    assert secret.encode() not in (tmp_path / "lineage.duckdb").read_bytes()


def test_a_reader_neither_blocks_the_writer_nor_is_harmed(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(founded(1))
        lineage.publish()
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path / "lineage.duckdb")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        for n in range(2, 6):
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline().split() == ["1", "1"]
            lineage.record(founded(n))
            lineage.publish()
        reader.communicate()
        assert reader.returncode == 0
    assert seen(tmp_path) == expected(5)


def test_publishing_does_nothing_when_nothing_is_new(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        assert lineage.publish_if_due(0.0)
        before = (tmp_path / "lineage.duckdb").stat().st_mtime_ns
        assert not lineage.publish_if_due(1e9)
        assert (tmp_path / "lineage.duckdb").stat().st_mtime_ns == before


def test_publishing_rests_a_hundred_times_as_long_as_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 10.5, 20.0, 20.001])
    monkeypatch.setattr("population.lineage.time.perf_counter", lambda: next(clock))
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(founded(1))
        assert lineage.publish_if_due(1000.0)
        lineage.record(founded(2))
        assert not lineage.publish_if_due(1050.0)
        assert lineage.publish_if_due(1050.6)
        lineage.record(founded(3))
        assert not lineage.publish_if_due(1052.5)
    assert len(seen(tmp_path)) == 2


def test_a_new_segment_holds_only_what_is_new(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for n in (1, 2, 3):
            lineage.record(founded(n))
            lineage.publish()
        lineage.publish()
    assert files(tmp_path) == [f"text-00000{n}.parquet" for n in (1, 2, 3)]
    for n in (1, 2, 3):
        path = tmp_path / "segments" / f"text-00000{n}.parquet"
        query = f"SELECT body FROM read_parquet('{path}')"
        with duckdb.connect() as connection:
            assert connection.execute(query).fetchall() == [(expected(n)[-1][1],)]


def test_many_segments_become_few_and_their_parts_stay_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "FAN_IN", 3)
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        publisher = lineage._publisher
        for n in range(1, 13):
            lineage.record(founded(n))
            publisher.publish(lineage.seq, 1000.0)
            assert seen(tmp_path) == expected(n)
        with open_published(tmp_path) as reader:
            active = reader.execute(
                "SELECT level, first_seq, last_seq FROM segment WHERE retired_at IS NULL"
            ).fetchall()
        assert active == [(2, 1, 9), (1, 10, 12)]
        assert len(files(tmp_path)) == 12 + 4 + 1
        publisher.publish(lineage.seq, 1000.0 + publishing.RETENTION_S + 1)
        assert len(files(tmp_path)) == 2
        lineage.record(founded(13))
        lineage.publish()
        assert seen(tmp_path) == expected(13)


def test_a_lost_segment_is_written_again_when_the_run_goes_on(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for n in (1, 2):
            lineage.record(founded(n))
            lineage.publish()
    (tmp_path / "segments" / "text-000001.parquet").unlink()
    with DuckLineage.open(tmp_path, IDENTITY):
        assert seen(tmp_path) == expected(2)


def test_what_a_killed_publication_left_is_removed(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(founded(1))
    (tmp_path / "segments" / "text-000001.tmp").write_bytes(b"half")
    (tmp_path / "segments" / "text-000001.parquet").write_bytes(b"of another life")
    (tmp_path / "lineage.duckdb.tmp").write_bytes(b"half")
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        assert not list(tmp_path.rglob("*.tmp"))
        lineage.publish()
    assert seen(tmp_path) == expected(1)


@pytest.mark.parametrize("name", ["moved", "it's [1]* new", "zwei Wörter"])
def test_a_run_that_was_moved_can_still_be_read_and_continued(tmp_path: Path, name: str) -> None:
    with DuckLineage.open(tmp_path / "old [2]", IDENTITY) as lineage:
        lineage.record(founded(1))
        lineage.publish()
    assert seen(tmp_path / "old [2]") == expected(1)
    shutil.move(tmp_path / "old [2]", tmp_path / name)
    assert seen(tmp_path / name) == expected(1)
    with DuckLineage.open(tmp_path / name, IDENTITY) as lineage:
        lineage.record(founded(2))
        lineage.publish()
    with duckdb.connect(tmp_path / name / "lineage.duckdb", read_only=True) as reader:
        assert reader.execute("SELECT count(source) FROM sources").fetchall() == [(2,)]


def test_the_published_lineage_cannot_be_written(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(bred(1))
        lineage.publish()
    with open_published(tmp_path) as reader, pytest.raises(duckdb.Error, match="read-only"):
        reader.execute("DELETE FROM individual")


def test_a_folder_without_a_publication_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no published lineage"):
        open_published(tmp_path)
