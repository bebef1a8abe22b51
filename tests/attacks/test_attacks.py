"""Whoever cheats gains nothing, and whoever does harm is ended; every trial here is a real one."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from evaluate.trial import warm_process
from population.individual import Failed, Outcome, Scored
from population.task import Budget
from tests.attacks import (
    clock,
    container,
    data,
    forgery,
    harm,
    outputs,
    peeks,
    state,
    system_calls,
    unsafe,
    wire,
)
from tests.attacks.attack import HONEST, Attack
from tests.evaluate.conftest import Trial

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(sys.platform != "linux", reason="the whole sandbox exists on Linux only"),
]

TABLES = (
    clock, data, peeks, state, outputs, forgery, container, unsafe, wire, harm, system_calls,
)  # fmt: skip
MAX_DETAIL = 4_000
Honest = Callable[[str, Budget], float]


@pytest.fixture(scope="session")
def honest(trial: Trial) -> Honest:
    """Return a function that scores an honest program, once for each budget."""
    known: dict[tuple[str, Budget], float] = {}

    def score(source: str, budget: Budget) -> float:
        if (source, budget) not in known:
            outcome = trial(source, budget).outcome
            assert isinstance(outcome, Scored), outcome
            known[source, budget] = outcome.value
        return known[source, budget]

    return score


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a folder of somebody else's, with a file in it."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "lineage.duckdb").write_text("rows")
    return folder


def cases() -> list[object]:
    """Return every attack as a test case."""
    return [
        pytest.param(
            attack,
            id=f"{table.__name__.rpartition('.')[2]}: {name}",
        )
        for table in TABLES
        for name, attack in table.ATTACKS.items()
    ]


@pytest.mark.parametrize("attack", cases())
def test_an_attack_gains_nothing_and_leaves_nothing(
    attack: Attack, trial: Trial, honest: Honest, text_data: Path, victim: Path
) -> None:
    places = {"@DATA@": str(text_data), "@PID@": str(os.getpid()), "@VICTIM@": str(victim)}
    source = re.sub("@[A-Z]+@", lambda found: places[found[0]], attack.source)
    result = trial(source, attack.budget, attack.limits)
    found = ending(result.outcome, attack, honest)
    assert found in ((attack.ends,) if isinstance(attack.ends, str) else attack.ends), result
    assert (result.measured("cpu_s") or 0) >= attack.processor_s
    assert attack.says in result.log and "got through" not in result.log, result.log
    assert len(getattr(result.outcome, "detail", "")) < MAX_DETAIL
    assert (victim / "lineage.duckdb").read_text() == "rows"
    assert alive(f"left by {os.getpid()}") == []
    for folder in re.findall(r"^made in (\S+)$", result.log, re.MULTILINE):
        assert not Path(folder).exists()


def ending(outcome: Outcome, attack: Attack, honest: Honest) -> str:
    """Return how a trial ended, in the words of `Attack.ends`."""
    if isinstance(outcome, Failed):
        return f"{outcome.stage} {outcome.reason}"
    if HONEST not in attack.ends:
        return f"scores {outcome.value}"
    expected = honest(attack.base, attack.budget)
    gained = abs(outcome.value - expected)
    return HONEST if gained <= attack.within else f"scores {outcome.value}, honest {expected}"


def alive(mark: str) -> list[str]:
    """Return what lives below the warm process, and every process that carries the mark."""
    below = psutil.Process(warm_process(1).process.pid).children(recursive=True)
    lines = [" ".join(_command(process)) for process in psutil.process_iter()]
    return [str(process) for process in below] + [line for line in lines if mark in line]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
