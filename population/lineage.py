"""The memory of a run: every record in `state.duckdb`, published for others to read."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from population.database import Connection, DatabaseError, connect, refusals, transaction
from population.errors import RunError
from population.identity import (
    STATE,
    RunIdentity,
    migrate,
    read_identity,
    require_same,
    stored_identity,
)
from population.individual import IndividualId
from population.ports import Record
from population.publishing import Publisher, open_published
from population.replay import Replay
from population.rows import Row, Rows, digest, kind_of, rows_of, storable
from population.schema import SHARED
from population.statistics import Estimate

__all__ = ["DuckLineage", "RunIdentity", "open_published", "stored_identity"]

ROWS_AT_ONCE = 500
MIN_INTERVAL_S = 2.0
REST_PER_WORK = 100.0
"""Publishing rests this many times as long as it worked: it takes 1% of the time at most."""


class DuckLineage:
    """The `Lineage` of one run folder, and the only writer there.

    One thread uses it: the driver's. `record` returns when the record is on disk; killed at any
    moment, the next `open` finds every record that had returned.
    """

    def __init__(self, connection: Connection, folder: Path, identity: RunIdentity) -> None:
        self._connection = connection
        self._path = folder / STATE
        self._identity = identity
        self._seq = 0
        self._shared: set[tuple[object, ...]] = set()
        self._catch_up()
        self._publisher = Publisher(connection, folder)
        self._published_seq = -1
        self._due_at = float("-inf")

    @classmethod
    def open(cls, folder: Path, identity: RunIdentity, evaluator: Path | None = None) -> Self:
        """Create the run in `folder`, or continue the one that is there.

        Args:
            folder: the run's folder; created if missing.
            identity: what the run is about. A run that exists keeps the seed, the configuration
                and the time with which it was created.
            evaluator: the locked file, to be named where it is another than that of the run.

        Returns:
            The lineage, held against other processes until it is closed.

        Raises:
            RunError: the folder holds a run of another task, evaluator or data, or cannot hold
                one.
            LineageError: another process holds it, the disk refuses, or a newer version wrote it.
        """
        if "?" in str(folder.resolve()):
            raise RunError(
                f"{folder} cannot hold a run: DuckDB takes the question mark in its path for the "
                f"start of an option. Choose a folder without one."
            )
        with refusals(folder):
            folder.mkdir(parents=True, exist_ok=True)
        connection = connect(folder / STATE)
        try:
            with refusals(folder / STATE):
                migrate(connection, folder / STATE, identity)
                stored = read_identity(connection)
                require_same(folder, stored, identity, evaluator)
                return cls(connection, folder, stored)
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def seq(self) -> int:
        """Number of the latest record, 0 before the first."""
        return self._seq

    def identity(self) -> RunIdentity:
        """Return what the run was created for."""
        return self._identity

    def record(self, record: Record) -> None:
        """Store one finished thing durably, in one transaction.

        Args:
            record: what happened. Ids of individuals, proposals and evaluations are new.

        Raises:
            LineageError: the disk refuses or an id was there already; nothing of it is stored.
        """
        self._commit(kind_of(record), rows_of(self._seq + 1, record))

    def keep_program(self, text: str) -> str:
        """Store a version of `program.md`, once.

        Args:
            text: the whole file.

        Returns:
            Its hex SHA-256, as `Individual.program_sha256` names it.

        Raises:
            LineageError: the disk refuses.
        """
        name = digest(text)
        with refusals(self._path):
            known = self._query("SELECT 1 FROM program WHERE sha256 = $1", [name])
        if not known:
            seq = self._seq + 1
            rows: Rows = {
                "program": [(seq, name)],
                "text": [(seq, "program", name, storable(text))],
            }
            self._commit("program", rows)
        return name

    def spent(self) -> tuple[float, int]:
        """Return what all proposals up to now have cost: USD, and tokens read and written.

        Raises:
            LineageError: the database cannot be read.
        """
        with refusals(self._path):
            sums = "coalesce(sum(cost_usd), 0), coalesce(sum(tokens_in + tokens_out), 0)"
            ((usd, tokens),) = self._query(f"SELECT {sums} FROM attempt", ())
        return float(usd), int(tokens)

    def dearest(self) -> dict[str, float]:
        """Return what the dearest call of each language model has cost, in USD.

        Raises:
            LineageError: the database cannot be read.
        """
        with refusals(self._path):
            query = "SELECT model, max(cost_usd) FROM attempt WHERE model <> '' GROUP BY model"
            return {model: float(usd) for model, usd in self._query(query, ())}

    def replay(self) -> Iterator[Record]:
        """Yield every record up to now, equal to what was recorded and in that order.

        Raises:
            LineageError: the database cannot be read.
        """
        with refusals(self._path):
            yield from Replay(self._query).records(self._seq)

    def publish(self, ranks: Mapping[IndividualId, Estimate] | None = None) -> None:
        """Publish all records for other processes to read.

        Args:
            ranks: what the records say of each scored individual, in units of the metric: the
                leaderboard's order. None: what the last publication was given stays.

        Raises:
            LineageError: the disk refuses; the earlier publication stays.
        """
        if ranks is not None:
            self._keep_ranks(ranks)
        self._publisher.publish(self._seq, time.time())
        self._published_seq = self._seq

    def _keep_ranks(self, ranks: Mapping[IndividualId, Estimate]) -> None:
        rows: list[Row] = [(who, one.mean, one.standard_error) for who, one in ranks.items()]
        with refusals(self._path), transaction(self._connection):
            self._connection.execute("DELETE FROM estimate")
            for first in range(0, len(rows), ROWS_AT_ONCE):
                self._insert("estimate", rows[first : first + ROWS_AT_ONCE])

    def publish_if_due(
        self, now: float, ranks: Callable[[], Mapping[IndividualId, Estimate]] | None = None
    ) -> bool:
        """Publish if something is new and the last publication is long enough ago.

        Args:
            now: seconds of any clock that does not go back, the same at each call.
            ranks: returns what `publish` is to be given; asked where it publishes.

        Returns:
            Whether it published.

        Raises:
            LineageError: as `publish`.
        """
        if self._published_seq == self._seq or now < self._due_at:
            return False
        begun = time.perf_counter()
        try:
            self.publish(ranks() if ranks else None)
        finally:
            duration_s = time.perf_counter() - begun
            self._due_at = now + duration_s + max(MIN_INTERVAL_S, REST_PER_WORK * duration_s)
        return True

    def close(self) -> None:
        """Let go of the run. Publishes nothing."""
        self._connection.close()

    def _query(self, query: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._connection.execute(query, parameters).fetchall()
        return rows

    def _commit(self, kind: str, rows: Rows) -> None:
        seq = self._seq + 1
        with refusals(self._path):
            try:
                with transaction(self._connection):
                    self._insert("record", [(seq, kind, time.time())])
                    for table, own in rows.items():
                        self._insert(table, self._new(table, own))
                self._seq = seq
            except BaseException:
                with contextlib.suppress(DatabaseError):
                    self._catch_up()
                raise

    def _new(self, table: str, rows: list[Row]) -> list[Row]:
        if table not in SHARED:
            return rows
        named = {(table, *(row[place] for place in SHARED[table])): row for row in rows}
        new = {name: row for name, row in named.items() if name not in self._shared}
        self._shared |= new.keys()
        return list(new.values())

    def _insert(self, table: str, rows: list[Row]) -> None:
        if rows:
            places = ", ".join("(" + ", ".join("?" * len(row)) + ")" for row in rows)
            values = [value for row in rows for value in row]
            self._connection.execute(f"INSERT INTO {table} VALUES {places}", values)

    def _catch_up(self) -> None:
        """Learn from the database what it holds: on opening, and after a failed commit."""
        ((self._seq,),) = self._query("SELECT coalesce(max(seq), 0) FROM record", ())
        self._shared.clear()
        for table, places in SHARED.items():
            named = [f"#{place + 1}" for place in places]
            rows = self._query(f"SELECT {', '.join(named)} FROM {table}", ())
            self._shared.update((table, *row) for row in rows)
