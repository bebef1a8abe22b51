"""What the evaluation forward may not do is refused at once, with its line and the remedy."""

import importlib.util

import pytest

from population.individual import Failed, Stage
from tests.evaluate.conftest import Trial, program

MODEL = """
import torch
from torch import nn
import torch.nn.functional as F
{imports}

class Model(nn.Module):
    def __init__(self, vocab, width=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        {step}  # the line in question
        return self.head(x)
"""

FLEX = """
from torch.nn.attention.flex_attention import flex_attention
"""

CUSTOM = """
@torch.library.custom_op("mine::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x

@twice.register_fake
def _(x):
    return torch.empty_like(x)
"""

PLAIN = "plain tensor operations"
OTHERS = "other tensor operations"
REFUSED = {
    "a Python branch on tensor values": ("", "x = x if x.sum() > 0 else -x", PLAIN),
    "a loop as long as a tensor says": ("", "x = sum(x for _ in range(tokens.max()))", PLAIN),
    "a number of numpy": ("", "x = x * float(x.detach().numpy().mean())", PLAIN),
    "a random number": ("", "x = x + torch.rand_like(x)", OTHERS),
    "a random generator": ("", "x = x + torch.randn(16)", OTHERS),
    "a permutation drawn anew": ("", "x = x[..., torch.randperm(16)]", OTHERS),
    "dropout that never rests": ("", "x = F.dropout(x, 0.1)", "pass training=self.training"),
    "attention that never rests": (
        "", "x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.1, is_causal=True)",
        "unless self.training",
    ),
    "a branch that travels as a subgraph": (
        "", "x = torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))", OTHERS,
    ),
    "an operator of its own": (CUSTOM, "x = twice(x)", OTHERS),
    "a view of raw storage": ("", "x = x + torch.as_strided(x, x.shape, (0, 0, 1))", OTHERS),
    "statistics of the batch": (
        "", "x = F.batch_norm(x.mT, torch.zeros(16), torch.ones(16), training=True).mT",
        "pass training=self.training",
    ),
}  # fmt: skip
if importlib.util.find_spec("torch.nn.attention.flex_attention"):
    step = "x = flex_attention(*3 * [x.unsqueeze(1)]).squeeze(1)"
    REFUSED["flex attention"] = (FLEX, step, "attention with scaled_dot_product_attention")


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_line_and_the_remedy(name: str, trial: Trial) -> None:
    imports, step, remedy = REFUSED[name]
    source = program(model=MODEL.format(imports=imports, step=step))
    line = next(
        n for n, text in enumerate(source.splitlines(), 1) if "the line in question" in text
    )
    outcome = trial(source).outcome
    assert isinstance(outcome, Failed), outcome
    assert (outcome.stage, outcome.reason) == (Stage.HANDIN, "refused"), outcome
    assert f"train.py:{line}" in outcome.detail, outcome.detail
    assert remedy in outcome.detail, outcome.detail
