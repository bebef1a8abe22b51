"""Numeric constants by Optuna: a model of all results that share them, and steps nearby.

Local search is quick and stalls, model-based search is slow and goes on. So with few results,
and now and then later, one to three constants of the parent move a little; else TPE proposes.
"""

import math
import warnings
from collections.abc import Sequence

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
from mutate.genome import Constant, Value, constants, render, rewrite, rounded
from mutate.novelty import Offer, checked, normalised_diff, refused
from population.individual import Change, Individual
from population.ports import History, Proposal, Standing

optuna.logging.set_verbosity(optuna.logging.ERROR)

LOCAL_RESULTS = 8
"""Results that share the constants below which TPE is not asked: it would sample at random."""
LOCAL_SHARE = 0.4
LOCAL_STEP = 0.15
TRIES = 20


class ConstantsMutation:
    """Changes the constants that the parent declares; see the Variation port."""

    name = "constants"
    arity = 1

    def __init__(self, checks: Checks) -> None:
        self._checks = checks

    def propose(
        self, parents: Sequence[Individual], history: History, rng: np.random.Generator
    ) -> Proposal:
        """Return the parent with other constants, by TPE or by a step nearby."""
        (parent,) = parents
        source = parent.genome.source
        declared = constants(source) if self._checks.python else ()
        if not declared:
            return refused(self.name, parents, "the program declares no tunable constants")
        informative = _sharing(declared, history)
        local = len(informative) < LOCAL_RESULTS or rng.random() < LOCAL_SHARE
        study = None if local else _study(declared, informative, rng)
        for _ in range(TRIES):
            point = _ask(study, declared) if study else _step(declared, rng)
            changed = {
                c.name: value
                for c in declared
                if (value := point[c.name]) != c.value or type(value) is not type(c.value)
            }
            offer = self._offer(parent, declared, changed)
            proposal = checked(offer, self._checks, history)
            if proposal.genome is not None:
                return proposal
        return proposal

    def _offer(
        self, parent: Individual, declared: Sequence[Constant], changed: dict[str, Value]
    ) -> Offer:
        source = parent.genome.source
        changes = []
        for constant in declared:
            if constant.name in changed:
                value = changed[constant.name]
                diff = normalised_diff(source, rewrite(source, {constant.name: value}))
                text = f"{constant.name} {render(constant.value)} -> {render(value)}"
                changes.append(Change(diff, text, "constant"))
        return Offer(self.name, (parent,), rewrite(source, changed), tuple(changes))


def _sharing(declared: Sequence[Constant], history: History) -> list[tuple[Standing, int]]:
    """Return the individuals that declare these constants with these ranges, with evaluations."""
    found = []
    for standing in history.standings.values():
        theirs = {c.domain: c.value for c in constants(standing.individual.genome.source)}
        if all(c.domain in theirs and c.holds(theirs[c.domain]) for c in declared):
            found.append((standing, standing.evaluations))
    return found


def _study(
    declared: Sequence[Constant],
    informative: list[tuple[Standing, int]],
    rng: np.random.Generator,
) -> optuna.Study:
    """Return an in-memory study that knows every result which shares the constants.

    A failure is told as the worst value seen: TPE passes over failed trials, so it would go back
    to where they came from. What still trains is told as running, so that it is not asked again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=int(rng.integers(2**31)), n_startup_trials=LOCAL_RESULTS, multivariate=True,
            constant_liar=True,
        )  # fmt: skip
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {constant.name: distribution(constant) for constant in declared}
    scored = [s.fitness for s, _ in informative if s.fitness is not None]
    worst = min(scored, default=None)
    for standing, _ in informative:
        found = {c.name: c.value for c in constants(standing.individual.genome.source)}
        value = standing.fitness
        if value is None and standing.failures:
            value = worst
        params = {name: found[name] for name in distributions}
        state = TrialState.RUNNING if value is None else TrialState.COMPLETE
        study.add_trial(
            create_trial(state=state, value=value, params=params, distributions=distributions)
        )
    return study


def distribution(constant: Constant) -> BaseDistribution:
    """Return Optuna's distribution for a constant's range."""
    if constant.kind == "choice":
        return CategoricalDistribution(constant.choices)
    if constant.kind == "int":
        return IntDistribution(int(constant.low), int(constant.high), log=constant.log)
    return FloatDistribution(constant.low, constant.high, log=constant.log)


def _ask(study: optuna.Study, declared: Sequence[Constant]) -> dict[str, Value]:
    trial = study.ask({constant.name: distribution(constant) for constant in declared})
    return {constant.name: _written(constant, trial.params[constant.name]) for constant in declared}


def _step(declared: Sequence[Constant], rng: np.random.Generator) -> dict[str, Value]:
    """Move one to three constants by about a seventh of their range; keep the others."""
    point: dict[str, Value] = {constant.name: constant.value for constant in declared}
    count = min(len(declared), 1 + int(rng.integers(3)))
    for index in rng.choice(len(declared), size=count, replace=False):
        constant = declared[int(index)]
        point[constant.name] = _written(constant, _nearby(constant, rng))
    return point


def _written(constant: Constant, value: Value) -> Value:
    """Return a sampled value as the text will hold it: rounded, but never out of its range."""
    if constant.kind != "float" or isinstance(value, str):
        return value
    return min(max(rounded(value), float(constant.low)), float(constant.high))


def _nearby(constant: Constant, rng: np.random.Generator) -> Value:
    value = constant.value
    if constant.kind == "choice":
        others = [choice for choice in constant.choices if choice != value]
        return others[int(rng.integers(len(others)))] if others else value
    assert not isinstance(value, str)
    low, high = constant.low, constant.high
    into, back = (math.log, math.exp) if constant.log else (float, float)
    moved = into(value) + rng.normal(0.0, LOCAL_STEP) * (into(high) - into(low))
    found = min(max(back(moved), low), high)
    if constant.kind == "float":
        return float(found)
    whole = round(found)
    if whole == value:
        whole += 1 if found >= value else -1
    return int(min(max(whole, low), high))
