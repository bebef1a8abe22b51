import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from evolve import leaving
from evolve.config import RunConfig
from evolve.evidence import Finalists
from population.identity import stored_identity
from population.individual import Failed, IndividualId, Scored, Stage
from population.lineage import DuckLineage
from population.ports import Cleared, Ended, Quarantined
from population.statistics import Estimate
from population.task import Task
from tests.evolve.conftest import MACHINE, POLYNOMIAL, Evolve, arrival, born, evaluation, recorded


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_results_tsv_has_a_row_for_each_experiment(evolve: Evolve, runs: Path) -> None:
    header, *rows = evolve("export", "--runs", runs, "--format", "tsv").out.splitlines()
    assert header == "commit\tcloseness\tmemory_gb\tstatus\tdescription"
    cells = [row.split("\t") for row in rows]
    assert [cell[3] for cell in cells] == ["keep", "keep", "keep", "keep", "crash"]
    assert cells[3][1:3] == ["2.250000", "1.0"]
    assert cells[3][4] == "#4 recombination of #3, #2 (unprotected)"


def test_what_does_not_rank_is_kept_by_no_row_of_results_tsv(evolve: Evolve, runs: Path) -> None:
    held, refused, cleared, abroad, later = (
        born(number, value, 4, operator="constants")
        for number, value in ((6, 0.1), (7, 0.2), (8, 2.0), (9, 0.5), (10, 1.9))
    )
    folder = runs / "night"
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        for number, one in enumerate((held, refused, cleared, abroad, later), 6):
            started, ended = evaluation(number, one, Scored(one.constants["A"]))
            machine = replace(MACHINE, device="another") if one is abroad else MACHINE
            lineage.record(arrival(one))
            lineage.record(started)
            lineage.record(Ended(replace(ended.result, comparability=machine)))
        for one in (held, refused, cleared):
            lineage.record(Quarantined(one.id, IndividualId(4), 2.0, 0.8))
        lineage.record(Cleared(refused.id, False, 0.0))
        lineage.record(Cleared(cleared.id, True, 0.3))
        lineage.publish()
    _, *rows = evolve("export", "--runs", runs, "--format", "tsv").out.splitlines()
    assert [row.split("\t")[3] for row in rows[5:]] == [
        "discard",  # held
        "discard",  # refused
        "keep",
        "discard",  # on another machine
        "keep",
    ]


def test_the_leader_is_kept_by_results_tsv_however_lucky_single_scores_of_others_are(
    evolve: Evolve, runs: Path
) -> None:
    folder, steady = runs / "night", born(6, 2.4, 4, operator="constants")
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        lineage.record(arrival(steady))
        for record in evaluation(6, steady, Scored(2.4)):
            lineage.record(record)
        lineage.publish()
        rows = evolve("export", "--runs", runs, "--format", "tsv").out.splitlines()
        assert rows[-1].split("\t")[3] == "discard"
        lineage.publish({steady.id: Estimate(2.3, 0.1), IndividualId(4): Estimate(2.4, 0.1)})
    _, *rows = evolve("export", "--runs", runs, "--format", "tsv").out.splitlines()
    kept = ["keep", "keep", "keep", "keep", "crash", "keep"]
    assert [row.split("\t")[3] for row in rows] == kept


def test_a_git_export_is_a_repository_with_a_commit_for_each_ancestor(
    evolve: Evolve, runs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fresh"
    assert evolve("export", "--runs", runs, "--format", "git", "-o", folder).code == 0
    subjects = git(folder, "log", "--format=%s", "--reverse").splitlines()
    assert subjects == ["#1 founder-1", "#3 constants", "#4 recombination"]
    assert (folder / "solve.py").read_text() == "A = 2.25\n"
    assert git(folder, "status", "--porcelain") == ""


def test_a_git_export_leaves_an_existing_repository_as_it_was(
    evolve: Evolve, runs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    git(folder, "init", "--quiet", "-b", "main")
    (folder / "notes.txt").write_text("unfinished")
    git(folder, "add", "notes.txt")
    assert evolve("export", "--runs", runs, "--format", "git", "-o", folder).code == 0
    assert git(folder, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert git(folder, "status", "--porcelain") == "A  notes.txt"
    assert git(folder, "show", "evolve/night:solve.py") == "A = 2.25"
    said = evolve("export", "--runs", runs, "--format", "git", "-o", folder)
    assert said.code == 2
    assert "branch evolve/night exists" in said.err


def test_a_git_export_does_not_touch_a_folder_of_other_things(
    evolve: Evolve, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    said = evolve("export", "--runs", runs, "--format", "git", "-o", tmp_path / "full")
    assert said.code == 2
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("inside", ["", "below"])
def test_a_git_export_into_a_file_is_a_user_error(
    evolve: Evolve, runs: Path, tmp_path: Path, inside: str
) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("dear")
    said = evolve("export", "--runs", runs, "--format", "git", "-o", file / inside)
    assert said.code == 2
    assert "cannot be made a folder" in said.err
    assert file.read_text() == "dear"


def test_an_exam_trains_on_the_cluster_and_behind_the_layers_that_are_named(
    evolve: Evolve, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[RunConfig] = []

    def examined(config: RunConfig, task: Task, pairs: int) -> Finalists:
        asked.append(config)
        return Finalists(IndividualId(4), IndividualId(2))

    monkeypatch.setattr(leaving, "_examined", examined)
    evolve("export", "--runs", runs, "--address", "head:6379", "--require-sandbox")
    evolve("export", "--runs", runs)
    assert [(one.address, one.require_sandbox) for one in asked] == [
        ("head:6379", True),
        (None, False),
    ]


def test_the_command_that_reproduces_a_score_names_the_device(
    evolve: Evolve, runs: Path, tmp_path: Path
) -> None:
    said = evolve("export", "--runs", runs, "--pairs", 0, "-o", tmp_path / "out")
    (line,) = [line for line in said.out.splitlines() if line.startswith("reproduce with: ")]
    assert "--device cpu" in line


def test_where_a_child_alone_is_scored_an_export_says_what_is_missing(
    evolve: Evolve, runs: Path
) -> None:
    founder, child = born(1, 3.0), born(2, 2.5, 1, operator="constants")
    crash = Failed(Stage.TRAINING, "crash", "it raised ValueError")
    with DuckLineage.open(runs / "bare", stored_identity(runs / "night")) as lineage:
        for record in (arrival(founder), arrival(child), *evaluation(1, founder, crash)):
            lineage.record(record)
        for record in evaluation(2, child, Scored(2.5)):
            lineage.record(record)
        lineage.publish()
    said = evolve("export", "--runs", runs, "--run", "bare", "--pairs", 0)
    assert said.code == 2
    assert said.err.startswith("error: no founder has a score")


def test_a_task_that_was_moved_is_to_be_put_back_or_linked(evolve: Evolve, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    runs = recorded(tmp_path / "runs", old)
    shutil.copytree(POLYNOMIAL, new)
    words = ("--runs", runs, "--run", "night")
    program = new / "seeds" / "line.py"
    for command in (
        ("export",),
        ("export", "--pairs", 0),
        ("inject", program, "--hypothesis", "x"),
    ):
        said = evolve(*command, *words)
        assert said.code == 2
        assert said.err.startswith(f"error: the task of run night lay in {old} and is no longer")
    old.symlink_to(new)
    assert evolve("export", "--pairs", 0, *words, "-o", tmp_path / "out").code == 0


def test_an_export_without_an_exam_claims_nothing(
    evolve: Evolve, runs: Path, tmp_path: Path
) -> None:
    said = evolve("export", "--runs", runs, "--pairs", 0, "-o", tmp_path / "out")
    assert said.code == 0
    assert "nothing is claimed" in said.out
    evidence = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert (tmp_path / "out" / "solve.py").read_text() == "A = 2.25\n"
    assert evidence["claim"] is None
    assert evidence["champion"]["individual"] == 4
    assert evidence["founder"]["individual"] == 2
    assert [step["individual"] for step in evidence["line_of_descent"]] == [1, 3, 4]
    assert evidence["comparability"][0]["device"] == "test machine"
    assert evidence["scores"][-1]["sandbox"] == ["limits"]
