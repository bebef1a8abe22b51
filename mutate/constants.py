"""The numeric operator: constants of a program, by one of several samplers.

One to three constants of the parent move a little. As soon as there are some results, a model of
them chooses among many such steps: local search is quick and stalls, and a model that may go
anywhere is slow; a model that chooses the steps of a local search is neither.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

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
from mutate.cma import cma_es
from mutate.genome import Constant, constants, render, rewrite
from mutate.novelty import Offer, checked, first_accepted, normalised_diff, refused
from mutate.ranges import STEP, Choices, Range, Value
from mutate.thompson import ranked
from mutate.told import Point, Told, results
from population.history import History
from population.individual import Change, Individual
from population.ports import Proposal

optuna.logging.set_verbosity(optuna.logging.ERROR)

ENOUGH_RESULTS = 4
"""Scored results that share the constants, from which on a model chooses among steps."""
CANDIDATES = 100
"""Steps that it chooses among: with more it finds what it is wrong about, with fewer nothing."""
CHOSEN_STEP = 0.1
"""Deviation of those steps, shorter than blind ones: what is to be foretold has to be near."""
MOST_STEPS = 3
STARTUP = 10
"""Random draws before TPE has a model, as in Optuna."""
TRIES = 20


@dataclass(frozen=True, slots=True)
class Question:
    """What a sampler is asked.

    Attributes:
        parent: the values to start from. structure: that they are for.
        told: what is known of such points. own: the operator.
    """

    declared: tuple[Constant, ...]
    parent: Point
    told: list[Told]
    own: str
    structure: str = ""


Draws = tuple[str, Iterator[Point]]
"""The sampler's name for what it does, and points, the most promising first."""
Sampler = Callable[[Question, np.random.Generator], Draws]


class ConstantsMutation:
    """Changes the constants that the parent declares; see the Variation port.

    Args:
        checks: the task's.
        sampler: chooses the values. name: of the operator.
    """

    arity = 1
    slow = False

    def __init__(self, checks: Checks, sampler: Sampler | None = None, name: str = "constants"):
        self._checks = checks
        self._sampler = sampler or chosen_step
        self.name = name

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return the parent with other constants."""
        (parent,) = parents
        declared = constants(parent.genome.source) if self._checks.python else ()
        if not declared:
            return refused(self.name, parents, "the program declares no tunable constants")
        values = {c.name: c.value for c in declared}
        told = results(parent, history)
        question = Question(declared, values, told, self.name, parent.structure)
        what, points = self._sampler(question, rng)
        offers = (self._offer(parent, declared, point) for point in islice(points, TRIES))
        return first_accepted(what, (checked(offer, self._checks, history) for offer in offers))

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


def chosen_step(question: Question, rng: np.random.Generator) -> Draws:
    """Move one to three constants of the parent a little; which, a model of the results chooses.

    Where all such steps are known, as in a small space, it chooses among points from anywhere.
    """
    scored = sum(one.value is not None and not one.failed for one in question.told)
    if scored < ENOUGH_RESULTS:
        return step(question, rng)
    steps = _steps(question.declared, question.parent, rng, CHOSEN_STEP)
    candidates = list(islice(steps, CANDIDATES))
    if _all_known(candidates, question):
        candidates = list(islice(uniform(question, rng)[1], CANDIDATES))
    told, own = question.told, question.structure
    return "model", ranked(candidates, question.declared, told, rng, own)


def _all_known(candidates: Sequence[Point], question: Question) -> bool:
    own = [one for one in question.told if one.structure == question.structure]
    known = {tuple(one.point.values()) for one in own}
    return all(tuple(point.values()) in known for point in candidates)


def step(question: Question, rng: np.random.Generator) -> Draws:
    """Move one to three constants of the parent a little."""
    return "step", _steps(question.declared, question.parent, rng)


def uniform(question: Question, rng: np.random.Generator) -> Draws:
    """Draw every constant from its whole range: a control."""
    return "random", _asked(optuna.samplers.RandomSampler(seed=_seed(rng)), question, ())


def tpe(question: Question, rng: np.random.Generator) -> Draws:
    """Draw as Optuna's TPE does with its own defaults: a control.

    Failures are told as bad results: TPE passes over failed trials and goes back to them.
    """
    sampler = optuna.samplers.TPESampler(seed=_seed(rng), n_startup_trials=STARTUP)
    return "tpe", _asked(sampler, question, question.told)


def cma(question: Question, rng: np.random.Generator) -> Draws:
    """Draw from CMA-ES: a control."""
    return "cma-es", cma_es(question.declared, question.parent, question.told, question.own, rng)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _asked(
    sampler: optuna.samplers.BaseSampler, question: Question, told: Sequence[Told]
) -> Iterator[Point]:
    """Yield an Optuna sampler's draws, given what is known. What it has drawn it then avoids."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    declared = question.declared
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
    while True:
        drawn = study.ask(distributions).params
        yield {c.name: outward(c.range, drawn[c.name]) for c in declared}


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


def _steps(
    declared: Sequence[Constant],
    parent: Point,
    rng: np.random.Generator,
    deviation: float = STEP,
) -> Iterator[Point]:
    """Yield steps that move one to three constants nearby and keep the others."""
    while True:
        point = dict(parent)
        count = int(rng.integers(1, min(MOST_STEPS, len(declared)) + 1))
        for index in rng.choice(len(declared), size=count, replace=False):
            constant = declared[int(index)]
            point[constant.name] = constant.range.near(constant.value, rng, deviation)
        yield point
