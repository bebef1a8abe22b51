"""What language models are expected to cost, told before the first call, and the dry run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluate.device import device_name
from evolve.breeding import CLAUDE_CODE, Breeders, breeders, models_of
from evolve.briefing import brief_of, place_of
from evolve.composition import founders, local_slots
from evolve.config import RunConfig
from evolve.controls import CONTROLS
from evolve.taskdata import cache_folder, prepared_before
from evolve.taskfile import load_llm
from mutate import prompt
from mutate.desk import least_answer, most_of
from mutate.llm import Question
from mutate.models import Model
from mutate.prompt import Intent
from mutate.spending import Purse, Spent
from mutate.text import tokens_of
from population.errors import RunError
from population.history import History, Program, Standing
from population.individual import Individual
from population.rungs import LET_THROUGH
from population.task import BudgetKind, Task

BESIDE_S = {"cpu": 3.0, "gpu": 50.0}
"""Of an evaluation beside its budget: start, hand-in, score. By scale; a GPU's by an H200's."""
COMPILED_S = {"cpu": 0.0, "gpu": 90.0}
"""What compiling adds where nothing of the kind is kept; an H200's founders took 57 to 123."""
LLM_SHARE = 0.75
"""Of the proposals, as the portfolio begins."""
RESIZED_SHARE = 0.3
"""Of the children by constants: another size, so that they compile; 17 to 37% in simulated runs."""
MEMORY_TOKENS = 2_500
"""What the memory of a running search adds to the first prompt, at most about that."""
ANSWER_TOKENS = 3_000
"""A change with the thinking before it; a guess until the run's own calls are known."""
CACHED_SHARE = 0.6
"""Of the input of a model whose server caches; a guess, too."""
CALLS_PER_PROPOSAL = 1.2
"""With repair turns."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected use: tokens per call, calls per hour (None where unknown), USD per call."""

    tokens_in: int
    calls_per_h: float | None
    usd_per_call: float

    def __str__(self) -> str:
        tokens = f"{self.tokens_in:,} tokens in, about {ANSWER_TOKENS:,} out"
        if not self.usd_per_call:
            often = "" if self.calls_per_h is None else f"{self.calls_per_h:.0f} an hour, "
            return f"expected: calls without a known price ({often}{tokens}); --models gives one"
        call = f"{self.usd_per_call:.4f} USD a call ({tokens})"
        if self.calls_per_h is None:
            return f"expected: {call}"
        hourly = self.calls_per_h * self.usd_per_call
        return f"expected: {hourly:.2f} USD an hour, {self.calls_per_h:.0f} calls of {call}"


def estimate(
    models: Sequence[Model], question: Question, task: Task, slots: int, counted: int | None = None
) -> Estimate:
    """Return what proposals by these models will cost.

    Args:
        models: with their weights.
        question: the first one, before anything is remembered.
        task: for its budget.
        slots: candidates at once.
        counted: tokens of the question as the server counts them, None: estimated.
    """
    tokens_in = (counted or tokens_of(question.text)) + MEMORY_TOKENS
    weights = sum(model.weight for model in models)
    usd = sum(model.weight * _call_usd(model, tokens_in) for model in models) / weights
    seconds = newcomer_s(task, asks=True)
    per_h = None if seconds is None else 3600 / seconds * slots
    calls = None if per_h is None else per_h * LLM_SHARE * CALLS_PER_PROPOSAL
    return Estimate(tokens_in, calls, usd)


def newcomer_s(task: Task, *, asks: bool) -> float | None:
    """Return the device seconds of a newcomer, None where the budget is not in seconds or none.

    At a rung all have a short training, and those whom it lets through a whole one.

    Args:
        task: what is trained.
        asks: whether language models are asked, whose programs compile anew.
    """
    if task.budget.kind is not BudgetKind.SECONDS or not task.trains:
        return None
    compiling = RESIZED_SHARE + asks * LLM_SHARE * (1 - RESIZED_SHARE)
    beside = BESIDE_S[task.scale] + compiling * COMPILED_S[task.scale]
    whole = task.budget.amount + beside
    return whole if task.budget.rung is None else task.budget.rung + beside + LET_THROUGH * whole


def _call_usd(model: Model, tokens_in: int) -> float:
    cached = int(tokens_in * CACHED_SHARE) if model.caching else 0
    return model.cost_usd(tokens_in - cached, 0, cached, ANSWER_TOKENS)


def first_question(config: RunConfig, task: Task, alive: Sequence[Individual]) -> Question:
    """Return the question with which an unscored run of these founders would begin."""
    model = models_of(config.breeding)[0]
    kind = "of the cluster" if config.address else device_name(task.device)
    data = prepared_before(task, cache_folder(config.cache))
    brief = brief_of(task, place_of(task, data, kind))
    longest = max(alive, key=lambda one: len(one.genome.source))
    standings = {one.id: Standing(one, None, float("inf"), 0, 0, 0) for one in alive}
    program = Program(task.program.read_text(encoding="utf-8"))
    history = History(standings, (longest.id,), {}, 0.0, program=program)
    rng = np.random.default_rng(config.seed)
    turn = prompt.opening(Intent.EXPLORE, [longest], history, brief, rng, model)
    system = prompt.system(brief, program.text, model)
    return Question(model, system, (turn,), max_tokens=1, effort=config.breeding.effort or "")


def breeding_lines(
    config: RunConfig, task: Task, bred_by: Breeders, alive: Sequence[Individual], slots: int
) -> str:
    """Return how proposals come about and what they may cost, for the head of a run."""
    names = list(dict.fromkeys(operator.name for operator in bred_by.portfolio.operators))
    lines = [f"search   {config.breeding.search}"]
    if bred_by.purse is None:
        lines.append(f"breeds   by {', '.join(names)}, which need no key")
        return "\n".join([*lines, *_advice(config, task)])
    models = models_of(config.breeding)
    asked = ", ".join(f"{model.name} ({model.weight:g})" for model in models)
    lines.append(f"breeds   by {', '.join(names)}")
    lines.append(f"asks     {asked}")
    coded = (CLAUDE_CODE, f"{CLAUDE_CODE}:")  # tells what an answer cost
    free = [m.name for m in models if not m.output_usd and not m.name.startswith(coded)]
    if free:
        says = "no price is known, so --cost does not bind it, --tokens does"
        lines.append(f"{'':<9}{', '.join(free)}: {says}")
    question = first_question(config, task, alive)
    found = estimate(models, question, task, slots)
    lines += [f"{'':<9}{found}", f"{'':<9}{_cap(bred_by.purse, found, question)}"]
    return "\n".join(lines)


def _cap(purse: Purse, found: Estimate, question: Question) -> str:
    """Return what may be spent and what that is enough for."""
    limit = f"{purse.limit_usd:.2f} USD"
    if purse.limit_tokens is not None:
        limit += f" and {purse.limit_tokens:,} tokens"
    spent = purse.spent.usd
    says = f"at most {limit} in the whole run, {spent:.2f} USD of it spent"
    left = max(purse.limit_usd - spent, 0.0)
    needed = most_of(question, least_answer(question.model)).usd
    if left < needed:
        return (
            f"{says}: too little for a call, which is made where {needed:.4f} USD are left, the "
            "most that it may cost; --cost gives more"
        )
    if not found.usd_per_call:
        return says
    return f"{says}, enough for about {left / found.usd_per_call:.0f} calls"


def _advice(config: RunConfig, task: Task) -> list[str]:
    """Return that the task advises language models and how to ask them, where it does."""
    models = load_llm(task.root).get("models")
    if not models or CONTROLS[config.breeding.search].constants_only:
        return []
    return [
        f"{'':<9}the task recommends {', '.join(models)}: add --llm to ask and pay for it; "
        "without it nothing is spent"
    ]


def dry_run(config: RunConfig) -> str:
    """Return the first prompt, its tokens and the expected cost; asks nobody but for a count.

    Raises:
        RunError: the run asks no language model.
    """
    task = config.load_task()
    bred_by = breeders(config.breeding, task, Spent())
    if bred_by.desk is None:
        raise RunError("--dry-run shows what a language model would be asked: add --llm")
    question = first_question(config, task, founders(task))
    slots = config.slots or local_slots(task)
    counted = next((n for one in bred_by.adapters[:1] if (n := one.count(question))), None)
    how = "as the server counts them" if counted else "estimated from its bytes"
    models = models_of(config.breeding)
    found = estimate(models, question, task, slots, counted)
    return "\n".join(
        [
            question.text,
            "",
            f"{'-' * 72}",
            f"{counted or tokens_of(question.text):,} tokens, {how}; {question.model.name}",
            str(found),
            *([_cap(bred_by.purse, found, question)] if bred_by.purse else []),
            "nothing was asked, spent or trained: leave out --dry-run to begin",
        ]
    )
