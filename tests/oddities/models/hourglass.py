"""Works on means of four tokens, moved right by one patch so that nothing later is seen."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32, patch=4):
        super().__init__()
        self.patch = patch
        self.embedding = nn.Embedding(vocab, width)
        self.inner = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(2 * width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        means = x.unflatten(1, (-1, self.patch)).mean(2)
        past = F.pad(self.inner(means)[0], (0, 0, 1, 0))[:, :-1]
        past = past.repeat_interleave(self.patch, dim=1)
        return self.head(F.gelu(torch.cat((x, past), dim=-1)))
