"""A selective state space, h[t] = a[t] h[t-1] + b[t], as a scan of log2(T) doublings."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.inputs = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        a, b, gate = self.inputs(x).chunk(3, dim=-1)
        a, shift = torch.sigmoid(a + 2), 1
        while shift < tokens.shape[1]:
            b = b + a * F.pad(b[:, :-shift], (0, 0, shift, 0))
            a = a * F.pad(a[:, :-shift], (0, 0, shift, 0), value=1.0)
            shift *= 2
        return self.head(x + b * F.silu(gate))
