"""Rotary positions as complex numbers, from a complex table."""

import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab, width=32, length=128):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, vocab)
        angle = torch.outer(torch.arange(length), 1e4 ** -(torch.arange(width // 2) / width * 2))
        self.turn = torch.polar(torch.ones_like(angle), angle)  # a plain attribute

    def turned(self, x):
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.turn[: x.shape[1]].to(x.device)).flatten(-2)

    def forward(self, tokens):
        x = self.embedding(tokens)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.unsqueeze(1) for part in (self.turned(q), self.turned(k), v))
        return self.head(x + F.scaled_dot_product_attention(q, k, v, is_causal=True).squeeze(1))
