"""What earlier runs leave to a new one: founders, what they learnt, points for the numbers.

It is read once from their published lineages and becomes the first record of the new run. Founders
are trained and scored anew; no score that was earned elsewhere ranks anybody.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evolve.config import RunConfig
from evolve.reading import Reading
from evolve.taskfile import parse_budget, scale_of
from mutate import genome
from mutate.text import one_line
from population.errors import RunError
from population.history import Earlier, Precedent
from population.identity import STATE, RunIdentity
from population.individual import Genome, Individual, IndividualId
from population.lineage import DuckLineage
from population.ports import Brought, Lineage
from population.task import Budget, Direction, Task

MOST_FOUNDERS = 6
OF_EACH = 2
MOST_POINTS = 100
"""Scored programs of all earlier runs together that inform the numeric operator."""
CHANGES = 8
"""Changes of an earlier run that are told of those that gained, and as many of those that lost."""
LINE = 220

_RANKED = """
    SELECT l.individual, l.mean, i.structure, i.fingerprint
    FROM leaderboard l JOIN individual i ON i.id = l.individual
    WHERE l.quarantine NOT IN ('held', 'refused') AND isfinite(l.mean) ORDER BY l.rank
"""
_NOTES = """
    SELECT answer FROM prompts WHERE what = 'notes' AND outcome = 'accepted' AND answer IS NOT NULL
    ORDER BY proposal DESC, ordinal DESC LIMIT 1
"""
_CHANGES = """
    WITH doubted AS (SELECT individual FROM leaderboard WHERE quarantine IN ('held', 'refused'))
    SELECT min(c.category), min(c.hypothesis), avg(g.gain) AS gain, count(*)
    FROM change c JOIN carrier r ON r.change = c.id JOIN gains g ON g.individual = r.individual
    WHERE c.category <> 'constant'
        AND g.individual NOT IN (FROM doubted) AND g.parent NOT IN (FROM doubted)
    GROUP BY c.id ORDER BY gain DESC, c.id
"""
_SOURCES = "SELECT individual, source FROM sources WHERE list_contains(?, individual)"
_SIGMA = "SELECT sigma FROM selection ORDER BY seq DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Ranked:
    """A program of an earlier run's leaderboard; `mean` is in units of the metric."""

    individual: int
    mean: float
    structure: str
    fingerprint: str


def bring(config: RunConfig, task: Task, known: RunIdentity) -> Brought | None:
    """Return what the runs that the configuration names leave; None where it names none.

    Args:
        config: of the new run.
        task: with that run's budget.
        known: what that run is about.

    Raises:
        RunError: one is gone, is of another task, or has nothing to bring.
    """
    folders = [Path(one) for one in config.breeding.earlier]
    if not folders:
        return None
    seeds = {genome.fingerprint(seed.read_text(encoding="utf-8")) for seed in task.seeds}
    rng = np.random.default_rng(config.seed)
    with ExitStack() as stack:
        readings = [stack.enter_context(Reading(folder)) for folder in folders]
        ranked = [_ranked(reading, known) for reading in readings]
        founding = choose_founders(ranked, seeds)
        points = [choose_points(own, MOST_POINTS // len(folders), rng) for own in ranked]
        withheld = [_withheld(reading, task, known) for reading in readings]
        return Brought(tuple(map(_earlier, readings, withheld, founding, points)))


def born(config: RunConfig, task: Task, known: RunIdentity) -> DuckLineage:
    """Return a run's lineage, open; what a new run is born from is its first record.

    It is read before there is a run, so that what cannot be brought leaves none behind.

    Args:
        config: of the run.
        task: with its budget.
        known: what it is about.

    Raises:
        RunError: from `bring`, or as `DuckLineage.open`.
        LineageError: as there.
    """
    new = not (config.folder / STATE).exists()
    brought = bring(config, task, known) if new else None
    lineage = DuckLineage.open(config.folder, known, task.evaluator)
    try:
        if not lineage.seq:
            brought = brought or bring(config, task, known)  # killed before its first record
            if brought is not None:
                lineage.record(brought)
    except BaseException:
        lineage.close()
        raise
    return lineage


def brought_to(lineage: Lineage) -> Brought | None:
    """Return what a run was born from, as its own lineage keeps it."""
    first = next(iter(lineage.replay()), None)
    return first if isinstance(first, Brought) else None


def brought_founders(brought: Brought | None, program_sha256: str) -> list[Individual]:
    """Return the programs that earlier runs left as founders; the search gives them their ids."""
    found = [
        (f"{earlier.run}-{one.individual}", one)
        for earlier in (brought.earlier if brought else ())
        for one in earlier.precedents
        if one.founds
    ]
    return [
        Individual(
            id=IndividualId(number),
            genome=one.genome,
            name=name,
            structure=one.structure,
            fingerprint=one.fingerprint,
            constants=genome.values(one.genome.source),
            program_sha256=program_sha256,
        )
        for number, (name, one) in enumerate(found, 1)
    ]


def brought_line(brought: Brought) -> str:
    """Return what was brought, and what was withheld and why."""
    return "; ".join(map(_told, brought.earlier)) + "; founders are scored anew"


def _told(earlier: Earlier) -> str:
    founders = [f"#{one.individual}" for one in earlier.precedents if one.founds]
    lines = len(earlier.memory.splitlines())
    points = sum(one.fitness is not None for one in earlier.precedents)
    scores = f"no scores ({earlier.withheld})" if earlier.withheld else f"{points} scores to learn"
    memory = f", {lines} lines of memory" if lines else ""
    return f"{', '.join(founders) or 'no founder'} of {earlier.run}{memory}, {scores}"


def choose_founders(
    ranked: Sequence[Sequence[Ranked]], seeds: set[str]
) -> list[tuple[Ranked, ...]]:
    """Return whom each run founds the new one with: its best, then one of another structure.

    Args:
        ranked: the programs of each run, best first.
        seeds: fingerprints of programs that found it anyway.
    """
    taken = set(seeds)
    chosen: list[list[Ranked]] = [[] for _ in ranked]
    for _ in range(OF_EACH):
        for own, programs in zip(chosen, ranked, strict=True):
            free = [one for one in programs if one.fingerprint not in taken]
            known = {one.structure for one in own}
            other = [one for one in free if one.structure not in known]
            if free and sum(map(len, chosen)) < MOST_FOUNDERS:
                own.append((other or free)[0])
                taken.add(own[-1].fingerprint)
    return [tuple(own) for own in chosen]


def choose_points(
    programs: Sequence[Ranked], most: int, rng: np.random.Generator
) -> tuple[Ranked, ...]:
    """Return `most` programs at most: the best half, and of the others as many by chance."""
    best = most if len(programs) <= most else most - most // 2
    rest = programs[best:]
    drawn = rng.choice(len(rest), size=min(most - best, len(rest)), replace=False) if rest else ()
    return (*programs[:best], *(rest[int(place)] for place in sorted(drawn)))


def _ranked(reading: Reading, known: RunIdentity) -> list[Ranked]:
    """Return the programs that can be brought, best first. Raises RunError where none can."""
    name, run = reading.folder.name, reading.run()
    for key in ("artifact", "metric", "direction"):
        old, new = str(run[key]), str(getattr(known, key))
        if old != new:
            raise RunError(
                f"--from {name}: that run is of another task, its {key} is {old} and not {new}; "
                "name a run of this task, or its task with --task"
            )
    ranked = [Ranked(*row) for row in reading.query(_RANKED).rows]
    if not ranked:
        raise RunError(
            f"--from {name}: nothing is scored in that run, so it has nothing to bring; continue "
            f"it with `evolve run --run {name}`, or leave it out"
        )
    return ranked


def _earlier(
    reading: Reading, withheld: str, founding: Sequence[Ranked], points: Sequence[Ranked]
) -> Earlier:
    fitness = Direction(reading.run()["direction"]).fitness
    left = list(dict.fromkeys([*founding, *(() if withheld else points)]))
    sources = dict(reading.query(_SOURCES, [[one.individual for one in left]]).rows)
    precedents = tuple(
        Precedent(
            individual=IndividualId(one.individual),
            genome=Genome(source),
            structure=genome.structure(source),
            fingerprint=genome.fingerprint(source),
            fitness=None if withheld else fitness(one.mean),
            founds=one in founding,
        )
        for one, source in ((one, sources[one.individual]) for one in left)
    )
    return Earlier(reading.folder.name, "\n".join(_memory(reading)), precedents, withheld)


def _withheld(reading: Reading, task: Task, known: RunIdentity) -> str:
    """Return why the scores of a run must not inform operators here, empty where they may."""
    if reading.run()["evaluator_sha256"] != known.evaluator_sha256:
        return "another evaluator"
    told = json.loads(reading.run().get("conditions", "{}"))
    if told.get("evaluator.kind", str(task.kind)) != str(task.kind):
        return "another kind of evaluator"
    if told.get("evaluator.command", list(task.command)) != list(task.command):
        return "another scoring command"
    stored = reading.configuration()
    if scale_of(stored.get("device", "cpu")) != task.scale:
        return "another size of machine"
    budget = stored.get("budget")
    if not task.trains:
        return "" if budget is None else "a budget, and results here come from outside"
    same = budget and parse_budget(budget, Budget()).kind is task.budget.kind
    return "" if same else "another kind of budget"


def _memory(reading: Reading) -> Iterator[str]:
    """Yield what a run learnt: its latest notes, then what its changes of structure were worth."""
    for (notes,) in reading.query(_NOTES).rows:
        yield from (one_line(line, LINE) for line in notes.splitlines() if line.strip())
    changes = reading.query(_CHANGES).rows
    gained = [row for row in changes if row[2] > 0][:CHANGES]
    lost = [row for row in changes if row[2] < 0][-CHANGES:]
    if gained or lost:
        sigmas = [sigma for (sigma,) in reading.query(_SIGMA).rows if sigma]
        noise = f"{sigmas[0]:.4f}" if sigmas else "unknown"
        yield f"Changes, with their mean gain there (noise of one score: {noise}):"
    for category, hypothesis, gain, carriers in (*gained, *lost):
        n = f"{carriers} program{'' if carriers == 1 else 's'}"
        why = one_line(hypothesis, LINE - 80)
        yield f"{gain:+.4f} in {n} [{one_line(category, 40)}] {why}"
