"""A record as rows of tables."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple

from population.history import Earlier
from population.individual import Change, Failed, Genome, Individual, Request, Result, Scored
from population.ports import (
    Abandoned,
    Brought,
    Cleared,
    Ended,
    Founded,
    Pinned,
    Proposed,
    Quarantined,
    Record,
    Selected,
    Started,
)

Value = str | int | float | bool | None | Sequence[str] | Sequence[int] | Sequence[dict[str, float]]
Row = tuple[Value, ...]
Rows = dict[str, list[Row]]
"""Rows by the table that they go into, each in the order of its columns."""


def rows_of(seq: int, record: Record) -> Rows:
    """Return what is stored of one record.

    Args:
        seq: its number within the run.
        record: what happened.

    Returns:
        Rows in the column order of `population/schema.py`. Strings can be stored as UTF-8: a
        lone surrogate, which no text that people write contains, has become a question mark.
    """
    match record:
        case Brought(earlier):
            rows = _brought(seq, earlier)
        case Founded(individual):
            rows = _individual(seq, individual)
        case Proposed():
            rows = _proposed(seq, record)
        case Started(request):
            rows = _request(seq, request)
        case Ended(result):
            rows = _result(seq, result)
        case Abandoned(request_id):
            rows = {"abandoned": [(seq, request_id)]}
        case Selected():
            rows = _selected(seq, record)
        case Quarantined():
            rows = {"quarantine": [(seq, *astuple(record))]}
        case Cleared():
            rows = {"clearance": [(seq, *astuple(record))]}
        case Pinned():
            rows = {"pin": [(seq, *astuple(record))]}
    return {table: [tuple(map(storable, row)) for row in own] for table, own in rows.items()}


def kind_of(record: Record) -> str:
    """Return the word under which the journal keeps a record: `founded`, `proposed` ..."""
    return type(record).__name__.lower()


def digest(body: str) -> str:
    """Return the hex SHA-256 of a text; equals `Genome.sha256` for any genome that can be run."""
    return hashlib.sha256(body.encode(errors="replace")).hexdigest()


def storable(value: Value) -> Value:
    """Return a value that UTF-8 can carry: itself, unless it is a string with lone surrogates."""
    if isinstance(value, str) and not value.isascii():
        return value.encode(errors="replace").decode()
    return value


def _brought(seq: int, earlier: Sequence[Earlier]) -> Rows:
    numbered = list(enumerate(earlier, 1))
    left = [(n, m, one) for n, run in numbered for m, one in enumerate(run.precedents, 1)]
    return {
        "earlier": [(seq, n, run.run, run.withheld) for n, run in numbered],
        "precedent": [
            (
                seq,
                n,
                m,
                one.individual,
                digest(one.genome.source),
                one.structure,
                one.fingerprint,
                one.fitness,
                one.founds,
            )
            for n, m, one in left
        ],
        "text": [
            *(text for n, run in numbered for text in _texts(seq, str(n), memory=run.memory)),
            *(_source(seq, one.genome) for _, _, one in left),
        ],
    }


def _individual(seq: int, individual: Individual) -> Rows:
    own = individual.id
    source = digest(individual.genome.source)
    changes, texts = _changes(seq, individual.changes)
    return {
        "individual": [
            (
                seq,
                own,
                individual.operator,
                individual.name,
                source,
                individual.structure,
                individual.fingerprint,
                individual.proposal,
                individual.program_sha256,
            )
        ],
        "parent": [(own, n, parent) for n, parent in enumerate(individual.parents, 1)],
        "constant": [
            (own, n, name, json.dumps(value))
            for n, (name, value) in enumerate(individual.constants.items(), 1)
        ],
        "change": changes,
        "carrier": [(own, n, _change_id(one)) for n, one in enumerate(individual.changes, 1)],
        "text": [_source(seq, individual.genome), *texts],
    }


def _proposed(seq: int, record: Proposed) -> Rows:
    proposal, own = record.proposal, record.id
    child = record.individual
    changes, texts = _changes(seq, proposal.changes)
    if proposal.genome is not None:
        texts.append(_source(seq, proposal.genome))
    for n, attempt in enumerate(proposal.attempts, 1):
        texts += _texts(seq, f"{own}.{n}", prompt=attempt.prompt, answer=attempt.answer)
    rows: Rows = {
        "proposal": [
            (
                seq,
                own,
                proposal.operator,
                child.id if child else None,
                proposal.refusal,
                list(proposal.parents),
                digest(proposal.genome.source) if proposal.genome else None,
                proposal.structure,
                proposal.fingerprint,
                json.dumps(dict(proposal.constants)),
                [_change_id(one) for one in proposal.changes],
            )
        ],
        "attempt": [(own, n, *astuple(one)[:-2]) for n, one in enumerate(proposal.attempts, 1)],
        "change": changes,
        "text": texts,
    }
    return _joined(rows, _individual(seq, child)) if child else rows


def _request(seq: int, request: Request) -> Rows:
    return {
        "evaluation": [
            (
                seq,
                request.id,
                request.individual,
                digest(request.genome.source),
                request.seed,
                request.shard,
                request.purpose.value,
                request.attempt,
                *((None, None, None) if request.pace is None else astuple(request.pace)),
            )
        ],
        "text": [_source(seq, request.genome)],
    }


def _result(seq: int, result: Result) -> Rows:
    own = result.request
    comparability = result.comparability
    outcome: Row
    match result.outcome:
        case Scored(value):
            outcome = (value, None, None, None)
        case Failed(stage, reason, detail):
            outcome = (None, stage.value, reason, detail)
    return {
        "result": [
            (
                seq,
                own,
                *outcome,
                comparability.key,
                result.contended,
                result.host,
                result.device,
                list(result.sandbox),
                result.started_at,
                result.ended_at,
                [{"spent": spent, "loss": loss} for spent, loss in result.curve],
            )
        ],
        "comparability": [(comparability.key, *astuple(comparability))],
        "measurement": [(own, n, *astuple(one)) for n, one in enumerate(result.measurements, 1)],
        "text": _texts(seq, str(own), log=result.log),
    }


def _selected(seq: int, record: Selected) -> Rows:
    return {
        "selection": [(seq, record.generation, record.sigma)],
        "survivor": [
            (seq, record.generation, rank, *member) for rank, member in enumerate(record.members, 1)
        ],
    }


def _changes(seq: int, changes: Iterable[Change]) -> tuple[list[Row], list[Row]]:
    rows: list[Row] = []
    texts: list[Row] = []
    for change in changes:
        key = digest(change.diff)
        rows.append((seq, _change_id(change), key, change.hypothesis, change.category))
        texts.append((seq, "diff", key, change.diff))
    return rows, texts


def _change_id(change: Change) -> str:
    return digest(json.dumps([change.diff, change.hypothesis, change.category]))


def _source(seq: int, genome: Genome) -> Row:
    return seq, "source", digest(genome.source), genome.source


def _texts(seq: int, key: str, **bodies: str) -> list[Row]:
    return [(seq, kind, key, body) for kind, body in bodies.items() if body]


def _joined(first: Rows, second: Rows) -> Rows:
    return {table: [*first.get(table, []), *second.get(table, [])] for table in {**first, **second}}
