"""Replaces each position by the nearest of its learned codes."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=16, codes=64):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.codes = nn.Parameter(torch.randn(codes, width))
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        nearest = torch.cdist(x.flatten(0, 1), self.codes).argmin(-1)
        code = self.codes[nearest].view_as(x)
        return self.head(x + (code - x).detach())
