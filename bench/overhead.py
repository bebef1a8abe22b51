"""What one candidate costs beside its budget, per founder.

    python -m bench.overhead --trials 5
    python -m bench.overhead --device cuda --json

Each founder is tried in turn in one worker; the first trial, which starts the warm process and
measures the free start-up, does not count. Medians of seconds of wall clock:

- startup: from the fork to the first batch: entering the sandbox, building, tracing, registering;
- score: the scorer's own work: reading the container, all forwards, the probes;
- reference: the reference workload before and after the training;
- rest: forks, directories, the hand-in's way, seeing the process tree gone;
- beside: their sum, all that is neither training nor the copy inside the budget.

Exit code 1 where a founder's `beside` exceeds `--goal`, as a share of the budget.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluate.evaluator import data_sha256
from evaluate.reference import REPEATS
from evaluate.spec import trial_spec
from evaluate.trial import run_trial
from evolve.taskdata import cache_folder, prepared
from evolve.taskfile import find_task, load_task
from population.individual import (
    EvaluationId,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
)
from population.task import BudgetKind, Task

COLUMNS = ("startup_s", "score_s", "reference_s", "rest_s", "beside_s")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one trial, or medians of several; `forwards` are the scorer's."""

    founder: str
    startup_s: float
    score_s: float
    reference_s: float
    rest_s: float
    beside_s: float
    handin_s: float
    forwards: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3, help="per founder")
    parser.add_argument("--budget", help="as in `evolve try`; default: the task's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--goal", type=float, default=0.3, help="share of the budget")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    task = load_task(find_task(), budget=options.budget, device=options.device)
    if task.budget.kind is not BudgetKind.SECONDS:
        parser.error("expected a budget in seconds: the costs are compared with it")
    costs = measure(task, options.trials)
    if options.json:
        rows = [asdict(cost) for cost in costs]
        print(json.dumps({"budget_s": task.budget.amount, "founders": rows}))
    else:
        table(costs, task.budget.amount, options.device)
    sys.exit(any(cost.beside_s > options.goal * task.budget.amount for cost in costs))


def measure(task: Task, trials: int) -> list[Cost]:
    """Return the median costs of each founder."""
    data = prepared(task, cache_folder(None))
    tried(task, task.seeds[0], data, 0)
    costs = []
    for seed in task.seeds:
        each = [cost_of(seed.stem, tried(task, seed, data, n)) for n in range(trials)]
        costs.append(median(each))
    return costs


def tried(task: Task, program: Path, data: Path | None, seed: int) -> Result:
    """Return one trial of a founder. Raises RuntimeError where it earns no score."""
    request = Request(
        EvaluationId(1),
        IndividualId(1),
        Genome(program.read_text()),
        seed,
        "selection",
        Purpose.TRY,
    )
    result = run_trial(trial_spec(
        task, request, data=data, data_sha256=data_sha256(task, data), slots=1,
    ))  # fmt: skip
    if not isinstance(result.outcome, Scored):
        raise RuntimeError(f"{program.stem} was not scored: {result.outcome}")
    return result


def cost_of(founder: str, result: Result) -> Cost:
    """Divide the wall clock of one trial."""
    found = {m.name: m.value for m in result.measurements}
    repetition_s = found["reference_before_s"] + found["reference_after_s"]
    reference_s = (REPEATS + 1) * repetition_s  # the first repetition warms up
    beside_s = result.ended_at - result.started_at - found["train_s"]
    rest_s = beside_s - found["startup_s"] - found["score_s"] - reference_s
    return Cost(founder, found["startup_s"], found["score_s"], reference_s, rest_s, beside_s,
                found["handin_s"], found["forwards"])  # fmt: skip


def median(costs: list[Cost]) -> Cost:
    values = {
        name: statistics.median(getattr(cost, name) for cost in costs)
        for name in (*COLUMNS, "handin_s", "forwards")
    }
    return Cost(costs[0].founder, **values)


def table(costs: list[Cost], budget_s: float, device: str) -> None:
    print(f"seconds beside a budget of {budget_s:g} s on {device}, and as a share of it")
    print(f"{'founder':14}" + "".join(f"{name.removesuffix('_s'):>18}" for name in COLUMNS))
    for cost in costs:
        parts = (getattr(cost, name) for name in COLUMNS)
        cells = (f"{value:.2f} ({value / budget_s:.1%})" for value in parts)
        print(f"{cost.founder:14}" + "".join(f"{cell:>18}" for cell in cells))
    print(f"inside the budget: hand-in {max(cost.handin_s for cost in costs):.3f} s at most")


if __name__ == "__main__":
    main()
