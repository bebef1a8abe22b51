"""Founder: a small transformer.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3; norms before the branches.
"""

import torch
import torch.nn.functional as F
from torch import nn

import prepare

DEPTH = 2  # 1..4
WIDTH = 64  # one of 32, 48, 64, 96, 128
HEADS = 2  # one of 1, 2, 4
BATCH_SIZE = 16  # one of 8, 16, 32, 64, 128
LR = 0.005  # log 0.0005..0.05
WEIGHT_DECAY = 0.01  # 0..0.2
WARMUP = 0.05  # 0..0.3; share of the budget


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inputs, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):  # (B, T, D) -> (B, T, D)
        B, T, D = x.shape
        q, k, v = self.inputs(x).view(B, T, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.mixer = Mixer()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.mixer(norm(x))
        return x + self.down(F.gelu(self.up(norm(x))))


class Model(nn.Module):
    def __init__(self, vocab_size, length):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, WIDTH)
        self.places = nn.Parameter(0.1 * torch.randn(length, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, vocab_size)

    def forward(self, tokens):  # (B, T) -> (B, T, V)
        x = self.tokens(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(norm(x))


def norm(x):
    return F.layer_norm(x, x.shape[-1:])


run = prepare.start()
model = Model(run.vocab_size, run.sequence_length).to(run.device)
optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
run.register(model)
for x, y in run.batches(BATCH_SIZE):
    for group in optimizer.param_groups:
        group["lr"] = LR * min(1.0, (run.progress + 0.01) / (WARMUP + 0.01), 2 * (1 - run.progress))
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    run.report(loss)
run.deliver(model)
