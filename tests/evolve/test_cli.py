import csv
import html
import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from evolve import disturbed, printing
from evolve.live import Snapshot, write_live
from evolve.reading import Reading
from evolve.trying import Trial
from population.contention import Contention
from population.identity import stored_identity
from population.individual import EvaluationId, Failed, Genome, Measurement, Scored, Stage
from population.lineage import DuckLineage
from population.ports import Ended, Started
from tests.evolve.conftest import POLYNOMIAL, Evolve, arrival, born, evaluation

COMMANDS = ["run", "try", "inject", "status", "top", "show", "lineage", "query", "export", "doctor"]

READERS = [("status",), ("top",)]
DISTURBED = "made while others used the machine"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(evolve: Evolve, command: str) -> None:
    said = evolve(command, "--help")
    assert said.code == 0
    assert f"  evolve {command}" in said.out.split("Example")[1]


def test_an_unknown_command_or_option_value_is_wrong_use(evolve: Evolve) -> None:
    assert evolve("brew").code == 2
    said = evolve("run", "--evaluations", "many")
    assert said.code == 2
    assert "--evaluations" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--evaluations", "many"], "a whole number of at least 1 is expected; got 'many'"),
        (["run", "--mu", "0"], "a whole number of at least 1 is expected; got '0'"),
        (["show", "abc"], "a whole number of at least 1 is expected; got 'abc'"),
        (["ui", "--port", "x"], "a whole number of at least 0 and at most 65535 is expected;"),
        (["run", "--hours", "soon"], "a number above 0 is expected; got 'soon'"),
        (["run", "--llm", "--cost", "nan"], "a number above 0 is expected; got 'nan'"),
        (["run", "--llm", "--cost", "inf"], "a number above 0 is expected; got 'inf'"),
    ],
)
def test_a_wrong_number_is_told_the_range_that_is_expected(
    evolve: Evolve, words: list[str], says: str
) -> None:
    said = evolve(*words)
    assert said.code == 2
    assert says in said.err


def test_a_user_error_is_one_sentence_and_no_traceback(evolve: Evolve, tmp_path: Path) -> None:
    said = evolve("run", "--task", tmp_path)
    assert said.code == 2
    assert said.err.startswith(f"error: {tmp_path}/task.toml cannot be read")
    assert "Traceback" not in said.err


def test_reading_without_any_run_says_how_to_start_one(evolve: Evolve, tmp_path: Path) -> None:
    said = evolve("status", "--runs", tmp_path)
    assert said.code == 2
    assert "start one with `evolve run`" in said.err


def test_reading_an_unknown_run_lists_the_known_ones(evolve: Evolve, runs: Path) -> None:
    said = evolve("top", "--runs", runs, "--run", "day")
    assert said.code == 2
    assert "known: night" in said.err


def test_status_tells_counts_best_and_failures(evolve: Evolve, runs: Path) -> None:
    text = evolve("status", "--runs", runs).out
    assert "night: not running" in text
    assert "best 2.2500" in text
    assert "it raised ValueError" in text
    found = json.loads(evolve("status", "--runs", runs, "--json").out)
    assert (found["scored"], found["failed"], found["individuals"]) == (4, 1, 5)
    assert found["best"]["individual"] == 4
    assert found["waste"] is None
    assert "device time" not in text
    later = found | {"waste": {"wasted_share": 0.0625}}
    assert "failures took 6.2% of the device time after the first 20" in printing.status(later)
    assert (found["short"], found["let_through"]) == (0, 0)
    assert "trained shortly" not in text
    later = found | {"short": 12, "let_through": 5}
    assert "12 newcomers trained shortly first, 5 let through" in printing.status(later)


def test_top_ranks_by_shrunken_mean(evolve: Evolve, runs: Path) -> None:
    found = json.loads(evolve("top", "--runs", runs, "--json").out)
    assert [row["individual"] for row in found] == [4, 3, 2, 1]
    shorter = json.loads(evolve("top", "--runs", runs, "-n", 2, "--json").out)
    assert shorter == found[:2]


def test_scores_that_others_disturbed_are_said_to_be_where_they_rank(
    evolve: Evolve, runs: Path
) -> None:
    folder, six = runs / "night", born(6, 2.0, 4, operator="constants")
    assert not any(DISTURBED in evolve(*words, "--runs", runs).out for words in READERS)
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        for record in (
            arrival(six),
            *evaluation(6, six, Scored(2.0), foreign_share=0.3),
            *evaluation(7, six, Failed(Stage.TRAINING, "crash", "it raised"), foreign_share=0.3),
        ):
            lineage.record(record)
        lineage.publish()
    for words in READERS:
        assert f"1 of 5 ranking scores was {DISTURBED}" in evolve(*words, "--runs", runs).out
    ranked = json.loads(evolve("top", "--runs", runs, "--json").out)
    assert {row["individual"]: row["disturbed"] for row in ranked} == {6: 1, 4: 0, 3: 0, 2: 0, 1: 0}
    marked = [row for row in evolve("top", "--runs", runs).out.splitlines() if "disturbed" in row]
    assert len(marked) == 1 and marked[0].split()[1] == "6"
    evolve("report", "--runs", runs, "-o", runs / "page.html")
    page = (runs / "page.html").read_text(encoding="utf-8")
    assert [row.count("#6<") for row in page.split("<tr") if "disturbed</td>" in row] == [1]
    shown = evolve("show", 6, "--runs", runs).out
    assert f"1 score was {DISTURBED}" in shown
    told = json.loads(evolve("show", 6, "--runs", runs, "--json").out)["evaluations"][0]
    assert (told["contended"], told["disturbed"], told["foreign_share"]) == (False, True, 0.3)


def test_a_slow_clock_disturbs_a_score_as_the_driver_judges_it(runs: Path) -> None:
    folder, six, contention, judged = runs / "night", born(6, 2.0, 4), Contention(), {}
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        lineage.record(arrival(six))
        for number, seconds in enumerate((1.0, 1.2, 1.0, 1.1, 1.2, 1.0, 1.15, 1.3), 6):
            started, ended = evaluation(number, six, Scored(2.0))
            clock = (Measurement("reference_s", seconds, "s"),)
            result = replace(ended.result, measurements=clock)
            judged[number] = contention.is_disturbed(result)
            contention.note(started.request, result)
            lineage.record(started)
            lineage.record(Ended(result))
        lineage.publish()
    with Reading(folder) as reading:
        found = reading.query(f"SELECT evaluation, disturbed FROM {disturbed.DISTURBED}").rows
    assert {evaluation: told for evaluation, told in found if evaluation > 5} == judged
    assert sorted(judged.values()) == [False] * 6 + [True] * 2


@pytest.mark.parametrize("last", [2.1, 2.5])
def test_a_score_that_comes_out_the_same_again_is_not_said_to_be_disturbed(
    runs: Path, last: float
) -> None:
    folder, contention = runs / "night", Contention()
    six, seven = born(6, 2.0, 4), born(7, 2.1, 4)
    scores = ((six, 2.0), (six, 2.0), (seven, 2.1), (seven, 2.1), (seven, last))
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        lineage.record(arrival(six))
        lineage.record(arrival(seven))
        for number, (who, value) in enumerate(scores, 6):
            started, ended = evaluation(number, who, Scored(value), foreign_share=0.3)
            started = replace(started, request=replace(started.request, seed=9, attempt=number))
            contention.note(started.request, ended.result)
            lineage.record(started)
            lineage.record(ended)
        lineage.publish()
    with Reading(folder) as reading:
        found = reading.query(f"SELECT disturbed FROM {disturbed.DISTURBED} WHERE evaluation > 5")
    assert contention.is_exact is (last == 2.1)
    assert {told for (told,) in found.rows} == {last != 2.1}


def test_show_tells_hypothesis_diff_scores_and_log(evolve: Evolve, runs: Path) -> None:
    text = evolve("show", 3, "--runs", runs).out
    for part in ("a larger A helps", "+A = 2.5", "2.5", "constants of #1", "step 1"):
        assert part in text


def test_show_and_the_page_tell_where_a_trainings_time_went(evolve: Evolve, runs: Path) -> None:
    said = "time of the training by line: 75% `A = 2.5` (1)"
    text = evolve("show", 3, "--runs", runs).out
    assert said in text and "line_1" not in text
    evolve("report", "--runs", runs, "-o", runs / "page.html")
    assert said in html.unescape((runs / "page.html").read_text(encoding="utf-8"))
    rows = evolve("query", "SELECT value FROM measurement WHERE name = 'line_1'", "--runs", runs)
    assert "0.75" in rows.out


def test_what_a_candidate_printed_cannot_steer_the_terminal(evolve: Evolve, runs: Path) -> None:
    text = evolve("show", 3, "--runs", runs).out
    assert "\\x1b[2J" in text
    assert not set(text) & {"\x1b", "\x07", "\u202e"}


def test_what_was_in_flight_when_a_run_ended_is_not_said_to_run(evolve: Evolve, runs: Path) -> None:
    folder = runs / "night"
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        lineage.record(evaluation(6, born(4, 2.25, 3, 2), Scored(2.2))[0])
        lineage.publish()

    def status(**fields: object) -> str:
        known = {"host": socket.gethostname(), "ended_at": None} | fields
        snapshot = Snapshot(os.getpid(), started_at=0.0, updated_at=0.0, **known)  # type: ignore[arg-type]
        write_live(folder / "live.json", snapshot)
        shown = json.loads(evolve("show", 4, "--runs", runs, "--json").out)
        return str(shown["evaluations"][-1]["status"])

    assert status() == "running"
    assert status(host="elsewhere") == "running"
    assert status(ended_at=1.0) == status(host="elsewhere", ended_at=1.0) == "cut off"
    assert "cut off" in evolve("show", 4, "--runs", runs).out


def test_show_gives_the_source_of_the_best_by_default(evolve: Evolve, runs: Path) -> None:
    assert evolve("show", "--source", "--runs", runs).out == "A = 2.25\n"


def test_show_names_the_known_ids_when_asked_for_another(evolve: Evolve, runs: Path) -> None:
    said = evolve("show", 99, "--runs", runs)
    assert said.code == 2
    assert "ids go from 1 to 5" in said.err


def test_lineage_is_the_way_from_the_founder_with_each_gain(evolve: Evolve, runs: Path) -> None:
    first, second, third, _warning = evolve("lineage", "--runs", runs).out.splitlines()
    assert first == "#1 founder-1  mean 3.0000"
    assert second == "└─ #3 constants  mean 2.5000  gain +0.5000"
    assert third.strip() == "└─ #4 recombination with #2  mean 2.2500  gain +0.2500"


def test_query_answers_in_four_formats(evolve: Evolve, runs: Path, tmp_path: Path) -> None:
    sql = "SELECT individual, name FROM leaderboard ORDER BY rank"
    assert evolve("query", sql, "--runs", runs).out.splitlines()[0] == "individual  name"
    rows = list(
        csv.DictReader(io.StringIO(evolve("query", sql, "--runs", runs, "--format", "csv").out))
    )
    objects = json.loads(evolve("query", sql, "--runs", runs, "--format", "json").out)
    assert [int(row["individual"]) for row in rows] == [row["individual"] for row in objects]
    file = tmp_path / "it's.parquet"
    for asked in (f"{sql};", f"{sql} -- the best first"):
        words = (asked, "--runs", runs, "--format", "parquet", "-o", file)
        assert evolve("query", *words).code == 0
        assert duckdb.read_parquet(str(file)).fetchall()[0] == (4, "")
        file.unlink()


def test_no_answer_steers_a_terminal_and_a_pipe_gets_every_character(runs: Path) -> None:
    sql = "SELECT 'a' || chr(27) || '[2Jb' AS log"
    words = [sys.executable, "-m", "evolve.cli", "query", sql, "--runs", str(runs)]
    words += ["--format", "csv"]
    piped = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    ours, theirs = pty.openpty()
    subprocess.run(words, stdout=theirs, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        shown = terminal.read1().decode()
    assert "a\x1b[2Jb" in piped
    assert "a\\x1b[2Jb" in shown and "\x1b" not in shown


def test_a_terminal_is_told_for_how_long_a_program_trains_and_a_pipe_is_not() -> None:
    words = [sys.executable, "-m", "evolve.cli", "try", str(POLYNOMIAL / "seeds" / "line.py")]
    words += ["--task", str(POLYNOMIAL), "--json"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs) as tried:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # so a terminal ends
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        assert tried.stdout is not None
        found = json.loads(tried.stdout.read())
    assert b"of training" in shown and re.search(rb"0:00:0\d", shown)
    assert found["seed"] == 0
    piped = subprocess.run(words, capture_output=True, text=True, check=True)
    assert piped.stderr == ""


def test_what_an_encoding_lacks_is_written_out_and_a_program_is_utf8(runs: Path) -> None:
    folder, odd = runs / "night", replace(born(6, 2.0, 4), genome=Genome("A = 2.0  # \u2192\n"))
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        lineage.record(arrival(odd))
        lineage.publish()

    def piped(*words: str) -> bytes:
        asked = [sys.executable, "-m", "evolve.cli", *words, "--runs", str(runs)]
        environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
        return subprocess.run(asked, capture_output=True, check=True, env=environment).stdout

    assert b"   \\u2514\\u2500 #4" in piped("lineage")
    assert piped("show", "6", "--source") == odd.genome.source.encode()


def test_a_wrong_statement_is_a_user_error(evolve: Evolve, runs: Path) -> None:
    said = evolve("query", "SELECT nothing FROM nowhere", "--runs", runs)
    assert said.code == 2
    assert "Table with name nowhere does not exist! Ask for evaluations, " in said.err
    assert "leaderboard, " in said.err and said.err.endswith("programs; see docs/lineage.md\n")
    assert "Did you mean" not in said.err
    said = evolve("query", "SELECT nothing FROM leaderboard", "--runs", runs)
    assert said.code == 2
    assert "Candidate bindings" in said.err
    said = evolve("query", "SELECT '\udcff'", "--runs", runs)  # of a terminal that is not UTF-8
    assert said.code == 2
    assert said.err == "error: the statement holds characters that UTF-8 cannot carry\n"


@pytest.mark.parametrize("sql", ["", " ; ", "/* nothing */"])
@pytest.mark.parametrize("form", ["table", "parquet"])
def test_a_query_that_asks_nothing_is_told_what_may_be_asked(
    evolve: Evolve, runs: Path, tmp_path: Path, sql: str, form: str
) -> None:
    said = evolve("query", sql, "--runs", runs, "--format", form, "-o", tmp_path / "answer")
    assert said.code == 2
    assert said.err == (
        "error: a statement in SQL is expected, such as 'FROM leaderboard LIMIT 5'; got "
        f"{sql!r}; docs/lineage.md lists the views\n"
    )


def test_a_query_cannot_change_the_lineage(evolve: Evolve, runs: Path) -> None:
    assert evolve("query", "DELETE FROM individual", "--runs", runs).code == 2


def test_parquet_needs_a_file(evolve: Evolve, runs: Path) -> None:
    assert evolve("query", "SELECT 1", "--runs", runs, "--format", "parquet").code == 2


def test_try_scores_a_file_and_repeats_it(evolve: Evolve) -> None:
    seed = POLYNOMIAL / "seeds" / "cubic.py"
    said = evolve("try", seed, "--task", POLYNOMIAL, "--json")
    found = json.loads(said.out)
    assert said.code == 0
    assert found["metric"] == "closeness"
    assert -0.5 < found["value"] < 0


@pytest.mark.parametrize("own", [True, False])
def test_try_says_which_task_it_trains_for_unless_it_is_that_of_the_current_folder(
    evolve: Evolve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    asked: list[Path] = []

    def tried(trial: Trial, *_: object) -> int:
        asked.append(trial.task.root)
        return 0

    monkeypatch.setattr("evolve.taskfile.REPOSITORY", POLYNOMIAL)
    monkeypatch.setattr("evolve.trying.try_program", tried)
    monkeypatch.chdir(POLYNOMIAL if own else tmp_path)
    said = evolve("try", POLYNOMIAL / "seeds" / "cubic.py", "--json")
    assert (said.code, said.out, asked) == (0, "", [POLYNOMIAL])
    told = f"no task.toml here: trying it for task polynomial in {POLYNOMIAL}"
    assert (told in said.err) is not own


def test_try_of_a_program_that_crashes_names_stage_and_shows_its_output(
    evolve: Evolve, tmp_path: Path
) -> None:
    file = tmp_path / "broken.py"
    file.write_text("print('so far so good')\nraise ValueError('no \\x1b[2J')\n")
    said = evolve("try", file, "--task", POLYNOMIAL)
    assert said.code == 1
    assert "failed in" in said.out
    assert "so far so good" in said.out
    assert "\x1b" not in said.out


def test_try_of_a_program_that_scores_shows_the_end_of_what_was_printed(
    evolve: Evolve, tmp_path: Path
) -> None:
    file, seed = tmp_path / "wordy.py", POLYNOMIAL / "seeds" / "cubic.py"
    file.write_text("for step in range(30): print('step', step)\n" + seed.read_text())
    said = evolve("try", file, "--task", POLYNOMIAL)
    assert said.code == 0
    assert "its output, last 10 lines:\n  step 21\n" in said.out  # the last is the scorer's


def test_try_of_a_missing_file_or_unknown_shard_is_a_user_error(
    evolve: Evolve, tmp_path: Path
) -> None:
    assert evolve("try", tmp_path / "none.py", "--task", POLYNOMIAL).code == 2
    seed = POLYNOMIAL / "seeds" / "cubic.py"
    said = evolve("try", seed, "--task", POLYNOMIAL, "--shard", "secret")
    assert said.code == 2
    assert "selection, confirmation, exam" in said.err


def test_a_closed_pipe_ends_a_command_quietly(runs: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "evolve.cli",
        "query",
        "FROM range(300000)",
        "--runs",
        str(runs),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_try_does_not_train_a_ladder(evolve: Evolve) -> None:
    seed = POLYNOMIAL / "seeds" / "cubic.py"
    said = evolve("try", seed, "--task", POLYNOMIAL, "--budget", "2s,10s")
    assert said.code == 2
    assert "a program alone trains once" in said.err and "name one amount" in said.err


def test_try_says_that_nobody_counts_what_it_reads_of_the_other_shards(evolve: Evolve) -> None:
    said = " ".join(evolve("try", "--help").out.split())
    assert "What you read here of confirmation or exam no run counts" in said


def test_json_loses_no_column_and_holds_no_number_that_json_does_not_know(
    evolve: Evolve, runs: Path
) -> None:
    sql = (
        "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 'nan'::DOUBLE AS b, ['inf'::DOUBLE, 2.0] AS c, "
        "MAP {DATE '2026-01-02': '-inf'::DOUBLE} AS d"
    )
    text = evolve("query", sql, "--runs", runs, "--format", "json").out
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text) == [
        {
            "a": 1,
            "a_2": 2,
            "a_1": 3,
            "a_3": 4,
            "b": None,
            "c": [None, 2.0],
            "d": {"2026-01-02": None},
        }
    ]


def test_the_source_comes_as_json_where_json_is_asked_for(evolve: Evolve, runs: Path) -> None:
    said = evolve("show", "--source", "--json", "--runs", runs)
    assert json.loads(said.out) == {"id": 4, "source": "A = 2.25\n"}
    said = evolve("show", "--source", "--prompts", "--runs", runs)
    assert said.code == 2
    assert "leave out --prompts" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--pairs", 3), "--pairs has no effect without --export"),
        (("run", "--cost", 3), "--cost has no effect without a language model: add --llm"),
        (("run", "--tokens", 3), "--tokens has no effect without a language model"),
        (("run", "--effort", "low"), "--effort has no effect without a language model"),
        (("run", "--models", "m.toml", "--no-llm"), "--models has no effect without a language"),
        (
            ("inject", "a.py", "--hypothesis", "h", "--timeout", 3),
            "--timeout has no effect without",
        ),
        (("export", "--format", "tsv", "--pairs", 3), "--pairs has no effect on --format tsv"),
        (("export", "--format", "git", "--cache", "c"), "--cache has no effect on --format git"),
        (("export", "--pairs", 0, "--address", "a"), "--address has no effect without an exam"),
    ],
)
def test_an_option_that_nothing_would_read_is_refused(
    evolve: Evolve, tmp_path: Path, words: tuple[object, ...], says: str
) -> None:
    task = ("--task", POLYNOMIAL) if words[0] == "run" else ()
    said = evolve(*words, *task, "--runs", tmp_path / "runs")
    assert said.code == 2
    assert says in " ".join(said.err.split())
    assert not (tmp_path / "runs").exists()


def test_variables_of_the_environment_that_a_command_does_not_read_are_left_alone(
    evolve: Evolve, runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVOLVE_CACHE", str(tmp_path))
    monkeypatch.setenv("EVOLVE_MODELS", str(tmp_path / "models.toml"))
    assert evolve("export", "--format", "tsv", "--runs", runs).code == 0
    said = evolve("run", "--dry-run", "--task", POLYNOMIAL, "--runs", runs)
    assert "has no effect" not in said.err


def test_the_rate_leaves_out_the_time_between_two_calls(evolve: Evolve, runs: Path) -> None:
    before = json.loads(evolve("status", "--runs", runs, "--json").out)["evaluations_per_hour"]
    assert before == pytest.approx(5 * 3600 / 14)  # five of ten seconds each, one second apart
    mutant = born(3, 2.5, 1, operator="constants")
    started, ended = evaluation(6, mutant, Scored(2.5))
    late = replace(ended.result, started_at=90_000.0, ended_at=90_014.0)
    nowhere = replace(ended.result, request=EvaluationId(7), started_at=0.0, ended_at=0.0)
    folder = runs / "night"
    with DuckLineage.open(folder, stored_identity(folder)) as lineage:
        lineage.record(started)
        lineage.record(Ended(late))
        lineage.record(Started(replace(started.request, id=EvaluationId(7))))
        lineage.record(Ended(nowhere))  # our side lost it
        lineage.publish()
    after = json.loads(evolve("status", "--runs", runs, "--json").out)["evaluations_per_hour"]
    assert after == pytest.approx(6 * 3600 / 28)
