"""What a run knows about the constants of a program: points with their results."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from mutate.bandit import was_killed
from mutate.genome import REMEMBERED, Constant, constants
from mutate.ranges import Range, Value
from population.history import History, Standing
from population.individual import Individual

Point = dict[str, Value]

ENOUGH_OWN = 60
"""Scored results of this run that share the constants, from which on earlier runs say nothing."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one individual.

    Attributes:
        value: its fitness, None where that is not known; of a failure, worse than all that is
            scored; of one that was stopped, what its short training foretells.
        failed: it earned no score. operator: that made it. structure: its own.
        void: it was evaluated and has no value: lost, of another machine, or not believed.
    """

    point: Point
    value: float | None
    failed: bool = False
    operator: str = ""
    structure: str = ""
    void: bool = False


def results(parent: Individual, history: History) -> list[Told]:
    """Return what is known about the parent's constants, in order of birth.

    It comes from every individual that declares all of them with the same ranges, whatever its
    structure and its other constants. So that points are compared and not structures, the results
    of another structure are shifted by what the steps between the two have lost, each between
    programs of much the same constants; where no steps lead there, as between founders, until its
    median meets that of the parent's structure.

    A failure is told as worse than everything that is scored: who passes over failures goes back
    to where they came from. Whoever was stopped after a short training is told with the fitness
    that this foretells. What still trains is told without a value, and so is what our side lost
    and what the quarantine holds or has refused.

    Last come, while this run knows little, the points of the runs that it was born from.
    """
    declared = constants(parent.genome.source)
    sharing = list(_sharing(declared, history))
    shifts = _shifts(parent.structure, [standing for standing, _ in sharing])
    shifts |= _lost(parent.structure, history)
    known = [None if s.held else s.expected if s.fitness is None else s.fitness for s, _ in sharing]
    scores = [
        None if value is None else value + shifts.get(s.individual.structure, 0.0)
        for value, (s, _) in zip(known, sharing, strict=True)
    ]
    scored = [score for score in scores if score is not None]
    worse = min(scored, default=0.0) - (max(scored) - min(scored) if scored else 0.0) - 1e-9
    told = []
    for (standing, point), score in zip(sharing, scores, strict=True):
        failed = standing.fitness is None and standing.failures > 0 and not was_killed(standing)
        who = standing.individual
        value = worse if failed else score
        void = standing.is_void
        told.append(Told(point, value, failed, who.operator, who.structure, void))
    if sum(s.ranks for s, _ in sharing) < ENOUGH_OWN:
        level = {
            s.individual.fingerprint: score
            for (s, _), score in zip(sharing, scores, strict=True)
            if s.ranks and score is not None
        }
        told += _precedents(declared, history, level)
    return told


def _precedents(
    declared: Sequence[Constant], history: History, level: Mapping[str, float]
) -> Iterator[Told]:
    """Yield what earlier runs knew about these constants, on the scale of `level`.

    The scores of one earlier run and structure are moved together: by what programs gained that
    both runs have scored, else until their median is that of `level`. What exists here is not told
    twice.

    Args:
        declared: the parent's constants.
        history: of the run.
        level: what this run knows about them, by fingerprint.
    """
    wanted = _declaration(declared)
    for earlier in history.earlier:
        groups: dict[str, list[tuple[str, Point, float]]] = {}
        for one in earlier.precedents:
            point = _shared_point(wanted, one.genome.source)
            if point is not None and one.fitness is not None:
                groups.setdefault(one.structure, []).append((one.fingerprint, point, one.fitness))
        for structure, own in groups.items():
            gains = [level[name] - fitness for name, _, fitness in own if name in level]
            if not gains and level:
                gains = [median(level.values()) - median(fitness for _, _, fitness in own)]
            for name, point, fitness in own if gains else ():
                if name not in history.fingerprints:
                    yield Told(point, fitness + median(gains), structure=structure)


def _sharing(declared: Sequence[Constant], history: History) -> Iterator[tuple[Standing, Point]]:
    wanted = _declaration(declared)
    for standing in history.standings.values():
        point = _shared_point(wanted, standing.individual.genome.source)
        if point is not None:
            yield standing, point


Declaration = tuple[tuple[str, Range], ...]


def _declaration(declared: Sequence[Constant]) -> Declaration:
    return tuple((constant.name, constant.range) for constant in declared)


@lru_cache(maxsize=REMEMBERED)
def _shared_point(wanted: Declaration, source: str) -> Point | None:
    """Return the values that a program has of these constants, None where it declares others."""
    theirs = {c.name: c for c in constants(source)}
    point: Point = {}
    for name, range_ in wanted:
        their = theirs.get(name)
        if their is None or not range_.shares(their.range):
            return None
        value = range_.fit(their.value)
        if value is None or their.value not in range_:
            return None
        point[name] = value
    return point


def _shifts(structure: str, sharing: Sequence[Standing]) -> dict[str, float]:
    """Return for each structure what its scores gain so that all have the median of `structure`."""
    groups: dict[str, list[float]] = {}
    for standing in sharing:
        if standing.fitness is not None and not standing.held:
            groups.setdefault(standing.individual.structure, []).append(standing.fitness)
    if structure not in groups:
        return {}
    centre = median(groups[structure])
    return {name: centre - median(scores) for name, scores in groups.items()}


def _lost(structure: str, history: History) -> dict[str, float]:
    """Return for each structure that steps lead to from `structure` what those have lost in all.

    A step leads from a first parent to a child of another structure, and back.
    """
    steps: dict[str, dict[str, list[float]]] = {}
    for standing in history.standings.values():
        born = standing.individual
        parent = history.standings.get(born.parents[0]) if born.parents else None
        if parent is None or parent.fitness is None or standing.fitness is None:
            continue
        if parent.held or standing.held:
            continue
        lost, origin = parent.fitness - standing.fitness, parent.individual.structure
        steps.setdefault(origin, {}).setdefault(born.structure, []).append(lost)
        steps.setdefault(born.structure, {}).setdefault(origin, []).append(-lost)
    found = {structure: 0.0}
    waiting = [structure]
    for one in waiting:  # grows as it goes: the nearest first
        for other, losses in steps.get(one, {}).items():
            if other not in found:
                found[other] = found[one] + median(losses)
                waiting.append(other)
    return found
