"""The control for a search: what Optuna's TPE reaches on one program's constants alone.

    python -m bench.constants_only seeds/bigram_muon.py --trials 20 --pairs 5

The first trial is the program as it is. The best by its selection score is then compared with the
program itself on fresh seeds and the exam shard, as an export of a search is.
"""

import argparse
import statistics
from contextlib import closing
from pathlib import Path

import optuna

from bench.intervals import paired_difference
from evaluate.pool import RayPool
from evolve.composition import cache_folder, prepared
from evolve.taskfile import find_task, load_task
from mutate.constants import distribution, inward, outward
from mutate.genome import constants, rewrite
from population.individual import (
    EvaluationId,
    Genome,
    IndividualId,
    Purpose,
    Request,
    Result,
    Scored,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    task = load_task(find_task())
    with closing(
        RayPool(task, prepared(task, cache_folder(None)), device="cpu", slots=None, address=None)
    ) as pool:
        source = options.program.read_text()
        best, value = tune(source, pool, options)
        print(f"best of {options.trials} by selection score: {value:.4f}")
        ours, theirs = exam(best, source, pool, options)
    difference, half_width = paired_difference(ours, theirs)
    print(f"tuned   {statistics.fmean(ours):.4f}  {[round(v, 4) for v in ours]}")
    print(f"founder {statistics.fmean(theirs):.4f}  {[round(v, 4) for v in theirs]}")
    print(f"difference {difference:+.4f} +- {half_width:.4f} (95%)")


def tune(source: str, pool: RayPool, options: argparse.Namespace) -> tuple[str, float]:
    """Return the best source by its selection score, and that score."""
    declared = constants(source)
    distributions = {c.name: distribution(c.range) for c in declared}
    sampler = optuna.samplers.TPESampler(seed=options.seed)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    study.enqueue_trial({c.name: inward(c.range, c.value) for c in declared})
    running: dict[int, tuple[optuna.Trial, str]] = {}
    scored: list[tuple[float, str]] = []
    asked = 0
    while asked < options.trials or running:
        while asked < options.trials and len(running) < pool.slots:
            trial = study.ask(distributions)
            drawn = {c.name: outward(c.range, trial.params[c.name]) for c in declared}
            asked += 1
            running[asked] = trial, rewrite(source, drawn)
            seed = options.seed * 1000 + asked
            pool.submit(request(asked, running[asked][1], seed, "selection"))
        for result in pool.wait(1.0):
            trial, text = running.pop(int(result.request))
            if isinstance(result.outcome, Scored):
                scored.append((result.outcome.value, text))
                study.tell(trial, result.outcome.value)
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            print(trial.number + 1, result.outcome, flush=True)
    value, best = min(scored)
    return best, value


def exam(tuned: str, founder: str, pool: RayPool, options: argparse.Namespace) -> tuple:
    """Return the exam scores of both, seed by seed."""
    results: dict[int, Result] = {}
    for pair in range(options.pairs):
        for place, text in enumerate((tuned, founder)):
            number = 10_000 + 2 * pair + place
            pool.submit(request(number, text, 777_000 + pair, "exam", Purpose.EXAM))
    while len(results) < 2 * options.pairs:
        results |= {int(result.request): result for result in pool.wait(1.0)}
    scores = [results[number].outcome.value for number in sorted(results)]
    return scores[::2], scores[1::2]


def request(
    number: int, text: str, seed: int, shard: str, purpose: Purpose = Purpose.SCREEN
) -> Request:
    return Request(EvaluationId(number), IndividualId(number), Genome(text), seed, shard, purpose)


if __name__ == "__main__":
    main()
