"""Logits that are no logits."""

from population.task import Budget, BudgetKind
from tests.attacks.attack import HONEST, Attack, forward

NOT_FINITE = "scoring not_finite"
SHAPE = "scoring wrong_shape"
FLOAT_ERROR = 1e-3

TRAINED_WHILE_SCORED = """
w = self.extra
for _ in range(150):  # stands for steps of descent on text that lies in a buffer
    w = torch.tanh(w @ self.extra)
return self.head(x) + w.sum() * 0.0
"""


def unchecked(body: str) -> str:
    """Return the program with that forward and a client that does not look at what it returns."""
    source, start = forward(body), "run = prepare.start()"
    assert source.count(start) == 1
    return source.replace(start, f"prepare._check_logits = lambda *_: None\n{start}")


ATTACKS = {
    "a forward that trains while it is scored": Attack(
        forward(TRAINED_WHILE_SCORED, "self.extra = nn.Buffer(torch.eye(640) * 0.5)"),
        "scoring forward_limit", Budget(BudgetKind.SECONDS, 3.0, room_s=0.4),
    ),
    "probabilities that sum to a thousand": Attack(
        forward("return self.head(x).log_softmax(-1) + 6.9"), HONEST, within=FLOAT_ERROR
    ),
    "log-probabilities above zero": Attack(
        forward("return self.head(x).log_softmax(-1).abs() * 0 + 50"), HONEST, within=4.0
    ),
    "another constant for every position": Attack(
        forward("return self.head(x) + torch.arange(T)[:, None]"), HONEST, within=FLOAT_ERROR
    ),
    "logits in double precision": Attack(
        forward("return self.head(x).double()"), HONEST, within=FLOAT_ERROR
    ),
    "logits beyond single precision": Attack(
        forward("return self.head(x).double() * 1e300"), NOT_FINITE
    ),
    "logits of 1e30 for every token": Attack(
        forward("return self.head(x) * 0 + 1e30"), (HONEST, NOT_FINITE), within=4.0
    ),
    "odds that are all on a token that never comes": Attack(
        forward("return 50 * F.one_hot(tokens * 0, 256).float()"),
        HONEST,
        within=100.0,
    ),
    "infinity everywhere": Attack(forward("return self.head(x) + float('inf')"), NOT_FINITE),
    "infinity for one token": Attack(
        forward("return self.head(x).index_fill(2, torch.tensor([32]), float('inf'))"), NOT_FINITE
    ),
    "nothing for tokens that do not come": Attack(
        forward("return self.head(x).index_fill(2, torch.tensor([0]), float('-inf'))"), NOT_FINITE
    ),
    "no number in one row": Attack(
        forward("return self.head(x).index_fill(0, torch.tensor([63]), float('nan'))"), NOT_FINITE
    ),
    "no number at the last position": Attack(
        forward("return self.head(x).index_fill(1, torch.tensor([127]), float('nan'))"), NOT_FINITE
    ),
    "no number where it would be wrong": Attack(
        forward(
            "true = torch.roll(tokens, -1, 1)[..., None]\n"
            "logits = self.head(x)\n"
            "return torch.where(logits.gather(2, true) < 0, float('nan'), logits)"
        ),
        NOT_FINITE,
    ),
    "more tokens than there are": Attack(
        unchecked("return F.pad(self.head(x), (0, 1))"), SHAPE
    ),
    "fewer tokens than there are": Attack(unchecked("return self.head(x)[..., :200]"), SHAPE),
    "one position less": Attack(unchecked("return self.head(x)[:, 1:]"), SHAPE),
    "one row": Attack(unchecked("return self.head(x)[:1]"), SHAPE),
    "a shape that would broadcast": Attack(unchecked("return self.head(x)[:, :1]"), SHAPE),
    "complex numbers": Attack(unchecked("return torch.complex(self.head(x), self.head(x))"), SHAPE),
    "whole numbers": Attack(unchecked("return self.head(x).long()"), SHAPE),
    "a loss in place of logits": Attack(
        unchecked("return F.cross_entropy(self.head(x)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()) * 0"),
        SHAPE,
    ),
    "a second output": Attack(
        unchecked("self.last = None\nreturn self.head(x), x"),
        ("scoring refused", "handin refused", "training crash"),
    ),
    "no output": Attack(
        unchecked("return self.head(x) if self.training else None"),
        ("scoring refused", "handin refused"),
    ),
}  # fmt: skip
