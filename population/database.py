"""DuckDB files: how they are opened here, and what their refusals mean to a person."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import duckdb

from population.errors import LineageError

Connection: TypeAlias = duckdb.DuckDBPyConnection
DatabaseError = duckdb.Error

SETTINGS = {
    "threads": 1,  # the cores belong to the candidates, whose scores depend on the clock
    "memory_limit": "1GB",
}
_DAMAGED = re.compile("not a valid DuckDB database|Corrupt database|Could not read enough bytes")
_TORN = re.compile(r"Corrupt WAL file: entry at byte position (?P<byte>\d+)")
_HOLDER = re.compile(r"lock is held in (?P<program>.*?) ?\(PID (?P<pid>\d+)\)", re.DOTALL)


def connect(path: Path, read_only: bool = False) -> Connection:
    """Open a database file.

    Args:
        path: created if missing, unless `read_only`.
        read_only: never write, and share the file with other readers.

    Returns:
        The connection; whoever asked for it closes it.

    Raises:
        LineageError: another process holds the file, or it cannot be read or created.
    """
    with refusals(path):
        connection: Connection = duckdb.connect(path, read_only=read_only, config=SETTINGS)
        return connection


@contextmanager
def refusals(path: Path, views: Collection[str] = ()) -> Iterator[None]:
    """Turn what DuckDB or the file system refuses inside the block into a LineageError.

    Args:
        path: the file at stake, for the message.
        views: what a person may ask there, told where a statement asks for what is not there.

    Raises:
        LineageError: names the file, the cause and the remedy.
    """
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise LineageError(_explain(path, error, views)) from error


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Commit what the block does when it ends, or undo all of it when it raises."""
    try:
        connection.begin()
        yield
        connection.commit()
    except BaseException:
        with suppress(duckdb.Error):  # none is active, or the database is past use: then all is off
            connection.rollback()
        raise


def _explain(path: Path, error: Exception, views: Collection[str]) -> str:
    cause = " ".join(str(error).split())
    held = _HOLDER.search(cause)
    if held:
        return (
            f"{path} is held by process {held['pid']} ({held['program']}). A run has one driver: "
            "wait for it or end it (`evolve stop`). What a run does meanwhile is told by `evolve "
            "status` and lies in lineage.duckdb."
        )
    if isinstance(error, duckdb.ConstraintException):
        return f"{path} refused a record that it holds already or that lacks a part: {cause}"
    torn = _TORN.search(cause)
    if torn:
        return (
            f"{path}.wal, which holds what was recorded last, is damaged from byte {torn['byte']} "
            f"on, as a power cut may leave it. Keep a copy, then `truncate --size={torn['byte']} "
            f"{path}.wal` and continue the run: what was recorded before is kept"
        )
    if isinstance(error, duckdb.Error) and _DAMAGED.search(cause):
        return (
            f"{path} is damaged, or no database of DuckDB: {cause.rstrip('.!')}. Put a sound copy "
            "in its place, or name another run; a lineage.duckdb is made anew when the run goes on"
        )
    disk = duckdb.IOException | duckdb.FatalException | duckdb.TransactionException | OSError
    if isinstance(error, disk):
        return (
            f"{path} cannot be read or written: {cause} Check the free space and the permissions "
            f"there, then continue the run: what was recorded before is kept."
        )
    if views and isinstance(error, duckdb.CatalogException) and "Table with name" in cause:
        unknown = cause.partition(" Did you mean")[0]  # it guesses among DuckDB's own tables
        return f"{path} refused: {unknown} Ask for {', '.join(views)}; see docs/lineage.md"
    return f"{path} refused: {cause}"
