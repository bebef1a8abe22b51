"""A task whose programs report their own scores: read, run, and marked wherever it is read."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from evaluate.sandbox import Layer
from evolve import announcing, running
from evolve.briefing import brief_of
from evolve.composition import identity, search_config
from evolve.config import configure
from evolve.control import attempt_name
from evolve.doctor import _sandbox_in_all, examine_machine
from evolve.injecting import describe, look
from evolve.printing import SELF_REPORTED
from evolve.reading import Reading
from evolve.report import report
from evolve.taskdata import prepared
from evolve.taskfile import REPOSITORY, load_task
from evolve.trying import Trial, as_object, as_text
from population import views
from population.errors import DataError, SandboxError, TaskError
from population.identity import stored_identity
from population.individual import EvaluationId, Genome, Measurement, ProposalId, Result, Scored
from population.lineage import DuckLineage
from population.ports import Attempt, Proposal, Proposed
from population.publishing import PUBLISHED
from population.task import EvaluatorKind
from tests.evolve.conftest import MACHINE, Evolve, born, evaluation, recorded

SLOPE = Path(__file__).parent.parent / "tasks" / "slope"
REPORTED = '{"evaluator.kind": "reported"}'


@pytest.fixture
def slope(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SLOPE, tmp_path / "slope"))


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A recorded run of such a task, with data that Landlock did not hold."""
    return recorded(tmp_path / "runs", SLOPE, REPORTED)


def edit(folder: Path, old: str, new: str) -> Path:
    file = folder / "task.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return folder


def test_its_data_is_a_path_beside_the_task_file_and_the_option_s_one_of_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = load_task(SLOPE)
    assert (task.kind, task.data) == (EvaluatorKind.REPORTED, str(SLOPE / "data"))
    monkeypatch.chdir(tmp_path)
    assert load_task(SLOPE, data="mine").data == str(tmp_path / "mine")
    assert load_task(SLOPE, data="~/mine").data == str(Path.home() / "mine")


def test_it_may_have_no_data(slope: Path, tmp_path: Path) -> None:
    task = load_task(edit(slope, '[data]\nsource = "data"\n', ""))
    assert task.data is None
    assert prepared(task, tmp_path) is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('kind = "seconds"', 'kind = "steps"', "reports its own score: its budget must be in sec"),
        ("amount = 5.0", "amount = 5.0, rung = 2.0", "knows no shorter schedule"),
        ('file = "points.py"', 'file = "points.py"\ncommand = ["x"]', "`evaluator.command`"),
        ("[evaluator]", 'shards = ["a", "b", "c"]\n[evaluator]', "unknown key `shards`"),
        ('file = "points.py"', 'file = "train.py"', "must be named otherwise than the artifact"),
        ('source = "data"', "source = 3", "`data.source` must be a text"),
    ],
)
def test_what_such_a_task_cannot_have_is_refused(
    slope: Path, old: str, new: str, says: str
) -> None:
    (slope / "train.py").touch()
    with pytest.raises(TaskError, match=re.escape(says)):
        load_task(edit(slope, old, new))


def test_data_that_is_not_there_or_holds_more_than_data_is_refused(
    slope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"is to lie in .*/none, where nothing is: name the file"):
        prepared(load_task(slope, data=str(tmp_path / "none")), tmp_path)
    (lies := tmp_path / "home" / "data").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(lies.parent))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch" / "tmp"))
    for place, what in (
        (slope, "the task"),
        (lies.parent, "your home"),
        (tmp_path / "scratch", "temporary files"),
        (tmp_path / "caches", "what other tasks have prepared"),
        (Path("/proc"), "all processes"),
    ):
        place.mkdir(exist_ok=True)
        with pytest.raises(SandboxError, match=f"{place} holds {what}, too"):
            prepared(load_task(slope, data=str(place)), tmp_path / "caches" / "ours")
    assert prepared(load_task(slope, data=str(lies)), tmp_path) == lies


def test_a_run_whose_folder_candidates_would_read_is_refused(slope: Path) -> None:
    config = configure({"runs": slope / "data" / "runs", "name": "a", "task": slope})
    with pytest.raises(SandboxError, match="which every candidate reads: name another folder"):
        running.run(config)


def test_shared_memory_that_a_gpu_s_candidates_do_not_see_is_refused(tmp_path: Path) -> None:
    task = replace(load_task(SLOPE, data="/dev/shm"), device="cuda")
    with pytest.raises(DataError, match="is not that of a candidate on cuda"):
        prepared(task, tmp_path)


def test_its_scores_belong_to_its_data_and_are_held_back_from_no_shard(tmp_path: Path) -> None:
    config = configure({"runs": tmp_path, "name": "a", "task": SLOPE})
    task = config.load_task()
    assert search_config(config, task).quarantine_sigmas is None
    known = identity(config, task, prepared(task, tmp_path))
    other = tmp_path / "points.csv"
    other.write_text("1,2\n3,4\n")
    assert known.data_sha256 and known.data_sha256 != identity(config, task, other).data_sha256
    assert json.loads(known.conditions)["evaluator.kind"] == "reported"


@pytest.mark.parametrize(
    "words",
    [("status",), ("top",), ("show", 4), ("lineage", 4), ("export",), ("export", "--pairs", 0)],
)
def test_whoever_reads_its_scores_is_told_once_that_they_are_self_reported(
    evolve: Evolve, told: Path, words: tuple[object, ...]
) -> None:
    said = evolve(*words, "--runs", told)
    assert said.code == 0, said.err
    assert said.out.splitlines().count(SELF_REPORTED) == 1
    assert "could read the validation data" not in said.out  # nothing is secret from them


def test_scores_of_a_task_that_others_score_are_not_marked_so(evolve: Evolve, runs: Path) -> None:
    assert "self-reported" not in evolve("status", "--runs", runs).out
    assert json.loads(evolve("status", "--runs", runs, "--json").out)["self_reported"] is False
    with Reading(runs / "night") as reading:
        found = reading.query("SELECT DISTINCT self_reported FROM evaluations").rows
    assert found == ((False,),)


def test_programs_that_read_its_scores_find_a_field_that_says_so(
    evolve: Evolve, told: Path
) -> None:
    def answer(*words: object) -> Any:
        return json.loads(evolve(*words, "--runs", told, "--json").out)

    assert answer("status")["self_reported"] is True
    assert answer("status")["unprotected"] == 0
    assert {row["self_reported"] for row in answer("top")} == {True}
    assert answer("show", 4)["self_reported"] is True
    assert {step["self_reported"] for step in answer("lineage", 4)} == {True}
    assert answer("report")["self_reported"] is True
    for view in ("evaluations", "leaderboard"):
        rows = evolve("query", f"SELECT DISTINCT self_reported FROM {view}", "--runs", told,
                      "--format", "json")  # fmt: skip
        assert json.loads(rows.out) == [{"self_reported": True}]


def test_its_pages_say_so_at_the_run_and_at_each_program(told: Path) -> None:
    with Reading(told / "night") as reading:
        page = report(reading)
        told_in_full = page.count('<article id="individual-')
    assert page.count(f'<p class="warning">{SELF_REPORTED}</p>') == 1 + told_in_full == 5
    assert "nobody can confirm its score" in page


def test_each_score_of_a_table_and_each_commit_of_a_branch_says_so(
    evolve: Evolve, told: Path, tmp_path: Path
) -> None:
    _, *rows = evolve("export", "--runs", told, "--format", "tsv").out.splitlines()
    assert [row.endswith(" (self-reported)") for row in rows] == [True] * 4 + [False]  # it crashed
    assert "unprotected" not in "".join(rows)
    evolve("export", "--runs", told, "--format", "git", "-o", tmp_path / "fresh")
    bodies = subprocess.run(
        ["git", "-C", tmp_path / "fresh", "log", "--format=%b"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert bodies.stdout.count(SELF_REPORTED) == 3  # two ancestors and itself


def test_its_best_is_exported_with_evidence_that_claims_nothing(evolve: Evolve, told: Path) -> None:
    out = evolve("export", "--runs", told).out
    assert "no exam of #4 is held: nobody can confirm its score" in out
    assert "--shard" not in out
    evidence = json.loads((told / "night" / "best" / "evidence.json").read_text())
    assert (evidence["self_reported"], evidence["claim"], evidence["unprotected"]) == (
        True,
        None,
        0,
    )
    assert (told / "night" / "best" / "train.py").read_text() == "A = 2.25\n"


@pytest.mark.parametrize(
    "words", [("--pairs", 3), ("--address", "auto"), ("--require-sandbox",), ("--cache", "x")]
)
def test_an_exam_that_is_asked_for_is_refused_with_the_reason(
    evolve: Evolve, told: Path, words: tuple[object, ...]
) -> None:
    said = evolve("export", "--runs", told, *words)
    assert said.code == 2
    assert f"{words[0]} has no effect where programs report their own scores" in said.err
    assert "an exam could confirm nothing: leave it out" in said.err
    assert not (told / "night" / "best").exists()


def test_an_exam_at_the_end_is_refused_before_a_run_is_born(evolve: Evolve, tmp_path: Path) -> None:
    words = ("--runs", tmp_path / "runs", "--run", "a", "--task", SLOPE, "--evaluations", 1)
    said = evolve("run", *words, "--export", "--pairs", 3)
    assert said.code == 2
    assert "--pairs has no effect where programs report their own scores" in said.err
    assert not (tmp_path / "runs").exists()


def test_one_trial_says_so_and_knows_no_shard(evolve: Evolve) -> None:
    words = ("try", SLOPE / "seeds" / "guess.py", "--task", SLOPE)
    said = evolve(*words)
    assert said.code == 0, said
    assert SELF_REPORTED in said.out.splitlines()
    found = json.loads(evolve(*words, "--json").out)
    assert found["value"] == pytest.approx(0.3318, abs=1e-4)
    assert (found["self_reported"], found["protected"]) == (True, True)
    refused = evolve(*words, "--shard", "exam")
    assert refused.code == 2 and "drop --shard" in refused.err


def test_data_that_is_named_takes_the_place_of_the_task_s(evolve: Evolve, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("0,0\n1,3\n")
    words = ("--task", SLOPE, "--data", tmp_path, "--json")
    found = json.loads(evolve("try", SLOPE / "seeds" / "guess.py", *words).out)
    assert found["value"] == pytest.approx(4.0)


def test_an_injected_program_is_answered_without_the_promise_of_an_exam(told: Path) -> None:
    mine = replace(born(6, 1.0, operator="inject"), proposal=ProposalId(6))
    attempts = (Attempt(attempt_name("a"), "offered"),)
    proposal = Proposal("inject", (), mine.genome, attempts=attempts)
    with DuckLineage.open(told / "night", stored_identity(told / "night")) as lineage:
        for record in (Proposed(mine.proposal, proposal, mine), *evaluation(6, mine, Scored(1.0))):
            lineage.record(record)
        lineage.publish()
    answer = look(told / "night", "a")
    assert (answer.state, answer.self_reported) == ("scored", True)
    assert describe(answer).splitlines()[1] == SELF_REPORTED


def test_a_run_that_an_older_version_has_published_is_read(evolve: Evolve, runs: Path) -> None:
    with duckdb.connect(str(runs / "night" / PUBLISHED)) as published:
        published.execute("ALTER TABLE run DROP COLUMN conditions")
        published.execute(
            "CREATE OR REPLACE VIEW evaluations AS SELECT e.id AS evaluation, e.individual, "
            "e.purpose, e.shard, e.seed, e.attempt, CASE WHEN r.value IS NULL THEN 'failed' "
            "ELSE 'scored' END AS status, r.* EXCLUDE (evaluation, seq), e.seq AS started_seq, "
            "r.seq AS ended_seq, list_contains(r.sandbox, 'landlock') AS protected "
            "FROM evaluation e JOIN result r ON r.evaluation = e.id"
        )
        older = views.THIN_VIEWS["leaderboard"].replace(views.SELF_REPORTED, "")
        published.execute(f"CREATE OR REPLACE VIEW leaderboard AS {older}")
    for words in (
        ("status",),
        ("top",),
        ("show", 4),
        ("lineage", 4),
        ("export", "--format", "tsv"),
    ):
        said = evolve(*words, "--runs", runs)
        assert said.code == 0, said.err
        assert "self-reported" not in said.out


def test_doctor_names_it_and_finds_its_data(tmp_path: Path) -> None:
    found = examine_machine(SLOPE, tmp_path, tmp_path, None)
    says = {one.subject: (one.state, one.says) for one in found}
    assert says["score"] == ("note", SELF_REPORTED)
    assert says["data"][1].startswith(str(SLOPE / "data"))
    assert "validation data" not in says


def test_where_candidates_could_read_everything_its_scores_are_no_less_protected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = (Layer("landlock", False, "nothing is out of reach"),)
    config = configure({"runs": tmp_path, "name": "a", "task": SLOPE})
    task = config.load_task()
    assert "validation data" not in {one.subject for one in _sandbox_in_all(lacking, task)}
    monkeypatch.setattr(announcing, "probe", lambda *_, **__: lacking)
    trainers: Any = SimpleNamespace(kind=None, slots=1)
    data = prepared(task, tmp_path)
    announcing.announce(config, task, data, trainers, None)
    head = capsys.readouterr().out
    assert "not on this machine: landlock" in head
    assert "validation data" not in head
    result = Result(EvaluationId(1), Scored(1.0), MACHINE, sandbox=("limits",))
    found = as_object(result, Trial(task, Genome(""), data), seed=0)
    assert found["protected"] is True
    assert "could read" not in as_text(found)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_one_trial_says_that_others_disturbed_it(share: float) -> None:
    measured = (Measurement("foreign_share", share, "1"),)
    result = Result(EvaluationId(1), Scored(1.0), MACHINE, measured, sandbox=("limits",))
    found = as_object(result, Trial(load_task(SLOPE), Genome(""), None), seed=0)
    assert found["disturbed"] is (share > 0.1)
    assert ("1 score was made while others used the machine" in as_text(found)) is (share > 0.1)


def test_a_language_model_is_told_that_its_program_prints_the_score() -> None:
    assert brief_of(load_task(SLOPE)).kind is EvaluatorKind.REPORTED
    assert brief_of(load_task(REPOSITORY)).kind is EvaluatorKind.MODEL


def test_the_task_files_that_the_docs_give_are_some(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "evaluators.md").read_text("utf-8")
    command, reported = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "seeds").mkdir()
    for name in ("train.py", "prepare.py", "program.md", "score.py", "seeds/bubble.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "task.toml").write_text(command)
    assert load_task(tmp_path).kind is EvaluatorKind.COMMAND
    (tmp_path / "task.toml").write_text(reported)
    task = load_task(tmp_path, device="cuda")
    assert (task.kind, task.metric) == (EvaluatorKind.REPORTED, "val_bpb")
    assert task.data == str(Path.home() / ".cache" / "autoresearch")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_of_it_finds_a_better_program_and_says_what_that_is_worth(tmp_path: Path) -> None:
    words = ("run", "--run", "a", "--runs", tmp_path, "--task", SLOPE, "--slots", 2, "--export",
             "--evaluations", 6, "--lambda", 3)  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "evolve.cli", *map(str, words)],
        capture_output=True, text=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"score    {SELF_REPORTED}" in lines  # at the head
    assert lines.count(SELF_REPORTED) == 2  # under the table, and in the verdict
    assert "exam:" not in done.stdout
    evidence = json.loads((tmp_path / "a" / "best" / "evidence.json").read_text())
    assert (evidence["self_reported"], evidence["claim"]) == (True, None)
    assert json.loads((tmp_path / "a" / "live.json").read_text())["self_reported"] is True
    with Reading(tmp_path / "a") as reading:
        found = reading.query("SELECT DISTINCT purpose FROM evaluations").rows
    assert {purpose for (purpose,) in found} <= {"screen", "race"}
