"""Founder: the transformer with hashed bigram embeddings, squared ReLU and Muon for its matrices.

Sources: Pagnoni et al. 2024, "Byte Latent Transformer", section 3.2.1 (hashed n-grams of bytes as
extra embeddings); Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"
(orthogonalised momentum, the quintic iteration and its coefficients); Liu et al. 2025, "Muon is
Scalable for LLM Training", section 2.2 (weight decay); So et al. 2021, "Primer", section 3
(squared ReLU); Zhang et al. 2019, "Fixup Initialization", section 3 (branches that start at zero).
The rest is described in the plain transformer among the founders.
"""

import torch
import torch.nn.functional as F
from torch import nn

import prepare

DEPTH = 1  # 1..4
WIDTH = 64  # one of 32, 48, 64, 96, 128
HEADS = 2  # one of 1, 2, 4, 8
EXPANSION = 2  # 1..4; hidden units of the feed-forward per unit of width
ROPE_BASE = 1000.0  # log 10..100000
BIGRAM_ROWS = 4096  # one of 1024, 2048, 4096, 8192, 16384
BATCH_SIZE = 8  # one of 2, 4, 8, 16, 32
EMBEDDING_LR = 0.1  # log 0.002..0.5
MATRIX_LR = 0.02  # log 0.002..0.2
HEAD_LR = 0.02  # log 0.0005..0.1; and whatever is no matrix
WEIGHT_DECAY = 0.1  # 0..1
BETA1 = 0.9  # 0.7..0.97
BETA2 = 0.95  # 0.8..0.999
MOMENTUM = 0.9  # 0.7..0.98
ORTHOGONAL_STEPS = 5  # 2..7
WARMUP = 0.03  # 0..0.2; share of the budget
COOLDOWN = 0.5  # 0.1..1; share of the budget
CLIP_NORM = 1.0  # log 0.1..10


def norm(x):
    return F.layer_norm(x, x.shape[-1:])


def linear(inputs, outputs, scale=1.0):
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=scale * inputs**-0.5)
    return layer


def rotate(x):  # (..., T, d): turn each pair of channels by its position times its frequency
    T, half = x.shape[-2], x.shape[-1] // 2
    frequency = ROPE_BASE ** -(torch.arange(half, device=x.device) / half)
    angle = torch.arange(T, device=x.device).unsqueeze(1) * frequency  # (T, d / 2)
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class Embedding(nn.Module):
    def __init__(self, vocab_size, width):
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        self.bigrams = nn.Embedding(BIGRAM_ROWS, width)

    def forward(self, tokens):  # (B, T) -> (B, T, D)
        previous = F.pad(tokens[:, :-1], (1, 0))
        row = (tokens * 40503 ^ previous * 60493) % BIGRAM_ROWS
        return norm(self.table(tokens) + self.bigrams(row))


class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.head_width = max(2, width // HEADS // 2 * 2)
        inner = HEADS * self.head_width
        self.qkv = linear(width, 3 * inner)
        self.out = linear(inner, width, 0.0)

    def forward(self, x):  # (B, T, D) -> (B, T, D)
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, 3, HEADS, self.head_width).permute(2, 0, 3, 1, 4)
        q, k = rotate(F.rms_norm(qkv[:2], (self.head_width,)))
        y = F.scaled_dot_product_attention(q, k, qkv[2], is_causal=True)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = linear(width, EXPANSION * width)
        self.down = linear(EXPANSION * width, width, 0.0)

    def forward(self, x):
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mixer = Mixer(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x):
        x = x + self.mixer(norm(x))
        return x + self.feed_forward(norm(x))


class Model(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.embedding = Embedding(vocab_size, WIDTH)
        self.blocks = nn.ModuleList(Block(WIDTH) for _ in range(DEPTH))
        self.head = linear(WIDTH, vocab_size, 0.0)

    def forward(self, tokens):  # (B, T) -> (B, T, V)
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(norm(x))


def orthogonalize(matrix):  # push all singular values towards 1
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ORTHOGONAL_STEPS):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": MATRIX_LR})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"]
                momentum.lerp_(p.grad, 1.0 - MOMENTUM)
                update = orthogonalize(p.grad.lerp(momentum, MOMENTUM))
                p.mul_(1.0 - group["lr"] * WEIGHT_DECAY)
                p.sub_(update, alpha=group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


class Together:  # several optimizers behind the interface of one
    def __init__(self, *optimizers):
        self.optimizers = optimizers
        self.param_groups = [group for o in optimizers for group in o.param_groups]

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()


def build_optimizer(model):
    tables, head = list(model.embedding.parameters()), list(model.head.parameters())
    known = {id(p) for p in tables + head}
    inner = [p for p in model.parameters() if id(p) not in known]
    groups = [
        {"params": tables, "lr": EMBEDDING_LR},
        {"params": head, "lr": HEAD_LR},
        {"params": [p for p in inner if p.ndim != 2], "lr": HEAD_LR},
    ]
    adam = torch.optim.AdamW(groups, betas=(BETA1, BETA2), weight_decay=0.0, fused=True)
    optimizer = Together(adam, Muon([p for p in inner if p.ndim == 2]))
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def schedule(progress):
    rise = (progress + 0.01) / (WARMUP + 0.01)
    fall = (1.0 - progress) / COOLDOWN
    return min(1.0, rise, fall)


def main():
    run = prepare.start()
    model = Model(run.vocab_size).to(run.device)
    optimizer = build_optimizer(model)
    run.register(model)
    for step, (x, y) in enumerate(run.batches(BATCH_SIZE)):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * schedule(run.progress)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            run.report(loss.detach())
    run.deliver(model)


if __name__ == "__main__":
    main()
