"""What is evolved, how long it trains and how it is scored: the content of a task folder."""

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path


def digest(*locked: str) -> str:
    """Return the hex digest of locked files' texts."""
    return hashlib.sha256("\0".join(locked).encode()).hexdigest()


class Direction(StrEnum):
    """Whether a smaller or a larger metric is fitter."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def fitness(self, value: float) -> float:
        """Return the metric as a fitness: larger is always better. The only place that knows."""
        return -value if self is Direction.MINIMIZE else value


class BudgetKind(StrEnum):
    """The currency in which a candidate's training is counted."""

    SECONDS = "seconds"
    TOKENS = "tokens"
    STEPS = "steps"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much training one candidate gets.

    Attributes:
        kind: the currency. Scores under `seconds` depend on the machine, others on its kind
            alone, which rounds in its own way.
        amount: seconds, tokens or steps.
        room_s: seconds between the bell and the last moment at which the tensors may arrive.
            Under `seconds` the room lies inside the budget.
        wall_limit_s: seconds of wall clock after which training is ended whatever the currency.
        rung: how much newcomers of a search train first, below `amount`; None: all of it at once.
    """

    kind: BudgetKind = BudgetKind.SECONDS
    amount: float = 10.0
    room_s: float = 0.3
    wall_limit_s: float = 120.0
    rung: float | None = None

    @property
    def short(self) -> "Budget":
        """The budget of a training at the rung. Raises ValueError where there is none."""
        if self.rung is None:
            raise ValueError(f"a budget of {self.amount:g} {self.kind} has no rung")
        return replace(self, amount=self.rung, rung=None)

    @property
    def whole(self) -> "Budget":
        """The budget of a training in full."""
        return replace(self, rung=None)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate process tree may use; every limit ends in its death.

    `memory_bytes` and `disk_bytes` (what lies in its directory) hold for the tree as a whole,
    `file_bytes` for one file.
    """

    memory_bytes: int = 4 << 30
    disk_bytes: int = 1 << 30
    startup_s: float = 60.0
    scoring_s: float = 120.0
    processes: int = 64
    file_bytes: int = 256 << 20
    log_bytes: int = 4 << 20
    source_bytes: int = 128 << 10


PLACEHOLDERS = ("python", "evaluator", "workdir", "shard", "seed")
"""What is filled in for a name in braces in the command of a `command` task."""


class EvaluatorKind(StrEnum):
    """How a candidate becomes a number."""

    MODEL = "model"
    """Hands in an exported graph; batches, metric and probes come from the task's module."""
    COMMAND = "command"
    """The artifact runs, then a locked command scores what it left, in a process of its own."""
    RECORDED = "recorded"
    """Nothing runs here: a person or a system finds out what a program is worth and records it."""
    REPORTED = "reported"
    """The artifact runs and prints its own score: nobody confirms it, and all who read are told."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task folder, read and validated; `evolve/config.py` builds it from `task.toml`.

    Attributes:
        root: the folder.
        artifact: file name under which a candidate's source lies in its directory.
        metric: name of the number, for people.
        evaluator: the locked file. evaluator_source: its text, read once: what happens to the file
            afterwards has no influence. Its hash is part of every run.
        helpers: names and texts of the files that the evaluator imports, locked with it.
        command: for `command` tasks, the scorer's argument list with PLACEHOLDERS filled in; the
            last line that it prints is a JSON object with `value`.
        shards: names of the validation shards for selection, confirmation and exam.
        contract: what a program must do, in words: told to language models; None: nothing.
        data: the data source by name or path, as the evaluator understands it; of a `reported`
            task the path of what its programs read; None: no data.
        device: where candidates train: `cpu`, `cuda` (ROCm, too) or `mps`.
        scale: which table of `task.toml` is in force, `cpu` or `gpu`; told to the evaluator.
        cores: processor cores per candidate. gpus: devices per candidate, 0 on a CPU machine.
    """

    name: str
    root: Path
    artifact: str
    metric: str
    direction: Direction
    kind: EvaluatorKind
    evaluator: Path
    program: Path
    seeds: tuple[Path, ...]
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    command: tuple[str, ...] = ()
    shards: tuple[str, str, str] = ("selection", "confirmation", "exam")
    contract: Path | None = None
    data: str | None = None
    device: str = "cpu"
    scale: str = "cpu"
    cores: int = 1
    gpus: float = 0.0
    evaluator_source: str = field(default="", repr=False)
    helpers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def trains(self) -> bool:
        """Whether its programs run and are scored by us, under a budget and limits."""
        return self.kind is not EvaluatorKind.RECORDED

    @property
    def self_reported(self) -> bool:
        """Whether a score is what its program said of itself."""
        return self.kind is EvaluatorKind.REPORTED

    @property
    def evaluator_sha256(self) -> str:
        """Hex digest of the evaluator's text, and of what it builds on."""
        return digest(self.evaluator_source, *(text for _, text in self.helpers))
