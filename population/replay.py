"""Rows of tables as the records that they were, in order."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from population.history import Earlier, Precedent
from population.individual import (
    Change,
    Comparability,
    EvaluationId,
    Failed,
    Genome,
    Individual,
    IndividualId,
    Measurement,
    Outcome,
    Pace,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.ports import (
    Abandoned,
    Attempt,
    Brought,
    Cleared,
    Ended,
    Founded,
    Pinned,
    Proposal,
    Proposed,
    Quarantined,
    Record,
    Selected,
    Started,
)

Rows = list[tuple[Any, ...]]
Query = Callable[[str, Sequence[int]], Rows]
"""Runs one SELECT with parameters and returns all its rows."""

CHUNK = 1024
"""Records that are read at once; their logs and prompts are in memory at the same time."""

_INDIVIDUALS = """
    WITH own AS (SELECT * FROM individual WHERE seq BETWEEN $1 AND $2),
    parents AS (
        SELECT individual, list(parent ORDER BY ordinal) AS parents
        FROM parent WHERE individual IN (SELECT id FROM own) GROUP BY individual
    ), constants AS (
        SELECT individual, list(name ORDER BY ordinal) AS names,
            list(value ORDER BY ordinal) AS constants
        FROM constant WHERE individual IN (SELECT id FROM own) GROUP BY individual
    ), changes AS (
        SELECT individual, list(change ORDER BY ordinal) AS changes
        FROM carrier WHERE individual IN (SELECT id FROM own) GROUP BY individual
    )
    SELECT own.seq, own.id, source_sha256, parents, operator, own.name, structure, fingerprint,
        names, constants, changes, proposal, program_sha256
    FROM own
    LEFT JOIN parents ON parents.individual = own.id
    LEFT JOIN constants ON constants.individual = own.id
    LEFT JOIN changes ON changes.individual = own.id
"""
_ATTEMPTS = """
    SELECT a.* FROM attempt a JOIN proposal p ON p.id = a.proposal
    WHERE p.seq BETWEEN $1 AND $2 ORDER BY a.proposal, a.ordinal
"""
_MEASUREMENTS = """
    SELECT m.evaluation, m.name, m.value, m.unit
    FROM measurement m JOIN result r ON r.evaluation = m.evaluation
    WHERE r.seq BETWEEN $1 AND $2 ORDER BY m.evaluation, m.ordinal
"""
_PRECEDENTS = """
    SELECT earlier, individual, source_sha256, structure, fingerprint, fitness, founds
    FROM precedent WHERE seq BETWEEN $1 AND $2 ORDER BY earlier, ordinal
"""
_MEMBERS = """
    SELECT seq, individual, shrunken_mean, standard_error FROM survivor
    WHERE seq BETWEEN $1 AND $2 ORDER BY seq, rank
"""


class Replay:
    """One reading of a run from its first record on.

    Sources and changes are kept as they come by, since later records name them again; whoever
    replays a run keeps its genomes anyway. All other texts go with their chunk.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        self._genomes: dict[str, Genome] = {}
        self._diffs: dict[str, str] = {}
        self._changes: dict[str, Change] = {}
        self._comparabilities: dict[str, Comparability] = {}
        self._texts: dict[tuple[str, str], str] = {}

    def records(self, last: int) -> Iterator[Record]:
        """Yield the records 1 to `last` in order."""
        for first in range(1, last + 1, CHUNK):
            span = (first, min(first + CHUNK - 1, last))
            self._read_texts(span)
            found: dict[int, Record] = {}
            self._brought(span, found)
            individuals = self._individuals(span)
            self._proposals(span, individuals, found)
            found |= {seq: Founded(one) for seq, one in individuals.items() if seq not in found}
            self._evaluations(span, found)
            self._results(span, found)
            self._selections(span, found)
            self._quarantines(span, found)
            self._pins(span, found)
            yield from (found[seq] for seq in sorted(found))

    def _within(self, span: tuple[int, int], columns: str, table: str) -> Rows:
        return self._query(f"SELECT {columns} FROM {table} WHERE seq BETWEEN $1 AND $2", span)

    def _read_texts(self, span: tuple[int, int]) -> None:
        self._texts.clear()
        for kind, key, body in self._within(span, "kind, key, body", "text"):
            if kind == "source":
                self._genomes[key] = Genome(body)
            elif kind == "diff":
                self._diffs[key] = body
            else:
                self._texts[kind, key] = body
        for key, diff, hypothesis, category in self._within(
            span, "id, diff_sha256, hypothesis, category", "change"
        ):
            self._changes[key] = Change(self._diffs[diff], hypothesis, category)

    def _brought(self, span: tuple[int, int], found: dict[int, Record]) -> None:
        precedents: dict[int, list[Precedent]] = defaultdict(list)
        for earlier, individual, source, *fields in self._query(_PRECEDENTS, span):
            one = Precedent(IndividualId(individual), self._genomes[source], *fields)
            precedents[earlier].append(one)
        runs: dict[int, list[Earlier]] = defaultdict(list)
        for seq, number, run, withheld in sorted(self._within(span, "*", "earlier")):
            memory = self._texts.get(("memory", str(number)), "")
            runs[seq].append(Earlier(run, memory, tuple(precedents[number]), withheld))
        found |= {seq: Brought(tuple(own)) for seq, own in runs.items()}

    def _named_changes(self, keys: Sequence[str] | None) -> tuple[Change, ...]:
        return tuple(self._changes[key] for key in keys or ())

    def _individuals(self, span: tuple[int, int]) -> dict[int, Individual]:
        found = {}
        for row in self._query(_INDIVIDUALS, span):
            seq, own, source, parents, operator, name, structure, fingerprint, *rest = row
            names, constants, changes, proposal, program = rest
            values = (json.loads(constant) for constant in constants or ())
            found[seq] = Individual(
                id=IndividualId(own),
                genome=self._genomes[source],
                parents=tuple(parents or ()),
                operator=operator,
                name=name,
                structure=structure,
                fingerprint=fingerprint,
                constants=dict(zip(names or (), values, strict=True)),
                changes=self._named_changes(changes),
                proposal=ProposalId(proposal),
                program_sha256=program,
            )
        return found

    def _proposals(
        self, span: tuple[int, int], individuals: dict[int, Individual], found: dict[int, Record]
    ) -> None:
        attempts: dict[int, list[Attempt]] = defaultdict(list)
        for own, ordinal, *fields in self._query(_ATTEMPTS, span):
            key = f"{own}.{ordinal}"
            texts = (self._texts.get((kind, key), "") for kind in ("prompt", "answer"))
            attempts[own].append(Attempt(*fields, *texts))
        for row in self._within(span, "*", "proposal"):
            seq, own, operator, _, refusal, parents, source, structure, fingerprint, *rest = row
            constants, changes = rest
            proposal = Proposal(
                operator=operator,
                parents=tuple(parents),
                genome=None if source is None else self._genomes[source],
                structure=structure,
                fingerprint=fingerprint,
                constants=json.loads(constants),
                changes=self._named_changes(changes),
                refusal=refusal,
                attempts=tuple(attempts[own]),
            )
            found[seq] = Proposed(ProposalId(own), proposal, individuals.get(seq))

    def _evaluations(self, span: tuple[int, int], found: dict[int, Record]) -> None:
        for row in self._within(span, "*", "evaluation"):
            seq, own, individual, source, seed, shard, purpose, attempt, *pace = row
            request = Request(
                EvaluationId(own),
                IndividualId(individual),
                self._genomes[source],
                seed,
                shard,
                Purpose(purpose),
                attempt,
                None if None in pace else Pace(*pace),
            )
            found[seq] = Started(request)
        for seq, evaluation in self._within(span, "*", "abandoned"):
            found[seq] = Abandoned(EvaluationId(evaluation))

    def _results(self, span: tuple[int, int], found: dict[int, Record]) -> None:
        measurements: dict[int, list[Measurement]] = defaultdict(list)
        for own, *fields in self._query(_MEASUREMENTS, span):
            measurements[own].append(Measurement(*fields))
        for row in self._within(span, "*", "result"):
            seq, own, value, stage, reason, detail, key, contended, host, device, *rest = row
            sandbox, started_at, ended_at, curve = rest
            outcome: Outcome = Scored(value)
            if value is None:
                outcome = Failed(Stage(stage), reason, detail)
            found[seq] = Ended(
                Result(
                    request=EvaluationId(own),
                    outcome=outcome,
                    comparability=self._comparability(key),
                    measurements=tuple(measurements[own]),
                    log=self._texts.get(("log", str(own)), ""),
                    curve=tuple((point["spent"], point["loss"]) for point in curve),
                    contended=contended,
                    host=host,
                    device=device,
                    sandbox=tuple(sandbox),
                    started_at=started_at,
                    ended_at=ended_at,
                )
            )

    def _comparability(self, key: str) -> Comparability:
        if key not in self._comparabilities:
            rows = self._query("SELECT * EXCLUDE (key), key FROM comparability", ())
            self._comparabilities = {own: Comparability(*fields) for *fields, own in rows}
        return self._comparabilities[key]

    def _selections(self, span: tuple[int, int], found: dict[int, Record]) -> None:
        members: dict[int, list[tuple[IndividualId, float, float]]] = defaultdict(list)
        for seq, individual, mean, error in self._query(_MEMBERS, span):
            members[seq].append((IndividualId(individual), mean, error))
        for seq, generation, sigma in self._within(span, "*", "selection"):
            found[seq] = Selected(generation, sigma, tuple(members[seq]))

    def _quarantines(self, span: tuple[int, int], found: dict[int, Record]) -> None:
        for seq, individual, parent, gain, bound in self._within(span, "*", "quarantine"):
            found[seq] = Quarantined(IndividualId(individual), IndividualId(parent), gain, bound)
        for seq, individual, agrees, gain in self._within(span, "*", "clearance"):
            found[seq] = Cleared(IndividualId(individual), agrees, gain)

    def _pins(self, span: tuple[int, int], found: dict[int, Record]) -> None:
        for seq, individual, pinned in self._within(span, "*", "pin"):
            found[seq] = Pinned(IndividualId(individual), pinned)
