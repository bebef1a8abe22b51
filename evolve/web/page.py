"""What a page about a run shows, read from its published lineage."""

from collections.abc import Iterable, Sequence
from typing import Any

from evolve.evidence import findings
from evolve.reading import Reading
from evolve.web import charts

LEADERS, TOLD = 20, 10
"""Rows of the leaderboard, and how many of the best are told in full."""
_POINTS = """
    SELECT p.n, p.individual, p.value, i.operator, i.name,
        (SELECT min_by(c.hypothesis, a.ordinal) FROM carrier a JOIN change c ON c.id = a.change
         WHERE a.individual = p.individual) AS hypothesis
    FROM progress p JOIN individual i ON i.id = p.individual ORDER BY p.n
"""
_FAILED = """
    SELECT r.n, e.individual, e.reason
    FROM (SELECT evaluation, row_number() OVER (ORDER BY seq) AS n FROM result) r
    JOIN evaluations e USING (evaluation) WHERE e.status = 'failed' ORDER BY r.n
"""
_LEADING = """
    SELECT (SELECT count(*) FROM result r WHERE r.seq < s.seq) AS n, v.individual,
        v.shrunken_mean, v.standard_error
    FROM selection s JOIN survivor v USING (seq) WHERE v.rank = 1
    UNION ALL
    SELECT (SELECT count(*) FROM result), individual, shrunken_mean, standard_error
    FROM leaderboard WHERE rank = 1
    ORDER BY n
"""


def overview(reading: Reading) -> dict[str, Any]:
    """Return everything that the page of a run shows but the details of individuals.

    Raises:
        LineageError: the publication cannot be read.
    """
    found = reading.status()
    leaders = reading.top(LEADERS).objects()
    return found | {
        "findings": findings(reading),
        "founder": _best_founder(reading),
        "leaders": leaders,
        "steps": _steps(reading, leaders),
        "progress": _progress(reading, found["metric"]),
        "curves": _curves(reading, leaders),
        "configuration": reading.configuration(),
        "machines": reading.query("SELECT * FROM comparability WHERE key <> ''").objects(),
        "hashes": {
            name: reading.run()[name]
            for name in ("evaluator_sha256", "data_sha256", "program_sha256")
        },
    }


def told_in_full(found: dict[str, Any]) -> list[int]:
    """Return the ids of the individuals of an overview that a report tells in full."""
    best = [row["individual"] for row in found["leaders"][:TOLD]]
    line = [step["individual"] for step in found["steps"]]
    return list(dict.fromkeys([*best, *line]))


def details(reading: Reading, individuals: Iterable[int]) -> list[dict[str, Any]]:
    """Return what is known of each individual, as `evolve show` tells it.

    Raises:
        LineageError: the run has none with such an id.
    """
    return [reading.individual(one) for one in individuals]


def _best_founder(reading: Reading) -> dict[str, Any] | None:
    rows = reading.query(
        "SELECT individual, name, shrunken_mean FROM leaderboard "
        "WHERE operator = 'founder' ORDER BY rank LIMIT 1"
    )
    return next(iter(rows.objects()), None)


def _steps(reading: Reading, leaders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the best one's line of descent, each step with what it changed."""
    if not leaders:
        return []
    steps = reading.descent(leaders[0]["individual"])
    for step in steps:
        step["changes"] = reading.query(
            "SELECT category, hypothesis, diff FROM diffs WHERE individual = ? ORDER BY ordinal",
            [step["individual"]],
        ).objects()
    return steps


def _progress(reading: Reading, metric: str) -> str | None:
    points = reading.query(_POINTS).objects()
    if not points:
        return None
    failed, leading = reading.query(_FAILED).objects(), reading.query(_LEADING).objects()
    return charts.progress(points, failed, leading, metric)


def _curves(reading: Reading, leaders: Sequence[dict[str, Any]]) -> str | None:
    founder = _best_founder(reading)
    if not leaders or founder is None:
        return None
    ids = dict.fromkeys([leaders[0]["individual"], founder["individual"]])
    curves = {f"#{one}": reading.curve(one) for one in ids}
    return charts.curves({name: curve for name, curve in curves.items() if curve}) or None
