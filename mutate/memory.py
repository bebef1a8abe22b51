"""What the lineage teaches, as lines for a prompt. Pure: from a history to a text."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mutate.credit import Worth, descent, worths
from mutate.text import one_line, tokens_of
from population.history import History, Standing
from population.individual import Individual, IndividualId
from population.task import Direction

CONSTANTS = "constants"
"""The operator whose many small steps are summed up instead of told."""
NEAR_SIGMAS = 1.5
LINE = 220
MOST_CREDITED = 4
"""Changes of one program that are told one by one."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an individual gained on its first parent, in units of the metric; + is better.

    Attributes:
        gain: None while one of the two has no score that is believed.
        error: standard error, infinite if unknown.
    """

    gain: float | None
    error: float

    @property
    def better(self) -> bool:
        """Whether the gain is clear of the noise (95%)."""
        return self.gain is not None and self.gain > 2 * self.error

    @property
    def worse(self) -> bool:
        """Whether the loss is clear of the noise (95%)."""
        return self.gain is not None and self.gain < -2 * self.error

    def __str__(self) -> str:
        if self.gain is None:
            return "not comparable"
        known = math.isfinite(self.error)
        interval = f" +- {2 * self.error:.4f}" if known else ", noise unknown"
        if self.better or self.worse:
            return f"{'better' if self.better else 'worse'} by {abs(self.gain):.4f}{interval}"
        return f"unresolved ({self.gain:+.4f}{interval})"


def effect(standing: Standing, history: History) -> Effect:
    """Return what an individual gained on its first parent; a score that is held back is none."""
    parents = standing.individual.parents
    parent = history.standings.get(parents[0]) if parents else None
    if parent is None or parent.fitness is None or standing.fitness is None:
        return Effect(None, math.inf)
    if parent.held or standing.held:
        return Effect(None, math.inf)
    error = math.hypot(standing.standard_error, parent.standard_error)
    return Effect(standing.fitness - parent.fitness, error)


def memory(history: History, parents: Sequence[Individual], direction: Direction, room: int) -> str:
    """Return what was tried, in at most `room` tokens.

    What comes first goes in first, line by line, until the room is full: the distilled notes, what
    is in flight, what was tried on these parents, what the first of them has from its ancestors,
    what helped most, near-misses, what earlier runs left, what is held back, what failed, what
    lost, what was stopped, the sums by category. No individual is told twice; the parents are told
    of elsewhere.

    Args:
        history: of the run.
        parents: of the proposal.
        direction: of the metric.
        room: in tokens.
    """
    told = {one.id for one in parents}
    parts: list[str] = []
    for title, lines in _sections(history, [one.id for one in parents], direction):
        kept: list[str] = []
        for who, line in lines:
            cost = tokens_of(line) + (0 if kept else tokens_of(title) + 2)
            if who in told or cost > room:
                continue
            room -= cost
            kept.append(line)
            if who is not None:
                told.add(who)
        if kept:
            parts.append("\n".join([title, *kept]))
    return "\n\n".join(parts)


Lines = Iterable[tuple[IndividualId | None, str]]


def _sections(
    history: History, parents: Sequence[IndividualId], direction: Direction
) -> Iterator[tuple[str, Lines]]:
    bred = [s for s in history.standings.values() if s.individual.changes]
    bred.reverse()
    effects = {s.individual.id: effect(s, history) for s in bred}
    known = worths(history)

    def gain(standing: Standing) -> float:
        return effects[standing.individual.id].gain or 0.0

    def told(standings: Iterable[Standing]) -> Lines:
        return [
            (s.individual.id, _line(s, effects[s.individual.id], known, direction))
            for s in standings
        ]

    structural = [s for s in bred if is_structural(s)]
    scored = [s for s in structural if effects[s.individual.id].gain is not None]
    fine = sorted(scored, key=gain, reverse=True)
    near = [s for s in fine if _is_near(effects[s.individual.id], history.sigma)]
    if history.notes:
        yield (
            "Notes that were distilled from this run a while ago; what follows is newer:",
            [(None, f"| {one_line(line, LINE)}") for line in history.notes.splitlines() if line],
        )
    settled = [s for s in structural if s.report is not None or s.stopped]
    yield (
        "In flight now (do not propose these):",
        told(s for s in structural if s.report is None and not s.stopped),
    )
    yield (
        "Tried on this parent before:",
        told(s for s in structural if set(s.individual.parents) & set(parents)),
    )
    line = [one for first in parents[:1] for one in descent(history.standings[first], history)]
    yield "In this program already, latest first:", told(s for s in line[1:] if is_structural(s))
    has = {_place(s) for s in line}
    helped = [s for s in fine if effects[s.individual.id].better and _place(s) not in has]
    yield "Helped most in this run, besides:", told(helped)
    yield "Unresolved, best first (not refuted):", told(near)
    for earlier in history.earlier:
        yield (
            f"From the earlier run {one_line(earlier.run, 60)} (other numbers, not compared here):",
            [(None, f"| {one_line(line, LINE)}") for line in earlier.memory.splitlines() if line],
        )
    yield (
        "Too good to be believed yet (do not build on these):",
        told(s for s in structural if s.held),
    )
    yield "Failed without a score:", told(s for s in structural if s.fitness is None and s.failures)
    yield "Lost:", told(s for s in reversed(fine) if effects[s.individual.id].worse)
    stopped = told(s for s in structural if s.stopped)
    yield "Stopped after a short training, others did better:", stopped
    yield "By category (name yours the same where it fits):", _categories(settled, effects)
    yield "Constants, which a numeric optimiser tunes:", _constants(bred, effects, direction)


def _place(standing: Standing) -> tuple[IndividualId, str] | None:
    """Return which part of whose program was changed: twins of one idea are equal in that."""
    individual = standing.individual
    if not individual.parents or not individual.changes:
        return None
    return individual.parents[0], _alike(individual.changes[0].category)


def _alike(category: str) -> str:
    """Return what names of one part have in common: `n-gram counts` and `ngram counts` are one."""
    return "".join(c for c in category.lower() if c.isalnum())


def is_structural(standing: Standing) -> bool:
    """Whether it came about by a change of more than constants."""
    individual = standing.individual
    return bool(individual.changes) and individual.operator != CONSTANTS


def _is_near(effect_: Effect, sigma: float) -> bool:
    """Whether the noise hides it and it is no large loss; all that is hidden, without a sigma."""
    hidden = effect_.gain is not None and not effect_.better and not effect_.worse
    return hidden and (not sigma or (effect_.gain or 0.0) >= -NEAR_SIGMAS * sigma)


def _line(
    standing: Standing, effect_: Effect, known: Mapping[str, Worth], direction: Direction
) -> str:
    individual = standing.individual
    hypothesis = "; ".join(change.hypothesis for change in individual.changes)
    report = standing.report
    if standing.held:
        verdict = "its score is not confirmed"
    elif standing.fitness is None and report is not None and report.failure is not None:
        failure = report.failure
        verdict = f"failed in {failure.stage}, {failure.reason}: {one_line(failure.detail, 90)}"
    elif standing.stopped:
        verdict = "stopped after a short training"
    else:
        done = f"{_score(standing, direction)}{effect_}{_credit(individual, known)}"
        verdict = "in flight" if report is None else done
    origin = f"#{individual.id}"
    if individual.parents:
        origin += f" from #{individual.parents[0]}"
    category = individual.changes[0].category
    return f"- {origin} [{one_line(category, 40)}] {one_line(hypothesis, LINE)}: {verdict}"


def _score(standing: Standing, direction: Direction) -> str:
    """Return the score and the steps that it took, empty where there is none."""
    if standing.fitness is None or standing.report is None:
        return ""
    steps = [m.value for m in standing.report.measurements if m.name == "steps"]
    taken = f" in {steps[0]:,.0f} steps" if steps else ""
    return f"{direction.fitness(standing.fitness):.4f}{taken}, "


def _credit(individual: Individual, known: Mapping[str, Worth]) -> str:
    """Return what each change is worth by all programs that carry it, in their order.

    Empty for one change that nobody else carries: its worth is the gain.
    """
    own = [known.get(change.diff) for change in individual.changes[:MOST_CREDITED]]
    found = [one for one in own if one is not None]
    if len(found) < len(own) or (len(own) == 1 and found[0].carriers < 2):
        return ""
    if len(own) == 1:
        return f"; by the {found[0].carriers} programs with it {found[0]}"
    return f"; each by all programs with it: {', '.join(f'{w} ({w.carriers})' for w in found)}"


def _categories(
    standings: Sequence[Standing], effects: dict[IndividualId, Effect]
) -> Iterator[tuple[None, str]]:
    groups: dict[str, list[Effect]] = {}
    names: dict[str, str] = {}
    for standing in standings:
        category = one_line(standing.individual.changes[0].category, 40)
        name = names.setdefault(_alike(category), category)
        groups.setdefault(name, []).append(effects[standing.individual.id])
    for category, own in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        better = sum(one.better for one in own)
        worse = sum(one.worse for one in own)
        scored = sum(one.gain is not None for one in own)
        yield (
            None,
            f"- {category}: {len(own)} tried, {better} better, {worse} worse, "
            f"{scored - better - worse} unresolved, {len(own) - scored} without a score",
        )


def _constants(
    bred: Sequence[Standing], effects: dict[IndividualId, Effect], direction: Direction
) -> Iterator[tuple[None, str]]:
    steps = [s for s in bred if s.individual.operator == CONSTANTS]
    if not steps:
        return
    better = [s for s in steps if effects[s.individual.id].better]
    yield None, f"- {len(steps)} steps, {len(better)} clearly better"
    best = max(better, key=lambda s: effects[s.individual.id].gain or 0.0, default=None)
    if best is not None:
        yield None, _line(best, effects[best.individual.id], {}, direction)
