"""All that a worker needs to know about one trial: plain data that travels through Ray."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from population.individual import Purpose, Request
from population.task import Budget, EvaluatorKind, Limits, Task

MAX_TENSOR_BYTES = 8 << 30
"""Of a hand-in, however much memory a task allows."""


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One evaluation of one source.

    Attributes:
        evaluator_source: text of the locked file; each trial gets its own copy of it.
        data: where the data lies on the worker's machine, None for tasks without.
        device: `cpu`, `cuda`, ...; candidates_per_host: slots of that machine.
        required: layers of the sandbox without which nothing is trained.
        metric: name of the number, by which a program reports its own.
    """

    request: Request
    artifact: str
    kind: EvaluatorKind
    evaluator_name: str
    evaluator_source: str
    command: tuple[str, ...]
    data: str | None
    data_sha256: str
    device: str
    cores: int
    candidates_per_host: int
    budget: Budget
    limits: Limits
    required: tuple[str, ...] = ()
    metric: str = ""

    @property
    def lends_evaluator(self) -> bool:
        """Whether a copy of the evaluator lies beside the artifact, which may import it."""
        return self.kind in (EvaluatorKind.MODEL, EvaluatorKind.REPORTED)

    @property
    def max_tensor_bytes(self) -> int:
        """What the tensors of a hand-in may need: they lie in memory beside the candidate."""
        return min(MAX_TENSOR_BYTES, self.limits.memory_bytes)

    @property
    def evaluator_sha256(self) -> str:
        """Hex digest of the evaluator's text."""
        return hashlib.sha256(self.evaluator_source.encode()).hexdigest()


def trial_spec(
    task: Task,
    request: Request,
    *,
    data: Path | None,
    data_sha256: str,
    slots: int,
) -> TrialSpec:
    """Return the trial of `request` under `task`: one at the rung has the short budget."""
    return TrialSpec(
        request=request,
        artifact=task.artifact,
        kind=task.kind,
        evaluator_name=task.evaluator.name,
        evaluator_source=task.evaluator_source,
        command=task.command,
        data=None if data is None else str(data),
        data_sha256=data_sha256,
        device=task.device,
        cores=task.cores,
        candidates_per_host=slots,
        budget=task.budget.short if request.purpose is Purpose.RUNG else task.budget,
        limits=task.limits,
        metric=task.metric,
    )
