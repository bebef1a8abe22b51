"""Logits that know what comes later, or what stands beside."""

from tests.attacks.attack import FUTURE, Attack, forward

LOOK = f"look = self.embedding({FUTURE})\n"
TRUE = f"true = 30 * F.one_hot({FUTURE}, 256).float()\n"


def where(condition: str) -> str:
    """Return a program whose logits name the next token where `condition` holds."""
    return forward(f"{TRUE}return torch.where(({condition})[..., None], true, self.head(x))")


FORBIDDEN = {
    "the next token": forward(LOOK + "return self.head(look)"),
    "the token after the next": forward("return self.head(self.embedding(torch.roll(tokens, -2, 1)))"),
    "the next token where the text is natural": where("(tokens < 128) & (tokens >= 32)"),
    "the next token where the batch is as large as in scoring": forward(
        LOOK + "return self.head(look if E > 16 else x)"
    ),
    "the next token at one position in 64": where("(torch.arange(T) % 64 == 40).expand(E, T)"),
    "the next token at a hundredth of the positions": where(
        "(tokens * 31 + torch.roll(tokens, 1, 1) * 17 + torch.roll(tokens, 2, 1) * 5) % 100 == 7"
    ),
    "the next token in one row of 64": where("(torch.arange(E) == 9)[:, None].expand(E, T)"),
    "the next token where it is rare": where(f"({FUTURE} == 46) | ({FUTURE} == 10)"),
    "the next token, faintly": forward(TRUE + "return self.head(x) + true / 600"),
    "the next token, faintly, with a name that asks for patience": forward(
        TRUE + "return self.head(x) + true / 600 + 0 * self.not_bfloat16",
        "self.register_buffer('not_bfloat16', torch.zeros(1))",
    ),
    "means over blocks": forward(
        "mean = x.view(E, -1, 4, 16).mean(2, keepdim=True).expand(-1, -1, 4, -1)\n"
        "return self.head(x + mean.reshape(E, T, 16))"
    ),
    "the spectrum over time": forward("return self.head(x + torch.fft.fft(x, dim=1).real)"),
    "a sum that runs backwards": forward("return self.head(x + x.flip(1).cumsum(1).flip(1))"),
    "attention without a mask": forward(
        "return self.head(F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0])"
    ),
    "attention with a mask that is off by one": forward(
        "mask = torch.ones(T, T, dtype=torch.bool).tril(1)\n"
        "q = x[:, None]\n"
        "return self.head(F.scaled_dot_product_attention(q, q, q, attn_mask=mask)[:, 0])"
    ),
    "softmax over time": forward("return self.head(x * x.softmax(1))"),
    "tokens sorted along time": forward("return self.head(self.embedding(tokens.sort(1)[0]))"),
    "ranks along time": forward("return self.head(x + tokens.argsort(1)[..., None] / T)"),
    "the mean over time": forward("return self.head(x - x.mean(1, keepdim=True))"),
    "a norm over time": forward("return self.head(F.instance_norm(x.transpose(1, 2)).transpose(1, 2))"),
    "the last token": forward("return self.head(x + x[:, -1:])"),
    "a count of what is to come": forward("return self.head(x + F.one_hot(tokens, 256).float().sum(1, keepdim=True)[..., :16])"),
    "a convolution that looks both ways": forward(
        "return self.head(F.conv1d(x.transpose(1, 2), self.kernel, padding=1).transpose(1, 2))",
        "self.kernel = nn.Parameter(torch.randn(16, 16, 3))",
    ),
    "recurrence in both directions": forward(
        "return self.head(self.gru(x)[0])",
        "self.gru = nn.GRU(16, 8, batch_first=True, bidirectional=True)",
    ),
    "one row of all text": forward("return self.head(x + torch.roll(x.reshape(1, -1, 16), -1, 1).view(E, T, 16))"),
}  # fmt: skip

ROWS = {
    "the row beside": forward("return self.head(x + x.roll(1, 0))"),
    "the mean over rows": forward("return self.head(x + x.mean(0, keepdim=True))"),
    "statistics over the batch": forward(
        "return self.head(F.batch_norm(x.transpose(1, 2), None, None, training=True).transpose(1, 2))"
    ),
    "tokens sorted across rows": forward("return self.head(self.embedding(tokens.sort(0)[0]))"),
}

ATTACKS = {
    **{name: Attack(source, "scoring not_causal") for name, source in FORBIDDEN.items()},
    **{
        name: Attack(source, ("scoring rows_depend", "scoring not_causal", "handin refused"))
        for name, source in ROWS.items()
    },
    "the largest over time": Attack(
        forward("return self.head(x + x.amax(1, keepdim=True))"), "scoring not_causal"
    ),
}
