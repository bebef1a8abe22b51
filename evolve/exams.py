"""What the exams of a run have found, read from its rows: wherever they were exported."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evolve.reading import Reading
from population.blocks import Block
from population.exam import Examination, compared, examination
from population.individual import (
    Comparability,
    EvaluationId,
    Failed,
    IndividualId,
    Measurement,
    Outcome,
    Purpose,
    Result,
    Scored,
    Stage,
)
from population.task import Direction

_ROWS = """
    SELECT evaluation, individual, seed, status, value, stage, reason, detail, contended, host,
        device
    FROM evaluations WHERE purpose = ? ORDER BY started_seq
"""
_COUNTS = """
    SELECT m.evaluation, m.name, m.value FROM measurement m
    JOIN evaluation e ON e.id = m.evaluation
    WHERE e.purpose = ? AND m.name IN ('successes', 'trials')
"""
_WHO = """
    SELECT id, name, operator = 'founder' AS founds FROM individual
    WHERE id IN (SELECT individual FROM evaluation WHERE purpose = ?)
"""
_UNTOLD = Comparability("", "", "", 0, "", "")
"""An exam compares within its pairs, which ran on one device."""


@dataclass(frozen=True, slots=True)
class Exams:
    """All exams of a run.

    Attributes:
        blocks: their pairs by seed, in the order in which they were begun.
        names: of all programs that were examined. founders: which of them are founders.
    """

    blocks: Mapping[int, Block]
    direction: Direction
    names: Mapping[IndividualId, str]
    founders: frozenset[IndividualId]

    def of(self, champion: IndividualId, founder: IndividualId) -> Examination | None:
        """Return what was found of two programs, None where no exam of them was held."""
        if frozenset((champion, founder)) not in compared(self.blocks):
            return None
        return examination(self.blocks, self.direction, champion, founder, self.names)

    def besides(
        self, champion: IndividualId, founder: IndividualId
    ) -> Iterator[tuple[IndividualId, IndividualId, Examination]]:
        """Yield champion, founder and findings of the exams of other programs, first one first."""
        for pair in compared(self.blocks):
            other, against = sorted(pair, key=lambda one: (one in self.founders, one))
            found = self.of(other, against)
            if found is not None and pair != {champion, founder}:
                yield other, against, found


def read_exams(reading: Reading) -> Exams:
    """Return the exams of a run as of its last publication."""
    blocks: dict[int, Block] = {}
    counts: dict[int, list[Measurement]] = defaultdict(list)
    for evaluation, name, value in reading.query(_COUNTS, [Purpose.EXAM]).rows:
        counts[evaluation].append(Measurement(name, value, "1"))
    for row in reading.query(_ROWS, [Purpose.EXAM]).objects():
        block = blocks.setdefault(row["seed"], Block(row["seed"]))
        block.results[IndividualId(row["individual"])] = _result(
            row, counts[row["evaluation"]]
        )  # the latest attempt stands
    who = reading.query(_WHO, [Purpose.EXAM]).objects()
    return Exams(
        blocks,
        Direction(reading.run()["direction"]),
        {IndividualId(row["id"]): row["name"] for row in who},
        frozenset(IndividualId(row["id"]) for row in who if row["founds"]),
    )


def _result(row: Mapping[str, Any], counts: Sequence[Measurement]) -> Result | None:
    """Return how an evaluation ended, None where it runs or was abandoned."""
    outcome: Outcome
    match row["status"]:
        case "scored":
            outcome = Scored(row["value"])
        case "failed":
            outcome = Failed(Stage(row["stage"]), row["reason"], row["detail"])
        case _:
            return None
    return Result(
        EvaluationId(row["evaluation"]),
        outcome,
        _UNTOLD,
        tuple(counts),
        contended=row["contended"],
        host=row["host"],
        device=row["device"],
    )
