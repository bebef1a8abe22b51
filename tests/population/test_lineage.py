import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal import IDENTITY, family, founded, trial

from population.database import connect
from population.errors import LineageError, RunError
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
    Pace,
    ProposalId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.lineage import DuckLineage, open_published, stored_identity
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
from population.rows import digest
from population.schema import MIGRATIONS

WORKER = Path(__file__).with_name("record_forever.py")
ROOT = Path(__file__).resolve().parents[2]

words = st.text(max_size=12)
numbers = st.floats(allow_nan=False)
whole = st.integers(0, 2**31 - 1)
constants = st.dictionaries(
    words, st.one_of(st.booleans(), st.integers(), numbers, words), max_size=4
)
several: Callable[..., Any] = lambda one: st.lists(one, max_size=3).map(tuple)  # noqa: E731
genomes = st.builds(Genome, words)
changes = several(st.builds(Change, words, words, words))
attempts = st.builds(
    Attempt,
    *(words, words, numbers, numbers, whole, whole, whole, whole, words, words, words, words),
    prompt=words,
    answer=words,
)
individuals = st.builds(
    Individual,
    id=st.just(IndividualId(0)),
    genome=genomes,
    parents=several(whole),
    operator=words,
    name=words,
    structure=words,
    fingerprint=words,
    constants=constants,
    changes=changes,
    proposal=whole,
    program_sha256=words,
)
proposals = st.builds(
    Proposal,
    operator=words,
    parents=several(whole),
    genome=st.none() | genomes,
    structure=words,
    fingerprint=words,
    constants=constants,
    changes=changes,
    refusal=words,
    attempts=several(attempts),
)
requests = st.builds(
    Request,
    id=st.just(EvaluationId(0)),
    individual=whole,
    genome=genomes,
    seed=whole,
    shard=words,
    purpose=st.sampled_from(Purpose),
    attempt=st.integers(1, 9),
)
results = st.builds(
    Result,
    request=st.just(EvaluationId(0)),
    outcome=st.builds(Scored, numbers)
    | st.builds(Failed, st.sampled_from(Stage), reason=words, detail=words),
    comparability=st.builds(Comparability, words, words, words, st.integers(1, 99), words, words),
    measurements=several(st.builds(Measurement, words, numbers, words)),
    log=words,
    curve=several(st.tuples(numbers, numbers)),
    contended=st.booleans(),
    host=words,
    device=words,
    sandbox=several(words),
    started_at=numbers,
    ended_at=numbers,
)
records = st.one_of(
    st.builds(Founded, individuals),
    st.builds(Proposed, st.just(ProposalId(0)), proposals, st.none() | individuals),
    st.builds(Started, requests),
    st.builds(Ended, results),
    st.just(Abandoned(EvaluationId(0))),
    st.builds(Selected, whole, numbers, several(st.tuples(whole, numbers, numbers))),
    st.builds(Pinned, whole, st.booleans()),
)


def numbered(number: int, record: Record) -> Record:
    """Give a record ids that no other record of the run has."""
    match record:
        case Founded(one):
            return Founded(replace(one, id=IndividualId(number)))
        case Proposed(_, proposal, child):
            child = child and replace(child, id=IndividualId(number))
            return Proposed(ProposalId(number), proposal, child)
        case Started(request):
            return Started(replace(request, id=EvaluationId(number)))
        case Ended(result):
            return Ended(replace(result, request=EvaluationId(number)))
        case Abandoned():
            return Abandoned(EvaluationId(number))
    return record


@settings(max_examples=15, deadline=None)
@given(st.lists(records, max_size=12))
def test_replay_yields_the_very_records_in_their_order(drawn: list[Record]) -> None:
    made = [numbered(number, record) for number, record in enumerate(drawn, 1)]
    with tempfile.TemporaryDirectory() as name:
        with DuckLineage.open(Path(name), IDENTITY) as lineage:
            for record in made:
                lineage.record(record)
            assert list(lineage.replay()) == made
        with DuckLineage.open(Path(name), IDENTITY) as lineage:
            assert list(lineage.replay()) == made


def test_the_order_of_constants_survives(tmp_path: Path) -> None:
    unsorted = {"z": 1, "a": 2.0, "m": True}
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(Founded(replace(founded(1).individual, constants=unsorted)))
        (record,) = lineage.replay()
    assert isinstance(record, Founded)
    assert [*map(repr, record.individual.constants.items())] == [*map(repr, unsorted.items())]


def test_records_that_name_earlier_texts_are_replayed_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("population.replay.CHUNK", 4)
    made: list[Record] = [founded(1)]
    genome = founded(1).individual.genome
    request = Request(EvaluationId(1), IndividualId(1), genome, 3, "selection", Purpose.RACE)
    made += [Started(replace(request, id=EvaluationId(n))) for n in range(9)]
    made += [founded(2), Started(replace(request, id=EvaluationId(9)))]
    made += [Started(replace(request, id=EvaluationId(10), pace=Pace(61.0, 2e9, "key")))]
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in made:
            lineage.record(record)
        assert list(lineage.replay()) == made


def test_text_that_is_no_unicode_is_stored_with_question_marks(tmp_path: Path) -> None:
    *_, ended = trial(1, 1, 2.0)
    assert isinstance(ended, Ended)
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(Ended(replace(ended.result, log="a\udcffb")))
        (stored,) = lineage.replay()
    assert isinstance(stored, Ended)
    assert stored.result.log == "a?b"


def test_a_record_that_is_refused_leaves_nothing_and_the_next_goes_on(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(founded(1))
        with pytest.raises(LineageError, match="holds already"):
            lineage.record(founded(1, "again"))
        lineage.record(founded(2))
        assert list(lineage.replay()) == [founded(1), founded(2)]
        assert lineage.seq == 2


def test_a_version_of_program_md_is_kept_once_and_is_no_record(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(founded(1))
        first = lineage.keep_program("be bold\n")
        assert lineage.keep_program("be bold\n") == first
        lineage.record(founded(2))
        assert lineage.seq == 3
        assert list(lineage.replay()) == [founded(1), founded(2)]
        lineage.publish()
        with open_published(tmp_path) as reader:
            versions = reader.execute("SELECT sha256, program FROM programs").fetchall()
    assert versions == [(first, "be bold\n")]


def test_a_run_keeps_the_identity_that_it_began_with(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path / "run", IDENTITY):
        pass
    later = replace(IDENTITY, seed=8, created_at=9.0, configuration="{}", program_sha256="q" * 64)
    with DuckLineage.open(tmp_path / "run", later) as lineage:
        assert lineage.identity() == IDENTITY
    assert stored_identity(tmp_path / "run") == IDENTITY


@pytest.mark.parametrize("name", ["task", "evaluator_sha256", "data_sha256", "metric"])
def test_a_run_of_something_else_is_not_continued(tmp_path: Path, name: str) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(founded(1))
    with pytest.raises(RunError, match=f"{name} {getattr(IDENTITY, name)[:12]}, not another"):
        DuckLineage.open(tmp_path, replace(IDENTITY, **{name: "another"}))
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        assert list(lineage.replay()) == [founded(1)]


def test_a_folder_without_a_run_has_no_identity(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        stored_identity(tmp_path)


def test_a_folder_whose_name_the_database_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="question mark"):
        DuckLineage.open(tmp_path / "why?", IDENTITY)


DAMAGED = re.compile(
    r"duckdb is damaged, or no database of DuckDB: .*Put a sound copy in its place"
)


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    for name in ("state.duckdb", "lineage.duckdb"):
        (tmp_path / name).write_bytes(b"not a database" * 1000)
    with pytest.raises(LineageError, match=f"state.{DAMAGED.pattern}"):
        DuckLineage.open(tmp_path, IDENTITY)
    with pytest.raises(LineageError, match=f"lineage.{DAMAGED.pattern}"):
        open_published(tmp_path)


@pytest.mark.parametrize("kept", [0.5, 1.0])
def test_a_database_that_was_cut_or_overwritten_is_told_as_damaged(
    tmp_path: Path, kept: float
) -> None:
    with DuckLineage.open(tmp_path, IDENTITY):
        pass
    file = tmp_path / "state.duckdb"
    whole = file.read_bytes()
    cut = whole[: int(kept * len(whole))]
    file.write_bytes(cut[: 3 << 12] + bytes(len(cut) - (3 << 12)))
    with pytest.raises(LineageError, match=DAMAGED):
        DuckLineage.open(tmp_path, IDENTITY)


def test_a_torn_end_of_what_was_recorded_last_costs_no_more_than_that(tmp_path: Path) -> None:
    records = [founded(number) for number in range(1, 6)]
    with DuckLineage.open(tmp_path / "run", IDENTITY) as lineage:
        for record in records:
            lineage.record(record)
        torn = shutil.copytree(tmp_path / "run", tmp_path / "torn")  # as when the power goes now
    log = torn / "state.duckdb.wal"
    written = log.read_bytes()
    log.write_bytes(written[:-20] + bytes(20))
    with pytest.raises(LineageError, match=r"damaged from byte \d+ on.*Keep a copy") as told:
        DuckLineage.open(torn, IDENTITY)
    size = re.search(r"truncate --size=(\d+) ([^`]+)`", str(told.value))
    assert size is not None
    os.truncate(size[2], int(size[1]))
    with DuckLineage.open(torn, IDENTITY) as lineage:
        assert list(lineage.replay()) == records[:-1]


def test_a_run_of_a_newer_schema_is_not_touched(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage._connection.execute("INSERT INTO migration VALUES (999, 0)")
    with pytest.raises(LineageError, match="schema 999"):
        DuckLineage.open(tmp_path, IDENTITY)


def worker(
    folder: Path, *, publish_every: int = 20, file_bytes: int | None = None
) -> subprocess.Popen[str]:
    """Start a process that records founders for ever and prints each number once it is stored."""

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), str(publish_every)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{WORKER.parent}"},
        preexec_fn=limit,  # noqa: PLW1509 -- no threads run here
    )


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return (line.strip() for line in process.stdout)


def test_a_run_that_another_process_holds_names_the_holder(tmp_path: Path) -> None:
    process = worker(tmp_path)
    try:
        next(lines(process))
        with pytest.raises(LineageError, match=rf"held by process {process.pid}\b"):
            DuckLineage.open(tmp_path, IDENTITY)
        with pytest.raises(LineageError, match=rf"held by process {process.pid}\b"):
            stored_identity(tmp_path)
    finally:
        process.kill()
        process.communicate()


def test_no_acknowledged_record_is_lost_when_the_driver_is_killed(tmp_path: Path) -> None:
    acknowledged = 0
    dice = random.Random(5)
    for _ in range(5):
        process = worker(tmp_path)
        reading = lines(process)
        acknowledged = int(next(reading))
        for _ in range(dice.randrange(200)):
            acknowledged = int(next(reading))
        process.kill()
        acknowledged = max([acknowledged, *map(int, process.communicate()[0].split())])
        assert stored_identity(tmp_path) == IDENTITY
        with DuckLineage.open(tmp_path, IDENTITY) as lineage:
            stored = list(lineage.replay())
            assert stored == [founded(n) for n in range(1, len(stored) + 1)]
            assert acknowledged <= len(stored) <= acknowledged + 1
        with open_published(tmp_path) as reader:
            ((seen, bodies),) = reader.execute(
                "SELECT (SELECT count(*) FROM individual), (SELECT count(source) FROM sources)"
            ).fetchall()
        assert 0 <= seen == bodies <= len(stored)
    assert not list(tmp_path.glob("*.tmp*"))


def test_a_full_disk_is_an_error_and_what_was_acknowledged_is_kept(tmp_path: Path) -> None:
    process = worker(tmp_path, publish_every=10**9, file_bytes=100_000)
    said, error = process.communicate(timeout=60)[0].split("LineageError: ")
    acknowledged = said.split()
    assert "free space" in error
    assert len(acknowledged) > 3
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        stored = list(lineage.replay())
        assert stored[: len(acknowledged)] == [founded(n) for n in range(1, len(acknowledged) + 1)]
        lineage.record(founded(len(stored) + 1))


@contextmanager
def full_disk(file_bytes: int) -> Iterator[None]:
    """Let no file of this process grow past so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_driver_that_waits_for_space_goes_on_where_it_was(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        lineage.record(founded(1))
        lineage.publish()
        with full_disk(200), pytest.raises(LineageError, match="free space"):
            lineage.record(founded(2))
        with full_disk(50_000), pytest.raises(LineageError, match="free space"):
            lineage.publish()
        with open_published(tmp_path) as reader:
            assert reader.execute("SELECT count(*) FROM sources").fetchall() == [(1,)]
        lineage.record(founded(2))
        lineage.publish()
        with open_published(tmp_path) as reader:
            assert reader.execute("SELECT count(*) FROM sources").fetchall() == [(2,)]
        assert list(lineage.replay()) == [founded(1), founded(2)]


def test_a_whole_family_is_replayed(tmp_path: Path) -> None:
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in family():
            lineage.record(record)
        assert list(lineage.replay()) == list(family())


def test_a_quarantine_and_its_end_are_replayed(tmp_path: Path) -> None:
    first, second = IndividualId(1), IndividualId(2)
    records = [
        *family(),
        Quarantined(second, first, 0.5, 0.1),
        Cleared(second, True, 0.4),
        Quarantined(first, second, 0.25, 0.125),
        Cleared(first, False, None),
    ]
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in records:
            lineage.record(record)
        assert list(lineage.replay()) == records


OLD_RUN = """
    INSERT INTO run VALUES ('toy', 'train.py', 'loss', 'minimize', -1.0, 'selection', '{e}', '{d}',
        '{p}', 7, 1.5, '{{"mu": 4}}');
    INSERT INTO record VALUES (1, 'founded', 2.0), (2, 'proposed', 3.0);
    INSERT INTO text VALUES (1, 'source', '{source}', 'FOUNDER = 1'), (2, 'prompt', '1.2', 'breed');
    INSERT INTO individual VALUES (1, 1, 'founder', 'first', '{source}', 's', 'f', 0, '{p}');
    INSERT INTO proposal VALUES (2, 1, 'nudge', NULL, 'no', [1], NULL, '', '', '{{}}', []);
    INSERT INTO attempt VALUES (1, 1, 'step', 'no', 0.5, 0.0, 0, 0, 0),
        (1, 2, 'call', 'no', 1.5, 0.25, 10, 20, 5);
"""


def old_run(folder: Path) -> None:
    """Write a run as a version with schema 2 left it."""
    with connect(folder / "state.duckdb") as connection:
        connection.execute("CREATE TABLE migration (number INTEGER, applied_at DOUBLE)")
        for number, script in enumerate(MIGRATIONS[:2], 1):
            connection.execute(script)
            connection.execute("INSERT INTO migration VALUES (?, 1.0)", [number])
        source = digest("FOUNDER = 1")
        filled = OLD_RUN.format(e="e" * 64, d="d" * 64, p="p" * 64, source=source)
        connection.execute(filled)


def test_a_run_of_an_older_schema_is_continued_with_all_that_it_held(tmp_path: Path) -> None:
    old_run(tmp_path)
    assert stored_identity(tmp_path) == IDENTITY
    step = Attempt("step", "no", 0.5)
    call = Attempt("call", "no", 1.5, 0.25, 10, 20, 5, prompt="breed")
    later = Attempt("edit", "no", 2.0, 0.5, 30, 40, 7, 9, "m", "low", "end_turn", "f" * 64)
    founder = Individual(
        IndividualId(1),
        Genome("FOUNDER = 1"),
        (),
        "founder",
        "first",
        "s",
        "f",
        program_sha256="p" * 64,
    )
    parents = (IndividualId(1),)
    refusals = [
        Proposed(
            ProposalId(number), Proposal("nudge", parents, None, refusal="no", attempts=own), None
        )
        for number, own in ((1, (step, call)), (2, (later,)))
    ]
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        assert list(lineage.replay()) == [Founded(founder), refusals[0]]
        assert lineage.spent() == (0.25, 30)
        lineage.record(refusals[1])
        lineage.publish()
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        assert list(lineage.replay()) == [Founded(founder), *refusals]
        assert lineage.spent() == (0.75, 100)
    with open_published(tmp_path) as reader:
        calls = reader.execute("SELECT proposal, model, tokens_written FROM calls").fetchall()
        prompts = reader.execute("SELECT proposal, ordinal, prompt FROM prompts").fetchall()
    assert calls == [(2, "m", 9)]
    assert prompts == [(1, 2, "breed")]


def test_an_old_run_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    described = []
    for name in ("old", "new"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "old":
            old_run(folder)
        DuckLineage.open(folder, IDENTITY).close()
        with connect(folder / "state.duckdb") as connection:
            columns = "SELECT table_name, column_name, data_type FROM duckdb_columns() ORDER BY ALL"
            described.append(connection.execute(columns).fetchall())
    assert described[0] == described[1]
    assert ("attempt", "tokens_written", "BIGINT") in described[0]


def test_what_earlier_runs_left_is_replayed_as_it_was(tmp_path: Path) -> None:
    best = Precedent(IndividualId(17), Genome("FOUNDER = 1\n"), "s", "f", 0.5, founds=True)
    other = Precedent(IndividualId(3), Genome("OTHER = 1\n"), "s", "g", -0.25)
    kept = replace(best, individual=IndividualId(2), fitness=None)
    brought = Brought(
        (Earlier("night", "a note\nanother", (best, other)), Earlier("day", "", (kept,), "why"))
    )
    made = [brought, *family()]  # its first founder is the program that was brought
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        for record in made:
            lineage.record(record)
        assert list(lineage.replay()) == made
    with DuckLineage.open(tmp_path, IDENTITY) as lineage:
        assert list(lineage.replay()) == made
