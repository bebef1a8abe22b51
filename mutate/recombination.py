"""Crossover through the syntax tree: constants, functions and classes, with what they need."""

from collections.abc import Sequence

import numpy as np

from mutate.calls import misfits
from mutate.checks import Checks
from mutate.genome import ProgramError, constants, render, rewrite, structure, values
from mutate.novelty import Offer, checked, first_accepted, normalised_diff, refused
from mutate.ranges import Value
from mutate.units import TransplantError, definitions, transplant
from population.history import History
from population.individual import Change, Individual
from population.ports import Proposal

CONSTANTS_SHARE = 0.15
SEVERAL_SHARE = 0.2
TRIES = 20


class Recombination:
    """Puts parts of the second parent into the first; see the Variation port."""

    name = "recombination"
    arity = 2
    slow = False

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return the first parent with constants or definitions of the second."""
        base, donor = (parent.genome.source for parent in parents)
        if not self._checks.python:
            return refused(self.name, parents, "only Python programs are recombined")
        try:
            names, differing = exchangeable(base, donor), other_values(base, donor)
        except ProgramError as error:
            return refused(self.name, parents, f"a parent cannot be taken apart: {error}")
        if not names and not differing:
            reason = "the parents differ in nothing that can be exchanged"
            return refused(self.name, parents, reason)
        fresh = untried(base, donor, names, history)

        def chosen() -> list[str] | dict[str, Value]:
            if fresh:
                return [fresh.pop(int(rng.integers(len(fresh))))]
            if not names or (differing and rng.random() < CONSTANTS_SHARE):
                return _some(differing, rng)
            return _several(names, rng)

        offers = (self._offer(parents, chosen(), history) for _ in range(TRIES))
        return first_accepted("exchange", offers)

    def _offer(
        self, parents: Sequence[Individual], chosen: list[str] | dict[str, Value], history: History
    ) -> Proposal:
        """Return the first parent with these definitions of the second, or with these values."""
        base, donor = (parent.genome.source for parent in parents)
        try:
            if isinstance(chosen, dict):
                source, changes = _with_values(base, chosen)
            else:
                source, changes = _with_units(base, donor, chosen)
        except (TransplantError, ProgramError) as error:
            return refused(self.name, parents, f"it cannot be transplanted: {error}")
        return checked(Offer(self.name, parents, source, changes), self._checks, history)


def exchangeable(base: str, donor: str) -> list[str]:
    """Return the classes and functions that both have and that differ. Raises ProgramError."""
    own, theirs = definitions(base), definitions(donor)
    return [
        name
        for name, unit in own.items()
        if name in theirs and unit.kind == theirs[name].kind and unit.shape != theirs[name].shape
    ]


def untried(base: str, donor: str, names: Sequence[str], history: History) -> list[str]:
    """Return the definitions whose exchange, alone, gives a structure that nobody has yet.

    Each is tried once, at whatever constants, before any combination of several: what one
    definition is worth must not depend on the luck of the draw.
    """
    known = {standing.individual.structure for standing in history.standings.values()}
    fresh: list[str] = []
    for name in names:
        try:
            child = transplant(base, donor, name)
        except (TransplantError, ProgramError):
            continue
        if structure(child) not in known and not misfits(child).keys() - misfits(base).keys():
            fresh.append(name)
    return fresh


def other_values(base: str, donor: str) -> dict[str, Value]:
    """Return the donor's values of shared constants, brought into the base's ranges, that differ.

    Constants share when both are numbers of one kind, or choices that the base has too.
    """
    theirs = values(donor)
    found: dict[str, Value] = {}
    for constant in constants(base):
        if constant.name in theirs and _kind(theirs[constant.name]) is _kind(constant.value):
            value = constant.range.fit(theirs[constant.name])
            if value is not None and value != constant.value:
                found[constant.name] = value
    return found


def _kind(value: Value) -> type:
    """Return bool, str or, for both kinds of number, float."""
    return type(value) if isinstance(value, bool | str) else float


def _some(differing: dict[str, Value], rng: np.random.Generator) -> dict[str, Value]:
    names = list(differing)
    taken = [name for name in names if rng.random() < 0.5] or [names[int(rng.integers(len(names)))]]
    return {name: differing[name] for name in taken}


def _several(names: list[str], rng: np.random.Generator) -> list[str]:
    """Return one name, or now and then two or more."""
    count = 1
    if len(names) > 1 and rng.random() < SEVERAL_SHARE:
        count = int(rng.integers(2, len(names) + 1))
    return [names[int(i)] for i in sorted(rng.choice(len(names), size=count, replace=False))]


def _with_values(base: str, chosen: dict[str, Value]) -> tuple[str, tuple[Change, ...]]:
    old = values(base)
    changes = tuple(
        Change(
            normalised_diff(base, rewrite(base, {name: value})),
            f"{name} {render(old[name])} -> {render(value)}, as in the second parent",
            "constant",
        )
        for name, value in chosen.items()
    )
    return rewrite(base, chosen), changes


def _with_units(base: str, donor: str, names: list[str]) -> tuple[str, tuple[Change, ...]]:
    """Return the base with each named definition and what it needs, one change each."""
    kinds = {name: definitions(base)[name].kind for name in names}
    changes = []
    for name, kind in kinds.items():
        before, base = base, transplant(base, donor, name)
        hypothesis = f"{kind} {name} as in the second parent"
        changes.append(Change(normalised_diff(before, base), hypothesis, kind))
    return base, tuple(changes)
