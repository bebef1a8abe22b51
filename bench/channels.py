"""What the channels are worth that no rule closes: time after the bell, time before the clock.

    python -m bench.channels --pairs 8

Each variant of one founder is trained on the same seeds as the founder itself, side by side:

- `past the bell` trains on remembered batches after the bell and delivers at the last moment;
- `library text` trains on docstrings of installed packages for `--free` seconds before the first
  batch, and gets its budget lengthened by as much and by what finding them takes (`--found`): as
  if all of it were free of charge;
- `one second more` has a longer budget, for scale.

A channel is tolerable while its gain lies below the noise of one score.
"""

import argparse
import concurrent.futures
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.intervals import paired_difference
from evaluate.evaluator import data_sha256
from evaluate.spec import TrialSpec, trial_spec
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
from population.task import Task

DELIVER = "    run.deliver(model)\n"
LOOP = "    for step, (x, y) in enumerate(run.batches(BATCH_SIZE)):\n"

PAST_THE_BELL = """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * schedule(0.99)
    while time.monotonic() - began < run.budget.amount - {margin}:
        x, y = remembered[step % len(remembered)]
        step += 1
        F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
"""

LIBRARY_TEXT = """
    import inspect, itertools
    found = (inspect.getdoc(value) or "" for value in itertools.chain(
        vars(torch).values(), vars(torch.nn).values(), vars(F).values()))
    text = torch.tensor(list("".join(found).encode()))
    T, ended = run.sequence_length, time.monotonic() + {free}
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    while time.monotonic() < ended:
        rows = torch.stack([text[i : i + T + 1] for i in torch.randint(0, len(text) - T, (BATCH_SIZE,))])
        F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
"""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to train; `extra_s` lengthens its budget."""

    name: str
    source: str
    extra_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path, nargs="?", default=Path("seeds/bigram_muon.py"))
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--free", type=float, default=0.05, help="seconds of free start-up")
    parser.add_argument("--found", type=float, default=0.21, help="seconds to find the text")
    parser.add_argument("--margin", type=float, default=0.13, help="left before the end, seconds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs must be 2 or more: one pair has no spread")
    task = load_task(find_task())
    tried = list(variants(options.program.read_text(), options))
    scores = train(tried, task, options.pairs, options.workers)
    found = [compared(one.name, scores[one.name], scores["base"]) for one in tried[1:]]
    noise = statistics.stdev(v for v in scores["base"] if v is not None)
    if options.json:
        print(json.dumps({"noise": noise, "variants": found}, indent=1))
        return
    print(f"noise of one score, the founder over {options.pairs} seeds: {noise:.4f}")
    for row in found:
        print("{name:16} {difference:+.4f} +- {half_width:.4f}  ({scored} pairs)".format(**row))


def variants(source: str, options: argparse.Namespace) -> Iterator[Variant]:
    """Yield the founder and its three variants."""
    timed = source.replace("import torch\n", "import time\nimport torch\n", 1)
    timed = timed.replace(LOOP, f"    remembered, began = [], time.monotonic()\n{LOOP}", 1)
    timed = timed.replace(LOOP, f"{LOOP}        remembered = remembered[-63:] + [(x, y)]\n", 1)
    past = PAST_THE_BELL.format(margin=options.margin)
    library = LIBRARY_TEXT.format(free=options.free)
    yield Variant("base", source)
    yield Variant("past the bell", timed.replace(DELIVER, past + DELIVER, 1))
    given_s = options.free + options.found
    yield Variant("library text", timed.replace(LOOP, library + LOOP, 1), given_s)
    yield Variant("one second more", source, 1.0)


def train(
    tried: list[Variant], task: Task, pairs: int, workers: int
) -> dict[str, list[float | None]]:
    """Return each variant's scores, seed by seed; None where it earned none."""
    data = prepared(task, cache_folder(None))
    scores: dict[str, list[float | None]] = {one.name: [] for one in tried}
    jobs = [(one, spec(one, task, data, seed)) for seed in range(pairs) for one in tried]
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        results = pool.map(run_trial, [job for _, job in jobs])
        for (one, _), result in zip(jobs, results, strict=True):
            scores[one.name].append(value_of(result))
            print(f"{one.name:16} {result.outcome} {used(result)}", flush=True)
    return scores


def spec(variant: Variant, task: Task, data: Path | None, seed: int) -> TrialSpec:
    budget = replace(task.budget, amount=task.budget.amount + variant.extra_s)
    request = Request(
        EvaluationId(1), IndividualId(1), Genome(variant.source), seed, "selection", Purpose.TRY
    )
    return trial_spec(
        replace(task, budget=budget), request, data=data, data_sha256=data_sha256(task, data),
        slots=2,
    )  # fmt: skip


def value_of(result: Result) -> float | None:
    return result.outcome.value if isinstance(result.outcome, Scored) else None


def used(result: Result) -> str:
    names = ("startup_s", "billed_s", "train_s", "steps")
    return " ".join(f"{name} {result.measured(name) or 0:.2f}" for name in names)


def compared(name: str, own: list[float | None], base: list[float | None]) -> dict[str, object]:
    both = [(a, b) for a, b in zip(own, base, strict=True) if a is not None and b is not None]
    difference, half_width = paired_difference([a for a, _ in both], [b for _, b in both])
    return {
        "name": name,
        "difference": difference,
        "half_width": half_width,
        "scored": len(both),
    }


if __name__ == "__main__":
    main()
