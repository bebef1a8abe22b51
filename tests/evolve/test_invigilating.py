"""An exam is seen while it is held, and ended by whoever may: with real trainings."""

import json
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evolve import steering
from evolve.composition import founders, identity
from evolve.config import configure
from evolve.invigilating import Invigilation
from evolve.reading import Reading
from evolve.taskfile import REPOSITORY, load_task
from population.individual import (
    Comparability,
    EvaluationId,
    Genome,
    Individual,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
)
from population.lineage import DuckLineage
from population.ports import Ended, Founded, Proposal, Proposed, Started
from tests.evolve.conftest import POLYNOMIAL
from tests.evolve.test_inject import BETTER
from tests.evolve.test_running import command
from tests.evolve.test_steering import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SLOW = "import time\ntime.sleep(1)\n"
MACHINE = Comparability("cpu", "", "", 1, "e", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run whose search is over: two founders, and a child that leads. All train for a second."""
    task_folder = Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))
    for seed in (task_folder / "seeds").iterdir():
        seed.write_text(SLOW + seed.read_text())
    config = configure({"runs": tmp_path / "runs", "name": "a", "task": task_folder, "slots": 1})
    task = config.load_task()
    first, second = (
        replace(founder, id=IndividualId(number))
        for number, founder in enumerate(founders(task), start=1)
    )
    child = Individual(
        IndividualId(3),
        Genome(SLOW + BETTER),
        parents=(first.id,),
        operator="made",
        fingerprint="f",
    )
    made = Proposal("made", child.parents, child.genome, fingerprint="f")
    with DuckLineage.open(config.folder, identity(config, task, None)) as lineage:
        for record in (Founded(first), Founded(second), Proposed(child.proposal, made, child)):
            lineage.record(record)
        for number, (who, value) in enumerate(((first, 1.0), (second, 2.0), (child, 3.0)), start=1):
            one = EvaluationId(number)
            shard = task.shards[0]
            lineage.record(Started(Request(one, who.id, who.genome, 1, shard, Purpose.SCREEN)))
            lineage.record(Ended(Result(one, Scored(value), MACHINE)))
        lineage.publish()
    return config.folder


def started(folder: Path, *words: object) -> subprocess.Popen[str]:
    called = command(folder.parent.parent, *words, "--run", folder.name)
    return subprocess.Popen(called, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def in_exam(folder: Path, pairs: int, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the exam of `live.json` as soon as the process has held so many pairs of it."""

    def says(live: dict[str, Any]) -> bool:
        assert process.poll() is None
        exam = live["exam"] if live["pid"] == process.pid else None
        return exam is not None and exam["pairs"] >= pairs

    found: dict[str, Any] = until(folder, says)["exam"]
    return found


def test_an_exam_is_stopped_from_outside_or_by_a_signal_and_goes_on_where_it_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "PATIENCE_S", 60.0)
    with started(folder, "run", "--evaluations", 3, "--export", "--pairs", 9) as process:
        exam = in_exam(folder, 1, process)
        assert exam == {"champion": 3, "founder": 2, "pairs": exam["pairs"], "most": 9}
        with Reading(folder) as reading:
            found = reading.status()
        assert found["running"] and found["exam"] and found["live"]["running"]
        said = steering.stop(folder, wait_s=60.0)
        assert (said.state, process.wait(60)) == ("done", 130)
        assert said.says.startswith("the run has ended: `evolve export --run a")
        assert process.stdout is not None
        out = process.stdout.read()
    assert "exam: stopped" in out and "`evolve export --run a" in out
    assert not (folder / "best" / "evidence.json").exists()
    with Reading(folder) as reading:
        assert not reading.status()["running"]
        ((kept,),) = reading.query(ENDED).rows

    with started(folder, "export", "--pairs", 9) as process:
        assert in_exam(folder, 0, process)["pairs"] >= 1
        in_exam(folder, 2, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    with Reading(folder) as reading:
        ((more,),) = reading.query(ENDED).rows
    assert more > kept

    with started(folder, "export", "--pairs", 2) as process:
        assert process.wait(120) == 1  # too few pairs to claim anything
    evidence = json.loads((folder / "best" / "evidence.json").read_text())
    assert evidence["claim"]["pairs"] >= 2
    with Reading(folder) as reading:
        assert reading.query(ENDED).rows == ((more,),)
        unended = "SELECT count(*) FROM evaluations WHERE status = 'running'"
        assert reading.query(unended).rows == ((0,),)


ENDED = "SELECT count(*) FROM evaluations WHERE purpose = 'exam' AND status = 'scored'"


@pytest.mark.parametrize(("pairs", "warned"), [(4, True), (5, False)])
def test_an_exam_that_can_claim_nothing_says_so_before_it_begins(
    pairs: int, warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    nothing: Any = None
    monkeypatch.setattr("evolve.invigilating.hold_exam", lambda *_: nothing)
    Invigilation(tmp_path, load_task(POLYNOMIAL), nothing, nothing).hold(nothing, nothing, pairs)
    said = capsys.readouterr().out
    assert f"at most {pairs} pairs" in said
    assert ("which can claim nothing: ask for 5 or more" in said) is warned
