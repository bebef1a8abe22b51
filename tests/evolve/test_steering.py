"""A run steered from outside: against a recorded run, a driver that plays along, and for real."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from evolve import steering
from evolve.commands import Command, Pause, Stop
from evolve.control import CONTROL, REJECTED, Control, rejected_file, send, waiting_file
from evolve.live import Exam, Snapshot, Watch, is_running, read_live, write_live
from evolve.options import SECTIONS
from evolve.reading import Reading
from evolve.taskfile import REPOSITORY
from mutate.checks import Checks
from population.database import connect
from population.errors import RunError
from population.identity import stored_identity
from population.individual import IndividualId
from population.lineage import DuckLineage
from population.orders import Reply
from population.ports import Pinned
from tests.evolve.conftest import POLYNOMIAL, Evolve
from tests.evolve.test_running import command, command_of

MOMENTARY = (("pause",), ("resume",), ("stop",), ("kill", 3))
EVERY = (*MOMENTARY, ("pin", 3))
DONE = Reply(True, "so it is")


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "PATIENCE_S", 0.3)
    monkeypatch.setattr(steering, "LOOK_S", 0.01)
    monkeypatch.setattr("evolve.control.LOOK_S", 0.0)


def live(runs: Path, **fields: object) -> None:
    """Let the recorded run seem to go on, driven by this process."""
    fields = {"host": socket.gethostname()} | fields
    snapshot = Snapshot(os.getpid(), started_at=0.0, updated_at=0.0, **fields)  # type: ignore[arg-type]
    write_live(runs / "night" / "live.json", snapshot)


def waiting(runs: Path) -> list[dict[str, object]]:
    files = sorted((runs / "night" / CONTROL).glob("*.json"))
    return [json.loads(file.read_text()) for file in files]


@contextmanager
def driver(runs: Path, reply: Reply | None = DONE, individuals: int = 5) -> Iterator[None]:
    """Play a driver that takes what comes and answers it so; None: it takes and says nothing."""
    steering.PATIENCE_S = 2.0 if reply is None else 60.0  # the fixture puts it back
    folder, over = runs / "night", threading.Event()
    watch = Watch(None, 1, 0.0)
    live(runs, individuals=individuals)

    def answer(name: str, _: Reply) -> None:
        if reply is not None:
            watch.answer(name, reply)
            live(runs, individuals=individuals, answers=watch.snapshot.answers)

    def drive() -> None:
        control = Control(folder, Checks("solve.py"), print, answer, lambda _: None)
        while not over.wait(0.01):
            if (order := control.order()) is not None:
                control.reply(order, DONE)

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_of_an_exam_nothing_is_paused_or_killed_and_the_message_says_what_ends_it(
    evolve: Evolve, runs: Path
) -> None:
    live(runs, exam=Exam(4, 2, 3, 12))
    for words in (("pause",), ("resume",), ("kill", 4)):
        said = evolve(*words, "--runs", runs)
        assert said.code == 2
        assert "does not search now (exam of #4 against founder #2: 3 of at most 12" in said.err
        assert f"`evolve stop --run night --runs {runs}` ends the exam" in said.err
    assert waiting(runs) == []


def test_a_pin_waits_for_the_end_of_an_exam(
    evolve: Evolve, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "PATIENCE_S", 1e9)  # it must not wait for the driver
    live(runs, exam=Exam(4, 2, 3, 12))
    said = evolve("pin", 3, "--runs", runs)
    assert (said.code, len(waiting(runs))) == (0, 1)
    assert f"`evolve run --run night --runs {runs}` takes it first" in said.out


def test_status_tells_of_an_exam_while_it_goes_on(evolve: Evolve, runs: Path) -> None:
    live(runs, exam=Exam(4, 2, 3, 12))
    told = evolve("status", "--runs", runs).out
    assert "night: exam of #4 against founder #2: 3 of at most 12 pairs done, published" in told
    found = json.loads(evolve("status", "--runs", runs, "--json").out)
    assert found["running"] is True
    assert found["exam"] == {"champion": 4, "founder": 2, "pairs": 3, "most": 12}
    live(runs, exam=Exam(4, 2, 3, 12), ended_at=1.0)
    assert "night: not running" in evolve("status", "--runs", runs).out


@pytest.mark.parametrize("pairs", [0, 12])
def test_nothing_is_exported_while_an_exam_goes_on_and_the_message_says_what_to_do(
    evolve: Evolve, runs: Path, pairs: int
) -> None:
    best, words = runs / "night" / "best", ("export", "--pairs", 0, "--runs", runs)
    live(runs)
    assert evolve(*words).code == 0  # a search may go on
    evidence = (best / "evidence.json").read_text()
    live(runs, exam=Exam(4, 2, 2, 6))
    said = evolve("export", "--pairs", pairs, "--runs", runs)
    assert said.code == 2
    assert "exam of #4 against founder #2: 2 of at most 6 pairs done" in said.err
    assert f"end it with `evolve stop --run night --runs {runs}`" in said.err
    assert (best / "evidence.json").read_text() == evidence
    live(runs, exam=Exam(4, 2, 2, 6), ended_at=1.0)
    assert evolve(*words).code == 0


@pytest.mark.parametrize("words", MOMENTARY, ids=lambda words: words[0])
def test_what_is_not_running_cannot_be_steered_and_the_message_says_what_to_do(
    evolve: Evolve, runs: Path, words: tuple[object, ...]
) -> None:
    said = evolve(*words, "--runs", runs)
    assert said.code == 2
    assert "run night is not running here" in said.err
    assert f"`evolve run --run night --runs {runs}`" in said.err
    assert waiting(runs) == []


def test_a_run_that_may_go_on_on_another_host_is_not_said_to_be_over(
    evolve: Evolve, runs: Path
) -> None:
    live(runs, host="head-node")
    assert "night: running on head-node, unless" in evolve("status", "--runs", runs).out
    assert json.loads(evolve("status", "--runs", runs, "--json").out)["elsewhere"] == "head-node"
    said = evolve("stop", "--runs", runs)
    assert said.code == 2
    assert "head-node: steer it from there" in said.err
    live(runs, host="head-node", ended_at=1.0)
    assert "night: not running" in evolve("status", "--runs", runs).out


def test_a_pin_waits_for_a_run_that_is_not_running(evolve: Evolve, runs: Path) -> None:
    said = evolve("pin", 3, "--runs", runs)
    assert said.code == 0
    assert f"`evolve run --run night --runs {runs}` takes it first" in said.out
    said = evolve("pin", 3, "--off", "--runs", runs, "--json")
    assert (said.code, json.loads(said.out)["state"]) == (0, "waiting")
    assert waiting(runs) == [
        {"command": "pin", "individual": 3, "pinned": True},
        {"command": "pin", "individual": 3, "pinned": False},
    ]


@pytest.mark.parametrize("words", EVERY, ids=lambda words: words[0])
def test_a_driver_that_obeys_is_heard(
    evolve: Evolve, runs: Path, words: tuple[object, ...]
) -> None:
    with driver(runs):
        said = evolve(*words, "--runs", runs)
        assert (said.code, said.out) == (0, "so it is\n")
        answer = json.loads(evolve(*words, "--runs", runs, "--json").out)
    individual = words[1] if len(words) > 1 else None
    assert answer == {
        "run": "night",
        "command": words[0],
        "state": "done",
        "says": "so it is",
        "individual": individual,
    }
    assert waiting(runs) == []


def test_what_a_driver_refuses_is_a_negative_result(evolve: Evolve, runs: Path) -> None:
    with driver(runs, Reply(False, "nothing of #3 is in flight")):
        said = evolve("kill", 3, "--runs", runs)
    assert (said.code, said.out) == (1, "nothing of #3 is in flight\n")


@pytest.mark.parametrize("words", MOMENTARY, ids=lambda words: words[0])
def test_what_a_driver_does_not_take_is_told_and_taken_back(
    evolve: Evolve, runs: Path, words: tuple[object, ...]
) -> None:
    live(runs, individuals=5)
    said = evolve(*words, "--runs", runs)
    assert said.code == 1
    assert "the driver has not taken it" in said.out
    assert waiting(runs) == []


def test_a_pin_that_a_driver_does_not_take_goes_on_waiting(evolve: Evolve, runs: Path) -> None:
    live(runs, individuals=5)
    said = evolve("pin", 3, "--runs", runs)
    assert (said.code, len(waiting(runs))) == (0, 1)
    assert "its driver takes it when it looks" in said.out


def test_what_is_taken_without_an_answer_is_told(evolve: Evolve, runs: Path) -> None:
    with driver(runs, None):
        said = evolve("pause", "--runs", runs)
    assert said.code == 1
    assert "taken, without an answer" in said.out


def test_a_run_that_ends_before_it_takes_a_command_leaves_none_for_a_later_one(
    evolve: Evolve, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(folder: Path, command: Command) -> str:
        name = send(folder, command)
        live(runs, ended_at=1.0)
        return name

    live(runs)
    monkeypatch.setattr(steering, "send", ends)
    said = evolve("stop", "--runs", runs)
    assert said.code == 2
    assert "ended before it took this" in said.err
    assert waiting(runs) == []


def test_a_driver_of_an_older_version_moves_a_command_aside_and_that_is_told(
    evolve: Evolve, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def aside(folder: Path, command: Command) -> str:
        name = send(folder, command)
        (folder / CONTROL / REJECTED).mkdir()
        waiting_file(folder, name).rename(rejected_file(folder, name))
        return name

    live(runs)
    monkeypatch.setattr(steering, "send", aside)
    said = evolve("pause", "--runs", runs)
    assert said.code == 1
    assert "knows no such command" in said.out


@pytest.mark.parametrize("command", ["kill", "pin"])
def test_an_individual_that_does_not_exist_is_refused_by_its_id(
    evolve: Evolve, runs: Path, command: str
) -> None:
    live(runs, individuals=7)  # two more than are published
    with driver(runs, individuals=7):
        assert evolve(command, 7, "--runs", runs).code == 0
        said = evolve(command, 8, "--runs", runs)
    assert said.code == 2
    assert "individual 8 does not exist; ids go from 1 to 7" in said.err
    assert evolve(command, 0, "--runs", runs).code == 2
    assert waiting(runs) == []


def test_waiting_for_the_end_of_a_run_is_bounded(evolve: Evolve, runs: Path) -> None:
    assert "--wait" in evolve("stop", "--timeout", 3, "--runs", runs).err
    with driver(runs):
        said = evolve("stop", "--wait", "--timeout", "0.1", "--runs", runs)
    assert said.code == 1  # this process goes on
    assert "still ends after 0.1 s" in said.out


def test_a_process_that_has_ended_unburied_drives_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        snapshot = Snapshot(process.pid, socket.gethostname(), 0.0, 0.0)
        write_live(tmp_path / "live.json", snapshot)
        assert not is_running(read_live(tmp_path / "live.json"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="nothing tells processes apart")
def test_another_process_with_the_number_of_a_driver_that_was_killed_drives_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "live.json"
    snapshot = Watch(None, 1, 0.0).snapshot
    write_live(file, snapshot)
    assert is_running(read_live(file))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as later:
        write_live(file, replace(snapshot, pid=later.pid))
        assert not is_running(read_live(file))


def test_status_tells_of_a_pause_while_the_run_goes_on(evolve: Evolve, runs: Path) -> None:
    live(runs, paused=True)
    assert "night: paused" in evolve("status", "--runs", runs).out
    assert json.loads(evolve("status", "--runs", runs, "--json").out)["paused"] is True
    live(runs, paused=True, ended_at=1.0)
    assert "night: not running" in evolve("status", "--runs", runs).out
    assert json.loads(evolve("status", "--runs", runs, "--json").out)["paused"] is False


def test_whoever_is_pinned_is_marked_wherever_a_run_is_read(evolve: Evolve, runs: Path) -> None:
    assert json.loads(evolve("status", "--runs", runs, "--json").out)["pinned"] == []
    with DuckLineage.open(runs / "night", stored_identity(runs / "night")) as lineage:
        for record in (Pinned(IndividualId(2), True), Pinned(IndividualId(5), True)):
            lineage.record(record)
        lineage.record(Pinned(IndividualId(5), False))
        lineage.publish()
    assert json.loads(evolve("status", "--runs", runs, "--json").out)["pinned"] == [2]
    assert "pinned among the survivors: #2\n" in evolve("status", "--runs", runs).out
    top = {
        row["individual"]: row["pinned"]
        for row in json.loads(evolve("top", "--runs", runs, "--json").out)
    }
    assert top == {4: False, 3: False, 2: True, 1: False}
    assert evolve("top", "--runs", runs).out.count("pinned") == 1
    assert "pinned: it stays" in evolve("show", 2, "--runs", runs).out
    assert "pinned" not in evolve("show", 5, "--runs", runs).out


def test_what_an_older_version_has_published_is_read_without_pins(
    evolve: Evolve, runs: Path
) -> None:
    with connect(runs / "night" / "lineage.duckdb") as published:
        view = published.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'leaderboard'")
        (sql,) = view.fetchone() or ("",)
        assert "pinned" in sql
        published.execute("CREATE TABLE board AS SELECT * EXCLUDE (pinned) FROM leaderboard")
        published.execute("DROP VIEW leaderboard")
        published.execute("CREATE VIEW leaderboard AS FROM board")
        published.execute("DROP TABLE pin")
    assert "pinned" not in json.loads(evolve("top", "--runs", runs, "--json").out)[0]
    assert json.loads(evolve("status", "--runs", runs, "--json").out)["pinned"] == []
    assert evolve("show", 2, "--runs", runs).code == 0


def test_every_command_has_its_place_in_the_help(evolve: Evolve) -> None:
    text = evolve("--help").out
    assert "Other commands" not in text
    for title, names in SECTIONS.items():
        section = text.split(f"{title}:\n")[1].split("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines() if line[2:3] != " "] == [*names]


def test_a_snapshot_keeps_the_latest_answers() -> None:
    watch = Watch(None, 1, 0.0)
    for number in range(100):
        watch.answer(str(number), DONE)
    assert watch.snapshot.answers[-1].command == "99"
    assert len(watch.snapshot.answers) == 32


# For real

SLOW = 'import time\nfrom pathlib import Path as P\nP("begun").touch()\ntime.sleep(3)\n'


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """The quick task, whose programs take three seconds each."""
    folder = Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))
    for seed in (folder / "seeds").iterdir():
        seed.write_text(seed.read_text().replace("import json\n", f"import json\n{SLOW}", 1))
    return folder


def until(folder: Path, says: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return what live.json says as soon as it is what is waited for."""
    while True:
        live = read_live(folder / "live.json") or {}
        if live and says(live):
            return live
        time.sleep(0.05)


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that evaluate, as soon as a candidate is among them."""
    while True:
        family = psutil.Process(process.pid).children(recursive=True)
        warm = [one for one in family if "evaluate.warm" in command_of(one)]
        if len(warm) > 2:
            return warm
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_running_run_is_paused_resumed_and_stopped_and_what_it_trains_is_killed(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "PATIENCE_S", 60.0)
    folder = tmp_path / "runs" / "a"
    words = command(tmp_path, "run", "--run", "a", "--task", task, "--slots", 1, "--lambda", 2)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        until(folder, lambda live: live["best"] and live["running"])
        assert steering.pause(folder).state == "done"
        rests = until(folder, lambda live: live["paused"] and not live["running"])
        for _ in range(20):
            time.sleep(0.1)
            live = until(folder, lambda live: True)
            assert (live["running"], live["individuals"]) == ([], rests["individuals"])
        assert steering.pin(folder, 1).state == "done"
        assert steering.kill(folder, 1).state == "refused"
        assert steering.resume(folder).state == "done"
        trains = until(folder, lambda live: bool(live["running"]) and not live["paused"])["running"]
        dying = tree(process)
        killed = steering.kill(folder, trains[0]["individual"])
        assert killed.state == "done", killed
        _, alive = psutil.wait_procs(dying, timeout=60)
        assert alive == []
        until(folder, lambda live: bool(live["running"]) and live["running"] != trains)
        tree(process)  # the slot is used again
        assert steering.stop(folder, wait_s=60.0).says.startswith("the run has ended")
        assert process.wait(60) == 130
        assert process.stdout is not None
        assert "continue with: evolve run --run a" in process.stdout.read()
    with Reading(folder) as reading:
        ended = reading.query(
            "SELECT status, stage, reason, detail FROM evaluations WHERE evaluation = ?",
            [trains[0]["evaluation"]],
        ).rows
        again = reading.query(
            "SELECT count(*) FROM evaluations WHERE individual = ? AND evaluation > ?",
            [killed.individual, trains[0]["evaluation"]],
        ).rows
        evaluations = reading.status()["scored"]
    assert ended == (("failed", "training", "killed", ended[0][3]),)
    assert "by hand" in ended[0][3]
    assert again == ((0,),)

    with pytest.raises(RunError, match="not running"):
        steering.stop(folder)
    for stale in (Stop(), Pause()):
        send(folder, stale)
    words = command(tmp_path, "run", "--run", "a", "--evaluations", evaluations + 2)
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    with Reading(folder) as reading:
        assert reading.pinned() == [1]
        members = reading.query(
            "SELECT list(individual) FROM survivor GROUP BY seq ORDER BY seq DESC LIMIT 1"
        ).rows[0][0]
    assert 1 in members
    assert list((folder / CONTROL).glob("*.json")) == []
