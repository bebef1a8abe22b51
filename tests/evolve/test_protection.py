"""What a machine lacks is said before, while and after a run; who insists is refused."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from evolve import composition
from evolve.config import configure
from evolve.taskfile import REPOSITORY
from population.errors import SandboxError
from tests.evolve.conftest import POLYNOMIAL, Evolve

WARNING = "made where candidates could read the validation data"
LACKING = """
import ctypes, os, sys
from evaluate import seccomp
known = seccomp.SYSCALLS[os.uname().machine][1]
unshare = known["unshare"]
known.clear()
known.update(clone=9999, prctl=9998, clone3=9997, unshare=unshare)  # numbers that no call has
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
assert seccomp.install(sockets=True, memfd=True, shared=True)
sys.argv[0] = "evolve"
from evolve.cli import main
main()
"""


def lacking_namespaces(*words: object) -> "subprocess.CompletedProcess[str]":
    """Run a command on a machine whose kernel refuses to make namespaces."""
    return subprocess.run(
        [sys.executable, "-c", LACKING, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )


@pytest.mark.parametrize(
    "words", [("status",), ("top",), ("show", 4), ("lineage", 4), ("export", "--pairs", 0)]
)
def test_scores_within_reach_of_the_validation_data_are_said_to_be(
    evolve: Evolve, runs: Path, words: tuple[object, ...]
) -> None:
    lines = evolve(*words, "--runs", runs).out.splitlines()
    assert sum(WARNING in line for line in lines) == 1


def test_what_failed_was_scored_nowhere(evolve: Evolve, runs: Path) -> None:
    assert WARNING not in evolve("show", 5, "--runs", runs).out
    found = json.loads(evolve("status", "--runs", runs, "--json").out)
    assert found["unprotected"] == 4


def test_evidence_counts_what_both_programs_scored_without_protection(
    evolve: Evolve, runs: Path
) -> None:
    evolve("export", "--runs", runs, "--pairs", 0)
    evidence = json.loads((runs / "night" / "best" / "evidence.json").read_text())
    assert evidence["unprotected"] == 2  # one score of each
    steps = json.loads(evolve("lineage", 4, "--runs", runs, "--json").out)
    assert [step["unprotected"] for step in steps] == [1, 1, 1]


def test_each_row_of_a_table_and_each_commit_of_a_branch_says_whether_it_was_protected(
    evolve: Evolve, runs: Path, tmp_path: Path
) -> None:
    _, *rows = evolve("export", "--runs", runs, "--format", "tsv").out.splitlines()
    assert [row.endswith(" (unprotected)") for row in rows] == [True] * 4 + [False]  # it crashed
    evolve("export", "--runs", runs, "--format", "git", "-o", tmp_path / "fresh")
    told = subprocess.run(
        ["git", "-C", tmp_path / "fresh", "log", "-1", "--format=%b"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert WARNING in told.stdout


needs_namespaces = pytest.mark.skipif(sys.platform != "linux", reason="to be refused on Linux only")


@pytest.mark.slow
@needs_namespaces
@pytest.mark.parametrize("command", [("run",), ("try", POLYNOMIAL / "seeds" / "line.py")])
def test_whoever_requires_the_sandbox_is_told_what_is_missing(
    command: tuple[object, ...], tmp_path: Path
) -> None:
    runs = ("--runs", tmp_path) if command == ("run",) else ()
    done = lacking_namespaces(*command, "--task", POLYNOMIAL, "--require-sandbox", *runs)
    assert done.returncode == 2, done
    assert "lacks network (" in done.stderr and "; namespaces (" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_requires_what_a_machine_has_lost_says_how_to_go_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(device: str, readable: Sequence[str]) -> tuple[str, ...]:
        raise SandboxError(f"this machine lacks landlock for {device}")

    monkeypatch.setattr(composition, "require_all", lacking)
    config = configure({"runs": tmp_path, "task": POLYNOMIAL, "require_sandbox": True})
    with pytest.raises(SandboxError, match=r"lacks landlock for cpu.*--no-require-sandbox"):
        composition.pool(config, config.load_task(), None)


@pytest.mark.slow
@needs_namespaces
def test_a_result_lists_the_layers_that_held_it_and_no_others() -> None:
    file = POLYNOMIAL / "seeds" / "line.py"
    done = lacking_namespaces("try", file, "--task", POLYNOMIAL, "--json")
    found = json.loads(done.stdout)
    assert found["value"] is not None
    assert "limits" in found["sandbox"]
    assert not {"network", "namespaces"} & set(found["sandbox"])
