"""Trains programs under the harness on a GPU and says what each buys in its budget.

    python -m bench.gpu                                   the task's founders, two seeds, in full
    python -m bench.gpu --budget 60s --programs seeds/gpu/ngrams.py --keep rows.jsonl
    python -m bench.gpu --data ~/texts --reference ~/autoresearch --constants published best
    python -m bench.gpu --set DEPTH=8 --set "ROPE_BASE=200000.0"       one of each at a time
    python -m bench.gpu --budget 60s --without muon softcap     or of all that there is: --without
    python -m bench.gpu --small --budget 120s --reference ~/autoresearch    without a GPU

Each trial goes through sandbox, feeder, clock and scorer as in a search. With `--reference`, a
checkout of karpathy/autoresearch is trained on the same tokens, by the same clock and scored on
the same rows (`bench/gpu_reference.py`). `--set` changes a constant and `--without` takes out an
ingredient (`bench/ingredients.py`), one at a time, of every program that has it. The last lines
compare means over seeds with the first program, and what was changed with the program as it is.
What `--keep` finds scored in its file, at the same budget and size, is not trained again.

`--small` gives all of them one small size, so that one core of a processor trains them on the data
of the default task there. That compares recipes where nobody has a GPU, and says nothing of one.

Columns: val_bpb; tokens per second; MFU (share of the card's bfloat16 peak, products alone); peak
memory of the device; steps (batches asked for); seconds of start-up before the clock, of those in
which the card computed, of the hand-in inside the budget, of scoring after it, and of all that lies
beside it.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import gpu_reference
from bench.gpu_reference import BEST, PUBLISHED, ReferenceFailedError, reference
from bench.ingredients import INGREDIENTS, without
from evaluate.device import accelerator, device_name, require_device
from evaluate.evaluator import data_sha256
from evaluate.spec import trial_spec
from evaluate.trial import run_trial
from evolve.taskdata import cache_folder, prepared
from evolve.taskfile import find_task, format_budget, load_task
from mutate.genome import rewrite, values
from mutate.ranges import Value
from population.errors import EvolveError
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

COLUMNS = {
    "value": "val_bpb", "tokens_per_s": "tokens/s", "mfu": "MFU", "memory": "GiB",
    "steps": "steps", "startup_s": "start-up", "startup_device_s": "computing",
    "handin_s": "hand-in", "score_s": "scoring", "beside_s": "beside",
}  # fmt: skip
LOG_TAIL = 3_000
WALL_LIMIT_S = 1_800.0
FOUNDERS = sorted((Path(__file__).parent.parent / "seeds" / "gpu").glob("*.py"))
SMALL: dict[str, Value] = {
    "DEPTH": 4, "WIDTH": 128, "HEAD_WIDTH": 32, "BATCH_TOKENS": 1024, "SHORT_WINDOW": 64,
    "BIGRAM_ROWS": 4096, "TRIGRAM_ROWS": 4096,
}  # fmt: skip
"""The size that `gpu_reference.SMALL` gives the reference; its tables have 16 rows a byte, too."""


@dataclass(frozen=True, slots=True)
class Row:
    """One training: all that was measured, by name; `failure` is empty where it was scored.

    `terms` are what rows must have in common to be compared.
    """

    program: str
    seed: int
    figures: dict[str, float]
    failure: str = ""
    log: str = ""
    terms: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default=None, help="default: a GPU where there is one")
    parser.add_argument("--budget", help="as in `evolve try`; default: the task's")
    parser.add_argument("--data", help="default: the task's")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--programs", nargs="*", type=Path, help="default: the task's founders")
    parser.add_argument("--small", action="store_true", help="at a size for one core, on the cpu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--without", nargs="*", choices=INGREDIENTS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--reference", type=Path, metavar="DIR", help="an autoresearch checkout")
    parser.add_argument(
        "--constants", nargs="*", choices=("published", "best"), default=["published"]
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="append each row as JSON")
    options = parser.parse_args()
    if options.without == []:
        options.without = list(INGREDIENTS)
    try:
        bench(options, parser)
    except EvolveError as error:
        sys.exit(f"error: {error}")


def bench(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Train and compare what was asked for; exit with 1 where a training failed."""
    device = "cpu" if options.small else options.device or accelerator()
    require_device(device)  # before anything is fetched for it
    task = load_task(find_task(), options.budget, options.data, device)
    if task.budget.kind is not BudgetKind.SECONDS:  # what counts steps may take its time
        task = replace(task, budget=replace(task.budget, wall_limit_s=WALL_LIMIT_S))
    if options.reference and task.budget.kind is not BudgetKind.SECONDS:
        parser.error("expected a budget in seconds: the reference knows no other")
    data = prepared(task, cache_folder(options.cache))
    print(f"{task.device}: {device_name(task.device)}, {task.data} in {data}", flush=True)
    print(heading(), flush=True)
    terms = f"{format_budget(task.budget)} {task.data} {device_name(task.device)}"
    terms += " small" * options.small
    kept = known(options.keep, terms)
    rows = []
    for row in trainings(task, data, options, kept):
        rows.append(replace(row, terms=terms))
        print(line(row), flush=True)
        if options.keep and row not in kept.values():
            with options.keep.open("a") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
    compare(rows)
    sys.exit(any(row.failure for row in rows))


def known(file: Path | None, terms: str) -> dict[tuple[str, int], Row]:
    """Return what a file of rows holds that was scored under these terms."""
    if file is None or not file.exists():
        return {}
    rows = [Row(**json.loads(text)) for text in file.read_text("utf-8").splitlines()]
    return {(row.program, row.seed): row for row in rows if row.terms == terms and not row.failure}


def trainings(
    task: Task,
    data: Path | None,
    options: argparse.Namespace,
    kept: Mapping[tuple[str, int], Row],
) -> Iterator[Row]:
    """Yield one row after another, seeds outermost: what drifts meets all programs alike."""
    files = options.programs or (FOUNDERS if options.small else list(task.seeds))
    size = SMALL if options.small else {}
    variants = list(programs(files, options.set, size, options.without or ()))
    for seed in range(options.seeds):
        if options.reference:
            for name in options.constants:
                earlier = kept.get((f"reference {name}", seed))
                yield earlier or referred(task, data, options, name, seed)
        for name, source in variants:
            yield kept.get((name, seed)) or trained(task, data, name, source, seed)


def programs(
    files: list[Path],
    changes: list[str],
    size: Mapping[str, Value],
    ingredients: Sequence[str] = (),
) -> Iterator[tuple[str, str]]:
    """Yield each program at this size, once with each change and once without each ingredient."""
    sources = [sized(file.read_text(encoding="utf-8"), size) for file in files]
    declared = {name for source in sources for name in values(source)}
    if unknown := [change for change in changes if change.partition("=")[0] not in declared]:
        raise SystemExit(f"error: no program declares {', '.join(unknown)}; see their first lines")
    for file, source in zip(files, sources, strict=True):
        yield file.stem, source
        for change in changes:
            name, _, text = change.partition("=")
            known = values(source)
            if name in known:
                kind = type(known[name])
                value = json.loads(text.lower()) if kind is bool else kind(text)
                yield f"{file.stem} {change}", rewrite(source, {name: value})
        for ingredient in ingredients:
            if remains := without(source, ingredient):
                yield f"{file.stem} without {ingredient}", remains


def sized(source: str, size: Mapping[str, Value]) -> str:
    """Return the program with these values of those constants that it declares."""
    return rewrite(source, {name: size[name] for name in size.keys() & values(source).keys()})


def trained(task: Task, data: Path | None, name: str, source: str, seed: int) -> Row:
    """Train and score one program."""
    request = Request(
        EvaluationId(1), IndividualId(1), Genome(source), seed, task.shards[0], Purpose.TRY
    )
    spec = trial_spec(task, request, data=data, data_sha256=data_sha256(task, data), slots=1)
    return row_of(name, seed, run_trial(spec))


def row_of(name: str, seed: int, result: Result) -> Row:
    """Return what a trial came to."""
    figures = {one.name: one.value for one in result.measurements}
    if "peak_device_bytes" in figures:
        figures["memory"] = figures["peak_device_bytes"] / (1 << 30)
    figures["beside_s"] = result.ended_at - result.started_at - figures.get("train_s", 0.0)
    if isinstance(result.outcome, Scored):
        return Row(
            name, seed, figures | {"value": result.outcome.value}, log=result.log[-LOG_TAIL:]
        )
    failed = result.outcome
    why = f"{failed.stage}: {failed.reason}: {failed.detail}"
    return Row(name, seed, figures, why, result.log[-LOG_TAIL:])


def referred(
    task: Task, data: Path | None, options: argparse.Namespace, name: str, seed: int
) -> Row:
    """Train the reference under one set of constants."""
    assert data is not None
    began = time.monotonic()
    constants = dict({"published": PUBLISHED, "best": BEST}[name])
    if options.small:
        constants |= gpu_reference.SMALL
    try:
        run = reference(options.reference, data, task.budget.amount, constants, seed, task.device)
    except ReferenceFailedError as error:
        return Row(f"reference {name}", seed, {}, str(error))
    figures = {
        "value": run.val_bpb,
        "tokens_per_s": 1e6 * run.total_tokens_m / run.training_seconds,
        "mfu": run.mfu_percent / 100,
        "memory": run.peak_vram_mb / 1024,
        "steps": float(run.num_steps),
        "beside_s": time.monotonic() - began - run.training_seconds,
    }
    return Row(f"reference {name}", seed, figures)


def heading() -> str:
    """Return the names of the columns."""
    return f"{'program':34}{'seed':>5}" + "".join(f"{title:>11}" for title in COLUMNS.values())


def line(row: Row) -> str:
    """Return a row as a line; a failure with the end of its log."""
    if row.failure:
        return f"{row.program:34}{row.seed:>5}  {row.failure}\n{row.log}"
    cells = []
    for key in COLUMNS:
        value = row.figures.get(key)
        digits = ".5f" if key == "value" else ",.0f" if key in ("steps", "tokens_per_s") else ".2f"
        cells.append(f"{'' if value is None else format(value, digits):>11}")
    return f"{row.program:34}{row.seed:>5}" + "".join(cells)


def compare(rows: list[Row]) -> None:
    """Print each program's mean and spread over seeds, against the first program and its own.

    Its own is the program that was changed; that difference is taken seed by seed.
    """
    scores: dict[str, dict[int, float]] = {}
    for row in rows:
        if not row.failure:
            scores.setdefault(row.program, {})[row.seed] = row.figures["value"]
    if not scores:
        return
    first, base = next((name, statistics.fmean(found.values())) for name, found in scores.items())
    print(
        f"\nmeans over seeds, against {first}, and of what was changed against the program itself"
    )
    for name, found in scores.items():
        mean = statistics.fmean(found.values())
        text = f"{name:34}{mean:.5f}  {spread(list(found.values())):>12}  {mean / base - 1:+.2%}"
        own = scores.get(name.partition(" ")[0], {})
        changes = [value - own[seed] for seed, value in found.items() if seed in own]
        if changes and own is not found:
            text += f"{statistics.fmean(changes):+12.5f}  {spread(changes)}"
        print(text)


def spread(found: list[float]) -> str:
    """Return the standard deviation as a text."""
    return f"sd {statistics.stdev(found):.5f}" if len(found) > 1 else "one seed"


if __name__ == "__main__":
    main()
