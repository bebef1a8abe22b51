"""Builds every part of a run from its configuration: the only place that knows all rooms."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluate.evaluator import as_data_error, data_sha256, load
from evaluate.namespaces import SHARED_MEMORY
from evaluate.outside import AT_ONCE, Outside
from evaluate.pool import RayPool, slots_here
from evaluate.sandbox import exposed, require_all
from evolve.config import RunConfig
from evolve.controls import CONTROLS
from evolve.taskfile import conditions
from mutate import genome
from mutate.checks import Checks
from population.errors import DataError, SandboxError, TaskError
from population.identity import RunIdentity
from population.individual import Genome, Individual, IndividualId
from population.limits import SearchConfig
from population.task import EvaluatorKind, Task

QUARANTINE_SIGMAS = 8.0
"""A first score that beats its parent's by more than this is held back until it is confirmed."""


def cache_folder(given: Path | None) -> Path:
    """Return where prepared data lies: as given, else `EVOLVE_CACHE`, else a user cache folder."""
    named = given or Path(os.environ.get("EVOLVE_CACHE") or "~/.cache/evolve-train")
    return named.expanduser().resolve()


def data_folder(task: Task, cache: Path) -> Path | None:
    """Return where the task's data lies, prepared or not; None for a task without data."""
    if task.data is None or task.kind is EvaluatorKind.COMMAND:
        return None
    if task.self_reported:
        return Path(task.data)
    evaluator = load(task.evaluator)
    try:
        if task.scale == "cpu":  # which every evaluator knows without being told
            return evaluator.data_dir(task.data, cache)
        return evaluator.data_dir(task.data, cache, scale=task.scale)
    except getattr(evaluator, "DataError", OSError) as error:
        raise DataError(str(error)) from error


def candidates_read(task: Task) -> tuple[str, ...]:
    """Return the paths that candidates read themselves: the data of a task that they score."""
    return (task.data,) if task.self_reported and task.data else ()


def prepared(task: Task, cache: Path) -> Path | None:
    """Prepare the task's data where it is missing and return its folder; None without data.

    Data that programs read themselves is taken as it lies there.

    Raises:
        DataError: the source is unusable, the download fails, the disk is full.
        SandboxError: every candidate could read the source or what is prepared, or more than the
            data that it shall read.
    """
    if task.data is None or task.kind is EvaluatorKind.COMMAND:
        return None
    if task.self_reported:
        return _readable(task, Path(task.data), cache)
    out_of_reach(cache, "name another folder with --cache or EVOLVE_CACHE")
    for source in (Path(task.data), *_links(Path(task.data))):
        if source.exists():
            out_of_reach(source, "move the text elsewhere")
    if (mirror := os.environ.get("EVOLVE_MIRROR")) and Path(mirror).exists():
        out_of_reach(Path(mirror), "name another folder in EVOLVE_MIRROR")
    evaluator = load(task.evaluator)
    with as_data_error(evaluator):
        return evaluator.prepare(task.data, cache, **_sized(task))


def prepared_before(task: Task, cache: Path) -> Path | None:
    """Return the folder of a model task's data if an earlier call has prepared it, else None."""
    if task.data is None or task.kind is not EvaluatorKind.MODEL:
        return None
    evaluator = load(task.evaluator)
    with as_data_error(evaluator):
        data = evaluator.data_dir(task.data, cache, **_sized(task))
    return data if (data / "train").is_dir() else None


def _sized(task: Task) -> dict[str, Any]:
    """Return how an evaluator is told the scale: one without a GPU's need not know the word."""
    return {} if task.scale == "cpu" else {"scale": task.scale}


def _readable(task: Task, data: Path, cache: Path) -> Path:
    """Return data that programs read themselves, once nothing else lies in it."""
    named = "name the file or folder that holds the data in `[data] source` or with --data"
    if not data.exists():
        raise DataError(f"the data of {task.name} is to lie in {data}, where nothing is: {named}")
    hidden = Path(SHARED_MEMORY)
    if task.device != "cpu" and data.is_relative_to(hidden):
        raise DataError(f"{hidden} is not that of a candidate on {task.device}: move {data}")
    besides = {
        "the task": task.root,
        "your home": Path.home(),
        "temporary files": Path(tempfile.gettempdir()),
        "what other tasks have prepared": cache,
        "all processes": Path("/proc/self"),
    }
    for what, place in besides.items():
        if place.resolve().is_relative_to(data):
            raise SandboxError(f"{data} holds {what}, too, which no candidate may read: {named}")
    return data


def _links(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are links: what they lead to is read as data."""
    for root, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(root, name)).is_symlink())


def out_of_reach(folder: Path, remedy: str, data: Path | None = None) -> None:
    """Raise SandboxError where every candidate can read a folder, whatever the sandbox holds.

    Args:
        folder: that is to be out of reach.
        remedy: what to do where it is not.
        data: that candidates read by themselves.
    """
    if data is not None and folder.resolve().is_relative_to(data):
        raise SandboxError(f"{folder} lies in {data}, which every candidate reads: {remedy}")
    if within := exposed(folder):
        raise SandboxError(f"{folder} lies in {within}, which every candidate can read: {remedy}")


def identity(config: RunConfig, task: Task, data: Path | None) -> RunIdentity:
    """Return what the run is about, for the lineage to keep and to compare."""
    return RunIdentity(
        task=task.name,
        artifact=task.artifact,
        metric=task.metric,
        direction=task.direction,
        evaluator_sha256=task.evaluator_sha256,
        data_sha256=data_sha256(task, data),
        program_sha256=_sha256(task.program),
        seed=config.seed,
        created_at=time.time(),
        configuration=config.to_json(),
        selection_shard=task.shards[0],
        conditions=json.dumps(conditions(task)),
    )


def founders(task: Task) -> list[Individual]:
    """Return the seeds as individuals; the search gives them their ids.

    A seed that crashes or never delivers is a founder too: its failure is a result.

    Raises:
        TaskError: a seed fails a check that every proposal must pass, or cannot be read.
    """
    _require_founders(task)
    program = _sha256(task.program)
    return [
        Individual(
            id=IndividualId(number),
            genome=Genome(source),
            name=seed.stem,
            structure=genome.structure(source),
            fingerprint=genome.fingerprint(source),
            constants=genome.values(source),
            program_sha256=program,
        )
        for number, seed in enumerate(task.seeds, 1)
        for source in [seed.read_text(encoding="utf-8")]
    ]


def _require_founders(task: Task) -> None:
    """Refuse what is known to be no program before anything is trained, let alone repeated."""
    checks = Checks.of(task)
    reasons = ((seed, checks.refusal(seed.read_text(encoding="utf-8"))) for seed in task.seeds)
    if refused := [f"{seed}: {reason}" for seed, reason in reasons if reason]:
        raise TaskError(
            f"a founder must pass the checks of every program; {'; '.join(refused)}. Mend it, or "
            "take it out of `seeds` in task.toml"
        )


def search_config(config: RunConfig, task: Task) -> SearchConfig:
    """Return what the search needs to know of the configuration.

    A quarantine asks another shard: a command that is not told the shard has none.
    """
    control = CONTROLS[config.breeding.search]
    sharded = task.kind is EvaluatorKind.MODEL or any("{shard}" in part for part in task.command)
    return SearchConfig(
        seed=config.seed,
        mode=control.mode,
        racing_share=control.racing_share,
        mu=config.mu,
        lambda_=config.lambda_,
        max_evaluations=config.evaluations,
        max_generations=config.generations,
        max_hours=config.hours,
        sync=config.sync,
        quarantine_sigmas=QUARANTINE_SIGMAS if sharded else None,
        rung=None if task.budget.rung is None else task.budget.rung / task.budget.amount,
    )


Trainers = RayPool | Outside


def pool(config: RunConfig, task: Task, data: Path | None) -> Trainers:
    """Return the pool that trains this run's candidates, or waits for what others find out.

    Raises:
        SandboxError: a layer is missing here, and the run was told to insist on all.
        PoolError: Ray does not answer, or nothing fits.
    """
    if not task.trains:
        return Outside(task, config.folder, config.slots or local_slots(task))
    required = _required(task) if config.require_sandbox else ()
    return RayPool(
        task,
        data,
        slots=config.slots,
        address=config.address,
        required=required,
    )


def _required(task: Task) -> tuple[str, ...]:
    try:
        return require_all(task.device, candidates_read(task))
    except SandboxError as error:
        raise SandboxError(
            f"{error}. A run that was born with it goes on without under --no-require-sandbox"
        ) from error


def local_slots(task: Task) -> int:
    """Return how many candidates this machine trains at once by default."""
    return slots_here(task) if task.trains else AT_ONCE


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise TaskError(f"{file} cannot be read ({error.strerror})") from error
