"""Numeric constants by Optuna: a model of all results that share them, and steps nearby.

Local search is quick and stalls, model-based search is slow and goes on. So with few results,
and now and then later, one to three constants of the parent move a little; else TPE proposes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from mutate.checks import Checks
from mutate.genome import Constant, constants, render, rewrite
from mutate.novelty import Offer, checked, normalised_diff, refused
from mutate.ranges import Choices, Range, Value
from population.individual import Change, Individual
from population.ports import Attempt, History, Proposal, Standing

optuna.logging.set_verbosity(optuna.logging.ERROR)

ENOUGH_RESULTS = 8
"""Results that share the constants, below which a model of them would be a guess."""
LOCAL_SHARE = 0.3
MOST_STEPS = 3
TRIES = 20

Point = dict[str, Value]
Sampler = Callable[[], Point]


@dataclass(frozen=True, slots=True)
class Told:
    """What the model is told of one individual. `value` is None while it trains."""

    point: Point
    value: float | None


class ConstantsMutation:
    """Changes the constants that the parent declares; see the Variation port."""

    name = "constants"
    arity = 1
    slow = False

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return the parent with other constants, by TPE or by a step nearby."""
        (parent,) = parents
        declared = constants(parent.genome.source) if self._checks.python else ()
        if not declared:
            return refused(self.name, parents, "the program declares no tunable constants")
        told = results(parent, history)
        known = sum(one.value is not None for one in told)
        local = known < ENOUGH_RESULTS or rng.random() < LOCAL_SHARE
        sample = _steps(declared, rng) if local else _model(declared, told, rng)
        attempts: list[Attempt] = []
        proposal = refused(self.name, parents, "nothing was tried")
        for _ in range(TRIES):
            offer = self._offer(parent, declared, sample())
            proposal = checked(offer, self._checks, history)
            attempts.append(Attempt("step" if local else "tpe", proposal.refusal or "accepted"))
            if proposal.genome is not None:
                break
        return replace(proposal, attempts=tuple(attempts))

    def _offer(self, parent: Individual, declared: Sequence[Constant], point: Point) -> Offer:
        source = parent.genome.source
        changed = {c.name: point[c.name] for c in declared if point[c.name] != c.value}
        changes = tuple(
            Change(
                normalised_diff(source, rewrite(source, {c.name: changed[c.name]})),
                f"{c.name} {render(c.value)} -> {render(changed[c.name])}",
                "constant",
            )
            for c in declared
            if c.name in changed
        )
        return Offer(self.name, (parent,), rewrite(source, changed), changes)


def results(parent: Individual, history: History) -> list[Told]:
    """Return what is known about the parent's constants, in order of birth.

    It comes from every individual that declares all of them with the same ranges, whatever its
    structure and its other constants. So that points are compared and not structures, the results
    of another structure are shifted until its median meets the parent's structure's.

    A failure is told as worse than everything that is scored: TPE passes over failed trials, so it
    would go back to where they came from. What still trains is told without a value.
    """
    declared = constants(parent.genome.source)
    sharing: list[tuple[Standing, Point]] = []
    for standing in history.standings.values():
        point = _shared_point(declared, standing.individual)
        if point is not None:
            sharing.append((standing, point))
    shifts = _shifts(parent.structure, [standing for standing, _ in sharing])
    scores = [
        None if s.fitness is None else s.fitness + shifts.get(s.individual.structure, 0.0)
        for s, _ in sharing
    ]
    scored = [score for score in scores if score is not None]
    worse = min(scored, default=0.0) - (max(scored) - min(scored) if scored else 0.0) - 1e-9
    return [
        Told(point, worse if score is None and standing.failures else score)
        for (standing, point), score in zip(sharing, scores, strict=True)
    ]


def _shared_point(declared: Sequence[Constant], other: Individual) -> Point | None:
    """Return the other's values of these constants, None where it declares them otherwise."""
    theirs = {c.name: c for c in constants(other.genome.source)}
    point: Point = {}
    for constant in declared:
        their = theirs.get(constant.name)
        if their is None or not constant.range.shares(their.range):
            return None
        value = constant.range.fit(their.value)
        if value is None or their.value not in constant.range:
            return None
        point[constant.name] = value
    return point


def _shifts(structure: str, sharing: Sequence[Standing]) -> dict[str, float]:
    """Return for each structure what its scores gain so that all have the median of `structure`."""
    groups: dict[str, list[float]] = {}
    for standing in sharing:
        if standing.fitness is not None:
            groups.setdefault(standing.individual.structure, []).append(standing.fitness)
    if structure not in groups:
        return {}
    centre = median(groups[structure])
    return {name: centre - median(scores) for name, scores in groups.items()}


def _model(declared: Sequence[Constant], told: Sequence[Told], rng: np.random.Generator) -> Sampler:
    """Return TPE's draws, given what is known. What it has drawn it avoids from then on."""
    sampler = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)), n_startup_trials=1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {constant.name: distribution(constant.range) for constant in declared}
    for one in told:
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING if one.value is None else TrialState.COMPLETE,
                value=one.value,
                params={c.name: inward(c.range, one.point[c.name]) for c in declared},
                distributions=distributions,
            )
        )

    def sample() -> Point:
        drawn = study.ask(distributions).params
        return {c.name: outward(c.range, drawn[c.name]) for c in declared}

    return sample


def distribution(range_: Range) -> BaseDistribution:
    """Return Optuna's distribution for a range; of ordered choices, that of the position."""
    if isinstance(range_, Choices):
        if range_.ordered:
            return IntDistribution(0, len(range_.values) - 1)
        return CategoricalDistribution(range_.values)
    if range_.integer:
        return IntDistribution(int(range_.low), int(range_.high), log=range_.log)
    return FloatDistribution(range_.low, range_.high, log=range_.log)


def inward(range_: Range, value: Value) -> Value:
    """Return a constant's value as Optuna's distribution knows it."""
    ordered = isinstance(range_, Choices) and range_.ordered
    return range_.values.index(value) if isinstance(range_, Choices) and ordered else value


def outward(range_: Range, drawn: Value) -> Value:
    """Return what Optuna drew as a value of the constant."""
    if isinstance(range_, Choices):
        return range_.values[int(drawn)] if range_.ordered else drawn
    fitted = range_.fit(drawn)
    return drawn if fitted is None else fitted


def _steps(declared: Sequence[Constant], rng: np.random.Generator) -> Sampler:
    """Return steps that move one to three constants nearby and keep the others."""

    def sample() -> Point:
        point = {constant.name: constant.value for constant in declared}
        count = int(rng.integers(1, min(MOST_STEPS, len(declared)) + 1))
        for index in rng.choice(len(declared), size=count, replace=False):
            constant = declared[int(index)]
            point[constant.name] = constant.range.near(constant.value, rng)
        return point

    return sample
