"""The delta rule in its loop form: a matrix per row that is written at each position."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=16):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.rate = nn.Linear(width, 1)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        k, rate = F.normalize(k, dim=-1), torch.sigmoid(self.rate(x))
        memory, out = torch.zeros(*k.shape[::2], k.shape[-1], device=x.device), []
        for t in range(0, tokens.shape[1]):
            recalled = torch.bmm(memory, k[:, t, :, None])[..., 0]
            memory = memory + (rate[:, t] * (v[:, t] - recalled))[..., None] * k[:, t, None]
            out.append(torch.bmm(memory, q[:, t, :, None])[..., 0])
        return self.head(x + torch.stack(out, dim=1))
