"""Builds every part of a run from its configuration: the only place that knows all rooms."""

import hashlib
import json
import time
from pathlib import Path

from evaluate.evaluator import data_sha256
from evaluate.outside import AT_ONCE, Outside
from evaluate.pool import RayPool, slots_here
from evaluate.sandbox import require_all
from evolve.config import RunConfig
from evolve.controls import CONTROLS
from evolve.taskdata import candidates_read
from evolve.taskfile import conditions
from mutate import genome
from mutate.checks import Checks
from population.errors import SandboxError, TaskError
from population.identity import RunIdentity
from population.individual import Genome, Individual, IndividualId
from population.limits import SearchConfig
from population.task import EvaluatorKind, Task

QUARANTINE_SIGMAS = 8.0
"""A first score that beats its parent's by more than this is held back until it is confirmed."""


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
