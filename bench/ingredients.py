"""What the founders for a GPU are made of, and how each part is taken out: `bench.gpu --without`.

An ingredient is a list of edits: a text, and what stands in a founder instead of it. A founder has
the ingredients of which it holds a text. What remains trains, exports and is scored as before.
"""

from collections.abc import Mapping

Edits = tuple[tuple[str, str], ...]

INGREDIENTS: Mapping[str, Edits] = {
    "rotary": (
        ("rotate(norm(each), self.cos, self.sin)", "(QK_SCALE * norm(each))"),
        ("rotate(norm(y), self.cos, self.sin)", "norm(y)"),
    ),
    "qk-norm": (
        ("rotate(norm(each),", "rotate(each,"),
        ("QK_SCALE * cos", "cos"),
        ("QK_SCALE * sin", "sin"),
        ("rotate(norm(y),", "rotate(y,"),
    ),
    "squared-relu": (("F.relu(self.up(x))", "F.gelu(self.up(x))"), ("down(x * x)", "down(x)")),
    "value-embeddings": (("if (DEPTH - 1 - layer) % 2 == 0:", "if False:"),),
    "embedding-again": (("self.keep * x + self.first * first", "self.keep * x"),),
    "scaled-stream": (("x = self.keep * x + self", "x = x + self"),),
    "windows": (('WINDOW_PATTERN[layer % len(WINDOW_PATTERN)] == "S"', "False"),),
    "softcap": (("self.cap * torch.tanh(logits.float() / self.cap)", "logits.float()"),),
    "cool-down": (
        ("fall = FINAL_RATE + (1.0 - FINAL_RATE) * (1.0 - progress) / COOLDOWN", "fall = 1.0"),
        ("fall = (1.0 - progress) / COOLDOWN", "fall = 1.0"),
    ),
    "muon": (  # AdamW, at a rate that was the best of several at the small size (docs/LOG.md)
        (
            'Muon(kinds["matrix"])',
            'torch.optim.AdamW(kinds["matrix"], lr=0.003, betas=betas, weight_decay=0.1)',
        ),
        ("Muon([p for", "torch.optim.AdamW(lr=0.003, betas=betas, weight_decay=0.1, params=[p for"),
    ),
    "polar-express": (("gram = x @ x.mT", "a, b, c, gram = 3.4445, -4.775, 2.0315, x @ x.mT"),),
    "normuon": (
        ("scale = variance.clamp_min(1e-10).rsqrt()", "scale = torch.ones_like(power)"),
        ("scale = (variance + 1e-10).rsqrt()", "scale = torch.ones_like(power)"),
    ),
    "momentum-rise": (("FIRST_MOMENTUM + (MOMENTUM - FIRST_MOMENTUM) * risen", "MOMENTUM"),),
    "weight-decay": (("WEIGHT_DECAY * (1.0 - progress)", "0.0"),),
    "cautious-decay": (
        ("decay * weights * (even * weights > 0)", "decay * weights"),
        ("even * weights > 0", "1.0"),
    ),
    "n-grams": (
        ("two, three = self.ngrams(tokens)", "two = three = 0.0"),
        ("if (DEPTH - 1 - layer) // 2 < NGRAM_LAYERS:", "if False:"),
    ),
    "n-grams-below": (("two, three = self.ngrams(tokens)", "two = three = 0.0"),),
    "n-grams-inside": (("if (DEPTH - 1 - layer) // 2 < NGRAM_LAYERS:", "if False:"),),
    "bigrams": (("return self.bigrams(two),", "return 0 * self.bigrams(two),"),),
    "trigrams": (("self.trigrams(three)", "0 * self.trigrams(three)"),),
    "smear": (("x + gate.to(x.dtype) * earlier(x, 1)", "x"),),
    "backout": (("norm(x - self.backout * middle)", "norm(x)"),),
    "attention-gates": (("y.transpose(1, 2) * opened.unsqueeze(-1)", "y.transpose(1, 2)"),),
    "convolutions": (("(Attention if attends(layer) else Mixer)", "Attention"),),
    "attention": (("(Attention if attends(layer) else Mixer)", "Mixer"),),
    "gate-before": (("convolve(value * before,", "convolve(value,"),),
    "gate-after": (("self.filters) * after", "self.filters)"),),
    "filters": (("convolve(value * before, self.filters)", "(value * before)"),),
}
"""In the order of their places in a program; sources stand in the founders' first lines."""


def without(source: str, name: str) -> str | None:
    """Return the program without this ingredient; None where it has none of it."""
    text = source
    for old, new in INGREDIENTS[name]:
        text = text.replace(old, new)
    return text if text != source else None
