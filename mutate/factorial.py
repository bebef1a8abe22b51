"""Trains combinations of edits that wait, so that every training says something of each of them.

A wave begins with the best program and all edits of the wave in it; that program's changes name
them, so what is done and what is left are read from the individuals alone. The runs of a two-level
design follow, and last what the regression over all scores (`mutate/credit.py`) predicts to be the
best combination, on whichever program is the best by then.

Sources: Plackett and Burman, Biometrika 33 (1946); fold-over, Box and Wilson, Journal of the Royal
    Statistical Society B 13 (1951); Box, Hunter and Hunter, Statistics for Experimenters (1978),
    ch. 12.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import hadamard

from mutate.checks import Checks
from mutate.credit import CONSTANT, Worth, worths
from mutate.genome import ProgramError, fingerprint
from mutate.merging import Key, MergeError, merged, touched
from mutate.novelty import Offer, checked, refused
from population.individual import Change, Individual
from population.ports import History, Proposal

LEAST_EDITS, MOST_EDITS = 3, 7
"""Of a wave: four runs and their fold-over, or eight and theirs."""
CLEARLY = 2.0
"""Errors below zero at which an effect is a loss."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One structural change with the constants that came along: what it was made on and gave."""

    changes: tuple[Change, ...]
    before: str
    after: str

    def worth(self, known: Mapping[str, Worth]) -> float:
        """Return what its changes add together."""
        return sum(known[one.diff].effect for one in self.changes if one.diff in known)


@dataclass(frozen=True, slots=True)
class Wave:
    """Edits that are tried together on one program."""

    base: Individual
    edits: tuple[Edit, ...]

    def program(self, taken: Sequence[bool]) -> tuple[str, tuple[Change, ...]]:
        """Return the base with these of the edits. Raises MergeError, ProgramError."""
        source, changes = self.base.genome.source, list[Change]()
        for edit, is_taken in zip(self.edits, taken, strict=True):
            if is_taken:
                source = merged(source, edit.before, edit.after)
                changes += edit.changes
        return source, tuple(changes)


class Factorial:
    """Tries combinations of waiting edits by a design; see the Variation port."""

    name = "factorial"
    arity = 1
    slow = False

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return the next program of the wave under way, or the first of another one."""
        best = _best(history)
        if best is None or not self._checks.python:
            return refused(self.name, parents, "no Python program has a score yet")
        for base, source, changes in self._wanted(best, history):
            if fingerprint(source) not in history.fingerprints:
                proposal = checked(
                    Offer(self.name, (base,), source, changes), self._checks, history
                )
                if proposal.genome is not None:
                    return proposal
        return refused(self.name, parents, f"fewer than {LEAST_EDITS} edits wait")

    def _wanted(
        self, best: Individual, history: History
    ) -> Iterator[tuple[Individual, str, tuple[Change, ...]]]:
        wave = self._begun(history)
        if wave is not None:
            for row in design(len(wave.edits)):
                yield wave.base, *wave.program(row)
            yield best, *predicted(best, wave.edits, worths(history))
        edits = self._waiting(best, history)[:MOST_EDITS]
        if len(edits) >= LEAST_EDITS:
            yield best, *Wave(best, tuple(edits)).program([True] * len(edits))

    def _begun(self, history: History) -> Wave | None:
        """Return the latest wave: the first program on its base names its edits."""
        made = [s.individual for s in history.standings.values() if self._made(s.individual)]
        known = edits_of(history, self.name)
        for first in reversed(made):
            own = tuple(known[one.diff] for one in first.changes if one.diff in known)
            earlier = (one for one in made if one.parents == first.parents)
            if len(own) >= LEAST_EDITS and next(earlier) is first:
                return Wave(history.standings[first.parents[0]].individual, own)
        return None

    def _made(self, individual: Individual) -> bool:
        return individual.operator == self.name

    def _waiting(self, best: Individual, history: History) -> list[Edit]:
        """Return independent edits that no wave has tried, the most promising first."""
        known = worths(history)
        everybody = (standing.individual for standing in history.standings.values())
        used = {one.diff for who in everybody if self._made(who) for one in who.changes}
        fits: list[tuple[float, Edit]] = []
        for diff, edit in edits_of(history, self.name).items():
            worth = known.get(diff)
            if diff in used or worth is None or worth.effect < -CLEARLY * worth.error:
                continue
            try:
                child = merged(best.genome.source, edit.before, edit.after)
            except (MergeError, ProgramError):
                continue
            if child != best.genome.source:
                fits.append((worth.effect, edit))
        return independent([edit for _, edit in sorted(fits, key=lambda one: -one[0])])


def design(edits: int) -> np.ndarray:
    """Return which edits each run takes, (runs, edits): a design of 4, 8 or 16 and its fold-over.

    The first takes all; the last would take none and is left out.
    """
    size = next(size for size in (4, 8, 16) if size > edits)
    plus = hadamard(size)[:, 1 : edits + 1] > 0
    rows = np.concatenate([plus, ~plus])
    return rows[rows.any(1)]


def predicted(
    best: Individual, edits: Sequence[Edit], known: Mapping[str, Worth]
) -> tuple[str, tuple[Change, ...]]:
    """Return the best program with every edit that is believed to add something and fits."""
    source, changes = best.genome.source, list[Change]()
    for edit in edits:
        if edit.worth(known) <= 0:
            continue
        try:
            grown = merged(source, edit.before, edit.after)
        except (MergeError, ProgramError):
            continue
        if grown != source:
            source = grown
            changes += edit.changes
    return source, tuple(changes)


def edits_of(history: History, but: str) -> dict[str, Edit]:
    """Return all edits that ran, by the diff of their structural change; none of operator `but`."""
    found: dict[str, Edit] = {}
    for standing in history.standings.values():
        who = standing.individual
        parent = history.standings.get(who.parents[0]) if who.parents else None
        structural = [one.diff for one in who.changes if one.category != CONSTANT and one.diff]
        if parent is None or standing.fitness is None or standing.held or who.operator == but:
            continue
        if len(structural) == 1:
            before, after = parent.individual.genome.source, who.genome.source
            found.setdefault(structural[0], Edit(who.changes, before, after))
    return found


def independent(edits: Sequence[Edit]) -> list[Edit]:
    """Return those that touch nothing which one before them touches."""
    chosen, taken = list[Edit](), set[Key]()
    for edit in edits:
        own = touched(edit.before, edit.after)
        if not own & taken:
            chosen.append(edit)
            taken |= own
    return chosen


def _best(history: History) -> Individual | None:
    scored = [s for s in history.standings.values() if s.fitness is not None and not s.held]
    best = max(scored, key=lambda s: (s.fitness or 0.0, -s.individual.id), default=None)
    return None if best is None else best.individual
