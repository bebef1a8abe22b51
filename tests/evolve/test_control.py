"""The control folder: what is taken from it, in which order, and what is moved aside."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evolve.commands import (
    COMMANDS,
    Command,
    Inject,
    Pause,
    Resume,
    Stop,
    name_of,
    read_command,
    to_json,
)
from evolve.control import CONTROL, REJECTED, Control, forget_stale, send, take_back
from mutate.checks import Checks
from mutate.genome import fingerprint
from population.history import History, Standing
from population.individual import Genome, Individual, IndividualId
from population.orders import Kill, Order, Pin, Reply, Steering
from population.ports import Injections
from tests.population.fakes import Orders, Wishes

CHECKS = Checks("solve.py", 4 << 10)
GOOD = {"command": "inject", "source": "A = 1\n", "hypothesis": "why", "category": "program"}


def history(**owners: str) -> History:
    """Return a history of individual 1 and of twins: owner=source."""
    one = Individual(IndividualId(1), Genome("A = 0\n"))
    prints = {fingerprint(source): IndividualId(1) for source in owners.values()}
    prints |= dict.fromkeys(owners.values(), IndividualId(1))  # as the fake has them
    return History({one.id: Standing(one, 1.0, 0.1, 1, 0, 0)}, (one.id,), prints, 0.0)


def wish(source: str = "A = 1\n", parent: int | None = None) -> Inject:
    return Inject(source, "why", "program", parent)


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in (folder / CONTROL).iterdir() if entry.name != REJECTED)


class Told(list[str]):
    """Lines that a Control told, its answers, and what it made of pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Reply] = {}
        self.held: list[bool] = []


def listening(folder: Path, told: Told) -> Control:
    """Return what a driver that begins now makes of a run's folder."""
    return Control(folder, CHECKS, told.append, told.answers.__setitem__, told.held.append)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def control(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> Control:
    monkeypatch.setattr("evolve.control.LOOK_S", 0.0)
    return listening(tmp_path, told)


@pytest.fixture(params=["folder", "fake"])
def port(
    request: pytest.FixtureRequest, control: Control, tmp_path: Path
) -> tuple[Injections, Callable[[str], object]]:
    if request.param == "folder":
        return control, lambda source: send(tmp_path, wish(source))
    fake = Wishes()
    return fake, fake.sources.append


Port = tuple[Injections, Callable[[str], object]]


def test_a_program_is_offered_again_until_it_is_done(port: Port) -> None:
    injections, put = port
    assert injections.first(history()) is None
    put("A = 1\n")
    first, again = injections.first(history()), injections.first(history())
    assert first is not None and again is not None
    assert first.command == again.command
    assert first.proposal == again.proposal
    assert first.proposal.operator == "inject"
    assert first.proposal.genome == Genome("A = 1\n")
    injections.done(first)
    assert injections.first(history()) is None


def test_programs_are_offered_in_the_order_in_which_they_came(port: Port) -> None:
    injections, put = port
    sources = [f"A = {n}\n" for n in range(12)]
    for source in sources:
        put(source)
    seen = []
    while (found := injections.first(history())) is not None:
        assert found.proposal.genome is not None
        seen.append(found.proposal.genome.source)
        injections.done(found)
    assert seen == sources


def test_the_twin_of_an_individual_is_refused_with_its_hypothesis(port: Port) -> None:
    injections, put = port
    put("A = 1\n")
    found = injections.first(history(one="A = 1\n"))
    assert found is not None
    assert found.proposal.genome is None
    assert found.proposal.refusal == "it does the same as individual 1"
    assert found.proposal.changes


def test_a_parent_gives_the_change_its_diff(control: Control, tmp_path: Path) -> None:
    send(tmp_path, wish(parent=1))
    found = control.first(history())
    assert found is not None
    assert found.proposal.parents == (1,)
    assert found.proposal.changes[0].diff == "-A = 0\n+A = 1"
    control.done(found)
    send(tmp_path, wish("A = 2\n"))
    found = control.first(history())
    assert found is not None
    assert (found.proposal.parents, found.proposal.changes[0].diff) == ((), "")


def test_an_unknown_parent_and_a_failed_check_are_refusals(
    control: Control, tmp_path: Path
) -> None:
    for asked, reason in ((wish(parent=7), "its parent 7 does not exist"), (wish("A ="), "parse")):
        send(tmp_path, asked)
        found = control.first(history())
        assert found is not None
        assert found.proposal.genome is None
        assert reason in found.proposal.refusal
        control.done(found)
    assert left(tmp_path) == []


NOT_COMMANDS = {
    "empty.json": b"",
    "binary.json": b"\xff\xfe\x00",
    "list.json": b"[1]",
    "other.json": json.dumps(GOOD | {"command": "stop"}).encode(),
    "unknown.json": json.dumps({"command": "restart"}).encode(),
    "unnamed.json": json.dumps({"individual": 3}).encode(),
    "names.json": json.dumps({"command": ["stop"]}).encode(),
    "whom.json": json.dumps({"command": "kill"}).encode(),
    "nobody.json": json.dumps({"command": "kill", "individual": 0}).encode(),
    "text.json": json.dumps({"command": "pin", "individual": "3"}).encode(),
    "truth.json": json.dumps({"command": "pin", "individual": True}).encode(),
    "how.json": json.dumps({"command": "pin", "individual": 3, "pinned": 1}).encode(),
    "more.json": json.dumps(GOOD | {"seed": 3}).encode(),
    "less.json": json.dumps({"command": "inject", "source": "A = 1\n"}).encode(),
    "parent.json": json.dumps(GOOD | {"parent": True}).encode(),
    "none.json": json.dumps(GOOD | {"parent": 0}).encode(),
    "type.json": json.dumps(GOOD | {"source": 3}).encode(),
    "silent.json": json.dumps(GOOD | {"hypothesis": " "}).encode(),
    "category.json": json.dumps(GOOD | {"category": "two words"}).encode(),
    "surrogate.json": json.dumps(GOOD | {"source": "A = '\ud800'"}).encode(),
    "deep.json": b"[" * 30_000,
    "large.json": json.dumps(GOOD | {"source": "#" * 80_000}).encode(),
    "number.json": b"9" * 10_000,
    "README": b"what is this?",
    "a b.json": json.dumps(GOOD).encode(),
}


@pytest.mark.parametrize("name", NOT_COMMANDS)
def test_what_is_no_command_is_moved_aside_and_holds_nobody_up(
    control: Control, tmp_path: Path, told: Told, name: str
) -> None:
    (tmp_path / CONTROL).mkdir()
    (tmp_path / CONTROL / name).write_bytes(NOT_COMMANDS[name])
    send(tmp_path, wish())
    found = control.first(history())
    assert found is not None and found.proposal.genome is not None
    control.done(found)
    assert control.first(history()) is None
    assert (control.order(), control.paused, control.stopped) == (None, False, False)
    assert (tmp_path / CONTROL / REJECTED / name).read_bytes() == NOT_COMMANDS[name]
    assert left(tmp_path) == []
    assert len(told) == 1 and name in told[0]


def test_folders_pipes_and_links_are_moved_aside_unread(
    control: Control, tmp_path: Path, told: Told
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(to_json(wish()))
    (tmp_path / CONTROL / "folder.json").mkdir(parents=True)
    os.mkfifo(tmp_path / CONTROL / "pipe.json")
    (tmp_path / CONTROL / "link.json").symlink_to(secret)
    writer = os.open(tmp_path / CONTROL / "pipe.json", os.O_RDWR)
    try:
        assert control.first(history()) is None
    finally:
        os.close(writer)
    assert len(told) == 3
    assert left(tmp_path) == []


def test_a_file_on_its_way_is_left_alone(control: Control, tmp_path: Path) -> None:
    (tmp_path / CONTROL).mkdir()
    (tmp_path / CONTROL / ".20260101.json.77").write_text('{"command": "inj')
    assert control.first(history()) is None
    assert left(tmp_path) == [".20260101.json.77"]


def test_what_cannot_be_removed_is_passed_over_and_told_once(
    control: Control, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    send(tmp_path, wish())
    (tmp_path / CONTROL / "README").write_text("foreign")
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "rename", refuse)
    found = control.first(history())
    assert found is not None
    control.done(found)
    assert control.first(history()) is None
    assert control.first(history()) is None
    assert sorted(line.split()[0] for line in told) == [
        f"{CONTROL}/{left(tmp_path)[0]}",
        "control/README",
    ]


def test_an_empty_folder_is_looked_into_twice_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, looks = [100.0], []
    monkeypatch.setattr("evolve.control.time.monotonic", lambda: now[0])
    monkeypatch.setattr("evolve.control.os.scandir", lambda path: looks.append(now[0]) or _none())
    control = listening(tmp_path, Told())
    for _ in range(100):
        control.first(history())
        assert (control.order(), control.paused, control.stopped) == (None, False, False)
        now[0] += 0.02
    assert 3 <= len(looks) <= 5


def _none() -> os.PathLike[str]:
    raise FileNotFoundError


def test_names_sort_by_time_and_differ(tmp_path: Path) -> None:
    names = [send(tmp_path, wish()) for _ in range(50)]
    assert names == sorted(names)
    assert len(set(names)) == 50


EVERY: list[Command] = [
    Inject('A = "ä"  # \x1b\n', "why\nnot", "learning-rate", 3),
    Pause(),
    Resume(),
    Stop(),
    Kill(IndividualId(3)),
    Pin(IndividualId(3)),
    Pin(IndividualId(3), pinned=False),
]


@pytest.mark.parametrize("command", EVERY, ids=name_of)
def test_a_command_is_read_as_it_was_written(command: Command) -> None:
    assert read_command(to_json(command)) == command


def test_every_command_is_among_those_that_are_tried() -> None:
    assert {name_of(command) for command in EVERY} == set(COMMANDS)


# What steers


@pytest.fixture(params=["folder", "fake"])
def steering(
    request: pytest.FixtureRequest, control: Control, tmp_path: Path
) -> tuple[Steering, Callable[[Order], object]]:
    if request.param == "folder":
        return control, lambda order: send(tmp_path, order)
    fake = Orders()
    return fake, fake.orders.append


Steered = tuple[Steering, Callable[[Order], object]]
ORDERS: list[Order] = [Pin(IndividualId(1)), Kill(IndividualId(2)), Pin(IndividualId(1), False)]


def test_orders_are_given_once_each_in_the_order_in_which_they_came(steering: Steered) -> None:
    port, put = steering
    assert port.order() is None
    for order in ORDERS:
        put(order)
    seen = []
    while (order := port.order()) is not None:
        seen.append(order)
        port.reply(order, Reply(True, "so it is"))
    assert seen == ORDERS
    assert not port.paused


def test_a_pin_is_given_again_to_whoever_was_killed_before_the_reply(
    control: Control, tmp_path: Path, told: Told
) -> None:
    name = send(tmp_path, ORDERS[0])
    assert control.order() == ORDERS[0]
    later = listening(tmp_path, told)
    order = later.order()
    assert order == ORDERS[0]
    later.reply(order, Reply(True, "pinned"))
    assert told.answers == {name: Reply(True, "pinned")}
    assert listening(tmp_path, told).order() is None


def test_a_kill_is_taken_before_it_is_carried_out(control: Control, tmp_path: Path) -> None:
    send(tmp_path, ORDERS[1])
    assert control.order() == ORDERS[1]
    assert left(tmp_path) == []


def test_a_pause_holds_the_run_until_it_is_resumed_and_each_command_is_answered(
    control: Control, tmp_path: Path, told: Told
) -> None:
    seen, names = [], []
    for command in (Pause(), Pause(), Resume(), Resume()):
        names.append(send(tmp_path, command))
        seen.append(control.paused)
    assert seen == [True, True, False, False]
    assert told.held == [True, False]
    assert [told.answers[name].says for name in names] == [
        "the run is paused: what is in flight goes on, nothing new begins",
        "the run is paused already",
        "the run goes on",
        "the run is not paused",
    ]
    assert left(tmp_path) == []


def test_a_run_is_paused_once_however_quickly_it_is_resumed(
    control: Control, tmp_path: Path, told: Told
) -> None:
    send(tmp_path, Pause())
    send(tmp_path, Resume())
    assert not control.paused
    assert told.held == [True, False]


def test_a_stop_is_taken_behind_whatever_else_waits(control: Control, tmp_path: Path) -> None:
    assert not control.stopped
    send(tmp_path, wish())
    send(tmp_path, ORDERS[0])
    send(tmp_path, Stop())
    assert control.stopped
    assert len(left(tmp_path)) == 2
    assert control.stopped


def test_an_exam_is_stopped_and_not_paused_and_says_so(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evolve.control.LOOK_S", 0.0)
    exam = Control(tmp_path, CHECKS, told.append, told.answers.__setitem__, None)
    pause, resume = send(tmp_path, Pause()), send(tmp_path, Resume())
    send(tmp_path, wish())
    assert not exam.stopped and not exam.paused
    stop = send(tmp_path, Stop())
    assert exam.stopped
    assert not told.answers[pause].done and "it can be stopped" in told.answers[pause].says
    assert not told.answers[resume].done
    assert told.answers[stop].done and "the exam ends" in told.answers[stop].says
    assert len(left(tmp_path)) == 1  # the program waits for the next search


def test_what_was_taken_back_in_time_is_not_done(
    control: Control, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evolve.control.LOOK_S", 1e9)
    kill = send(tmp_path, ORDERS[1])
    assert not control.paused  # now it knows of the kill, and looks no more
    assert take_back(tmp_path, kill)
    assert control.order() is None
    assert told.answers == {}
    assert not take_back(tmp_path, kill)


def test_what_an_earlier_driver_did_not_take_is_forgotten_but_for_programs_and_pins(
    tmp_path: Path, told: Told
) -> None:
    for command in (Stop(), Pause(), Resume(), Kill(IndividualId(1))):
        send(tmp_path, command)
    kept = [send(tmp_path, wish()), send(tmp_path, ORDERS[0])]
    (tmp_path / CONTROL / "README").write_text("foreign")
    (tmp_path / CONTROL / "deep.json").write_text("[" * 30_000)
    forget_stale(tmp_path, CHECKS)
    assert left(tmp_path) == sorted([f"{name}.json" for name in kept] + ["README", "deep.json"])
    control = listening(tmp_path, told)
    assert not control.stopped and not control.paused
    assert control.order() == ORDERS[0]
    assert len(told) == 2  # the foreign ones, which the driver tells of


def test_a_folder_that_is_not_there_holds_nothing_stale(tmp_path: Path) -> None:
    forget_stale(tmp_path, CHECKS)
    assert list(tmp_path.iterdir()) == []
