"""A synthetic world of structure and constants, with a catalogue of edits in a model's place.

A program is eight functions, each one variant of a slot, and a dozen constants. Its loss, in
sigmas of one evaluation, is what its variants add, alone and in pairs, and how far its constants
are from the optimum, which every variant shifts. So a good variant often looks bad until some
constants are tuned again, and some variants are good only together.

The shares of good, neutral, bad and failing edits, the size of gains and the noise follow public
logs of such searches: few gains, most of them small, and poor programs that repeat worse.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from bench.landscape import Truth
from bench.variants import (
    NAMES,
    OWN_RANGE,
    RANGES,
    SHARED,
    SLOTS,
    Drawing,
    Key,
    Variant,
    at,
    lattice_of,
    position,
)
from mutate.checks import Checks
from mutate.genome import constants, lines_of, render, values
from mutate.memory import effect
from mutate.novelty import Offer, checked, normalised_diff, refused
from mutate.ranges import range_of
from mutate.units import definitions
from population.history import History, Standing
from population.individual import Change, Individual
from population.ports import Proposal

SIGMA = 0.0005
"""Of one evaluation of a good program, in units of the metric."""
BASE = 1.0
SCORED_S, FAILED_S = 300.0, 30.0
WORST = 40.0
"""Sigmas that constants can cost at most."""
NOISIER, NOISIEST = 0.15, 16.0
"""Growth of a program's noise for each sigma that it is worse than the founders."""
MEMORY = {"DEPTH": 0.35, "WIDTH": 0.35, "BATCH": 0.35}
MEMORY_AT_LEAST = 0.25
"""Of the device: a share that every program takes, and what whole ranges of constants add."""
LOST, LOST_LEAST = 0.3, 0.03
"""What is left of an edit's weight after each time that it did not help, and at least."""
BOUND = re.compile(r"^def (\w+)\(x\):\n    return \"(\w+)-(\d+)\"", re.MULTILINE)


class Catalogue:
    """A landscape of structure and constants; see the Landscape port. Each seed is another one.

    Args:
        seed: of all that is drawn.
        founders: 3 of different structures, or the first one alone.

    Attributes:
        edits: what a model proposes. variants: those, and the founders'.
        pairs: sigmas that two variants of different slots add together.
    """

    def __init__(self, seed: int, founders: int = 3) -> None:
        self.name = f"catalogue-{seed}"
        drawn = Drawing(np.random.default_rng([seed, 0xCA7]), founders)
        self.edits: tuple[Variant, ...] = drawn.edits
        self.variants: dict[Key, Variant] = drawn.variants
        self.pairs: dict[frozenset[Key], float] = drawn.pairs
        self._optima = drawn.optima  # (constants)
        self._hessian = drawn.hessian  # (constants, constants), in sigmas
        made = [self._founder(structure, drawn.rng) for structure in drawn.founders]
        self.founders: tuple[str, ...] = tuple(made)
        self._reference = min(self._loss(*self._parts(source)) for source in made)

    def truth(self, source: str) -> Truth:
        """Return what this program is."""
        try:
            variants, declared = self._parts(source)
        except KeyError:
            return Truth(None, cost_s=FAILED_S, reason="crash")
        if any(variant.crashes for variant in variants):
            return Truth(None, cost_s=FAILED_S, reason="crash")
        if self._memory(variants, declared) > 1.0:
            return Truth(None, cost_s=FAILED_S, reason="out_of_memory")
        loss = self._loss(variants, declared)
        noisier = min(max(1.0 + NOISIER * (loss - self._reference), 1.0), NOISIEST)
        return Truth(float(BASE + SIGMA * loss), float(SIGMA * noisier), SCORED_S)

    @property
    def targets(self) -> tuple[float, ...]:
        """A half, three quarters and nine tenths of the way from the best founder to the best."""
        start = BASE + SIGMA * self._reference
        way = start - self.optimum
        return tuple(start - share * way for share in (0.5, 0.75, 0.9))

    @cached_property
    def optimum(self) -> float:
        """The value of the best program that the founders' variants and the edits allow."""
        value = self.truth(self.best).value
        assert value is not None
        return value

    @cached_property
    def best(self) -> str:
        """That program: every structure is counted, the best of them with their constants.

        A structure is passed over where even with the best constants it would be worse.
        """
        choices = [
            [one for one in self.variants.values() if one.slot == slot and not one.crashes]
            for slot in SLOTS
        ]
        losses = self._structures(choices)
        best, found = math.inf, ""
        for flat in np.argsort(losses, axis=None):
            place = np.unravel_index(flat, losses.shape)
            if losses[place] >= best:
                break
            variants = [own[i] for own, i in zip(choices, place, strict=True)]
            cost, shares = self._tuned(variants)
            if losses[place] + cost < best:
                best, found = losses[place] + cost, self._program(variants, shares)
        return found

    # What a program is

    def active(self, source: str) -> list[Variant]:
        """Return the variants of a program. Raises KeyError where a slot is not as it should be."""
        named = {slot: (own, int(number)) for slot, own, number in BOUND.findall(source)}
        return [self.variants[named[slot]] for slot in SLOTS]

    def program(self, variants: Sequence[Variant]) -> str:
        """Return the program of these variants with its best constants that fit into memory."""
        return self._program(variants, self._tuned(variants)[1])

    def _parts(self, source: str) -> tuple[list[Variant], dict[str, float]]:
        """Return the variants, and where each constant stands as a share of its range."""
        variants = self.active(source)
        declared = {one.name: position(one.range, one.value) for one in constants(source)}
        needed = {*NAMES, *(one.own.name for one in variants if one.own)}
        return variants, {name: declared[name] for name in needed}

    def _memory(self, variants: Sequence[Variant], shares: Mapping[str, float]) -> float:
        own = sum(weight * shares[name] for name, weight in MEMORY.items())
        return MEMORY_AT_LEAST + own + sum(variant.memory for variant in variants)

    def _loss(self, variants: Sequence[Variant], shares: Mapping[str, float]) -> float:
        keys = [variant.key for variant in variants]
        structure = sum(variant.effect for variant in variants) + sum(
            self.pairs.get(frozenset(pair), 0.0) for pair in itertools.combinations(keys, 2)
        )
        away = np.array([shares[name] for name in NAMES]) - self._targets(variants)
        cost = float(away @ self._hessian @ away)
        for variant in variants:
            if variant.own is not None:
                away_by = shares[variant.own.name] - variant.own.optimum
                cost += variant.own.curvature * away_by**2
        return structure + bounded(cost)

    def _targets(self, variants: Sequence[Variant]) -> np.ndarray:
        """Return where the shared constants ought to be, as shares of their ranges."""
        shifted = self._optima.copy()
        for variant in variants:
            for name, shift in variant.shifts.items():
                shifted[NAMES.index(name)] += shift
        return np.clip(shifted, 0.03, 0.97)

    # The best program

    def _structures(self, choices: Sequence[Sequence[Variant]]) -> np.ndarray:
        """Return what every combination of variants adds; one axis for each slot."""
        losses = np.zeros([len(own) for own in choices])
        for axis, own in enumerate(choices):
            losses += _along([one.effect for one in own], (axis,), len(choices))
        for first, second in itertools.combinations(range(len(choices)), 2):
            table = [
                [self.pairs.get(frozenset((a.key, b.key)), 0.0) for b in choices[second]]
                for a in choices[first]
            ]
            losses += _along(table, (first, second), len(choices))
        return losses

    def _tuned(self, variants: Sequence[Variant]) -> tuple[float, dict[str, float]]:
        """Return what the best constants that fit into memory cost, and where they stand."""
        coarse = [NAMES.index(name) for name in MEMORY]
        fine = [i for i in range(len(NAMES)) if i not in coarse]
        targets, hessian = self._targets(variants), self._hessian
        among = hessian[np.ix_(fine, coarse)]
        follow = -np.linalg.solve(hessian[np.ix_(fine, fine)], among)
        reduced = hessian[np.ix_(coarse, coarse)] + among.T @ follow
        lattice = np.array(list(itertools.product(*(lattice_of(RANGES[name]) for name in MEMORY))))
        used = MEMORY_AT_LEAST + lattice @ np.array(list(MEMORY.values()))
        fits = lattice[used + sum(variant.memory for variant in variants) <= 1.0]
        away = fits - targets[coarse]
        costs = np.einsum("ni,ij,nj->n", away, reduced, away)
        chosen = int(np.argmin(costs))
        shares = dict(zip(MEMORY, fits[chosen], strict=True))
        moved = np.clip(targets[fine] + follow @ away[chosen], 0.0, 1.0)
        shares |= {NAMES[i]: share for i, share in zip(fine, moved, strict=True)}
        shares |= {one.own.name: one.own.optimum for one in variants if one.own}
        return bounded(float(costs[chosen])), shares

    # Texts

    def _founder(self, structure: Sequence[Key], rng: np.random.Generator) -> str:
        """Return a program as somebody would tune it by hand: near its optimum, and not at it."""
        variants = [self.variants[key] for key in structure]
        while True:
            shares = np.clip(self._targets(variants) + rng.normal(0, 0.2, len(NAMES)), 0.03, 0.97)
            source = self._program(variants, dict(zip(NAMES, shares, strict=True)))
            if self._memory(*self._parts(source)) <= 0.95:
                return source

    def _program(self, variants: Sequence[Variant], shares: Mapping[str, float]) -> str:
        declared = [
            f"{name} = {render(at(RANGES[name], shares[name]))}  # {comment}\n"
            for name, (_, comment) in SHARED.items()
        ]
        for own in (variant.own for variant in variants if variant.own):
            value = at(range_of(own.start, OWN_RANGE), shares[own.name])
            declared.append(f"{own.name} = {render(value)}  # {OWN_RANGE}\n")
        calls = "BATCH"
        for slot in SLOTS:
            calls = f"{slot}({calls})"
        parts = ["".join(declared), *(variant.text for variant in variants)]
        return "\n\n".join([*parts, f"def train():\n    return {calls}\n\n\ntrain()\n"])


class CatalogueMutation:
    """Makes an edit of the catalogue, in a language model's place; see the Variation port.

    Args:
        remembers: an edit that did not help is drawn less often, as by a model that is told what
            was tried; else each is as likely as any other.
    """

    name = "explore"
    arity = 1
    slow = False

    def __init__(self, catalogue: Catalogue, checks: Checks, remembers: bool = True) -> None:
        self._catalogue = catalogue
        self._checks = checks
        self._remembers = remembers

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return the parent with another variant in one slot."""
        (parent,) = parents
        try:
            present = {one.slot: one for one in self._catalogue.active(parent.genome.source)}
        except KeyError as error:
            return refused(self.name, parents, f"the program is none of the catalogue's: {error}")
        weights = self._weights(history)
        free = [one for one in self._catalogue.edits if present[one.slot] is not one]
        chances = np.array([weights.get(one.name, 1.0) for one in free])
        proposal = refused(self.name, parents, "the catalogue is empty")
        for index in rng.choice(len(free), len(free), replace=False, p=chances / chances.sum()):
            offer = self._offer(parent, present[free[index].slot], free[index])
            proposal = checked(offer, self._checks, history)
            if proposal.genome is not None:
                break
        return proposal

    def _offer(self, parent: Individual, old: Variant, new: Variant) -> Offer:
        before = parent.genome.source
        after = edited(before, new)
        changes = [Change(normalised_diff(before, after), new.name, new.slot)]
        if old.own is not None and old.own.name in values(after):
            left = without(after, old.own.name)
            changes.append(Change(normalised_diff(after, left), "nothing reads it", "constant"))
            after = left
        return Offer(self.name, (parent,), after, tuple(changes))

    def _weights(self, history: History) -> dict[str, float]:
        """Return how likely each edit is that was tried; the others weigh 1."""
        weights: dict[str, float] = {}
        for standing in history.standings.values() if self._remembers else ():
            if standing.individual.operator != self.name:
                continue
            name = standing.individual.changes[0].hypothesis
            lost = LOST ** _losses(standing, history)
            weights[name] = max(weights.get(name, 1.0) * lost, LOST_LEAST)
        return weights


def _losses(standing: Standing, history: History) -> int:
    """Return how much a try speaks against its edit: a failure twice as much as a loss."""
    if standing.failures and standing.fitness is None:
        return 2
    gain = effect(standing, history).gain
    return 0 if gain is not None and gain > 0 else 1


def edited(source: str, new: Variant) -> str:
    """Return the program with this variant in its slot, and the constant that comes with it."""
    unit, lines = definitions(source)[new.slot], lines_of(source)
    lines[unit.first : unit.end] = [new.text]
    if new.own is not None and new.own.name not in values(source):
        below = next(i for i, line in enumerate(lines) if not line.strip())
        lines.insert(below, f"{new.own.name} = {render(new.own.start)}  # {OWN_RANGE}\n")
    return "".join(lines)


def without(source: str, name: str) -> str:
    """Return the program without a constant."""
    return "".join(line for line in lines_of(source) if not line.startswith(f"{name} = "))


def bounded(cost: float) -> float:
    """Return what a distance from the optimum costs, in sigmas: never more than `WORST`."""
    return cost / (1.0 + cost / WORST)


def _along(table: Sequence, axes: tuple[int, ...], dimensions: int) -> np.ndarray:
    """Return the table as an array that broadcasts along these axes."""
    array = np.array(table)
    return array.reshape(
        [array.shape[axes.index(i)] if i in axes else 1 for i in range(dimensions)]
    )
