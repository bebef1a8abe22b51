"""Ray trains every candidate; what is lost with a worker comes back as such."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import prepare
from evaluate.pool import RayPool, usual
from population.errors import PoolError
from population.individual import (
    EvaluationId,
    Failed,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
    Stage,
)
from population.task import Budget, BudgetKind, Direction, EvaluatorKind, Task

from .conftest import program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
]  # Ray leaves sockets of its own open


def task(root: Path) -> Task:
    here = Path(prepare.__file__)
    return Task(
        "test", root, "train.py", "val_bpb", Direction.MINIMIZE, EvaluatorKind.MODEL, here,
        here, (), Budget(BudgetKind.STEPS, 20), evaluator_source=here.read_text(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pool(text_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayPool]:
    pool = RayPool(task(tmp_path_factory.mktemp("task")), text_data, slots=2, address=None)
    yield pool
    pool.close()


def request(number: int, source: str) -> Request:
    return Request(
        EvaluationId(number), IndividualId(number), Genome(source), 1, "selection", Purpose.SCREEN
    )


def collect(pool: RayPool, count: int) -> dict[int, Result]:
    results: dict[int, Result] = {}
    deadline = time.monotonic() + 100
    while len(results) < count and time.monotonic() < deadline:
        results |= {int(r.request): r for r in pool.wait(1.0)}
    return results


def test_every_request_comes_back_once_failures_included(pool: RayPool) -> None:
    assert pool.slots == 2
    for number in range(4):
        pool.submit(request(number, program() if number != 2 else program(in_loop="    1 / 0\n")))
    results = collect(pool, 4)
    assert set(results) == {0, 1, 2, 3}
    assert isinstance(results[2].outcome, Failed) and results[2].outcome.reason == "crash"
    assert len({results[n].outcome for n in (0, 1, 3)}) == 1
    assert pool.wait(0.0) == []


def test_what_is_submitted_together_runs_one_after_another_on_the_same_cores(
    pool: RayPool,
) -> None:
    slow = program(before_clock="import time; time.sleep(3)\n")
    pool.submit(request(5, slow), request(6, slow))
    pool.submit(request(7, slow), request(8, program(in_loop="    1 / 0\n")))
    found = collect(pool, 4)
    for first, second in ((5, 6), (7, 8)):
        assert found[first].device == found[second].device
        assert found[first].ended_at <= found[second].started_at
    for one, other in itertools.product((5, 6), (7, 8)):
        began = max(found[one].started_at, found[other].started_at)
        if began < min(found[one].ended_at, found[other].ended_at):  # both trained at once
            assert found[one].device != found[other].device
    assert [isinstance(found[n].outcome, Scored) for n in (5, 6, 7, 8)] == [True, True, True, False]


def test_a_worker_that_is_killed_comes_back_as_lost_and_leaves_nothing(pool: RayPool) -> None:
    pool.submit(request(10, program(before_clock="import time; time.sleep(45)\n")))
    workers, descendants = at_work()
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    outcome = collect(pool, 1)[10].outcome
    assert isinstance(outcome, Failed) and outcome.stage is Stage.INFRASTRUCTURE, outcome
    _, alive = psutil.wait_procs(descendants, timeout=20)
    assert descendants and alive == []
    pool.submit(request(11, program()))
    assert isinstance(collect(pool, 1)[11].outcome, Scored)


def test_a_closed_terminal_does_not_take_ray_along_before_the_run_has_ended(pool: RayPool) -> None:
    pool.submit(request(12, program(before_clock="import time; time.sleep(2)\n")))
    at_work()
    own = os.getpgid(0)
    told = [c for c in psutil.Process().children(recursive=True) if os.getpgid(c.pid) == own]
    for process in told:
        process.send_signal(signal.SIGHUP)
    assert {"gcs_server", "raylet"} <= {process.name() for process in told}
    assert isinstance(collect(pool, 1)[12].outcome, Scored)
    assert all(process.is_running() for process in told)


def at_work() -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Return the workers that evaluate, and all their descendants, as soon as there are some."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        workers = [p for p in psutil.Process().children(recursive=True) if "_evaluate" in _title(p)]
        time.sleep(1.0)
        descendants = [c for w in workers for c in w.children(recursive=True)]
        if descendants:
            return workers, descendants
    raise AssertionError("nothing began")


def was_killed(result: Result) -> bool:
    """Whether it failed by hand, and not by our fault, after some time."""
    outcome = result.outcome
    by_hand = isinstance(outcome, Failed) and outcome.by_hand
    ours = isinstance(outcome, Failed) and outcome.stage is Stage.INFRASTRUCTURE
    return by_hand and not ours and result.started_at < result.ended_at


def test_what_is_killed_comes_back_as_that_with_all_its_processes_dead_and_its_slot_free(
    pool: RayPool,
) -> None:
    pool.submit(request(20, program(before_clock="import time; time.sleep(45)\n")))
    workers, descendants = at_work()
    pool.submit(request(21, program()))
    pool.kill(EvaluationId(20), EvaluationId(99))
    found = collect(pool, 2)
    assert was_killed(found[20])
    assert isinstance(found[21].outcome, Scored)
    _, alive = psutil.wait_procs([*workers, *descendants], timeout=20)
    assert alive == []
    for number in (22, 23):
        pool.submit(request(number, program()))
    assert all(isinstance(one.outcome, Scored) for one in collect(pool, 2).values())


def test_what_is_killed_before_it_began_or_after_it_ended_comes_back_once(pool: RayPool) -> None:
    slow = program(before_clock="import time; time.sleep(3)\n")
    for number in (30, 31, 32):
        pool.submit(request(number, slow))
    pool.kill(EvaluationId(32))  # there are two slots: it waits for one
    ended = pool.wait(60)
    pool.kill(*(one.request for one in ended))
    found = {int(one.request): one for one in ended} | collect(pool, 3 - len(ended))
    assert set(found) == {30, 31, 32}
    assert was_killed(found[32])
    assert [isinstance(found[n].outcome, Scored) for n in (30, 31)] == [True, True]
    assert pool.wait(0.0) == []


@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_a_local_ray_that_dies_is_started_again_and_what_it_lost_comes_back(
    pool: RayPool, part: str
) -> None:
    pool.submit(request(40, program(before_clock="import time; time.sleep(15)\n")))
    _, descendants = at_work()
    for process in psutil.Process().children(recursive=True):
        if process.name() == part:
            process.kill()
    for number in (41, 42):  # without a raylet nothing begins, without a GCS what has begun goes on
        pool.submit(request(number, program()))
    lost = [one.outcome for one in collect(pool, 3).values() if not isinstance(one.outcome, Scored)]
    assert lost and all(
        one.stage is Stage.INFRASTRUCTURE for one in lost if isinstance(one, Failed)
    )
    for number in (43, 44):
        pool.submit(request(number, program()))
    again = collect(pool, 2)
    assert [type(again[number].outcome) for number in (43, 44)] == [Scored, Scored]
    _, alive = psutil.wait_procs(descendants, timeout=20)
    assert alive == []


def test_a_local_ray_that_dies_again_and_again_ends_the_run(
    pool: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluate.pool.RESTARTS", 0)
    monkeypatch.setattr(pool, "_dead", "it was ended")
    with pytest.raises(PoolError, match=r"Ray has died.*All results are kept.*--slots"):
        pool.wait(0.0)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_an_address_that_does_not_answer_is_an_error_with_a_remedy(
    text_data: Path, tmp_path: Path
) -> None:
    with pytest.raises(PoolError, match=r"does not answer.*--address"):
        RayPool(task(tmp_path), text_data, slots=1, address="127.0.0.1:1")


def test_a_local_ray_that_does_not_start_is_an_error_with_a_remedy_and_no_traceback(
    text_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(**_: object) -> None:
        # what Ray raises where its node dies, or a machine is too busy, as it starts
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", dies)
    with pytest.raises(PoolError, match=r"does not start.*timed out.*evolve doctor"):
        RayPool(task(tmp_path), text_data, slots=1, address=None)


@pytest.mark.parametrize(("counts", "most"), [([8, 8, 4], 8), ([8, 4, 4], 4), ([4, 8], 8), ([], 0)])
def test_a_host_is_told_to_train_as_many_at_once_as_most_do(counts: list[int], most: int) -> None:
    assert usual(counts) == most
