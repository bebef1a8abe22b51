"""One candidate, from its source to its outcome, on leased cores of this machine."""

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evaluate import compiled, directory, wire
from evaluate.compiled import Compiled
from evaluate.cores import lease, place
from evaluate.device import (
    device_free,
    device_name,
    driver_version,
    peak_flops,
    visible_cards,
)
from evaluate.evaluator import load
from evaluate.sandbox import UNPRIVILEGED_UID, Jail, owner
from evaluate.scoring import Judge, log_pipe, self_reported
from evaluate.spec import TrialSpec
from evaluate.tail import Tail
from evaluate.training import Training
from evaluate.warm import Warm, environment
from population.errors import EvolveError
from population.individual import (
    Comparability,
    EvaluationId,
    Failed,
    Genome,
    Measurement,
    Outcome,
    Pace,
    Result,
    Stage,
)
from population.task import Budget, BudgetKind, EvaluatorKind

TOLD_WAIT_S = 1.0
"""Of waiting for cores that others hold: what is less is not told."""
PREFIX = "evolve-trial-"
START_PATIENCE_S, REFERENCE_PATIENCE_S = 900.0, 60.0
"""For torch to be imported, which a network file system may take minutes for the first time; and
for the reference workload."""
SHARED_BYTES = 64 << 20
"""For the locks of compilers that work side by side, before an accelerator's clock starts."""
SIGNS_OF_OTHERS = frozenset({"reference_s", "foreign_share"})
"""Measurements by which a search tells that a machine was busy, and trains again."""
HOST_SHARE = 0.5
"""Of a host's cores that may go to others without a sign: an accelerator works from a queue. An
H200's step of 112 ms takes 12 ms of a core to launch."""
STARTUP_MARGIN = 1.25
"""Free start-up is what the minimal program needed, times this: start-up times vary too."""


class MachineError(EvolveError):
    """This machine cannot run a trial now."""


_warm: dict[tuple[int, str], Warm] = {}


def warm_process(threads: int) -> Warm:
    """Return this process's warm process; it ends with this process.

    A worker may get another device later on: then it gets another warm process, too.
    """
    wanted = threads, os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if wanted not in _warm:
        end_warm_process()
        _warm[wanted] = Warm.start(threads)
    return _warm[wanted]


def end_warm_process() -> None:
    """End this process's warm process, if there is one."""
    while _warm:
        _warm.popitem()[1].close()


def run_trial(spec: TrialSpec) -> Result:
    """Train and score one source as `spec` says; a bad candidate is a Failed outcome.

    Called from one thread per process. Raises EvolveError when this machine is at fault.
    """
    (result,) = run_block((spec,))
    return result


def run_block(specs: Sequence[TrialSpec]) -> list[Result]:
    """Run trials one after another on the same cores and device, as `run_trial` does each.

    Nobody else gets the cores in between, so that what differs is the programs.
    """
    began = time.monotonic()
    with lease(max(spec.cores for spec in specs)) as cores:
        waited_s = time.monotonic() - began
        first, *others = (_on(cores, spec) for spec in specs)
    told = (Measurement("waited_s", waited_s, "s"),) if waited_s > TOLD_WAIT_S else ()
    return [replace(first, measurements=(*told, *first.measurements)), *others]


def _on(cores: tuple[int, ...], spec: TrialSpec) -> Result:
    began = time.time()
    warm = warm_process(len(cores) or 1)
    try:
        allowance = _startup_allowance_s(spec, cores, warm)
        result = _run(spec, cores, warm, allowance)
    except wire.ClosedError as error:
        end_warm_process()
        raise MachineError("the process that forks candidates has ended") from error
    return replace(result, started_at=began, ended_at=time.time())


def _run(
    spec: TrialSpec, cores: tuple[int, ...], warm: Warm, allowance: float | None, score: bool = True
) -> Result:
    device_free(spec.device)
    before = _reference_s(spec, cores, warm)
    with _directories(spec, cores) as (jail, evaluator):
        log_read, log_write = log_pipe()
        log = Tail(log_read)
        training = Training(spec, warm, jail, evaluator, log, allowance, _pace(spec))
        kept = compiled_parts(spec)
        if kept is not None and not kept.lend(Path(jail.workdir), owner(jail)):
            training.on_start = lambda: kept.keep(Path(jail.workdir))
        try:
            outcome: Outcome | None = training.run(log_write)
            after = _reference_s(spec, cores, warm)
            measurements = training.measurements()
            remarks = ""
            if outcome is None and score:
                outcome, scored, remarks = _score(spec, warm, jail, evaluator, training)
                measurements += scored
        finally:
            for descriptor in (log_read, *training.descriptors):
                os.close(descriptor)
        outcome = outcome or Failed(Stage.SCORING, "not_scored", "only trained")
        outcome = _untouched(outcome, Path(jail.workdir), spec)
    measurements += utilisation(measurements, spec.device)
    measurements += [
        Measurement("reference_before_s", before, "s"),
        Measurement("reference_after_s", after, "s"),
        Measurement("reference_s", max(before, after), "s"),
    ]
    curve = training.account().get("curve", [])
    return Result(
        request=spec.request.id,
        outcome=outcome,
        comparability=comparability(spec),
        measurements=tuple(bearing(measurements, spec, outcome)),
        log=log.text() + remarks,
        curve=tuple((at, loss) for at, loss in curve),
        host=platform.node(),
        device=device_name(spec.device) + f" cores {','.join(map(str, cores))}",
        sandbox=training.held,
    )


def compiled_parts(spec: TrialSpec) -> Compiled | None:
    """Return where what this program compiles is kept, None where nothing is."""
    if spec.device == "cpu" or spec.data is None or spec.kind is not EvaluatorKind.MODEL:
        return None
    about = comparability(spec)
    directories = os.path.realpath(tempfile.gettempdir())  # their names are to have one length
    circumstances = about.torch, about.device, about.driver, directories
    name = compiled.key(spec.request.genome.source, *circumstances)
    return Compiled(Path(spec.data).parent / "compiled" / name)


def bearing(
    measured: Sequence[Measurement], spec: TrialSpec, outcome: Outcome
) -> list[Measurement]:
    """Leave out the signs of a busy machine where others cannot have changed the outcome.

    A score in tokens or steps is the same beside them, one of an accelerator hardly depends on who
    else uses the host's cores; a failure may come of a wall-clock limit.
    """
    if isinstance(outcome, Failed):
        return list(measured)
    if spec.budget.kind is not BudgetKind.SECONDS:
        return [one for one in measured if one.name not in SIGNS_OF_OTHERS]
    spared = 0.0 if spec.device == "cpu" else HOST_SHARE
    return [one for one in measured if one.name != "foreign_share" or one.value >= spared]


def utilisation(measured: Sequence[Measurement], device: str) -> list[Measurement]:
    """Return the share of an accelerator's peak that the training's products reached (MFU).

    A backward pass counts as two forward ones. Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    found = {one.name: one.value for one in measured}
    peak = peak_flops(device_name(device))
    if peak is None or not {"flops_per_token", "tokens_per_s"} <= found.keys():
        return []
    flops_per_s = 3 * found["flops_per_token"] * found["tokens_per_s"]
    return [Measurement("mfu", flops_per_s / peak, "1")]


def _score(
    spec: TrialSpec, warm: Warm, jail: Jail, evaluator: Path, training: Training
) -> tuple[Outcome, list[Measurement], str]:
    if spec.kind is EvaluatorKind.REPORTED:
        return self_reported(training.log, spec.metric), [], ""
    workdir = Path(jail.workdir)
    room = workdir.with_name("scoring")
    _own(room, jail)
    judge = Judge(spec, warm, replace(jail, workdir=str(room)), evaluator, workdir)
    if spec.kind is EvaluatorKind.COMMAND:
        directory.keep_plain(workdir)
        return judge.command()
    graph, tensors = training.descriptors[-2:]
    return judge.model(graph, tensors)


@contextlib.contextmanager
def _directories(spec: TrialSpec, cores: tuple[int, ...]) -> Iterator[tuple[Jail, Path]]:
    """Make the candidate's world and a trusted copy of the evaluator beside it."""
    _sweep(Path(tempfile.gettempdir()))
    fresh = Path(tempfile.mkdtemp(prefix="evolve-")).resolve()
    lock = (fresh / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    root = fresh.rename(fresh.with_name(PREFIX + fresh.name))
    held = contextlib.ExitStack()
    try:
        root.chmod(0o711)
        workdir, trusted = root / "candidate", root / "trusted"
        memory = spec.limits.memory_bytes if spec.device == "cpu" else None
        env = environment(len(cores) or 1) | {
            "HOME": str(workdir),
            "USER": "candidate",  # compilers ask, and its uid has no name
            "TMPDIR": str(workdir),
            "XDG_CACHE_HOME": str(workdir),
            "TORCHINDUCTOR_CACHE_DIR": str(workdir / ".inductor"),
            **(compiled.variables(workdir) if spec.device != "cpu" else {}),
        }
        del env["PYTHONPATH"]
        reads = spec.data if spec.kind is EvaluatorKind.REPORTED else None
        env |= {"EVOLVE_DATA": reads} if reads else {}
        jail = Jail(
            workdir=str(workdir),
            readable=(reads,) if reads else (),
            cores=cores,
            memory_bytes=memory,
            processes=spec.limits.processes,
            file_bytes=spec.limits.file_bytes,
            environment=tuple(env.items()),
            device=spec.device,
            cards=visible_cards(spec.device),
            shared_bytes=0 if spec.device == "cpu" else SHARED_BYTES,
            uid=UNPRIVILEGED_UID + held.enter_context(place()),
            required=spec.required,
        )
        trusted.mkdir()
        trusted.chmod(0o755)
        for name, text in spec.locked.items():
            (trusted / name).write_text(text, "utf-8")
            (trusted / name).chmod(0o444)
        _own(workdir, jail)
        (workdir / spec.artifact).write_text(spec.request.genome.source, "utf-8")
        for name, text in spec.lent.items():
            (workdir / name).write_text(text, "utf-8")
        for file in workdir.iterdir():
            file.chmod(0o444)
        yield jail, trusted / spec.evaluator_name
    finally:
        directory.remove(root)
        lock.close()
        held.close()


def _sweep(folder: Path) -> None:
    """Remove the directories of trials whose worker was killed before it could do so.

    A living worker holds a lock in its directory, which the system drops when it dies.
    """
    for left in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if left.lstat().st_uid != os.geteuid() or left.is_symlink():
                continue
            lock = os.open(left / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(lock) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                directory.remove(left)


def _own(folder: Path, jail: Jail) -> None:
    folder.mkdir(mode=0o700)
    ids = owner(jail)
    if ids is not None:
        os.chown(folder, *ids)


def _untouched(outcome: Outcome, workdir: Path, spec: TrialSpec) -> Outcome:
    """Fail a candidate that changed its copy of a locked file; only a warning sign, no more."""
    for name, text in spec.lent.items():
        expected = text.encode()
        if directory.read_plain(workdir / name, len(expected) + 1) != expected:
            return Failed(Stage.TRAINING, "tampered", f"changed its read-only {name}")
    return outcome


def _reference_s(spec: TrialSpec, cores: tuple[int, ...], warm: Warm) -> float:
    """Return the duration of the reference workload on these cores now, in seconds."""
    ours, theirs = socket.socketpair()
    fields = {"cores": cores, "device": spec.device}
    number = warm.fork("reference", fields, [theirs.fileno()])
    theirs.close()
    with ours:
        if not warm.has_forked(number, START_PATIENCE_S):
            raise MachineError(
                f"torch was not imported within {START_PATIENCE_S:g} s: is the file system on "
                "which it lies at work?"
            )
        if not wire.readable([ours], REFERENCE_PATIENCE_S):
            warm.kill(number)
            raise MachineError(f"{spec.device} did not answer for {REFERENCE_PATIENCE_S:g} s")
        try:
            event, _ = wire.receive_event(ours)
        except wire.ClosedError as error:
            warm.wait(number, 10.0)  # raises where it is the warm process that has ended
            raise MachineError(
                f"{spec.device} cannot be used on this machine: the reference workload failed on "
                "it (its error is above, or in Ray's logs); see `evolve doctor`, or name another "
                "device with --device"
            ) from error
    warm.wait(number, 10.0)
    return float(event["seconds"])


_allowances: dict[tuple[str, str], float] = {}


def _startup_allowance_s(spec: TrialSpec, cores: tuple[int, ...], warm: Warm) -> float | None:
    """Return how much start-up is free on this machine, None where none is billed.

    Measured once per worker with the evaluator's own minimal program, the quicker of two.
    """
    if spec.kind is not EvaluatorKind.MODEL or spec.device != "cpu":
        return None
    key = (spec.device, spec.evaluator_sha256)
    if key not in _allowances:
        with _directories(spec, cores) as (_, evaluator):
            source = load(evaluator).MINIMAL_PROGRAM
        request = replace(spec.request, id=EvaluationId(0), genome=Genome(source))
        probe_spec = replace(spec, request=request, budget=Budget(BudgetKind.STEPS, 1))
        seconds = [_startup_s(probe_spec, cores, warm) for _ in range(2)]
        _allowances[key] = STARTUP_MARGIN * min(seconds)
    return _allowances[key]


def _startup_s(spec: TrialSpec, cores: tuple[int, ...], warm: Warm) -> float:
    result = _run(spec, cores, warm, None, score=False)
    seconds = result.measured("startup_s")
    if seconds is None:
        raise MachineError(f"the minimal program did not start: {result.outcome}\n{result.log}")
    return seconds


def _pace(spec: TrialSpec) -> Pace | None:
    """Return the pace of its parents, None where that was measured on another kind of device."""
    pace = spec.request.pace
    same = pace is not None and pace.comparability == comparability(spec).key
    return pace if same else None


def comparability(spec: TrialSpec) -> Comparability:
    """Return what a score of this trial may be compared under."""
    return Comparability(
        device=device_name(spec.device),
        driver=driver_version(spec.device),
        torch=importlib.metadata.version("torch"),
        candidates_per_host=spec.candidates_per_host,
        evaluator_sha256=spec.evaluator_sha256,
        data_sha256=spec.data_sha256,
    )
