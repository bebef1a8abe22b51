"""Linear attention as prefix sums of outer products; the normaliser is a prefix sum, too."""

import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32, heads=4):
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(vocab, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens):
        x = self.embedding(tokens)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)  # (B, T, H, d)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        state = (k.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(1)  # (B, T, H, d, d)
        norm = (q * k.cumsum(1)).sum(-1, keepdim=True)
        y = (q.unsqueeze(-2) @ state).squeeze(-2) / norm
        return self.head(x + y.flatten(2))
