"""Founder: gated causal convolutions in place of attention, gated feed-forwards, and AdamW.

Sources: Dauphin et al. 2017, "Language Modeling with Gated Convolutional Networks", section 2
(causal convolutions under a gate); Wu et al. 2019, "Pay Less Attention with Lightweight and Dynamic
Convolutions", section 3 (one short filter per channel); Fu et al. 2023, "Hungry Hungry Hippos",
section 3.1 (products before and after the filter); Shazeer 2020, "GLU Variants Improve
Transformer", section 2 (the gated feed-forward); Loshchilov and Hutter 2019, "Decoupled Weight
Decay Regularization", section 2 (AdamW).
"""

import torch
import torch.nn.functional as F
from torch import nn

import prepare

DEPTH = 2  # 1..4
WIDTH = 64  # one of 32, 48, 64, 96, 128
KERNEL = 8  # 2..32; positions that a filter sees
EXPANSION = 2  # 1..4; hidden units of the feed-forward per unit of width
BATCH_SIZE = 4  # one of 2, 4, 8, 16, 32
EMBEDDING_LR = 0.02  # log 0.002..0.5
MATRIX_LR = 0.005  # log 0.0005..0.1
HEAD_LR = 0.005  # log 0.0005..0.1
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


class Embedding(nn.Module):
    def __init__(self, vocab_size, width):
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)

    def forward(self, tokens):  # (B, T) -> (B, T, D)
        return norm(self.table(tokens))


class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inputs = linear(width, 3 * width)
        self.filters = nn.Parameter(torch.randn(width, 1, KERNEL) * KERNEL**-0.5)
        self.out = linear(width, width, 0.5)

    def forward(self, x):  # (B, T, D) -> (B, T, D)
        value, before, after = self.inputs(x).transpose(1, 2).chunk(3, dim=1)  # (B, D, T)
        value = F.pad(value * before, (KERNEL - 1, 0))
        y = F.conv1d(value, self.filters, groups=self.filters.shape[0])
        return self.out((y * after).transpose(1, 2))


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        hidden = EXPANSION * width * 2 // 3
        self.up = linear(width, 2 * hidden)
        self.down = linear(hidden, width, 0.5)

    def forward(self, x):
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


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
