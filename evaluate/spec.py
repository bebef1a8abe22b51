"""All that a worker needs to know about one trial: plain data that travels through Ray."""

from dataclasses import dataclass
from pathlib import Path

from population.individual import Purpose, Request
from population.task import Budget, EvaluatorKind, Limits, Task, digest

MAX_TENSOR_BYTES = 8 << 30
"""Of a hand-in, however much memory a task allows."""


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One evaluation of one source.

    Attributes:
        evaluator_source: text of the locked file; each trial gets its own copy of it.
        helpers: names and texts of the files that it imports.
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
    helpers: tuple[tuple[str, str], ...] = ()

    @property
    def locked(self) -> dict[str, str]:
        """The locked files by name, the evaluator first."""
        return {self.evaluator_name: self.evaluator_source} | dict(self.helpers)

    @property
    def lent(self) -> dict[str, str]:
        """The locked files of which a copy lies beside the artifact, which may import them."""
        lends = self.kind in (EvaluatorKind.MODEL, EvaluatorKind.REPORTED)
        return self.locked if lends else {}

    @property
    def max_tensor_bytes(self) -> int:
        """What the tensors of a hand-in may need: they lie in memory beside the candidate."""
        return min(MAX_TENSOR_BYTES, self.limits.memory_bytes)

    @property
    def evaluator_sha256(self) -> str:
        """Hex digest of the locked files' texts."""
        return digest(*self.locked.values())


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
        helpers=task.helpers,
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
