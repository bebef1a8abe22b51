"""What exams have found is known from the run's rows, wherever they were exported."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evolve.breeding import breeders
from evolve.config import configure
from evolve.console import PlainDisplay
from evolve.evidence import keep_apart
from evolve.exams import read_exams
from evolve.live import Watch
from evolve.reading import Reading
from evolve.running import Follower
from mutate.spending import Spent
from population.exam import Examination, examine
from population.identity import stored_identity
from population.individual import (
    Failed,
    IndividualId,
    Measurement,
    Outcome,
    Request,
    Result,
    Scored,
    Stage,
)
from population.lineage import DuckLineage
from population.ports import Ended
from population.state import State
from population.task import Direction
from tests.evolve.conftest import Evolve, arrival, born, evaluation
from tests.population.fakes import SHARDS, FakeEvaluation

BEST, SECOND, FOUNDER = IndividualId(4), IndividualId(3), IndividualId(2)


def clear(request: Request) -> Outcome:
    """The founder is worse by far, with noise that the two of a pair do not share."""
    level = {BEST: 2.25, SECOND: 2.5, FOUNDER: 2.9}[request.individual]
    return Scored(level + 0.001 * (request.id % 3))


def unclear(request: Request) -> Outcome:
    return Scored(2.0 + 0.1 * (request.id * request.individual % 5))


def broken(request: Request) -> Outcome:
    """The champion fails now and then, and our side does, too."""
    if request.individual == BEST and request.seed % 3 == 0:
        return Failed(Stage.TRAINING, "crash", "it raised ValueError")
    if request.seed % 3 == 1 and request.attempt == 1:
        return Failed(Stage.INFRASTRUCTURE, "machine", "it went away")
    return Scored(float("nan")) if request.seed % 5 == 0 else clear(request)


@dataclass
class Shared(FakeEvaluation):
    """Trains on a machine of which others take a share."""

    foreign_share: float = 0.0

    def wait(self, timeout_s: float) -> list[Result]:
        share = Measurement("foreign_share", self.foreign_share, "1")
        return [replace(one, measurements=(share,)) for one in super().wait(timeout_s)]


def exam(
    runs: Path,
    outcome: Callable[[Request], Outcome] = clear,
    champion: IndividualId = BEST,
    device: Callable[[Request], str] = lambda _: "cpu:0",
    foreign_share: float = 0.0,
) -> Examination:
    """Hold an exam in the recorded run and publish it."""
    folder = runs / "night"
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        state = State(lineage.identity().direction)
        for record in lineage.replay():
            state.apply(record)
        one, other = state.individuals[champion], state.individuals[FOUNDER]
        trainers = Shared(2, outcome, device=device, foreign_share=foreign_share)
        found = examine(one, other, trainers, lineage, state, SHARDS)
        lineage.publish()
    return found


@pytest.mark.parametrize("outcome", [clear, unclear, broken])
@pytest.mark.parametrize("devices", [1, 3])
def test_the_rows_of_a_run_say_what_its_exam_has_found(
    runs: Path, outcome: Callable[[Request], Outcome], devices: int
) -> None:
    found = exam(runs, outcome, device=lambda request: f"cpu:{request.id % devices}")
    with Reading(runs / "night") as reading:
        exams = read_exams(reading)
    assert exams.of(BEST, FOUNDER) == found
    assert exams.of(SECOND, FOUNDER) is None
    assert list(exams.besides(BEST, FOUNDER)) == []


def test_an_export_without_an_exam_claims_what_an_exam_that_went_elsewhere_has_found(
    evolve: Evolve, runs: Path, tmp_path: Path
) -> None:
    assert "no exam of #4 was held" in evolve("export", "--runs", runs, "--pairs", 0).out
    claim = exam(runs).claim
    assert claim is not None and claim.better
    said = evolve("export", "--runs", runs, "--pairs", 0, "-o", tmp_path / "out")
    assert "#4 is better than founder #2 by 0.6" in said.out
    evidence = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert evidence["claim"]["difference"] == claim.difference
    assert evidence["claim"]["pairs"] == claim.pairs
    assert evidence["other_exams"] == []


def test_evidence_from_a_busy_machine_says_so_of_each_score_and_of_what_reproduces_it(
    evolve: Evolve, runs: Path
) -> None:
    claim = exam(runs, foreign_share=0.4).claim
    assert claim is not None
    said = evolve("export", "--runs", runs, "--pairs", 0).out
    assert f"others used the machine during {2 * claim.pairs} of its scores" in said
    assert "a quieter one scores it otherwise" in said.split("reproduce with: ")[1]
    evidence = json.loads((runs / "night" / "best" / "evidence.json").read_text())
    assert evidence["claim"]["disturbed"] == 2 * claim.pairs
    assert evidence["disturbed"] == 0  # the scores that ranked them were made on a quiet one
    assert "a quieter one scores it otherwise" in evidence["reproduce_note"]
    told = {(one["purpose"], one["disturbed"], one["foreign_share"]) for one in evidence["scores"]}
    assert told == {("screen", False, 0.0), ("exam", True, 0.4)}
    assert any(not one["to_repeat"] for one in evidence["scores"] if one["disturbed"])


def test_evidence_from_a_quiet_machine_says_nothing_of_others(evolve: Evolve, runs: Path) -> None:
    exam(runs)
    said = evolve("export", "--runs", runs, "--pairs", 0).out
    assert "others" not in said and "quieter" not in said


def test_an_export_of_another_champion_still_tells_of_the_exam_that_a_former_one_had(
    evolve: Evolve, runs: Path
) -> None:
    former = exam(runs, champion=SECOND).claim
    assert former is not None
    said = evolve("export", "--runs", runs, "--pairs", 0)
    assert "no exam of #4 was held: nothing is claimed of it" in said.out
    assert "another exam of this run: #3 is better than founder #2 by 0.4" in said.out
    evidence = json.loads((runs / "night" / "best" / "evidence.json").read_text())
    (told,) = evidence["other_exams"]
    assert (told["champion"], told["founder"], told["comparison"]) == (3, 2, 1)
    assert told["difference"] == former.difference


def test_evidence_does_not_stay_beside_another_program(tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    keep_apart(tmp_path, "a")
    file.write_text(json.dumps({"program_sha256": "a", "champion": {"individual": 17}}))
    keep_apart(tmp_path, "a")
    assert file.exists()
    keep_apart(tmp_path, "b")
    assert not file.exists()
    assert json.loads((tmp_path / "evidence-17.json").read_text())["program_sha256"] == "a"
    file.write_text("{")
    keep_apart(tmp_path, "b")
    assert sorted(one.name for one in tmp_path.glob("evidence*")) == [
        "evidence-17.json",
        "evidence-unreadable.json",
    ]


def test_the_log_of_a_driver_says_when_it_begins_to_take_disturbed_scores_as_they_are(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure({"runs": runs, "name": "night"})
    task, state = config.load_task(), State(Direction.MINIMIZE)
    with DuckLineage.open(config.folder, stored_identity(config.folder)) as lineage:
        bred_by = breeders(config.breeding, task, Spent())
        shown = PlainDisplay()
        follower = Follower(config, task, lineage, Watch(None, 1, 0.0), shown, bred_by)
        founder = born(1, 3.0)
        own = (record for n in range(1, 9) for record in evaluation(n, founder, Scored(3.0), 0.3))
        for record in (arrival(founder), *own):
            state.apply(record)
            follower.observe(record, state)
    assert capsys.readouterr().out.count("machine busy: others disturbed 75% of the latest 8") == 1


def test_a_new_leader_in_best_parts_the_former_one_from_its_evidence(
    evolve: Evolve, runs: Path
) -> None:
    best = runs / "night" / "best"
    assert evolve("export", "--runs", runs, "--pairs", 0).code == 0
    config = configure({"runs": runs, "name": "night"})
    task = config.load_task()
    shown = PlainDisplay()
    with DuckLineage.open(config.folder, stored_identity(config.folder)) as lineage:
        bred_by = breeders(config.breeding, task, Spent())
        follower = Follower(config, task, lineage, Watch(None, 1, 0.0), shown, bred_by)
        state = State(lineage.identity().direction)
        for record in lineage.replay():
            state.apply(record)
            if isinstance(record, Ended):  # the first founder leads
                break
        follower.keep_best(state)
    assert (best / task.artifact).read_text() == "A = 3.0\n"
    assert sorted(file.name for file in best.iterdir()) == ["evidence-4.json", task.artifact]
