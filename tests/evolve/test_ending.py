"""How one call of `evolve run` ends, on trainers that do not train."""

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evolve import running
from evolve.breeding import Breeders
from evolve.commands import Stop
from evolve.control import send
from evolve.live import is_running, read_live
from evolve.taskfile import load_task
from mutate.checks import Checks
from mutate.novelty import Offer, checked, refused
from mutate.portfolio import Arm, Portfolio
from population import rests
from population.history import History
from population.individual import Failed, Individual, Outcome, Request, Scored, Stage
from population.ports import Proposal
from tests.evolve.conftest import POLYNOMIAL, Evolve
from tests.population.fakes import FakeEvaluation

Train = Callable[[Callable[[Request], Outcome], int], None]
CHECKS = Checks.of(load_task(POLYNOMIAL))


class Trainers(FakeEvaluation):
    """Stands in for the pool."""

    kind = None

    def close(self) -> None:
        pass


class Spent:
    """An operator that has a few ideas."""

    name, arity, slow = "spent", 1, False

    def __init__(self, ideas: int) -> None:
        self.left = ideas

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        if not self.left:
            return refused(self.name, parents, "it has no idea")
        self.left -= 1
        child = parents[0].genome.source + f"\nbetter = {self.left}\n"
        return checked(Offer(self.name, parents, child, ()), CHECKS, history)


def scored(request: Request) -> Outcome:
    return Scored(float("better" in request.genome.source) + 0.001 * (request.id % 3))


def lost(request: Request) -> Outcome:
    """Nothing trains any more once the founders have."""
    if request.individual <= 2:
        return scored(request)
    return Failed(Stage.INFRASTRUCTURE, "machine", "its disk is full")


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return a function that says how trainings end, and how many ideas the operators have."""
    real = running.breeders

    def choose(outcome: Callable[[Request], Outcome], ideas: int) -> None:
        def poor(*words: Any) -> Breeders:
            found = real(*words)
            found.portfolio = Portfolio([Arm(Spent(ideas), lambda _: 1.0)])
            return found

        monkeypatch.setattr(running, "pool", lambda *_: Trainers(outcome=outcome))
        monkeypatch.setattr(running, "breeders", poor)

    return choose


def test_the_exam_is_held_where_the_operators_have_run_out(
    evolve: Evolve, tmp_path: Path, train: Train
) -> None:
    train(scored, 1)
    said = evolve("run", "--task", POLYNOMIAL, "--runs", tmp_path, "--run", "a", "--export")
    assert said.code == 1
    assert "the search has ended: 200 proposals in a row were refused" in said.err
    assert "is better than founder" in said.out
    assert json.loads((tmp_path / "a" / "best" / "evidence.json").read_text())["claim"]["better"]


def test_a_run_is_not_called_ended_before_its_exam_which_can_be_stopped_from_then_on(
    evolve: Evolve, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(scored, 50)
    between: list[dict[str, Any]] = []

    def summarise(*_: Any) -> None:
        live = read_live(tmp_path / "a" / "live.json") or {}
        assert is_running(live)
        between.append(live["exam"])
        send(tmp_path / "a", Stop())

    monkeypatch.setattr(running, "summarise", summarise)
    words = ("run", "--task", POLYNOMIAL, "--runs", tmp_path, "--run", "a", "--export")
    said = evolve(*words, "--evaluations", 6)
    assert said.code == 130, said
    assert f"`evolve export --run a --runs {tmp_path}` goes on with it" in said.out
    assert [(exam["pairs"], exam["most"]) for exam in between] == [(0, 12)]
    assert not (tmp_path / "a" / "best" / "evidence.json").exists()
    assert not is_running(read_live(tmp_path / "a" / "live.json"))


def test_where_no_founder_has_a_score_the_run_is_published_and_no_exam_is_held(
    evolve: Evolve, tmp_path: Path, train: Train
) -> None:
    def only_injected(request: Request) -> Outcome:
        if request.individual <= 2:
            return Failed(Stage.TRAINING, "crash", "it raised")
        return scored(request)

    train(only_injected, 1)
    words = ("run", "--task", POLYNOMIAL, "--runs", tmp_path, "--run", "a")
    assert "no founder earned a score" in evolve(*words).err
    mine = tmp_path / "mine.py"
    mine.write_text("VALUE = 1.0\nprint(VALUE)\n")
    evolve("inject", mine, "--hypothesis", "it works", "--run", "a", "--runs", tmp_path)
    said = evolve(*words, "--export")
    assert said.code == 2
    assert "no founder has a score, so there is nothing to compare" in said.err
    assert "continue with" in said.out
    ranked = json.loads(evolve("top", "--run", "a", "--runs", tmp_path, "--json").out)
    assert 3 in [row["individual"] for row in ranked]
    assert json.loads((tmp_path / "a" / "live.json").read_text())["ended_at"]


def test_a_run_that_holds_no_exam_is_called_ended_as_soon_as_its_search_is(
    evolve: Evolve, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(scored, 50)
    between: list[bool] = []
    file = tmp_path / "a" / "live.json"
    monkeypatch.setattr(
        running, "summarise", lambda *_: between.append(is_running(read_live(file)))
    )
    words = ("run", "--task", POLYNOMIAL, "--runs", tmp_path, "--run", "a")
    assert evolve(*words, "--evaluations", 6).code == 0
    assert between == [False]


def test_a_run_goes_on_to_a_higher_limit_is_told_of_one_it_has_reached_and_keeps_its_task(
    evolve: Evolve, tmp_path: Path, train: Train
) -> None:
    train(scored, 50)
    words = ("run", "--runs", tmp_path, "--run", "a")
    assert evolve(*words, "--task", POLYNOMIAL, "--evaluations", 6).code == 0
    for limit, idle in ((6, True), (7, False)):
        said = evolve(*words, "--evaluations", limit)
        assert (said.code, "its limits lie behind this run" in said.out) == (0, idle)
    task = Path(shutil.copytree(POLYNOMIAL, tmp_path / "task")) / "task.toml"
    task.write_text(task.read_text().replace('"polynomial"', '"parabola"'))
    said = evolve(*words, "--task", task.parent, "--evaluations", 20)
    assert said.code == 2
    assert "holds a run of task polynomial, not parabola" in said.err


def test_a_machine_that_has_to_be_mended_is_no_negative_result(
    evolve: Evolve, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests, "PAUSE_S", 0.0)
    train(lost, 50)
    said = evolve("run", "--task", POLYNOMIAL, "--runs", tmp_path, "--run", "a", "--export")
    assert said.code == 2
    assert said.err.count("evaluations in a row failed for reasons that are not") == 1
    assert "continue with: evolve run --run a" in said.out
    assert not (tmp_path / "a" / "best" / "evidence.json").exists()


def test_a_run_without_a_name_makes_way_for_one_that_took_its_name_meanwhile(
    evolve: Evolve, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(scored, 1)
    real = running.prepared

    def slowly(*words: Any) -> Path | None:
        for name in [f"polynomial-{date.today():%Y%m%d}-{number}" for number in (1, 2)]:
            (tmp_path / name).mkdir()
        return real(*words)

    monkeypatch.setattr(running, "prepared", slowly)
    said = evolve("run", "--task", POLYNOMIAL, "--runs", tmp_path, "--evaluations", 4)
    assert said.code == 0, said
    assert "-3  (task polynomial" in said.out
    assert list(next(tmp_path.glob("*-1")).iterdir()) == []


@pytest.mark.parametrize(("slots", "lines"), [(999, 1), (1, 0)])
def test_more_candidates_at_once_than_the_machine_has_room_for_are_remarked_on(
    evolve: Evolve, tmp_path: Path, train: Train, slots: int, lines: int
) -> None:
    train(scored, 1)
    words = ("run", "--task", POLYNOMIAL, "--runs", tmp_path, "--run", "a")
    for said in (
        evolve(*words, "--slots", slots, "--evaluations", 3),
        evolve(*words, "--evaluations", 4),
    ):
        assert said.out.count(f"{slots} at once, but this machine has room for ") == lines
