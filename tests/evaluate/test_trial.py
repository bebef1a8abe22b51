"""What a candidate earns: a score that repeats, or a failure that says why."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from evaluate import cores, wire
from evaluate.compiled import Compiled
from evaluate.feeder import MOST_LINES, _lines
from evaluate.spec import trial_spec
from evaluate.training import Training
from evaluate.trial import (
    PREFIX,
    MachineError,
    _directories,
    _warm,
    bearing,
    end_warm_process,
    utilisation,
)
from evaluate.warm import Warm
from evolve.taskfile import load_task
from population.individual import (
    SHARE,
    EvaluationId,
    Failed,
    Genome,
    IndividualId,
    Measurement,
    Purpose,
    Request,
    Scored,
    Stage,
)
from population.statistics import FOREIGN_SHARE
from population.task import Budget, BudgetKind, Limits

from .conftest import MODEL, TRAIN, Trial, program


def test_an_honest_program_scores_and_its_training_is_measured(trial: Trial) -> None:
    result = trial(program())
    assert isinstance(result.outcome, Scored), result
    assert 1.0 < result.outcome.value < 8.0
    assert result.measured("steps") == 20
    assert result.measured("tokens") == 20 * 4 * 128
    assert len(result.curve) == 20
    assert result.comparability.torch


THREADS = """
import threading
from concurrent.futures import ThreadPoolExecutor
together = threading.Barrier(12)
def at_once(_):
    together.wait()
    return torch.zeros(512, 512).sum()
with ThreadPoolExecutor(12) as threads:
    list(threads.map(at_once, range(12)))
"""


@pytest.mark.parametrize("chance", range(4))
def test_threads_of_a_program_may_compute_at_once(chance: int, trial: Trial) -> None:
    """Where a fork's thread pool is left as it was, one program in three crashes here."""
    result = trial(program(before_clock=THREADS), cores=2)
    assert isinstance(result.outcome, Scored), result.log


def test_the_lines_of_a_program_in_which_its_training_spends_its_time_are_told(
    trial: Trial,
) -> None:
    source = program(in_loop="    __import__('time').sleep(0.05)\n")
    result = trial(source)
    assert isinstance(result.outcome, Scored), result
    shares = {one.name: one.value for one in result.measurements if one.unit == SHARE}
    slept = 1 + source[: source.index("sleep(0.05)")].count("\n")
    assert shares[f"line_{slept}"] > 0.5
    assert len(shares) <= MOST_LINES
    assert 0.5 < sum(shares.values()) < 1.001


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"\xff", b"[" * 900, b"{}", b"[]", b'{"lines": 3}', b'{"lines": [[1]]}'),
        *(b'{"lines": [[0, 0.5]]}', b'{"lines": [[1, 2]]}', b'{"lines": [[1, NaN]]}'),
        *(b'{"lines": [["x", 0.5]]}', b'{"lines": [[1e400, 0.5]]}'),
        json.dumps({"lines": [[line, 0.1] for line in range(1, 10)]}).encode(),
    ],
)
def test_what_a_program_makes_up_about_its_lines_is_left_out(payload: bytes) -> None:
    assert _lines(payload) == []


def test_the_same_seed_under_a_budget_in_steps_gives_the_same_score(trial: Trial) -> None:
    first, second, other = (trial(program(), seed=seed).outcome for seed in (3, 3, 4))
    assert first == second
    assert first != other


def test_more_training_scores_better_and_each_shard_has_its_own_score(trial: Trial) -> None:
    values = {}
    for steps, shard in ((5, "selection"), (200, "selection"), (200, "exam")):
        outcome = trial(program(), Budget(BudgetKind.STEPS, steps), shard=shard).outcome
        assert isinstance(outcome, Scored)
        values[steps, shard] = outcome.value
    assert values[200, "selection"] < values[5, "selection"] - 0.5
    assert values[200, "selection"] != values[200, "exam"]


def test_a_budget_in_seconds_ends_by_itself_inside_the_budget(trial: Trial) -> None:
    result = trial(program(), Budget(BudgetKind.SECONDS, 2.0, room_s=0.5))
    assert isinstance(result.outcome, Scored), result
    used = (result.measured("train_s") or 0) + (result.measured("billed_s") or 0)
    assert 1.0 < used <= 2.0


def test_a_budget_in_tokens_is_counted_in_tokens_and_never_exceeded(trial: Trial) -> None:
    result = trial(program(), Budget(BudgetKind.TOKENS, 10_000))
    assert result.measured("steps") == 19  # 20 batches of 4 x 128 would be more than 10,000
    greedy = program(before_clock="next(iter(run.batches(1)))\n").replace(
        "batches(4)", "batches(400)"
    )
    assert trial(greedy, Budget(BudgetKind.TOKENS, 10_000)).measured("tokens") == 128


def test_a_batch_beyond_the_whole_budget_is_refused(trial: Trial) -> None:
    outcome = trial(program(), Budget(BudgetKind.TOKENS, 500)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.reason == "protocol" and "use a smaller batch" in outcome.detail


def test_losses_that_are_not_finite_do_not_enter_the_curve(trial: Trial) -> None:
    result = trial(program(in_loop="    run.report(float('nan'))\n"))
    assert len(result.curve) == 20


def test_a_crash_with_a_long_message_is_told_by_its_first_line(trial: Trial) -> None:
    fails = (
        'raise RuntimeError("no kernel for this" + "\\n  args: ..." * 9000 + "\\nSet VERBOSE=1")\n'
    )
    result = trial(program(before_clock=fails))
    assert isinstance(result.outcome, Failed)
    assert result.outcome.detail == "RuntimeError: no kernel for this"


def test_what_a_candidate_prints_is_a_log_and_never_a_score(trial: Trial) -> None:
    honest = trial(program()).outcome
    result = trial(program(at_bell="print('val_bpb: 0.001')\nprint('{\"value\": 0.001}')\n"))
    assert result.outcome == honest
    assert "val_bpb: 0.001" in result.log


FAILURES = {
    "a crash before the clock": (program(before_clock="1 / 0\n"), Stage.STARTUP, "crash"),
    "a crash in training": (program(in_loop="    1 / 0\n"), Stage.TRAINING, "crash"),
    "a program that does not parse": ("def broken(:\n", Stage.STARTUP, "syntax"),
    "a program that hands in nothing": (
        program().replace("run.deliver(model)", ""), Stage.HANDIN, "no_handin",
    ),
    "a program that does nothing": ("", Stage.STARTUP, "no_handin"),
    "a delivery without registration": (
        program().replace("run.register(model)", ""), Stage.HANDIN, "refused",
    ),
    "weights that are not finite": (
        program(at_bell="model.head.weight.data.fill_(float('nan'))\n"),
        Stage.SCORING, "not_finite",
    ),
    "a forward that branches on values": (
        program(model=MODEL.replace("        return", "        if tokens.sum() > 5: pass\n        return")),
        Stage.HANDIN, "refused",
    ),
    "logits beside a loss": (
        program(model=MODEL.replace("tokens))", "tokens)), None"), train=TRAIN.replace("model(x)", "model(x)[0]")),
        Stage.HANDIN, "refused",
    ),
    "random operators in the forward": (
        program(model=MODEL.replace("embedding(tokens))", "embedding(tokens) * torch.rand(1))")),
        Stage.HANDIN, "refused",
    ),
    "a peek at the next token": (
        program(model=MODEL.replace("tokens))", "torch.roll(tokens, -1, 1)))")),
        Stage.SCORING, "not_causal",
    ),
    "a mean over the other rows": (
        program(model=MODEL.replace("(self.embedding(tokens))", "(self.embedding(tokens) + self.embedding(tokens).mean(0, keepdim=True))")),
        Stage.SCORING, "rows_depend",
    ),
    "logits of another vocabulary": (
        program(model=MODEL.replace("nn.Linear(width, vocab)", "nn.Linear(width, vocab + 1)")),
        Stage.HANDIN, "refused",
    ),
    "a batch that is no batch": (
        program().replace("run.batches(4)", "run.batches(0)"), Stage.STARTUP, "protocol",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_bad_candidate_is_a_failure_with_stage_and_reason(name: str, trial: Trial) -> None:
    source, stage, reason = FAILURES[name]
    outcome = trial(source).outcome
    assert isinstance(outcome, Failed), outcome
    assert (outcome.stage, outcome.reason) == (stage, reason), outcome
    assert len(outcome.detail) > 10


def test_a_refusal_names_the_line(trial: Trial) -> None:
    source = program(
        model=MODEL.replace("embedding(tokens))", "embedding(tokens) * torch.rand(1))")
    )
    outcome = trial(source).outcome
    line = 1 + source[: source.index("torch.rand(1)")].count("\n")
    assert isinstance(outcome, Failed)
    assert f"train.py:{line}" in outcome.detail
    assert "aten.rand" in outcome.detail


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("logits[:, -1:]", "torch.float32 (16, 1, 256)"),
        ("logits.argmax(2)", "torch.int64 (16, 128)"),
        ("(logits, logits.sum())", "torch.float32 (16, 128, 256) and torch.float32 ()"),
        ("(logits, None)", "torch.float32 (16, 128, 256) and None"),
        ("None", "None"),
    ],
)
def test_what_is_no_logits_is_refused_before_the_clock(
    returned: str, told: str, trial: Trial
) -> None:
    place = "        return self.head(self.embedding(tokens))"
    assert MODEL.count(place) == 1
    model = MODEL.replace(
        place, f"{place.replace('return', 'logits =')}\n        return {returned}"
    )
    result = trial(program(model=model))
    assert isinstance(result.outcome, Failed), result
    assert result.outcome.detail.startswith(f"forward returns {told}"), result.outcome
    assert result.measured("train_s") is None


def test_logits_whose_traced_shape_depends_on_data_are_left_to_the_scorer(trial: Trial) -> None:
    place = "        return self.head(self.embedding(tokens))"
    chosen = """
        whole = self.head(self.embedding(tokens))
        every = (tokens >= 0).flatten().nonzero().squeeze(1)
        return whole.flatten(0, 1)[every].view(tokens.shape[0], -1, whole.shape[2])
"""
    result = trial(program(model=MODEL.replace(place, chosen)))
    assert isinstance(result.outcome, Scored), result


SLOW = Budget(BudgetKind.SECONDS, 1.5, room_s=0.5)

LIMITS = {
    "start-up": (program(before_clock="import time; time.sleep(60)\n"), Limits(startup_s=2), "startup_limit"),
    "a hang in training": (program(in_loop="    import time; time.sleep(60)\n"), Limits(), "hang"),
    "a hand-in after the budget": (program(at_bell="import time; time.sleep(1)\n"), Limits(), "late"),
    "a hand-in that never comes": (program(at_bell="import time; time.sleep(60)\n"), Limits(), "late"),
    "memory": (
        program(before_clock="hoard = [torch.ones(1 << 24) for _ in range(64)]\n"),
        Limits(memory_bytes=1 << 30), "out_of_memory",
    ),
    "the log": (
        program(before_clock="while True: print('x' * 10_000)\n"), Limits(log_bytes=1 << 20), "log_limit",
    ),
    "file size": (
        program(before_clock="open('big', 'wb').write(bytes(8 << 20))\n"),
        Limits(file_bytes=1 << 20), "file_limit",
    ),
    "processes": (
        program(before_clock="import os, time\nfor _ in range(500):\n    if os.fork() == 0: time.sleep(60)\n"),
        Limits(processes=16), "process_limit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_ends_in_a_failure_that_says_which(name: str, trial: Trial) -> None:
    source, limits, reason = LIMITS[name]
    outcome = trial(source, SLOW, limits).outcome
    assert isinstance(outcome, Failed), outcome
    assert outcome.reason == reason, outcome


def test_nothing_of_a_candidate_outlives_it(trial: Trial) -> None:
    mark = f"daemon-{os.getpid()}-{time.monotonic_ns()}"
    daemon = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("python3", ["python3", "-c", "import time; time.sleep(300)  # {mark}"])
    os._exit(0)
time.sleep(0.3)
"""
    result = trial(program(before_clock=daemon))
    assert isinstance(result.outcome, Scored), result
    alive = [p.pid for p in psutil.process_iter() if mark in " ".join(_cmdline(p))]
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert alive == []


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


needs_jail = pytest.mark.skipif(
    not Path("/proc/self/ns/net").exists(), reason="namespaces and Landlock exist on Linux only"
)


def denied(action: str) -> str:
    """Return statements that print `held` when `action` is refused."""
    return f"try:\n    {action}\n    print('got', 'through')\nexcept OSError:\n    print('he' + 'ld')\n"


@needs_jail
@pytest.mark.parametrize(
    "action",
    [
        "open({shard!r}, 'rb').read()",
        "__import__('os').listdir({data!r})",
        "open('/etc/passwd').read()",
        "__import__('os').listdir('/proc/1')",
        "__import__('os').listdir(__import__('os').path.expanduser('/root'))",
        "open('/tmp/outside', 'w')",
        "open('/dev/shm/outside', 'w')",
        "open('prepare.py', 'a')",
        "__import__('socket').create_connection(('127.0.0.1', 22), 1)",
        "__import__('socket').socket(2, 2).sendto(b'x', ('127.0.0.1', 9))",
        "__import__('socket').socket(1, 1).connect('/tmp/some.sock')",
        "__import__('os').sched_setaffinity(0, range(64))",
        "__import__('os').kill({pid}, 0)",
        "__import__('os').memfd_create('hidden')",
    ],
)
def test_the_world_of_a_candidate_ends_at_its_directory(
    action: str, trial: Trial, text_data: Path
) -> None:
    action = action.format(
        shard=str(text_data / "selection" / "tokens.npy"), data=str(text_data), pid=os.getpid()
    )
    result = trial(program(before_clock=denied(action)))
    assert "held" in result.log and "got through" not in result.log, result.log
    assert isinstance(result.outcome, Scored)


def test_no_variable_of_the_harness_reaches_a_candidate(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-key")
    result = trial(program(first="import os\nprint(sorted(os.environ))\n"))
    assert "ANTHROPIC" not in result.log and "secret-key" not in result.log
    assert "EVOLVE_SOCKET" in result.log


def test_training_on_after_the_bell_hands_in_nothing(trial: Trial) -> None:
    source = program(at_bell="import time; time.sleep(0.8)\n")
    outcome = trial(source, Budget(BudgetKind.SECONDS, 2.0, room_s=0.5)).outcome
    assert isinstance(outcome, Failed) and outcome.reason == "late", outcome
    assert "the step in hand and the copy must fit into" in outcome.detail


def test_a_start_up_that_took_the_whole_budget_is_said_to_be_why_the_tensors_were_late(
    trial: Trial,
) -> None:
    source = program(before_clock="import time; time.sleep(10)\n")
    result = trial(source, Budget(BudgetKind.SECONDS, 2.0, room_s=0.5))
    assert isinstance(result.outcome, Failed), result
    assert result.outcome.reason == "late"
    billed_s = result.measured("billed_s")
    assert billed_s is not None and billed_s > 2.0
    assert result.outcome.detail.endswith(
        f" of 2 seconds, of which {billed_s:.2f} s were billed for start-up beyond what is free: "
        "shorten what comes before the first batch"
    )


STAYS = """
import time
send = run._send
def stay(kind, payload):
    send(kind, payload)
    time.sleep(60)
run._send = stay
"""


def test_a_candidate_that_is_dead_too_late_hands_in_nothing(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(BudgetKind.SECONDS, 2.0, room_s=0.5)
    honest = trial(program(), budget)
    assert isinstance(honest.outcome, Scored), honest
    assert 0 < (honest.measured("death_s") or 0) < 1

    kill = Warm.kill

    def slowly(warm: Warm, number: int) -> None:
        time.sleep(1.5)
        kill(warm, number)

    monkeypatch.setattr(Warm, "kill", slowly)
    assert isinstance(trial(program(), budget).outcome, Scored)  # it ends by itself
    outcome = trial(program(at_bell=STAYS), budget).outcome
    assert isinstance(outcome, Failed) and outcome.reason == "late", outcome
    assert "it was dead" in outcome.detail


def test_a_candidate_whose_guard_is_killed_hands_in_nothing(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Training._limit

    def killing(training: Training) -> Failed | None:
        if "started" in training.events and training.bounds.tree is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(training.bounds.tree.guard, signal.SIGKILL)
        return limit(training)

    monkeypatch.setattr(Training, "_limit", killing)
    outcome = trial(program(), Budget(BudgetKind.SECONDS, 4.0, room_s=0.5)).outcome
    assert isinstance(outcome, Failed) and outcome.reason == "guard_killed", outcome


BIG = MODEL.replace(
    "        self.head",
    "        self.big = nn.Buffer(torch.zeros(100 << 20))\n        self.head",
).replace("return self", "return self.big[0] + self")  # 400 MiB


def test_a_large_hand_in_has_time_for_its_copy_or_is_refused_at_once(trial: Trial) -> None:
    result = trial(program(model=BIG), Budget(BudgetKind.SECONDS, 4.0, room_s=0.3))
    assert isinstance(result.outcome, Scored), result
    outcome = trial(program(model=BIG), Budget(BudgetKind.SECONDS, 0.8, room_s=0.3)).outcome
    assert isinstance(outcome, Failed) and outcome.reason == "refused", outcome
    assert "use a smaller model" in outcome.detail


def test_start_up_beyond_what_is_free_is_billed(trial: Trial) -> None:
    budget = Budget(BudgetKind.SECONDS, 3.0, room_s=0.5)
    slow = trial(program(before_clock="import time; time.sleep(1.5)\n"), budget)
    assert isinstance(slow.outcome, Scored), slow
    assert (slow.measured("billed_s") or 0) > 0.5
    assert (slow.measured("train_s") or 9) < 2.4


def test_averaged_tensors_may_be_handed_in(trial: Trial) -> None:
    zeros = trial(program(train=TRAIN.replace(
        "run.deliver(model)",
        "run.deliver(model, {n: torch.zeros_like(p) for n, p in model.named_parameters()})",
    )))  # fmt: skip
    assert isinstance(zeros.outcome, Scored)
    assert zeros.outcome.value == pytest.approx(8.0, abs=1e-5)  # uniform over 256 bytes


@needs_jail
@pytest.mark.parametrize(
    ("device", "share", "outcome", "told"),
    [
        ("cpu", 0.12, Scored(1.0), True),
        ("cuda", 0.12, Scored(1.0), False),
        ("cuda", 0.60, Scored(1.0), True),
        ("cuda", 0.12, Failed(Stage.STARTUP, "startup_limit", "late"), True),
    ],
)
def test_cores_that_others_use_by_less_than_half_say_nothing_of_a_score_on_a_gpu(
    device: str, share: float, outcome: Scored | Failed, told: bool, tmp_path: Path
) -> None:
    task = load_task(Path(__file__).parents[2])
    request = Request(EvaluationId(1), IndividualId(1), Genome(""), 1, "selection", Purpose.TRY)
    spec = trial_spec(task, request, data=tmp_path, data_sha256="", slots=1)
    signs = [Measurement("reference_s", 0.1, "s"), Measurement("foreign_share", share, "1")]
    found = bearing(signs, replace(spec, device=device), outcome)
    assert found == (signs if told else signs[:1])


def test_two_trials_that_share_a_core_are_two_users(tmp_path: Path) -> None:
    task = load_task(Path(__file__).parents[2])
    request = Request(EvaluationId(1), IndividualId(1), Genome(""), 1, "selection", Purpose.TRY)
    spec = trial_spec(task, request, data=tmp_path, data_sha256="", slots=1)
    with _directories(spec, (0,)) as (one, _), _directories(spec, (0,)) as (other, _):
        assert one.uid != other.uid


def test_a_core_that_others_use_is_told_from_a_slow_program(trial: Trial) -> None:
    budget = Budget(BudgetKind.SECONDS, 2.0, room_s=0.5)
    quiet = program(in_loop="    import time; time.sleep(0.01)\n")
    alone = min(trial(quiet, budget).measured("foreign_share") or 0 for _ in range(3))
    hog = "print(flush=True)\nwhile True: pass\n"
    hogs = [
        subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-c", hog], stdout=subprocess.PIPE
        )
        for core in cores.available()
        for _ in range(3)  # more than other tests put on it
    ]
    try:
        for process in hogs:
            assert process.stdout is not None
            process.stdout.readline()
        shared = trial(quiet, budget)  # a loop without rest is mostly the feeder's work
    finally:
        for process in hogs:
            process.kill()
            process.communicate()
    assert (shared.measured("foreign_share") or 0) > FOREIGN_SHARE
    assert alone < (shared.measured("foreign_share") or 0)


def test_a_score_in_steps_is_not_made_again_because_its_machine_was_busy(trial: Trial) -> None:
    scored = trial(program())
    assert isinstance(scored.outcome, Scored), scored
    assert scored.measured("reference_s") is scored.measured("foreign_share") is None
    assert scored.measured("reference_before_s") is not None
    failed = trial(program(in_loop="    1 / 0\n"))
    assert isinstance(failed.outcome, Failed)
    assert failed.measured("reference_s") is not None


def test_what_a_killed_worker_left_is_removed_by_the_next_trial(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # others train in the usual place
    left, held, foreign = (tmp_path / f"{PREFIX}{name}" for name in ("left", "held", "foreign"))
    for folder in (left, held):
        folder.mkdir()
        (folder / "lock").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "lock").touch()
    foreign.symlink_to(outside)
    with (held / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trial(program())
    assert sorted(tmp_path.glob(f"{PREFIX}*")) == sorted([held, foreign])
    assert (outside / "lock").exists()


def test_averages_under_names_that_the_model_lacks_are_named_and_no_loss_makes_torch_warn(
    trial: Trial,
) -> None:
    handed = "run.deliver(model, {f'_orig_mod.{n}': p for n, p in model.named_parameters()})"
    found = trial(program(train=TRAIN.replace("run.deliver(model)", handed)))
    assert isinstance(found.outcome, Scored)
    assert "left out what the model has no tensor for: _orig_mod." in found.log
    assert "UserWarning" not in found.log


def test_averages_in_another_type_are_converted_and_a_missing_tensor_is_named(
    trial: Trial,
) -> None:
    handed = "run.deliver(model, {n: p.double() for n, p in model.named_parameters()})"
    double = trial(program(train=TRAIN.replace("run.deliver(model)", handed)))
    assert double.outcome == trial(program()).outcome
    missing = trial(program(at_bell="model.head = torch.nn.Linear(16, 256, bias=False)\n"))
    assert isinstance(missing.outcome, Failed)
    assert (missing.outcome.stage, missing.outcome.reason) == ("handin", "refused")
    assert "head.bias" in missing.outcome.detail


REFUSED = """
class Random(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(256, 256)
    def forward(self, tokens):
        return torch.rand(self.embedding(tokens).shape)
try:
    run.register(Random())
except prepare.HandInRefusedError as error:
    print("refused", error)
"""


def test_a_model_stays_registered_where_another_one_is_refused_after_it(trial: Trial) -> None:
    result = trial(program(before_clock=REFUSED))
    assert "refused aten.rand" in result.log
    assert result.outcome == trial(program()).outcome


def test_a_program_that_registered_after_a_refusal_is_told_of_its_crash(trial: Trial) -> None:
    source = program(before_clock=REFUSED + "run.register(model)\n", in_loop="    1 / 0\n")
    outcome = trial(source).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.stage, outcome.reason) == ("training", "crash"), outcome


def test_registering_leaves_every_part_of_a_model_in_its_mode(trial: Trial) -> None:
    result = trial(program(
        before_clock="model.embedding.eval()\nrun.register(model)\n"
        "print(model.training, model.embedding.training, model.head.training)\n"
    ))  # fmt: skip
    assert "True False True" in result.log


def test_the_warm_process_differentiates_nothing_before_it_forks() -> None:
    body = """
import torch.autograd.graph
import evaluate.warm
def refuse(*_, **__): raise AssertionError("differentiated")
torch.autograd.graph._engine_run_backward = torch.autograd._engine_run_backward = refuse
evaluate.warm._warm_up(1)
"""
    done = subprocess.run(
        [sys.executable, "-c", body],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_the_machines_fault_and_named(trial: Trial) -> None:
    with pytest.raises(MachineError, match="cuda cannot be used on this machine"):
        trial(program(), device="cuda")
    assert isinstance(trial(program()).outcome, Scored)


def test_a_warm_process_that_dies_at_any_moment_is_named_and_replaced(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(program())
    (warm,) = _warm.values()

    def readable(sources: Sequence[Any], timeout_s: float | None) -> list[Any]:
        if warm.process.returncode is None:
            os.kill(warm.process.pid, signal.SIGKILL)
        return original(sources, timeout_s)

    original = wire.readable
    with monkeypatch.context() as patch, pytest.raises(MachineError, match="forks candidates"):
        patch.setattr("evaluate.trial.wire.readable", readable)
        trial(program())
    assert isinstance(trial(program()).outcome, Scored)


def test_importing_torch_may_take_longer_than_the_reference_workload(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_warm_process()
    monkeypatch.setattr("evaluate.trial.REFERENCE_PATIENCE_S", 5.0)
    slow = Warm.start(1)
    os.kill(slow.process.pid, signal.SIGSTOP)
    threading.Timer(6.0, os.kill, (slow.process.pid, signal.SIGCONT)).start()
    monkeypatch.setattr(Warm, "start", lambda threads: slow)
    assert isinstance(trial(program()).outcome, Scored)


def test_what_is_kept_of_a_start_up_holds_nothing_of_the_training(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Compiled(tmp_path / "kept" / "one")
    monkeypatch.setattr("evaluate.trial.compiled_parts", lambda spec: kept)
    source = program(
        first="import os, pathlib\n",
        before_clock="os.makedirs('.compiled', exist_ok=True)\n"
        "print('found', sorted(os.listdir('.compiled')))\n"
        "pathlib.Path('.compiled/kernel').write_text('code')\n",
        in_loop="    pathlib.Path('.compiled/learnt').write_text('weights')\n",
    )
    first, second = trial(source), trial(source)
    assert "found []" in first.log
    assert "found ['kernel']" in second.log
    assert [path.name for path in kept.kept.iterdir()] == ["kernel"]


def test_a_gpus_use_is_told_as_a_share_of_its_peak_where_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = [Measurement("flops_per_token", 2e8, "1"), Measurement("tokens_per_s", 1e6, "1/s")]
    monkeypatch.setattr("evaluate.trial.device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    (mfu,) = utilisation(measured, "cuda")
    assert mfu.value == pytest.approx(3 * 2e8 * 1e6 / 312e12)
    assert utilisation(measured[:1], "cuda") == []
    monkeypatch.setattr("evaluate.trial.device_name", lambda device: "an unknown card")
    assert utilisation(measured, "cuda") == []
