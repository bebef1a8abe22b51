"""`evolve try`: one file trained and scored as the search would, without a run and without Ray."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evaluate.evaluator import data_sha256
from evaluate.sandbox import protects_data
from evaluate.spec import trial_spec
from evaluate.trial import run_trial
from evolve.composition import local_slots
from evolve.console import at_work
from evolve.printing import caveats
from evolve.taskfile import format_budget
from evolve.text import clean, count, duration, number, one_line
from evolve.writing import json_text
from mutate.text import where_time_went
from population.errors import TaskError
from population.individual import (
    SHARE,
    EvaluationId,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
)
from population.statistics import FOREIGN_SHARE
from population.task import Task

LOG_LINES = 20
SCORED_LOG_LINES = 10
"""Of a program that has failed, and of one that has earned a score."""


def read_genome(file: Path, task: Task) -> Genome:
    """Return the file's text.

    Raises:
        TaskError: it cannot be read as UTF-8, or is longer than the task allows.
    """
    try:
        genome = Genome(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{file} cannot be read as a program ({error}); name a file") from error
    size = len(genome.source.encode())
    if size > task.limits.source_bytes:
        raise TaskError(f"{file} has {size} bytes; the task allows {task.limits.source_bytes}")
    return genome


@dataclass(frozen=True, slots=True)
class Trial:
    """What is trained and how it is scored. `shard` None stands for the selection shard.

    Without the layers of the sandbox in `required` nothing is trained.
    """

    task: Task
    genome: Genome
    data: Path | None
    shard: str | None = None
    required: tuple[str, ...] = ()

    def run(self, seed: int) -> Result:
        """Train and score once on this machine.

        Raises:
            TaskError: the task has no such shard, or its programs do not run here.
            EvolveError: this machine is at fault.
        """
        if not self.task.trains:
            raise TaskError(
                f"results of {self.task.name} are recorded from outside, so nothing can be tried "
                "here: `evolve inject` puts a program into a run"
            )
        shard = self.shard or self.task.shards[0]
        if self.shard and self.task.self_reported:
            raise TaskError(f"{self.task.name} reports its own score on no shard: drop --shard")
        if shard not in self.task.shards:
            raise TaskError(f"--shard must be one of {', '.join(self.task.shards)}; got {shard}")
        spec = trial_spec(
            self.task,
            Request(EvaluationId(1), IndividualId(0), self.genome, seed, shard, Purpose.TRY),
            data=self.data,
            data_sha256=data_sha256(self.task, self.data),
            slots=local_slots(self.task),
        )
        return run_trial(replace(spec, required=self.required))


def try_program(trial: Trial, seeds: Sequence[int], as_json: bool) -> int:
    """Train once for each seed, print what came, return the exit code of the command.

    Raises:
        EvolveError: as `Trial.run`.
    """
    found = []
    budget = format_budget(trial.task.budget)
    for seed in seeds:
        with at_work(f"seed {seed}: {budget} of training, start-up and scoring beside it"):
            result = trial.run(seed)
        found.append(as_object(result, trial, seed))
        if not as_json:
            print(as_text(found[-1]), flush=True)
    values = [row["value"] for row in found if row["value"] is not None]
    if as_json:
        print(json_text(found if len(seeds) > 1 else found[0]))
    elif len(values) > 1:
        spread = statistics.stdev(values)
        print(f"{len(values)} scores: mean {statistics.fmean(values):.4f}, sd {spread:.4f}")
    return 0 if values else 1


def as_object(result: Result, trial: Trial, seed: int) -> dict[str, Any]:
    """Return a result as `--json` prints it; `value` is None after a failure."""
    outcome = result.outcome
    secret = trial.data is not None and not trial.task.self_reported
    return {
        "metric": trial.task.metric,
        "value": outcome.value if isinstance(outcome, Scored) else None,
        "failure": None if isinstance(outcome, Scored) else asdict(outcome),
        "seed": seed,
        "shard": trial.shard or trial.task.shards[0],
        "measurements": {m.name: m.value for m in result.measurements if m.unit != SHARE},
        "time_by_line": where_time_went(result.measurements, trial.genome.source),
        "comparability": asdict(result.comparability) | {"key": result.comparability.key},
        "sandbox": list(result.sandbox),
        "protected": not secret or protects_data(result.sandbox),
        "self_reported": trial.task.self_reported,
        "disturbed": (result.measured("foreign_share") or 0.0) > FOREIGN_SHARE,
        "device": result.device,
        "host": result.host or platform.node(),
        "seconds": result.ended_at - result.started_at,
        "log": result.log,
    }


def as_text(found: dict[str, Any]) -> str:
    """Return a result for people: score or failure, what was measured, the log's tail."""
    head = f"seed {found['seed']}, shard {found['shard']}, {duration(found['seconds'])} in all"
    if found["failure"] is None:
        lines = [f"{found['metric']} {number(found['value'], 6)}  ({head})"]
    else:
        failure = found["failure"]
        lines = [
            f"failed in {failure['stage']}: {failure['reason']}  ({head})",
            one_line(failure["detail"], 1000),
        ]
    measured = found["measurements"]
    lines += [
        f"  {name:<18}{_quantity(name, measured[name])}" for name in SHOWN if name in measured
    ]
    if found["time_by_line"]:
        lines.append(f"time of the training by line: {found['time_by_line']}")
    shown = SCORED_LOG_LINES if found["failure"] is None else LOG_LINES
    if tail := clean(found["log"]).rstrip().splitlines()[-shown:]:
        lines += [f"its output, last {count(len(tail), 'line')}:", *(f"  {one}" for one in tail)]
    if found["failure"] is None:
        lines += caveats(
            found
            | {
                "unprotected": int(not found["protected"]),
                "disturbed": int(found["disturbed"]),
            }
        )
    return "\n".join(lines)


SHOWN = (
    "waited_s",
    "startup_s",
    "startup_device_s",
    "billed_s",
    "train_s",
    "steps",
    "tokens",
    "tokens_per_s",
    "peak_memory_bytes",
    "parameters",
    "score_s",
    "detectable_nats",
)


def _quantity(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / (1 << 20):.0f} MiB"
    if name.endswith("_per_s"):
        return f"{value:,.0f} /s"
    return f"{value:.2f} s" if name.endswith("_s") else f"{value:,.6g}"
