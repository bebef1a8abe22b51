"""Founder: a pre-norm transformer with rotary positions, normalised queries and keys, and AdamW.

Sources: Vaswani et al. 2017, "Attention Is All You Need", section 3 (the model); Xiong et al. 2020,
"On Layer Normalization in the Transformer Architecture", section 3 (normalise before each branch);
Su et al. 2021, "RoFormer", section 3.2 (rotary positions); Henry et al. 2020, "Query-Key
Normalization for Transformers", section 3; Loshchilov and Hutter 2019, "Decoupled Weight Decay
Regularization", section 2 (AdamW); Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training
Beyond Fixed Training Durations", section 3 (constant rate, then a linear cool-down).
"""

import torch
import torch.nn.functional as F
from torch import nn

import prepare

DEPTH = 1  # 1..4
WIDTH = 64  # one of 32, 48, 64, 96, 128
HEADS = 2  # one of 1, 2, 4, 8
EXPANSION = 4  # 1..4; hidden units of the feed-forward per unit of width
ROPE_BASE = 100.0  # log 10..100000
BATCH_SIZE = 8  # one of 2, 4, 8, 16, 32
EMBEDDING_LR = 0.05  # log 0.002..0.5
MATRIX_LR = 0.01  # log 0.0005..0.1
HEAD_LR = 0.01  # log 0.0005..0.1
WEIGHT_DECAY = 0.1  # 0..1
BETA1 = 0.9  # 0.7..0.97
BETA2 = 0.95  # 0.8..0.999
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

    def forward(self, tokens):  # (B, T) -> (B, T, D)
        return norm(self.table(tokens))


class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.head_width = max(2, width // HEADS // 2 * 2)
        inner = HEADS * self.head_width
        self.qkv = linear(width, 3 * inner)
        self.out = linear(inner, width, 0.5)

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
        self.down = linear(EXPANSION * width, width, 0.5)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


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


def build_optimizer(model):
    tables, head = list(model.embedding.parameters()), list(model.head.parameters())
    known = {id(p) for p in tables + head}
    matrices = [p for p in model.parameters() if id(p) not in known]
    groups = [
        {"params": tables, "lr": EMBEDDING_LR, "weight_decay": 0.0},
        {"params": head, "lr": HEAD_LR, "weight_decay": 0.0},
        {"params": matrices, "lr": MATRIX_LR, "weight_decay": WEIGHT_DECAY},
    ]
    for group in groups:
        group["initial_lr"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(BETA1, BETA2), fused=True)


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
