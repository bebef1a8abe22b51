"""Holds parameters, a buffer and a module that the forward never touches."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.head = nn.Linear(width, vocab)
        self.idle = nn.Parameter(torch.zeros(7))
        self.spare = nn.Linear(3, 5)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens):
        if self.training:
            self.step += 1
        return self.head(self.embedding(tokens))
