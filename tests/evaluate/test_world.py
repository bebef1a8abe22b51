"""Candidates can do no harm: a whole tree is bounded, and what it leaves behind hurts nobody."""

import os
import sys
from pathlib import Path

import pytest

import prepare
from evaluate.training import FeederError
from population.errors import EvaluatorError, SandboxError
from population.individual import Failed, Scored
from population.task import Budget, BudgetKind, EvaluatorKind, Limits

from .conftest import MODEL, Trial, program

linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's bounds are Linux's")
EVALUATOR = Path(prepare.__file__).read_text()
SLOW = Budget(BudgetKind.SECONDS, 8.0, room_s=0.5)

SHARED = """
import os, time
kept = b"x" * (300 << 20)
for _ in range(6):
    if os.fork() == 0:
        time.sleep(60)
time.sleep(1)
"""
FILES = """
import os, time
for number in range({count}):
    with open(str(number), "wb") as file:
        file.write(bytes({size}))
time.sleep({then})
"""
MAPPED = """
import mmap, os, time
kept = []
for number in range(20):
    file = open("x", "w+b")
    file.truncate(1 << 20)
    kept.append(mmap.mmap(file.fileno(), 1 << 20))
    kept[-1][:] = bytes(1 << 20)
    file.close()
    os.unlink("x")
time.sleep(60)
"""
DELETED = """
import os, time
kept = []
for number in range(20):
    kept.append(open("x", "wb"))
    kept[-1].write(bytes(1 << 20))
    kept[-1].flush()
    os.unlink("x")
time.sleep(60)
"""


@linux
def test_what_forked_processes_share_counts_once(trial: Trial) -> None:
    result = trial(program(before_clock=SHARED), limits=Limits(memory_bytes=1 << 30))
    assert isinstance(result.outcome, Scored), result


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        (FILES.format(count=40, size=1 << 20, then=60), Limits(disk_bytes=8 << 20)),
        (FILES.format(count=40, size=1 << 20, then=0), Limits(disk_bytes=8 << 20)),
        (FILES.format(count=20_001, size=0, then=60), Limits()),
        pytest.param(DELETED, Limits(disk_bytes=8 << 20), marks=linux),
        pytest.param(MAPPED, Limits(disk_bytes=8 << 20), marks=linux),
    ],
    ids=["while it runs", "when it has ended", "entries", "deleted", "mapped and deleted"],
)
def test_what_lies_in_its_directory_is_bounded(files: str, limits: Limits, trial: Trial) -> None:
    outcome = trial(program(before_clock=files), limits=limits).outcome
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason == "disk_limit", outcome


@linux
def test_a_tree_that_works_on_more_cores_than_it_has_is_found_out(trial: Trial) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core: nobody can use more")
    busy = """
import os, time
began = time.monotonic()
while time.monotonic() - began < 4:
    for _ in range(4):
        if os.fork() == 0:
            while time.process_time() < 0.5: pass
            os._exit(0)
    for _ in range(4): os.wait()
    if sum(os.times()[:4]) > 1.3 * (time.monotonic() - began) + 2:
        print("enough")
        break
"""
    result = trial(program(before_clock=busy), cores=0)
    if "enough" not in result.log:
        pytest.skip("this machine had no second core to spare")
    assert isinstance(result.outcome, Failed), result
    assert result.outcome.reason == "cpu_limit", result


@linux
def test_open_files_are_bounded(trial: Trial) -> None:
    hoard = """
kept = []
try:
    while True: kept.append(open("train.py"))
except OSError:
    print("files", len(kept))
"""
    log = trial(program(before_clock=hoard)).log
    assert 400 < int(log.split("files")[1].split()[0]) < 512


COMMAND_SCORER = """
import json, os, sys
found = sorted(os.path.join(at, name) for at, names, files in os.walk(".") for name in names + files)
print(json.dumps({"value": len(found)}))
print(found, file=sys.stderr)
"""


def test_a_scoring_command_sees_only_files_and_directories(trial: Trial) -> None:
    source = """
import os
open("answer", "w").close()
os.mkdir("folder")
os.mkfifo("folder/pipe")
os.symlink("/etc/passwd", "link")
os.symlink("/", "root")
"""
    scorer = COMMAND_SCORER.replace('os.walk(".")', "os.walk(sys.argv[1])")
    result = trial(
        source,
        Budget(BudgetKind.SECONDS, 5.0),
        kind=EvaluatorKind.COMMAND,
        evaluator_source=scorer,
        command=("{python}", "{evaluator}", "{workdir}"),
    )
    assert result.outcome == Scored(3.0), result  # train.py, answer, folder


HUNGRY_SCORER = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        hoard = b"x" * (400 << 20)
        time.sleep(60)
time.sleep(60)
"""


@linux
def test_the_memory_of_a_scoring_command_is_bounded_as_a_whole(trial: Trial) -> None:
    result = trial(
        "print('nothing to do')",
        Budget(BudgetKind.SECONDS, 5.0),
        limits=Limits(memory_bytes=1 << 30, scoring_s=30),
        kind=EvaluatorKind.COMMAND,
        evaluator_source=HUNGRY_SCORER,
        command=("{python}", "{evaluator}"),
    )
    assert isinstance(result.outcome, Failed), result
    assert (result.outcome.stage, result.outcome.reason) == ("scoring", "out_of_memory"), result


def test_what_a_refusal_quotes_is_valid_text(trial: Trial) -> None:
    table = (
        '{"version": 1, "tensors": [{"name": "\\\\ud800", "dtype": 1, "shape": []}], "graph": 1}'
    )
    outcome = trial(
        program(before_clock=f"run._send(b'G', b'{table}')\nrun._receive()\n1 / 0\n")
    ).outcome
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason == "refused", outcome
    assert outcome.detail.encode().decode() == outcome.detail


BIG = MODEL.replace(
    "        self.head",
    "        self.big = nn.Buffer(torch.zeros(125 << 20))\n        self.head",
).replace("return self", "return self.big[0] + self")  # 500 MiB


def test_what_needs_a_third_of_the_memory_is_lent_and_scored_whatever_files_may_hold(
    trial: Trial,
) -> None:
    limits = Limits(memory_bytes=1500 << 20, file_bytes=1 << 20)
    assert isinstance(trial(program(model=BIG), limits=limits).outcome, Scored)


def test_all_registrations_together_are_lent_no_more_than_that(trial: Trial) -> None:
    again = "for _ in range(3): run.register(model)\n"
    result = trial(program(model=BIG, before_clock=again), limits=Limits(memory_bytes=1600 << 20))
    assert isinstance(result.outcome, Failed), result
    assert result.outcome.reason == "refused", result


@linux
def test_lent_memory_can_neither_grow_nor_shrink(trial: Trial) -> None:
    resize = """
import os
original = os.close
def keep(fd):
    for size in (1 << 20, 1):
        try:
            os.ftruncate(fd, size)
            print("re" + "sized")
        except PermissionError:
            print("sea" + "led")
    original(fd)
os.close = keep
"""
    source = program().replace(
        "run.register(model)", resize + "run.register(model)\nos.close = original\n"
    )
    result = trial(source)
    assert isinstance(result.outcome, Scored), result
    assert result.log.count("sealed") == 2 and "resized" not in result.log


def feeding(body: str) -> str:
    """Return the evaluator with `body` at the start of its batch source."""
    place = "    tokens, T = _load(directory"
    assert EVALUATOR.count(place) == 1
    return EVALUATOR.replace(place, body + place)


def test_a_feeder_that_dies_ends_its_candidate(trial: Trial) -> None:
    place = "        nonlocal starts\n"
    evaluator = EVALUATOR.replace(place, place + "        assert B != 4\n")
    waits = "try: next(run.batches(4))\nexcept SystemExit: __import__('time').sleep(60)\n"
    source = program(before_clock=waits)
    outcome = trial(source, evaluator_source=evaluator, budget=SLOW).outcome
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason == "protocol", outcome


def test_data_that_a_feeder_cannot_read_is_the_machine_s_fault(trial: Trial) -> None:
    unreadable = feeding("    (directory / 'absent').read_text()\n")
    with pytest.raises(FeederError, match=r"no candidate can be fed here: .*absent"):
        trial(program(), evaluator_source=unreadable, budget=SLOW)


def test_a_feeder_whose_evaluator_fails_is_that_one_s_fault(trial: Trial) -> None:
    with pytest.raises(EvaluatorError, match=r"raised ZeroDivisionError: .* \(prepare.py, line"):
        trial(program(), evaluator_source=feeding("    1 / 0\n"), budget=SLOW)


@linux
def test_the_feeder_reads_training_data_alone_and_writes_nothing(trial: Trial) -> None:
    body = """
    for action in (
        lambda: open(directory / "selection" / "tokens.npy", "rb"),
        lambda: os.listdir(directory),
        lambda: open("/etc/passwd"),
        lambda: open("/tmp/outside", "w"),
        lambda: open(directory / "train" / "new", "w"),
        lambda: open(__file__, "a"),
        lambda: socket.socket(),
    ):
        try:
            action()
        except OSError:
            continue
        raise RuntimeError("the feeder could do what it must not")
"""
    result = trial(program(), evaluator_source=feeding(body))
    assert isinstance(result.outcome, Scored), result


def test_a_required_layer_that_is_missing_is_the_machine_s_fault(trial: Trial) -> None:
    with pytest.raises((SandboxError, FeederError), match="lacks moat"):
        trial(program(), required=("limits", "moat"))


def test_the_layers_of_a_result_are_those_that_its_candidate_was_in(trial: Trial) -> None:
    assert {"limits", "environment"} <= set(trial(program()).sandbox)
