"""Reads a run's published lineage: what `status`, `top`, `show`, `lineage` and `query` answer."""

import json
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from evolve.details import Grouped, curves, details, grouped
from evolve.disturbed import DISTURBED_SCORES
from evolve.live import elsewhere, is_over, is_running, read_live
from evolve.taskfile import load_task
from population.database import Connection, refusals
from population.errors import LineageError, RunError, TaskError
from population.lineage import open_published
from population.publishing import PUBLISHED
from population.task import EvaluatorKind, Task
from population.views import TEXT_VIEWS, THIN_VIEWS

READS = threading.RLock()
"""Held by the thread that reads: DuckDB shows all readers of a path in one process what the first
of them has opened, though it was replaced since."""
PAUSE_S = 120.0
"""Where nothing trains for so long, no `evolve run` was at work: a call keeps its slots busy."""
_PER_HOUR = """
    WITH trained AS (
        SELECT started_at, ended_at, max(ended_at) OVER (
            ORDER BY started_at, ended_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS busy_until
        FROM evaluations WHERE ended_at > started_at
    )
    SELECT 3600 * count(*) / nullif(max(ended_at) - min(started_at)
        - coalesce(sum(started_at - busy_until) FILTER (started_at - busy_until > ?), 0), 0)
    FROM trained
"""
_HEAD = """
    SELECT i.id AS whose, i.id, i.name, i.operator, i.proposal, r.recorded_at AS born_at
    FROM individual i JOIN record r ON r.seq = i.seq WHERE i.id IN {some}
"""
_UNPROTECTED = """
    SELECT individual, count(*) FROM evaluations
    WHERE status = 'scored' AND NOT protected GROUP BY individual
"""
_DISTURBED = f"SELECT individual, disturbed FROM {DISTURBED_SCORES} WHERE disturbed > 0"


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a query: column names and rows."""

    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def objects(self) -> list[dict[str, Any]]:
        """Return one dict per row; of columns that share a name, later ones are `name_1` and on."""
        names = _distinct(self.names)
        return [dict(zip(names, row, strict=True)) for row in self.rows]


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, later ones of the same made different as DuckDB does in a subquery."""
    found: list[str] = []
    for name in names:
        counted = (f"{name}_{number}" for number in count(1))
        taken = {*found, *names}
        found.append(name if name not in found else next(n for n in counted if n not in taken))
    return found


def find_run(runs: Path, name: str | None) -> Path:
    """Return the folder of the named run, or of the one that was published last.

    Raises:
        RunError: there is none, or it has published nothing yet.
    """
    if name is not None:
        if (runs / name / PUBLISHED).is_file():
            return runs / name
        raise RunError(_absent(runs, name))
    known = known_runs(runs)
    if not known:
        raise RunError(f"no run in {runs.resolve()}; start one with `evolve run`, or name --runs")
    return runs / known[0]


def known_runs(runs: Path) -> list[str]:
    """Return the names of all runs that have published something, the latest first."""
    found = [file for file in runs.glob(f"*/{PUBLISHED}") if file.is_file()]
    found.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.parent.name for file in found]


def _absent(runs: Path, name: str) -> str:
    if (runs / name).is_dir():
        return f"run {name} has published nothing yet; ask again in a minute"
    known = sorted(known_runs(runs))
    return f"no run {name} in {runs.resolve()}; known: {', '.join(known) or 'none'}"


class Reading:
    """A published lineage, open for reading while it is a context; in one thread at a time."""

    _connection: Connection

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> "Reading":
        with ExitStack() as held:
            held.enter_context(READS)
            self._connection = held.enter_context(closing(open_published(self.folder)))
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def query(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Return what a statement answers.

        Raises:
            LineageError: DuckDB refuses it.
        """
        with refusals(self.folder / PUBLISHED, (*THIN_VIEWS, *TEXT_VIEWS)):
            cursor = self._connection.execute(sql, list(values))
            names = tuple(column[0] for column in cursor.description or ())
            return Rows(names, tuple(cursor.fetchall()))

    def require_statement(self, sql: str) -> None:
        """Refuse a text that asks nothing: it is empty, or a comment.

        Raises:
            LineageError: so it is, or it is no SQL.
        """
        if sql.encode(errors="replace").decode() != sql:
            raise LineageError("the statement holds characters that UTF-8 cannot carry")
        with refusals(self.folder / PUBLISHED):
            if not self._connection.extract_statements(sql):
                raise LineageError(
                    f"a statement in SQL is expected, such as 'FROM leaderboard LIMIT 5'; got "
                    f"{sql!r}; docs/lineage.md lists the views"
                )

    def write_parquet(self, sql: str, file: Path) -> None:
        """Write what a statement answers to a Parquet file.

        Raises:
            LineageError: DuckDB refuses the statement or the file.
        """
        target, asked = str(file).replace("'", "''"), sql.strip().rstrip(";")
        self.query(f"COPY ({asked}\n) TO '{target}' (FORMAT parquet)")  # it may end in a comment

    def run(self) -> dict[str, Any]:
        """Return the run's identity: task, metric, direction, hashes, seed."""
        return self.query("SELECT * FROM run").objects()[0]

    def configuration(self) -> dict[str, Any]:
        """Return what the run was born with: task folder, data, budget and the search's options."""
        found: dict[str, Any] = json.loads(self.run()["configuration"])
        return found

    def task(self) -> Task:
        """Return the run's task, as its folder tells it now.

        Raises:
            TaskError: the folder is no longer where it was, or is at fault.
        """
        stored = self.configuration()
        folder = Path(stored["task"])
        if not folder.is_dir():
            raise TaskError(
                f"the task of run {self.folder.name} lay in {folder} and is no longer there: move "
                "it back, or let a link there lead to it"
            )
        return load_task(folder, stored["budget"], stored["data"], stored.get("device", "cpu"))

    def self_reported(self) -> bool:
        """Whether the programs of this run report their own scores; what is old never does."""
        told = json.loads(self.run().get("conditions") or "{}")
        return bool(told.get("evaluator.kind") == EvaluatorKind.REPORTED)

    def top(self, limit: int) -> Rows:
        """Return the best individuals: `leaderboard`, without the rarely needed columns."""
        pinned = ", pinned" if self._knows_pins() else ""
        return self.query(
            "SELECT rank, individual, name, operator, generation, shrunken_mean, standard_error, "
            f"mean, evaluations, failures, alive, parents, born_at, quarantine{pinned}, disturbed, "
            f"?::BOOLEAN AS self_reported FROM leaderboard JOIN {DISTURBED_SCORES} "
            "USING (individual) ORDER BY rank LIMIT ?",
            [self.self_reported(), limit],
        )

    def pinned(self) -> list[int]:
        """Return whom somebody wants among the survivors."""
        if not self._knows_pins():
            return []
        found = self.query(
            "SELECT individual FROM pin GROUP BY individual HAVING max_by(pinned, seq) ORDER BY 1"
        )
        return [individual for (individual,) in found.rows]

    def _knows_pins(self) -> bool:
        """Whether a version that knows pins has published it."""
        known = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'pin'"
        return bool(self.query(known).rows[0][0])

    def last_individual(self) -> int:
        """Return the highest id that is published, 0 where there is none."""
        return int(self.query("SELECT coalesce(max(id), 0) FROM individual").rows[0][0])

    def doubts(self) -> dict[str, Any]:
        """Return what `caveats` tells of the scores of the whole run."""
        told = self.doubts_of(None).values()
        return {
            "self_reported": self.self_reported(),
            "unprotected": sum(one["unprotected"] for one in told),
            "disturbed": sum(one["disturbed"] for one in told),
            "ranking_scores": self.query("SELECT count(*) FROM counted").rows[0][0],
        }

    def doubts_of(self, individuals: Sequence[int] | None) -> dict[int, dict[str, Any]]:
        """Return what `caveats` tells of the scores of each individual.

        Args:
            individuals: their ids; None: of all of whose scores there is something to tell.
        """
        reported = self.self_reported()
        counts: dict[int, int] = {}
        if self.run()["data_sha256"] and not reported:
            counts = dict(self.query(_UNPROTECTED).rows)
        disturbed: dict[int, int] = dict(self.query(_DISTURBED).rows)
        of = counts.keys() | disturbed.keys() if individuals is None else individuals
        return {
            one: {
                "self_reported": reported,
                "unprotected": counts.get(one, 0),
                "disturbed": disturbed.get(one, 0),
            }
            for one in of
        }

    def leader(self) -> int:
        """Return the id of the best individual.

        Raises:
            LineageError: nothing is scored yet.
        """
        best = self.top(1).objects()
        if not best:
            raise LineageError("nothing is scored in this run yet; `evolve status` tells why")
        return int(best[0]["individual"])

    def individual(self, individual: int) -> dict[str, Any]:
        """Return all that is known about one individual.

        Raises:
            LineageError: the run has none with this id.
        """
        return self.individuals([individual])[0]

    def individuals(self, individuals: Sequence[int]) -> list[dict[str, Any]]:
        """Return all that is known about each of several individuals, in their order.

        Raises:
            LineageError: the run has none with such an id.
        """
        heads = self.each(_HEAD, individuals)
        if unknown := [one for one in individuals if not heads[one]]:
            raise self._unknown(unknown[0])
        doubts, pinned = self.doubts_of(individuals), self.pinned()
        over = is_over(read_live(self.folder / "live.json"))
        told = zip(individuals, details(self._ask, individuals, over), strict=True)
        return [heads[one][0] | own | doubts[one] | {"pinned": one in pinned} for one, own in told]

    def _unknown(self, individual: int) -> LineageError:
        last = self.last_individual()
        return LineageError(f"individual {individual} does not exist; ids go from 1 to {last}")

    def _ask(self, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        return self.query(sql, values).objects()

    def each(self, question: str, individuals: Sequence[int]) -> Grouped:
        """Return the rows about each of several individuals.

        Args:
            question: a statement in which `{some}` stands for all of them, and whose column `whose`
                tells whom a row is about.
            individuals: their ids.

        Raises:
            LineageError: DuckDB refuses it.
        """
        return grouped(self._ask, question, individuals)

    def curves(self, individuals: Sequence[int]) -> dict[int, list[dict[str, float]]]:
        """Return the losses that the last training of each with any reported: `spent`, `loss`.

        `spent` is the share of the budget, 0..1.
        """
        return curves(self._ask, individuals)

    def descent(self, individual: int) -> list[dict[str, Any]]:
        """Return the line from the founder down to the individual, with other parents and gains.

        Each step: individual, operator, name, mean, gain over its first parent, others, and its
        `doubts`.
        """
        if not self.each(_HEAD, [individual])[individual]:
            raise self._unknown(individual)
        steps = self.query(
            "SELECT d.ancestor AS individual, d.operator, d.name, d.mean, d.gain, "
            "list(p.parent ORDER BY p.ordinal) FILTER (p.ordinal > 1) AS others "
            "FROM line_of_descent d LEFT JOIN parent p ON p.individual = d.ancestor "
            "WHERE d.individual = ? "
            "GROUP BY d.ancestor, d.operator, d.name, d.mean, d.gain, d.depth "
            "ORDER BY d.depth DESC",
            [individual],
        ).objects()
        doubts = self.doubts_of([step["individual"] for step in steps])
        return [step | doubts[step["individual"]] for step in steps]

    def status(self) -> dict[str, Any]:
        """Return what the run does now, as of its last publication and of `live.json`."""
        live = read_live(self.folder / "live.json")
        best = self.top(1).objects()
        run = self.run()
        published_at = float(self.query("SELECT published.at FROM published").rows[0][0])
        return {
            "run": self.folder.name,
            "folder": str(self.folder),
            **{key: run[key] for key in ("task", "metric", "direction", "seed")},
            "running": is_running(live),
            "elsewhere": elsewhere(live),
            "paused": bool(live and is_running(live) and live.get("paused")),
            "exam": live.get("exam") if live and is_running(live) else None,
            "pinned": self.pinned(),
            "published_s_ago": max(0.0, time.time() - published_at),
            "best": best[0] if best else None,
            **self._counts(),
            **self.doubts(),
            "operators": self.query("SELECT * FROM operators").objects(),
            "models": self._models(),
            "failures": self.query("SELECT * FROM failures").objects(),
            "waste": next(iter(self.query("SELECT * FROM waste").objects()), None),
            "live": live if is_running(live) else None,
        }

    def _models(self) -> list[dict[str, Any]]:
        return self.query(
            "SELECT model, count(*) AS calls, count(*) FILTER (outcome = 'accepted') AS accepted, "
            "count(*) FILTER (stop_reason = 'refusal') AS refusals, "
            "count(*) FILTER (stop_reason = '') AS unanswered, "
            "sum(tokens_in) AS tokens_in, "
            "sum(tokens_cached) / nullif(sum(tokens_in), 0) AS cached, "
            "sum(tokens_out) AS tokens_out, sum(cost_usd) AS cost_usd, "
            "avg(duration_s) AS seconds, max_by(outcome, (proposal, ordinal)) AS latest "
            "FROM calls GROUP BY model ORDER BY model"
        ).objects()

    def _counts(self) -> dict[str, Any]:
        return self.query(
            "SELECT count(*) FILTER (status = 'scored' AND purpose <> 'rung') AS scored, "
            "count(*) FILTER (status = 'failed') AS failed, "
            "count(DISTINCT individual) FILTER (status = 'scored' AND purpose = 'rung') AS short, "
            "count(DISTINCT individual) FILTER (purpose = 'screen' AND individual IN (SELECT "
            "individual FROM evaluation WHERE purpose = 'rung')) AS let_through, "
            "(SELECT count(*) FROM individual) AS individuals, "
            "(SELECT coalesce(max(generation), 0) FROM selection) AS generation, "
            "(SELECT coalesce(sum(cost_usd), 0) FROM attempt) AS cost_usd, "
            "(SELECT count(*) FROM quarantine) - (SELECT count(*) FROM clearance) AS held, "
            "count(*) FILTER (purpose = 'confirm') AS confirmation_readings, "
            "count(*) FILTER (purpose = 'exam') AS exam_readings, "
            "(SELECT sigma FROM selection ORDER BY seq DESC LIMIT 1) AS sigma "
            "FROM evaluations"
        ).objects()[0] | {"evaluations_per_hour": self.query(_PER_HOUR, [PAUSE_S]).rows[0][0]}
