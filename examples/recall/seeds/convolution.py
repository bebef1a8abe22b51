"""Founder: gated convolutions as long as a row.

Source: Poli et al. 2023, "Hyena Hierarchy", section 3, with filters that are learnt directly.
"""

import torch
import torch.nn.functional as F
from torch import nn

import prepare

DEPTH = 2  # 1..4
WIDTH = 64  # one of 32, 48, 64, 96, 128
KERNEL = 32  # one of 4, 8, 16, 32
BATCH_SIZE = 16  # one of 8, 16, 32, 64, 128
LR = 0.005  # log 0.0005..0.05
WEIGHT_DECAY = 0.01  # 0..0.2
WARMUP = 0.05  # 0..0.3; share of the budget


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inputs, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.filters = nn.Parameter(torch.randn(WIDTH, 1, KERNEL) * KERNEL**-0.5)

    def forward(self, x):  # (B, T, D) -> (B, T, D)
        value, before, after = self.inputs(x).transpose(1, 2).chunk(3, dim=1)  # (B, D, T)
        mixed = F.conv1d(F.pad(value * before, (KERNEL - 1, 0)), self.filters, groups=WIDTH)
        return self.out((mixed * after).transpose(1, 2))


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
