"""Builds the operators of a run and the portfolio that chooses among them."""

import importlib.util
import queue
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evolve.briefing import brief_of
from evolve.config import Breeding
from evolve.controls import CONTROLS
from mutate.checks import Checks
from mutate.constants import ConstantsMutation
from mutate.desk import Desk, Gate
from mutate.llm import LLM
from mutate.llm_variation import LlmVariation
from mutate.models import Model, choose_models, load_models
from mutate.portfolio import Arm, Portfolio, Tuner, crossover_share
from mutate.prompt import Brief, Intent
from mutate.recombination import Recombination
from mutate.spending import Purse, Spent
from population.errors import RunError
from population.history import History
from population.newcomers import has_stalled, owed_trials
from population.nursery import LEFTOVERS_S
from population.parents import Mode
from population.ports import INJECT, Variation
from population.task import Task

CLAUDE_CODE = "claude-code"
OWN_SHARE = 0.2
"""Of each operator that the user brings along."""
KEYLESS_BESIDE_LLM = 0.25
"""Of the proposals, beside a language model: numbers are the numeric operator's."""
CROSSOVER_DOSE = 0.3
"""Of `crossover_share`, beside a language model: at most 15%, three parents every fifth time."""
LLM_SHARES = {Intent.EXPLORE: 0.3, Intent.REFINE: 0.25, Intent.SIMPLIFY: 0.08}


class Adapter(LLM, Protocol):
    """An LLM with connections to close."""

    @property
    def unusable(self) -> str:
        """Why no call can succeed, as far as that is known without asking; else empty."""
        ...

    def close(self) -> None:
        """End what is under way."""
        ...


@dataclass
class Breeders:
    """The operators of a run.

    Attributes:
        desk: who asks the language models, None without any. purse: what they may spend.
        notices: what a person should know, in the order in which it happened.
    """

    portfolio: Portfolio
    desk: Desk | None
    purse: Purse | None
    notices: "queue.SimpleQueue[str]"
    adapters: tuple[Adapter, ...] = ()

    def require_usable(self) -> None:
        """Raise RunError where models are to be asked and it is known that none can be."""
        troubles = [adapter.unusable for adapter in self.adapters]
        if troubles and all(troubles):
            raise RunError(f"{troubles[0]}; or leave out --llm, or add --no-llm to go on without")

    def hold(self, paused: bool) -> None:
        """Begin no call of a language model while the run is paused."""
        if self.desk is not None:
            self.desk.hold(paused)

    def ask_no_more(self, awaited: int) -> None:
        """Let the calls under way end, and begin no other.

        Args:
            awaited: how many proposals are being made.
        """
        if self.desk is not None:
            self.desk.close()
            if awaited:
                answers = "an answer that is" if awaited == 1 else f"{awaited} answers that are"
                self.notices.put(f"waiting for {answers} paid for, {LEFTOVERS_S:.0f} s at most")

    def give_up(self) -> None:
        """End what is under way: answers that nobody waits for any more."""
        if self.desk is not None:
            self.desk.close()
        for adapter in self.adapters:
            adapter.close()


def models_of(breeding: Breeding) -> tuple[Model, ...]:
    """Return the models that a run asks; empty where none was asked for.

    Raises:
        RunError: the table of models or a mention is wrong.
    """
    table = None if breeding.table is None else Path(breeding.table)
    return choose_models(breeding.models, load_models(table))


def breeders(breeding: Breeding, task: Task, spent: Spent, place: str = "") -> Breeders:
    """Return the operators of a run: the keyless ones, and where models are named theirs, too.

    Args:
        breeding: how proposals come about.
        task: for checks and prompts.
        spent: by earlier calls of the run.
        place: what prompts tell of where programs run.

    Raises:
        RunError: a model, the table of models or an operator of the user's is wrong.
        TaskError: the contract cannot be read.
    """
    checks = Checks.of(task)
    models = models_of(breeding)
    control = CONTROLS[breeding.search]
    numeric = ConstantsMutation(checks, control.sampler)
    notices: queue.SimpleQueue[str] = queue.SimpleQueue()
    if control.constants_only:
        if models or breeding.operators:
            raise RunError(
                f"--search {breeding.search} varies nothing but constants: leave out --operator "
                "and --llm, or search by evolve, greedy or best-of"
            )
        return Breeders(Portfolio([Arm(numeric, lambda _: 1.0)]), None, None, notices)
    keyless = KEYLESS_BESIDE_LLM if models else 1.0
    crossed = _once_stalled if models else crossover_share
    constants = Arm(numeric, lambda history: keyless * (1.0 - crossed(history)))
    recombination = Arm(Recombination(checks), lambda history: keyless * crossed(history))
    tuner = Tuner(numeric, owed_trials) if control.mode is Mode.EVOLVE else None
    if not models:
        own = _own(breeding, checks, [constants, recombination])
        portfolio = Portfolio([constants, recombination, *own], tuner=tuner)
        return Breeders(portfolio, None, None, notices)
    adapters, gates = _adapters(models)
    purse = Purse(breeding.cost_usd, breeding.tokens, spent)
    desk = Desk(models, adapters, purse, notices.put, gates)
    asking = _Asking(desk, checks, brief_of(task, place), breeding.effort or "")
    repair = asking.arm(Intent.REPAIR, 1.0)
    arms = [*asking.arms(), constants, recombination]
    portfolio = Portfolio(
        [*arms, *_own(breeding, checks, [*arms, repair])],
        repair=repair,
        mends=frozenset(Intent) - {Intent.REPAIR},
        tuner=tuner,
    )
    held = tuple({id(adapter): adapter for adapter in adapters.values()}.values())
    return Breeders(portfolio, desk, purse, notices, held)


def _once_stalled(history: History) -> float:
    """Return the share of crossover beside a model: none while the search climbs without it."""
    return crossover_share(history) if has_stalled(history) else 0.0


@dataclass(frozen=True, slots=True)
class _Asking:
    """What every operator that asks a language model is made of."""

    desk: Desk
    checks: Checks
    brief: Brief
    effort: str

    def arms(self) -> list[Arm]:
        """Return the mutations and crossovers."""
        mutations = [self.arm(intent, share) for intent, share in LLM_SHARES.items()]
        return [*mutations, self._crossover(2, 0.8), self._crossover(3, 0.2)]

    def arm(self, intent: Intent, share: float) -> Arm:
        """Return a mutation with a fixed share."""
        return Arm(self._variation(intent, 1), lambda _: share, lambda: self.desk.ready)

    def _crossover(self, arity: int, part: float) -> Arm:
        def share(history: History) -> float:
            few = len(history.survivors) < arity
            return 0.0 if few else part * CROSSOVER_DOSE * _once_stalled(history)

        return Arm(self._variation(Intent.CROSSOVER, arity), share, lambda: self.desk.ready)

    def _variation(self, intent: Intent, arity: int) -> LlmVariation:
        return LlmVariation(intent, self.desk, self.checks, self.brief, arity, self.effort)


def _adapters(models: Sequence[Model]) -> tuple[dict[str, Adapter], dict[str, Gate]]:
    """Return who asks each model, and the gate before them, by the model's name."""
    adapters: dict[str, Adapter] = {}
    gates: dict[str, Gate] = {}
    for code in (False, True):
        own = [model for model in models if (model.name.split(":")[0] == CLAUDE_CODE) is code]
        if own:
            gate = Gate(max(model.at_once for model in own))
            adapter = _claude_code() if code else _claude(gate)
            adapters |= {model.name: adapter for model in own}
            gates |= {model.name: gate for model in own}
    return adapters, gates


def _claude(gate: Gate) -> Adapter:
    from mutate.claude import Claude  # takes a second

    return Claude(on_busy=lambda _status, _retry_after_s: gate.narrow())


def _claude_code() -> Adapter:
    from mutate.claude_code import ClaudeCode

    return ClaudeCode()


def _own(breeding: Breeding, checks: Checks, beside: Sequence[Arm]) -> list[Arm]:
    """Return the user's operators; each has a name that none beside it has: it is counted by it."""
    taken = {"founder", INJECT, *(arm.variation.name for arm in beside)}
    arms = []
    for mention in breeding.operators:
        operator = _loaded(mention, checks)
        if operator.name in taken:
            raise RunError(
                f"--operator {mention} is named {operator.name!r}, as another one is: give it "
                "another name"
            )
        taken.add(operator.name)
        arms.append(Arm(operator, lambda _: OWN_SHARE))
    return arms


def _loaded(mention: str, checks: Checks) -> Variation:
    """Return an operator of the user's: `FILE.py:CLASS`, made with the task's checks.

    Raises:
        RunError: the file or class is missing, or what it makes is no operator.
    """
    path, _, name = mention.rpartition(":")
    spec = importlib.util.spec_from_file_location(f"operator_{name}", path) if path else None
    if spec is None or spec.loader is None:
        raise RunError(f"--operator must be FILE.py:CLASS; got {mention!r}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, name)(checks)
    except Exception as error:
        raise RunError(
            f"--operator {mention} cannot be loaded ({type(error).__name__}: {error}); it must "
            "name a class that is made from the task's checks"
        ) from error
    missing = [part for part in ("name", "arity", "slow", "propose") if not hasattr(made, part)]
    if missing:
        raise RunError(f"--operator {mention} lacks {', '.join(missing)}: see the Variation port")
    operator: Variation = made
    return operator
