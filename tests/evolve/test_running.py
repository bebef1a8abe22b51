"""Whole runs of the second task: real processes, real Ray, real lineage, no training."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from evolve.composition import identity, local_slots
from evolve.config import configure
from evolve.reading import Reading
from evolve.taskfile import REPOSITORY, load_task
from population.lineage import DuckLineage
from tests.evaluate.conftest import write_texts
from tests.evolve.conftest import POLYNOMIAL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def command(folder: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "evolve.cli", *map(str, words), "--runs", str(folder / "runs")]


def evolve(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *words), capture_output=True, text=True, cwd=REPOSITORY, check=False
    )


def start(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return evolve(folder, "run", "--run", "a", "--task", POLYNOMIAL, "--slots", 1, *words)


def test_a_run_finds_keeps_and_exports_a_better_program_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    done = start(tmp_path, "--evaluations", 8, "--lambda", 4, "--export", "--pairs", 1)
    assert done.returncode == 0, done.stderr
    assert "continue with: evolve run --run a" in done.stdout
    with Reading(folder) as reading:
        best = reading.leader()
        assert reading.individual(best)["source"] == (folder / "best" / "solve.py").read_text()
        assert reading.status()["running"] is False
    evidence = json.loads((folder / "best" / "evidence.json").read_text())
    assert evidence["champion"]["individual"] == best
    if evidence["claim"] is not None:  # else the best is a founder
        assert 0 < evidence["claim"]["noise"]["both"] < 1e-6  # this score repeats exactly
    assert evidence["line_of_descent"][-1]["individual"] == best

    again = evolve(tmp_path, "run", "--run", "a", "--evaluations", 9)
    assert again.returncode == 0, again.stderr
    with Reading(folder) as reading:
        counted = (
            "SELECT count(DISTINCT (individual, seed)) FROM evaluations WHERE purpose <> 'exam'"
        )
        assert reading.query(counted).rows == ((9,),)


def test_a_running_run_can_be_read_not_driven_twice_and_is_interrupted_cleanly(
    tmp_path: Path,
) -> None:
    words = command(tmp_path, "run", "--run", "a", "--task", POLYNOMIAL)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "generation 0" in line:
                break
        kept = (tmp_path / "runs" / "a" / "best" / "solve.py").exists()
        second = evolve(tmp_path, "run", "--run", "a", "--task", POLYNOMIAL)
        status = evolve(tmp_path, "status", "--json")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert kept
    assert second.returncode == 2
    assert f"held by process {process.pid}" in second.stderr
    assert json.loads(status.stdout)["running"] is True
    assert process.returncode == 130
    assert "continue with: evolve run --run a" in rest
    assert json.loads((tmp_path / "runs" / "a" / "live.json").read_text())["ended_at"]
    with Reading(tmp_path / "runs" / "a") as reading:
        assert reading.status()["running"] is False
        assert reading.status()["scored"] >= 4
        assert reading.configuration()["slots"] == local_slots(load_task(POLYNOMIAL))


def command_of(process: psutil.Process) -> list[str]:
    """Return its command line, empty where it has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_a_driver_that_is_killed_leaves_nothing_behind_and_its_run_goes_on(tmp_path: Path) -> None:
    words = command(tmp_path, "run", "--run", "a", "--task", POLYNOMIAL, "--evaluations", 6)
    seen: list[str] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line)
            if line.startswith("[4/6]"):
                break
        family = psutil.Process(process.pid).children(recursive=True)
        ours = [one for one in family if "evaluate.warm" in command_of(one)]
        process.kill()
    _, alive = psutil.wait_procs(ours, timeout=30)  # Ray's own daemons take up to a minute
    assert ours and alive == []
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    told = {line.split()[1] for line in seen if "/6] #" in line}
    with Reading(tmp_path / "runs" / "a") as reading:
        rows = reading.query(
            "SELECT individual, count(*) FILTER (NOT contended) "
            "FROM evaluations WHERE status IN ('scored', 'failed') GROUP BY individual, seed"
        ).rows
    assert told and told <= {f"#{individual}" for individual, _ in rows}
    assert max(undisturbed for _, undisturbed in rows) <= 1


def default_task(folder: Path) -> Path:
    """Return a copy of the default task that scores a sixteenth of the rows."""
    folder.mkdir()
    for name in ("seeds", "docs"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("task.toml", "program.md", "prepare.py"):
        shutil.copy(REPOSITORY / name, folder)
    evaluator, rows = (folder / "prepare.py").read_text(), "Scale(128, 256, 64, 1024)"
    assert rows in evaluator
    (folder / "prepare.py").write_text(evaluator.replace(rows, "Scale(128, 256, 64, 64)"))
    return folder


def test_the_default_task_evolves_on_text_of_ones_own(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    task = default_task(tmp_path / "task")
    where = ("--task", task, "--data", write_texts(texts), "--cache", tmp_path / "cache")
    words = ("--budget", "4steps,12steps", "--evaluations", 7, "--slots", 1, "--export",
             "--pairs", 1)  # fmt: skip
    done = evolve(tmp_path, "run", "--run", "own", *where, *words)
    assert done.returncode == 0, done.stderr
    best = tmp_path / "runs" / "own" / "best"
    evidence = json.loads((best / "evidence.json").read_text())
    assert evidence["metric"] == "val_bpb"
    with Reading(tmp_path / "runs" / "own") as reading:
        value, seed = reading.query(
            "SELECT value, seed FROM evaluations WHERE status = 'scored' AND purpose = 'screen' "
            f"AND individual = {evidence['champion']['individual']} ORDER BY evaluation"
        ).rows[0]
        failed = reading.query("SELECT count(*) FROM evaluations WHERE status = 'failed'").rows
        trained = reading.query(
            "SELECT DISTINCT purpose, m.value FROM evaluations JOIN measurement m USING (evaluation) "
            "WHERE m.name = 'steps' AND purpose IN ('rung', 'screen') ORDER BY purpose"
        ).rows
    assert failed == ((0,),)
    assert trained == (("rung", 4.0), ("screen", 12.0))
    assert "at the rung, goes on" in done.stdout
    assert "val_bpb is found with 99% probability" in done.stdout
    words = ("try", best / "train.py", "--json", *where, "--budget", "12steps", "--seed", seed)
    again = subprocess.run(
        [sys.executable, "-m", "evolve.cli", *map(str, words)],
        capture_output=True, text=True, cwd=REPOSITORY, check=True,
    )  # fmt: skip
    scored = json.loads(again.stdout)
    assert scored["value"] == pytest.approx(value, abs=1e-6)


def test_a_run_whose_founders_all_fail_says_why_and_claims_nothing(tmp_path: Path) -> None:
    task = Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))
    for seed in (task / "seeds").iterdir():
        seed.write_text(f"raise ValueError({seed.stem!r})\n")
    done = evolve(tmp_path, "run", "--run", "b", "--task", task, "--evaluations", 4, "--slots", 1)
    assert done.returncode == 1
    assert "error: no founder earned a score" in done.stderr
    assert "Traceback" not in done.stderr
    shown = evolve(tmp_path, "show", 1)
    assert "ValueError" in shown.stdout


def test_a_run_is_not_continued_under_another_evaluator(tmp_path: Path) -> None:
    task = Path(shutil.copytree(POLYNOMIAL, tmp_path / "task"))
    config = configure({"runs": tmp_path / "runs", "name": "c", "task": task})
    DuckLineage.open(config.folder, identity(config, config.load_task(), None)).close()
    old = config.load_task().evaluator_sha256[:12]
    with (task / "score.py").open("a") as file:
        file.write("# looser\n")
    done = evolve(tmp_path, "run", "--run", "c")
    assert done.returncode == 2
    new = config.load_task().evaluator_sha256[:12]
    assert f"holds a run of evaluator_sha256 {old}, not {new} ({task / 'score.py'})" in done.stderr


def test_a_runs_folder_that_cannot_be_made_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = evolve(tmp_path / "runs", "run", "--task", POLYNOMIAL, "--evaluations", 1)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_doctor_finds_nothing_broken_here(tmp_path: Path) -> None:
    words = command(tmp_path, "doctor", "--task", POLYNOMIAL, "--json")
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stdout
    subjects = {row["subject"] for row in json.loads(done.stdout)}
    assert {"device", "task", "Ray", "sandbox: limits"} <= subjects
