"""Gates over time by a lower-triangular matrix of its own, and moves channels by one step."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32, length=128):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.times = nn.Parameter(torch.zeros(length, length))
        self.offset = nn.Parameter(torch.ones(length, 1))
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        now, before = x.chunk(2, dim=-1)
        x = torch.cat((now, F.pad(before, (0, 0, 1, -1))), dim=-1)
        gate = self.times.tril() @ x + self.offset
        return self.head(x * gate)
