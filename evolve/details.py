"""All that is known about individuals, each question asked once for all of them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from evolve.disturbed import DISTURBED
from mutate.text import where_time_went
from population.individual import SHARE, Measurement

CUT_OFF = "cut off"
"""What is told of an evaluation that was in flight when the last driver of its run ended."""
Ask = Callable[[str, Sequence[Any]], list[dict[str, Any]]]
"""Answers a statement with its values, as one dict per row."""
_QUESTIONS = {
    "standing": (
        "SELECT individual AS whose, * EXCLUDE (name, operator) FROM leaderboard "
        "WHERE individual IN {some}"
    ),
    "parents": (
        "SELECT individual AS whose, parent FROM parent WHERE individual IN {some} ORDER BY ordinal"
    ),
    "constants": (
        "SELECT individual AS whose, name, value FROM constant WHERE individual IN {some} "
        "ORDER BY ordinal"
    ),
    "changes": (
        "SELECT individual AS whose, category, hypothesis, diff FROM diffs "
        "WHERE individual IN {some} ORDER BY ordinal"
    ),
    "calls": (
        "SELECT c.individual AS whose, c.*, p.prompt, p.answer FROM calls c "
        "LEFT JOIN prompts p ON p.proposal = c.proposal AND p.ordinal = c.ordinal "
        "AND p.individual IN {some} WHERE c.individual IN {some} ORDER BY c.proposal, c.ordinal"
    ),
    "evaluations": (
        "SELECT individual AS whose, evaluation, purpose, shard, seed, status, value, stage, "
        "reason, detail, contended, disturbed, foreign_share, device, "
        "ended_at - started_at AS seconds "
        f"FROM evaluations LEFT JOIN {DISTURBED} USING (evaluation) "
        "WHERE individual IN {some} ORDER BY evaluation"
    ),
    "measurements": (
        "SELECT e.individual AS whose, m.evaluation, m.name, m.value, m.unit FROM measurement m "
        "JOIN evaluations e USING (evaluation) WHERE e.individual IN {some} "
        "ORDER BY m.evaluation, m.ordinal"
    ),
    "logs": (
        "SELECT individual AS whose, max_by(log, evaluation) AS log FROM logs "
        "WHERE individual IN {some} AND log <> '' GROUP BY individual"
    ),
    "sources": ("SELECT individual AS whose, source FROM sources WHERE individual IN {some}"),
}
"""Each row tells `whose` it is."""
_CURVES = """
    SELECT e.individual AS whose, max_by(r.curve, e.id) AS curve
    FROM result r JOIN evaluation e ON e.id = r.evaluation
    WHERE e.individual IN {some} AND len(r.curve) > 0 GROUP BY e.individual
"""

Grouped = dict[int, list[dict[str, Any]]]


def grouped(ask: Ask, question: str, individuals: Sequence[int]) -> Grouped:
    """Return the answers about each individual; `{some}` in the question stands for all of them.

    Each row has a column `whose`, which is left out; who has no row has an empty list.
    """
    found: Grouped = defaultdict(list)
    if individuals:
        some = ", ".join(str(int(one)) for one in individuals)
        for row in ask(question.replace("{some}", f"({some})"), ()):
            found[row.pop("whose")].append(row)
    return found


def curves(ask: Ask, individuals: Sequence[int]) -> dict[int, list[dict[str, float]]]:
    """Return the losses that the last training of each with any reported: `spent`, `loss`."""
    found = grouped(ask, _CURVES, individuals)
    return {one: list(found[one][0]["curve"]) if found[one] else [] for one in individuals}


def details(ask: Ask, individuals: Sequence[int], over: bool) -> Iterator[dict[str, Any]]:
    """Yield what is known about each of several individuals that exist, in their order.

    Args:
        ask: answers statements.
        individuals: their ids.
        over: no driver works on the run: what was in flight when it was published is cut off.
    """
    told = {name: grouped(ask, question, individuals) for name, question in _QUESTIONS.items()}
    reported = curves(ask, individuals)
    for one in individuals:
        own = {name: rows[one] for name, rows in told.items()}
        source = own["sources"][0]["source"]
        yield {
            "standing": own["standing"][0] if own["standing"] else None,
            "parents": [row["parent"] for row in own["parents"]],
            "constants": {row["name"]: row["value"] for row in own["constants"]},
            "changes": own["changes"],
            "calls": own["calls"],
            "evaluations": [_unended(row, over) for row in own["evaluations"]],
            "measurements": [row for row in own["measurements"] if row["unit"] != SHARE],
            "time_by_line": _time_by_line(own["measurements"], source),
            "curve": [list(point.values()) for point in reported[one]],
            "log": own["logs"][0]["log"] if own["logs"] else "",
            "source": source,
        }


def _time_by_line(measured: Sequence[Mapping[str, Any]], source: str) -> str:
    """Return where the latest training that tells it spent its time."""
    shares = [row for row in measured if row["unit"] == SHARE]
    latest = [row for row in shares if row["evaluation"] == shares[-1]["evaluation"]]
    return where_time_went(
        [Measurement(row["name"], row["value"], row["unit"]) for row in latest], source
    )


def _unended(row: dict[str, Any], over: bool) -> dict[str, Any]:
    return row | {"status": CUT_OFF} if over and row["status"] == "running" else row
