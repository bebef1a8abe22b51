"""Results that come from outside: what lies in a run's folder, and what a search gets to know."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluate.awaited import NOTE_CHARACTERS, Awaited, Recorded, awaited, read_result, record
from evaluate.outside import Outside
from evolve.taskfile import REPOSITORY, load_task
from population.errors import PoolError, RunError
from population.individual import (
    KILLED,
    EvaluationId,
    Failed,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)

LEAFLET = REPOSITORY / "tests" / "tasks" / "leaflet"
PROGRAM = "LINES = 3\n"


def request(number: int, individual: int = 1, purpose: Purpose = Purpose.SCREEN) -> Request:
    genome = Genome(PROGRAM)
    seed = 100 + number
    return Request(EvaluationId(number), IndividualId(individual), genome, seed, "all", purpose)


@pytest.fixture
def outside(tmp_path: Path) -> Callable[[], Outside]:
    """Return what makes the port, as each driver of one run does."""
    return lambda: Outside(load_task(LEAFLET), tmp_path, slots=3)


def ended(port: Outside) -> list[Result]:
    return port.wait(0.0)


def test_a_program_lies_there_until_its_result_does_and_comes_back_exactly_once(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    port = outside()
    port.submit(request(1))
    port.submit(request(2, individual=7))
    assert ended(port) == []
    first, second = awaited(tmp_path)
    assert (first.individual, second.individual) == (1, 7)
    assert first.program.read_text() == PROGRAM
    record(second, Recorded(value=0.5, note="on a sunny day"))
    (result,) = ended(port)
    assert result.request == 2
    assert result.outcome == Scored(0.5)
    assert result.log == "on a sunny day"
    assert result.started_at == second.since <= result.ended_at
    assert ended(port) == []
    assert [one.individual for one in awaited(tmp_path)] == [1]


def test_counts_become_their_ratio_and_stay_known() -> None:
    found = Recorded(successes=37, trials=120)
    assert found.outcome == Scored(37 / 120)
    assert {one.name: one.value for one in found.measurements} == {"successes": 37, "trials": 120}


def test_a_program_that_does_not_work_has_failed_in_scoring() -> None:
    assert Recorded(failed="it is empty").outcome == Failed(
        Stage.SCORING, "rejected", "it is empty"
    )


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"value": 1.0, "failed": "no"},
        {"value": 1.0, "successes": 1, "trials": 2},
        {"value": float("nan")},
        {"value": True},
        {"value": "1"},
        {"successes": 3},
        {"successes": 3, "trials": 2},
        {"successes": -1, "trials": 2},
        {"successes": 0, "trials": 0},
        {"successes": 1.0, "trials": 2},
        {"successes": 1, "trials": 10**400},
        {"value": 10**400},
        {"failed": 3},
        {"value": 1.0, "note": 3},
    ],
)
def test_what_is_no_result_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        Recorded(**said)  # type: ignore[arg-type]


def test_a_result_that_was_recorded_while_no_driver_worked_is_taken_by_the_next(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    before = outside()
    before.submit(request(1))
    before.close()
    record(*awaited(tmp_path), Recorded(value=2.0))
    after = outside()
    again = Request(EvaluationId(9), IndividualId(1), Genome(PROGRAM), 101, "all", Purpose.SCREEN)
    after.submit(again)
    (result,) = ended(after)
    assert (result.request, result.outcome) == (9, Scored(2.0))


def test_a_result_that_was_taken_and_never_stored_is_taken_again(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    killed = outside()
    killed.submit(request(1))
    record(*awaited(tmp_path), Recorded(value=2.0))
    ended(killed)  # and dies before the lineage has it
    after = outside()
    after.submit(request(1))
    assert [one.outcome for one in ended(after)] == [Scored(2.0)]


def test_a_program_waits_as_long_as_before_where_its_driver_starts_again(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    outside().submit(request(1))
    (before,) = awaited(tmp_path)
    outside().submit(request(1))
    assert awaited(tmp_path) == [before]


def test_a_file_that_is_no_result_is_told_of_and_waited_for_again_however_often(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    port, told = outside(), list[str]()
    port.tell = told.append
    port.submit(request(1))
    (one,) = awaited(tmp_path)
    for _ in range(4):
        (one.folder / "result.json").write_text('{"value": "much"}')
        assert ended(port) == []
        assert (one.folder / "rejected.json").exists()
    assert len(told) == 4
    assert "`value` must be a finite number; got 'much'" in told[0]
    record(*awaited(tmp_path), Recorded(value=1.0))
    assert [one.outcome for one in ended(port)] == [Scored(1.0)]


def test_a_pipe_in_place_of_a_result_holds_nobody_up(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    port = outside()
    port.submit(request(1))
    (one,) = awaited(tmp_path)
    os.mkfifo(one.folder / "result.json")
    assert ended(port) == []
    assert (one.folder / "rejected.json").is_fifo()


@pytest.mark.parametrize("since", ['"yesterday"', "null", "true", "1e999", "[]"])
def test_since_when_it_waits_is_a_time_whatever_its_file_says(
    since: str, outside: Callable[[], Outside], tmp_path: Path
) -> None:
    port = outside()
    port.submit(request(1))
    (one,) = awaited(tmp_path)
    record(one, Recorded(value=1.0))
    (one.folder / "about.json").write_text(f'{{"since": {since}}}')
    (result,) = ended(port)
    assert result.ended_at - 60 < result.started_at <= result.ended_at


def test_what_is_written_is_read_and_what_is_too_long_is_refused_at_once(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    port = outside()
    port.submit(request(1))
    record(*awaited(tmp_path), Recorded(value=1.0, note="\N{SNOWMAN}" * NOTE_CHARACTERS))
    assert [one.outcome for one in ended(port)] == [Scored(1.0)]
    with pytest.raises(ValueError, match="`note` must be a text of at most"):
        Recorded(value=1.0, note="n" * (NOTE_CHARACTERS + 1))


def test_of_two_who_record_at_once_one_is_told_no_and_the_other_is_believed(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    for number in range(1, 40):
        outside().submit(request(number))
        one = next(found for found in awaited(tmp_path) if not found.recorded)
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(attempt, (one, one), (1.0, 2.0)))
        (believed,) = (value for value in said if value is not None)
        assert read_result(one.folder / "result.json").value == believed
        assert {file.name for file in one.folder.iterdir()} == {
            "leaflet.py",
            "about.json",
            "result.json",
        }


def attempt(one: Awaited, value: float) -> float | None:
    try:
        record(one, Recorded(value=value))
    except RunError:
        return None
    return value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 60_000,
        "[]",
        '{"value": 1, "who": "me"}',
        "{",
        "1",
        '"x"',
        '{"note": "' + "x" * 70_000,
    ],
)
def test_no_text_but_a_result_is_read_as_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    with pytest.raises(ValueError):
        read_result(file)


def test_a_result_is_not_written_over(outside: Callable[[], Outside], tmp_path: Path) -> None:
    outside().submit(request(1))
    (one,) = awaited(tmp_path)
    record(one, Recorded(value=1.0))
    with pytest.raises(RunError, match="remove it first"):
        record(one, Recorded(value=2.0))
    assert read_result(one.folder / "result.json") == Recorded(value=1.0)


def test_whoever_is_killed_is_waited_for_no_longer(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    port = outside()
    port.submit(request(1), request(2))
    port.submit(request(3))
    port.kill(EvaluationId(1), EvaluationId(44))
    killed = ended(port)
    assert {one.request for one in killed} == {1, 2}
    assert {one.outcome.reason for one in killed if isinstance(one.outcome, Failed)} == {KILLED}
    assert [one.folder.name for one in awaited(tmp_path)] == ["1-103"]
    assert ended(port) == []
    record(*awaited(tmp_path), Recorded(value=1.0))
    port.kill(EvaluationId(3))
    assert (tmp_path / "outside" / "recorded" / "1-103" / "result.json").exists()


def test_what_an_exam_waited_for_is_asked_for_no_more_once_its_driver_has_ended(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    port = outside()
    port.submit(request(1, purpose=Purpose.EXAM), request(2, purpose=Purpose.EXAM))
    port.submit(request(3))
    record(awaited(tmp_path)[0], Recorded(value=1.0))
    outside()
    assert [one.folder.name for one in awaited(tmp_path)] == ["1-103"]
    assert (tmp_path / "outside" / "recorded" / "1-101" / "result.json").exists()


def test_a_folder_that_cannot_be_written_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("in the way")
    with pytest.raises(PoolError, match="mend that"):
        Outside(load_task(LEAFLET), tmp_path, slots=1)


def test_what_else_lies_among_the_waiting_is_passed_over(
    outside: Callable[[], Outside], tmp_path: Path
) -> None:
    outside().submit(request(1))
    (tmp_path / "outside" / "waiting" / "notes").mkdir()
    (tmp_path / "outside" / "waiting" / "notes" / "about.json").write_text(json.dumps({"a": 1}))
    (tmp_path / "outside" / "waiting" / "todo.txt").write_text("call them")
    assert [one.individual for one in awaited(tmp_path)] == [1]
