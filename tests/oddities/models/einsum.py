"""Everything by index notation: projections, attention, the head."""

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32, heads=4):
        super().__init__()
        self.table = nn.Parameter(torch.randn(vocab, width))
        self.qkv = nn.Parameter(torch.randn(3, heads, width, width // heads) / width**0.5)
        self.out = nn.Parameter(torch.randn(heads, width // heads, width) / width**0.5)
        self.head = nn.Parameter(torch.randn(width, vocab) / width**0.5)

    def forward(self, tokens):
        x = self.table[tokens]
        q, k, v = torch.einsum("btd,phdk->pbhtk", x, self.qkv)
        scores = torch.einsum("bhtk,bhsk->bhts", q, k) / q.shape[-1] ** 0.5
        later = torch.ones_like(scores[0, 0]).triu(1).bool()
        weights = scores.masked_fill(later, torch.finfo(scores.dtype).min).softmax(-1)
        x = x + torch.einsum("bhts,bhsk,hkd->btd", weights, v, self.out)
        return torch.einsum("btd,dv->btv", x, self.head)
