"""What an attack is: a program with one trick, and how its trial ought to end."""

from dataclasses import dataclass, field

from population.task import Budget, BudgetKind, Limits
from tests.evaluate.conftest import program

HONEST = "scores as honest"
FIVE_STEPS = Budget(BudgetKind.STEPS, 5, wall_limit_s=10)
BOUNDS = Limits(startup_s=15, scoring_s=20)
BRIEF = Limits(startup_s=2, scoring_s=20)
FUTURE = "torch.roll(tokens, -1, 1)"


@dataclass(frozen=True, slots=True)
class Attack:
    """A program and the one way in which it may end.

    Attributes:
        source: `@DATA@`, `@PID@` and `@VICTIM@` stand for the prepared data, the harness's process
            and a folder outside the candidate's.
        ends: stage and reason of its failure, or HONEST; several where each is right.
        base: the honest program whose score it must not improve on.
        within: bits per byte by which an honest score may differ from the base's.
        processor_s: work that must be accounted to it.
        says: what its log must hold, as a sign that the trick was tried.
    """

    source: str
    ends: str | tuple[str, ...]
    budget: Budget = FIVE_STEPS
    limits: Limits = BOUNDS
    base: str = field(default_factory=program)
    within: float = 0.0
    processor_s: float = 0.0
    says: str = ""


def forward(body: str, setup: str = "pass") -> str:
    """Return the honest program with another forward where it does not train.

    `x` is the embedded text (E, T, width).
    """
    return program(
        model=f"""
import torch
from torch import nn
import torch.nn.functional as F

class Model(nn.Module):
    def __init__(self, vocab, width=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.head = nn.Linear(width, vocab)
        {_indented(setup)}

    def forward(self, tokens):
        E, T = tokens.shape
        x = self.embedding(tokens)
        if self.training:
            return self.head(x)
        {_indented(body)}
"""
    )


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n        ")


SYSTEM_CALL = """
import ctypes, os
def system_call(*arguments):
    found = ctypes.CDLL(None, use_errno=True).syscall(*arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return found
"""


def denied(action: str) -> Attack:
    """Return an attack that tries one action, which the system must refuse, and ends."""
    tried = f"""
{SYSTEM_CALL}
def action():
    {action.strip().replace(chr(10), chr(10) + "    ")}
try:
    print("got through:", str(action())[:80])
except OSError as error:
    print("held:", error)
"""
    return Attack(tried, "startup no_handin", says="held:")
