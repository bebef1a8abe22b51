"""Crossover through the syntax tree: constants, functions and classes, with what they need."""

from collections.abc import Sequence

import numpy as np

from mutate.checks import Checks
from mutate.genome import Unit, Value, constants, render, rewrite, units
from mutate.novelty import Offer, checked, normalised_diff, refused
from population.individual import Change, Individual
from population.ports import History, Proposal

DEFINITIONS = frozenset({"FunctionDef", "ClassDef", "AsyncFunctionDef"})
IMPORTS = frozenset({"Import", "ImportFrom"})
CONSTANTS_SHARE = 0.3
TRIES = 8


class Recombination:
    """Puts parts of the second parent into the first; see the Variation port."""

    name = "recombination"
    arity = 2

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return the first parent with constants or definitions of the second."""
        receiver, donor = (parent.genome.source for parent in parents)
        if not self._checks.python:
            return refused(self.name, parents, "only Python programs are recombined")
        try:
            exchangeable = _exchangeable(receiver, donor)
        except (SyntaxError, RecursionError) as error:
            return refused(self.name, parents, f"a parent cannot be taken apart: {error}")
        values = _other_values(receiver, donor)
        if not exchangeable and not values:
            return refused(
                self.name, parents, "the parents differ in nothing that can be exchanged"
            )
        for _ in range(TRIES):
            only_values = not exchangeable or (values and rng.random() < CONSTANTS_SHARE)
            if only_values:
                source, changes = _with_values(receiver, _some(values, rng))
            else:
                source, changes = _with_units(receiver, donor, _some_units(exchangeable, rng))
            offer = Offer(self.name, parents, source, changes)
            proposal = checked(offer, self._checks, history)
            if proposal.genome is not None:
                return proposal
        return proposal


def _exchangeable(receiver: str, donor: str) -> list[str]:
    """Return the definitions that both have and that differ."""
    own = {unit.names[0]: unit for unit in units(receiver) if unit.kind in DEFINITIONS}
    return [
        unit.names[0]
        for unit in units(donor)
        if unit.kind in DEFINITIONS
        and unit.names[0] in own
        and own[unit.names[0]].digest != unit.digest
    ]


def _other_values(receiver: str, donor: str) -> dict[str, Value]:
    """Return the donor's values of shared constants that differ, brought into the range."""
    theirs = {constant.name: constant for constant in constants(donor)}
    found: dict[str, Value] = {}
    for constant in constants(receiver):
        other = theirs.get(constant.name)
        if other is None or other.kind != constant.kind or other.value == constant.value:
            continue
        value = other.value
        if constant.kind == "choice":
            if value not in constant.choices:
                continue
        else:
            assert not isinstance(value, str)
            clipped = min(max(value, constant.low), constant.high)
            value = int(clipped) if constant.kind == "int" else float(clipped)
        if value != constant.value:
            found[constant.name] = value
    return found


def _some(values: dict[str, Value], rng: np.random.Generator) -> dict[str, Value]:
    names = sorted(values)
    taken = [name for name in names if rng.random() < 0.5] or [names[int(rng.integers(len(names)))]]
    return {name: values[name] for name in taken}


def _some_units(names: list[str], rng: np.random.Generator) -> list[str]:
    """Return one unit, or now and then two."""
    count = 2 if len(names) > 1 and rng.random() < 0.3 else 1
    return [names[int(i)] for i in sorted(rng.choice(len(names), size=count, replace=False))]


def _with_values(receiver: str, values: dict[str, Value]) -> tuple[str, tuple[Change, ...]]:
    changes = tuple(
        Change(
            normalised_diff(receiver, rewrite(receiver, {name: value})),
            f"{name} = {render(value)} from the second parent", "constant",
        )
        for name, value in values.items()
    )  # fmt: skip
    return rewrite(receiver, values), changes


def _with_units(receiver: str, donor: str, names: list[str]) -> tuple[str, tuple[Change, ...]]:
    """Replace each named definition, then bring along what it needs and the receiver lacks."""
    changes = []
    source = receiver
    for name in names:
        before = source
        source = transplant(source, donor, name)
        category = "function" if name[:1].islower() else "class"
        changes.append(
            Change(normalised_diff(before, source), f"{name} from the second parent", category)
        )
    return source, tuple(changes)


def transplant(receiver: str, donor: str, name: str) -> str:
    """Return the receiver with the donor's definition of `name` and everything that it needs.

    A definition travels with the constants that it reads: they were tuned for each other. Other
    names that both have stay the receiver's.
    """
    theirs, own = _by_name(donor), _by_name(receiver)
    moved, replaced = _definition(theirs[name]), _definition(own[name])
    needed = _needed(moved, theirs, set(own))
    head, beside = _placed(needed, units(receiver))
    body = "\n\n".join(unit.text for unit in (*beside, moved))
    place = min(_head_end(receiver), replaced.start)
    edits = [
        (replaced.start, replaced.end, body),
        (place, place, "".join(unit.text for unit in head)),
    ]
    tunable = {constant.name for constant in constants(donor)}
    read = frozenset().union(*(unit.references for unit in (*needed, moved)))
    for constant in sorted(read & tunable & set(own)):
        (old, *_), (new, *_) = own[constant], theirs[constant]
        if old.names == new.names == (constant,) and old.digest != new.digest:
            edits.append((old.start, old.end, new.text))
    for start, end, text in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        receiver = receiver[:start] + text + receiver[end:]
    return receiver


def _definition(bindings: list[Unit]) -> Unit:
    return [unit for unit in bindings if unit.kind in DEFINITIONS][-1]


def _by_name(source: str) -> dict[str, list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units(source):
        for name in unit.names:
            found.setdefault(name, []).append(unit)
    return found


def _needed(unit: Unit, theirs: dict[str, list[Unit]], have: set[str]) -> list[Unit]:
    """Return the donor's units that `unit` refers to, directly or not, in the donor's order."""
    found: dict[int, Unit] = {}
    waiting = [unit]
    while waiting:
        for name in sorted(waiting.pop().references - have):
            for needed in theirs.get(name, ()):
                if needed.start not in found and needed is not unit:
                    found[needed.start] = needed
                    waiting.append(needed)
    return [found[start] for start in sorted(found)]


def _placed(needed: list[Unit], own: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
    """Split what is needed: imports and constants for the top, the rest beside the definition.

    A constant that is computed by a definition must come after it.
    """
    late = {n for unit in (*own, *needed) if unit.kind in DEFINITIONS for n in unit.names}
    head, beside = [], []
    for unit in needed:
        if unit.kind in DEFINITIONS or (unit.kind not in IMPORTS and unit.references & late):
            beside.append(unit)
            late.update(unit.names)
        else:
            head.append(unit)
    head.sort(key=lambda unit: unit.kind not in IMPORTS)
    return head, beside


def _head_end(source: str) -> int:
    """Return where the imports and constants at the top end: before the first definition."""
    end = 0
    for unit in units(source):
        if unit.kind in DEFINITIONS or unit.kind == "If":
            return end
        end = unit.end
    return end
