"""The exam: champion against founder on fresh seeds and a shard that nothing was chosen by."""

import math
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Protocol

from population.blocks import Block
from population.claims import ERROR_BUDGET, Claim, compare, error_share
from population.individual import EvaluationId, Individual, IndividualId, Purpose, Request
from population.ports import Ended, Evaluation, Lineage, Started
from population.requests import training_seed
from population.state import State
from population.task import Direction

MOST_PAIRS = 12
"""A gain of three sigma is claimed in 19 of 20 exams of that length, most with eight pairs."""
HOPELESS_PAIRS = 6
"""From so many pairs on, an exam ends where the champion does not even look better."""
WAIT_S = 0.5
ATTEMPTS = 3
EXAM_STREAM = 0xE8A3
"""Keeps the seeds of exams apart from those of the search."""
ORDER_STREAM = 0xE8A4


class Invigilator(Protocol):
    """Watches an exam. Used from the thread that holds it."""

    @property
    def stopped(self) -> bool:
        """Whether somebody wants the exam to end now. Asked twice a second, and once more."""
        ...

    def begin(self, champion: IndividualId, founder: IndividualId, most: int, state: State) -> None:
        """Learn whom the exam compares, and in how many pairs at most."""
        ...

    def observe(self, record: Started | Ended, state: State) -> None:
        """Learn of each record in turn, once what follows from it has begun; the state holds it."""
        ...


class Unwatched:
    """The invigilator of an exam that nobody looks at and nobody ends."""

    stopped = False

    def begin(self, champion: IndividualId, founder: IndividualId, most: int, state: State) -> None:
        """Keep nothing."""

    def observe(self, record: Started | Ended, state: State) -> None:
        """Keep nothing."""


UNWATCHED = Unwatched()


@dataclass(frozen=True, slots=True)
class Examination:
    """What exams of two programs have found so far.

    Attributes:
        claim: over the complete pairs; None where there is none.
        comparison: whether these two were the first, second ... that this run has compared.
        champion, founder: metric values of the complete pairs, in the same order.
        failures: a sentence for each pair or training that tells nothing; its pair is left out.
        less_reliable: the champion failed more often than the founder: then it is not claimed to
            be better, since the pairs are those in which it trained at all.
    """

    claim: Claim | None
    comparison: int
    champion: tuple[float, ...]
    founder: tuple[float, ...]
    failures: tuple[str, ...]
    less_reliable: bool = False

    @property
    def decided(self) -> bool:
        """Whether more pairs are of no use."""
        claim = self.claim
        return claim is not None and (
            claim.better or (claim.worse and claim.pairs >= HOPELESS_PAIRS)
        )


def examine(  # noqa: PLR0913, PLR0917 - two programs, the three seams of a run and how to compare
    champion: Individual,
    founder: Individual,
    evaluation: Evaluation,
    lineage: Lineage,
    state: State,
    shards: tuple[str, str, str],
    pairs: int = MOST_PAIRS,
    base_seed: int = 0,
    invigilator: Invigilator = UNWATCHED,
) -> Examination:
    """Compare both programs on the exam shard, pair by pair until it is decided.

    A pair is a block: both programs on one fresh seed, one after the other on one device, in
    random order, so that neither a machine nor its drift favours one. As many blocks as there are
    slots run at once. What earlier exams of this run found of the two counts: an exam goes on
    where the last one ended or was cut off. Everything is recorded; `state.exam_reads` counts
    each reading.

    Once it is stopped, nothing new begins and what is in flight is left: whoever goes on with the
    run records it as abandoned, and its pair is none.

    Args:
        champion: the program to be exported.
        founder: the one it is compared with.
        evaluation: trains and scores.
        lineage: stores what happens.
        state: of the run; each new record is folded into it.
        shards: names of the selection, confirmation and exam shards.
        pairs: how many at most, those of earlier exams of the two included; at least 1.
        base_seed: the run's seed.
        invigilator: watches, and may stop it.

    Raises:
        ValueError: fewer than one pair, or a program against itself.
        PoolError, LineageError: from evaluation and lineage.
    """
    if pairs < 1:
        raise ValueError(f"an exam needs at least 1 pair, got {pairs}")
    if champion.id == founder.id:
        raise ValueError(f"an exam needs two programs, got individual {founder.id} twice")
    hall = _Hall((champion, founder), shards[2], base_seed, evaluation, lineage, state, invigilator)
    names = {one.id: one.name for one in (champion, founder)}

    def so_far() -> Examination:
        return examination(state.exam_blocks, state.direction, champion.id, founder.id, names)

    invigilator.begin(champion.id, founder.id, pairs, state)
    left, found = pairs - pairs_held(state.exam_blocks, champion.id, founder.id), so_far()
    while left > 0 and not found.decided and not invigilator.stopped:
        blocks = min(left, max(evaluation.slots, 1))
        hall.train(blocks)
        left -= blocks
        found = so_far()
    return found


@dataclass
class _Hall:
    """Where blocks of two programs are trained."""

    programs: tuple[Individual, Individual]
    shard: str
    base_seed: int
    evaluation: Evaluation
    lineage: Lineage
    state: State
    invigilator: Invigilator
    untold: list[Started | Ended] = field(default_factory=list)

    def train(self, blocks: int) -> None:
        """Train that many blocks at once and record what comes, until all have ended or a stop.

        A block is trained again, a bounded number of times, where a machine was busy, a device
        changed or our side lost it; the last results stand.
        """
        running: dict[EvaluationId, int] = {}
        for _ in range(blocks):
            running |= self._begin(self._seed(EXAM_STREAM), 1)
        self._tell()
        while running:
            stopped = self.invigilator.stopped
            for found in self.evaluation.wait(0.0 if stopped else WAIT_S):
                request = self.state.jobs.in_flight[found.request]
                self._record(Ended(self.state.contention.marked(found)))
                seed = running.pop(found.request, None)
                if seed is not None and seed not in running.values() and self._is_owed(request):
                    running |= self._begin(seed, request.attempt + 1)
                self._tell()
            if stopped:
                return

    def _is_owed(self, request: Request) -> bool:
        """Whether the block of a request, which has ended, is to be trained again."""
        disturbed = self.state.exam_blocks[request.seed].is_disturbed
        return disturbed and request.attempt < ATTEMPTS and not self.invigilator.stopped

    def _begin(self, seed: int, attempt: int) -> dict[EvaluationId, int]:
        order = self.programs if self._seed(ORDER_STREAM) % 2 else self.programs[::-1]
        requests: list[Request] = []
        for who in order:
            own = self.state.next_evaluation
            requests.append(
                Request(own, who.id, who.genome, seed, self.shard, Purpose.EXAM, attempt)
            )
            self._record(Started(requests[-1]))
        self.evaluation.submit(*requests)
        return dict.fromkeys((request.id for request in requests), seed)

    def _seed(self, stream: int) -> int:
        """Return one that no earlier block had: of this run, nor of other programs in another."""
        texts = "\0".join(one.genome.source for one in self.programs)
        pair = zlib.crc32(texts.encode(errors="replace"))
        return training_seed(self.base_seed, stream, pair, self.state.exam_reads)

    def _record(self, record: Started | Ended) -> None:
        self.lineage.record(record)
        self.state.apply(record)
        self.untold.append(record)

    def _tell(self) -> None:
        for record in self.untold:
            self.invigilator.observe(record, self.state)
        self.untold.clear()


def examination(
    blocks: Mapping[int, Block],
    direction: Direction,
    champion: IndividualId,
    founder: IndividualId,
    names: Mapping[IndividualId, str],
) -> Examination:
    """Return what the exams of a run have found of two programs so far.

    Args:
        blocks: all pairs of all exams of the run, in the order in which they were begun.
        direction: which side of zero is fitter.
        champion: the program that may be better.
        founder: the one it is compared with.
        names: of both; an empty one is replaced by the id.
    """
    scores, failures, broken = [], [], Counter[IndividualId | None]()
    sampling: list[float] = []
    for block in _blocks(blocks, champion, founder):
        values = block.values()
        if values is not None:
            scores.append((values[champion], values[founder]))
            sampling.append(block.sampling)
        for who, why in block.failures():
            whose = "a pair" if who is None else names[who] or f"individual {who}"
            failures.append(f"{whose}, seed {block.seed}: {why}")
            broken[who] += block.counts
    ours, theirs = tuple(a for a, _ in scores), tuple(b for _, b in scores)
    number = _comparison(blocks, champion, founder)
    error = ERROR_BUDGET * error_share(number)
    least = math.sqrt(fmean(one**2 for one in sampling)) if sampling else 0.0
    claim = compare(ours, theirs, direction, error, least) if scores else None
    less_reliable = broken[champion] > broken[founder]
    if claim is not None and less_reliable:
        claim = replace(claim, better=False)
    return Examination(claim, number, ours, theirs, tuple(failures), less_reliable)


def pairs_held(blocks: Mapping[int, Block], champion: IndividualId, founder: IndividualId) -> int:
    """Return how many pairs of two programs have ended, of those that an exam is asked for."""
    return sum(block.counts for block in _blocks(blocks, champion, founder))


def compared(blocks: Mapping[int, Block]) -> list[frozenset[IndividualId]]:
    """Return which two programs a run has compared, in the order in which it began to."""
    pairs = (frozenset(block.results) for block in blocks.values())
    return list(dict.fromkeys(pair for pair in pairs if len(pair) == 2))  # one alone was cut off


def _blocks(
    blocks: Mapping[int, Block], champion: IndividualId, founder: IndividualId
) -> list[Block]:
    return [block for block in blocks.values() if block.results.keys() == {champion, founder}]


def _comparison(blocks: Mapping[int, Block], champion: IndividualId, founder: IndividualId) -> int:
    """Return whether the two are the first, second ... that this run compares."""
    both = frozenset((champion, founder))
    begun = compared(blocks)
    return begun.index(both) + 1 if both in begun else len(begun) + 1
