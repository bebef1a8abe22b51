"""What others may read of a run: `lineage.duckdb` and the Parquet segments beside it.

Everything here can be made again from `state.duckdb`; a reader can neither block nor harm it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from population.database import Connection, connect, refusals, transaction
from population.errors import RunError
from population.schema import TEXT
from population.views import MACROS, TEXT_VIEWS, THIN_VIEWS

PUBLISHED = "lineage.duckdb"
SEGMENTS = "segments"
FAN_IN = 32
"""So many segments of one level are merged into one of the next."""
RETENTION_S = 3600.0
"""How long a merged segment's parts stay for whoever reads an older publication."""


def open_published(folder: Path) -> Connection:
    """Open the published lineage of a run for reading, during the run and after.

    Works too where the folder was moved or copied since: the views that join texts then read the
    segments that lie beside the database. A connection shows the run as it was when it was
    opened; open another to see more.

    Args:
        folder: the run's folder.

    Returns:
        A read-only connection; the caller closes it.

    Raises:
        RunError: nothing has been published there.
        LineageError: the file cannot be read.
    """
    path = folder / PUBLISHED
    if not path.exists():
        raise RunError(
            f"{folder} holds no published lineage ({PUBLISHED}). Name the folder of a run, or "
            f"start one with `evolve run`."
        )
    connection = connect(path, read_only=True)
    with refusals(path):
        at_home = connection.execute("SELECT folder FROM published").fetchone()
        if at_home != (str(folder.resolve()),):
            numbers = connection.execute(_ACTIVE).fetchall()
            _create_text_views(connection, folder, (number for (number,) in numbers), "TEMP VIEW")
    return connection


class Publisher:
    """Publishes what a state database holds. Used from the thread that owns the connection.

    New texts go into a segment of their own. Each `FAN_IN` segments of a level become one of the
    next level, so that a text is copied a few times at most and readers open few files. A segment
    is complete before it has its name, and the database that names it comes after it: whenever
    the process is killed, what is published is consistent.
    """

    def __init__(self, connection: Connection, folder: Path) -> None:
        """Take over the folder: remove what an interrupted publication left, restore segments.

        Args:
            connection: the open state database, which alone has write access.
            folder: the run's folder.

        Raises:
            LineageError: the folder cannot be written.
        """
        self._connection = connection
        self._folder = folder
        with refusals(folder):
            (folder / SEGMENTS).mkdir(exist_ok=True)
            leftovers = [*folder.glob(f"{PUBLISHED}.tmp*"), *(folder / SEGMENTS).glob("*.tmp")]
            for leftover in leftovers:
                leftover.unlink()
            for number, first, last in self._rows("number, first_seq, last_seq", "true"):
                if not _segment(folder, number).exists():
                    self._write_segment(number, first, last)

    def publish(self, last: int, now: float) -> None:
        """Publish every record up to number `last`.

        Args:
            last: number of the latest record.
            now: UNIX seconds.

        Raises:
            LineageError: the disk refuses; what was published before is still there.
        """
        with refusals(self._folder / PUBLISHED):
            self._add_segment(last)
            self._merge_segments(now)
            self._write_snapshot(last, now)
            self._remove_retired(now)

    def _rows(self, columns: str, condition: str) -> list[tuple[int, ...]]:
        query = f"SELECT {columns} FROM segment WHERE {condition} ORDER BY number"
        rows: list[tuple[int, ...]] = self._connection.execute(query).fetchall()
        return rows

    def _add_segment(self, last: int) -> None:
        covered, number = self._totals()
        query = f"SELECT count(*) FROM {TEXT} WHERE seq > ?"
        (new,) = self._connection.execute(query, [covered]).fetchone() or (0,)
        if new or not number:
            self._write_segment(number + 1, covered + 1, last)
            self._connection.execute(
                "INSERT INTO segment VALUES (?, 0, ?, ?, NULL)", [number + 1, covered + 1, last]
            )

    def _totals(self) -> tuple[int, int]:
        query = "SELECT coalesce(max(last_seq), 0), coalesce(max(number), 0) FROM segment"
        covered, number = self._connection.execute(query).fetchone() or (0, 0)
        return covered, number

    def _merge_segments(self, now: float) -> None:
        level = 0
        while True:
            parts = self._rows(
                "number, first_seq, last_seq", f"level = {level} AND retired_at IS NULL"
            )
            if len(parts) < FAN_IN:
                return
            level += 1
            first, last = parts[0][1], parts[-1][2]
            _, newest = self._totals()
            self._write_segment(newest + 1, first, last)
            with transaction(self._connection):
                self._connection.execute(
                    "UPDATE segment SET retired_at = ? WHERE level = ? AND retired_at IS NULL",
                    [now, level - 1],
                )
                self._connection.execute(
                    "INSERT INTO segment VALUES (?, ?, ?, ?, NULL)",
                    [newest + 1, level, first, last],
                )

    def _write_segment(self, number: int, first: int, last: int) -> None:
        path = _segment(self._folder, number)
        unfinished = path.with_suffix(".tmp")
        self._connection.execute(
            f"COPY (SELECT kind, key, body FROM {TEXT} WHERE seq BETWEEN {first} AND {last}) "
            f"TO {_quoted(unfinished)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)"
        )
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)

    def _write_snapshot(self, last: int, now: float) -> None:
        unfinished = self._folder / f"{PUBLISHED}.tmp"
        unfinished.unlink(missing_ok=True)
        self._connection.execute(f"ATTACH {_quoted(unfinished)} AS published (BLOCK_SIZE 16384)")
        try:
            self._connection.execute("USE published")
            self._copy_tables()
            self._connection.execute(
                "CREATE TABLE published AS SELECT ? AS folder, ?::BIGINT AS seq, ?::DOUBLE AS at",
                [str(self._folder.resolve()), last, now],
            )
            for name, query in THIN_VIEWS.items():
                self._connection.execute(f"CREATE VIEW {name} AS {query}")
            for head, query in MACROS.items():
                self._connection.execute(f"CREATE MACRO {head} AS TABLE {query}")
            active = (number for (number,) in self._rows("number", "retired_at IS NULL"))
            _create_text_views(self._connection, self._folder, active, "VIEW")
        finally:
            self._connection.execute("USE state")
            self._connection.execute("DETACH published")
        unfinished.replace(self._folder / PUBLISHED)

    def _copy_tables(self) -> None:
        tables = self._connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'state' "
            f"AND table_name <> '{TEXT}'"
        ).fetchall()
        with transaction(self._connection):
            for (table,) in tables:
                self._connection.execute(f"CREATE TABLE {table} AS FROM state.main.{table}")

    def _remove_retired(self, now: float) -> None:
        condition = f"retired_at < {now - RETENTION_S}"
        for (number,) in self._rows("number", condition):
            _segment(self._folder, number).unlink(missing_ok=True)
        self._connection.execute(f"DELETE FROM segment WHERE {condition}")


_ACTIVE = "SELECT number FROM segment WHERE retired_at IS NULL ORDER BY number"


def _create_text_views(
    connection: Connection, folder: Path, numbers: Iterable[int], what: str
) -> None:
    paths = ", ".join(_quoted(_segment(folder.resolve(), number)) for number in numbers)
    connection.execute(
        f"CREATE {what} {TEXT} AS SELECT kind, key, body FROM read_parquet([{paths}])"
    )
    for name, query in TEXT_VIEWS.items():
        connection.execute(f"CREATE {what} {name} AS {query}")


def _segment(folder: Path, number: int) -> Path:
    return folder / SEGMENTS / f"text-{number:06d}.parquet"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
