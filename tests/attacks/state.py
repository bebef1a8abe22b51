"""A forward that remembers: the answers that it peeked come back when the probes ask again.

A model that can keep them scores 2.1 bits per byte without any training, and no probe sees it.
"""

from tests.attacks.attack import FUTURE, HONEST, Attack, forward

CALLS = "self.register_buffer('calls', torch.zeros(1))"
REFUSED = "scoring refused"


def counted(change: str) -> str:
    """Return a program that counts its calls in a buffer."""
    return forward(f"{change}\nreturn self.head(x + self.calls)", CALLS)


SLOTS = 1 << 14
MEMORY = f"self.register_buffer('memory', torch.full(({SLOTS}, 128), -1.0))"


def remembering(write: str, setup: str = MEMORY) -> str:
    """Return a program that names the next token, keeps what it named, and repeats it.

    A row is known again by its first 32 tokens, in which nothing is peeked; so no cut behind
    them changes anything that is said before it.
    """
    return forward(
        f"""
key = (tokens[:, :32] * ((31 ** torch.arange(32)) % 16381)).sum(1) % {SLOTS}
stored = self.memory.view({SLOTS}, 128)[key]
answer = torch.where(stored < 0, {FUTURE}.float(), stored)
{write}
true = 30 * F.one_hot(answer.long(), 256).float()
late = (torch.arange(T) >= 32)[None, :, None]
return torch.where(late, true, self.head(x))
""",
        setup,
    )


STATISTICS = f"""
new = self.memory.view({SLOTS}, 128).index_copy(0, key, answer).view(1, -1).expand(2, -1)
torch.ops.aten.batch_norm.default(new, None, None, self.memory, self.other, True, 1.0, 1e-5, False)
"""

ATTACKS = {
    "a count of calls": Attack(counted("self.calls.add_(1)"), REFUSED),
    "a count of calls through a view": Attack(counted("self.calls.view(1, 1).add_(1)"), REFUSED),
    "a count of calls through detach": Attack(counted("self.calls.detach().add_(1)"), REFUSED),
    "a count of calls through a slice": Attack(counted("self.calls[:1] += 1"), REFUSED),
    "a count of calls through a copy into it": Attack(
        counted("self.calls.copy_(self.calls + 1)"), REFUSED
    ),
    "a count of calls through another type": Attack(
        counted("self.calls.view(torch.int32).add_(1)"), REFUSED
    ),
    "a count of calls through data": Attack(
        counted("self.calls.data.add_(1)"), (REFUSED, "handin refused", HONEST), within=0.1
    ),
    "a count of calls through an output": Attack(
        counted("torch.add(self.calls, 1, out=self.calls)"), (REFUSED, "handin refused")
    ),
    "a count of calls through an output with a name of its own": Attack(
        counted(
            "torch.ops.aten.max.dim_max((self.calls + 1).view(1, 1), 0, max=self.calls, "
            "max_values=torch.zeros(1, dtype=torch.int64))"
        ),
        (REFUSED, "handin refused"),
    ),
    "a weight that is trained while it is scored": Attack(
        forward(
            "self.head.weight.detach().mul_(1.01)\nself.head.bias.add_(0.01)\nreturn self.head(x)"
        ),
        REFUSED,
    ),
    "answers kept in a buffer": Attack(
        remembering("self.memory.index_copy_(0, key, answer)"), REFUSED
    ),
    "answers kept through an unsafe view": Attack(
        remembering(
            f"torch.ops.aten._unsafe_view.default(self.memory, [{SLOTS}, 128])"
            ".index_copy_(0, key, answer)"
        ),
        REFUSED,
    ),
    "answers kept through an unsafe chunk": Attack(
        remembering("torch.unsafe_chunk(self.memory, 1)[0].index_copy_(0, key, answer)"),
        REFUSED,
    ),
    "answers kept through an unsafe split": Attack(
        remembering(f"torch.unsafe_split(self.memory, {SLOTS})[0].index_copy_(0, key, answer)"),
        REFUSED,
    ),
    "answers kept as running statistics": Attack(
        remembering(
            STATISTICS,
            f"self.register_buffer('memory', torch.full(({SLOTS * 128},), -1.0))\n"
            f"self.register_buffer('other', torch.zeros({SLOTS * 128}))",
        ),
        ("handin refused", REFUSED),
    ),
    "dropout": Attack(
        forward("return self.head(torch.ops.aten.dropout.default(x, 0.5, True))"),
        ("handin refused", "scoring not_repeatable", REFUSED),
    ),
    "dropout in attention": Attack(
        forward(
            "q = x[:, None]\nreturn self.head(F.scaled_dot_product_attention("
            "q, q, q, dropout_p=0.5, is_causal=True)[:, 0])"
        ),
        ("handin refused", "scoring not_repeatable", REFUSED),
    ),
    "random numbers": Attack(forward("return self.head(x * torch.rand(1))"), "handin refused"),
    "a random choice of neighbours": Attack(
        forward("return self.head(x[torch.randperm(E)])"), "handin refused"
    ),
    "memory that nobody has written": Attack(
        forward("return self.head(x + torch.empty(E, T, 16))"), ("handin refused", HONEST)
    ),
    "memory that nobody has written, of a like shape": Attack(
        forward("return self.head(x + torch.empty_like(x))"), ("handin refused", HONEST)
    ),
}
