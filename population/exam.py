"""The exam: champion against founder on fresh seeds and a shard that nothing was chosen by."""

from collections.abc import Iterator
from dataclasses import dataclass

from population.individual import EvaluationId, Failed, Individual, Purpose, Request, Result
from population.jobs import is_infrastructure
from population.ports import Ended, Evaluation, Lineage, Started
from population.requests import training_seed
from population.state import State
from population.statistics import Claim, paired_difference

WAIT_S = 0.5
ATTEMPTS = 3
EXAM_STREAM = 0xE8A3
"""Keeps the seeds of exams apart from those of the search."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What an exam found.

    Attributes:
        claim: over the complete pairs; None where there is none.
        champion, founder: metric values of the complete pairs, in the same order.
        failures: a sentence for each training that earned no score; its pair is left out.
    """

    claim: Claim | None
    champion: tuple[float, ...]
    founder: tuple[float, ...]
    failures: tuple[str, ...]


def examine(  # noqa: PLR0913, PLR0917 - two programs, the three seams of a run and how to compare
    champion: Individual,
    founder: Individual,
    evaluation: Evaluation,
    lineage: Lineage,
    state: State,
    shards: tuple[str, str, str],
    pairs: int = 3,
    base_seed: int = 0,
) -> Examination:
    """Train both programs on the same fresh seeds and compare them on the exam shard.

    The two of a pair are trained back to back, the champion first in every other pair, so that
    a drift of the machine favours neither. Seeds differ from those of the search and of earlier
    exams of this run. Everything is recorded; `state.exam_reads` counts each reading.

    Args:
        champion: the program to be exported.
        founder: the one it is compared with.
        evaluation: trains and scores.
        lineage: stores what happens.
        state: of the run; each new record is folded into it.
        shards: names of the selection, confirmation and exam shards.
        pairs: how many seeds, at least 1.
        base_seed: the run's seed.

    Raises:
        ValueError: fewer than one pair.
        PoolError, LineageError: from evaluation and lineage.
    """
    if pairs < 1:
        raise ValueError(f"an exam needs at least 1 pair, got {pairs}")
    plan = list(_plan(champion, founder, pairs, base_seed, state.exam_reads))
    results = _train(plan, shards[2], evaluation, lineage, state)
    scores: dict[tuple[int, bool], float] = {}
    failures = []
    for (who, seed, is_champion), result in zip(plan, results, strict=True):
        outcome = result.outcome
        if isinstance(outcome, Failed):
            name = who.name or f"individual {who.id}"
            failures.append(f"{name}, seed {seed}: {outcome.reason}, {outcome.detail}")
        else:
            scores[seed, is_champion] = outcome.value
    seeds = dict.fromkeys(seed for _, seed, _ in plan)
    whole = [seed for seed in seeds if (seed, True) in scores and (seed, False) in scores]
    ours = tuple(scores[seed, True] for seed in whole)
    theirs = tuple(scores[seed, False] for seed in whole)
    claim = paired_difference(ours, theirs, state.direction) if whole else None
    return Examination(claim, ours, theirs, tuple(failures))


def _plan(
    champion: Individual, founder: Individual, pairs: int, base_seed: int, reads: int
) -> Iterator[tuple[Individual, int, bool]]:
    """Yield (individual, seed, whether it is the champion) in the order of training."""
    for pair in range(pairs):
        seed = training_seed(base_seed, EXAM_STREAM, reads + pair)
        both = [(champion, seed, True), (founder, seed, False)]
        yield from both if pair % 2 == 0 else reversed(both)


def _train(
    plan: list[tuple[Individual, int, bool]],
    shard: str,
    evaluation: Evaluation,
    lineage: Lineage,
    state: State,
) -> list[Result]:
    """Return the result of each planned training, in the plan's order.

    A training on a busy machine, or one that our side lost, is made again a bounded number of
    times; the last result stands.
    """
    waiting = [(place, 1) for place in range(len(plan))]
    running: dict[EvaluationId, tuple[int, int]] = {}
    ended: dict[int, Result] = {}

    def record(record: Started | Ended) -> None:
        lineage.record(record)
        state.apply(record)

    while len(ended) < len(plan):
        while waiting and len(running) < max(evaluation.slots, 1):
            place, attempt = waiting.pop(0)
            who, seed, _ = plan[place]
            request = Request(
                state.next_evaluation, who.id, who.genome, seed, shard, Purpose.EXAM, attempt
            )
            record(Started(request))
            evaluation.submit(request)
            running[request.id] = place, attempt
        for found in evaluation.wait(WAIT_S):
            result = state.marked(found)
            record(Ended(result))
            place, attempt = running.pop(result.request, (-1, 0))
            again = result.contended or is_infrastructure(result)
            if again and 0 < attempt < ATTEMPTS:
                waiting.insert(0, (place, attempt + 1))
            elif place >= 0:
                ended[place] = result
    return [ended[place] for place in range(len(plan))]
