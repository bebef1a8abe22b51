"""What a page about a run shows, read from its published lineage."""

import math
from collections.abc import Sequence
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
_STANDING = """
    SELECT individual AS whose, shrunken_mean, evaluations FROM leaderboard
    WHERE individual IN {some}
"""
_CHANGES = """
    SELECT individual AS whose, category, hypothesis, diff FROM diffs
    WHERE individual IN {some} ORDER BY ordinal
"""


def overview(reading: Reading) -> dict[str, Any]:
    """Return everything that the page of a run shows but the details of individuals.

    Raises:
        LineageError: the publication cannot be read.
    """
    found, run = reading.status(), reading.run()
    leaders, founder = reading.top(LEADERS).objects(), _best_founder(reading)
    return found | {
        "published_at": reading.query("SELECT published.at FROM published").rows[0][0],
        "findings": findings(reading),
        "founder": founder,
        "leaders": leaders,
        "ranked": reading.query("SELECT count(*) FROM means").rows[0][0],
        "steps": _steps(reading, leaders, found["sigma"]),
        "progress": _progress(reading, found["metric"]),
        "curves": _curves(reading, [*leaders[:1], *([founder] if founder else [])]),
        "configuration": reading.configuration(),
        "machines": reading.query("SELECT * FROM comparability WHERE key <> ''").objects(),
        "hashes": {name: run[f"{name}_sha256"] for name in ("evaluator", "data", "program")},
    }


def told_in_full(found: dict[str, Any]) -> list[int]:
    """Return the ids of the individuals of an overview that a report tells in full."""
    best = [row["individual"] for row in found["leaders"][:TOLD]]
    line = [step["individual"] for step in found["steps"]]
    donors = [other for step in found["steps"] for other in step["others"] or ()]
    return list(dict.fromkeys([*best, *line, *donors]))


def _best_founder(reading: Reading) -> dict[str, Any] | None:
    rows = reading.query(
        "SELECT individual, name, shrunken_mean FROM leaderboard "
        "WHERE operator = 'founder' ORDER BY rank LIMIT 1"
    )
    return next(iter(rows.objects()), None)


def _steps(
    reading: Reading, leaders: Sequence[dict[str, Any]], sigma: float | None
) -> list[dict[str, Any]]:
    """Return the best one's line of descent: each step's changes, and whether its gain is clear."""
    if not leaders:
        return []
    line = reading.descent(leaders[0]["individual"])
    ids = [step["individual"] for step in line]
    standings, changes = reading.each(_STANDING, ids), reading.each(_CHANGES, ids)
    unknown: dict[str, Any] = {"shrunken_mean": None, "evaluations": 0}
    told: list[dict[str, Any]] = []
    for one, step in zip(ids, line, strict=True):
        own = (standings[one] or [unknown])[0]
        parents = told[-1]["evaluations"] if told else 0
        certain = _is_certain(step["gain"], sigma, (own["evaluations"], parents))
        told.append(step | own | {"certain": certain, "changes": changes[one]})
    return told


def _is_certain(gain: float | None, sigma: float | None, counts: Sequence[int]) -> bool:
    """Whether a difference of two means is more than the noise of single scores explains (95%)."""
    if gain is None or not sigma or not all(counts):
        return False
    return abs(gain) > 1.96 * sigma * math.sqrt(sum(1 / count for count in counts))


def _progress(reading: Reading, metric: str) -> str | None:
    points = reading.query(_POINTS).objects()
    if not points:
        return None
    failed, leading = reading.query(_FAILED).objects(), reading.query(_LEADING).objects()
    return charts.progress(points, failed, leading, metric)


def _curves(reading: Reading, whose: Sequence[dict[str, Any]]) -> str | None:
    ids = list(dict.fromkeys(one["individual"] for one in whose))
    curves = {f"#{one}": curve for one, curve in reading.curves(ids).items() if curve}
    return charts.curves(curves) or None
