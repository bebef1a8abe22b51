"""`evolve doctor`: what works on this machine, what does not, and what to do about it."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from evaluate.cores import available
from evaluate.device import accelerator, device_files, device_name
from evaluate.evaluator import data_sha256, load
from evaluate.pool import RayPool
from evaluate.sandbox import Layer, probe, protects_data
from evolve.composition import founders, local_slots
from evolve.printing import SELF_REPORTED
from evolve.taskdata import candidates_read, data_folder, prepared, prepared_before
from evolve.taskfile import format_budget, load_task, usual_device
from evolve.text import count, number
from evolve.trying import Trial
from population.errors import EvolveError, SandboxError
from population.individual import Genome, Scored
from population.task import Budget, BudgetKind, Task

OK, NOTE, BROKEN = "ok", "note", "broken"
ROOM_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: `ok`, `note` (works, with less than there could be) or `broken` (nothing runs).
        remedy: empty, or what to do.
    """

    subject: str
    state: str
    says: str
    remedy: str = ""


def examine_machine(folder: Path, cache: Path, runs: Path, address: str | None) -> list[Finding]:
    """Look at everything that a run needs; starts Ray for a moment, trains a model for a step."""
    findings = [*_machine(), *_disk(cache, runs)]
    try:
        task = load_task(folder, device=usual_device(folder))
        count = len(founders(task))
    except EvolveError as error:
        return [*findings, Finding("task", BROKEN, str(error))]
    says = f"{task.name}: {count} founders, {task.metric} ({task.direction}), "
    if not task.trains:
        findings.append(Finding("task", OK, says + "results are recorded from outside"))
        return [*findings, _key()]
    findings.append(Finding("task", OK, says + f"budget {format_budget(task.budget)}"))
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if task.self_reported:
        findings.append(Finding("score", NOTE, SELF_REPORTED))
    findings.append(memory(local_slots(task), task.limits.memory_bytes, machine_bytes))
    found = _checked("data", lambda: _data(task, cache))
    findings += [found, *_sandbox(task, here=address is None)]
    data = None if found.state == BROKEN or address else prepared_before(task, cache)
    if data is not None:
        findings.append(_checked("evaluator", lambda: _evaluator(task, data)))
    findings.append(_checked("Ray", lambda: _ray(task, address)))
    findings.append(_key())
    return findings


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", OK, f"{version}, {sys.platform}")
    packages = ("torch", "ray", "duckdb", "optuna", "scipy", "cmaes")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    yield Finding("packages", OK, versions)
    device = accelerator()
    yield Finding("device", OK, f"{device}: {device_name(device)}, {len(available())} cores")
    if device == "cpu" and device_files():
        says = "there is a GPU that torch does not see"
        yield Finding("GPU", NOTE, says, "install torch's build for it, and its driver")


def _disk(cache: Path, runs: Path) -> Iterator[Finding]:
    for subject, path in (("runs folder", runs.resolve()), ("cache folder", cache)):
        there = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(there).free
        says = f"{path}, {free / (1 << 30):.1f} GiB free"
        if not os.access(there, os.W_OK):
            yield Finding(subject, BROKEN, f"{path} cannot be written", "name another folder")
        elif free < ROOM_BYTES:
            yield Finding(subject, NOTE, says, "free 1 GiB, or name another folder")
        else:
            yield Finding(subject, OK, says)


def memory(slots: int, limit_bytes: int, machine_bytes: int) -> Finding:
    """Tell whether this machine holds as many candidates at once as it trains, at their limit."""
    says = (
        f"{machine_bytes / 2**30:.1f} GiB; {slots} at once may use {limit_bytes / 2**30:g} GiB each"
    )
    if slots * limit_bytes <= machine_bytes:
        return Finding("memory", OK, says)
    remedy = "where candidates need that much: fewer --slots, or less `memory` in task.toml"
    return Finding("memory", NOTE, says, remedy)


def _data(task: Task, cache: Path) -> Finding:
    folder = prepared(task, cache) if task.self_reported else data_folder(task, cache)
    if folder is None:
        return Finding("data", OK, "the task needs none")
    if not folder.exists():
        return Finding("data", NOTE, f"{task.data} is not prepared yet; `evolve run` does it")
    return Finding("data", OK, f"{folder}, sha256 {data_sha256(task, folder)[:12]}")


def _evaluator(task: Task, data: Path) -> Finding:
    """Train the evaluator's own minimal program for a step and score it, as every program is."""
    program = Genome(load(task.evaluator).MINIMAL_PROGRAM)
    one_step = replace(task, budget=Budget(BudgetKind.STEPS, 1.0))
    outcome = Trial(one_step, program, data).run(seed=0).outcome
    if isinstance(outcome, Scored):
        says = f"{task.metric} of its smallest program after one step: {number(outcome.value)}"
        return Finding("evaluator", OK, says)
    says = f"its smallest program fails in {outcome.stage}: {outcome.reason}, {outcome.detail}"
    return Finding("evaluator", BROKEN, says, f"mend MINIMAL_PROGRAM or {task.evaluator.name}")


def _sandbox(task: Task, *, here: bool) -> Iterator[Finding]:
    try:
        layers = probe(task.device, candidates_read(task), computes=here)
    except SandboxError as error:
        yield Finding("sandbox", BROKEN, str(error))
        return
    for layer in layers:
        state = OK if layer.active else NOTE
        remedy = "" if layer.active else layer.remedy
        says = layer.explanation if layer.active else f"missing: {layer.explanation}"
        yield Finding(f"sandbox: {layer.name}", state, says, remedy)
    yield from _sandbox_in_all(layers, task)


def _sandbox_in_all(layers: Sequence[Layer], task: Task) -> Iterator[Finding]:
    held = [layer.name for layer in layers if layer.active]
    if task.data is not None and not task.self_reported and not protects_data(held):
        says = "candidates can read it here: every score is marked as not protected"
        yield Finding("validation data", NOTE, says, "see `sandbox: landlock`")
    if len(held) == len(layers):
        yield Finding("sandbox", OK, "every layer holds: --require-sandbox is met")
    else:
        yield Finding("sandbox", NOTE, "--require-sandbox would refuse to train on this machine")


def _key() -> Finding:
    """Tell who could be asked with --llm, without asking anybody."""
    from mutate.claude import Claude

    claude = Claude()
    unusable, host = claude.unusable, claude.host
    claude.close()
    code = shutil.which("claude")
    beside = f"; Claude Code at {code} (--llm claude-code)" if code else ""
    if not unusable:
        return Finding("language models", OK, f"--llm would ask {host}{beside}")
    says = "none is needed; --llm would find no key"
    return Finding("language models", OK if code else NOTE, says + beside, unusable)


def _ray(task: Task, address: str | None) -> Finding:
    with closing(RayPool(task, None, slots=None, address=address)) as pool:
        where = f"at {address}" if address else "on this machine"
        says = f"answers {where}: {pool.slots} candidates at once"

    return Finding("Ray", OK, says)


def _checked(subject: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except EvolveError as error:
        return Finding(subject, BROKEN, str(error))


def report(findings: list[Finding]) -> str:
    """Return the findings, one line each, remedies below."""
    lines = []
    for found in findings:
        lines.append(f"{found.state:<7} {found.subject:<22} {found.says}")
        if found.remedy:
            lines.append(f"{'':<30} -> {found.remedy}")
    broken = sum(found.state == BROKEN for found in findings)
    lines.append(
        "everything that a run needs works" if not broken else f"{count(broken, 'thing')} to mend"
    )
    return "\n".join(lines)
