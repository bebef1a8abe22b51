"""`evolve inject`, against a recorded run, against a search without training, and for real."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evolve import injecting
from evolve.commands import Inject
from evolve.control import CONTROL, REJECTED, Control, attempt_name, send
from evolve.injecting import Answer, describe, look
from evolve.live import Exam, Snapshot, write_live
from evolve.reading import Reading
from evolve.taskfile import REPOSITORY
from mutate.checks import Checks
from population.history import History
from population.identity import stored_identity
from population.individual import (
    Failed,
    Genome,
    Individual,
    IndividualId,
    ProposalId,
    Stage,
)
from population.lineage import DuckLineage
from population.ports import (
    Attempt,
    Founded,
    Injection,
    Proposal,
    Proposed,
)
from population.search import SearchConfig
from population.state import State
from tests.evolve.conftest import POLYNOMIAL, Evolve, Said, born, evaluation
from tests.evolve.test_protection import WARNING
from tests.population.fakes import FakeEvaluation, Nudge, program, search

BETTER = """import json
from pathlib import Path

A = 0.86  # 0..1
B = -0.09  # -0.2..0

Path("coefficients.json").write_text(json.dumps([0.0, A, 0.0, B]))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(BETTER)
    return path


def live(runs: Path, individuals: int = 5) -> None:
    """Let the recorded run seem to go on, driven by this process."""
    snapshot = Snapshot(os.getpid(), socket.gethostname(), 0.0, 0.0, individuals=individuals)
    write_live(runs / "night" / "live.json", snapshot)


def waiting(runs: Path) -> list[Path]:
    return sorted((runs / "night" / CONTROL).glob("*.json"))


def test_a_program_waits_in_the_folder_of_a_run_that_is_not_running(
    evolve: Evolve, runs: Path, file: Path
) -> None:
    said = evolve("inject", file, "--hypothesis", "odd powers", "--runs", runs)
    assert said.code == 0
    assert f"`evolve run --run night --runs {runs}` takes it first" in said.out
    words = ("--parent", 3, "--category", "powers", "--json")
    said = evolve("inject", file, "--hypothesis", "again", "--runs", runs, *words)
    answer = json.loads(said.out)
    assert (said.code, answer["state"], answer["running"]) == (0, "waiting", False)
    first, second = (json.loads(path.read_text()) for path in waiting(runs))
    assert waiting(runs)[1].stem == answer["injection"]
    assert (first["source"], first["parent"], first["category"]) == (BETTER, None, "program")
    assert (second["hypothesis"], second["parent"], second["category"]) == ("again", 3, "powers")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def broken(:\n", "it does not parse: line 1"),
        ("", "the program is empty"),
        ("A = '" + "x" * 3000 + "'\n", "a text of 3000 bytes"),
        ("#" * 200_000, "more than 131072"),
    ],
)
def test_a_program_that_fails_a_check_is_refused_at_once(
    evolve: Evolve, runs: Path, file: Path, source: str, reason: str
) -> None:
    file.write_text(source)
    said = evolve("inject", file, "--hypothesis", "why", "--runs", runs, "--wait", "--json")
    answer = json.loads(said.out)
    assert (said.code, answer["state"], answer["injection"]) == (1, "refused", "")
    assert reason in answer["reason"]
    assert waiting(runs) == []


def test_a_program_that_does_the_same_as_an_individual_is_refused_at_once(
    evolve: Evolve, runs: Path, file: Path
) -> None:
    digest = injecting.fingerprint(BETTER)
    with DuckLineage.open(runs / "night", stored_identity(runs / "night")) as lineage:
        lineage.record(Founded(Individual(IndividualId(6), Genome(BETTER), fingerprint=digest)))
        lineage.publish()
    file.write_text(f"# laid out anew\n{BETTER}\n")
    said = evolve("inject", file, "--hypothesis", "why", "--runs", runs)
    assert said.code == 1
    assert said.out.startswith("refused: it does the same as individual 6")
    assert waiting(runs) == []


def test_wrong_use_is_told_and_puts_nothing_in(
    evolve: Evolve, runs: Path, file: Path, tmp_path: Path
) -> None:
    def wrong(*words: object) -> str:
        said = evolve("inject", *words, "--runs", runs)
        assert said.code == 2
        return said.err

    assert "--hypothesis" in wrong(file)
    assert "hypothesis must have" in wrong(file, "--hypothesis", " ")
    assert "ids go from 1 to 5" in wrong(file, "--hypothesis", "why", "--parent", 99)
    assert "one word" in wrong(file, "--hypothesis", "why", "--category", "Two Words")
    assert "cannot be read" in wrong(tmp_path / "none.py", "--hypothesis", "why")
    assert "known: night" in wrong(file, "--hypothesis", "why", "--run", "day")
    assert waiting(runs) == []


def test_a_running_run_may_know_younger_parents_than_it_has_published(
    evolve: Evolve, runs: Path, file: Path
) -> None:
    live(runs, individuals=7)  # two more than are published
    words = ("inject", file, "--hypothesis", "why", "--runs", runs, "--parent")
    said = evolve(*words, 7)
    assert said.code == 0
    assert "the driver takes it within a second" in said.out
    said = evolve(*words, 8)
    assert said.code == 2
    assert "individual 8 does not exist; ids go from 1 to 7" in said.err
    assert len(waiting(runs)) == 1


def test_a_program_waits_while_the_run_is_paused_and_that_is_told(
    evolve: Evolve, runs: Path, file: Path
) -> None:
    write_live(
        runs / "night" / "live.json",
        Snapshot(os.getpid(), socket.gethostname(), 0.0, 0.0, paused=True),
    )
    said = evolve("inject", file, "--hypothesis", "why", "--runs", runs)
    assert said.code == 0
    assert "the run is paused: `evolve resume`" in said.out


def test_a_program_waits_for_the_end_of_an_exam_and_that_is_told(
    evolve: Evolve, runs: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(injecting, "PATIENCE_S", 0.05)
    monkeypatch.setattr(injecting, "LOOK_S", 0.01)
    exam = Snapshot(os.getpid(), socket.gethostname(), 0.0, 0.0, exam=Exam(4, 2, 2, 12))
    write_live(runs / "night" / "live.json", exam)
    for words in ((), ("--wait",)):
        said = evolve("inject", file, "--hypothesis", "why", "--runs", runs, *words)
        assert said.code == len(words)
        assert "the run holds an exam now: `evolve run --run night" in said.out


def test_a_driver_that_is_quicker_than_the_answer_has_accepted_it(
    evolve: Evolve, runs: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(folder: Path, wish: Inject) -> str:
        name = send(folder, wish)
        waiting(runs)[0].unlink()
        return name

    monkeypatch.setattr(injecting, "send", take)
    said = evolve("inject", file, "--hypothesis", "why", "--runs", runs, "--json")
    assert (said.code, json.loads(said.out)["state"]) == (0, "taken")


def test_waiting_for_a_run_that_is_not_running_ends_with_what_to_do(
    evolve: Evolve, runs: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(injecting, "PATIENCE_S", 0.05)
    monkeypatch.setattr(injecting, "LOOK_S", 0.01)
    said = evolve("inject", file, "--hypothesis", "why", "--runs", runs, "--wait")
    assert said.code == 1
    assert "takes it first" in said.out
    assert len(waiting(runs)) == 1


def test_waiting_is_bounded(evolve: Evolve, runs: Path, file: Path) -> None:
    live(runs)
    words = ("--wait", "--timeout", "0.1", "--json")
    said = evolve("inject", file, "--hypothesis", "why", "--runs", runs, *words)
    assert (said.code, json.loads(said.out)["state"]) == (1, "waiting")


# A search without training, whose lineage and control folder are real.


def put(evolve: Evolve, runs: Path, source: str, *words: object) -> str:
    file = runs.parent / "put.py"
    file.write_text(source)
    said: Said = evolve("inject", file, "--hypothesis", "why", "--runs", runs, "--json", *words)
    assert said.code == 0, said
    return str(json.loads(said.out)["injection"])


class Fresh(Nudge):
    """Offers a program of its own, whatever the parents are."""

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        source = program(2.0 + rng.random())
        return Proposal(self.name, (parents[0].id,), Genome(source), fingerprint=source)


def drive(runs: Path, control: type[Control] = Control, evaluations: int = 20) -> State:
    """Continue the recorded run with programs whose number is their score."""
    folder = runs / "night"
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        try:
            return search(
                SearchConfig(max_evaluations=evaluations),
                lineage,
                FakeEvaluation(2),
                Fresh(),
                sources=[program(2.0), program(2.1)],
                injections=control(folder, Checks("solve.py"), print, print, print),
            ).run(lambda: False)
        finally:
            lineage.publish()


def answer_to(runs: Path, name: str) -> Answer:
    return look(runs / "night", name)


def test_the_next_run_takes_what_waits_and_its_outcome_can_be_read(
    evolve: Evolve, runs: Path
) -> None:
    drive(runs, evaluations=12)
    names = [
        put(evolve, runs, "VALUE = 1.5\n", "--parent", 6),
        put(evolve, runs, "VALUE = 1.4\n"),
        put(evolve, runs, "NOTHING = 1\n"),
    ]
    assert answer_to(runs, names[0]).state == "waiting"
    state = drive(runs)
    first, second, third = (answer_to(runs, name) for name in names)
    assert waiting(runs) == []
    assert (first.state, second.state, third.state) == ("scored", "scored", "failed")
    assert first.value == pytest.approx(1.5, abs=0.1)
    assert first.gain == pytest.approx(0.5, abs=0.1)
    assert second.gain is None
    assert "startup" in third.reason or "training" in third.reason
    assert first.individual is not None
    individual = state.individuals[IndividualId(first.individual)]
    assert (individual.operator, individual.parents) == ("inject", (6,))
    text = evolve("show", first.individual, "--runs", runs).out
    assert "inject of #6" in text and "program: why" in text and "+VALUE = 1.5" in text
    text = evolve("show", second.individual, "--runs", runs).out
    assert "program: why\n" in text


def test_an_answer_says_where_its_score_was_made_within_reach_of_the_validation_data(
    evolve: Evolve, runs: Path
) -> None:
    names = [put(evolve, runs, "VALUE = 1.4\n"), put(evolve, runs, "NOTHING = 1\n")]
    drive(runs)  # behind no layer of the sandbox
    scored, failed = (answer_to(runs, name) for name in names)
    assert (scored.state, scored.unprotected) == ("scored", scored.evaluations)
    assert sum(WARNING in line for line in describe(scored).splitlines()) == 1
    assert (failed.state, failed.unprotected) == ("failed", 0)
    for silent in (failed, replace(scored, unprotected=0)):
        assert WARNING not in describe(silent)


def test_hypotheses_without_a_diff_stay_apart_in_the_view_of_changes(
    evolve: Evolve, runs: Path
) -> None:
    for number, hypothesis in enumerate(("one", "two")):
        put(evolve, runs, f"VALUE = 1.{number}\n", "--hypothesis", hypothesis)
    drive(runs)
    with Reading(runs / "night") as reading:
        found = reading.query("SELECT hypothesis FROM changes WHERE carriers = 1 ORDER BY 1").rows
    assert {("one",), ("two",)} <= set(found)


def test_an_injected_program_without_a_parent_is_no_founder(evolve: Evolve, runs: Path) -> None:
    put(evolve, runs, "VALUE = 0.5\n")
    drive(runs)
    assert evolve("export", "--pairs", 0, "--runs", runs).code == 0
    evidence = json.loads((runs / "night" / "best" / "evidence.json").read_text())
    assert evidence["founder"]["operator"] == "founder"


def test_a_twin_that_only_the_driver_can_see_is_refused_by_it(evolve: Evolve, runs: Path) -> None:
    first, second = (put(evolve, runs, "VALUE = 1.5\n") for _ in range(2))
    drive(runs)
    assert answer_to(runs, first).state == "scored"
    refused = answer_to(runs, second)
    assert (refused.state, refused.individual) == ("refused", None)
    assert f"it does the same as individual {answer_to(runs, first).individual}" in refused.reason
    with Reading(runs / "night") as reading:
        texts = reading.query("SELECT answer FROM prompts WHERE what LIKE 'inject%'").rows
    assert list(texts) == [("VALUE = 1.5\n",)]  # the file is gone, the refused text is not


class Killed(Control):
    """Is killed when the record is made and the file is not yet removed."""

    def done(self, injection: Injection) -> None:
        raise KeyboardInterrupt


def test_a_kill_between_record_and_removal_gives_no_second_individual(
    evolve: Evolve, runs: Path
) -> None:
    name = put(evolve, runs, "VALUE = 1.5\n")
    with pytest.raises(KeyboardInterrupt):
        drive(runs, Killed)
    assert len(waiting(runs)) == 1
    drive(runs)
    assert waiting(runs) == []
    answer = answer_to(runs, name)
    assert answer.state == "scored"  # the first record answers, not the refusal of the twin
    with Reading(runs / "night") as reading:
        injected = reading.query("SELECT id FROM individual WHERE operator = 'inject'").rows
        trained = reading.query(
            f"SELECT count(*) FROM evaluation WHERE individual = {answer.individual} "
            "AND purpose = 'screen'"
        ).rows
    assert (injected, trained) == (((answer.individual,),), ((1,),))


def test_a_command_that_was_moved_aside_is_refused(evolve: Evolve, runs: Path) -> None:
    name = put(evolve, runs, "VALUE = 1.5\n")
    (aside := runs / "night" / CONTROL / REJECTED).mkdir()
    waiting(runs)[0].rename(aside / f"{name}.json")
    assert answer_to(runs, name).state == "refused"


def test_disturbed_evaluations_are_no_outcome_while_the_run_goes_on(runs: Path) -> None:
    folder, lost = runs / "night", Failed(Stage.INFRASTRUCTURE, "lost", "a node went away")
    mine = replace(born(6, 1.0, operator="inject"), proposal=ProposalId(6))
    attempts = (Attempt(attempt_name("a"), "offered"),)
    proposal = Proposal("inject", (), mine.genome, attempts=attempts)
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        for record in (Proposed(mine.proposal, proposal, mine), *evaluation(6, mine, lost)):
            lineage.record(record)
        lineage.publish()
    assert answer_to(runs, "a").state == "failed"  # nobody trains it again
    live(runs)
    assert answer_to(runs, "a").state == "taken"


# For real


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_running_run_trains_what_is_put_into_it_and_whoever_waits_is_told(
    tmp_path: Path, file: Path
) -> None:
    def command(*words: object) -> list[str]:
        runs = ("--runs", tmp_path / "runs")
        return [sys.executable, "-m", "evolve.cli", *map(str, words), *map(str, runs)]

    run = command("run", "--run", "a", "--task", POLYNOMIAL, "--slots", 1, "--hours", 0.02)
    words = ("--parent", 2, "--hypothesis", "fits", "--wait", "--timeout", 90, "--json")
    waits = None
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "founder #2" in line:
                waits = subprocess.Popen(
                    command("inject", file, *words), stdout=subprocess.PIPE, text=True
                )
            if re.match(r"\[\d+\] #\d+ inject of #2: -0.0", line):
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert waits is not None
    out, _ = waits.communicate(timeout=90)
    answer = json.loads(out)
    assert (waits.returncode, answer["state"], answer["metric"]) == (0, "scored", "closeness")
    assert answer["gain"] > 0
    with Reading(tmp_path / "runs" / "a") as reading:
        found = reading.individual(answer["individual"])
    assert (found["operator"], found["source"]) == ("inject", BETTER)
    assert found["changes"][0]["hypothesis"] == "fits"
