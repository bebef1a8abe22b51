"""What a run is about, and the state database that is made for it."""

import json
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from population.database import Connection, connect, refusals, transaction
from population.errors import LineageError, RunError
from population.schema import MIGRATIONS
from population.task import Direction

STATE = "state.duckdb"
DIGITS = 12
"""Of a hash, where a person is told of it."""
_FIXED = ("task", "artifact", "metric", "direction", "evaluator_sha256", "data_sha256")


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What a run is about, fixed when it is created.

    Attributes:
        task, artifact, metric: names, as in `Task`.
        evaluator_sha256, data_sha256: what scores are comparable under; they and the task must
            be the same whenever the run is continued.
        program_sha256: of `program.md` at the start. seed: of the search.
        created_at: UNIX seconds. configuration: of the run, as JSON.
        selection_shard: name of the shard whose scores rank individuals.
        conditions: what else of the task decides scores (command, limits, cores ...), by the names
            that people know, as JSON; what a run of an older version does not tell is not compared.
    """

    task: str
    artifact: str
    metric: str
    direction: Direction
    evaluator_sha256: str
    data_sha256: str
    program_sha256: str
    seed: int
    created_at: float
    configuration: str = "{}"
    selection_shard: str = "selection"
    conditions: str = "{}"


def stored_identity(folder: Path) -> RunIdentity:
    """Return what the run in `folder` was created for, without taking hold of it.

    Args:
        folder: the run's folder.

    Returns:
        The identity with which `DuckLineage.open` continues it.

    Raises:
        RunError: there is no run.
        LineageError: another process holds it, or it cannot be read.
    """
    path = folder / STATE
    if not path.exists():
        raise RunError(f"{folder} holds no run ({STATE}). Start one with `evolve run`.")
    with connect(path, read_only=True) as connection, refusals(path):
        if not _version(connection):
            raise RunError(f"{folder} holds a run that never began. Remove it and start again.")
        return read_identity(connection)


def _version(connection: Connection) -> int:
    begun = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'migration'"
    if connection.execute(begun).fetchone() == (0,):
        return 0
    (version,) = connection.execute("SELECT max(number) FROM migration").fetchone() or (0,)
    return int(version)


def migrate(connection: Connection, path: Path, identity: RunIdentity) -> None:
    """Bring a state database to the newest schema; make one of an empty file.

    Args:
        connection: to the database.
        path: where it lies, for messages.
        identity: written into a new one; one that exists keeps its own.

    Raises:
        LineageError: a newer version of this program wrote it.
    """
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise LineageError(
            f"{path} has schema {version}; this program knows {len(MIGRATIONS)} and older. "
            f"Continue the run with the newer version that wrote it."
        )
    with transaction(connection):
        if version == 0:
            connection.execute("CREATE TABLE migration (number INTEGER, applied_at DOUBLE)")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            connection.execute(script)
            connection.execute("INSERT INTO migration VALUES (?, ?)", [number, time.time()])
        if version == 0:
            names = [*(field.name for field in fields(identity)), "fitness_sign"]
            values = [*astuple(identity), identity.direction.fitness(1.0)]
            places = ", ".join("?" * len(names))
            connection.execute(f"INSERT INTO run ({', '.join(names)}) VALUES ({places})", values)


def read_identity(connection: Connection) -> RunIdentity:
    """Return the identity that a state database was made with; an old one may lack a part."""
    cursor = connection.execute("SELECT * FROM run")
    names = [column[0] for column in cursor.description or ()]
    (values,) = cursor.fetchall()
    row = dict(zip(names, values, strict=True))
    known = {field.name: row[field.name] for field in fields(RunIdentity) if field.name in row}
    return RunIdentity(**known | {"direction": Direction(row["direction"])})


def require_same(
    folder: Path, stored: RunIdentity, given: RunIdentity, evaluator: Path | None
) -> None:
    """Compare what makes scores comparable.

    Args:
        folder: of the run.
        stored: what it was created for.
        given: what it is to be continued for.
        evaluator: the locked file, for the message.

    Raises:
        RunError: something differs; names all of it.
    """
    remedy = (
        "Restore what the run began with, or start another run under another name (--from "
        f"{folder.name} takes its programs over)."
    )
    for name in _FIXED:
        old, new = getattr(stored, name), getattr(given, name)
        if old != new:
            if name.endswith("sha256"):
                old, new = old[:DIGITS], new[:DIGITS]
            file = f" ({evaluator})" if evaluator and name == "evaluator_sha256" else ""
            raise RunError(
                f"{folder} holds a run of {name} {old}, not {new}{file}: their scores do not "
                f"compare. {remedy}"
            )
    if changed := "; ".join(_changed(stored.conditions, given.conditions)):
        raise RunError(
            f"the task has changed since the run in {folder} began, and scores of the two do not "
            f"compare: {changed}. {remedy}"
        )


def _changed(stored: str, given: str) -> Iterator[str]:
    old, new = json.loads(stored), json.loads(given)
    for name in old:
        if name in new and old[name] != new[name]:
            yield f"{name} was {json.dumps(old[name])}, is {json.dumps(new[name])}"
