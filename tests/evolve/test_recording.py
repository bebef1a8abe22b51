"""Runs whose results come from outside, as whoever finds them out lives with them."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from evaluate.awaited import Recorded
from evaluate.outside import Outside
from evolve.live import Exam, Snapshot, write_live
from evolve.reading import Reading
from evolve.recording import read_said, record_result, table, waits
from evolve.taskfile import REPOSITORY, load_task
from population.errors import RunError, TaskError
from population.individual import EvaluationId, Genome, IndividualId, Purpose, Request
from tests.evolve.conftest import Evolve
from tests.evolve.test_running import command
from tests.evolve.test_running import evolve as call

LEAFLET = REPOSITORY / "tests" / "tasks" / "leaflet"
PATIENCE_S = 60.0


def start(folder: Path, *words: object) -> "subprocess.Popen[str]":
    given = ("run", "--run", "a", "--task", LEAFLET, *words)
    return subprocess.Popen(
        command(folder, *given), stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )


def waiting(folder: Path, at_least: int = 1) -> list[dict[str, Any]]:
    """Return what waits without a result, once there is so much of it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        said = call(folder, "record", "--run", "a", "--json")
        found = json.loads(said.stdout) if said.returncode == 0 else []
        open_ = [one for one in found if not one["recorded"]]
        if len(open_) >= at_least:
            return open_
        time.sleep(0.1)
    raise AssertionError(f"{at_least} programs do not wait after {PATIENCE_S:g} s")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_goes_on_with_what_is_recorded_while_it_works_and_while_it_does_not(
    tmp_path: Path,
) -> None:
    with start(tmp_path, "--evaluations", 6) as process:
        founders = waiting(tmp_path, 4)
        assert {one["individual"] for one in founders} == {1, 2}
        assert "LINES = 4" in Path(founders[0]["program"]).read_text()
        for one in founders:
            counts = f"{10 * one['individual']}/40"
            done = call(tmp_path, "record", one["individual"], "--counts", counts)
            assert "the run takes it now" in done.stdout, done.stderr
        bred = waiting(tmp_path, 2)
        assert call(tmp_path, "stop", "--wait").returncode == 0
    assert process.returncode == 130

    best = bred[0]["individual"]
    done = call(tmp_path, "record", best, "--value", 0.9, "--note", "they liked it", "--json")
    assert json.loads(done.stdout)["running"] is False
    twice = call(tmp_path, "record", best, "--value", 0.1)
    assert twice.returncode == 2
    assert "its result is recorded and waits to be taken" in twice.stderr
    with start(tmp_path, "--evaluations", 6) as process:
        (last,) = waiting(tmp_path)
        call(tmp_path, "record", last["individual"], "--failed", "nobody could read it")
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0

    with Reading(tmp_path / "runs" / "a") as reading:
        assert reading.leader() == best
        rows = reading.query("SELECT individual, value, reason FROM evaluations WHERE status IN "
                             "('scored', 'failed') ORDER BY individual, evaluation").rows  # fmt: skip
        assert rows[:4] == ((1, 0.25, None), (1, 0.25, None), (2, 0.5, None), (2, 0.5, None))
        assert dict((row[0], row[1:]) for row in rows[4:]) == {
            best: (0.9, None),
            last["individual"]: (None, "rejected"),
        }
        trials = reading.query("SELECT value FROM measurement WHERE name = 'trials'").rows
        assert trials == ((40.0,),) * 4
        assert reading.individual(best)["log"] == "they liked it"
    assert waiting_now(tmp_path) == "nothing of run a waits for a result\n"

    words = ("run", "--run", "b", "--from", "a", "--task", LEAFLET, "--evaluations", 1)
    with subprocess.Popen(
        command(tmp_path, *words), stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as later:
        assert later.stdout is not None
        brought = next(line for line in later.stdout if line.startswith("from "))
        next(line for line in later.stdout if line.startswith("[0/1] founder"))
        later.send_signal(signal.SIGINT)  # before, it is ignored where a shell has made it so
        later.stdout.read()
    assert "3 scores to learn" in brought

    evidence = call(tmp_path, "export", "--run", "a", "--pairs", 0)
    assert "as " + str(LEAFLET / "protocol.md") + " says" in evidence.stdout
    assert json.loads((tmp_path / "runs/a/best/evidence.json").read_text())["budget"] is None


def waiting_now(folder: Path) -> str:
    return call(folder, "record", "--run", "a").stdout


def test_what_is_no_result_is_not_listed_as_recorded(tmp_path: Path) -> None:
    port, genome = Outside(load_task(LEAFLET), tmp_path / "a", slots=2), Genome("LINES = 1\n")
    for number in (1, 2):
        who = IndividualId(number)
        port.submit(Request(EvaluationId(number), who, genome, number, "exam", Purpose.SCREEN))
    for program, value in zip(
        sorted((tmp_path / "a/outside/waiting").iterdir()), ('"high"', "1"), strict=True
    ):
        (program / "result.json").write_text(f'{{"value": {value}}}')
    first, second = table(tmp_path / "a", waits(tmp_path / "a")).splitlines()[1:]
    assert "no result: " in first and "recorded" in second


def test_for_an_exam_that_nobody_holds_nothing_is_recorded(tmp_path: Path) -> None:
    port, genome = Outside(load_task(LEAFLET), tmp_path / "a", slots=2), Genome("LINES = 1\n")
    for number, purpose in ((1, Purpose.EXAM), (2, Purpose.SCREEN)):
        who = IndividualId(number)
        port.submit(Request(EvaluationId(number), who, genome, number, "exam", purpose))
    write_live(tmp_path / "a" / "live.json", Snapshot(os.getpid(), socket.gethostname(), 0.0, 0.0))
    assert [one["individual"] for one in waits(tmp_path / "a")] == [2]
    with pytest.raises(RunError, match="it waits for no result"):
        record_result(tmp_path / "a", 1, Recorded(value=1.0))
    held = Snapshot(os.getpid(), socket.gethostname(), 0.0, 0.0, exam=Exam(1, 2, 0, 12))
    write_live(tmp_path / "a" / "live.json", held)
    assert record_result(tmp_path / "a", 1, Recorded(value=1.0))["running"]


def test_where_programs_are_scored_here_nothing_is_recorded(evolve: Evolve, runs: Path) -> None:
    said = evolve("record", 1, "--value", 1, "--runs", runs)
    assert said.code == 2
    assert "nothing of run night is recorded from outside" in said.err


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, "give one of --value, --counts and --failed"),
        ({"value": 1.0, "failed": "no"}, "give one of"),
        ({"counts": "12"}, "--counts must be like 37/120"),
        ({"counts": "3/2"}, "got 3 of 2"),
        ({"counts": "1/" + "9" * 5000}, "this is no result"),
        ({"value": 1.0, "note": "n" * 3000}, "`note` must be a text of at most"),
        ({"value": float("inf")}, "finite"),
    ],
)
def test_an_impossible_result_is_refused_with_what_is_possible(
    said: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RunError, match=reason):
        read_said(**{"value": None, "counts": None, "failed": None, **said})


@pytest.mark.parametrize(
    ("added", "reason"),
    [
        ("[cpu]\nmemory = 4\n", "`cpu` must be left out"),
        ('[data]\nsource = "x"\n', "`data` must be left out"),
    ],
)
def test_a_task_whose_programs_do_not_run_here_has_no_limits_and_no_data(
    tmp_path: Path, added: str, reason: str
) -> None:
    for file in LEAFLET.rglob("*.*"):
        copy = tmp_path / file.relative_to(LEAFLET)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(file.read_text())
    (tmp_path / "task.toml").write_text((LEAFLET / "task.toml").read_text() + added)
    with pytest.raises(TaskError, match=reason):
        load_task(tmp_path)
    with pytest.raises(TaskError, match="--budget 5s: nothing of leaflet runs here"):
        load_task(LEAFLET, budget="5s")


def test_where_nothing_runs_here_nothing_can_be_tried(evolve: Evolve) -> None:
    said = evolve("try", LEAFLET / "seeds" / "bold.py", "--task", LEAFLET)
    assert said.code == 2
    assert "`evolve inject` puts a program into a run" in said.err


def test_a_doctor_looks_for_neither_ray_nor_sandbox_where_nothing_runs_here(
    evolve: Evolve, tmp_path: Path
) -> None:
    said = evolve("doctor", "--task", LEAFLET, "--runs", tmp_path, "--json")
    found = {one["subject"]: one for one in json.loads(said.out)}
    assert "recorded from outside" in found["task"]["says"]
    assert not {"Ray", "memory", "sandbox"} & found.keys()
